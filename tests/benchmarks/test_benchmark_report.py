"""The harness: what is measured, remembered, compared and printed."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import process, report
from benchmarks.at_once import at_once
from benchmarks.process import Failed, Limits, NotReached, OverLimit, Task
from benchmarks.report import Benchmark, Plan, Row

PROBE = '''
import json, os, time
from pathlib import Path
import numpy as np
from benchmarks.process import NotReached, scratch

def _note(folder, name):
    with (Path(folder) / "calls").open("a") as file:
        file.write(name + "\\n")

def timed(folder, name, takes):
    """Take the next of `takes` seconds, as the number of calls of this name says."""
    _note(folder, name)
    calls = (Path(folder) / "calls").read_text().split().count(name)
    return {"seconds": takes[(calls - 1) % len(takes)], "who": name, "pid": os.getpid()}

def need(folder):
    _note(folder, "need")
    return {}

def large(mb):
    block = np.ones(mb * 1_000_000 // 8)
    print("noise on stdout", block.sum())
    return {"seconds": 1.0}

def offspring(mb):
    import subprocess, sys
    subprocess.run([sys.executable, "-c",
        f"import time; b = bytearray({mb} * 1_000_000); b[::4096] = b'x' * len(b[::4096]); time.sleep(0.6)"])
    return {"seconds": 1.0}

def unreachable():
    raise NotReached("there is no such thing")

def broken(folder):
    _note(folder, "broken")
    raise ValueError("a number is wrong")

def killed():
    os.kill(os.getpid(), 9)

def sleeper(folder):
    (Path(folder) / "pid").write_text(str(os.getpid()))
    time.sleep(60)

def half():
    return {"seconds": 1.0, "rate": None}

def leaves_scratch(folder):
    with scratch(Path(folder)) as place:
        (place / "large").write_bytes(b"x" * 1000)
        os.kill(os.getpid(), 9)

def uses_scratch(folder):
    with scratch(Path(folder)) as place:
        others = [p.name.split("-")[0] for p in Path(folder).iterdir() if p != place]
        return {"seconds": 1.0, "left": others}
'''


class Probe:
    """A module of small tasks that fresh processes can import."""

    def __init__(self, folder: Path) -> None:
        import importlib

        self.module = importlib.import_module("probe_rows")
        self.folder = folder

    def task(self, name: str, /, **parameters: Any) -> Task:
        return Task(getattr(self.module, name), parameters)

    def timed(self, name: str, takes: list[float], peer: Row | None = None, **more: Any) -> Row:
        task = self.task("timed", folder=str(self.folder), name=name, takes=takes)
        return Row(name, task, ("seconds",), peer=peer, **more)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    (tmp_path / "probe_rows.py").write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "probe_rows", raising=False)
    return Probe(tmp_path)


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(rows: list[Row], *argv: str, fails: bool = False) -> dict[str, Any]:
        benchmark = Benchmark("probe", "Try the harness.", lambda args: Plan({"events": 3}, rows))
        argv = ("--kept", str(tmp_path / "kept"), "--data", str(tmp_path / "data"), *argv)
        if fails:
            with pytest.raises(SystemExit) as end:
                benchmark.main(argv)
            assert end.value.code == 1
        else:
            benchmark.main(argv)
        out = capsys.readouterr().out
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        assert out.splitlines()[0].startswith("row")
        return found

    return run


def test_the_last_line_is_the_contract(probe: Probe, run: Run) -> None:
    found = run([probe.timed("a", [2.0], facts={"selection": "fixed"})], "--seed", "7")
    assert found["benchmark"] == "probe"
    assert found["data"] == {"events": 3}
    assert found["seed"] == 7
    assert found["versions"]["polars"]
    (row,) = found["rows"]
    assert row["name"] == "a"
    assert row["selection"] == "fixed"
    assert row["seconds"] == 2.0
    assert row["peak_mb"] > 10
    assert "reason" not in row


def test_rows_chooses_and_orders(probe: Probe, run: Run) -> None:
    rows = [probe.timed(name, [1.0]) for name in ("a", "b", "c")]
    assert [row["name"] for row in run(rows, "--rows", "c, a")["rows"]] == ["c", "a"]
    assert probe.calls() == ["a", "c"]


@pytest.mark.parametrize("asked", ["b", "a,b", ""])
def test_an_unknown_row_is_told_with_those_there_are(
    probe: Probe, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    benchmark = Benchmark(
        "probe", "", lambda args: Plan({}, [probe.timed("a", [1.0]), probe.timed("c", [1.0])])
    )
    with pytest.raises(SystemExit) as end:
        benchmark.main(["--rows", asked, "--kept", str(tmp_path)])
    assert end.value.code == 2
    name = asked.rpartition(",")[2]
    assert f"there is no row {name!r} in probe; it has a, c" in capsys.readouterr().err
    assert not probe.calls()


@pytest.mark.parametrize("text", ["0", "-3", "ten", "1.5"])
def test_a_wrong_count_is_told(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Benchmark("probe", "", lambda args: Plan({}, [])).main(["--threads", text])
    assert f"{text!r} is no whole number above 0" in capsys.readouterr().err


def test_a_finished_row_is_remembered_until_its_inputs_change(probe: Probe, run: Run, tmp_path: Path) -> None:
    first = run([probe.timed("a", [1.0, 5.0])])
    assert run([probe.timed("a", [1.0, 5.0])])["rows"] == first["rows"]
    assert probe.calls() == ["a"]
    assert run([probe.timed("a", [1.0, 5.0])], "--fresh")["rows"][0]["seconds"] == 5.0
    assert run([probe.timed("a", [1.0, 6.0])])["rows"][0]["seconds"] == 1.0  # another parameter
    assert len(probe.calls()) == 3
    (tmp_path / "probe_rows.py").write_text(PROBE + "# another version\n")  # other code
    run([probe.timed("a", [1.0, 6.0])])
    assert len(probe.calls()) == 4


def test_what_is_measured_is_part_of_the_key(probe: Probe, run: Run, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "part.sql").write_text("select 1")
    rows = [probe.timed("a", [1.0], measured=(str(package),))]
    run(rows)
    run(rows)
    assert len(probe.calls()) == 1
    (package / "part.sql").write_text("select 2")
    run(rows)
    assert len(probe.calls()) == 2
    with pytest.raises(FileNotFoundError, match="a row names it as measured"):
        run([probe.timed("a", [1.0], measured=("nowhere",))])


def test_data_that_moves_stays_measured(probe: Probe, run: Run, tmp_path: Path) -> None:
    def row(folder: Path) -> Row:
        return Row("a", probe.task("need", folder=folder), ())

    (tmp_path / "one" / "log").mkdir(parents=True)
    run([row(tmp_path / "one" / "log")])
    run([row(tmp_path / "two" / "log")])  # is not there: it would fail if it were run
    with pytest.raises(SystemExit):
        run([row(tmp_path / "two" / "other")])


def test_the_median_of_runs_counts_and_the_largest_peak(probe: Probe, run: Run) -> None:
    (row,) = run([probe.timed("a", [9.0, 1.0, 2.0], repeats=3)])["rows"]
    assert row["seconds"] == 2.0
    assert row["runs"] == [9.0, 1.0, 2.0]
    assert report._middle("peak_mb", [3.0, 9.0, 1.0]) == 9.0
    assert report._middle("columns", [60, 60, 60]) == 60
    assert report._middle("who", ["x", "y"]) == "y"


def test_a_row_and_its_peer_are_timed_in_turn(probe: Probe, run: Run) -> None:
    peer = probe.timed("peer", [6.0, 8.0, 7.0, 5.0])
    ours = probe.timed("ours", [3.0, 1.0, 2.0], peer, repeats=3)
    found = {row["name"]: row for row in run([ours, peer])["rows"]}
    assert probe.calls() == ["peer", "ours", "peer", "ours", "peer", "ours", "peer"]
    assert found["ours"]["peer"] == "peer"
    assert found["ours"]["peer_seconds"] == found["peer"]["seconds"] == 6.5
    assert found["ours"]["ratio"] == pytest.approx(6.5 / 2.0)  # peer's time over ours
    again = {row["name"]: row for row in run([ours, peer])["rows"]}
    assert again == found
    assert len(probe.calls()) == 7


def test_a_peer_asked_for_first_is_shown_as_it_was_compared(probe: Probe, run: Run) -> None:
    peer = probe.timed("peer", [6.0, 8.0, 10.0])
    found = {row["name"]: row for row in run([peer, probe.timed("ours", [3.0], peer)])["rows"]}
    assert found["peer"]["seconds"] == found["ours"]["peer_seconds"] == 9.0


def test_of_a_rate_more_is_better(probe: Probe) -> None:
    row = Row("ours", probe.task("half"), (), peer=Row("peer", probe.task("half"), ()), compared="rows_per_s")
    assert report._compared(row, {"rows_per_s": 20.0}, {"rows_per_s": 5.0})["ratio"] == 4.0


def test_needs_are_met_once_and_not_for_what_is_remembered(probe: Probe, run: Run) -> None:
    need = (probe.task("need", folder=str(probe.folder)),)
    rows = [probe.timed("a", [1.0], needs=need, repeats=2), probe.timed("b", [1.0], needs=need)]
    run(rows)
    assert probe.calls() == ["need", "a", "a", "b"]
    run(rows)
    assert len(probe.calls()) == 4


def test_rows_at_once_are_the_same_rows_from_one_process(probe: Probe, run: Run, tmp_path: Path) -> None:
    need = (probe.task("need", folder=str(probe.folder)),)
    rows = [
        probe.timed("a", [1.0], needs=need),
        probe.timed("b", [2.0], needs=need, facts={"selection": "fixed"}),
        probe.timed("c", [3.0], skipped="not here"),
    ]
    together = at_once(rows, tmp_path / "rows.json")
    found = run(together)["rows"]
    assert probe.calls() == ["need", "a", "b"]
    alone = run(rows)["rows"]
    assert found[0].pop("pid") == found[1].pop("pid") != alone[0]["pid"]
    for one, other in zip(found, alone, strict=True):
        assert one == {name: one[name] if name == "peak_mb" else other[name] for name in one}
    calls = probe.calls()
    run(together)
    assert probe.calls() == calls
    (tmp_path / "probe_rows.py").write_text(PROBE + "# another version\n")
    run(together)
    assert probe.calls() == [*calls, "need", "a", "b"]


def test_what_fails_at_once_fails_every_row(probe: Probe, run: Run, tmp_path: Path) -> None:
    rows = [probe.timed("fine", [1.0]), Row("broken", probe.task("broken", folder=str(probe.folder)), ())]
    found = run(at_once(rows, tmp_path / "rows.json"), fails=True)["rows"]
    assert {row["reason"] for row in found} == {"ValueError: a number is wrong"}


def test_what_is_not_reached_is_null_with_its_reason(probe: Probe, run: Run) -> None:
    peer = probe.timed("peer", [1.0])
    rows = [
        Row("ours", probe.task("unreachable"), ("seconds", "columns"), peer=peer),
        Row("beyond", probe.task("unreachable"), ("seconds",), skipped="larger than asked for"),
        Row("half", probe.task("half"), ("seconds", "rate")),
    ]
    ours, beyond, half = run(rows)["rows"]
    assert ours["seconds"] is ours["columns"] is ours["peak_mb"] is ours["ratio"] is None
    assert ours["reason"] == "there is no such thing"
    assert ours["peer_seconds"] == 1.0
    assert beyond["seconds"] is None
    assert beyond["reason"] == "larger than asked for"
    assert half["rate"] is None
    assert half["reason"] == "does not say rate"


def test_a_failure_is_shown_but_not_remembered(probe: Probe, run: Run) -> None:
    rows = [
        Row("broken", probe.task("broken", folder=str(probe.folder)), ("seconds",)),
        probe.timed("fine", [1.0]),
    ]
    found = run(rows, fails=True)["rows"]
    assert found[0]["seconds"] is None
    assert found[0]["reason"] == "ValueError: a number is wrong"
    assert found[1]["seconds"] == 1.0
    run(rows, fails=True)
    assert probe.calls() == ["broken", "fine", "broken"]


def test_a_failing_peer_takes_only_the_ratio(probe: Probe, run: Run) -> None:
    peer = Row("peer", probe.task("broken", folder=str(probe.folder)), ("seconds",))
    (row,) = run([probe.timed("ours", [2.0], peer, repeats=3)], "--rows", "ours", fails=True)["rows"]
    assert row["seconds"] == 2.0
    assert row["ratio"] is None
    assert row["reason"] == "peer: ValueError: a number is wrong"
    assert probe.calls().count("broken") == 1  # it is not tried again and again


def test_each_task_has_a_process_and_a_peak_of_its_own(probe: Probe) -> None:
    small, large = (process.run(probe.task("large", mb=mb), Limits()) for mb in (1, 300))
    assert 250 < large["peak_mb"] - small["peak_mb"] < 400
    assert process.run(probe.task("large", mb=1), Limits())["peak_mb"] == pytest.approx(
        small["peak_mb"], rel=0.2
    )


def test_a_large_harness_does_not_count(probe: Probe) -> None:
    ballast = bytearray(400_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert process.run(probe.task("half"), Limits())["peak_mb"] < 300


def test_the_peak_includes_processes_the_task_started(probe: Probe) -> None:
    assert process.run(probe.task("offspring", mb=300), Limits())["peak_mb"] > 300


def test_a_task_beyond_its_limits_is_ended(probe: Probe, run: Run, tmp_path: Path) -> None:
    sleeper = probe.task("sleeper", folder=str(tmp_path))
    with pytest.raises(OverLimit, match=r"took more than 0\.2 GB of memory"):
        process.run(probe.task("offspring", mb=400), Limits(memory_gb=0.2))
    with pytest.raises(OverLimit, match=r"took longer than 1 s"):
        process.run(sleeper, Limits(seconds=1))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    rows = [Row("sleeper", sleeper, ("seconds",))]
    assert run(rows, "--timeout", "1")["rows"][0]["reason"] == "took longer than 1 s"
    assert run(rows, "--timeout", "0.6")["rows"][0]["reason"] == "took longer than 0.6 s"  # another limit


def test_a_task_that_dies_is_told(probe: Probe) -> None:
    with pytest.raises(Failed, match="exit code -9"):
        process.run(probe.task("killed"), Limits())
    with pytest.raises(NotReached, match="there is no such thing") as told:
        process.run(probe.task("unreachable"), Limits())
    assert not isinstance(told.value, Failed)


def test_what_a_killed_task_left_is_swept(probe: Probe, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(Failed):
        process.run(probe.task("leaves_scratch", folder=str(data)), Limits())
    assert len(list(data.iterdir())) == 1
    with process.scratch(data) as mine:
        assert process.run(probe.task("uses_scratch", folder=str(data)), Limits())["left"] == ["scratch"]
        assert list(data.iterdir()) == [mine]  # that of a living process stays
    assert not list(data.iterdir())


def test_the_table_is_aligned_and_gives_reasons() -> None:
    rows = [
        {"name": "full", "seconds": 12.3456, "users": 1_000_000, "runs": [1.0, 2.0]},
        {"name": "p", "seconds": None, "reason": "too large", "rate": 12_345.6},
    ]
    assert report.table(rows).splitlines() == [
        "row   seconds      users    rate",
        "----  -------  ---------  ------",
        "full    12.35  1,000,000",
        "p           –             12,346",
        "p: too large",
    ]
