"""Each recommender against a slow version of itself that is obviously right, on a lopsided world."""

from collections import defaultdict
from math import log as ln

import numpy as np
import polars as pl
import pytest
from implicit.cpu.als import AlternatingLeastSquares

from profiles.schema import ContractError
from recsys.dataset import Dataset
from recsys.models.als import ALS, ALSConfig
from recsys.models.content_text import ContentText, ContentTextConfig
from recsys.models.ease import EASE, EASEConfig
from recsys.models.item_knn import ItemKNN, ItemKNNConfig
from recsys.models.popularity import Popularity, PopularityConfig
from recsys.recommender import dense_scores

REPEATS = ("binary", "sum", "log", "last")
UNTOUCHED = [11, 12, 13]


def slow_matrix(log: pl.DataFrame, items: list[str], repeats: str) -> np.ndarray:
    """Return (users, items) float64 of a log, users sorted, by plain loops."""
    users = sorted(set(log["user_id"]))
    weights = defaultdict(list)
    for user, item, weight in log.sort("timestamp", maintain_order=True)[
        "user_id", "item_id", "weight"
    ].rows():
        weights[users.index(user), items.index(item)].append(weight)
    value = {
        "binary": lambda w: 1.0,
        "sum": sum,
        "log": lambda w: ln(1 + sum(w)),
        "last": lambda w: w[-1],
    }[repeats]
    matrix = np.zeros((len(users), len(items)))
    for cell, found in weights.items():
        matrix[cell] = value(found)
    return matrix


@pytest.mark.parametrize("repeats", REPEATS)
def test_matrix_is_the_slow_one(repeats, lopsided):
    items = lopsided.catalogue.items.ids.to_list()
    expected = slow_matrix(lopsided.log, items, repeats)
    assert lopsided.train.matrix(repeats).shape == expected.shape == (23, 14)
    np.testing.assert_allclose(lopsided.train.matrix(repeats).toarray(), expected, rtol=1e-6)


# EASE


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_ease_is_one_ridge_regression_per_item(l2, repeats, lopsided):
    x = slow_matrix(lopsided.log, lopsided.catalogue.items.ids.to_list(), repeats)
    weights = np.zeros((14, 14))
    for j in range(14):
        others = [i for i in range(14) if i != j]
        a = x[:, others]
        weights[others, j] = np.linalg.solve(a.T @ a + l2 * np.eye(13), a.T @ x[:, j])
    model = EASE(EASEConfig(l2=l2, repeats=repeats)).fit(lopsided.train)
    assert np.isnan(model.weights[:, UNTOUCHED]).all()
    np.testing.assert_allclose(model.weights[:, :11], weights[:, :11], rtol=1e-4, atol=1e-6)
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores[:, :11], (x @ weights)[:, :11], rtol=1e-4, atol=1e-6)
    assert np.isnan(scores[:, UNTOUCHED]).all()


# Item-kNN


def slow_neighbours(x: np.ndarray, neighbours: int, shrinkage: float) -> np.ndarray:
    """Return s[j, i], what j in a history adds to i: for each j its `neighbours` best i."""
    users, items = x.shape
    kept = np.zeros((items, items))
    for j in range(items):
        found = []
        for i in range(items):
            dot = sum(x[u, j] * x[u, i] for u in range(users))
            norms = [sum(x[u, n] ** 2 for u in range(users)) ** 0.5 for n in (j, i)]
            if j != i and dot > 0:
                found.append((-dot / (norms[0] * norms[1] + shrinkage), i))
        for value, i in sorted(found)[:neighbours]:
            kept[j, i] = -value
    return kept


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize(("neighbours", "shrinkage"), [(3, 10.0), (3, 0.0), (100, 2.5)])
def test_item_knn_by_loops(neighbours, shrinkage, repeats, lopsided):
    x = slow_matrix(lopsided.log, lopsided.catalogue.items.ids.to_list(), repeats)
    expected = slow_neighbours(x, neighbours, shrinkage)
    assert (expected != expected.T).any() == (neighbours == 3)  # lopsided: j may be near i and not i near j
    config = ItemKNNConfig(neighbours=neighbours, shrinkage=shrinkage, repeats=repeats)
    model = ItemKNN(config).fit(lopsided.train)
    np.testing.assert_allclose(model.similarities.toarray(), expected, rtol=1e-5)
    scores = x @ expected
    np.testing.assert_allclose(
        model.score(lopsided.queries()), np.where(scores == 0, np.nan, scores), rtol=1e-5
    )


