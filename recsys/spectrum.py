"""The leading frequencies of a sparse matrix by randomized subspace iteration."""

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.sparse import csr_matrix

SPARE = 32  # directions more than are asked for
ROUNDS = 5  # multiplications by the matrix and its transpose


def largest(r: csr_matrix, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues of R'R (k,) float64, falling, and its eigenvectors (columns, k) float32.

    k is `count`, or the smaller side of R, and then they are exact. Halko, Martinsson & Tropp (SIAM
    Review 2011), alg. 4.4. Memory: (rows + columns) × (count + SPARE) × 8 bytes.
    """
    columns = r.shape[1]
    if min(r.shape) <= count + SPARE:
        count = min(count, *r.shape)
        gram = (r.T @ r).toarray().astype(np.float64)
        values, vectors = eigh(gram, subset_by_index=[columns - count, columns - 1])
        return np.clip(values[::-1], 0, None), vectors[:, ::-1].astype(np.float32)
    rt = r.T.tocsr()
    basis = np.random.default_rng(seed).standard_normal((columns, count + SPARE), np.float32)
    for _ in range(ROUNDS):
        basis = _orthonormal(rt @ (r @ basis))
    seen = r @ basis
    values, turn = eigh((seen.T @ seen).astype(np.float64))
    vectors = basis @ turn[:, ::-1][:, :count].astype(np.float32)
    return np.clip(values[::-1][:count], 0, None), vectors


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the columns: two rounds of Cholesky in float64, faster than QR."""
    for _ in range(2):
        gram = (columns.T @ columns).astype(np.float64)
        gram[np.diag_indices_from(gram)] += 1e-7 * np.trace(gram) / len(gram)
        upper = cholesky(gram)
        columns = columns @ solve_triangular(upper, np.eye(len(upper))).astype(np.float32)
    return columns
