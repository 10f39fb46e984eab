"""Question types of TREC: a fine-tuned MiniLM-L6 told 6 coarse or 50 fine types.

5,452 questions to learn from and 500 to be judged by (Li and Roth 2002). Settings are those chosen on
BANKING77's train, so nothing was chosen on these questions; test is scored once.

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


def score(data: str, settings: str, coarse: bool, texts: int) -> Figures:
    """Train and score; `texts` of each part only, unless 0."""
    train, test = (part(Path(data) / FILE, name, coarse, texts) for name in ("train", "test"))
    return evaluate(train, test, settings, KEPT / "checkpoints" / "trec")


def part(path: Path, split: str, coarse: bool, texts: int = 0) -> pl.DataFrame:
    """Return text and label of one part; a coarse type is what stands before the colon of a fine one."""
    label = pl.col("label").str.split(":").list.first() if coarse else pl.col("label")
    frame = read(path).filter(pl.col("split") == split).select("text", label)
    return thinned(frame, texts)


def plan(args: argparse.Namespace) -> Plan:
    """One row a set of types."""
    missing = "" if (args.data / FILE).exists() else f"{FILE} is not in --data, nor in ATTUNE_DATA"
    texts = QUICK_TEXTS if args.quick else 0
    counts = {}
    if not missing:
        counts = counted(*(part(args.data / FILE, name, False, texts) for name in ("train", "test")))
    settings = TUNED | ({"epochs": 1} if args.quick else {}) | {"seed": args.seed}
    asked = {"data": args.data, "texts": texts}
    rows = {
        name: (score, asked | {"coarse": coarse}, settings)
        for name, coarse in (("minilm_6", True), ("minilm_50", False))
    }
    return plan_of(counts, missing, rows)


if __name__ == "__main__":
    Benchmark("trec", "Question types of TREC.", plan, public).main()
