"""Updates against fits on MovieLens 1M by time: what a warm start costs, and what it gives up.

All ratings but the 249 without a time, cut where `recsys.split` cuts by time: the first 90 % are train,
truth is what its users rate for the first time after it. A recommender is fitted on the first 90 % of
train, updated with the whole of it, and held against a fit on the whole; both rank the same queries once.
`seconds` is the update's time on the processor, `fit_s` that of the full fit, `ratio` how much less the
update takes; `ndcg@10` is the update's, `ndcg_full` the fit's, `ndcg_old` that of the old model with no
update at all. Settings are fixed.

    python -m benchmarks.update --data DIR --rows als,sasrec
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.process import Figures, NotReached, Task
from benchmarks.report import Benchmark, Plan, Row, count
from profiles.schema import INTERACTIONS, ITEMS
from recsys.dataset import Catalogue, Dataset
from recsys.evaluation import EvaluationConfig, measure_split, queries
from recsys.models import RECOMMENDERS
from recsys.recommender import Recommender
from recsys.split import Split, splits

FILE = "ml_1m/ratings.parquet"
K = 10
SHARE = 0.9  # of train that is known before the update
QUICK_ROWS = 20_000
CONFIG = EvaluationConfig(split="temporal", metrics=("ndcg",), ks=(K,))
FIGURES = (f"ndcg@{K}", "ndcg_full", "ndcg_old", "kept", "seconds", "fit_s", "ratio")

# Of 128 users a step there are too few steps in an epoch.
SEQUENCES: dict[str, Any] = {"batch_size": 32, "learning_rate": 0.004, "schedule": "linear"}
SETTINGS: dict[str, dict[str, Any]] = {
    "item_knn": {},
    "ease": {},
    "graph_filter": {},
    "als": {"l2": 10.0},
    "bpr": {},
    "mult_vae": {"epochs": 60},
    "simplex": {"epochs": 12, "batch_size": 4096, "weight": 5.0},
    "lightgcn": {"epochs": 60, "batch_size": 32_768, "learning_rate": 0.01},
    "gru4rec": {"epochs": 12, **SEQUENCES},
    "caser": {"epochs": 12, **SEQUENCES},
    "bert4rec": {"epochs": 30, **SEQUENCES, "learning_rate": 0.002},
    "sasrec": {"epochs": 12, **SEQUENCES, "learning_rate": 0.002},
}


def compare(data: str, recommender: str, settings: str, rows: int) -> Figures:
    """Fit on the old log, update, fit anew, and measure all three on what came later."""
    log = interactions(Path(data), rows)
    catalogue = Catalogue.of(ITEMS.empty(), log, _last(log))
    (test,) = splits(log, catalogue, CONFIG)
    before = test.train.head(int(SHARE * len(test.train)))
    then = Catalogue.of(
        ITEMS.empty(), before, _last(before)
    )  # what is new to a model is new to its catalogue
    kind = RECOMMENDERS[recommender]
    config = kind.config_class(**json.loads(settings))
    model = kind(config).fit(Dataset.of(before, then, _last(before)))
    old = score(model, test, then)
    train = Dataset.of(test.train, catalogue, test.at)
    updated = _seconds(lambda: model.update(train))
    fresh = kind(config)
    fitted = _seconds(lambda: fresh.fit(train))
    new, full = score(model, test, catalogue), score(fresh, test, catalogue)
    return {
        f"ndcg@{K}": new,
        "ndcg_full": full,
        "ndcg_old": old,
        "kept": new / full,
        "seconds": updated,
        "fit_s": fitted,
        "ratio": fitted / updated,
        "users": test.counts["users"],
        "new_users": len(train.users) - before["user_id"].n_unique(),
        "new_items": test.train["item_id"].n_unique() - before["item_id"].n_unique(),
        "settings": settings,
    }


def interactions(data: Path, rows: int = 0) -> pl.DataFrame:
    """Return INTERACTIONS, oldest first; the first `rows` only, unless 0."""
    if not (data / FILE).exists():
        raise NotReached(f"{data / FILE} is not there: give --data, or set ATTUNE_DATA")
    ratings = pl.read_parquet(data / FILE).drop_nulls("timestamp")
    ordered = ratings.sort("timestamp", "seq_pos", "user_id", "movie_id")
    return INTERACTIONS.conform(
        (ordered.head(rows) if rows else ordered).select(
            pl.col("user_id").cast(pl.String),
            pl.col("movie_id").cast(pl.String).alias("item_id"),
            pl.lit("rating").alias("event_type"),
            pl.lit(1.0, pl.Float32).alias("weight"),
            pl.from_epoch("timestamp", "s").dt.replace_time_zone("UTC").dt.cast_time_unit("us"),
        )
    )


def score(model: Recommender, split: Split, catalogue: Catalogue) -> float:
    """Return the mean NDCG@K over a split's users."""
    listed = model.recommend(queries(split, catalogue, CONFIG), K, catalogue, "row")
    mean = measure_split(listed, split, catalogue, CONFIG)["value"].mean()
    assert isinstance(mean, float)
    return mean


def _last(log: pl.DataFrame) -> datetime:
    found = log["timestamp"].max()
    assert isinstance(found, datetime)
    return found


def _seconds(work: Callable[[], object]) -> float:
    """Do the work; returns the seconds all processors spent on it, so that a busy machine counts nothing."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def plan(args: argparse.Namespace) -> Plan:
    """One row a recommender."""
    missing = "" if (args.data / FILE).exists() else f"{FILE} is not in --data, nor in ATTUNE_DATA"
    first, epochs = (QUICK_ROWS, args.epochs or 2) if args.quick else (0, args.epochs)
    counts = {"users": 0, "items": 0, "interactions": 0}
    if not missing:
        log = interactions(args.data, first)
        counts = {
            "users": log["user_id"].n_unique(),
            "items": log["item_id"].n_unique(),
            "interactions": len(log),
        }
    rows = []
    for name, settings in SETTINGS.items():
        chosen = {**settings, "epochs": epochs} if epochs and "epochs" in settings else settings
        asked = {"data": args.data, "recommender": name, "settings": json.dumps(chosen), "rows": first}
        rows.append(
            Row(
                name,
                Task(compare, asked),
                FIGURES,
                measured=("recsys",),
                facts={"selection": "fixed", "peer": "fit"},
                skipped=missing,
            )
        )
    return Plan(counts, rows)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark alone takes."""
    parser.add_argument("--epochs", type=count, help="epochs of a fit, where it has epochs, for a short run")
    if folder := os.environ.get("ATTUNE_DATA"):
        parser.set_defaults(data=Path(folder))


if __name__ == "__main__":
    Benchmark("update", "Updates against fits on MovieLens 1M by time.", plan, options).main()
