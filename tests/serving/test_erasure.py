"""People who leave: nothing of theirs in any file, whichever way it is read; and backups that come back."""

import json
import random
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nlp.classifier_config import ClassifierConfig
from nlp.classify import train
from nlp.encoder import EncoderConfig, locate
from profiles.schema import EVENTS, EXPOSURES, ContractError
from profiles.texts import text_hash
from serving.backup import backup, restore
from serving.erasure import erase, retain
from serving.labels import profiles
from serving.pipeline import Pipeline
from serving.progress import Progress
from serving.settings import ReaderConfig
from serving.workspace import Workspace
from serving.write_report import write as write_report

START = datetime(2026, 1, 1, tzinfo=UTC)
QUIET = Progress(True)
TOML = """
[[events]]
path = "log.jsonl"
[[items]]
path = "items.jsonl"
columns = { categories = { column = "category", split = "|" } }
[[users]]
path = "users.jsonl"
attributes = ["city"]
[[labels]]
name = "topic"
classifier = "topics"
[recommenders.popularity]
[recommenders.ease]
[recommenders.content_text]
[evaluation]
quantile = 0.8
"""


def names(count: int, seed: int) -> list[str]:
    """Ids of 32 bytes that nothing else has."""
    random_bytes = random.Random(seed)
    return [f"{random_bytes.getrandbits(128):032x}" for _ in range(count)]


