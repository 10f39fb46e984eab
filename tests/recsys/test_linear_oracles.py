"""Item-item models against the equations of their papers in plain loops, on a lopsided world."""

import numpy as np
import pytest
from implicit.nearest_neighbours import BM25Recommender, TFIDFRecommender
from scipy.sparse import csr_matrix

from profiles.schema import ContractError
from recsys.dataset import Dataset
from recsys.models.association_rules import AssociationRules, AssociationRulesConfig
from recsys.models.ease import EASE, EASEConfig
from recsys.models.item_knn import ItemKNN, ItemKNNConfig
from recsys.models.rp3beta import RP3Beta, RP3BetaConfig
from recsys.models.slim import SLIM, SLIMConfig
from recsys.models.user_knn import UserKNN, UserKNNConfig
from recsys.neighbours import strongest

REPEATS = ("binary", "sum", "log", "last")


def strongest_of(cells: np.ndarray, keep: int) -> np.ndarray:
    """Keep each row's largest positive cells off the diagonal, of equal ones the leftmost."""
    kept = np.zeros_like(cells)
    for row, line in enumerate(cells):
        order = sorted((-v, c) for c, v in enumerate(line) if v > 0 and c != row)
        for value, column in order[:keep]:
            kept[row, column] = -value
    return kept


def meets_most(gram: np.ndarray, item: int, keep: int) -> list[int]:
    """Return the items that meet `item` most, sorted."""
    return sorted(np.flatnonzero(strongest_of(gram, keep)[item]).tolist())


@pytest.mark.parametrize("keep", [1, 3, 7, 100])
@pytest.mark.parametrize("counts", [True, False], ids=["ties", "no ties"])
def test_the_strongest_cells_of_a_product(keep, counts):
    """Counts give many equal cells; weights over six orders of magnitude fall into many bins."""
    random = np.random.default_rng(keep)
    a = (random.random((60, 25)) < 0.2).astype(float)
    b = (random.random((25, 60)) < 0.2).astype(float)
    if not counts:
        a, b = a * 10 ** random.uniform(-3, 3, a.shape), b * 10 ** random.uniform(-3, 3, b.shape)
    left, right = random.integers(1, 4, 60), random.integers(1, 4, 60)
    cells = (a @ b) / (np.outer(left, right) + 0.5)
    found = strongest(csr_matrix(a), csr_matrix(b), keep, left, right, 0.5)
    assert found.has_sorted_indices
    np.testing.assert_allclose(found.toarray(), strongest_of(cells, keep), rtol=1e-6)


# Item-kNN


@pytest.mark.parametrize("repeats", REPEATS)
def test_item_knn_weighs_as_implicit_does(repeats, crowd):
    x = crowd.train.matrix(repeats)
    model = ItemKNN(ItemKNNConfig(weighting="tf_idf", shrinkage=0, repeats=repeats)).fit(crowd.train)
    peer = TFIDFRecommender(K=45, num_threads=1)
    peer.fit(x, show_progress=False)
    theirs = peer.similarity.toarray()
    np.fill_diagonal(theirs, 0)
    np.testing.assert_allclose(model.similarities.toarray(), theirs, rtol=1e-5)

    # BM25 is a product there and a cosine here.
    model = ItemKNN(ItemKNNConfig(weighting="bm25", shrinkage=0, repeats=repeats)).fit(crowd.train)
    peer = BM25Recommender(K=45, num_threads=1)
    peer.fit(x, show_progress=False)
    theirs = peer.similarity.toarray()
    norms = np.sqrt(np.diag(theirs))
    theirs = np.divide(theirs, np.outer(norms, norms), out=np.zeros_like(theirs), where=theirs > 0)
    np.fill_diagonal(theirs, 0)
    np.testing.assert_allclose(model.similarities.toarray(), theirs, rtol=1e-5)


@pytest.mark.parametrize(("power", "share"), [(0.5, 0.5), (1.0, 0.8), (0.0, 0.1)])
def test_item_knn_asymmetric_by_loops(power, share, lopsided):
    x = lopsided.train.matrix("sum").toarray().astype(float)
    y = np.array([line / max(1, (line > 0).sum()) ** power for line in x])
    cells = np.zeros((14, 14))
    for j in range(11):
        for i in range(11):
            square = [sum(y[:, n] ** 2) for n in (j, i)]
            cells[j, i] = y[:, j] @ y[:, i] / (square[0] ** share * square[1] ** (1 - share) + 0.1)
    config = ItemKNNConfig(neighbours=4, shrinkage=0.1, user_power=power, asymmetry=share, repeats="sum")
    model = ItemKNN(config).fit(lopsided.train)
    np.testing.assert_allclose(model.similarities.toarray(), strongest_of(cells, 4), rtol=1e-5)


