"""Ingestion: nothing half done, gone on with where it was, and always the same log in the end."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles.schema import ContractError
from profiles.store import Acks
from serving import ingest
from serving.progress import Advance, Progress
from serving.workspace import Workspace

HEADER = "event_id,user_id,item_id,event_type,timestamp\n"
CONFIG = """
[[events]]
path = "log/*.csv"
name = "log"

[[items]]
path = "items.csv"
"""
DAYS, ROWS = 12, 20


def line(day: int, row: int) -> str:
    """Some rows have an id of their own, some are repeated in another file, some cannot be used."""
    event_id = f"e{day}-{row}" if row % 5 == 0 else ""
    user = "" if row == 7 else f"u{row % 4}"
    return f"{event_id},{user},i{row % 3},view,2024-05-{1 + day % 3:02}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    for day in range(DAYS):
        rows = "".join(line(day, row) for row in range(ROWS))
        (tmp_path / "log" / f"{day:02}.csv").write_text(HEADER + rows)
    (tmp_path / "log" / "99.csv").write_text(HEADER + line(3, 5) + "e4-10,other,i,view,2024-05-01\n")
    (tmp_path / "items.csv").write_text("item_id,title\ni0,zero\ni1,one\n,none\n")
    (tmp_path / "attune.toml").write_text(CONFIG)
    return tmp_path / "attune.toml"


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "APPENDED", 30)


def run(config: Path, folder: str = "workspace") -> tuple[Workspace, dict[str, Any]]:
    workspace = Workspace(config.parent / folder, config)
    with workspace.alone():
        return workspace, ingest.run(workspace, Progress())


def log(workspace: Workspace) -> pl.DataFrame:
    return pl.concat(workspace.store.scan()).sort("event_id")


def test_what_is_read_is_counted_and_set_aside(config: Path) -> None:
    workspace, counts = run(config)
    assert counts == {
        "accepted": DAYS * (ROWS - 1),
        "duplicates": 0,
        "exposures": 0,
        "items": 2,
        "users": 0,
        "rejected": DAYS + 2,
    }
    events = log(workspace)
    assert events.height == DAYS * (ROWS - 1)
    rejected = workspace.read("rejected")
    folder = config.parent
    assert rejected.select("source", "file", "row", "problem").rows() == [
        ("items", str(folder / "items.csv"), 3, "no item_id"),
        *(("log", str(folder / "log" / f"{day:02}.csv"), 8, "an event with no user") for day in range(DAYS)),
        ("log", str(folder / "log" / "99.csv"), 2, "event_id 'e4-10' is there already with other content"),
    ]
    assert not (workspace.folder / ".ingest").exists()
    again, counts = run(config)
    assert (counts["accepted"], counts["duplicates"]) == (0, DAYS * (ROWS - 1))
    assert_frame_equal(log(again), events)


def test_a_conflict_names_the_file_and_the_row(config: Path) -> None:
    run(config)
    changed = config.parent / "log" / "05.csv"
    changed.write_text(changed.read_text().replace("e5-10,u2", "e5-10,somebody"))
    workspace, counts = run(config)
    conflicts = workspace.read("rejected").filter(pl.col("problem").str.contains("in the log"))
    assert conflicts.select("file", "row", "problem").rows() == [
        (str(changed), 11, "event_id e5-10 is in the log with other content")
    ]
    assert json.loads(conflicts["content"].item())["user_id"] == "somebody"
    assert counts["rejected"] == DAYS + 3


def test_a_source_that_cannot_be_read_leaves_the_log_as_it_was(config: Path) -> None:
    config.write_text(CONFIG + '[[events]]\npath = "broken.csv"\n')
    (config.parent / "broken.csv").write_text(HEADER + ",u,i,view,2024-05-01\n,u,i\n")
    with pytest.raises(
        ContractError, match=r"\[\[events\]\] 'broken': .*broken.csv, row 2 \(line 3\): 3 fields"
    ):
        run(config)
    workspace = Workspace(config.parent / "workspace", config)
    assert workspace.store.watermark() == 0
    assert workspace.store.catalogue("items").is_empty()
    (config.parent / "broken.csv").write_text(HEADER + ",u,i,view,2024-05-01\n")
    assert run(config)[1]["accepted"] == DAYS * (ROWS - 1) + 1


# Interrupted


class Stop(BaseException):
    pass


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("stop", [1, 2, 6, 7])
def test_an_interrupted_run_goes_on_where_it_was(
    config: Path, monkeypatch: pytest.MonkeyPatch, stop: int, after: bool
) -> None:
    whole, counts = run(config, "whole")
    workspace = Workspace(config.parent / "workspace", config)
    append, calls = workspace.store.append, []

    def stopping(events: pl.DataFrame) -> Acks:
        if len(calls) == stop - 1 and not after:
            raise Stop
        acks = append(events)
        calls.append(len(events))
        if len(calls) == stop:
            raise Stop
        return acks

    with monkeypatch.context() as patched:
        patched.setattr(workspace.store, "append", stopping)
        with pytest.raises(Stop):
            ingest.run(workspace, Progress())
    resumed = Workspace(config.parent / "workspace", config)
    append, calls = resumed.store.append, []
    monkeypatch.setattr(resumed.store, "append", lambda events: calls.append(len(events)) or append(events))
    monkeypatch.setattr(ingest, "prepare", unread(ingest.prepare))
    found = ingest.run(resumed, Progress())
    assert len(calls) == 8 - stop  # of seven groups: two files each, and what is left
    assert_frame_equal(log(resumed), log(whole))
    assert_frame_equal(resumed.read("rejected"), whole.read("rejected"))
    # What was appended and not remembered is known already.
    known = found["accepted"] + found["duplicates"]
    assert known == counts["accepted"]
    assert found["rejected"] == counts["rejected"]
    assert not (resumed.folder / ".ingest").exists()


def unread(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Have sources that are prepared not parsed again."""

    def prepared(source: Any, kind: Any, root: Any, now: Any, folder: Path, *rest: Any) -> Any:
        assert (folder / "ready.json").exists()
        return prepare(source, kind, root, now, folder, *rest)

    return prepared


