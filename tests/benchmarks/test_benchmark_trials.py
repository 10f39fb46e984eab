"""A trial is kept by what it depends on: settings, part, and code as it reads to Python."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import ml1m_last, selection, trials
from benchmarks.report import Benchmark
from benchmarks.trials import TEST, Bench, meaning, sources


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / ml1m_last.FILE).parent.mkdir()
    rows = [(u, (u * 7 + n * (1 + u % 3)) % 17 + 1, n) for u in range(1, 41) for n in range(6)]
    made = pl.DataFrame(rows, ["user", "item", "pos"], orient="row").cast(pl.Int32)
    made.write_parquet(tmp_path / ml1m_last.FILE)
    return Bench.of("ml1m_last", str(tmp_path), str(tmp_path / "kept"), False)


def test_a_trial_is_remembered_and_other_settings_are_another(bench: Bench) -> None:
    first = bench.trial("rp3beta", {"beta": 0.3}, "cut")
    assert bench.trial("rp3beta", {"beta": 0.3}, "cut") == first
    assert len(list((bench.kept / "trials").iterdir())) == 1
    bench.trial("rp3beta", {"beta": 0.4}, "cut")
    bench.trial("rp3beta", {"beta": 0.3}, TEST)
    assert len(list((bench.kept / "trials").iterdir())) == 3
    assert first["hit_rate@10"] >= first["ndcg@10"]
    assert first["peak_mb"] > 1


def test_code_counts_and_what_only_people_read_does_not(tmp_path: Path) -> None:
    def of(text: str) -> str:
        meaning.cache_clear()
        (tmp_path / "a.py").write_text(text)
        return meaning(tmp_path / "a.py")

    first = of('"""Doc."""\n\n\ndef f(x):\n    """Say."""\n    return x + 1\n')
    assert of('"""Other."""\ndef f(x):\n    # why\n    """Said."""\n    return (x + 1)\n') == first
    assert of('"""Doc."""\n\n\ndef f(x):\n    """Say."""\n    return x + 2\n') != first


def test_a_trial_hangs_on_all_its_recommender_imports_from_recsys() -> None:
    names = {path.name for path in sources(Path("recsys/models/sasrec.py"))}
    assert {"sasrec.py", "sequences.py", "training.py", "layers.py", "losses.py", "sequence.py"} <= names
    assert "ease.py" not in names
    assert [path.name for path in sources(Path("benchmarks/trials.py"))] == ["trials.py"]


def test_a_fit_that_was_cut_off_remembers_its_best_epoch(tmp_path: Path) -> None:
    def tell(watch, epoch, value):
        watch(trials.watch.Progress(epoch, 9, 1, 1, 0.5, value, 0.0))

    watch = trials._Epochs("x", tmp_path)
    for epoch, value in enumerate((0.1, 0.3, 0.2), 1):
        tell(watch, epoch, value)
    again = trials._Epochs("x", tmp_path)
    tell(again, 4, 0.25)
    assert again.best == [0.3, 2]
    tell(again, 5, 0.31)
    assert trials._Epochs("x", tmp_path).best == [0.31, 5]


def test_a_table_by_the_command_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    command = Benchmark("ml1m_last", "x", ml1m_last.plan, selection.options)
    asked = ["--members=popularity,ease", "--rows=popularity,ease,covisitation,blend"]
    command.main(["--quick", f"--data={bench.data}", f"--kept={bench.kept}", *asked])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = {row["name"]: row for row in found["rows"]}
    assert found["data"] == {"users": 40, "items": 17, "interactions": 240}
    assert rows["ease"]["selection"] == "validated"
    assert rows["covisitation"]["ndcg@10"] is None
    assert "only an order" in rows["covisitation"]["reason"]
    assert set(json.loads(rows["blend"]["settings"])) <= {"popularity", "ease"}
    assert all(rows[name]["peak_mb"] > 0 for name in ("popularity", "ease", "blend"))


def test_a_table_without_its_data_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Benchmark("ml1m_last", "x", ml1m_last.plan, selection.options)
    command.main(["--data", str(tmp_path), "--kept", str(tmp_path / "kept"), "--rows", "ease"])
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["ndcg@10"] is None
    assert "not in --data" in row["reason"]


def test_lists_are_blended_as_one_block_or_many(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rows = np.argsort(random.random((9, 30)), axis=1)[:, :8].astype(np.int32)
    scores = -np.sort(-random.random((9, 8)).astype(np.float32), axis=1)
    lists = {"a": trials.Ranked(rows, scores), "b": trials.Ranked(rows[::-1], scores[::-1])}
    whole = selection.combined(lists, {"a": 0.7, "b": 0.3}, 5)
    monkeypatch.setattr(selection, "FUSED", 4)
    parts = selection.combined(lists, {"a": 0.7, "b": 0.3}, 5)
    assert np.array_equal(whole.rows, parts.rows)
    assert np.array_equal(whole.scores, parts.scores)