def test_item_knn_forgets_by_half_lives(lopsided, log_of):
    """Ten days before asking a half counts, twenty a quarter; a repeat has the age of its newest."""
    past = log_of(
        [("u", "i00", 90, 1.0), ("u", "i01", 80, 1.0), ("u", "i02", 10, 1.0), ("u", "i02", 90, 1.0)]
    )
    query = lopsided.catalogue.queries(["u"], past, lopsided.as_of)
    model = ItemKNN(ItemKNNConfig(half_life_days=10)).fit(lopsided.train)
    s = model.similarities.toarray()
    expected = 0.5 * s[0] + 0.25 * s[1] + 0.5 * s[2]
    np.testing.assert_allclose(np.nan_to_num(model.score(query)[0]), expected, rtol=1e-6)
    rows, parts = model.influence(query, np.array([3, 4]))
    assert rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(parts.sum(axis=0), expected[[3, 4]], rtol=1e-6)
    timeless = Dataset.of(lopsided.log, lopsided.catalogue, lopsided.as_of, timeless=True)
    with pytest.raises(ContractError, match="half_life_days needs times"):
        ItemKNN(model.config).fit(timeless)


# RP3beta


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.5), (1.6, 1.0)])
def test_rp3beta_walks_three_steps(alpha, beta, repeats, lopsided):
    x = lopsided.train.matrix(repeats).toarray().astype(float)
    walks = np.zeros((14, 14))
    for j in range(11):
        for i in range(11):
            for v in range(23):
                there, back = x[v, j] / x[:, j].sum(), x[v, i] / x[v].sum()
                walks[j, i] += there**alpha * back**alpha / x[:, i].sum() ** beta
    model = RP3Beta(RP3BetaConfig(alpha=alpha, beta=beta, neighbours=5, repeats=repeats)).fit(lopsided.train)
    kept = strongest_of(walks, 5)
    np.testing.assert_allclose(model.weights.toarray(), kept, rtol=1e-5)
    scores = x @ kept
    found = model.score(lopsided.queries())
    np.testing.assert_allclose(found, np.where(scores == 0, np.nan, scores), rtol=1e-5)


# EASE, sparse


