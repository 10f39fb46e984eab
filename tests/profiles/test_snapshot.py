"""Snapshots: named by all they depend on, blind to the future, whole, and never written to again."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles import manifest
from profiles.features import FeaturesConfig, item_profiles, user_profiles
from profiles.interactions import InteractionsConfig, interactions
from profiles.schema import EVENTS, ITEMS, TEXTS, ContractError
from profiles.snapshot import FRAMES, Snapshot, build, texts
from profiles.store import SQLiteStore
from profiles.texts import text_hash

START = datetime(2024, 1, 1, tzinfo=UTC)
WEIGHTS = InteractionsConfig(weights={"view": 1, "buy": 3})
FEATURES = FeaturesConfig(windows_days=(1, 7))


def event(
    name: str, user: str, item: str | None, days: float, kind: str = "view", **rest: Any
) -> dict[str, Any]:
    moment = START + timedelta(days=days)
    return {
        "event_id": name,
        "user_id": user,
        "item_id": item,
        "event_type": kind,
        "timestamp": moment,
    } | rest


EVENTS_GIVEN = [
    event("e1", "ann", "a", 1),
    event("e2", "bob", "b", 3, "buy", value=2.5, text="good tea"),
    event("e3", "ann", None, 2, "query", text="kettle"),
    event("e4", "ann", "z", 4, text="  "),
    event("e5", "cid", "a", 5, "buy", text="good tea"),
]
ITEMS_GIVEN = [
    {"item_id": "a", "title": "Kettle", "categories": ["home", "red"], "tags": ["x"], "text": "It boils."},
    {"item_id": "b", "title": "Tea", "categories": [], "tags": None, "text": " "},
    {"item_id": "c", "title": None, "categories": None, "tags": None, "text": None},
]


def frame(events: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return EVENTS.conform(pl.DataFrame(list(events), infer_schema_length=None))


def filled(
    path: Path,
    events: Sequence[dict[str, Any]] = EVENTS_GIVEN,
    items: Sequence[dict[str, Any]] = ITEMS_GIVEN,
    users: Sequence[str] = ("ann", "dora"),
) -> SQLiteStore:
    store = SQLiteStore(path / "events.db")
    for one in events:
        store.append(frame([one]))
    schema = {n: ITEMS.schema[n] for n in ("item_id", "title", "categories", "tags", "text")}
    store.put("items", pl.DataFrame(list(items), schema=schema))
    store.put("users", pl.DataFrame({"user_id": list(users), "town": ["Rome"] * len(users)}))
    return store


def built(store: SQLiteStore, root: Path, as_of: datetime | None = None, **other: Any) -> Snapshot:
    chosen = {"interactions_config": WEIGHTS, "features_config": FEATURES} | other
    return build(store, root, as_of=as_of, **chosen)


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    return filled(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def test_the_manifest_says_what_is_in_it(store: SQLiteStore, root: Path) -> None:
    said: list[str] = []
    snapshot = built(store, root, progress=said.append)
    about = manifest.verify(snapshot.folder)
    assert snapshot.about == about
    assert {n: v for n, v in about.items() if n not in ("files", "seal")} == {
        "as_of": "2024-01-06T00:00:00+00:00",
        "watermark": 5,
        "timeless": False,
        "event_types": ["buy", "query", "view"],
        "counts": {"events": 5, "users": 4, "items": 4},
        "attributes": "current",
        "interactions": {"weights": {"view": 1, "buy": 3}, "minimum_value": {}},
        "features": {
            "as_of": None,
            "windows_days": [1, 7],
            "half_life_days": 30,
            "affinities": 5,
            "last_items": 20,
        },
    }
    assert set(about["files"]) == {f"{name}.parquet" for name in FRAMES}
    assert snapshot.folder == root / snapshot.name
    assert re.fullmatch("[0-9a-f]{16}", snapshot.name)
    assert snapshot.as_of == START + timedelta(days=5)
    assert snapshot.timeless is False
    assert said == [
        *("reading the log", "weighing interactions", "building user profiles", "building item profiles")
    ]


def test_its_frames_are_those_of_the_functions(store: SQLiteStore, root: Path) -> None:
    snapshot = built(store, root)
    events, at, kinds = frame(EVENTS_GIVEN), snapshot.as_of, ["buy", "query", "view"]
    assert_frame_equal(snapshot.frame("events"), events)
    assert_frame_equal(snapshot.frame("items"), store.catalogue("items"))
    assert_frame_equal(snapshot.frame("users"), store.catalogue("users"))
    weighted = interactions(events, WEIGHTS)
    assert_frame_equal(snapshot.frame("interactions"), weighted)
    people = pl.Series(["ann", "bob", "cid", "dora"])  # of the log and of the catalogue, sorted
    expected = user_profiles(people, events, weighted, store.catalogue("items"), at, kinds, FEATURES)
    assert_frame_equal(snapshot.frame("user_profiles"), expected)
    expected = item_profiles(pl.Series(["a", "b", "c", "z"]), events, at, kinds, FEATURES)
    assert_frame_equal(snapshot.frame("item_profiles"), expected)
    assert_frame_equal(snapshot.frame("texts"), texts(events, store.catalogue("items")))


def test_building_again_touches_nothing(store: SQLiteStore, root: Path) -> None:
    first = built(store, root)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in [root, *root.rglob("*")]}
    second = built(SQLiteStore(store.path), root)
    assert second == first
    explicit = built(store, root, first.as_of)  # the default moment, named
    assert explicit == first
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in [root, *root.rglob("*")]} == before


def test_a_snapshot_of_the_past_knows_nothing_later(store: SQLiteStore, root: Path, tmp_path: Path) -> None:
    at = START + timedelta(days=3)
    past = built(store, root, at)
    early = [e for e in EVENTS_GIVEN if e["timestamp"] <= at]
    assert [e["event_id"] for e in early] == ["e1", "e2", "e3"]
    assert past.as_of == at
    alone = built(filled(tmp_path / "early", early), tmp_path / "other", at)
    assert alone.name == past.name
    for name in FRAMES:
        assert_frame_equal(past.frame(name), alone.frame(name))
    assert past.about["event_types"] == ["buy", "query", "view"]
    assert built(store, root, START + timedelta(days=2)).about["event_types"] == ["query", "view"]
    # What happens after the moment changes nothing, the name included.
    store.append(frame([event("e6", "ann", "a", 6)]))
    assert built(store, root, at) == past
    store.append(frame([event("e7", "ann", "a", 2.5)]))  # late news of the time before do
    assert built(store, root, at).name != past.name


def test_the_moment_may_stand_in_any_zone_but_must_have_one(store: SQLiteStore, root: Path) -> None:
    at = START + timedelta(days=3)
    assert built(store, root, at.astimezone(ZoneInfo("Asia/Tokyo"))) == built(store, root, at)
    with pytest.raises(ContractError, match=r"as_of = 2024-01-04 00:00:00: a moment needs its time zone"):
        built(store, root, at.replace(tzinfo=None))


def test_how_the_log_was_cut_into_batches_does_not_matter_its_order_does(
    store: SQLiteStore, root: Path, tmp_path: Path
) -> None:
    name = built(store, root).name
    whole = filled(tmp_path / "whole", [])
    whole.append(frame(EVENTS_GIVEN))
    whole.append(frame(EVENTS_GIVEN[:3]))
    assert built(whole, root).name == name
    assert len(list(root.iterdir())) == 1
    assert (
        built(filled(tmp_path / "turned", EVENTS_GIVEN[::-1]), root).name != name
    )  # ties may fall otherwise


def test_all_that_matters_is_in_the_name(store: SQLiteStore, root: Path, tmp_path: Path) -> None:
    changed = [EVENTS_GIVEN[0] | {"item_id": "b"}, *EVENTS_GIVEN[1:]]  # the same ids, other content
    more = [*EVENTS_GIVEN, event("e6", "u", "a", 4)]
    titled = [ITEMS_GIVEN[0] | {"title": "Pot"}, *ITEMS_GIVEN[1:]]
    names = [
        built(store, root).name,
        built(store, root, START + timedelta(days=5, microseconds=1)).name,
        built(store, root, interactions_config=InteractionsConfig()).name,
        built(store, root, features_config=FEATURES.model_copy(update={"last_items": 3})).name,
        built(filled(tmp_path / "1", changed), root).name,
        built(filled(tmp_path / "2", more), root).name,
        built(filled(tmp_path / "3", items=titled), root).name,
        built(filled(tmp_path / "4", items=ITEMS_GIVEN[:2]), root).name,
        built(filled(tmp_path / "5", users=["ann"]), root).name,
    ]
    store.mark("timeless", "yes")
    marked = built(store, root)
    assert marked.timeless is True
    assert len({*names, marked.name}) == 10
    for name in names:
        manifest.verify(root / name)


def test_an_empty_log_is_no_snapshot(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="the log is empty: run `attune ingest` first"):
        built(filled(tmp_path / "empty", []), root)
    with pytest.raises(ContractError, match=r"no event is as old as 2023-12-31 00:00; choose a later moment"):
        built(filled(tmp_path / "full"), root, START - timedelta(days=1))
    assert not root.exists()


@pytest.mark.parametrize("name", ["user_profiles", "item_profiles", "texts"])
def test_an_error_in_the_middle_leaves_nothing(
    name: str, store: SQLiteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"profiles.snapshot.{name}", stop)
    with pytest.raises(KeyboardInterrupt):
        built(store, root)
    assert list(root.iterdir()) == []
    monkeypatch.undo()
    manifest.verify(built(store, root).folder)


def test_a_log_without_a_catalogue(root: Path, tmp_path: Path) -> None:
    snapshot = built(filled(tmp_path, items=[], users=[]), root)
    assert snapshot.about["counts"] == {"events": 5, "users": 3, "items": 3}
    assert snapshot.frame("item_profiles")["item_id"].to_list() == ["a", "b", "z"]
    assert snapshot.frame("texts")["owner"].unique().to_list() == ["user"]


# Texts


def test_texts_are_what_users_wrote_and_items_say(store: SQLiteStore) -> None:
    found = texts(frame(EVENTS_GIVEN), store.catalogue("items"))
    said = [
        ("user", "bob", "good tea", START + timedelta(days=3)),
        ("user", "ann", "kettle", START + timedelta(days=2)),
        ("user", "cid", "good tea", START + timedelta(days=5)),
        ("item", "a", "Kettle. home, red. x. It boils.", None),
        ("item", "b", "Tea", None),
    ]
    expected = pl.DataFrame(
        [(text_hash(text), owner, who, text, when) for owner, who, text, when in said],
        schema=TEXTS.schema,
        orient="row",
    )
    assert_frame_equal(found, expected)


@pytest.mark.parametrize("nothing", [None, "", " ", "\t\n\u00a0 "])
def test_what_is_blank_is_no_text(nothing: str | None) -> None:
    empty: list[str] | None = None if nothing is None else []
    row = {"title": nothing, "categories": empty, "tags": empty, "text": nothing}
    schema = {n: ITEMS.schema[n] for n in ("item_id", *row)}

    def said(**given: Any) -> list[str]:
        items = ITEMS.conform(pl.DataFrame([{"item_id": "i"} | row | given], schema=schema))
        return texts(EVENTS.empty(), items)["text"].to_list()

    assert said() == []
    assert said(title="T") == ["T"]
    assert said(text=" as it was ") == [" as it was "]
    assert said(categories=["c", "d"], text="t") == ["c, d. t"]
    written = frame([event("e", "u", "i", 0, text=nothing), event("f", "u", "i", 0, text=" w ")])
    assert texts(written, ITEMS.empty())["text"].to_list() == [" w "]


def test_no_texts_at_all() -> None:
    assert_frame_equal(texts(EVENTS.empty(), ITEMS.empty()), TEXTS.empty())