def write(folder: Path, users: list[str]) -> Path:
    """Write a small shop's sources: views, reviews in words that name their author, one broken row each."""
    rng = random.Random(5)
    rows = []
    for n, user in enumerate(users):
        for step in range(12):
            when = START + timedelta(days=rng.random() * 60)
            row = {"user_id": user, "item_id": f"i{rng.randrange(12):02}", "event_type": "view"}
            row |= {"timestamp": when.isoformat(), "session_id": f"visit-{user}-{step}"}
            if step == 3:
                row |= {"event_type": "review", "text": f"{user} writes of garden chair number {n}"}
            if step == 5:
                row |= {"properties": json.dumps({"by": user})}
            rows.append(row)
        rows.append({"user_id": user, "item_id": "i00", "event_type": "view", "timestamp": "someday"})
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = [{"item_id": f"i{n:02}", "title": f"chair {n}", "category": "garden|home"} for n in range(12)]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    people = [{"user_id": user, "city": f"city of {user}"} for user in users]
    (folder / "users.jsonl").write_text("\n".join(map(json.dumps, people)))
    said = ["a garden chair", "garden chairs", "where is my order", "the order is late"]
    train(said, ["chair"] * 2 + ["order"] * 2, ClassifierConfig(method="tfidf"), folder / "topics")
    config = folder / "attune.toml"
    config.write_text(TOML)
    return config


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A workspace on which everything has run and answers were shown, and its users; not to be written to."""
    folder = tmp_path_factory.mktemp("shop")
    users = names(30, 1)
    workspace = Workspace(folder / "w", write(folder, users))
    Pipeline(workspace).run()
    write_report(workspace)
    shown = pl.DataFrame(
        {
            "recommendation_id": [f"r{n}" for n in range(30)],
            "user_id": users,
            "item_id": ["i01"] * 30,
            "rank": [1] * 30,
            "source": ["blend"] * 30,
            "release": ["x"] * 30,
            "blend": ["default"] * 30,
            "timestamp": [START + timedelta(days=61)] * 30,
        }
    )
    workspace.exposures.append_exposures(EXPOSURES.conform(shown))
    workspace.store.seal(keep=100)
    workspace.exposures.seal()
    workspace.store.close()
    workspace.exposures.close()
    return folder, users


@pytest.fixture
def copied(shop: tuple[Path, list[str]], tmp_path: Path) -> tuple[Workspace, list[str]]:
    import shutil

    shutil.copytree(shop[0], tmp_path / "shop")
    return Workspace(tmp_path / "shop" / "w", tmp_path / "shop" / "attune.toml"), shop[1]


def decoded(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what every file says once it is decoded."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        match path.suffix:
            case ".parquet":
                yield path, pl.read_parquet(path).write_json()
            case ".arrow":
                yield path, pl.read_ipc(path).write_json()
            case ".npy":
                yield path, str(np.load(path, allow_pickle=False).tolist())
            case ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    yield path, str({name: arrays[name].tolist() for name in arrays})
            case ".db":
                with sqlite3.connect(path) as connection:
                    yield path, "\n".join(connection.iterdump())
                connection.close()
            case _:
                yield path, path.read_bytes().decode("utf-8", "replace")


def holders(folder: Path, users: list[str]) -> set[str]:
    """Return the files that hold one of these ids, decoded or as bytes."""
    found = set()
    for path, text in decoded(folder):
        raw = path.read_bytes() if path.exists() else b""
        if any(user in text or user.encode() in raw or bytes.fromhex(user) in raw for user in users):
            found.add(str(path.relative_to(folder)))
    return found


@pytest.mark.parametrize("retrain", [False, True])
def test_encoders_that_may_have_learned_are_named_or_deleted(
    copied: tuple[Workspace, list[str]], retrain: bool
) -> None:
    """All but those that the settings read texts with: these are named."""
    workspace, users = copied
    model = workspace.settings.text.model
    every = ["reranker-1", "reranker-2", "tuned-1", "tuned-2"]
    for name in every:
        shutil.copytree(str(locate(EncoderConfig(model=model))), workspace.folder / "encoders" / name)
    text = workspace.settings.text.model_copy(update={"model": str(workspace.folder / "encoders/tuned-2")})
    reader = ReaderConfig(model=str(workspace.folder / "encoders/reranker-1"))
    search = workspace.settings.search.model_copy(update={"reader": reader})
    workspace.settings = workspace.settings.model_copy(update={"text": text, "search": search})
    assert erase(workspace, ["nobody at all"], False, QUIET).encoders == []
    outcome = erase(workspace, users[:1], retrain, QUIET)
    assert outcome.encoders == (["reranker-1", "tuned-2"] if retrain else every)
    assert sorted(path.name for path in (workspace.folder / "encoders").iterdir()) == outcome.encoders


def test_the_search_finds_them_before(copied: tuple[Workspace, list[str]]) -> None:
    workspace, users = copied
    found = holders(workspace.folder, users[:3])
    wanted = {"rejected.parquet", "recommendations.parquet", "contributions.parquet", "metrics.parquet"}
    assert wanted <= found
    assert {"examples.parquet", "report/index.html"} <= holders(workspace.folder, users)
    assert any(name.startswith("snapshots/") for name in found)
    assert any(name.startswith("derived/") and "/text-" in name for name in found)
    assert any(name.startswith("derived/") and "/labels-" in name for name in found)
    assert any(name.startswith("store/") and name.endswith(".parquet") for name in found)


def test_the_cache_forgets_vectors_and_labels(copied: tuple[Workspace, list[str]]) -> None:
    """Its rows name a text by its hash, so that a search for ids does not find them."""
    workspace, users = copied
    names = [text_hash(f"{users[n]} writes of garden chair number {n}") for n in (0, 29)]

    def rows() -> list[int]:
        dump = dict(decoded(workspace.folder))[workspace.words.path]
        return [dump.count(name) for name in names]

    assert rows() == [2, 2]  # a vector, and probabilities
    erase(workspace, users[:1], False, QUIET)
    assert rows() == [0, 2]
    labelled = profiles(workspace, "user")
    assert labelled["topic"].to_list() == ["chair"] * 29
    assert users[0] not in labelled["user_id"].to_list()


@pytest.mark.parametrize("retrain", [False, True])
def test_nothing_is_left_of_who_was_erased(copied: tuple[Workspace, list[str]], retrain: bool) -> None:
    workspace, users = copied
    gone, others = users[:3], users[3:]
    before = workspace.releases.names()
    outcome = erase(workspace, gone, retrain, QUIET)
    assert outcome.removed.events == 3 * 12
    assert outcome.removed.exposures == 3
    assert outcome.releases == before
    assert holders(workspace.folder, gone) == set()
    assert holders(workspace.folder, others[:1]), "the others are still there"
    events = pl.concat(workspace.store.scan())
    assert set(events["user_id"]) == set(others)
    assert len(events) == 27 * 12
    profiles = workspace.snapshot.frame("user_profiles")
    assert profiles["user_id"].to_list() == sorted(others)
    assert outcome.deleted is retrain
    if retrain:
        assert not set(before) & set(workspace.releases.names())
        assert workspace.releases.load_active()
        assert set(workspace.read("recommendations")["user_id"]) == set(others)
    else:
        assert workspace.releases.names() == before


def test_nothing_is_left_in_files_that_snapshots_share(copied: tuple[Workspace, list[str]]) -> None:
    workspace, users = copied
    row = {"user_id": users[9], "item_id": "i01", "event_type": "view", "timestamp": START}
    later = [row | {"event_id": f"later {n}"} for n in range(3)]
    workspace.store.append(EVENTS.conform(pl.DataFrame(later)))
    Pipeline(workspace).run(("build",))
    parts = [*workspace.folder.glob("snapshots/*/events/0000.parquet")]
    assert len(parts) == 2
    assert parts[0].samefile(parts[1])
    assert len([name for name in holders(workspace.folder, users[:1]) if "events/0000" in name]) == 2
    erase(workspace, users[:1], False, QUIET)
    assert holders(workspace.folder, users[:1]) == set()
    assert len([*workspace.folder.glob("snapshots/*")]) == 1


def test_users_who_were_an_example_leave_the_report(copied: tuple[Workspace, list[str]]) -> None:
    workspace, _ = copied
    shown = workspace.read("examples")["user_id"].unique().sort().to_list()
    assert len(shown) > 1
    erase(workspace, shown[:1], False, QUIET)
    assert holders(workspace.folder, shown[:1]) == set()
    assert not (workspace.folder / "report").exists()
    assert workspace.read("examples")["user_id"].unique().sort().to_list() == shown[1:]
    page = write_report(workspace)[0].read_text("utf-8")
    assert shown[0] not in page
    assert shown[1] in page


def test_retrained_models_are_those_that_never_saw_them(
    copied: tuple[Workspace, list[str]], tmp_path: Path
) -> None:
    workspace, users = copied
    erase(workspace, users[:3], True, QUIET)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    config = write(fresh, users)
    log = (fresh / "log.jsonl").read_text().splitlines()
    people = (fresh / "users.jsonl").read_text().splitlines()
    for name, lines in (("log", log), ("users", people)):
        kept = [line for line in lines if json.loads(line)["user_id"] not in users[:3]]
        (fresh / f"{name}.jsonl").write_text("\n".join(kept))
    other = Workspace(fresh / "w", config)
    Pipeline(other).run()
    ours, theirs = workspace.releases.load_active(), other.releases.load_active()
    assert set(ours.recommenders) == set(theirs.recommenders)
    for name in ours.recommenders:
        for file in ("state.safetensors",):
            one, two = (
                w.releases.root / r.name / "recommenders" / name / file
                for w, r in ((workspace, ours), (other, theirs))
            )
            assert one.read_bytes() == two.read_bytes(), name


def test_sources_read_again_do_not_bring_them_back(copied: tuple[Workspace, list[str]]) -> None:
    workspace, users = copied
    gone = users[0]
    erase(workspace, [gone], False, QUIET)
    log = workspace.root / "log.jsonl"
    later = {"user_id": gone, "item_id": "i01", "event_type": "view"}
    later["timestamp"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    log.write_text(log.read_text() + "\n" + json.dumps(later))
    reopened = Workspace(workspace.folder, workspace.root / "attune.toml")
    Pipeline(reopened).run(("ingest",), force=True)
    events = pl.concat(reopened.store.scan())
    assert events.filter(user_id=gone).height == 1, "only what they did since"
    assert gone not in reopened.store.catalogue("users")["user_id"].to_list()


def test_an_unknown_user_is_no_error(copied: tuple[Workspace, list[str]]) -> None:
    workspace, _ = copied
    outcome = erase(workspace, [secrets.token_hex(16)], False, QUIET)
    assert (outcome.removed.events, outcome.releases) == (0, [])


def test_an_erasure_cut_short_is_finished_by_asking_again(
    copied: tuple[Workspace, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, users = copied
    with monkeypatch.context() as patched:
        patched.setattr("serving.erasure._forget_derived", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erase(workspace, users[:1], False, QUIET)
    erase(workspace, users[:1], False, QUIET)
    assert holders(workspace.folder, users[:1]) == set()


def test_old_events_go_and_profiles_follow(copied: tuple[Workspace, list[str]]) -> None:
    workspace, _ = copied
    log = pl.concat(workspace.store.scan())
    cut = START + timedelta(days=30)
    old = log.filter(pl.col("timestamp") < cut)
    outcome = retain(workspace, cut, ["view"], False, QUIET)
    assert outcome.removed.events == old.filter(event_type="view").height > 0
    kept = pl.concat(workspace.store.scan())
    assert set(kept["event_id"]) == set(log["event_id"]) - set(old.filter(event_type="view")["event_id"])
    assert int(workspace.snapshot.frame("user_profiles")["events_all"].sum()) == kept.height
    assert retain(workspace, cut, ["view"], False, QUIET).removed.events == 0
    assert not (workspace.folder / "examples.parquet").exists(), "it holds histories"
    assert not (workspace.folder / "report").exists()
    assert "Users and their lists" not in write_report(workspace)[0].read_text("utf-8")


def test_a_backup_comes_back_whole(copied: tuple[Workspace, list[str]], tmp_path: Path) -> None:
    workspace, _ = copied
    backup(workspace, tmp_path / "safe", QUIET)
    with pytest.raises(ContractError, match="exists"):
        backup(workspace, tmp_path / "safe", QUIET)
    again = restore(tmp_path / "safe", tmp_path / "again", QUIET)
    log = pl.concat(workspace.store.scan())
    assert pl.concat(again.store.scan()).equals(log)
    assert again.exposures.exposures().equals(workspace.exposures.exposures())
    assert again.store.watermark() == workspace.store.watermark()
    assert again.releases.active() == workspace.releases.active()
    Pipeline(again).run(("build",))
    assert again.snapshot.name == workspace.snapshot.name
    with pytest.raises(ContractError, match="not empty"):
        restore(tmp_path / "safe", tmp_path / "again", QUIET)


def test_a_damaged_backup_is_refused(copied: tuple[Workspace, list[str]], tmp_path: Path) -> None:
    workspace, _ = copied
    backup(workspace, tmp_path / "safe", QUIET)
    victim = max((p for p in (tmp_path / "safe").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ContractError, match=victim.name):
        restore(tmp_path / "safe", tmp_path / "again", QUIET)
    assert not (tmp_path / "again").exists()
