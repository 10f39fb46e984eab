"""Strings turned into numbers, batch by batch: the first met is 0, the next new one 1, and so on."""

import threading

import numpy as np
import polars as pl

from profiles.jit import compiled

SEED = 20  # of the hash of ids
AHEAD = 64  # keys looked up before anything depends on them, so that the waits for memory overlap


def hashed(ids: pl.Series) -> np.ndarray:
    """Return the 64-bit hash of each string."""
    return ids.hash(SEED).to_numpy()


class Keys:
    """Numbers 64-bit keys in the order they are met."""

    def __init__(self) -> None:
        # A key and its number + 1 side by side, 0 where nothing is: one look into memory a key.
        self._held: np.ndarray = np.zeros((1 << 10, 2), np.uint64)
        self._count = 0

    def __call__(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Do what `number` does; faster where most were met before."""
        codes, unmet = self.known(keys)
        codes[unmet], fresh = self.number(keys[unmet])
        return codes, unmet[fresh]

    def known(self, keys: np.ndarray, missing: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return each key's number, int32, -1 where it is missing; and the places of those not met before.

        Another thread may number keys meanwhile: a slot's number is set after its key, so that what is
        seen of it is there, or not met yet.
        """
        codes, unmet = np.empty(len(keys), np.int32), np.empty(len(keys), np.int64)
        absent = np.zeros(0, bool) if missing is None else missing
        return codes, unmet[: _look_up(keys, absent, codes, unmet, self._held)].copy()

    def number(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each key's number, int32, the next one for one not met before; and the places of these."""
        codes, fresh = np.empty(len(keys), np.int32), np.empty(len(keys), np.int64)
        first, done = self._count, 0
        while done < len(keys):
            if 2 * self._count >= len(self._held):
                self._held = _grown(self._held)
            new = fresh[self._count - first :]
            done, self._count = _number(keys, codes, new, self._held, done, self._count)
        return codes, fresh[: self._count - first].copy()


class Numbering:
    """Numbers strings by their 64-bit hashes; threads may share one, and wait only for what is new.

    Two strings of one hash would be taken for one: 3 in 10^8 for a million strings.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys = Keys()
        self._names = [pl.Series(dtype=pl.String)]

    def __call__(self, strings: pl.Series, keys: np.ndarray | None = None) -> np.ndarray:
        """Return each string's number, int32; -1 for null. `keys` are their hashes, where known already."""
        keys = hashed(strings) if keys is None else keys
        missing = strings.is_null().to_numpy() if strings.null_count() else None
        codes, unmet = self._keys.known(keys, missing)
        if len(unmet):
            with self._lock:
                codes[unmet], fresh = self._keys.number(keys[unmet])
                if len(fresh):
                    # Through Arrow, a copy of these alone: what Polars gathers holds on to the whole batch.
                    self._names.append(pl.Series(strings.gather(unmet[fresh]).to_arrow()))
        return codes

    def names(self) -> pl.Series:
        """Return the strings by number."""
        return pl.concat(self._names)


@compiled
def _look_up(
    keys: np.ndarray, missing: np.ndarray, codes: np.ndarray, unmet: np.ndarray, held: np.ndarray
) -> int:
    """Set `codes` where `held` knows the key, and `unmet` to the places of the others; returns how many.

    A slot's number is read once: another thread may set it between two looks.
    """
    mask, many = np.uint64(len(held) - 1), 0
    fetched = np.empty(AHEAD, np.uint64)
    for begin in range(0, len(keys), AHEAD):
        end = min(begin + AHEAD, len(keys))
        for at in range(begin, end):
            fetched[at - begin] = held[keys[at] & mask, 0]
        for at in range(begin, end):
            if len(missing) and missing[at]:
                codes[at] = -1
                continue
            slot = keys[at] & mask
            number = held[slot, 1]
            while number != 0 and held[slot, 0] != keys[at]:
                slot = (slot + np.uint64(1)) & mask
                number = held[slot, 1]
            if number == 0:
                unmet[many] = at
                many += 1
            else:
                codes[at] = np.int64(number) - 1
    return many


@compiled
def _number(
    keys: np.ndarray, codes: np.ndarray, fresh: np.ndarray, held: np.ndarray, done: int, count: int
) -> tuple[int, int]:
    """Set `codes` from the key `done` on, and `fresh`, until half of `held` is full.

    Returns how far it came and how many keys there are.
    """
    mask, first = np.uint64(len(held) - 1), count
    for at in range(done, len(keys)):
        slot = keys[at] & mask
        while held[slot, 1] != 0 and held[slot, 0] != keys[at]:
            slot = (slot + np.uint64(1)) & mask
        if held[slot, 1] == 0:
            if 2 * count >= len(held):
                return at, count
            fresh[count - first] = at
            count += 1
            held[slot, 0] = keys[at]
            held[slot, 1] = count
        codes[at] = np.int64(held[slot, 1]) - 1
    return len(keys), count


@compiled
def _grown(held: np.ndarray) -> np.ndarray:
    """Return the table of `_number` with twice the room."""
    found = np.zeros((2 * len(held), 2), np.uint64)
    mask = np.uint64(len(found) - 1)
    for place in range(len(held)):
        if held[place, 1] != 0:
            slot = held[place, 0] & mask
            while found[slot, 1] != 0:
                slot = (slot + np.uint64(1)) & mask
            found[slot] = held[place]
    return found
