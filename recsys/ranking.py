"""Exact top-k over dense score blocks: masks, deterministic ties, one pass.

A float32 score and its item row are packed into one int64 whose order is (score descending, row
ascending), so a partition of plain integers gives an exact list and equal scores need no second sort.
Before packing, scores are rounded to 16 bits of mantissa (a relative 8e-6): the last bits of a matrix
product depend on the shape of the batch, and a list must not.
"""

from dataclasses import dataclass

import numpy as np

_DROPPED_BITS = 7  # of float32's 23
_NOTHING = np.iinfo(np.int64).min


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
    near = rounded(scores)
    bits = near.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, np.int64(-(2**31)) - bits, bits)  # float order as integer order
    keys = (ordered << 32) | (np.int64(items - 1) - np.arange(items, dtype=np.int64))
    usable = np.isfinite(near) if allowed is None else np.isfinite(near) & allowed
    keys[~usable] = _NOTHING
    if k_found < items:
        keys = np.partition(keys, items - k_found, axis=1)[:, items - k_found :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    listed = keys != _NOTHING
    rows = np.where(listed, items - 1 - (keys & 0xFFFFFFFF), -1).astype(np.int32)
    best = np.where(listed, np.take_along_axis(near, np.maximum(rows, 0), axis=1), np.nan)
    if k_found < k:
        rows = np.pad(rows, ((0, 0), (0, k - k_found)), constant_values=-1)
        best = np.pad(best, ((0, 0), (0, k - k_found)), constant_values=np.nan)
    return Ranked(rows, best.astype(np.float32).reshape(n, k))