KILLED = """
import os, signal, sys
from pathlib import Path
from serving import ingest
from serving.progress import Progress
from serving.workspace import Workspace
config, left = Path(sys.argv[1]), int(sys.argv[2])
ingest.APPENDED = 30
WATCHED = {"serving.ingest", "profiles.sources.preparing", "profiles.sources.reading", "profiles.manifest"}
workspace = Workspace(config.parent / "workspace", config)

def watch(frame, event, argument):
    global left
    if frame.f_globals.get("__name__") in WATCHED:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(watch)
with workspace.alone():
    ingest.run(workspace, Progress())
sys.setprofile(None)
"""


def test_a_killed_run_goes_on_and_ends_in_the_same_log(config: Path) -> None:
    """Killed again and again, each time later, until it comes through."""
    whole, _ = run(config, "whole")
    left, killed = 40, 0
    while True:
        command = [sys.executable, "-c", KILLED, str(config), str(left)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if ended.returncode == 0:
            break
        assert ended.returncode == -9, ended.stderr
        killed, left = killed + 1, left + 150
    assert killed > 3
    workspace = Workspace(config.parent / "workspace", config)
    assert_frame_equal(log(workspace), log(whole))
    assert_frame_equal(workspace.read("rejected"), whole.read("rejected"))
    assert not (workspace.folder / ".ingest").exists()


def test_sources_that_have_changed_meanwhile_are_read_anew(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "_conflicts", stop)
        with pytest.raises(Stop):
            run(config)
    held = {path.name for path in (config.parent / "workspace" / ".ingest").iterdir()}
    (config.parent / "log" / "03.csv").write_text(HEADER + "x,new,i,view,2024-05-01\n")
    with monkeypatch.context() as patched:
        patched.setattr(ingest, "_conflicts", stop)
        with pytest.raises(Stop):
            run(config)
    after = {path.name for path in (config.parent / "workspace" / ".ingest").iterdir()}
    assert len(held) == len(after) == 2
    assert len(held & after) == 1  # the items
    workspace, _ = run(config)
    assert "new" in log(workspace)["user_id"]


# Progress, sealing, limits


class Told(Progress):
    """Remembers what was told of each task."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, tuple[int | None, list[int]]] = {}

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Advance]:
        steps: list[int] = []
        self.tasks[title] = (total, steps)
        yield steps.append


def test_progress_reaches_its_end(config: Path) -> None:
    told = Told()
    workspace = Workspace(config.parent / "workspace", config)
    ingest.run(workspace, told)
    total, steps = told.tasks["ingest: store log"]
    assert total == sum(steps) == DAYS * ROWS + 2
    size = sum(path.stat().st_size for path in (config.parent / "log").iterdir())
    total, steps = told.tasks["ingest: read log"]
    assert total == 2 * size
    assert 0.95 * total <= sum(steps) <= total


def test_a_long_log_is_sealed_now_and_then(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SEALED", 100)
    monkeypatch.setattr(ingest, "KEPT", 10)
    workspace, sealed = Workspace(config.parent / "workspace", config), list[int]()
    monkeypatch.setattr(workspace.store, "seal", lambda keep: sealed.append(keep) or 0)
    ingest.run(workspace, Progress())
    assert sealed == [10] * (DAYS * (ROWS - 1) // 114)


def test_limits_are_kept(config: Path) -> None:
    config.write_text(config.read_text() + "\n[limits]\ncolumns = 4\n")
    with pytest.raises(ContractError, match=r"has 5 columns, more than limits\.columns = 4"):
        run(config)


def test_attributes_of_users_are_versions_from_several_sources(config: Path) -> None:
    config.write_text(
        CONFIG
        + '[[users]]\npath = "plans.csv"\nattributes = ["plan", "valid_from"]\n'
        + '[[users]]\npath = "ages.csv"\nattributes = ["age"]\n'
    )
    (config.parent / "plans.csv").write_text(
        "user_id,plan,valid_from\nu1,paid,2024-03-01\nu1,free,2024-01-01\nu2,free,\n"
    )
    (config.parent / "ages.csv").write_text("user_id,age\nu1,30\nu3,40\n")
    workspace = Workspace(config.parent / "workspace", config)
    put = []
    store, kept = workspace.store, workspace.store.put
    workspace.store.put = lambda kind, frame: put.append((kind, frame)) or kept(kind, frame)  # type: ignore[method-assign]
    ingest.run(workspace, Progress())
    assert store is workspace.store
    users = dict(put)["users"].with_columns(pl.col("valid_from").dt.month())
    assert users.select("user_id", "valid_from", "plan", "age").rows() == [
        ("u1", 1, "free", "30"),
        ("u1", 3, "paid", "30"),
        ("u2", None, "free", None),
        ("u3", None, None, "40"),
    ]


def test_a_workspace_that_was_never_finished_can_be_thrown_away(config: Path) -> None:
    run(config)
    shutil.rmtree(config.parent / "workspace")
    assert run(config)[1]["accepted"] == DAYS * (ROWS - 1)


def test_personal_data_is_masked_before_it_is_stored(config: Path) -> None:
    (config.parent / "notes.jsonl").write_text(
        '{"user_id": "u1", "event_type": "note", "timestamp": "2024-03-01", "text": "to ann@example.org"}\n'
        '{"event_type": "note", "timestamp": "2024-03-01", "text": "or to bob@example.org"}\n'
    )
    config.write_text(config.read_text() + '\n[privacy]\nmask = true\n[[events]]\npath = "notes.jsonl"\n')
    workspace, _ = run(config)
    texts = log(workspace)["text"].drop_nulls().to_list()
    assert texts == ["to [email]"]
    files = [path for path in workspace.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"@example.org" in path.read_bytes()]
    content = workspace.read("rejected").filter(source="notes")["content"].to_list()
    assert ["[email]" in row for row in content] == [True]