@pytest.mark.parametrize("neighbours", [3, 100])
@pytest.mark.parametrize(("l2", "power"), [(0.5, 0.0), (20.0, 0.0), (2.0, 0.4)])
def test_sparse_ease_is_a_ridge_on_what_an_item_meets_most(neighbours, l2, power, lopsided, monkeypatch):
    x = lopsided.train.matrix("sum").toarray().astype(float)
    y = np.array([line / (line > 0).sum() ** power for line in x])
    gram, weights = y.T @ y, np.zeros((14, 14))
    for i in range(11):
        near = meets_most(gram, i, neighbours)
        a = y[:, near]
        weights[near, i] = np.linalg.solve(a.T @ a + l2 * np.eye(len(near)), a.T @ y[:, i])
    dense = EASE(EASEConfig(l2=l2, user_power=power, repeats="sum")).fit(lopsided.train).weights
    p = np.linalg.inv(y.T @ y + l2 * np.eye(14))
    np.testing.assert_allclose(dense[:, :11], (np.eye(14) - p / np.diag(p))[:, :11], rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("recsys.models.ease.DENSE_ITEMS", 5)
    for limit in (64_000_000, 1):  # all items at once, and one by one
        monkeypatch.setattr("recsys.regression.BLOCK_BYTES", limit)
        model = EASE(EASEConfig(l2=l2, user_power=power, neighbours=neighbours, repeats="sum")).fit(
            lopsided.train
        )
        np.testing.assert_allclose(model.weights.toarray(), weights, rtol=1e-4, atol=1e-6)
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(np.nan_to_num(scores), x @ weights, rtol=1e-4, atol=1e-5)
    assert np.isnan(scores[:, 11:]).all()


def test_dense_ease_of_ones_is_the_closed_form(lopsided):
    """Where every cell is 1 pairs are counted, and nothing is multiplied."""
    x = (lopsided.train.matrix("sum").toarray() > 0).astype(float)
    weights = EASE(EASEConfig(l2=3.0)).fit(lopsided.train).weights
    p = np.linalg.inv(x.T @ x + 3.0 * np.eye(14))
    np.testing.assert_allclose(weights[:, :11], (np.eye(14) - p / np.diag(p))[:, :11], rtol=1e-4, atol=1e-6)


def test_sparse_ease_of_all_neighbours_is_nearly_the_dense_one(crowd, monkeypatch):
    """Items that never meet have a small weight in the closed form and none in the sparse one."""
    dense = EASE(EASEConfig(l2=50)).fit(crowd.train)
    monkeypatch.setattr("recsys.models.ease.DENSE_ITEMS", 5)
    sparse = EASE(EASEConfig(l2=50, neighbours=100)).fit(crowd.train)
    met = sparse.weights.toarray() != 0
    assert met.mean() > 0.3
    np.testing.assert_allclose(sparse.weights.toarray()[met], dense.weights[met], atol=0.02)


# SLIM


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize(("l1", "l2", "neighbours"), [(0.5, 1.0, 100), (2.0, 0.1, 100), (0.1, 5.0, 4)])
def test_slim_is_at_the_minimum_of_its_loss(l1, l2, neighbours, repeats, lopsided):
    """At the minimum (eq. 4) the slope is 0 where a weight is, and not below 0 where none is."""
    x = lopsided.train.matrix(repeats).toarray().astype(float)
    config = SLIMConfig(l1=l1, l2=l2, neighbours=neighbours, rounds=5000, repeats=repeats)
    w = SLIM(config).fit(lopsided.train).weights.toarray().astype(float)
    assert (w >= 0).all()
    assert (w > 0).sum() > 5
    gram = x.T @ x
    for i in range(14):
        slope = -x.T @ (x[:, i] - x @ w[:, i]) + l2 * w[:, i] + l1
        near = meets_most(gram, i, neighbours)
        assert set(np.flatnonzero(w[:, i])) <= set(near)
        for j in near:
            if w[j, i] > 0:
                assert abs(slope[j]) < 0.01 * gram[j, j], (i, j)
            else:
                assert slope[j] > -0.01 * gram[j, j], (i, j)


# User-kNN


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize(
    ("neighbours", "share", "power", "sharpness"),
    [(4, 0.5, 0.0, 1.0), (7, 0.2, 0.5, 2.0), (99, 0.9, 1.0, 1.0)],
)
def test_user_knn_by_loops(neighbours, share, power, sharpness, repeats, lopsided):
    x = lopsided.train.matrix(repeats).toarray().astype(float)
    popular = (x > 0).sum(axis=0)
    y = np.array([[v / n**power if v else 0 for v, n in zip(line, popular, strict=True)] for line in x])
    expected = np.zeros_like(x)
    for q in range(23):
        near = []
        for v in range(23):
            norms = sum(y[q] ** 2) ** share * sum(y[v] ** 2) ** (1 - share)
            near.append((-(y[q] @ y[v]) / (norms + 0.2), v))
        for similarity, v in sorted(near)[:neighbours]:
            if similarity < 0:
                expected[q] += (-similarity) ** sharpness * x[v]
    config = UserKNNConfig(
        neighbours=neighbours,
        asymmetry=share,
        item_power=power,
        sharpness=sharpness,
        shrinkage=0.2,
        repeats=repeats,
    )
    scores = UserKNN(config).fit(lopsided.train).score(lopsided.queries())
    np.testing.assert_allclose(scores, np.where(expected == 0, np.nan, expected), rtol=1e-4)


# Association rules


@pytest.mark.parametrize(("support", "lift"), [(1, 0.0), (3, 1.0), (2, 1.5)])
def test_association_rules_by_loops(support, lift, lopsided):
    x = lopsided.train.matrix("binary").toarray()
    expected = np.full((23, 14), np.nan)
    for user in range(23):
        for j in np.flatnonzero(x[user]):
            for i in range(11):
                both, first, second = (x[:, j] * x[:, i]).sum(), x[:, j].sum(), x[:, i].sum()
                if i != j and both >= support and both * 23 >= lift * first * second:
                    expected[user, i] = np.nanmax([expected[user, i], both / first])
    config = AssociationRulesConfig(min_support=support, min_lift=lift)
    scores = AssociationRules(config).fit(lopsided.train).score(lopsided.queries())
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
