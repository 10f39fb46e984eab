"""Events put in order by user and time: counted out to their users, and sorted only where times fall.

A log comes nearly in order of time, so each user's events mostly stand in order once they stand together.
What follows each of many users or partitions is scattered, not gathered: what is written next lies beside
what was written last.
"""

import numpy as np

from profiles.jit import compiled


def by_user_and_time(user: np.ndarray, time: np.ndarray, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each event goes in the order by (user, time, place), and where each user's begin.

    Users are 0 … users - 1, and each has an event.
    """
    to, starts = np.empty(len(user), np.int64), np.zeros(users, np.int64)
    _count_out(user, time, to, starts)
    return to, starts


@compiled
def _count_out(user: np.ndarray, time: np.ndarray, to: np.ndarray, starts: np.ndarray) -> None:
    """Set `to` and `starts`, all 0."""
    users, any_fallen = len(starts), False
    many = np.zeros(users, np.int64)
    for at in range(len(user)):
        many[user[at]] += 1
    for number in range(1, users):
        starts[number] = starts[number - 1] + many[number - 1]
    free, fallen = starts.copy(), np.zeros(users, np.bool_)
    latest = np.full(users, np.iinfo(np.int64).min)
    for at in range(len(user)):
        owner = user[at]
        to[at] = free[owner]
        free[owner] += 1
        fallen[owner] |= time[at] < latest[owner]
        latest[owner] = time[at]
    for owner in range(users):
        any_fallen |= fallen[owner]
    if not any_fallen:
        return
    events = np.empty(len(user), np.int64)  # by their place
    for at in range(len(user)):
        events[to[at]] = at
    for owner in range(users):
        if fallen[owner]:
            own = events[starts[owner] : free[owner]]
            order = np.argsort(time[own], kind="mergesort")
            for place in range(len(own)):
                to[own[order[place]]] = starts[owner] + place


def rising(places: np.ndarray, end: int) -> np.ndarray:
    """Return the order in which different places below `end` rise, by a look at each of these."""
    order = np.empty(len(places) + 1, np.int64)  # one more, to write to where nothing is
    _rising(places, np.zeros(end, np.int64), order)
    return order[:-1]


@compiled
def _rising(places: np.ndarray, held: np.ndarray, order: np.ndarray) -> None:
    """Set `order`; `held`, all 0, takes the number + 1 of what is at each place."""
    for number in range(len(places)):
        held[places[number]] = number + 1
    found = 0
    for place in range(len(held)):
        order[found] = held[place] - 1
        found += held[place] > 0


def gathered(array: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return array[order], several times as fast: places are not checked."""
    found = np.empty(len(order), array.dtype)
    _gather(array, order, found)
    return found


def scattered(array: np.ndarray, to: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    """Return the array with each value where `to` says, all places being taken or `into` given."""
    found = np.empty(len(to), array.dtype) if into is None else into
    _scatter(array, to, found)
    return found


@compiled
def _gather(array: np.ndarray, order: np.ndarray, found: np.ndarray) -> None:
    for at in range(len(order)):
        found[at] = array[order[at]]


@compiled
def _scatter(array: np.ndarray, to: np.ndarray, found: np.ndarray) -> None:
    for at in range(len(to)):
        found[to[at]] = array[at]
