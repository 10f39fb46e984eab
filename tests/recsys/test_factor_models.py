"""LightGCN, SimpleX, Mult-VAE and BPR against slow versions of themselves, and what stops them."""

import numpy as np
import pytest
import torch
from scipy.sparse import block_array, csr_matrix
from sklearn.linear_model import Ridge
from torch_geometric.nn import LGConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from profiles.schema import ContractError
from recsys import training, watch
from recsys.held_out import HeldOut
from recsys.models import RECOMMENDERS, als
from recsys.networks.graph import Graph
from recsys.networks.lightgcn import LightGCNNetwork
from recsys.networks.mult_vae import MultVAENetwork
from recsys.networks.simplex import SimpleXNetwork
from recsys.sampling import Sampler

UNTOUCHED = [11, 12, 13]


def fit(name, world, **config):
    kind = RECOMMENDERS[name]
    return kind(kind.config_class(**config)).fit(world.train)


def learned(world, repeats) -> csr_matrix:
    return world.train.matrix(repeats)[:, :11]


# LightGCN


def edges(matrix: csr_matrix) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the graph's edges in both directions and their weights."""
    found = matrix.tocoo()
    users, items = found.row.astype(np.int64), found.col.astype(np.int64) + matrix.shape[0]
    both = np.stack([np.concatenate([users, items]), np.concatenate([items, users])])
    return torch.from_numpy(both), torch.from_numpy(np.concatenate([found.data, found.data]))


def network(matrix, **more) -> LightGCNNetwork:
    settings = {"factors": 5, "layers": 3, "train_users": True, "loss": "bpr", "negatives": 2, "l2": 0.1}
    with training.reproducible(1):
        return LightGCNNetwork(matrix, **{**settings, **more}, sampler=Sampler.uniform(matrix.shape[1]))


@pytest.mark.parametrize("repeats", ["binary", "sum"])
def test_the_graph_is_torch_geometrics(repeats, lopsided):
    matrix = learned(lopsided, repeats)
    index, weight = gcn_norm(*edges(matrix), add_self_loops=False)
    expected = torch.zeros(34, 34)
    expected[index[1], index[0]] = weight
    up, down = Graph(matrix).sides
    assert up.indptr.dtype == up.indices.dtype == down.indptr.dtype == down.indices.dtype == np.int32
    torch.testing.assert_close(torch.from_numpy(block_array([[None, up], [down, None]]).toarray()), expected)
    torch.testing.assert_close(expected, expected.T)


@pytest.mark.parametrize("repeats", ["binary", "sum"])
def test_layers_and_their_gradient_are_torch_geometrics(repeats, lopsided):
    matrix = learned(lopsided, repeats)
    made = network(matrix)
    mean, layers, convolution = made(), made.spread(), LGConv(normalize=True)
    x = torch.cat([made.users, made.items]).detach().requires_grad_()
    expected = [x]
    for _ in range(3):
        expected.append(convolution(expected[-1], *edges(matrix)))
    for ours, theirs in zip(layers, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(mean, torch.stack(expected).mean(0))
    pull = torch.randn(34, 5)
    ours = torch.autograd.grad((mean * pull).square().sum(), (made.users, made.items))
    theirs = torch.autograd.grad((torch.stack(expected).mean(0) * pull).square().sum(), x)
    torch.testing.assert_close(torch.cat(ours), theirs[0])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_some_nodes_and_their_gradient_are_those_of_all(layers, lopsided):
    matrix = learned(lopsided, "sum")
    made, asked = network(matrix, layers=layers), (np.array([3, 0, 3]), np.array([[25, 33], [25, 24]]))
    some, rows, places = made.of(*asked)
    assert rows.tolist() == [0, 3, 24, 25, 33]
    pulls = [torch.randn(*part.shape, 5) for part in asked]
    learning = (made.users, made.items)

    def gradient(parts):
        lost = sum((part * pull).square().sum() for part, pull in zip(parts, pulls, strict=True))
        return torch.autograd.grad(lost, learning)

    every = made()
    of_all = [every[torch.from_numpy(part)] for part in asked]
    for ours, theirs in zip((some[place] for place in places), of_all, strict=True):
        torch.testing.assert_close(ours, theirs)
    ours, theirs = gradient([some[place] for place in places]), gradient(of_all)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("repeats", ["binary", "sum"])
def test_a_training_user_is_folded_in_to_their_own_node(repeats, lopsided):
    """With first vectors of 0, a query's vector is the one the graph gives the user who did the same."""
    model = fit("lightgcn", lopsided, factors=6, epochs=3, repeats=repeats, learning_rate=0.05)
    matrix = learned(lopsided, repeats)
    made = network(matrix, factors=6, train_users=False)
    # The fit is read back from its last layer's mean: solve the mean of the layers for the first vectors.
    up, down = (torch.from_numpy(side.toarray()).double() for side in Graph(matrix).sides)
    graph = down @ up
    spread = (torch.eye(11, dtype=torch.float64) + graph) / 4
    first = torch.linalg.solve(spread, torch.from_numpy(model.factors[:11].astype(np.float64)))
    made.items.data = first.float()
    with torch.no_grad():
        nodes = made()
    np.testing.assert_allclose(nodes[23:], model.factors[:11], rtol=1e-4, atol=1e-5)
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores[:, :11], nodes[:23] @ nodes[23:].T, rtol=1e-3, atol=1e-4)
    assert np.isnan(scores[:, UNTOUCHED]).all()