def test_item_knn_keeps_the_lower_rows_of_a_tie(world_of):
    """a goes with b, c, d and e equally often, and with f twice: f is kept, then b, then c."""
    rows = [(f"u{n}", item, 1.0, 1.0) for n, item in enumerate("bcde") for item in ("a", item)]
    rows += [(f"v{n}", item, 1.0, 1.0) for n in range(2) for item in "af"]
    world = world_of(rows)
    model = ItemKNN(ItemKNNConfig(neighbours=3, shrinkage=1.0)).fit(world.train)
    assert np.flatnonzero(model.similarities.toarray()[0]).tolist() == [1, 2, 5]


def test_item_knn_is_the_same_across_its_blocks(world_of, monkeypatch, lopsided):
    whole = ItemKNN(ItemKNNConfig(neighbours=3)).fit(lopsided.train)
    monkeypatch.setattr("recsys.neighbours.CHUNK", 4)
    blocks = ItemKNN(ItemKNNConfig(neighbours=3)).fit(lopsided.train)
    assert np.array_equal(whole.similarities.toarray(), blocks.similarities.toarray())


# ALS


def slow_user(y: np.ndarray, confidences: dict[int, float], l2: float) -> np.ndarray:
    """Solve for one user the normal equations summed over every item: confidence 1, preference 0 unseen."""
    d = y.shape[1]
    left, right = l2 * np.eye(d), np.zeros(d)
    for i in range(len(y)):
        c = confidences.get(i, 1.0)
        for p in range(d):
            right[p] += c * y[i, p] * (i in confidences)
            for q in range(d):
                left[p, q] += c * y[i, p] * y[i, q]
    return np.linalg.solve(left, right)


