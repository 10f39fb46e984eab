"""Ids as numbers: short strings are told apart as they lie in memory, each different one hashed once."""

import numpy as np
import numpy.typing as npt
import polars as pl

from profiles.features.numbering import Keys
from profiles.jit import compiled

INLINE = 12  # bytes of a string that its Arrow view holds itself, behind the length, the rest of them 0
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: its multiples lie far apart
HALF = np.uint64(32)


def coded(ids: pl.Series, kind: pl.DataType) -> npt.NDArray[np.uint32]:
    """Return the codes of ids, none null, in the categorical `kind`, which learns those it has not met."""
    longest = ids.str.len_bytes().max()
    if isinstance(longest, int) and longest <= INLINE:
        views = ids.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
        words = np.frombuffer(views.buffers()[1], np.uint64).reshape(-1, 2)[views.offset :][: len(ids)]
        number, first = Keys()(_mixed(words))
        if _same(words, words[first], number):  # two ids of one hash are coded the other way
            codes = ids.gather(first).cast(kind).to_physical().to_numpy()
            own: npt.NDArray[np.uint32] = codes[number]
            return own
    return ids.cast(kind).to_physical().to_numpy(writable=True)


@compiled
def _mixed(words: np.ndarray) -> np.ndarray:
    """Hash pairs of words (n, 2)."""
    keys = np.empty(len(words), np.uint64)
    for n in range(len(words)):
        key = (words[n, 0] ^ words[n, 1] * SPREAD) * SPREAD
        key = (key ^ (key >> HALF)) * SPREAD
        keys[n] = key ^ (key >> HALF)
    return keys


@compiled
def _same(words: np.ndarray, known: np.ndarray, number: np.ndarray) -> bool:
    """Say whether every pair of words is the known one of its number."""
    same = True
    for n in range(len(words)):
        same &= (words[n, 0] == known[number[n], 0]) & (words[n, 1] == known[number[n], 1])
    return same