@pytest.mark.parametrize("repeats", ["binary", "sum"])
def test_a_query_gets_the_first_vector_that_ridge_regression_makes_of_its_items(
    repeats, lopsided, monkeypatch
):
    modules, began, train = [], [], training.train

    def spy(task, config):
        modules.append(task.module)
        began.append(task.module.users.detach().numpy().copy())
        return train(task, config)

    monkeypatch.setattr(training, "train", spy)
    settings = {"factors": 3, "epochs": 5, "repeats": repeats, "learning_rate": 0.05, "train_users": True}
    model = fit("lightgcn", lopsided, **settings)
    x = learned(lopsided, repeats).toarray().astype(np.float64)
    up = x / np.sqrt(x.sum(1, keepdims=True) * x.sum(0))
    users, items = ([part.detach().numpy()] for part in (modules[0].users, modules[0].items))
    for _ in range(3):
        users, items = [*users, up @ items[-1]], [*items, up.T @ users[-1]]
    sums = np.hstack([up @ layer for layer in items[:3]])
    first = Ridge(0.1, fit_intercept=False).fit(sums, users[0]).predict(sums)
    expected = np.mean([first, *users[1:]], 0) @ np.mean(items, 0).T
    np.testing.assert_allclose(model.score(lopsided.queries())[:, :11], expected, rtol=1e-3, atol=1e-4)
    model.update(lopsided.train)
    np.testing.assert_allclose(began[1], first, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("hardest", [False, True])
def test_bpr_loss_by_loops(hardest, lopsided, monkeypatch):
    matrix = learned(lopsided, "binary")
    made = network(matrix, hardest=hardest)
    users, items = np.array([3, 0, 3]), np.array([1, 0, 2])
    negatives = np.array([[4, 5], [6, 1], [9, 9]])
    monkeypatch.setattr(made.positives, "negatives", lambda *_: negatives)
    node = made().detach().double().numpy()
    first = made.items.detach().double().numpy()
    own = made.users.detach().double().numpy()
    expected = 0.0
    for u, i, wrong in zip(users, items, negatives, strict=True):
        wrong = [max(wrong, key=lambda j: node[u] @ node[23 + j])] if hardest else wrong
        for j in wrong:
            lost = np.log1p(np.exp(node[u] @ node[23 + j] - node[u] @ node[23 + i]))
            expected += lost / (3 * len(wrong))
        squares = (own[u] ** 2).sum() + (first[i] ** 2).sum() + sum((first[j] ** 2).sum() for j in wrong)
        expected += 0.5 * 0.1 * squares / 3
    assert float(made.loss(users, items, np.random.default_rng(0)).detach()) == pytest.approx(expected)


@pytest.mark.parametrize(
    "more", [{"train_users": True}, {"loss": "sampled_softmax", "negatives": 8}], ids=["users", "softmax"]
)
def test_other_ways_to_train_lightgcn_learn_too(more, two_tastes):
    model = fit("lightgcn", two_tastes, factors=8, epochs=60, learning_rate=0.02, **more)
    listed = model.recommend(two_tastes.queries(), 2, two_tastes.catalogue, "x")
    taste = {"a": "p", "b": "q"}
    assert all(item[0] == taste[user[0]] for user, item in listed["user_id", "item_id"].iter_rows())


# SimpleX


def test_simplex_scores_by_loops(lopsided):
    model = fit("simplex", lopsided, factors=6, epochs=3, repeats="sum")
    x, scores = learned(lopsided, "sum").toarray(), model.score(lopsided.queries())
    np.testing.assert_allclose(np.linalg.norm(model.factors[:11], axis=1), 1, rtol=1e-6)
    for user in range(23):
        mean = sum(x[user, j] * model.pooling[j].astype(np.float64) for j in range(11)) / x[user].sum()
        expected = [mean @ e / np.linalg.norm(mean) for e in model.factors[:11]]
        np.testing.assert_allclose(scores[user, :11], expected, rtol=1e-5, atol=1e-7)
    assert np.isnan(scores[:, UNTOUCHED]).all()
    assert np.nanmax(np.abs(scores)) <= 1 + 1e-6


def test_simplex_loss_by_loops_leaves_the_target_out(lopsided, monkeypatch):
    matrix = learned(lopsided, "sum")
    with training.reproducible(0):
        made = SimpleXNetwork(matrix.shape[1], 4, 5, 0.2, 7.0, 0.0, Sampler.uniform(11))
    with torch.no_grad():
        made.map += 0.1 * torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    drawn = np.array([0, 2, 5, 5, 9])
    monkeypatch.setattr(Sampler, "draw", lambda *_: drawn)
    x, e = matrix.toarray().astype(np.float64), made.items.detach().double().numpy()
    v = made.map.detach().double().numpy()
    able = [u for u in range(23) if (x[u] > 0).sum() > 1][:6]
    pairs = np.array([(u, int(np.flatnonzero(x[u])[n % 2])) for n, u in enumerate(able)])
    lost = []
    for user, item in pairs:
        others = x[user].copy()
        others[item] = 0
        mean = others @ e / others.sum() @ v
        near = [mean @ e[j] / np.linalg.norm(mean) / np.linalg.norm(e[j]) for j in range(11)]
        wrong = [max(0.0, near[j] - 0.2) if x[user, j] == 0 else 0.0 for j in drawn]
        lost.append(1 - near[item] + 7 * sum(wrong) / 5)
    found = made.eval().loss(matrix, np.random.default_rng(0), pairs)
    assert float(found.detach()) == pytest.approx(np.mean(lost), rel=1e-5)


# Mult-VAE


def test_mult_vae_scores_by_loops(lopsided):
    model = fit("mult_vae", lopsided, hidden=7, latent=3, epochs=4, repeats="sum", learning_rate=0.05)
    x, scores = learned(lopsided, "sum").toarray(), model.score(lopsided.queries())
    w = {name: value.astype(np.float64) for name, value in model.weights.items()}
    for user in range(23):
        row = x[user] / np.sqrt((x[user] ** 2).sum())
        h = np.tanh(row @ model.reading[:11].astype(np.float64) + w["read_bias"])
        mean = (w["encode.weight"] @ h + w["encode.bias"])[:3]
        h = np.tanh(w["decode.weight"] @ mean + w["decode.bias"])
        expected = model.factors[:11, :-1] @ h + model.factors[:11, -1]
        np.testing.assert_allclose(scores[user, :11], expected, rtol=1e-5, atol=1e-7)
    assert np.isnan(scores[:, UNTOUCHED]).all()


def test_mult_vae_bound_by_loops(lopsided):
    rows = learned(lopsided, "sum")[:5]
    with training.reproducible(0):
        made = MultVAENetwork(11, 7, 3, 0.5, beta=0.4, anneal_steps=4).eval()
    with torch.no_grad():
        logits, (_, mean, spread) = made(rows).double().numpy(), made.hidden(rows)
    x, mean, spread = rows.toarray(), mean.double().numpy(), spread.double().numpy()
    for step in range(1, 7):
        expected = 0.0
        for user in range(5):
            log_p = logits[user] - np.log(np.exp(logits[user]).sum())
            divergence = 0.5 * (mean[user] ** 2 + np.exp(spread[user]) - 1 - spread[user]).sum()
            expected += (0.4 * min(1, step / 4) * divergence - x[user] @ log_p) / 5
        assert float(made.loss(rows).detach()) == pytest.approx(expected, rel=1e-5)


# BPR


def test_bpr_says_what_to_lower_where_it_diverges(lopsided):
    with pytest.raises(ContractError, match=r"bpr diverged: lower learning_rate \(now 1e\+20\)"):
        fit("bpr", lopsided, factors=3, iterations=20, learning_rate=1e20)


def test_bpr_maps_histories_to_vectors_by_ridge_regression(lopsided, monkeypatch):
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    theirs = []
    trained = BayesianPersonalizedRanking.fit

    def spy(self, *args, **more):
        trained(self, *args, **more)
        theirs.append(self)

    monkeypatch.setattr(BayesianPersonalizedRanking, "fit", spy)
    model = fit("bpr", lopsided, factors=3, iterations=20, repeats="sum", map_l2=0.7)
    assert np.isnan(model.factors[UNTOUCHED]).all()
    np.testing.assert_array_equal(model.factors[:11], theirs[0].item_factors[:11])
    x, y = learned(lopsided, "sum").toarray(), model.factors[:11].astype(np.float64)
    f = []
    for row in x:
        total, count = sum(value * vector[:3] for value, vector in zip(row, y, strict=True)), row.sum()
        f.append([*(total / count**0.5), *(total / count), 1.0])
    f = np.array(f)
    wide = np.vstack([f, np.sqrt(0.7) * np.eye(7)])  # a ridge is least squares with rows for the penalty
    aim = np.vstack([theirs[0].user_factors[:, :3], np.zeros((7, 3))])
    expected, *_ = np.linalg.lstsq(wide, aim, rcond=None)
    np.testing.assert_allclose(model.map, expected, rtol=1e-5, atol=1e-7)
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores[:, :11], f @ expected @ y[:, :3].T + y[:, 3], rtol=1e-4, atol=1e-6)


