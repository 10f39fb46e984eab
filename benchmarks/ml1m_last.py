"""Leave-last-out on MovieLens 1M in SASRec's order: every recommender, HR@10 and NDCG@10, full ranking.

`ml_1m_sequences` holds 6,040 users, 3,416 items and 999,611 interactions in order, without times. Each
user's last item is the truth; all else they did is history, training and masked. *validated* rows choose
on each user's second-last item (a fifth of the items where a recommender reads no order and stops early
by itself), freeze settings and epochs, fit again on train with the cut, and score the test once; *fixed*
rows have nothing to choose. The protocol leaks what others did later, like every leave-last-out.

    python -m benchmarks.ml1m_last --data DIR --rows ease,sasrec
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.process import Figures, NotReached, Task
from benchmarks.report import Benchmark, Plan, Row, count
from benchmarks.transductive import KINDS, transductive
from profiles.schema import INTERACTIONS, ITEMS, TIME
from recsys import training
from recsys.dataset import Catalogue, Dataset
from recsys.evaluation import EvaluationConfig, measure_split, queries
from recsys.recommender import Recommender
from recsys.split import Split, splits

FILE = "ml_1m_sequences/sequences.parquet"
K = 10
QUICK_USERS = 150
BEGIN = datetime(2000, 1, 1, tzinfo=UTC)  # places in a history, shown as seconds from here
CONFIG = EvaluationConfig(split="leave_last_out", metrics=("hit_rate", "ndcg"), ks=(K,))
FIGURES = (f"hit_rate@{K}", f"ndcg@{K}", "fit_s", "select_s", "rank_s")
# SASRec reads the whole file in steps of 32 users: of 128 there are too few in an epoch to learn by.
STOPPED: dict[str, Any] = {"patience": 10, "validation_users": 10_000}
SEQUENCES: dict[str, Any] = {**STOPPED, "epochs": 200, "batch_size": 32}

# What each row chooses from; one choice is none, unless it stops early. Grids were moved on where the
# validation cut chose an edge.
CHOICES: dict[str, list[dict[str, Any]]] = {
    "popularity": [{}],
    "item_knn": [{"neighbours": n, "shrinkage": s} for n in (5, 10, 20, 50, 100) for s in (0.0, 10.0)],
    "ease": [{"l2": l2} for l2 in (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)],
    "als": [
        {"factors": f, "alpha": a, "l2": r} for f in (64, 128) for a in (0.3, 1.0) for r in (1.0, 10.0, 30.0)
    ],
    "bpr": [{"factors": f, "l2": r} for f in (64, 128) for r in (0.003, 0.01)],
    "mult_vae": [{**STOPPED, "epochs": 200, "beta": b} for b in (0.1, 0.2)],
    "lightgcn": [{**STOPPED, "epochs": 60, "loss": "sampled_softmax", "negatives": 1024, "batch_size": 8192}],
    "simplex": [{**STOPPED, "epochs": 60, "margin": m} for m in (0.2, 0.4)],
    "caser": [SEQUENCES],
    "gru4rec": [{**SEQUENCES, "factors": 128}],
    "bert4rec": [{**SEQUENCES, "patience": 20}],
    "sasrec": [{**SEQUENCES, "factors": f} for f in (64, 128)],
}
CHOICES |= transductive(CHOICES)


def last(data: str, recommender: str, choices: str, users: int, epochs: int) -> Figures:
    """Choose, fit, rank the last items once, and measure."""
    log = interactions(Path(data), users)
    catalogue = whole_catalogue(log)
    test = cut(log, catalogue)
    begun = time.perf_counter()
    settings = choose(recommender, json.loads(choices), test, catalogue, epochs)
    selected = time.perf_counter()
    model = fit(recommender, settings, test)(catalogue)
    fitted = time.perf_counter()
    found = score(model, test, catalogue)
    return {
        **{f"{metric}@{K}": value for metric, value in found.items()},
        "fit_s": fitted - selected,
        "select_s": selected - begun,
        "rank_s": time.perf_counter() - fitted,
        "users": test.counts["users"],
        "settings": json.dumps(settings),
    }


def interactions(data: Path, users: int = 0) -> pl.DataFrame:
    """Return INTERACTIONS whose times are places in the history; the first `users` only, unless 0."""
    if not (data / FILE).exists():
        raise NotReached(f"{data / FILE} is not there: give --data, or set ATTUNE_DATA")
    rows = pl.read_parquet(data / FILE).sort("user", "pos")
    if users:
        rows = rows.filter(pl.col("user") <= users)
    return INTERACTIONS.conform(
        rows.select(
            pl.col("user").cast(pl.String).alias("user_id"),
            pl.col("item").cast(pl.String).alias("item_id"),
            pl.lit("rating").alias("event_type"),
            pl.lit(1.0, pl.Float32).alias("weight"),
            (pl.lit(BEGIN) + pl.duration(seconds="pos")).cast(TIME).alias("timestamp"),
        )
    )


def whole_catalogue(log: pl.DataFrame) -> Catalogue:
    """Return every item, on offer at every moment: the places are no times."""
    items = log.select(pl.col("item_id").unique().sort()).with_columns(
        pl.lit(BEGIN).cast(TIME).alias("available_from")
    )
    last_place = log["timestamp"].max()
    assert isinstance(last_place, datetime)
    return Catalogue.of(ITEMS.conform(items), log, last_place)


def cut(log: pl.DataFrame, catalogue: Catalogue) -> Split:
    """Take everybody's last item as the truth."""
    return splits(log, catalogue, CONFIG, timeless=True)[0]


