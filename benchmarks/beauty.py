"""Leave-last-out on Amazon Beauty, S3Rec's 5-core file: every recommender, HR@10 and NDCG@10, full ranking.

`beauty_sequences` holds 22,363 users, 12,101 items and 198,502 interactions in order, without times, and
the items' categories. See `leave_last_out` for the protocol and `selection` for how rows choose.

    python -m benchmarks.beauty --data DIR --rows ease,sasrec
"""

import argparse
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import leave_last_out, selection
from benchmarks.ml1m_last import FALLING
from benchmarks.report import Benchmark, Plan
from benchmarks.selection import Grids
from benchmarks.trials import Stage, Table

FILE, ITEMS_FILE = "beauty_sequences/sequences.parquet", "beauty_sequences/items.parquet"
STOPPED: dict[str, Any] = {"patience": 6, "validation_users": 1000, "epochs": 100}
# A sequence recommender stops by the cut itself, all users of it.
SEQUENCES: dict[str, Any] = {**STOPPED, "validation_users": 30_000, "max_length": 50, "dropout": 0.5}
FALLS: dict[str, Any] = {**SEQUENCES, **FALLING, "epochs": 40, "patience": 40}
# Large batches and long steps: what a step of a graph costs hardly grows with its pairs.
SPREAD: dict[str, Any] = {**STOPPED, "patience": 10, "epochs": 150, "batch_size": 8192, "learning_rate": 0.01}
GRIDS: Grids = {
    "popularity": [{}],
    "random": [{}],
    "user_knn": [
        {"neighbours": n, "item_power": p, "asymmetry": a}
        for n in (100, 500) for p in (0.0, 0.5) for a in (0.3, 0.5)
    ],
    "item_knn": [
        {"neighbours": 200, "shrinkage": s, "user_power": p, "asymmetry": a}
        for s in (3.0, 10.0) for p in (0.0, 0.5) for a in (0.7, 0.85)
    ],
    "rp3beta": [{"neighbours": 200, "alpha": a, "beta": b} for a in (0.5, 0.7) for b in (0.0, 0.1, 0.3)],
    "ease": [{"l2": l2} for l2 in (30.0, 150.0)],
    "slim": [{"l1": l1, "l2": l2} for l1 in (0.01, 0.1) for l2 in (1.0, 10.0)],
    "graph_filter": [{"low_pass": w, "neighbours": 1500} for w in (0.05, 0.2)],
    "als": [{"factors": 128, "alpha": a, "l2": r} for a in (3.0, 10.0) for r in (1.0, 10.0)],
    "bpr": [{"factors": 128, "l2": r} for r in (0.003, 0.01)],
    "association_rules": [{"min_support": n} for n in (1, 2)],
    "sequential_ease": [{"l2": l2, "horizon": 3} for l2 in (30.0, 150.0)],
    "category_popularity": [{}],
    "content_tags": [{}],
    "mult_vae": [{**STOPPED, "beta": b} for b in (0.1, 0.2)],
    "lightgcn": [SPREAD],
    "graph_content": [SPREAD],
    "simplex": [{**STOPPED, "margin": m, "batch_size": 4096, "learning_rate": 0.002} for m in (0.4, 0.7)],
    "caser": [FALLS],
    "gru4rec": [{**FALLS, "factors": 128}],
    "bert4rec": [{**FALLS, "learning_rate": 0.002, "epochs": 60, "patience": 60}],
    "sasrec": [{**SEQUENCES, "factors": 128, "temperature": 0.07}],
}  # fmt: skip


def stage(data: Path, part: str, quick: bool) -> Stage:
    """Return one part of the table."""
    return leave_last_out.stage(log(data, quick), items(data), part)


def log(data: Path, quick: bool) -> pl.DataFrame:
    """Return the file as INTERACTIONS."""
    return leave_last_out.interactions(data / FILE, quick)


def items(data: Path) -> pl.DataFrame:
    """Return the categories of every item; its key phrases were made by a machine and are not read."""
    return pl.read_parquet(data / ITEMS_FILE).select(
        pl.col("item").cast(pl.String).alias("item_id"),
        pl.col("attributes").cast(pl.List(pl.String)).alias("categories"),
    )


TABLE = Table("beauty", stage, (leave_last_out.CUT,), ("hit_rate", "ndcg"), 10, ("leave_last_out",))
SKIPPED = {
    "covisitation": "gap_days needs times, and this file has only an order",
    "content_ease": "no texts: the key phrases of the file are no titles",
    "content_text": "no texts: the key phrases of the file are no titles",
    "content_attributes": "no attributes but categories, which content_tags reads",
    "content_vectors": "no vectors of items",
}


def plan(args: argparse.Namespace) -> Plan:
    """One row a recommender, and the blends."""
    return selection.plan(TABLE, GRIDS, args, FILE, log, SKIPPED)


if __name__ == "__main__":
    Benchmark("beauty", "Leave-last-out on Amazon Beauty.", plan, selection.options).main()
