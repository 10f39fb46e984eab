"""What one request costs, and how a fit grows: of every recommender, with the harness's own clock."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from benchmarks.process import Figures, NotReached
from benchmarks.speed_world import AS_OF, covering, words, world
from recsys.models import RECOMMENDERS
from recsys.recommender import NotApplicableError

K = 20
WARM = 20  # requests before the clock counts

# What makes a fit short where its length does not change what a request costs.
SHORT: Mapping[str, Mapping[str, Any]] = {
    "als": {"iterations": 3},
    "bpr": {"iterations": 3},
    "slim": {"rounds": 5},
}
# Memory or time of a fit grows faster than the interactions: not beyond so many.
GROWTH: Mapping[str, int] = {
    "popularity": 10_000_000, "user_knn": 10_000_000, "item_knn": 10_000_000, "rp3beta": 10_000_000,
    "ease": 10_000_000, "als": 10_000_000, "bpr": 10_000_000, "graph_filter": 10_000_000,
    "covisitation": 10_000_000, "content_tags": 10_000_000, "sequential_ease": 1_000_000, "slim": 10_000_000,
    "association_rules": 10_000_000, "lightgcn": 1_000_000, "mult_vae": 10_000_000, "sasrec": 10_000_000,
}  # fmt: skip
ONE_EPOCH = {"epochs": 1}


def live(source: str, name: str, requests: int) -> Figures:
    """Fit one recommender, then answer one user at a time: from their INTERACTIONS to K rows.

    What is fitted by gradient descent is fitted for one epoch on a small log that names every item.
    """
    place = world(source)
    kind = RECOMMENDERS[name]
    small = kind.cost == "gradient"
    settings = ONE_EPOCH if small else SHORT.get(name, {})
    texts = words(place)
    train = covering(place) if small else replace(place.train, vectors=texts, brought={"texts": texts})
    begun = time.perf_counter()
    try:
        model = kind(kind.config_class(**settings)).fit(train)
    except NotApplicableError as reason:
        raise NotReached(str(reason)) from None
    fitted = time.perf_counter() - begun
    drawn = place.log["user_id"].unique().sort().sample(WARM + requests, seed=0, with_replacement=True)
    logs = place.log.filter(pl.col("user_id").is_in(drawn.implode())).partition_by("user_id", as_dict=True)
    asked = [(user, logs[(user,)]) for user in drawn.to_list()]
    took, listed = [], 0
    for n, (user, log) in enumerate(asked):
        started = time.perf_counter()
        queries = place.catalogue.queries([user], log, AS_OF + timedelta(seconds=n))
        ranked = model.rank(queries, K, place.catalogue)
        took.append((time.perf_counter() - started) * 1000)
        listed += int(ranked.lengths[0])
    measured = took[WARM:]
    return {
        "seconds": fitted,
        "p50_ms": float(np.percentile(measured, 50)),
        "p99_ms": float(np.percentile(measured, 99)),
        "items": len(place.catalogue.items),
        "listed": listed / len(asked),
    }


def growth(name: str, interactions: int) -> Figures:
    """Fit one recommender on so many simulated interactions."""
    place = world(str(interactions))
    kind = RECOMMENDERS[name]
    train = place.train
    settings = {**ONE_EPOCH} if kind.cost == "gradient" else {}
    if name == "sasrec":
        settings |= {"loss": "sampled_softmax"}
    begun, spent = time.perf_counter(), time.process_time()
    kind(kind.config_class(**settings)).fit(train)
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_s": time.process_time() - spent,
        "interactions": len(place.log),
        "users": len(train.users),
        "items": len(train.items),
    }
