"""Trials: one fit of one recommender for one part of a table, its lists measured, kept by all it depends on.

A table is a protocol over some data. It gives a `Stage` for each part: what may be learned, and who is
asked what. The parts named in `cuts` are made of train alone and are there to choose by; the part "test"
is scored once. A trial is kept by a hash of its settings and of the code it runs, read as syntax, so that a
table can be built in several runs and a comment makes nothing stale; a fit that was cut off goes on from
its last epoch.
"""

import ast
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.process import ROOT, Figures, NotReached, peak
from benchmarks.transductive import KINDS, TRANSDUCTIVE
from profiles import manifest
from recsys import watch
from recsys.dataset import Catalogue, Dataset, Queries
from recsys.metrics import Context, measure
from recsys.ranking import Ranked
from recsys.recommender import NotApplicableError, as_frame

TEST = "test"
STOPPING = ("patience", "validation_users")  # settings of a fit that finds its own epochs
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """Who is asked, and what they should have been told."""

    queries: Queries
    truth: pl.DataFrame  # user_id, item_id: distinct pairs, somebody's of every query

    def rows(self, catalogue: Catalogue) -> list[np.ndarray]:
        """Return the true item rows of each query."""
        rows = self.truth.select("user_id", row=catalogue.items.rows(self.truth["item_id"]))
        found = dict(rows.group_by("user_id").agg("row").iter_rows())
        return [np.array(found[user], np.int64) for user in self.queries.ids]


@dataclass(frozen=True)
class Stage:
    """One part of a table."""

    train: Dataset
    asked: Mapping[str, Question]  # the part's own name first; others are asked of the same fit
    # Where the newest item of everybody in here is this part's truth, a sequence recommender that holds
    # the newest out to stop by learns from this: it stops by the very truth.
    until_truth: Dataset | None = None


@dataclass(frozen=True)
class Table:
    """A protocol over some data."""

    name: str  # of its module in `benchmarks`, which has it as TABLE
    stage: Callable[[Path, str, bool], Stage]  # data folder, part, whether quick
    cuts: tuple[str, ...]
    metrics: tuple[str, ...]
    k: int
    protocol: tuple[str, ...]  # modules the stages come from: their change makes trials stale
    depth: int = 200  # items kept of each list for the blend


