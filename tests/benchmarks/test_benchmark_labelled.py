"""Benchmarks of classifiers: their parts, shots and plans, without training."""

import argparse
from pathlib import Path

import polars as pl
import pytest

from benchmarks import banking77, trec
from benchmarks.labelled import few
from benchmarks.process import NotReached


def asked(data: Path, quick: bool = False) -> argparse.Namespace:
    return argparse.Namespace(data=data, quick=quick, seed=3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder in ("banking77", "trec"):
        (tmp_path / folder).mkdir()
    texts = [f"text {n:03}" for n in range(60)]
    intents = pl.DataFrame({"text": texts, "category": ["a"] * 40 + ["b"] * 15 + ["c"] * 5})
    intents.write_parquet(tmp_path / banking77.TRAIN)
    intents.head(10).write_parquet(tmp_path / banking77.TEST)
    fine = pl.DataFrame(
        {"text": texts, "label": ["DESC:a", "DESC:b", "HUM:c"] * 20, "split": ["train"] * 48 + ["test"] * 12}
    )
    fine.write_parquet(tmp_path / trec.FILE)
    return tmp_path


def test_shots_are_so_many_of_each_label_drawn_by_the_seed(data: Path):
    part = banking77.part(data / banking77.TRAIN)
    drawn = few(part, 7, seed=1)
    assert drawn.group_by("label").len().sort("label").rows() == [("a", 7), ("b", 7), ("c", 5)]
    assert drawn.join(part, on=["text", "label"], how="anti").is_empty()
    assert few(part, 7, seed=1).equals(drawn)
    assert not few(part, 7, seed=2).equals(drawn)
    assert few(part, 0, seed=1).equals(part)


def test_coarse_types_stand_before_the_colon(data: Path):
    fine = trec.part(data / trec.FILE, "train")["label"].unique().sort()
    assert [trec.widened(label) for label in fine] == ["DESC", "DESC", "HUM"]
    assert len(trec.part(data / trec.FILE, "test")) == 12


@pytest.mark.parametrize("benchmark", [banking77, trec])
def test_plans_count_the_data_and_skip_without_it(benchmark: object, data: Path, tmp_path: Path):
    plan = benchmark.plan(asked(data))  # type: ignore[attr-defined]
    assert plan.data["labels"] == 3
    assert plan.data["train"] in (48, 60)
    assert {row.facts["selection"] for row in plan.rows} == {"validated"}
    assert not [row for row in plan.rows if row.skipped]
    elsewhere = benchmark.plan(asked(tmp_path / "nowhere"))  # type: ignore[attr-defined]
    assert all("is not in --data" in row.skipped for row in elsewhere.rows)
    with pytest.raises(NotReached, match="is not in --data"):
        banking77.part(tmp_path / "nowhere" / "train.parquet")
