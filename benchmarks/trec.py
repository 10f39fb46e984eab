"""Question types of TREC: a fine-tuned MiniLM-L6 told 50 fine types, judged by these or by 6 coarse ones.

5,452 questions to learn from and 500 to be judged by (Li and Roth 2002). Settings are those chosen on
BANKING77's train. How the coarse types are told was chosen on a fifth of each fine type's questions of train
(1,070): told the coarse ones .9545, the mean of seeds 0 to 2, and .9570 by the three together; told the fine
ones, whose shares are added up, .9570 and .9579. So `minilm_6` is three members told the fine types. Told
the coarse ones, one fit alone was scored on test before: .964.

    python -m benchmarks.trec --data DIR
"""

import argparse
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.labelled import QUICK_TEXTS, counted, evaluate, plan_of, read, thinned
from benchmarks.process import Figures
from benchmarks.report import KEPT, Benchmark, Plan, public

FILE = "trec/raw_fine.parquet"
TUNED: dict[str, Any] = {"encoder": {"max_tokens": 48}, "epochs": 6}
MEMBERS = 3  # of `minilm_6`


def score(data: str, settings: str, coarse: bool, texts: int) -> Figures:
    """Train on the fine types and score; `texts` of each part only, unless 0."""
    train, test = (part(Path(data) / FILE, name, texts) for name in ("train", "test"))
    return evaluate(train, test, settings, KEPT / "checkpoints" / "trec", widened if coarse else None)


def part(path: Path, split: str, texts: int = 0) -> pl.DataFrame:
    """Return text and fine label of one part."""
    return thinned(read(path).filter(pl.col("split") == split).select("text", "label"), texts)


def widened(fine: str) -> str:
    """Return the coarse type of a fine one: what stands before the colon."""
    return fine.partition(":")[0]


def plan(args: argparse.Namespace) -> Plan:
    """One row a set of types."""
    missing = "" if (args.data / FILE).exists() else f"{FILE} is not in --data, nor in ATTUNE_DATA"
    texts = QUICK_TEXTS if args.quick else 0
    counts = {}
    if not missing:
        counts = counted(*(part(args.data / FILE, name, texts) for name in ("train", "test")))
    settings = TUNED | ({"epochs": 1} if args.quick else {}) | {"seed": args.seed}
    of_coarse = settings | {"members": 1 if args.quick else MEMBERS}
    asked = {"data": args.data, "texts": texts}
    rows = {
        "minilm_6": (score, asked | {"coarse": True}, of_coarse),
        "minilm_50": (score, asked | {"coarse": False}, settings),
    }
    return plan_of(counts, missing, rows)


if __name__ == "__main__":
    Benchmark("trec", "Question types of TREC.", plan, public).main()