@dataclass(frozen=True)
class Bench:
    """Where the trials of a table are made and kept. Its parts are what one process tells another."""

    table: Table
    data: Path
    kept: Path
    quick: bool = False

    @classmethod
    def of(cls, table: str, data: str, kept: str, quick: bool) -> "Bench":
        """Find the table by its module's name."""
        found: Table = importlib.import_module(f"benchmarks.{table}").TABLE
        return cls(found, Path(data), Path(kept), quick)

    def stage(self, part: str) -> Stage:
        """Return one part of the table."""
        return _stage(self.table.stage, self.data, part, self.quick)

    def place(self, name: str, config: Config, part: str) -> Path:
        """Return the folder of a trial, named by all it depends on."""
        released = name.removesuffix(TRANSDUCTIVE)
        modules = ["trials", *(["transductive"] if name != released else []), *self.table.protocol]
        files = [Path("recsys") / "models" / f"{released}.py"]
        files += [Path("benchmarks") / f"{module}.py" for module in modules]
        code = sorted({path: meaning(path) for file in files for path in sources(file)}.values())
        table = (self.table.metrics, self.table.k, self.table.depth)
        key = manifest.content_key(name, dict(config), part, self.quick, table, code)
        return self.kept / "trials" / f"{name}-{part}-{key}"

    def trial(self, name: str, config: Config, part: str) -> Figures:
        """Fit one recommender, rank everybody, measure; what was done before is read back.

        The figures hold `ndcg@k` and so on of the part, and of its other questions under `others`. With
        `patience` in the settings `epochs` is how many were best.
        """
        place = self.place(name, config, part)
        if (place / "figures.json").exists():
            found: Figures = json.loads((place / "figures.json").read_bytes())
            return found
        stage = self.stage(part)
        kind = KINDS[name]
        model = kind(kind.config_class(**config))
        stops_by_truth = "patience" in config and kind.needs == "order" and stage.until_truth is not None
        learned = stage.until_truth if stops_by_truth else stage.train
        assert learned is not None
        epochs = _Epochs(name, place)
        begun = time.perf_counter()
        try:
            with watch.watching(epochs, place / "checkpoints"):
                model.fit(learned)
        except NotApplicableError as reason:
            raise NotReached(str(reason)) from None
        figures: Figures = {"fit_s": time.perf_counter() - begun}
        place.mkdir(parents=True, exist_ok=True)
        others = {}
        for asked, question in stage.asked.items():
            begun = time.perf_counter()
            ranked = model.rank(question.queries, self.table.depth, stage.train.catalogue)
            spent = time.perf_counter() - begun
            np.savez(place / f"{asked}.npz", rows=ranked.rows, scores=ranked.scores)
            found = means(self.values(ranked, question, stage.train.catalogue))
            if asked == part:
                figures |= found | {"rank_s": spent}
            else:
                others[asked] = found
        if epochs.best is not None:
            figures["epochs"] = int(epochs.best[1])
        figures |= {"others": others, "peak_mb": round(peak(), 1)}
        manifest.write_atomically(place / "figures.json", json.dumps(figures).encode())
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return figures

    def lists(self, name: str, config: Config, part: str, asked: str = "") -> Ranked:
        """Return what a finished trial listed."""
        with np.load(self.place(name, config, part) / f"{asked or part}.npz", allow_pickle=False) as found:
            return Ranked(found["rows"], found["scores"])

    def values(self, ranked: Ranked, question: Question, catalogue: Catalogue) -> pl.DataFrame:
        """Return METRICS of the first k of each list, by user."""
        k = self.table.k
        lists = as_frame(
            Ranked(ranked.rows[:, :k], ranked.scores[:, :k]), question.queries.ids, catalogue.items, "row"
        )
        nothing = pl.DataFrame({"item_id": [], "count": []})
        context = Context(catalogue.items.ids, nothing, len(question.queries))
        return measure(lists, question.truth, self.table.metrics, (k,), context)


def means(values: pl.DataFrame) -> dict[str, float]:
    """Return the mean of each metric, as `ndcg@10`."""
    found = values.group_by("metric", "k").agg(pl.col("value").mean())
    return {f"{metric}@{k}": value for metric, k, value in found.sort("metric").iter_rows()}


@cache
def sources(file: Path) -> list[Path]:
    """Return a file, by its path from the root, and all it imports from recsys, sorted."""
    found, left = set[Path](), {ROOT / file}
    while left:
        path = left.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        if path.parent.name == "benchmarks":
            continue  # it is for every recommender, so it names them all
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recsys"):
                place = ROOT / str(node.module).replace(".", "/")
                left |= {place.with_suffix(".py"), *(place / f"{alias.name}.py" for alias in node.names)}
    return sorted(found)


@cache
def meaning(path: Path) -> str:
    """Hash a file's syntax without its docstrings: comments and layout do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return manifest.content_key(ast.dump(tree))


@cache
def _stage(make: Callable[[Path, str, bool], Stage], data: Path, part: str, quick: bool) -> Stage:
    return make(data, part, quick)


class _Epochs:
    """Tell each epoch of a fit on stderr, and remember the best, also from before the fit was cut off."""

    def __init__(self, name: str, place: Path) -> None:
        self._name = name
        self._file = place / "best.json"
        self.best: list[float] | None = None  # validation, epoch
        if self._file.exists():
            self.best = json.loads(self._file.read_bytes())

    def __call__(self, progress: watch.Progress) -> None:
        if progress.step < progress.steps:
            return
        value = progress.validation
        shown = "" if value is None else f", validation {value:.4f}"
        line = f"{self._name}: epoch {progress.epoch}, loss {progress.loss:.4f}{shown}"
        print(line, file=sys.stderr, flush=True)
        if value is not None and (self.best is None or value > self.best[0]):
            self.best = [value, progress.epoch]
            manifest.write_atomically(self._file, json.dumps(self.best).encode())
