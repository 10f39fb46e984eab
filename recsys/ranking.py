"""Exact top-k over dense score blocks: masks, deterministic ties, one pass.

A partition of the plain scores finds what may reach a list; only that is rounded and sorted by (score
descending, row ascending). Before sorting, scores are rounded to 16 bits of mantissa (a relative 8e-6):
the last bits of a matrix product depend on the shape of the batch, and a list must not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

_DROPPED_BITS = 7  # of float32's 23
STEP = np.int32(1 << _DROPPED_BITS)  # of the bits of a rounded score
# Twice what rounding may move a score by: relative, and for the smallest numbers absolute.
SLACK, LEAST = np.float32(2.0 ** (_DROPPED_BITS - 22)), np.float32(2.0 ** (_DROPPED_BITS - 148))


@dataclass(frozen=True)
class Ranked:
    """The best items of each query, best first. Rows past the end of a list are -1 and NaN."""

    rows: np.ndarray  # (n, k) int32
    scores: np.ndarray  # (n, k) float32, rounded

    @property
    def lengths(self) -> np.ndarray:
        """How many items each list holds, (n,)."""
        lengths: np.ndarray = (self.rows >= 0).sum(axis=1)
        return lengths

    @classmethod
    def joined(cls, parts: Sequence["Ranked"], k: int) -> "Ranked":
        """Put lists of length k of some queries under each other."""
        if not parts:
            return cls(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))
        return cls(np.concatenate([p.rows for p in parts]), np.concatenate([p.scores for p in parts]))


@dataclass(frozen=True)
class Barred:
    """What may not be listed: items for everybody, and more for each query."""

    everybody: np.ndarray  # (items,) bool
    offsets: np.ndarray  # (n + 1,) int64: query r adds rows[offsets[r] : offsets[r + 1]]
    rows: np.ndarray  # int32, repeats allowed

    def part(self, start: int, stop: int) -> "Barred":
        """Return what is barred for queries start..stop-1."""
        first, last = self.offsets[start], self.offsets[stop]
        return Barred(self.everybody, self.offsets[start : stop + 1] - first, self.rows[first:last])

    @property
    def allowed(self) -> np.ndarray:
        """What may be listed, (n, items) bool."""
        allowed = np.tile(~self.everybody, (len(self.offsets) - 1, 1))
        allowed[np.repeat(np.arange(len(allowed)), np.diff(self.offsets)), self.rows] = False
        return allowed


def rounded(scores: np.ndarray) -> np.ndarray:
    """Round scores to float32 of 16 bits of mantissa, half away from zero; -0 becomes 0.

    NaN stays NaN; infinities, and the few numbers that would round to one, stay what they are.
    """
    scores = np.ascontiguousarray(scores, np.float32) + np.float32(0)
    near = ((scores.view(np.int32) + STEP // 2) & ~(STEP - 1)).view(np.float32)
    kept: np.ndarray = np.where(np.isfinite(scores) & np.isfinite(near), near, scores)
    return kept


def top_k(scores: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Ranked:
    """Return the k best columns of each row of `scores` (n, items); ties go to the lower row.

    NaN means the recommender cannot say, and such items are never listed; nor are those where
    `allowed` (n, items) is False. Lists may be shorter than k.
    """
    query, column = candidates(scores, k, allowed)
    return listed(query, column, scores[query, column], len(scores), k)


def top_k_of_many(scores: np.ndarray, k: int, barred: Barred) -> Ranked:
    """Return what `top_k` does where `barred` is not allowed, by one compiled pass."""
    from recsys.list_kernels import best

    given = (np.ascontiguousarray(scores, np.float32),)
    return _picked(best, given, len(scores), k, barred)


def top_k_of_cells(scores: csr_matrix, k: int, barred: Barred) -> Ranked:
    """Return what `top_k_of_many` does of sparse scores; of a cell of 0, or none, nothing is known."""
    from recsys.list_kernels import best_cells

    given = (scores.indptr, scores.indices, scores.data.astype(np.float32, copy=False))
    return _picked(best_cells, given, scores.shape[0], k, barred)


def _picked(
    pick: Callable[..., None], given: tuple[np.ndarray, ...], n: int, k: int, barred: Barred
) -> Ranked:
    """Sort the cells that a kernel picks for each of n queries."""
    rows, near = np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32)
    pick(*given, barred.everybody, barred.offsets, barred.rows, rows, near)
    order = np.lexsort((rows, -near), axis=1)
    return Ranked(np.take_along_axis(rows, order, axis=1), np.take_along_axis(near, order, axis=1))


def candidates(
    scores: np.ndarray, k: int, allowed: np.ndarray | None = None, margin: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells (query, column) that may be among the k best of their row once rounded.

    A `margin` (n,) is the distance by which a score may be the better of two although it is the less
    here: twice the error of a rough score.
    """
    items = scores.shape[1]
    usable = np.isfinite(scores) if allowed is None else np.isfinite(scores) & allowed
    if k < items:
        # Negated, so that the many equal cells that are not usable lie at the end a partition does not visit.
        falling = np.where(usable, -np.asarray(scores, np.float32), np.float32(np.inf))
        limit = np.partition(falling, k - 1, axis=1)[:, k - 1]
        reached = np.nextafter(limit + margin, np.inf, dtype=np.float32)
        usable = falling <= (reached + np.abs(reached) * SLACK + LEAST)[:, None]
        usable &= falling < np.inf
    query, column = np.divmod(np.flatnonzero(usable), max(items, 1))
    return query, column


def listed(query: np.ndarray, column: np.ndarray, scores: np.ndarray, n: int, k: int) -> Ranked:
    """Round the scores of some cells, sort them and return the k best of each of n queries."""
    near = rounded(scores)
    kept = np.isfinite(near)
    query, column, near = query[kept], column[kept], near[kept]
    bits = near.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, np.int64(-(2**31)) - bits, bits)  # float order as integer order
    order = np.lexsort((column, -ordered, query))
    query, column, near = query[order], column[order], near[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    inside = place < k
    rows, best = np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32)
    rows[query[inside], place[inside]] = column[inside]
    best[query[inside], place[inside]] = near[inside]
    return Ranked(rows, best)
