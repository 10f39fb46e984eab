"""Departments of Chinese questions: groups, folds, and what is told of predictions, without BERT."""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import chinese_medical_qa as benchmark

ILLNESSES = {"心血管科": "高血压", "肝病科": "乙肝", "神经科": "癫痫"}
ENDS = ("怎么办", "吃什么药", "会遗传吗", "如何治疗", "能喝酒吗", "要住院吗")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [
        {"department": department, "title": illness + end, "ask": f"{end}，{illness}{place}", "answer": "好"}
        for place, end in enumerate(ENDS)
        for department, illness in ILLNESSES.items()
    ]
    rows += [row | {"title": row["title"] + "？"} for row in rows[:6]]  # sent twice
    path = tmp_path / benchmark.FILE
    path.parent.mkdir()
    pl.DataFrame(rows).write_parquet(path)
    return path


def test_questions_that_say_the_same_lie_on_one_side(file: Path) -> None:
    rows = benchmark.questions(file)
    assert rows["text"][0] == "高血压怎么办 怎么办，高血压0"
    assert rows["group"][:6].to_list() == rows["group"][18:].to_list()
    sides = benchmark.dealt(rows, 0, quick=True)
    assert len(sides) == 2
    for fold in sides:
        assert not set(rows["group"][fold.train]) & set(rows["group"][fold.test])


def test_folds_are_judged_by_what_they_left_out(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    benchmark.judge(str(folder), str(file), "tfidf", 2, 0, quick=True)
    told = benchmark.found(str(folder), "tfidf", "", 0)
    assert told["texts"] == 24  # each once
    assert told["groups"] == benchmark.questions(file)["group"].n_unique()
    assert told["accuracy"] == told["macro_f1"] == 1  # each illness is of one department
    assert told["fit_s"] > 0


def test_one_method_is_set_against_the_other(tmp_path: Path) -> None:
    truth = np.eye(2, dtype=np.bool_)[[0, 0, 0, 1]]
    for method, right in (("tfidf", [1, 1, 1, 1]), ("bert", [1, 1, 0, 1])):
        said = np.where(np.array(right)[:, None] == 1, truth, ~truth).astype(np.float32)
        groups, names = np.array(["a", "b", "c", "d"]), np.array(["x", "y"])
        np.savez(
            tmp_path / f"{method}.npz", truth=truth, probabilities=said, groups=groups, names=names, fit_s=2.0
        )
    gap = benchmark.found(str(tmp_path), "bert", "tfidf", 0)
    assert gap["accuracy"] == pytest.approx(-0.25)
    # F1 of x is 4/5 (one of three missed), of y 2/3 (one of two given is wrong).
    assert gap["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2 - 1)
    assert gap["low"] < gap["macro_f1"] <= gap["high"] <= 0


def test_pretraining_is_done_once_and_its_seconds_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def pretrain(texts: list[str], settings: object, root: Path) -> Path:
        made.append(texts)
        return root / f"pretrained-{len(texts)}"

    monkeypatch.setattr(benchmark, "pretrain", pretrain)
    clock = iter([0.0, 7.0, 20.0, 30.0, 31.0])
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(clock))
    assert benchmark.pretrained(["a"], 0, tmp_path, 0, False) == (tmp_path / "pretrained-1", 0.0)
    assert benchmark.pretrained(["a"], 0, tmp_path, 0, False) == (tmp_path / "pretrained-1", 7.0)
    assert benchmark.pretrained(["a", "b"], 0, tmp_path, 0, False)[1] == 0.0  # other texts: made anew


def test_the_plan_says_how_many_folds_are_tested(file: Path, tmp_path: Path) -> None:
    args = argparse.Namespace(data=tmp_path, quick=False, seed=0, folds=2)
    plan = benchmark.plan(args)
    assert plan.data == {"questions": 24, "departments": 3}
    assert [row.name for row in plan.rows] == ["tfidf", "bert", "bert_over_tfidf"]
    assert all(row.facts["folds"] == 2 and not row.skipped for row in plan.rows)
    args.data = tmp_path / "nowhere"
    assert all("is not in --data" in row.skipped for row in benchmark.plan(args).rows)
