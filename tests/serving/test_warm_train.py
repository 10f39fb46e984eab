"""Trains that go on from the release before: what they keep, when they must not, and what erasure demands."""

from pathlib import Path

import polars as pl
import pytest

from profiles import manifest
from profiles.simulate import World, WorldConfig, simulate
from recsys.recommender import Recommender
from serving.erasure import erase
from serving.pipeline import Pipeline
from serving.progress import Progress
from serving.workspace import Workspace

SETTINGS = """\
events = [{ name = "log", path = "events.parquet" }]
items = [{ name = "items", path = "items.parquet" }]
[text]
enabled = false
[recommenders.popularity]
[recommenders.ease]
l2 = 50
[recommenders.als]
factors = 8
[blend]
weights = { ease = 1, als = 1 }
[train]
warm = true
"""
STAGES = ("ingest", "build", "train")


@pytest.fixture(scope="module")
def shop() -> World:
    return simulate(WorldConfig(users=80, items=60, events=3000, days=60))


class Said(Progress):
    """Remembers what would be printed."""

    def say(self, line: str) -> None:
        self.lines = [*getattr(self, "lines", []), line]


def trained(folder: Path, events: pl.DataFrame, shop: World, settings: str = SETTINGS) -> Workspace:
    """Train on these events, in the workspace below `folder`, on top of what is there."""
    folder.mkdir(exist_ok=True)
    events.write_parquet(folder / "events.parquet")
    shop.items.write_parquet(folder / "items.parquet")
    (folder / "attune.toml").write_text(settings)
    workspace = Workspace(folder / "workspace", folder / "attune.toml")
    Pipeline(workspace, Progress(True)).run(STAGES)
    return workspace


def about(workspace: Workspace) -> dict:
    return dict(workspace.releases.load_active().about)


def states(workspace: Workspace) -> dict[str, bytes]:
    place = workspace.releases.root / str(workspace.releases.active()) / "recommenders"
    return {p.parent.name: p.read_bytes() for p in place.glob("*/state.safetensors")}


def test_new_events_update_the_models_of_the_release_before(shop, tmp_path, monkeypatch):
    most = trained(tmp_path / "warm", shop.events.head(2700), shop)
    first = about(most)
    assert "updated_from" not in first
    cold = SETTINGS.replace("warm = true", "warm = false")
    assert states(most) == states(trained(tmp_path / "cold", shop.events.head(2700), shop, cold))

    monkeypatch.setattr(Recommender, "fit", lambda *_: pytest.fail("a recommender was fitted"))
    monkeypatch.setattr("serving.pipeline.choose_weights", lambda *_: pytest.fail("weights were chosen anew"))
    now = trained(tmp_path / "warm", shop.events, shop)
    monkeypatch.undo()
    second = about(now)
    assert second["updated_from"] == first["release"]
    for kept in ("weights", "validation", "left_out", "recommenders"):
        assert second[kept] == first[kept]
    assert second["snapshot"] != first["snapshot"]
    whole = states(trained(tmp_path / "whole", shop.events, shop, cold))
    assert {name for name, content in states(now).items() if content == whole[name]} == {"popularity", "ease"}

    again = Workspace(now.folder, now.config)
    pipeline = Pipeline(again, Progress(True))
    pipeline.run(STAGES)
    assert not pipeline.ran["train"]
    manifest.write_atomically(now.folder / "state.json", b"{}")  # as after a kill before it was noted
    Pipeline(Workspace(now.folder, now.config), Progress(True)).run(STAGES, force=True)
    assert about(now)["release"] == second["release"]
    assert len(now.releases.names()) == 2


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("factors = 8", "factors = 4", "recommenders changed"),
        ("als = 1", "als = 2", "blend changed"),
        ("[blend]", "[interactions]\nweights = { view = 2 }\n[blend]", "interactions changed"),
    ],
)
def test_other_settings_are_fitted_anew(shop, tmp_path, old, new, reason):
    trained(tmp_path / "one", shop.events.head(2700), shop)
    changed = SETTINGS.replace(old, new)
    (tmp_path / "one" / "attune.toml").write_text(changed)
    shop.events.write_parquet(tmp_path / "one" / "events.parquet")
    workspace, said = Workspace(tmp_path / "one" / "workspace", tmp_path / "one" / "attune.toml"), Said(True)
    Pipeline(workspace, said).run(STAGES)
    assert any(f"fits everything anew: {reason} since release" in line for line in said.lines)
    assert "updated_from" not in about(workspace)
    cold = changed.replace("warm = true", "warm = false")
    assert states(workspace) == states(trained(tmp_path / "two", shop.events, shop, cold))


@pytest.mark.parametrize("retrain", [True, False])
def test_models_that_saw_who_was_erased_are_never_gone_on_from(shop, tmp_path, retrain):
    trained(tmp_path / "one", shop.events.head(2400), shop)
    workspace = trained(tmp_path / "one", shop.events.head(2700), shop)
    assert "updated_from" in about(workspace)
    gone = shop.events["user_id"].unique().sort()[:3].to_list()
    erase(workspace, gone, retrain, Progress(True))
    rest = shop.events.filter(~pl.col("user_id").is_in(gone))
    past = rest.filter(pl.col("event_id").is_in(shop.events.head(2700)["event_id"].implode()))
    if not retrain:  # later, by whoever trains next
        Pipeline(workspace, Progress(True)).run(("train",))
    assert "updated_from" not in about(workspace)
    assert states(workspace) == states(trained(tmp_path / "never", past, shop))
    now = trained(tmp_path / "one", rest, shop)
    assert about(now)["updated_from"] == now.releases.trail()[-2]  # fitted after the erasure


def test_a_damaged_release_is_fitted_anew(shop, tmp_path):
    workspace = trained(tmp_path / "one", shop.events.head(2700), shop)
    for file in workspace.releases.root.glob("*/recommenders/als/state.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    now = trained(tmp_path / "one", shop.events, shop)
    assert "updated_from" not in about(now)
