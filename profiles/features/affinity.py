"""What users lean to: decayed, smoothed shares over the values of item attributes."""

import numpy as np
from scipy import sparse

from profiles.features import Lists
from profiles.features.past import Past


def strongest(name: str, p: Past) -> Lists:
    """Return each user's strongest values of an attribute with their smoothed shares, strongest first.

    share_v = (strength_v + smoothing * g_v) / (sum of strengths + smoothing), g the log's own share: a
    user of whom little is known leans as everybody does. Only values the user met are listed. Shares are
    ordered in single precision; of equals the value met more recently for the first time.
    """
    leaning, attribute = p.leaning(name), p.context.attributes[name]
    lengths = np.diff(leaning.indptr)
    user = np.repeat(np.arange(len(lengths)), lengths)
    prior = p.config.smoothing if attribute.share.any() else 0.0
    total = _row_sums(leaning, leaning.data)
    share = (leaning.data + prior * attribute.share[leaning.indices]) / (total + prior)[user]
    order = _strongest_first(user, share, leaning.indptr, lengths, p.config.affinities)
    kept = np.minimum(lengths, p.config.affinities)
    return Lists(np.append(0, np.cumsum(kept)), attribute.values[leaning.indices[order]], share[order])


def _strongest_first(
    user: np.ndarray, share: np.ndarray, starts: np.ndarray, lengths: np.ndarray, keep: int
) -> np.ndarray:
    """Return the places of each user's `keep` largest shares; of equals the one that stands first."""
    if not len(share):
        return np.zeros(0, np.int64)
    place = np.arange(len(share)) - starts[user]
    deep = int(lengths.max()).bit_length()
    falling = np.int64(0x7FFFFFFF) - share.astype(np.float32).view(np.int32)  # bits order floats above 0
    if int(user[-1]).bit_length() + 31 + deep > 63:
        order = np.lexsort((place, falling, user))
    else:  # one sort of packed numbers is several times as fast
        packed = np.sort((((user << 31) | falling) << deep) | place)
        order = (packed & ((1 << deep) - 1)) + starts[user]
    return np.asarray(order[place < keep])


def entropy(name: str, p: Past) -> np.ndarray:
    """Return the entropy in bits of each user's decayed weights over an attribute; NaN without any.

    H = log2 T - sum(w log2 w) / T with T the sum of the weights w.
    """
    leaning = p.leaning(name)
    total = _row_sums(leaning, leaning.data)
    inner = _row_sums(leaning, leaning.data * np.log2(leaning.data))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.maximum(np.log2(total) - inner / total, 0.0))


def _row_sums(matrix: sparse.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Sum values that stand as a matrix's entries do, by row; 0 for a row without any."""
    found = np.zeros(matrix.shape[0])
    some = matrix.indptr[1:] > matrix.indptr[:-1]
    if some.any():
        found[some] = np.add.reduceat(values, matrix.indptr[:-1][some])
    return found
