"""Intents of BANKING77: a fine-tuned MiniLM-L6 on all of train, and prototypes on ten texts a label.

10,003 texts to learn from and 3,080 to be judged by, 77 labels (Casanueva et al. 2020). Settings were chosen
on a stratified 15 % of train; test is scored once. `minilm` is one network, `minilm_3` the mean of three
seeds' probabilities. `cpu_s` are seconds of processor time, training and test together.

    python -m benchmarks.banking77 --data DIR --rows minilm,minilm_10shot,minilm_3
"""

import argparse
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.labelled import QUICK_TEXTS, counted, evaluate, few, plan_of, read, thinned
from benchmarks.process import Figures
from benchmarks.report import KEPT, Benchmark, Plan, public

TRAIN, TEST = "banking77/train.parquet", "banking77/test.parquet"
ENCODER = {"max_tokens": 48}
TUNED: dict[str, Any] = {"encoder": ENCODER, "epochs": 6}
SHOTS = 10
FEW: dict[str, Any] = {"encoder": ENCODER, "method": "prototypes", "within": 3.0, "penalty": 0.3}


def score(data: str, settings: str, shots: int, seed: int, texts: int) -> Figures:
    """Train and score; the first `texts` of train and test only, unless 0."""
    train, test = (part(Path(data) / name, texts) for name in (TRAIN, TEST))
    return evaluate(few(train, shots, seed), test, settings, KEPT / "checkpoints" / "banking77")


def part(path: Path, texts: int = 0) -> pl.DataFrame:
    """Return text and label of one part, evenly thinned to `texts` rows unless 0."""
    frame = read(path).select("text", label="category")
    return thinned(frame, texts)


def plan(args: argparse.Namespace) -> Plan:
    """One row a way to learn."""
    missing = "" if (args.data / TRAIN).exists() else f"{TRAIN} is not in --data, nor in ATTUNE_DATA"
    texts = QUICK_TEXTS if args.quick else 0
    counts = {}
    if not missing:
        counts = counted(*(part(args.data / name, texts) for name in (TRAIN, TEST)))
    short = {"epochs": 1} if args.quick else {}
    asked = {"data": args.data, "shots": 0, "seed": args.seed, "texts": texts}
    rows = {
        "minilm": (score, asked, TUNED | short | {"seed": args.seed}),
        "minilm_10shot": (score, asked | {"shots": SHOTS}, FEW | short | {"seed": args.seed}),
        "minilm_3": (score, asked, TUNED | short | {"seed": args.seed, "members": 3}),
    }
    return plan_of(counts, missing, rows)


if __name__ == "__main__":
    Benchmark("banking77", "Intents of BANKING77.", plan, public).main()
