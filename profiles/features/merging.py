"""Few new events put among many old ones, all by user and time: what is old is copied in long runs."""

from collections.abc import Mapping

import numpy as np

from profiles.jit import compiled

Arrays = Mapping[str, np.ndarray]
Events = tuple[Arrays, Arrays]  # what all have, and what some say: `at` rises, their place among all
Users = tuple[np.ndarray, np.ndarray]  # rising keys, and where the events of each begin


def merged(
    old: Events, old_users: Users, new: Events, new_users: Users
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Return both, and where each user's events begin; users in the order of their keys.

    A new event comes behind those of its user that are no later, so that both orders stay.
    """
    (one, one_said), (other, other_said) = old, new
    at = np.empty(len(other["time"]), np.int64)
    _places(*old_users, one["time"], *new_users, other["time"], at)
    found = {name: np.empty(len(one[name]) + len(at), one[name].dtype) for name in one}
    for name, both in found.items():
        _between(one[name], other[name], at, both)
    old_at = one_said["at"] + np.searchsorted(at, one_said["at"], side="right")
    new_at = at[other_said["at"]] + other_said["at"]
    place = np.searchsorted(old_at, new_at)
    said = {name: np.insert(one_said[name], place, other_said[name]) for name in one_said if name != "at"}
    said["at"] = np.insert(old_at, place, new_at)
    keys = np.union1d(old_users[0], new_users[0])
    length = np.zeros(len(keys), np.int64)
    for (key, starts), arrays in ((old_users, one), (new_users, other)):
        length[np.searchsorted(keys, key)] += np.diff(starts, append=len(arrays["time"]))
    return found, said, np.cumsum(length) - length


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
