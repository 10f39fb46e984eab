"""Few new events put among many old ones, all by user and time: what is old is copied in long runs."""

from collections.abc import Mapping

import numpy as np

from profiles.jit import compiled

Arrays = Mapping[str, np.ndarray]
Users = tuple[np.ndarray, np.ndarray]  # rising keys, and where the events of each begin


def merged(
    old: Arrays, old_users: Users, new: Arrays, new_users: Users, blank: Mapping[str, np.generic]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the arrays of `blank` of both, and where each user's begin; users in the order of their keys.

    A new event comes behind those of its user that are no later, so that both orders stay. An array that
    only one has is blank in the other; one that none has is left out.
    """
    at = np.empty(len(new["time"]), np.int64)
    _places(*old_users, old["time"], *new_users, new["time"], at)
    found = {}
    for name, value in blank.items():
        if name in old or name in new:
            one = old[name] if name in old else np.full(len(old["time"]), value)
            other = new[name] if name in new else np.full(len(at), value)
            found[name] = np.empty(len(one) + len(other), value.dtype)
            _between(one, other, at, found[name])
    keys = np.union1d(old_users[0], new_users[0])
    length = np.zeros(len(keys), np.int64)
    for (key, starts), arrays in ((old_users, old), (new_users, new)):
        length[np.searchsorted(keys, key)] += np.diff(starts, append=len(arrays["time"]))
    return found, np.cumsum(length) - length


@compiled
def _places(
    old_keys: np.ndarray,
    old_starts: np.ndarray,
    old_time: np.ndarray,
    new_keys: np.ndarray,
    new_starts: np.ndarray,
    new_time: np.ndarray,
    at: np.ndarray,
) -> None:
    """Set `at` to the old event before which each new one belongs."""
    user = 0
    for n in range(len(new_keys)):
        while user < len(old_keys) and old_keys[user] < new_keys[n]:
            user += 1
        low = old_starts[user] if user < len(old_keys) else len(old_time)
        last = low
        if user < len(old_keys) and old_keys[user] == new_keys[n]:
            last = old_starts[user + 1] if user + 1 < len(old_keys) else len(old_time)
        end = new_starts[n + 1] if n + 1 < len(new_keys) else len(new_time)
        for event in range(new_starts[n], end):
            high = last
            while low < high:
                middle = (low + high) // 2
                if old_time[middle] <= new_time[event]:
                    low = middle + 1
                else:
                    high = middle
            at[event] = low


@compiled
def _between(old: np.ndarray, new: np.ndarray, at: np.ndarray, both: np.ndarray) -> None:
    """Put each of `new` before the one of `old` at its place; places rise."""
    done = 0
    for n in range(len(new)):
        both[done + n : at[n] + n] = old[done : at[n]]
        done = at[n]
        both[done + n] = new[n]
    both[done + len(new) :] = old[done:]
