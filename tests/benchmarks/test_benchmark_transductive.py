"""Scoring with trained user rows, against those who trained them."""

import numpy as np
import pytest
import torch
from torch_geometric.nn import LGConv

from benchmarks.transductive import KINDS, MORE, transductive
from recsys import training
from recsys.models import RECOMMENDERS


def fit(name, world, **config):
    kind = KINDS[name]
    return kind(kind.config_class(**config)).fit(world.train)


@pytest.mark.parametrize("name", ["als", "bpr"])
def test_lists_are_implicits_own(name, lopsided, monkeypatch):
    import implicit.cpu

    of = {
        "als": implicit.cpu.als.AlternatingLeastSquares,
        "bpr": implicit.cpu.bpr.BayesianPersonalizedRanking,
    }
    theirs, trained = [], of[name].fit

    def spy(self, *args, **more):
        trained(self, *args, **more)
        theirs.append(self)

    monkeypatch.setattr(of[name], "fit", spy)
    model = fit(f"{name}_transductive", lopsided, factors=4)
    ranked = model.rank(lopsided.queries(), 11, lopsided.catalogue)
    matrix = lopsided.train.matrix("binary")
    for user in range(23):
        ids, scores = theirs[0].recommend(user, matrix[user], N=14, filter_already_liked_items=True)
        listed = [(i, s) for i, s in zip(ids, scores, strict=True) if i < 11 and not matrix[user, i]]
        length = len(listed)
        assert ranked.rows[user, :length].tolist() == [i for i, _ in listed]
        assert (ranked.rows[user, length:] == -1).all()
        np.testing.assert_allclose(ranked.scores[user, :length], [s for _, s in listed], rtol=1e-4)


def test_lightgcn_scores_with_the_users_own_nodes(lopsided, monkeypatch):
    learned, train = [], training.train

    def spy(task, config):
        learned.append(task.module)
        return train(task, config)

    monkeypatch.setattr(training, "train", spy)
    settings = {"factors": 6, "epochs": 5, "learning_rate": 0.05, "repeats": "sum"}
    model = fit("lightgcn_transductive", lopsided, **settings, train_users=True)
    matrix = lopsided.train.matrix("sum")[:, :11].tocoo()
    pairs = np.stack([matrix.row, matrix.col + 23]).astype(np.int64)
    index, weight = np.hstack([pairs, pairs[::-1]]), np.concatenate([matrix.data, matrix.data])
    layers = [torch.cat([learned[0].users, learned[0].items]).detach()]
    for _ in range(3):
        layers.append(LGConv()(layers[-1], torch.from_numpy(index), torch.from_numpy(weight)))
    nodes = torch.stack(layers).mean(0).numpy()
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores[:, :11], nodes[:23] @ nodes[23:].T, rtol=1e-3, atol=1e-5)
    folded = fit("lightgcn", lopsided, **settings, train_users=True).score(lopsided.queries())
    assert not np.allclose(scores[:, :11], folded[:, :11], rtol=0.01)
    # Without first vectors of their own, trained users are what their histories fold in to.
    scores = fit("lightgcn_transductive", lopsided, **settings).score(lopsided.queries())
    folded = fit("lightgcn", lopsided, **settings).score(lopsided.queries())
    np.testing.assert_allclose(scores, folded, rtol=1e-3, atol=1e-5)


def test_a_user_is_their_name_and_nothing_else(lopsided):
    model = fit("als_transductive", lopsided, factors=4)
    known = lopsided.queries()
    silent = lopsided.ask({user: [] for user in known.ids})
    assert np.array_equal(model.score(silent), model.score(known), equal_nan=True)
    assert np.isnan(model.score(lopsided.ask({"stranger": ["i00", "i01"]}))).all()


def test_rows_are_the_folded_in_ones_again_and_nothing_released():
    grids = {"ease": [{}], "bpr": [{"factors": 8}, {"factors": 16}], "lightgcn": [{"epochs": 3}]}
    assert transductive(grids) == {
        "bpr_transductive": grids["bpr"],
        "lightgcn_transductive": [{"epochs": 3, "train_users": True}],
    }
    assert set(KINDS) - set(RECOMMENDERS) == {f"{name}_transductive" for name in MORE}
