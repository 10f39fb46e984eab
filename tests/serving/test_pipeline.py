"""The stages: what makes each run again, what a kill leaves, and what the outputs promise."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles import manifest
from profiles.schema import ContractError
from profiles.simulate import World, WorldConfig, simulate
from recsys.metrics import METRICS_BY_NAME
from recsys.recommender import Recommender
from serving.pipeline import STAGES, Pipeline
from serving.workspace import Workspace

SETTINGS = """\
events = [{ name = "log", path = "events.parquet" }]
items = [{ name = "items", path = "items.parquet" }]
users = [{ name = "users", path = "users.parquet" }]
[text]
enabled = false
[interactions]
weights = { view = 1, cart = 2, purchase = 4 }
[recommenders.popularity]
[recommenders.recent]
type = "popularity"
half_life_days = 5
[recommenders.item_knn]
[recommenders.als]
factors = 8
[recommenders.ease]
l2 = 50
"""
SOURCES = {"popularity", "recent", "item_knn", "als", "ease"}


@pytest.fixture(scope="session")
def shop() -> World:
    return simulate(WorldConfig(users=150, items=100, events=4000, days=60))


def write(folder: Path, shop: World, events: pl.DataFrame | None = None, settings: str = SETTINGS) -> Path:
    """Write the shop's files and its configuration; returns the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (shop.events if events is None else events).write_parquet(folder / "events.parquet")
    shop.items.write_parquet(folder / "items.parquet")
    shop.users.write_parquet(folder / "users.parquet")
    (folder / "attune.toml").write_text(settings)
    return folder / "attune.toml"


def run(config: Path, *stages: str, force: bool = False) -> tuple[Workspace, dict[str, bool]]:
    """Run stages (default: all) in a fresh process' stead; returns the workspace and what ran."""
    workspace = Workspace(config.parent / "workspace", config)
    pipeline = Pipeline(workspace)
    pipeline.run(stages or STAGES, force)
    return workspace, pipeline.ran


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, shop: World) -> Path:
    """The configuration of a finished workspace; not to be written to."""
    config = write(tmp_path_factory.mktemp("done"), shop)
    run(config)
    return config


