"""Each item explained by the items it meets most: the blocks that a sparse linear model solves one by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from recsys.neighbours import strongest

BLOCK_BYTES = 64_000_000  # of Gram blocks in memory at once


@dataclass(frozen=True)
class Blocks:
    """The normal equations of some items, each over its own chosen items. Unused places are -1."""

    chosen: np.ndarray  # (n, m) int32, sorted, -1 at the end
    grams: np.ndarray  # (n, m, m) float64: X'X of the chosen items, the identity where there is none
    targets: np.ndarray  # (n, m) float64: X'x of the item itself, 0 where there is none


def blocks(x: csr_matrix, neighbours: int) -> Iterator[Blocks]:
    """Yield the equations of all items in row order, each over the `neighbours` it meets most.

    Memory: 24 bytes for each pair of items that meet, BLOCK_BYTES, and items × neighbours × 12 bytes.
    """
    from recsys.kernels import gather_blocks

    items = x.shape[1]
    xt = x.T.tocsr()
    near = strongest(xt, x, neighbours)
    gram = (xt @ x).tocsc()  # symmetric, so its sorted columns are its sorted rows
    width = max(1, int(np.diff(near.indptr).max()))
    step = max(1, BLOCK_BYTES // (8 * width * width))
    for start in range(0, items, step):
        part = near[start : start + step]
        n, counts = part.shape[0], np.diff(part.indptr)
        used = np.arange(width) < counts[:, None]
        chosen = np.full((n, width), -1, np.int32)
        targets = np.zeros((n, width))
        chosen[used], targets[used] = part.indices, part.data
        grams = np.empty((n, width, width))
        gather_blocks(gram.indptr, gram.indices, gram.data, chosen, grams)
        yield Blocks(chosen, grams, targets)


def assembled(parts: list[tuple[np.ndarray, np.ndarray]], items: int) -> csr_matrix:
    """Put (chosen, weights) in item order together: (items, items) with w_ji in row j."""
    chosen = np.concatenate([c for c, _ in parts])
    weights = np.concatenate([w for _, w in parts])
    kept = (chosen >= 0) & (weights != 0)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    by_target = csr_matrix((weights[kept].astype(np.float32), chosen[kept], starts), (items, items))
    return by_target.T.tocsr()
