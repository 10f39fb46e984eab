"""Texts with labels in a train and a test part: what every benchmark of classifiers shares."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.process import Figures, NotReached, Task
from benchmarks.report import Plan, Row
from nlp.classifier_config import ClassifierConfig
from nlp.classify import train
from nlp.label_metrics import measure
from recsys.watch import watching

FIGURES = ("accuracy", "low", "high", "macro_f1", "texts", "cpu_s")
MEASURED = ("benchmarks/labelled.py", "nlp", "recsys/training.py", "recsys/optimizing.py")
QUICK_TEXTS = 400


def read(path: Path) -> pl.DataFrame:
    """Return a Parquet file of the data, or say that it is not there."""
    if not path.exists():
        raise NotReached(f"{path.name} of {path.parent.name} is not in --data, nor in ATTUNE_DATA")
    return pl.read_parquet(path)


def thinned(part: pl.DataFrame, texts: int) -> pl.DataFrame:
    """Return about `texts` rows, evenly from the whole; all of them where it is 0."""
    return part.gather_every(max(1, len(part) // texts)) if texts else part


def counted(train_part: pl.DataFrame, test_part: pl.DataFrame) -> dict[str, int]:
    """Return how many texts and labels there are."""
    return {"train": len(train_part), "test": len(test_part), "labels": train_part["label"].n_unique()}


def few(part: pl.DataFrame, shots: int, seed: int) -> pl.DataFrame:
    """Return `shots` rows of each label, drawn by `seed`; all of them where shots is 0."""
    if not shots:
        return part
    random = np.random.default_rng(seed)
    ordered = part[random.permutation(len(part))]
    return ordered.group_by("label", maintain_order=True).head(shots).sort("label", "text")


def evaluate(
    train_part: pl.DataFrame,
    test_part: pl.DataFrame,
    settings: str,
    checkpoints: Path,
    wider: Callable[[str], str] | None = None,
) -> Figures:
    """Train on the one part, score the other once; both hold text and label, judged by its `wider` one.

    A fit that was cut off goes on from its last epoch, so `cpu_s` is what this process spent.
    """
    begun = time.process_time()
    config = ClassifierConfig.model_validate_json(settings)
    with tempfile.TemporaryDirectory(prefix="classifier-") as scratch, watching(checkpoints=checkpoints):
        made = Path(scratch) / "classifier"
        classifier = train(train_part["text"].to_list(), train_part["label"].to_list(), config, made)
        judged = classifier.judged(test_part["text"].to_list(), test_part["label"].to_list())
    judged = judged if wider is None else judged.merged(wider)
    found = {row["metric"]: row for row in measure(judged).iter_rows(named=True) if row["label"] is None}
    accuracy = found["accuracy"]
    return {
        "accuracy": accuracy["value"],
        "low": accuracy["low"],
        "high": accuracy["high"],
        "macro_f1": found["f1_macro"]["value"],
        "calibration_error": found["calibration_error"]["value"],
        "texts": len(train_part),
        "cpu_s": time.process_time() - begun,
        "settings": settings,
    }


def plan_of(
    counts: dict[str, int], missing: str, rows: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]]
) -> Plan:
    """Return a plan of rows, each the function that measures it, its parameters and its settings."""
    return Plan(
        counts,
        [
            Row(
                name,
                Task(function, {**asked, "settings": json.dumps(settings, sort_keys=True)}),
                FIGURES,
                measured=MEASURED,
                facts={"selection": "validated", "members": settings.get("members", 1)},
                skipped=missing,
            )
            for name, (function, asked, settings) in rows.items()
        ],
    )