@pytest.fixture
def config(done: Path, tmp_path: Path) -> Path:
    """The configuration of a finished workspace, free to be changed."""
    shutil.copytree(done.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "attune.toml"


def rerun(config: Path) -> list[str]:
    return [stage for stage, ran in run(config)[1].items() if ran]


# What runs again


def test_the_second_time_nothing_runs(config):
    workspace, ran = run(config)
    assert ran == dict.fromkeys(STAGES, False)
    before = {p: p.stat().st_mtime_ns for p in workspace.folder.rglob("*.parquet")}
    run(config)
    assert {p: p.stat().st_mtime_ns for p in workspace.folder.rglob("*.parquet")} == before
    assert run(config, force=True)[1] == dict.fromkeys(STAGES, True)


def test_new_events_run_everything_again(config, shop):
    more = shop.events.tail(1).with_columns(event_id=pl.lit("new"), item_id=pl.lit("i001"))
    pl.concat([shop.events, more]).write_parquet(config.parent / "events.parquet")
    assert rerun(config) == list(STAGES)
    assert Workspace(config.parent / "workspace").snapshot.about["counts"]["events"] == 4001


def test_a_new_title_runs_everything_again(config, shop):
    shop.items.with_columns(title=pl.lit("x")).write_parquet(config.parent / "items.parquet")
    assert rerun(config) == list(STAGES)


def test_the_same_rows_written_otherwise_fit_nothing_again(config, shop):
    shop.events.sample(fraction=1, shuffle=True, seed=1).write_parquet(config.parent / "events.parquet")
    workspace, ran = run(config)
    assert ran["ingest"]
    assert not ran["train"]
    assert not ran["evaluate"]
    assert not ran["recommend"]
    assert workspace.state()["ingest"] | {"accepted": 0, "duplicates": 4000} == workspace.state()["ingest"]


@pytest.mark.parametrize(
    ("added", "stages"),
    [
        ("[recommend]\nk = 7\n", ["recommend"]),
        ("[serve]\nport = 9999\n", []),
        ("[evaluation]\nquantile = 0.8\n", ["train", "recommend", "evaluate"]),
        ("[blend]\nconstant = 20\n", ["train", "recommend", "evaluate"]),
        ("[recommenders.popular2]\ntype = 'popularity'\n", ["train", "recommend", "evaluate"]),
        ("[profiles]\nlast_items = 3\n", ["build", "train", "recommend", "evaluate"]),
    ],
)
def test_a_setting_runs_again_what_reads_it(config, added, stages):
    config.write_text(SETTINGS + added)
    assert rerun(config) == stages
    assert rerun(config) == []


def test_profiles_and_releases_as_of_an_earlier_moment(config, shop):
    """Nothing later than the moment is in the snapshot, the release or the lists' masks."""
    moment = shop.config.start + timedelta(days=40)
    config.write_text(SETTINGS + f"[profiles]\nas_of = {moment.isoformat()}\n")
    workspace, ran = run(config)
    assert [stage for stage, it in ran.items() if it] == ["build", "train", "recommend", "evaluate"]
    snapshot = workspace.snapshot
    assert snapshot.as_of == moment
    assert len(snapshot.frame("events")) == len(shop.events.filter(pl.col("timestamp") <= moment))
    assert workspace.releases.load_active().about["as_of"] == moment.isoformat()
    late = shop.items.filter(pl.col("available_from") > moment)["item_id"]
    assert len(late) > 0
    assert not workspace.read("recommendations")["item_id"].is_in(late.implode()).any()
    assert Workspace(workspace.folder).settings.profiles.as_of == moment


def test_a_moment_without_a_zone_is_refused(config):
    config.write_text(SETTINGS + "[profiles]\nas_of = 2026-02-01T00:00:00\n")
    with pytest.raises(ContractError, match=r"profiles\.as_of: input should have timezone info"):
        run(config)


def test_several_processes_of_torchrun_are_refused(config, monkeypatch):
    workspace, _ = run(config)
    before = workspace.state()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ContractError, match="one alone may work in a workspace: run this without torchrun"):
        run(config, force=True)
    assert workspace.state() == before


def test_event_weights_run_again_all_but_the_ingestion(config):
    config.write_text(SETTINGS.replace("purchase = 4", "purchase = 5"))
    assert rerun(config) == ["check", "build", "train", "recommend", "evaluate"]


@pytest.mark.parametrize(
    ("output", "stage"),
    [
        ("store/events.db", "ingest"),
        ("rejected.parquet", "ingest"),
        ("snapshots/*", "build"),
        ("snapshots/*/manifest.json", "build"),
        ("snapshots/*/interactions/0000.parquet", "build"),
        (f"releases/{16 * '?'}", "train"),
        ("releases/*/blend.json", "train"),
        ("releases/*/recommenders/*/state.safetensors", "train"),
        ("evaluation.json", "evaluate"),
        ("metrics.parquet", "evaluate"),
        ("examples.parquet", "evaluate"),
        ("costs.json", "evaluate"),
        ("recommendations.parquet", "recommend"),
        ("contributions.parquet", "recommend"),
    ],
)
def test_a_deleted_output_is_made_again(config, done, output, stage):
    folder = config.parent / "workspace"
    found = list(folder.glob(output))
    assert found
    for place in found:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert rerun(config) == [stage]
    assert rerun(config) == []
    same = ("evaluation.json", "metrics.parquet", "examples.parquet", "rejected.parquet")
    for name in ("recommendations.parquet", *same):
        assert (folder / name).read_bytes() == (done.parent / "workspace" / name).read_bytes(), name
    assert all(place.exists() for place in found)


def test_a_flipped_bit_in_a_snapshot_is_noticed_and_mended(config, done):
    (place,) = (config.parent / "workspace").glob("snapshots/*/interactions/0000.parquet")
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 4
    place.write_bytes(content)
    assert rerun(config) == ["build"]
    (sound,) = (done.parent / "workspace").glob("snapshots/*/interactions/0000.parquet")
    assert place.read_bytes() == sound.read_bytes()


