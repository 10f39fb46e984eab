"""Negative sampling: the right shares, and never what a user did."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from recsys.networks.sequence import Criterion
from recsys.networks.simplex import had
from recsys.sampling import Positives, sampler

COUNTS = np.array([8, 0, 1, 3, 0, 4])


def shares(drawn: np.ndarray) -> np.ndarray:
    return np.bincount(drawn.ravel(), minlength=6) / drawn.size


@pytest.mark.parametrize(
    ("kind", "power", "expected"),
    [
        ("uniform", 1.0, np.full(6, 1 / 6)),
        ("popularity", 1.0, COUNTS / 16),
        ("popularity", 0.5, np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
        ("popularity", 0.0, (COUNTS > 0) / 4),
    ],
)
def test_items_are_drawn_as_often_as_log_q_says(kind, power, expected):
    found = sampler(kind, COUNTS, power)
    np.testing.assert_allclose(np.exp(found.log_q), expected, atol=1e-6)
    drawn = found.draw((400, 500), np.random.default_rng(0))
    assert drawn.shape == (400, 500)
    np.testing.assert_allclose(shares(drawn), expected, atol=0.004)
    assert not shares(drawn)[expected == 0].any()
    assert np.array_equal(found.draw(9, np.random.default_rng(5)), found.draw(9, np.random.default_rng(5)))


def test_targets_of_a_batch_are_drawn_as_popularity_says():
    found = sampler("popularity", COUNTS)
    targets = torch.from_numpy(np.repeat(np.arange(6), COUNTS))
    criterion = Criterion("sampled_softmax", found, 200_000, in_batch=True)
    drawn = criterion.drawn(targets, np.random.default_rng(0)).numpy()
    np.testing.assert_allclose(np.exp(found.log_q), shares(drawn), atol=0.004)


def test_what_was_had_is_marked_for_repeats_and_empty_histories_too():
    random = np.random.default_rng(2)
    x = (random.random((9, 20)) < 0.3) * random.random((9, 20))
    x[4] = 0  # nothing
    items = np.array([3, 7, 3, 19, 0, 3])
    assert np.array_equal(had(csr_matrix(x), items), x[:, items] > 0)
    assert had(csr_matrix(x), items[:0]).shape == (9, 0)


def test_negatives_are_never_positives():
    random = np.random.default_rng(1)
    x = csr_matrix((random.random((30, 20)) < 0.4).astype(np.float32))
    positives = Positives(x)
    users, items = np.meshgrid(np.arange(30), np.arange(20), indexing="ij")
    assert np.array_equal(positives.hit(users, items), x.toarray() > 0)
    assert ((0, int(x[0].indices[0])) in positives) is True
    asked = random.integers(0, 30, 500)
    drawn = positives.negatives(asked, 7, sampler("uniform", np.ones(20)), random)
    assert drawn.shape == (500, 7)
    assert positives.hit(asked[:, None], drawn).mean() < 0.005  # of who did 11 of 20: 0.55 ** 9
    # What remains is as it should be: uniform over what the user did not do.
    one = positives.negatives(np.zeros(4000, int), 10, sampler("uniform", np.ones(20)), random)
    left = np.flatnonzero(x[0].toarray()[0] == 0)
    np.testing.assert_allclose(
        np.bincount(one.ravel(), minlength=20)[left] / one.size, 1 / len(left), atol=0.01
    )


def test_who_did_everything_gets_something_all_the_same():
    positives = Positives(csr_matrix(np.ones((2, 3), np.float32)))
    drawn = positives.negatives(np.array([0, 1]), 4, sampler("uniform", np.ones(3)), np.random.default_rng(0))
    assert drawn.shape == (2, 4)
    assert ((drawn >= 0) & (drawn < 3)).all()
