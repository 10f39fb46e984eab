"""`attune train`, killed or interrupted inside a fit, goes on from its checkpoint to the same release."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from profiles import manifest
from profiles.simulate import World, WorldConfig, simulate
from recsys import training
from recsys.models.sasrec import SASRec
from serving.erasure import erase
from serving.pipeline import Pipeline
from serving.progress import Progress
from serving.workspace import Workspace

ROOT = Path(__file__).parents[2]
SETTINGS = """\
events = [{ name = "log", path = "events.parquet" }]
[text]
enabled = false
[recommenders.popularity]
[recommenders.sasrec]
factors = 8
max_length = 10
batch_size = 8
epochs = 8
seed = 3
[blend]
weights = { sasrec = 1 }
[train]
checkpoint_seconds = 0
"""


@pytest.fixture(scope="module")
def shop() -> World:
    return simulate(WorldConfig(users=80, items=60, events=3000, days=60))


@pytest.fixture(scope="module")
def built(shop: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a log, its settings and a workspace that is built; not to be written to."""
    folder = tmp_path_factory.mktemp("built")
    shop.events.write_parquet(folder / "events.parquet")
    opened(folder, SETTINGS)
    Pipeline(opened(folder), Progress(True)).run(("ingest", "build"))
    return folder


@pytest.fixture(scope="module")
def whole(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace that was trained at one go."""
    return trained(copied(built, tmp_path_factory.mktemp("whole")))


def opened(folder: Path, settings: str = "") -> Workspace:
    if settings:
        (folder / "attune.toml").write_text(settings)
    return Workspace(folder / "workspace", folder / "attune.toml")


def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "here"))


def trained(folder: Path, settings: str = "") -> Workspace:
    workspace = opened(folder, settings)
    Pipeline(workspace, Progress(True)).run(("train",))
    return workspace


def states(workspace: Workspace) -> dict[str, bytes]:
    place = workspace.releases.root / str(workspace.releases.active()) / "recommenders"
    return {p.parent.name: p.read_bytes() for p in place.glob("*/state.safetensors")}


def noted(workspace: Workspace) -> list[tuple[str, object]]:
    """Return how each fit went by its epochs."""
    places = (workspace.folder / "cache" / "fits").iterdir()
    return sorted((about["data"], about["epochs"]) for about in map(manifest.read, places))


def kept(folder: Path) -> list[Path]:
    """Return the checkpoints that lie in the workspace, whole ones, whoever is at work in it meanwhile."""
    found = os.walk(folder / "workspace" / "cache" / "training")  # which a folder that goes does not stop
    places = [Path(place) for place, _, files in found if "manifest.json" in files]
    return [place for place in places if place.name.startswith("epoch-")]


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a train after the second epoch of its first fit."""
    finish = training._Loop._finish

    def stop(self: training._Loop, epoch: int, loss: float, steps: int) -> None:
        finish(self, epoch, loss, steps)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._Loop, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(folder)
    assert kept(folder)


def test_killed_from_outside(built: Path, whole: Workspace, tmp_path: Path) -> None:
    folder = copied(built, tmp_path)
    command = [sys.executable, "-m", "serving.cli", "--threads", "1", "train", "-w", "workspace"]
    command += ["-c", "attune.toml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)
    while killed.poll() is None:
        time.sleep(0.005)
        if kept(folder):
            killed.send_signal(signal.SIGSTOP)  # to look whether it still lies there
            if any(not place.name.startswith("epoch-00000") for place in kept(folder)):
                break
            killed.send_signal(signal.SIGCONT)
    killed.kill()
    _, told = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, told.decode()
    assert opened(folder).releases.active() is None
    assert kept(folder)

    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "sasrec: goes on from its checkpoint, in epoch " in again.stderr
    found = opened(folder)
    assert states(found) == states(whole)
    assert noted(found) == noted(whole)
    assert not list((found.folder / "cache" / "training").glob("*"))


def test_interrupted_by_a_person(
    built: Path, whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(built, tmp_path)
    interrupted(folder, monkeypatch)
    done: list[int] = []
    step = training._Loop._epoch

    def counted(self: training._Loop, epoch: int, *rest: object) -> float:
        done.append(epoch)
        return step(self, epoch, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training._Loop, "_epoch", counted)
        found = trained(folder)
    assert done == [*range(3, 9), *range(1, 9)]  # the first fit goes on, the second begins
    assert states(found) == states(whole)
    fits = [manifest.read(place) for place in (found.folder / "cache" / "fits").iterdir()]
    unknown = [about["data"] for about in fits if about["seconds"] is None]
    assert len(unknown) == 1  # what it took was spent in two runs
    assert not list((found.folder / "cache" / "training").glob("*"))


@pytest.mark.parametrize("what", ["settings", "data"])
def test_a_checkpoint_of_something_else_is_not_gone_on_from_and_goes(
    what: str, built: Path, shop: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, fresh = copied(built, tmp_path), tmp_path / "fresh"
    shutil.copytree(built, fresh)
    interrupted(folder, monkeypatch)
    found = []
    for place in (folder, fresh):
        settings = SETTINGS.replace("seed = 3", "seed = 4") if what == "settings" else SETTINGS
        if what == "data":
            more = shop.events.tail(30).with_columns(pl.col("event_id") + "-again")
            more.write_parquet(place / "more.parquet")
            settings = settings.replace("events = [", 'events = [{ name = "more", path = "more.parquet" }, ')
            Pipeline(opened(place, settings), Progress(True)).run(("ingest", "build"))
        found.append(trained(place, settings))
    assert states(found[0]) == states(found[1])
    assert noted(found[0])[-1:] == noted(found[1])[-1:]
    assert not kept(folder)


def test_a_checkpoint_stays_until_its_fit_is_saved(
    built: Path, whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    folder = copied(built, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(folder)
    (last,) = kept(folder)
    assert last.name == "epoch-00008"
    assert states(trained(folder)) == states(whole)


def test_erasure_reaches_checkpoints(
    built: Path, shop: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(built, tmp_path)
    interrupted(folder, monkeypatch)
    erase(opened(folder), [shop.events["user_id"][0]], False, Progress(True))
    assert not (folder / "workspace" / "cache").exists()
