"""Where an update begins, against the words that define it."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recsys.warm import beginning


def slowly(vectors: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    found = np.full((len(rows), vectors.shape[1]), np.nan)
    for item, row in enumerate(rows):
        if row >= 0:
            found[item] = vectors[row]
    known = [item for item in range(len(rows)) if not np.isnan(found[item, 0])]
    begun = found.copy()
    for item in set(range(len(rows))) - set(known):
        means, weights = [], []
        for user in np.flatnonzero(x[:, item]):
            share = [x[user, other] for other in known]
            if sum(share) > 0:
                means.append(np.average(found[known], axis=0, weights=share))
                weights.append(x[user, item])
        begun[item] = np.average(means, axis=0, weights=weights) if means else found[known].mean(axis=0)
    return begun


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_mean_of_what_the_same_people_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(7, 3)).astype(np.float32)
    vectors[2] = np.nan
    rows = random.permutation([0, 1, 2, 3, 4, 6, -1, -1, -1])
    x = np.where(random.random((5, 9)) < 0.3, random.choice([0.5, 1.0, 3.0], (5, 9)), 0)
    before = vectors.copy()
    found = beginning(vectors, rows, csr_matrix(x, dtype=np.float32))
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slowly(vectors, rows, x), rtol=1e-5, atol=1e-6)
    assert np.array_equal(found[rows == 3], vectors[[3]])  # what is known is not touched by a rounding
    assert np.array_equal(vectors, before, equal_nan=True)


def test_where_nothing_is_left_there_is_no_beginning() -> None:
    x = csr_matrix(np.ones((2, 3), np.float32))
    vectors = np.array([[np.nan, np.nan], [1, 2]], np.float32)
    assert beginning(vectors, np.array([-1, 0, -1]), x) is None
    assert beginning(vectors, np.array([-1, 0, 1]), x) is not None