def test_what_is_rolled_back_stays_so_until_something_changes(config):
    first = Workspace(config.parent / "workspace").releases.active()
    config.write_text(SETTINGS + "[blend]\nconstant = 20\n")
    workspace, _ = run(config)
    assert workspace.releases.active() != first
    workspace.releases.rollback()
    workspace, ran = run(config)
    assert [stage for stage, did in ran.items() if did] == ["recommend"]
    assert workspace.releases.active() == first
    assert workspace.state()["recommend"]["release"] == first


# Interruptions


def hidden(workspace: Path) -> list[str]:
    return sorted(str(p.relative_to(workspace)) for p in workspace.rglob("*") if p.name.startswith("."))


def test_killed_again_and_again_it_ends_where_the_undisturbed_run_does(done, shop, tmp_path):
    config = write(tmp_path, shop)
    folder = tmp_path / "workspace"
    command = [sys.executable, "-m", "serving.cli", "run", "-c", str(config), "-w", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    rng = random.Random(5)

    def finished() -> int:
        state = folder / "state.json"
        return len(json.loads(state.read_bytes())) if state.exists() else 0

    for stages in range(len(STAGES)):  # killed at a random moment of each stage, or soon after it
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while process.poll() is None and not (folder / "settings.json").exists():
            time.sleep(0.001)
        while process.poll() is None and finished() < stages:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        for place in folder.glob("*/[!.]*/manifest.json"):  # what has its name is whole
            manifest.verify(place.parent)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    sound = done.parent / "workspace"
    lists = ("recommendations.parquet", "contributions.parquet")
    for name in (*lists, "metrics.parquet", "examples.parquet", "evaluation.json"):
        assert (folder / name).read_bytes() == (sound / name).read_bytes(), name
    assert Workspace(folder).releases.active() == Workspace(sound).releases.active()
    assert [p.name for p in (folder / "snapshots").iterdir()] == [
        p.name for p in (sound / "snapshots").iterdir()
    ]
    assert hidden(folder) == [".lock"]


@pytest.mark.parametrize("stage", STAGES)
def test_an_interruption_inside_a_stage_leaves_nothing_half_done(done, shop, tmp_path, monkeypatch, stage):
    config = write(tmp_path, shop)
    reached = {
        "ingest": "serving.ingest._conflicts",
        "check": "serving.pipeline.run_checks",
        "build": "profiles.snapshot.ProfileBuild",
        "train": "serving.release.Releases.activate",
        "evaluate": "serving.report.measure_split",
        "recommend": "serving.release.Release.recommend",
    }[stage]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = STAGES[: STAGES.index(stage)]
    if before:
        run(config, *before)
    with monkeypatch.context() as patched:
        patched.setattr(reached, stop)
        with pytest.raises(KeyboardInterrupt):
            run(config, stage)
    workspace = Workspace(tmp_path / "workspace")
    assert list(workspace.state()) == list(before)
    workspace, ran = run(config)
    assert ran == {s: s not in before for s in STAGES}
    assert workspace.read("recommendations").equals(
        Workspace(done.parent / "workspace").read("recommendations")
    )
    assert hidden(workspace.folder) == [".lock"]


def test_finished_fits_are_not_fitted_again(shop, tmp_path, monkeypatch):
    config = write(tmp_path, shop)
    fitted: list[str] = []
    fit = Recommender.fit

    def counted(self: Recommender, train: Any) -> Recommender:
        if len(fitted) == 7:
            raise KeyboardInterrupt
        fitted.append(type(self).__name__)
        return fit(self, train)

    monkeypatch.setattr(Recommender, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    monkeypatch.setattr(Recommender, "fit", fit)
    again: list[str] = []
    monkeypatch.setattr(
        Recommender, "fit", lambda self, train: (again.append(type(self).__name__), fit(self, train))[1]
    )
    workspace, _ = run(config)
    # Five sources on all, on the test cut (train and evaluate share it) and on the validation cut.
    assert len(fitted) == 7
    assert len(again) == 15 - 7
    assert len(list((workspace.folder / "cache" / "fits").iterdir())) == 15
    again.clear()
    run(config, "train", "evaluate", force=True)
    assert again == []


def test_fits_of_other_data_are_forgotten(config, shop):
    fits = config.parent / "workspace" / "cache" / "fits"
    before = {p.name for p in fits.iterdir()}
    shop.events.head(3900).with_columns(event_id="x" + pl.col("event_id")).write_parquet(
        config.parent / "events.parquet"
    )
    run(config)
    after = {p.name for p in fits.iterdir()}
    assert len(after) == 15
    assert not before & after


@pytest.mark.parametrize("name", ["manifest.json", "state/state.safetensors", "state/recommender.json"])
def test_a_damaged_fit_is_silently_fitted_again(config, done, name):
    for place in (config.parent / "workspace" / "cache" / "fits").glob(f"*/{name}"):
        place.write_bytes(place.read_bytes()[:-9])
    workspace, _ = run(config, "train", "evaluate", "recommend", force=True)
    sound = Workspace(done.parent / "workspace")
    assert workspace.releases.active() == sound.releases.active()
    assert workspace.read("recommendations").equals(sound.read("recommendations"))


# What comes out


def test_the_shape_of_the_evaluation(done):
    found = json.loads((done.parent / "workspace" / "evaluation.json").read_bytes())
    assert {"split", "results"} <= set(found)
    assert found["split"]["protocol"] == "temporal"
    assert set(found["split"]) >= {"at", "users", "pairs", "cold_users", "unreachable_share", "leaks"}
    assert 0 <= found["split"]["unreachable_share"] <= 1
    assert datetime.fromisoformat(found["split"]["at"][0]).tzinfo
    rows = found["results"]
    assert all(list(r) == ["source", "metric", "k", "mean", "low", "high", "users"] for r in rows)
    cells = {(r["source"], r["metric"], r["k"]) for r in rows}
    assert len(cells) == len(rows) == 6 * 8 * 3
    assert {source for source, _, _ in cells} == SOURCES | {"blend"}
    assert {k for _, _, k in cells} == {5, 10, 20}
    for r in rows:
        assert np.isfinite(r["mean"])
        if r["low"] is not None:
            assert r["low"] <= r["mean"] <= r["high"]
        if r["metric"] in ("ndcg", "recall", "hit_rate", "mrr", "map"):
            assert r["users"] == found["split"]["users"]
            assert 0 <= r["mean"] <= 1
    assert sum(found["weights"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("evaluation", "leaks"),
    [
        ("date = 2026-02-15T00:00:00Z", False),
        ("target = 'successive'\nsteps = 2", False),
        ("split = 'cold_users'\nquantile = 0.3", False),
        ("split = 'ratio'", True),
        ("split = 'random'", True),
        ("split = 'k_fold'\nfolds = 2\nvalidation = 'users'", True),
        ("split = 'strong'", True),
        ("split = 'cold_items'", True),
    ],
)
def test_every_protocol_is_evaluated_and_says_whether_it_leaks(shop, tmp_path, evaluation, leaks):
    short = SETTINGS.partition("[recommenders.als]")[0]
    names = ", ".join(f"'{name}'" for name in METRICS_BY_NAME)
    config = write(tmp_path, shop, settings=f"{short}[evaluation]\nmetrics = [{names}]\n{evaluation}\n")
    workspace, _ = run(config, "ingest", "build", "evaluate")
    found = json.loads((workspace.folder / "evaluation.json").read_bytes())
    assert bool(found["split"]["leaks"]) == leaks
    assert found["split"]["users"] > 0
    told = {row["metric"] for row in found["results"]}
    assert told == {*METRICS_BY_NAME}
    assert all(np.isfinite(row["mean"]) for row in found["results"] if row["mean"] is not None)
    run(config, "evaluate", force=True)
    assert json.loads((workspace.folder / "evaluation.json").read_bytes()) == found


def test_notebooks_read_the_same_table(config):
    table = Workspace(config.parent / "workspace").evaluate().to_polars()
    assert table.columns[:7] == ["source", "metric", "k", "mean", "low", "high", "users"]
    assert len(table) == 6 * 8 * 3


def test_a_source_that_cannot_is_a_row_of_nulls_with_its_reason(config):
    config.write_text(SETTINGS + "[recommenders.content_text]\n")
    workspace, _ = run(config)
    rows = json.loads((workspace.folder / "evaluation.json").read_bytes())["results"]
    rows = [r for r in rows if r["source"] == "content_text"]
    assert len(rows) == 8 * 3
    for row in rows:
        assert (row["mean"], row["low"], row["high"], row["users"]) == (None, None, None, 0)
        assert "text" in row["reason"]
    assert "content_text" not in workspace.state()["train"]["weights"]


def test_every_user_has_a_list_whose_scores_are_explained(done, shop):
    workspace = Workspace(done.parent / "workspace")
    lists, parts = workspace.read("recommendations"), workspace.read("contributions")
    assert set(lists["user_id"]) == set(shop.users["user_id"]) | set(shop.events["user_id"])
    assert set(lists["source"]) == {"blend"}
    for ranks in lists.group_by("user_id", maintain_order=True).agg("rank")["rank"]:
        assert ranks.to_list() == list(range(1, 21))
    assert lists.select("user_id", "item_id").is_unique().all()
    falls = lists.with_columns(fall=pl.col("score").diff().over("user_id"))
    assert (falls["fall"].drop_nulls() <= 0).all()
    summed = parts.group_by("user_id", "item_id").agg(pl.col("contribution").sum())
    both = lists.join(summed, on=["user_id", "item_id"], how="left")
    assert both["contribution"].null_count() == 0
    assert (both["contribution"] - both["score"]).abs().max() < 1e-5
    assert set(parts["source"]) <= SOURCES | {"fallback:popularity"}
    seen = workspace.snapshot.frame("interactions").select("user_id", "item_id").unique()
    assert lists.join(seen, on=["user_id", "item_id"]).is_empty()


def test_cold_users_get_the_fallback(config, shop):
    cold = ["anna", "\x00odd", "zoe"]
    pl.concat([shop.users, pl.DataFrame({"user_id": cold})], how="diagonal").write_parquet(
        config.parent / "users.parquet"
    )
    config.write_text(SETTINGS + "[blend]\nweights = { item_knn = 1 }\n")
    workspace, _ = run(config)
    lists, parts = workspace.read("recommendations"), workspace.read("contributions")
    interactions = workspace.snapshot.frame("interactions")
    most = interactions.group_by("item_id").agg(pl.col("weight").sum()).sort("weight", descending=True)
    for user in cold:
        own = lists.filter(user_id=user)
        assert own["item_id"].to_list() == lists.filter(user_id=cold[0])["item_id"].to_list()
        assert own.height == 20
        counts = own.join(most, on="item_id", maintain_order="left")["weight"].to_list()
        assert counts == most["weight"].head(20).to_list()
        assert set(parts.filter(user_id=user)["source"]) == {"fallback:popularity"}


def test_conflicts_are_set_aside_with_what_could_not_be_read(config, shop):
    changed = shop.events.with_columns(
        item_id=pl.when(pl.int_range(pl.len()) % 1000 == 7).then(pl.lit("i001")).otherwise("item_id"),
        user_id=pl.when(pl.int_range(pl.len()) != 3).then("user_id"),
    )
    changed.write_parquet(config.parent / "events.parquet")
    workspace, _ = run(config)
    rejected = workspace.read("rejected")
    told = Counter(p.split(" is in ")[-1] for p in rejected["problem"])
    moved = changed.with_row_index("row").filter(pl.col("item_id").ne_missing(shop.events["item_id"]))
    conflicts = moved["event_id"].to_list()
    assert told == {"an event with no user": 1, "the log with other content": len(conflicts)}
    assert len(conflicts) >= 3
    for event_id, problem in zip(conflicts, rejected["problem"][1:], strict=True):
        assert problem == f"event_id {event_id} is in the log with other content"
    assert set(rejected["source"]) == {"log"}
    assert rejected["row"].to_list() == [4, *(moved["row"] + 1)]
    assert json.loads(rejected["content"][1])["event_id"] == conflicts[0]
    assert workspace.snapshot.about["counts"]["events"] == 4000


# Weights are chosen without a look at what they are judged by


def altered_after(events: pl.DataFrame, cut: datetime, seed: int) -> pl.DataFrame:
    """Replace the item of every event later than the cut by one known before it."""
    known = events.filter(pl.col("timestamp") <= cut)["item_id"].drop_nulls().unique().sort()
    drawn = known.sample(events.height, with_replacement=True, seed=seed)
    late = (pl.col("timestamp") > cut) & pl.col("item_id").is_not_null()
    return events.with_columns(item_id=pl.when(late).then(drawn).otherwise("item_id"))


@pytest.mark.parametrize("split", ["split = 'temporal'", "split = 'rolling'\norigins = 3\nevery_days = 4"])
def test_what_happens_after_the_cut_does_not_change_the_weights_it_is_judged_with(
    done, shop, tmp_path, split
):
    settings = f"{SETTINGS}[evaluation]\n{split}\n"
    honest, _ = run(write(tmp_path / "honest", shop, settings=settings))
    found = json.loads((honest.folder / "evaluation.json").read_bytes())
    cut = datetime.fromisoformat(found["split"]["at"][0])
    chosen = set()
    for seed in range(2):
        other = altered_after(shop.events, cut, seed)
        assert not other.equals(shop.events)
        workspace, _ = run(write(tmp_path / str(seed), shop, other, settings))
        assert workspace.state()["evaluate"]["weights"] == found["weights"]
        again = json.loads((workspace.folder / "evaluation.json").read_bytes())
        assert again["split"]["at"] == found["split"]["at"]
        assert again["results"] != found["results"]
        chosen.add(json.dumps(workspace.state()["train"]["weights"]))
    assert chosen  # what is released may know all of it


# Logs without time


def ordered(folder: Path, shop: World, split: str) -> Path:
    log = shop.events.filter(pl.col("item_id").is_not_null()).with_row_index("position").drop("timestamp")
    settings = SETTINGS.replace(
        'path = "events.parquet" }', 'path = "events.parquet", columns = { order = "position" } }'
    )
    return write(folder, shop, log, f'{settings}[evaluation]\nsplit = "{split}"\n')


def test_a_log_with_an_order_only_goes_all_the_way(shop, tmp_path):
    items = shop.items.drop("available_from", "available_to")
    config = ordered(tmp_path, shop, "leave_last_out")
    items.write_parquet(tmp_path / "items.parquet")
    workspace, ran = run(config)
    assert all(ran.values())
    assert workspace.snapshot.timeless
    found = json.loads((workspace.folder / "evaluation.json").read_bytes())
    assert found["split"]["protocol"] == "leave_last_out"
    assert "later than the truth" in found["split"]["leaks"]
    rows = {(r["source"], r["metric"], r["k"]): r for r in found["results"]}
    assert rows["ease", "ndcg", 10]["mean"] > 0
    assert rows["recent", "ndcg", 10]["mean"] is None
    assert "order" in rows["recent", "ndcg", 10]["reason"] or "time" in rows["recent", "ndcg", 10]["reason"]
    assert set(workspace.read("recommendations")["user_id"]) == set(shop.users["user_id"])
    # Validation, test and the release are three different trains: none may be served by another's fits.
    assert len(list((workspace.folder / "cache" / "fits").iterdir())) == 3 * 4
    assert not any(run(config)[1].values())


def test_a_log_with_an_order_only_is_not_split_in_time(shop, tmp_path):
    for split in ("temporal", "rolling"):
        config = ordered(tmp_path / split, shop, split)
        with pytest.raises(
            ContractError, match=f'split = "{split}" needs times.*set split = "leave_last_out"'
        ):
            run(config)


def test_it_is_the_same_in_another_process(done, shop, tmp_path):
    """No set order, no hash seed, no thread count decides anything."""
    config = write(tmp_path, shop)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "serving.cli", "--threads", "1", "run", "-q", "-c", str(config)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    one, other = Workspace(done.parent / "workspace"), Workspace(tmp_path / "workspace")
    assert one.releases.active() == other.releases.active()
    assert_frame_equal(one.read("recommendations"), other.read("recommendations"))
    assert one.state()["evaluate"] == other.state()["evaluate"]
