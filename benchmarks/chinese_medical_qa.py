"""Departments of Chinese questions: a BERT made from nothing on the corpus, against TF-IDF of characters.

7,644 questions (title and text) put to 11 departments of internal medicine; 3,121 to the largest, 18 to the
smallest. Many are told twice, or one story with other names: questions that say almost the same are one group
(`nlp.alike`; 15 % are not alone), and whole groups are dealt to FOLDS folds, stratified. `--folds` says how
many of them are tested, for both rows the same.

`tfidf`: logistic regression on 1 to 4 characters, departments weighed alike; the penalty was chosen among .1,
1, 10, 30 and 100 by macro-F1 on a fifth of the first fold's train part. `bert`: a WordPiece tokenizer and a
small BERT of the fold's own train questions and no other text, by masked tokens (`nlp.pretrain`), then
fine-tuned on their labels; nothing is downloaded. Its settings were set beforehand, small for one thread,
and nothing was searched. `bert_over_tfidf`: the difference on the same questions. Intervals are over groups;
`fit_s` are seconds of processor time, learning and judging all folds that were tested.

    python -m benchmarks.chinese_medical_qa --data DIR --folds 5
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.labelled import QUICK_TEXTS, read, thinned
from benchmarks.process import Figures, Task
from benchmarks.report import KEPT, Benchmark, Plan, Row, count, public
from nlp.alike import alike
from nlp.classifier_config import ClassifierConfig
from nlp.classify import of_fold
from nlp.crossval import CrossValidationConfig, Fold, folds
from nlp.label_metrics import Judged, gain, measure
from nlp.label_sets import LabelSet
from nlp.pretrain import PretrainConfig, pretrain
from profiles import manifest
from recsys.watch import watching

FILE = "chinese_medical_qa/internal_medicine_sample.parquet"
FOLDS = 5
TOKENS = 64
TFIDF: dict[str, Any] = {
    "method": "tfidf", "grams": "characters", "class_weights": "balanced", "penalty": 10.0,
}  # fmt: skip
PRETRAIN: dict[str, Any] = {
    "layers": 2, "factors": 128, "heads": 2, "max_tokens": TOKENS, "vocabulary": 5000, "epochs": 6,
    "learning_rate": 1e-3,
}  # fmt: skip
BERT: dict[str, Any] = {"epochs": 6, "learning_rate": 1e-3, "layer_decay": 1.0, "class_weights": "balanced"}
FIGURES = ("macro_f1", "low", "high", "accuracy", "accuracy_low", "accuracy_high")
MEASURED = ("benchmarks/labelled.py", "nlp", "recsys/training.py", "recsys/optimizing.py")


def questions(file: Path, quick: bool = False) -> pl.DataFrame:
    """Return text, department and group of each question; those of one group say almost the same."""
    rows = read(file).select("department", text=pl.concat_str("title", "ask", separator=" "))
    rows = thinned(rows, QUICK_TEXTS if quick else 0)
    return rows.with_columns(group=pl.Series(alike(rows["text"].to_list())))


def dealt(rows: pl.DataFrame, seed: int, quick: bool) -> list[Fold]:
    """Return the folds, whole groups in each."""
    config = CrossValidationConfig(folds=2 if quick else FOLDS, seed=seed)
    return folds(rows["department"].to_list(), config, rows["group"].to_list())


def judge(folder: str, file: str, method: str, tested: int, seed: int, quick: bool) -> Figures:
    """Learn from the rest of each fold that is tested and judge by it; writes predictions and truth down."""
    rows = questions(Path(file), quick)
    texts, labels = rows["text"].to_list(), rows["department"].to_list()
    known = LabelSet.of(labels, False)
    before, begun = 0.0, time.process_time()
    parts, asked = list[Judged](), list[np.ndarray]()
    with watching(checkpoints=KEPT / "checkpoints" / "chinese_medical_qa"):
        for number, fold in enumerate(dealt(rows, seed, quick)[:tested]):
            told = TFIDF
            if method == "bert":
                body, seconds = pretrained(
                    [texts[row] for row in fold.train], number, Path(folder), seed, quick
                )
                before += seconds
                told = BERT | {"encoder": {"model": str(body), "max_tokens": TOKENS}}
                told |= {"epochs": 1} if quick else {}
            parts.append(of_fold(texts, labels, ClassifierConfig(**told, seed=seed), known, fold))
            asked.append(fold.test)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    np.savez(
        place / f"{method}.npz",
        truth=np.concatenate([judged.truth for judged in parts]),
        probabilities=np.concatenate([judged.probabilities for judged in parts]),
        groups=rows["group"].to_numpy()[np.concatenate(asked)].astype(np.str_),
        names=np.array(known.names),
        fit_s=time.process_time() - begun + before,
    )
    return {}


def pretrained(texts: list[str], fold: int, folder: Path, seed: int, quick: bool) -> tuple[Path, float]:
    """Return a BERT of these texts, and what it took in an earlier run, where it is that one's."""
    settings = PretrainConfig(**PRETRAIN | ({"epochs": 1} if quick else {}), seed=seed)
    told, begun = folder / f"pretrained-{fold}.json", time.process_time()
    known = json.loads(told.read_bytes()) if told.exists() else {}
    place = pretrain(texts, settings, folder)
    if known.get("name") == place.name:
        return place, known["seconds"]
    content = {"name": place.name, "seconds": time.process_time() - begun}
    manifest.write_atomically(told, json.dumps(content).encode())
    return place, 0.0


