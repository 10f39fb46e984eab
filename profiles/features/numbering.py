"""Strings turned into numbers, batch by batch: the first met is 0, the next new one 1, and so on."""

import threading

import numpy as np
import polars as pl

from profiles.jit import compiled

SEED = 20  # of the hash of ids


def hashed(ids: pl.Series) -> np.ndarray:
    """Return the 64-bit hash of each string."""
    return ids.hash(SEED).to_numpy()


class Numbering:
    """Numbers strings by their 64-bit hashes; threads may share one.

    Two strings of one hash would be taken for one: 3 in 10^8 for a million strings.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: np.ndarray = np.zeros((1 << 10, 2), np.uint64)
        self._names = [pl.Series(dtype=pl.String)]
        self._count = 0

    def __call__(self, strings: pl.Series) -> np.ndarray:
        """Return each string's number, int32; -1 for null."""
        keys, codes = hashed(strings), np.empty(len(strings), np.int32)
        missing = strings.is_null().to_numpy()
        with self._lock:
            fresh, self._held = _number(keys, missing, codes, self._held, self._count)
            if len(fresh):
                self._names.append(strings.gather(fresh))
                self._count += len(fresh)
        return codes

    def names(self) -> pl.Series:
        """Return the strings by number."""
        return pl.concat(self._names)


@compiled
def _number(
    keys: np.ndarray, missing: np.ndarray, codes: np.ndarray, held: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Set `codes`; returns the places of strings not met before, and the hash table, larger if it must be.

    `held` has a key and its number + 1 side by side, 0 where nothing is: one look into memory a string.
    """
    fresh = np.empty(len(keys), np.int64)
    first = count
    mask = np.uint64(len(held) - 1)
    for at in range(len(keys)):
        if missing[at]:
            codes[at] = -1
            continue
        slot = keys[at] & mask
        while held[slot, 1] != 0 and held[slot, 0] != keys[at]:
            slot = (slot + np.uint64(1)) & mask
        if held[slot, 1] == 0:
            fresh[count - first] = at
            count += 1
            held[slot, 0], held[slot, 1] = keys[at], count
        codes[at] = np.int64(held[slot, 1]) - 1
        if 2 * count > len(held):
            old = held
            held = np.zeros((2 * len(old), 2), np.uint64)
            mask = np.uint64(len(held) - 1)
            for place in range(len(old)):
                if old[place, 1] != 0:
                    slot = old[place, 0] & mask
                    while held[slot, 1] != 0:
                        slot = (slot + np.uint64(1)) & mask
                    held[slot] = old[place]
    return fresh[: count - first].copy(), held