def fit(recommender: str, settings: Mapping[str, Any], split: Split) -> Any:
    """Return a function of the catalogue that fits on a split's train."""
    kind = KINDS[recommender]
    model = kind(kind.config_class(**settings))
    return lambda catalogue: model.fit(Dataset.of(split.train, catalogue, split.at, timeless=True))


def score(model: Recommender, split: Split, catalogue: Catalogue) -> dict[str, float]:
    """Return the mean of each metric over a split's users."""
    listed = model.recommend(queries(split, catalogue, CONFIG), K, catalogue, "row")
    means = measure_split(listed, split, catalogue, CONFIG).group_by("metric").agg(pl.col("value").mean())
    return dict(means.iter_rows())


def choose(
    recommender: str, choices: list[dict[str, Any]], test: Split, catalogue: Catalogue, epochs: int
) -> dict[str, Any]:
    """Return the settings that do best on a cut of train, with the epochs that were best.

    `epochs` above 0 means: no choice, the first settings and so many epochs where there are epochs.
    """
    stops = "patience" in choices[0]
    if epochs:
        kept = {k: v for k, v in choices[0].items() if k not in STOPPED}
        return {**kept, "epochs": epochs} if stops else kept
    if len(choices) == 1 and not stops:
        return choices[0]
    found: list[tuple[float, dict[str, Any]]] = []
    for settings in choices:
        if stops:
            # Its own hold-out is the last of what it is given: each user's second-last item.
            seen: list[training.Progress] = []
            with training.watching(seen.append):
                fit(recommender, settings, test)(catalogue)
            value, epoch = max((p.validation, -p.epoch) for p in seen if p.validation is not None)
            kept = {k: v for k, v in settings.items() if k not in STOPPED}
            found.append((value, {**kept, "epochs": -epoch}))
        else:
            earlier = cut(test.train, catalogue)
            model = fit(recommender, settings, earlier)(catalogue)
            found.append((score(model, earlier, catalogue)["ndcg"], settings))
    return max(found, key=lambda pair: pair[0])[1]


def plan(args: argparse.Namespace) -> Plan:
    """One row a recommender."""
    missing = "" if (args.data / FILE).exists() else f"{FILE} is not in --data, nor in ATTUNE_DATA"
    users, epochs = (QUICK_USERS, args.epochs or 2) if args.quick else (0, args.epochs or 0)
    counts = {"users": 0, "items": 0, "interactions": 0}
    if not missing:
        log = interactions(args.data, users)
        counts = {
            "users": log["user_id"].n_unique(),
            "items": log["item_id"].n_unique(),
            "interactions": len(log),
        }
    rows = []
    for name, choices in CHOICES.items():
        chosen = not epochs and (len(choices) > 1 or "patience" in choices[0])
        asked = {"recommender": name, "choices": json.dumps(choices), "users": users, "epochs": epochs}
        rows.append(
            Row(
                name,
                Task(last, {"data": args.data, **asked}),
                FIGURES,
                measured=("recsys",),
                facts={"selection": "validated" if chosen else "fixed"},
                skipped=missing,
            )
        )
    return Plan(counts, rows)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark alone takes."""
    parser.add_argument(
        "--epochs", type=count, help="no choosing: the first settings, so many epochs, for a short run"
    )
    if folder := os.environ.get("ATTUNE_DATA"):
        parser.set_defaults(data=Path(folder))


if __name__ == "__main__":
    Benchmark("ml1m_last", "Leave-last-out on MovieLens 1M.", plan, options).main()
