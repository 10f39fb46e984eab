"""The dense regression of every item on all others, by one inverse: little more than the inverse itself.

The Gram matrix is summed one triangle only, a row at a time that stays near the processor; LAPACK
factors and inverts that triangle in place; what is read off the inverse is written tile by tile.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csr_matrix

from profiles import threads
from profiles.jit import compiled

TILE = 64  # rows and columns turned over at a time
PARTS = 8  # of the rows, for each thread: the first rows of a triangle are the longest


def regression(x: csr_matrix, l2: float) -> np.ndarray:
    """Return B = I - P diag(P)^-1, P = (X'X + l2 I)^-1, (items, items) float32; items² × 12 bytes.

    Column i is the ridge regression of item i on all others, and 0 on itself.
    """
    x = x.tocsr()
    x.sort_indices()
    items, by_item = x.shape[1], x.T.tocsr()
    gram = np.empty((items, items))
    columns = x.indices.astype(np.uint16 if items <= 2**16 else np.uint32)
    ones = bool((x.data == 1).all())  # pairs are only counted then
    own, other = (None, None) if ones else (by_item.data.astype(np.float64), x.data.astype(np.float64))
    sides = by_item.indptr, by_item.indices, x.indptr, columns, own, other
    kind = np.int32 if ones else np.float64
    _in_parts(lambda start, stop: _gram(*sides, np.empty(items, kind), gram, start, stop), items, 1)
    gram[np.diag_indices(items)] += l2
    factor, failed = dpotrf(gram.T, lower=1, overwrite_a=1)  # the same memory: its upper triangle
    inverse, failed_too = dpotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise np.linalg.LinAlgError(f"X'X + {l2:g} I is not positive definite in float64: raise l2")
    inverse = inverse.T
    scale = -1 / np.diag(inverse)
    weights = np.empty((items, items), np.float32)
    _in_parts(lambda start, stop: _read(inverse, scale, weights, start, stop), items, TILE)
    np.fill_diagonal(weights, 0.0)
    return weights


def _in_parts(work: Callable[[int, int], None], rows: int, step: int) -> None:
    """Do `work` on all rows, in parts that begin at multiples of `step`."""
    size = max(step, -(-rows // (PARTS * threads.available() * step)) * step)
    starts = range(0, rows, size)
    with ThreadPoolExecutor(threads.available()) as pool:
        list(pool.map(work, starts, (min(start + size, rows) for start in starts)))


@compiled
def _gram(
    item_starts: np.ndarray,
    users: np.ndarray,
    starts: np.ndarray,
    items: np.ndarray,
    item_values: np.ndarray | None,
    values: np.ndarray | None,
    row: np.ndarray,
    gram: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write rows start..stop-1 of X'X from the diagonal on, 0 before it; the items of a user are sorted.

    X is given by item (`users`) and by user (`items`), its values in both orders, None where all are 1.
    `row` (items,) is room.
    """
    place = np.empty(len(starts) - 1, np.int64)  # of the item at hand among each user's
    for user in range(len(place)):
        own = items[starts[user] : starts[user + 1]]
        place[user] = starts[user] + np.searchsorted(own, start)
    for item in range(start, stop):
        row[:] = 0
        for p in range(item_starts[item], item_starts[item + 1]):
            user = users[p]
            there = items[place[user] : starts[user + 1]]
            if item_values is None or values is None:
                for q in range(len(there)):
                    row[there[q]] += 1
            else:
                value, held = item_values[p], values[place[user] : starts[user + 1]]
                for q in range(len(there)):
                    row[there[q]] += value * held[q]
            place[user] += 1
        gram[item] = row


@compiled
def _read(inverse: np.ndarray, scale: np.ndarray, weights: np.ndarray, start: int, stop: int) -> None:
    """Write P_ij scale_j and P_ji scale_i for rows i of start..stop-1 and columns j from the diagonal on."""
    items = len(scale)
    for top in range(start, stop, TILE):
        for left in range(top, items, TILE):
            for i in range(top, min(top + TILE, stop)):
                for j in range(max(left, i), min(left + TILE, items)):
                    weights[i, j] = inverse[i, j] * scale[j]
                    weights[j, i] = inverse[i, j] * scale[i]
