"""Learners kept as arrays against scikit-learn's own predictions."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from nlp.light_learners import SURE, fit_logistic, fit_trees, probabilities


def world(labels: int, texts: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Features of unlike sizes, labels of unlike counts, one row in twelve of a label at random."""
    random = np.random.default_rng(labels)
    features = (random.normal(size=(texts, 5)) * [1, 2, 0.5, 1, 3]).astype(np.float32)
    edges = np.quantile(features[:, 1], np.linspace(0, 1, labels + 1)[1:-1] ** 2)
    target = np.searchsorted(edges, features[:, 1] + 0.2 * features[:, 0])
    target[::12] = random.integers(labels, size=len(target[::12]))
    return features, target


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("balanced", [False, True])
def test_logistic_is_scikit_learns(labels: int, balanced: bool):
    features, target = world(labels)
    found = fit_logistic(features, np.eye(labels, dtype=bool)[target], False, 0.5, balanced)
    expected = LogisticRegression(C=2, class_weight="balanced" if balanced else None, max_iter=1000)
    expected.fit(features, target)
    got = probabilities(found.logits(features), many=False)
    np.testing.assert_allclose(got, expected.predict_proba(features), atol=1e-4)


@pytest.mark.parametrize("labels", [2, 4])
def test_trees_are_scikit_learns(labels: int):
    features, target = world(labels)
    found = fit_trees(features, np.eye(labels, dtype=bool)[target], False, 12, 6, False, 3)
    expected = HistGradientBoostingClassifier(
        max_iter=12, max_leaf_nodes=6, early_stopping=False, random_state=3
    ).fit(features, target)
    fresh = np.random.default_rng(9).normal(size=(100, 5)).astype(np.float32) * 2
    got = probabilities(found.logits(fresh), many=False)
    np.testing.assert_allclose(got, expected.predict_proba(fresh), atol=1e-5)


def test_several_labels_are_learned_one_by_one_and_constant_ones_are_known():
    features, target = world(3)
    truth = np.zeros((240, 4), bool)
    truth[:, 0], truth[:, 1], truth[:, 3] = target > 0, target == 2, True  # of 2 no text has any
    for found in (
        fit_logistic(features, truth, True, 1.0, False),
        fit_trees(features, truth, True, 10, 5, False, 0),
    ):
        p = probabilities(found.logits(features), many=True)
        assert (p[:, 2] < 1e-8).all()
        assert (p[:, 3] > 1 - 1e-6).all()
        assert ((p[:, :2] > 0.5) == truth[:, :2]).mean() > 0.85
        assert found.bias[3] == SURE