# Early stopping


def test_cells_are_held_out_of_some_users_only(lopsided):
    matrix = lopsided.train.matrix("sum")
    held = HeldOut.of(matrix, 6, seed=2)
    assert len(held.users) == 6
    together = held.matrix.toarray()
    together[held.users] += held.truth.toarray()
    np.testing.assert_array_equal(together, matrix.toarray())
    taken, had = np.diff(held.truth.indptr), np.diff(matrix.indptr)[held.users]
    assert (taken == np.maximum(1, had * 0.2).astype(int)).all()
    assert (np.diff(held.matrix.indptr)[held.users] > 0).all()
    assert HeldOut.of(csr_matrix(np.eye(3, dtype=np.float32)), 2, 0) is None


def test_held_out_ndcg_by_loops(lopsided):
    held = HeldOut.of(lopsided.train.matrix("binary"), 23, seed=0)
    weights = np.random.default_rng(0).normal(size=(14, 14)).astype(np.float32)
    gains = []
    for n, user in enumerate(held.users):
        past, truth = held.matrix[user].toarray()[0], np.flatnonzero(held.truth[n].toarray()[0])
        order = [i for i in np.argsort(-(past @ weights)) if not past[i]][:10]
        found = sum(1 / np.log2(2 + order.index(i)) for i in truth if i in order)
        gains.append(found / sum(1 / np.log2(2 + r) for r in range(len(truth))))
    assert held.ndcg(lambda past: past @ weights) == pytest.approx(np.mean(gains), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("mult_vae", {"hidden": 12, "latent": 4}),
        *((n, {"factors": 8}) for n in ("graph_content", "lightgcn", "simplex")),
    ],
)
def test_patience_stops_a_fit(name, more, crowd):
    seen = []
    with watch.watching(seen.append):
        fit(name, crowd, epochs=200, patience=2, learning_rate=0.03, **more)
    values = [p.validation for p in seen]
    assert 2 < len(values) < 200
    assert max(values[-2:]) <= max(values[:-2])