def found(folder: str, method: str, other: str, seed: int) -> Figures:
    """Tell how good one method's predictions are; or, of two methods, how much better than the other's."""
    judged, kept = _judged(Path(folder), method)
    groups = kept["groups"].tolist()
    if other:
        frame = gain(judged, _judged(Path(folder), other)[0], seed, groups=groups)
    else:
        frame = measure(judged, seed, groups=groups)
    rows = {row["metric"]: row for row in frame.filter(pl.col("label").is_null()).to_dicts()}
    own, accuracy = rows["f1_macro"], rows["accuracy"]
    told = {
        "macro_f1": own["value"], "low": own["low"], "high": own["high"],
        "accuracy": accuracy["value"], "accuracy_low": accuracy["low"], "accuracy_high": accuracy["high"],
        "texts": len(groups), "groups": len(set(groups)),
    }  # fmt: skip
    return told if other else told | {"fit_s": float(kept["fit_s"])}


def _judged(folder: Path, method: str) -> tuple[Judged, dict[str, Any]]:
    with np.load(folder / f"{method}.npz", allow_pickle=False) as file:
        kept = dict(file)
    labels = LabelSet(tuple(kept["names"].tolist()), False)
    return Judged(labels, kept["truth"], kept["probabilities"]), kept


def more(parser: argparse.ArgumentParser) -> None:
    """Say how many folds are tested."""
    public(parser)
    parser.add_argument("--folds", type=count, default=FOLDS, help=f"of {FOLDS} folds, the first so many")


def plan(args: argparse.Namespace) -> Plan:
    """Both methods on the same folds, and one against the other."""
    file = args.data / FILE
    tested = min(args.folds, FOLDS)
    folder = KEPT / "data" / f"chinese-{args.seed}-{tested}{'-quick' * args.quick}"
    asked = {"folder": folder, "file": file, "tested": tested, "seed": args.seed, "quick": args.quick}
    made = {method: Task(judge, asked | {"method": method}) for method in ("tfidf", "bert")}
    rows = []
    for name, needs in (("tfidf", ("tfidf",)), ("bert", ("bert",)), ("bert_over_tfidf", ("bert", "tfidf"))):
        method, other = (*needs, "")[:2]
        task = Task(found, {"folder": folder, "method": method, "other": other, "seed": args.seed})
        rows.append(
            Row(
                name,
                task,
                FIGURES if other else (*FIGURES, "fit_s"),
                MEASURED,
                needs=tuple(made[need] for need in needs),
                facts={"selection": "validated", "folds": tested},
                skipped="" if file.exists() else f"{FILE} is not in --data, nor in ATTUNE_DATA",
            )
        )
    there = read(file) if file.exists() else pl.DataFrame({"department": []})
    return Plan({"questions": len(there), "departments": there["department"].n_unique()}, rows)


if __name__ == "__main__":
    Benchmark("chinese_medical_qa", "Departments of Chinese medical questions.", plan, more).main()
