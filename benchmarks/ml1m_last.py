"""Leave-last-out on MovieLens 1M in SASRec's order: every recommender, HR@10 and NDCG@10, full ranking.

`ml_1m_sequences` holds 6,040 users, 3,416 items and 999,611 interactions in order, without times; only ids
are read. See `leave_last_out` for the protocol and `selection` for how rows choose.

    python -m benchmarks.ml1m_last --data DIR --rows ease,sasrec
"""

import argparse
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import leave_last_out, selection
from benchmarks.report import Benchmark, Plan
from benchmarks.selection import Grids
from benchmarks.trials import Stage, Table

FILE = "ml_1m_sequences/sequences.parquet"
NO_ITEMS = pl.DataFrame(schema={"item_id": pl.String})
STOPPED: dict[str, Any] = {"patience": 6, "validation_users": 1000, "epochs": 200}
# A sequence recommender stops by the cut itself, all users of it. It reads the whole file in steps of 32
# users: of 128 there are too few in an epoch to learn by.
SEQUENCES: dict[str, Any] = {**STOPPED, "validation_users": 10_000, "batch_size": 32}
# Steps that begin long and fall to 0: half the epochs of constant ones.
FALLING: dict[str, Any] = {
    "learning_rate": 0.004, "warmup_steps": 200, "schedule": "linear", "epochs": 25, "patience": 25
}  # fmt: skip

GRADIENTS: Grids = {
    "mult_vae": [{**STOPPED, "beta": b} for b in (0.1, 0.2)],
    # Large batches and long steps: what a step of a graph costs hardly grows with its pairs.
    "lightgcn": [{**STOPPED, "patience": 10, "epochs": 150, "batch_size": 32_768, "learning_rate": 0.01}],
    # Where people did much, many items are near: the published weight of 150 and more pushes all apart.
    "simplex": [
        {**STOPPED, "patience": 4, "epochs": 40, "batch_size": 4096, "weight": w} for w in (5.0, 20.0)
    ],
    "caser": [{**SEQUENCES, **FALLING}],
    "gru4rec": [{**SEQUENCES, **FALLING, "factors": 128}],
    "bert4rec": [
        {
            **SEQUENCES,
            "learning_rate": 0.002,
            "warmup_steps": 500,
            "schedule": "linear",
            "epochs": 80,
            "patience": 80,
        }
    ],
    "sasrec": [
        {**SEQUENCES, "factors": 128, "temperature": 0.07, "schedule": "linear", "epochs": 80, "patience": 20}
    ],
}
# What each row chooses from. Grids were moved on where the cut chose an edge.
GRIDS: Grids = {
    "popularity": [{}],
    "random": [{}],
    "user_knn": [
        {"neighbours": n, "item_power": 0.0, "sharpness": s}
        for n in (50, 100) for s in (3.0, 6.0)
    ],
    "item_knn": [{"neighbours": n, "shrinkage": s} for n in (3, 5, 10, 20) for s in (0.0, 10.0, 50.0)],
    "rp3beta": [
        {"neighbours": n, "alpha": a, "beta": b}
        for n in (20, 100) for a in (0.5, 0.7, 1.0) for b in (0.6, 0.8)
    ],
    "ease": [{"l2": l2} for l2 in (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)],
    "slim": [{"l1": l1, "l2": l2} for l1 in (0.3, 1.0) for l2 in (10.0, 30.0)],
    "graph_filter": [{"factors": 512, "low_pass": w} for w in (0.2, 0.5, 1.0)],
    "als": [
        {"factors": f, "alpha": a, "l2": r} for f in (64, 128) for a in (0.3, 1.0) for r in (1.0, 10.0)
    ],
    "bpr": [{"factors": f, "l2": r} for f in (64, 128) for r in (0.003, 0.01)],
    "association_rules": [{"min_support": n} for n in (2, 10)],
    "sequential_ease": [
        {"l2": 100.0, "decay": 0.8, "horizon": 3},
        {"l2": 100.0, "decay": 0.9, "horizon": 3},
        {"l2": 300.0, "decay": 0.8, "horizon": 3},
        {"l2": 100.0, "decay": 0.8, "horizon": 1},
    ],
    **GRADIENTS,
}  # fmt: skip
SKIPPED = {
    "covisitation": "gap_days needs times, and this file has only an order",
    "category_popularity": "no categories: this table is of ids only",
    "graph_content": "no labels: this table is of ids only",
    "content_tags": "no labels: this table is of ids only",
    "content_ease": "no texts: this table is of ids only",
    "content_text": "no texts: this table is of ids only",
    "content_attributes": "no attributes: this table is of ids only",
    "content_vectors": "no vectors: this table is of ids only",
}


def stage(data: Path, part: str, quick: bool) -> Stage:
    """Return one part of the table."""
    return leave_last_out.stage(log(data, quick), NO_ITEMS, part)


def log(data: Path, quick: bool) -> pl.DataFrame:
    """Return the file as INTERACTIONS."""
    return leave_last_out.interactions(data / FILE, quick)


TABLE = Table("ml1m_last", stage, (leave_last_out.CUT,), ("hit_rate", "ndcg"), 10, ("leave_last_out",))


def plan(args: argparse.Namespace) -> Plan:
    """One row a recommender, and the blend."""
    return selection.plan(TABLE, GRIDS, args, FILE, log, SKIPPED)


if __name__ == "__main__":
    Benchmark("ml1m_last", "Leave-last-out on MovieLens 1M.", plan, selection.options).main()
