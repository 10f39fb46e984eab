"""Ids as numbers: short strings are told apart as they lie in memory, each different one hashed once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from profiles import threads
from profiles.features.numbering import Keys
from profiles.jit import compiled

INLINE = 12  # bytes of a string that its Arrow view holds itself, behind the length, the rest of them 0
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: its multiples lie far apart
HALF = np.uint64(32)

Codes = npt.NDArray[np.uint32]


class Numbered(NamedTuple):
    """Ids by number, in pieces, and the id of each number."""

    numbers: list[npt.NDArray[np.int32]]
    ids: pl.Series


def coded(ids: pl.Series, kind: pl.DataType) -> Codes:
    """Return the codes of ids, none null, in the categorical `kind`, which learns those it has not met."""
    if len(ids) and _short(ids):
        with ThreadPoolExecutor(threads.available()) as pool:
            runs = list(pool.map(_numbered, _runs(ids)))
        if not any(run is None for run in runs):  # two ids of one hash: all are coded the other way
            codes = [(run.numbers, _physical(run.ids, kind)) for run in runs if run is not None]
            return np.concatenate([own[number] for numbers, own in codes for number in numbers])
    return _physical(ids, kind)


def changed(ids: pl.Series) -> npt.NDArray[np.bool_]:
    """Say of each id, none null, whether another stands before it, or nothing."""
    found = np.ones(len(ids), bool)
    if not len(ids):
        return found
    if not _short(ids):
        return (ids != ids.shift()).fill_null(True).to_numpy(writable=True)
    begin, before = 0, np.zeros(2, np.uint64)
    for chunk in ids.get_chunks():
        words = _words(chunk)
        _changes(words, before, found[begin : begin + len(words)])
        begin, before = begin + len(words), words[-1] if len(words) else before
    found[0] = True
    return found


def _physical(ids: pl.Series, kind: pl.DataType) -> Codes:
    return ids.cast(kind).to_physical().to_numpy(writable=True)


def _short(ids: pl.Series) -> bool:
    longest = ids.str.len_bytes().max()
    return isinstance(longest, int) and longest <= INLINE


def _runs(ids: pl.Series) -> list[list[pl.Series]]:
    """Cut into as many runs as there are threads, each of pieces that lie together."""
    size, runs = -(-len(ids) // threads.available()), [list[pl.Series]()]
    room = size
    for chunk in ids.get_chunks():
        while len(chunk):
            runs[-1].append(chunk[:room])
            chunk, room = chunk[room:], room - len(runs[-1][-1])
            if not room:
                runs.append([])
                room = size
    return [run for run in runs if run]


def _words(chunk: pl.Series) -> npt.NDArray[np.uint64]:
    """Return the views of a piece's strings as pairs of words, (n, 2)."""
    views = chunk.to_arrow(compat_level=pl.CompatLevel.newest())
    return np.frombuffer(views.buffers()[1], np.uint64).reshape(-1, 2)[views.offset :][: len(chunk)]


def _numbered(pieces: Sequence[pl.Series]) -> Numbered | None:
    """Number short ids in the order they are met; None where two have one hash."""
    keys, numbers, ids = Keys(), [], []
    known = np.zeros((0, 2), np.uint64)
    for piece in pieces:
        words = _words(piece)
        number, first = keys(_mixed(words))
        known = np.concatenate([known, words[first]])
        if not _same(words, known, number):
            return None
        numbers.append(number)
        ids.append(piece.gather(first))
    return Numbered(numbers, pl.concat(ids))


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


@compiled
def _changes(words: np.ndarray, before: np.ndarray, found: np.ndarray) -> None:
    """Say of each pair of words whether it differs from the one before it."""
    first, second = before[0], before[1]
    for n in range(len(words)):
        found[n] = (words[n, 0] != first) | (words[n, 1] != second)
        first, second = words[n, 0], words[n, 1]