# ALS solved by items or by factors


@pytest.mark.parametrize("alpha", [0.1, 1.0, 9.0])
def test_als_folds_a_history_in_alike_by_its_items_and_by_factors(alpha, lopsided, monkeypatch):
    kind = RECOMMENDERS["als"]
    config = kind.config_class(factors=5, alpha=alpha, l2=0.3, repeats="sum")
    model = kind(config).fit(lopsided.train)

    def scores(short):
        monkeypatch.setattr(als, "SHORT", short)
        return model.score(lopsided.queries())

    for _ in range(2):
        by_items, by_factors = scores(99), scores(0)
        np.testing.assert_allclose(by_items, by_factors, rtol=1e-5, atol=1e-7)
        model.update(lopsided.train)  # what was kept of the vectors before is of no use


# ALS with a penalty that grows with a row


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_als_vectors_solve_their_own_equations(power, lopsided):
    """At the end of many alternations every item's and every query's vector is its own ridge regression."""
    kind = RECOMMENDERS["als"]
    config = kind.config_class(factors=3, alpha=4.0, l2=0.3, l2_power=power, iterations=400, repeats="sum")
    model = kind(config)
    users = model.fit_users(lopsided.train).astype(np.float64)
    x = lopsided.train.matrix("sum").toarray().astype(np.float64)
    y = np.nan_to_num(model.factors).astype(np.float64)

    def solved(cells, others):
        penalty = 0.3 * ((cells > 0).sum() + len(cells) / 4.0) ** power
        confidence = np.where(cells > 0, 4.0 * cells, 1.0)
        system = (others.T * confidence) @ others + penalty * np.eye(3)
        return np.linalg.solve(system, others.T @ np.where(cells > 0, confidence, 0.0))

    for item in range(11):
        np.testing.assert_allclose(y[item], solved(x[:, item], users), rtol=0.03, atol=0.005)
    model.items = lopsided.train.items
    scores = model.score(lopsided.queries())
    for user in range(23):
        expected = y @ solved(x[user], y)
        np.testing.assert_allclose(scores[user, :11], expected[:11], rtol=0.02, atol=0.003)
        np.testing.assert_allclose(y @ users[user], expected, rtol=0.05, atol=0.01)