@pytest.mark.parametrize(("alpha", "repeats"), [(1.0, "binary"), (5.0, "sum"), (0.5, "last")])
def test_als_solves_its_own_step_for_a_history(alpha, repeats, lopsided):
    config = ALSConfig(factors=4, l2=0.3, alpha=alpha, repeats=repeats)
    model = ALS(config).fit(lopsided.train)
    assert np.isnan(model.factors[UNTOUCHED]).all()
    y = np.nan_to_num(model.factors).astype(np.float64)
    np.testing.assert_allclose(model.gram, y.T @ y, rtol=1e-6)  # nothing of what nobody touched

    peer = AlternatingLeastSquares(factors=4, regularization=0.3, alpha=alpha, num_threads=1)
    peer.item_factors = np.nan_to_num(model.factors)
    queries = lopsided.queries()
    matrix, scores = queries.matrix(repeats), model.score(queries)
    theirs = peer.recalculate_user(np.arange(23), matrix)
    x = slow_matrix(lopsided.log, lopsided.catalogue.items.ids.to_list(), repeats)
    for user in range(23):
        done = {int(i): alpha * x[user, i] for i in np.flatnonzero(x[user])}
        solved = slow_user(y, done, 0.3)
        rows = matrix[user].indices
        np.testing.assert_allclose(model._user(rows, matrix[user].data), solved, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(theirs[user], solved, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(scores[user, :11], (y @ solved)[:11], rtol=1e-4, atol=1e-6)
        assert np.isnan(scores[user, UNTOUCHED]).all()


def test_als_items_are_solved_from_the_users_that_are_folded_in(lopsided):
    """At the fixed point an item's vector is the solution for the users who chose it."""
    config = ALSConfig(factors=2, l2=1.0, alpha=3.0, iterations=500, repeats="sum")
    model = ALS(config).fit(lopsided.train)
    x = lopsided.train.matrix("sum").tocsr()
    users = np.array([model._user(x[u].indices, x[u].data) for u in range(23)])
    columns = x.T.tocsr()
    for item in range(11):
        done = dict(zip(columns[item].indices.tolist(), (3.0 * columns[item].data).tolist(), strict=True))
        np.testing.assert_allclose(model.factors[item], slow_user(users, done, 1.0), rtol=1e-3, atol=1e-4)


def test_dense_scores_are_the_exact_product_rounded_once(monkeypatch):
    random = np.random.default_rng(0)
    users, items = (
        random.normal(size=(5, 7)).astype(np.float32),
        random.normal(size=(23, 7)).astype(np.float32),
    )
    users[2], items[9] = np.nan, np.nan
    exact = [[sum(float(a) * float(b) for a, b in zip(u, i, strict=True)) for i in items] for u in users]
    for chunk in (1, 4, 23, 4096):
        monkeypatch.setattr("recsys.recommender.DENSE_ITEMS", chunk)
        scores = dense_scores(users, items)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, exact, rtol=1e-7)


# Popularity


def test_popularity_counts_weights(lopsided):
    model = Popularity().fit(lopsided.train)
    expected = [0.0] * 14
    for item, weight in lopsided.log["item_id", "weight"].rows():
        expected[int(item[1:])] += weight
    assert expected[11:] == [0.0, 0.0, 0.0]
    for scores in model.score(lopsided.queries()):
        assert scores.tolist() == expected


@pytest.mark.parametrize("half_life", [0.5, 30.0])
def test_popularity_halves_with_age(half_life, lopsided, at_day):
    model = Popularity(PopularityConfig(half_life_days=half_life)).fit(lopsided.train)
    expected = np.zeros(14)
    for item, weight, when in lopsided.log["item_id", "weight", "timestamp"].rows():
        age = (at_day(100) - when).total_seconds() / 86_400
        expected[int(item[1:])] += weight / 2 ** (age / half_life)
    np.testing.assert_allclose(model.scores, expected, rtol=1e-5)
    timeless = Dataset.of(lopsided.log, lopsided.catalogue, lopsided.as_of, timeless=True)
    with pytest.raises(ContractError, match="half_life_days needs times"):
        Popularity(model.config).fit(timeless)


# Content by text


def unit(vector: np.ndarray) -> np.ndarray:
    norm = sum(v * v for v in vector) ** 0.5
    return vector / norm if norm > 0 else np.full(len(vector), np.nan)


def slow_content(vectors, row, own, share) -> np.ndarray:
    """Score one user: `row` is their line of the matrix, `own` their own vector or NaN."""
    chosen = sum((w * unit(vectors[i]) for i, w in enumerate(row) if w and not np.isnan(vectors[i, 0])), 0.0)
    parts = [unit(chosen)] if np.ndim(chosen) else []
    if not np.isnan(own).any() and (unit(own) == unit(own)).all():
        parts = [(1 - share) * parts[0] + share * unit(own)] if parts else [unit(own)]
    if not parts or np.isnan(parts[0]).any():
        return np.full(len(vectors), np.nan)
    direction = unit(parts[0])
    return np.array([float(np.dot(direction, unit(v))) for v in vectors])


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_content_text_by_loops(share, repeats, lopsided):
    own = np.random.default_rng(2).normal(size=(23, 6)).astype(np.float32)
    own[::3] = np.nan
    own[1] = 0.0
    vectors = lopsided.vectors.copy()
    vectors[[2, 5]] = np.nan
    train = Dataset.of(lopsided.log, lopsided.catalogue, lopsided.as_of, vectors)
    model = ContentText(ContentTextConfig(own_words=share, repeats=repeats)).fit(train)
    x = slow_matrix(lopsided.log, lopsided.catalogue.items.ids.to_list(), repeats)
    for given in (own, np.full_like(own, np.nan)):
        scores = model.score(lopsided.queries(vectors=given))
        expected = [slow_content(vectors, x[u], given[u], share) for u in range(23)]
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    silent = model.score(lopsided.queries())
    np.testing.assert_array_equal(silent, scores)


def test_content_text_with_a_part_missing(lopsided):
    share = 0.4
    model = ContentText(ContentTextConfig(own_words=share)).fit(lopsided.train)
    words = np.array([[1, 0, 0, 0, 0, 0], [np.nan] * 6, [0, 2, 0, 0, 0, 0], [np.nan] * 6], np.float32)
    queries = lopsided.ask({"words": [], "nothing": [], "both": ["i03"], "no text": ["i13"]}, vectors=words)
    scores, v = model.score(queries), lopsided.vectors
    np.testing.assert_allclose(scores[0], v[:, 0], rtol=1e-6)
    assert np.isnan(scores[1]).all()
    mixed = unit(0.6 * v[3].astype(np.float64) + 0.4 * np.eye(6)[1])
    np.testing.assert_allclose(scores[2], v @ mixed, rtol=1e-5, atol=1e-7)
    assert np.isnan(scores[3]).all()
    assert np.isnan(scores[:, 13]).all()


def test_content_text_is_a_cosine_whatever_the_length_of_a_vector(lopsided):
    """An item's length must not make it nearer, neither as a candidate nor in a history."""
    lengths = np.linspace(0.1, 9, 14, dtype=np.float32)[:, None]
    longer = Dataset.of(lopsided.log, lopsided.catalogue, lopsided.as_of, lopsided.vectors * lengths)
    scores = ContentText().fit(longer).score(lopsided.queries())
    np.testing.assert_allclose(
        scores, ContentText().fit(lopsided.train).score(lopsided.queries()), rtol=1e-4, atol=1e-6
    )
    assert np.nanmax(np.abs(scores)) <= 1 + 1e-6
