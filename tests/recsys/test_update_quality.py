"""An update is as good as the fit it replaces, on the simulated shop, for one of each family."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

from profiles.interactions import InteractionsConfig, interactions
from profiles.simulate import WorldConfig, simulate
from recsys import watch
from recsys.dataset import Catalogue, Dataset
from recsys.evaluation import EvaluationConfig, measure_split, queries
from recsys.models import RECOMMENDERS
from recsys.recommender import Recommender
from recsys.significance import paired
from recsys.split import Split, splits

CONFIG = EvaluationConfig(metrics=("ndcg",), ks=(10,), quantile=0.8)
WITHIN = 0.01  # of the fit's NDCG, or within what so few users can tell
NEVER_BELOW = 0.9  # of the fit's NDCG, whatever they can tell
GRAPH = {
    "factors": 16,
    "epochs": 12,
    "update_epochs": 3,
    "batch_size": 512,
    "learning_rate": 0.03,
    "loss": "sampled_softmax",
    "negatives": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "als": {"factors": 16, "l2": 5.0},
    "ease": {"l2": 50.0},
    "graph_content": GRAPH,
    "lightgcn": GRAPH,
    "mult_vae": {"hidden": 32, "latent": 16, "epochs": 30, "batch_size": 32, "learning_rate": 0.003},
    "sasrec": {
        "factors": 16,
        "max_length": 20,
        "epochs": 30,
        "update_epochs": 8,
        "batch_size": 32,
        "learning_rate": 0.005,
    },
}


@dataclass(frozen=True)
class Shop:
    """What came later, the log and catalogue up to it, and those of a while before."""

    split: Split
    catalogue: Catalogue
    train: Dataset
    then: Dataset


@pytest.fixture(scope="module")
def shop() -> Shop:
    world = simulate(WorldConfig(users=400, items=120, events=10_000, days=60))
    log = interactions(world.events, InteractionsConfig())
    last = log["timestamp"].max()
    catalogue = Catalogue.of(world.items, log, last)
    (split,) = splits(log, catalogue, CONFIG)
    before = split.train.head(int(0.9 * len(split.train)))
    moment = before["timestamp"].max()
    known = world.items.filter(pl.col("available_from") <= moment)
    then = Dataset.of(before, Catalogue.of(known, before, moment), moment)
    return Shop(split, catalogue, Dataset.of(split.train, catalogue, split.at), then)


def ndcg(model: Recommender, shop: Shop) -> np.ndarray:
    listed = model.recommend(queries(shop.split, shop.catalogue, CONFIG), 10, shop.catalogue, "row")
    return measure_split(listed, shop.split, shop.catalogue, CONFIG).sort("user_id")["value"].to_numpy()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_it_is_about_as_good_as_a_fit_and_takes_a_fraction(name, shop):
    assert len(shop.then.items) < len(shop.train.items)
    assert len(shop.then.users) < len(shop.train.users)
    kind = RECOMMENDERS[name]
    config = kind.config_class(**FAMILIES[name])
    model, fresh = kind(config).fit(shop.then), kind(config)
    steps: dict[str, int] = {}
    for what, work in (("update", model.update), ("fit", fresh.fit)):
        seen: list[watch.Progress] = []
        with watch.watching(seen.append):
            work(shop.train)
        steps[what] = sum(p.steps for p in seen)
    new, full = ndcg(model, shop), ndcg(fresh, shop)
    assert paired(new, full).high >= -WITHIN * full.mean()
    assert new.mean() >= NEVER_BELOW * full.mean()
    assert full.mean() > 0.05
    assert steps["update"] <= steps["fit"] / 3  # of gradient descent, where there is any
