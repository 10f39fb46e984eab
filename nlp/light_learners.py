"""Learners that need no gradient loop: logistic regression and boosted trees, kept as plain arrays.

scikit-learn fits; what it found is read out, so that a saved classifier holds numbers and no objects, and
predicting needs numpy alone.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nlp.extras import need
from nlp.label_sets import Matrix, Probabilities

Floats = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]
SURE = 20.0  # logit of a label that every text has, or none


@dataclass(frozen=True)
class Linear:
    """logits = x weights' + bias: probabilities by softmax, or by label where a text may have several."""

    weights: Floats  # (labels, features)
    bias: Floats  # (labels,)

    def logits(self, features: Any) -> Floats:
        """Return (texts, labels); `features` may be sparse."""
        found: Floats = np.asarray(features @ self.weights.T, np.float32) + self.bias
        return found


def probabilities(logits: Floats, many: bool) -> Probabilities:
    """Return what logits say: of one label summing to 1, of several each on its own."""
    if many:
        each: Probabilities = (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
        return each
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Probabilities = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def fit_logistic(features: Any, truth: Matrix, many: bool, penalty: float, balanced: bool) -> Linear:
    """Fit by L-BFGS: the sum of the losses + penalty / 2 ‖weights‖²; several labels one by one."""
    logistic = need("sklearn.linear_model", "text").LogisticRegression
    weight = "balanced" if balanced else None
    settings = {"C": 1 / penalty, "class_weight": weight, "max_iter": 1000}
    if not many:
        fitted = _quietly(logistic(**settings), features, truth.argmax(axis=1))
        weights, bias = fitted.coef_, fitted.intercept_
        if len(weights) == 1 and truth.shape[1] == 2:  # of two labels the second's logit against 0
            weights, bias = np.vstack([0 * weights, weights]), np.append(0, bias)
        return Linear(weights.astype(np.float32), bias.astype(np.float32))
    weights = np.zeros((truth.shape[1], features.shape[1]), np.float32)
    bias = np.where(truth.any(axis=0), SURE, -SURE).astype(np.float32)
    for column in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        fitted = _quietly(logistic(**settings), features, truth[:, column])
        weights[column], bias[column] = fitted.coef_[0], fitted.intercept_[0]
    return Linear(weights, bias)


@dataclass(frozen=True)
class Trees:
    """Boosted trees: a text falls through every tree, and the leaves it ends in add up to its logits.

    Nodes of all trees lie in one row; a leaf points to itself.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]  # to the left where the feature is at most this
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: npt.NDArray[np.float64]  # of leaves
    roots: npt.NDArray[np.int32]  # where each tree begins
    label: npt.NDArray[np.int32]  # whose logit each tree adds to
    bias: npt.NDArray[np.float64]  # (labels,)
    depth: npt.NDArray[np.int32]  # (1,) of the deepest tree

    def logits(self, features: Floats) -> Floats:
        """Return (texts, labels)."""
        found = np.tile(self.bias, (len(features), 1))
        texts = np.arange(len(features))
        for root, label in zip(self.roots.tolist(), self.label.tolist(), strict=True):
            node = np.full(len(features), root, np.int32)
            for _ in range(int(self.depth[0])):
                below = features[texts, self.feature[node]] <= self.threshold[node]
                node = np.where(below, self.left[node], self.right[node])
            found[:, label] += self.value[node]
        return found.astype(np.float32)


def fit_trees(
    features: Floats, truth: Matrix, many: bool, trees: int, leaves: int, balanced: bool, seed: int
) -> Trees:
    """Fit gradient boosting on histograms (Ke et al., NeurIPS 2017); several labels one by one."""
    boosting = need("sklearn.ensemble", "text").HistGradientBoostingClassifier
    weight = "balanced" if balanced else None
    settings = {"max_iter": trees, "max_leaf_nodes": leaves, "class_weight": weight, "random_state": seed}
    labels = truth.shape[1]
    if many:
        bias = np.where(truth.any(axis=0), SURE, -SURE)
        varying = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)).tolist()
        tasks = [([column], truth[:, column]) for column in varying]
    else:  # of two labels there is one tree a round: its logit is the second's
        bias = np.zeros(labels)
        tasks = [([1] if labels == 2 else list(range(labels)), truth.argmax(axis=1))]
    parts, owners = [], []
    for columns, target in tasks:
        fitted = boosting(early_stopping=False, **settings).fit(features, target)
        bias[columns] = np.ravel(fitted._baseline_prediction)
        for stage in fitted._predictors:
            parts += [tree.nodes for tree in stage]
            owners += columns
    return _flat(parts, owners, bias)


def _flat(parts: list[npt.NDArray[Any]], owners: list[int], bias: npt.NDArray[np.float64]) -> Trees:
    roots = np.cumsum([0, *(len(nodes) for nodes in parts)])[:-1]
    nodes = np.concatenate(parts)
    offset = np.repeat(roots, [len(part) for part in parts])
    leaf, itself = nodes["is_leaf"].astype(bool), np.arange(len(nodes))
    return Trees(
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=np.where(leaf, itself, nodes["left"] + offset).astype(np.int32),
        right=np.where(leaf, itself, nodes["right"] + offset).astype(np.int32),
        value=np.where(leaf, nodes["value"], 0.0),
        roots=roots.astype(np.int32),
        label=np.array(owners, np.int32),
        bias=bias,
        depth=nodes["depth"].max(keepdims=True).astype(np.int32),
    )


def _quietly(learner: Any, features: Any, target: npt.NDArray[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that L-BFGS stopped at its last round
        return learner.fit(features, target)
