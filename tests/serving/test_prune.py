"""Old snapshots go, what is in use stays and what it shares with them; a kill leaves no half of one."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from profiles import manifest
from profiles.schema import EVENTS
from serving.pipeline import Pipeline
from serving.prune import prune
from serving.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(number: int) -> dict[str, object]:
    moment = START + timedelta(hours=number)
    return {"user_id": f"u{number % 3}", "item_id": "a", "event_type": "view", "timestamp": moment}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with five snapshots, each built upon the one before; the last is in use."""
    rows = [event(n) | {"timestamp": (START + timedelta(hours=n)).isoformat()} for n in range(20)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = tmp_path / "attune.toml"
    config.write_text('[[events]]\npath = "log.jsonl"\n[text]\nenabled = false\n[recommenders.popularity]\n')
    found = Workspace(tmp_path / "w", config)
    Pipeline(found).run(("ingest", "build"))
    for number in range(20, 24):
        found.store.append(EVENTS.conform(pl.DataFrame([event(number) | {"event_id": f"more {number}"}])))
        Pipeline(found).run(("build",))
    return found


def names(workspace: Workspace) -> list[str]:
    """Snapshots from the oldest to the newest."""
    folders = [f for f in (workspace.folder / "snapshots").iterdir() if not f.name.startswith(".")]
    return [f.name for f in sorted(folders, key=lambda f: int(manifest.read(f)["watermark"]))]


def test_the_newest_stay(workspace: Workspace) -> None:
    before = names(workspace)
    assert len(before) == 5
    for name in before:
        (workspace.folder / "derived" / name / "text-1").mkdir(parents=True)
    assert prune(workspace, 9) == []
    assert prune(workspace, 5) == []
    assert prune(workspace, 2) == before[:3]
    assert names(workspace) == before[3:]
    assert {f.name for f in (workspace.folder / "derived").iterdir()} == {*before[3:]}
    for name in before[3:]:
        manifest.verify(workspace.folder / "snapshots" / name)
    assert workspace.snapshot.name == before[-1]
    assert len(workspace.snapshot.frame("events")) == 24


def test_the_one_in_use_stays_however_old(workspace: Workspace) -> None:
    before = names(workspace)
    workspace.finish("build", "key", {"snapshot": before[1], "texts": None})
    assert prune(workspace, 1) == [before[0], *before[2:4]]
    assert names(workspace) == [before[1], before[4]]


def test_a_damaged_one_goes_first(workspace: Workspace) -> None:
    before = names(workspace)
    workspace.finish("build", "key", {"snapshot": before[0], "texts": None})
    (workspace.folder / "snapshots" / before[4] / manifest.MANIFEST).write_text("{")
    assert prune(workspace, 3) == [before[4]]
    assert names(workspace) == before[:4]


def test_what_a_kill_leaves_is_swept_away(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = names(workspace)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            prune(workspace, 2)
    assert names(workspace) == before[1:]
    assert prune(workspace, 2) == before[1:3]
    assert {f.name for f in (workspace.folder / "snapshots").iterdir()} == {*before[3:]}
