"""What was learned of items, brought into a new vocabulary: where an update begins."""

import numpy as np
from scipy.sparse import csr_matrix


def beginning(vectors: np.ndarray, rows: np.ndarray, x: csr_matrix) -> np.ndarray | None:
    """Return the first vectors (items, d) of an update, from those learned before; None if none are left.

    `vectors` (old items, d) are NaN where nothing was learned, `rows` (items,) are the items' old rows, -1
    for new ones, x (users, items) is who does what. An item without a vector begins at the mean, over the
    users who did it, of the mean vector of what else they did; one whose users did nothing known, at the
    mean of all.
    """
    found: np.ndarray = vectors[rows]
    found[rows < 0] = np.nan
    known = ~np.isnan(found[:, 0])
    if not known.any():
        return None
    fresh = np.flatnonzero(~known)
    met = x[np.flatnonzero(x @ ~known)]  # users who did something new
    count = met @ known.astype(np.float64)
    able = count > 0
    means = (met @ np.where(known[:, None], found, 0.0).astype(np.float64))[able] / count[able, None]
    pairs = met[able][:, fresh].T.tocsr()
    users = np.asarray(pairs.sum(axis=1), np.float64)
    overall = found[known].mean(axis=0, dtype=np.float64)
    found[fresh] = np.divide(pairs @ means, users, out=np.tile(overall, (len(fresh), 1)), where=users > 0)
    return found
