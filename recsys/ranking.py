"""Exact top-k over dense score blocks: masks, deterministic ties, one pass.

A partition of the plain scores finds what may reach a list; only that is rounded and sorted by (score
descending, row ascending). Before sorting, scores are rounded to 16 bits of mantissa (a relative 8e-6):
the last bits of a matrix product depend on the shape of the batch, and a list must not.
"""

from dataclasses import dataclass

import numpy as np

_DROPPED_BITS = 7  # of float32's 23
# Twice what rounding may move a score by: relative, and for the smallest numbers absolute.
_SLACK, _LEAST = np.float32(2.0 ** (_DROPPED_BITS - 22)), np.float32(2.0 ** (_DROPPED_BITS - 148))


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


def rounded(scores: np.ndarray) -> np.ndarray:
    """Round scores to float32 of 16 bits of mantissa, half away from zero; -0 becomes 0.

    NaN stays NaN; infinities, and the few numbers that would round to one, stay what they are.
    """
    scores = np.ascontiguousarray(scores, np.float32) + np.float32(0)
    step = np.int32(1 << _DROPPED_BITS)
    near = ((scores.view(np.int32) + step // 2) & ~(step - 1)).view(np.float32)
    kept: np.ndarray = np.where(np.isfinite(scores) & np.isfinite(near), near, scores)
    return kept


def top_k(scores: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Ranked:
    """Return the k best columns of each row of `scores` (n, items); ties go to the lower row.

    NaN means the recommender cannot say, and such items are never listed; nor are those where
    `allowed` (n, items) is False. Lists may be shorter than k.
    """
    n, items = scores.shape
    k_found = min(k, items)
    usable = np.isfinite(scores) if allowed is None else np.isfinite(scores) & allowed
    # Negated, so that the many equal cells that are not usable lie at the end a partition does not visit.
    falling = np.where(usable, -np.asarray(scores, np.float32), np.inf)
    # Only what may reach the list is rounded and sorted: what stands within a rounding of its last place.
    if k_found < items:
        limit = np.partition(falling, k_found - 1, axis=1)[:, k_found - 1]
        usable = falling <= (limit + np.abs(limit) * _SLACK + _LEAST)[:, None]
        usable &= falling < np.inf
    query, column = np.divmod(np.flatnonzero(usable), max(items, 1))
    near = rounded(-falling[query, column])
    kept = np.isfinite(near)
    query, column, near = query[kept], column[kept], near[kept]
    bits = near.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, np.int64(-(2**31)) - bits, bits)  # float order as integer order
    order = np.lexsort((column, -ordered, query))
    query, column, near = query[order], column[order], near[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    listed = place < k_found
    rows, best = np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32)
    rows[query[listed], place[listed]] = column[listed]
    best[query[listed], place[listed]] = near[listed]
    return Ranked(rows, best)
