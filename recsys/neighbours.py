"""The strongest cells of a sparse product row by row, without ever holding the product."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csr_matrix

from profiles import threads

CHUNK = 1024  # rows one thread takes at a time


def strongest(
    a: csr_matrix,
    b: csr_matrix,
    keep: int,
    left: np.ndarray | None = None,
    right: np.ndarray | None = None,
    shrinkage: float = 0.0,
) -> csr_matrix:
    """Return per row the `keep` largest positive cells of (A B) / (left right' + shrinkage), float32.

    Sums are float64. The diagonal is never kept; of equal cells the lower columns are. `left` (rows,)
    and `right` (columns,) are 1 where not given. Memory: rows × keep × 12 bytes, and columns × 12 for
    each thread.
    """
    from recsys.kernels import strongest_rows

    a, b = a.tocsr(), b.tocsr()
    if not (a.data > 0).all() or not (b.data > 0).all():
        raise ValueError("the factors of a product of strongest cells hold only cells above 0")
    rows, width = a.shape[0], b.shape[1]
    keep = min(keep, width)
    columns, values = np.zeros((rows, keep), np.int32), np.zeros((rows, keep))
    lengths = np.zeros(rows, np.int64)
    left = np.ones(rows) if left is None else left.astype(np.float64)
    right = np.ones(width) if right is None else right.astype(np.float64)
    rows_of, columns_of = ((m.indptr, m.indices, m.data.astype(np.float64)) for m in (a, b))

    def work(start: int) -> None:
        stop = min(start + CHUNK, rows)
        found = columns, values, lengths
        strongest_rows(*rows_of, *columns_of, left, right, float(shrinkage), *found, start, stop)

    with ThreadPoolExecutor(threads.available()) as pool:
        list(pool.map(work, range(0, rows, CHUNK)))
    kept = np.arange(keep) < lengths[:, None]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    found = csr_matrix((values[kept].astype(np.float32), columns[kept], starts), (rows, width))
    return found.tocsc().tocsr()  # sorts the columns of each row, faster than sort_indices
