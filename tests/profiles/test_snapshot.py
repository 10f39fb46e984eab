"""Snapshots: named by all they depend on, blind to the future, whole, and never written to again."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles import log_frames, manifest
from profiles.features import FeaturesConfig, history_build
from profiles.features.coding import READ
from profiles.features.history import files_of
from profiles.features.live import user_profile
from profiles.interactions import InteractionsConfig, interactions
from profiles.log_frames import texts
from profiles.schema import EVENTS, ITEMS, TEXTS, USERS, ContractError
from profiles.snapshot import CHANGED, FRAMES, Snapshot, build
from profiles.store.sqlite import SQLiteStore
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
    said: list[tuple[str, int, int]] = []

    @contextmanager
    def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        said.append((what, total, sum(done)))

    snapshot = built(store, root, progress=progress)
    about = manifest.verify(snapshot.folder)
    assert snapshot.about == about
    assert {n: v for n, v in about.items() if n not in ("files", "seal", "catalogue")} == {
        "as_of": "2024-01-06T00:00:00+00:00",
        "watermark": 5,
        "revision": 0,
        "timeless": False,
        "event_types": ["buy", "query", "view"],
        "counts": {"events": 5, "users": 4, "items": 4},
        "attributes": "current",
        "interactions": WEIGHTS.model_dump(mode="json"),
        "features": FEATURES.model_dump(mode="json"),
    }
    tables = ("items", "users", "events/0000", "interactions/0000", "texts/0000", "texts/items")
    assert set(about["files"]) == {
        "log.json",
        *(f"{name}.parquet" for name in tables),
        *("user_profiles.arrow", "item_profiles.arrow"),
        *(f"context/{name}" for name in ("items.arrow", "values.arrow", "terms.arrow", "facts.json")),
        *(f"history/{name}" for name in ("facts.json", "items.arrow", *files_of(0))),
    }
    assert snapshot.folder == root / snapshot.name
    assert re.fullmatch("[0-9a-f]{16}", snapshot.name)
    assert snapshot.as_of == START + timedelta(days=5)
    assert snapshot.timeless is False
    assert said == [("the log", 5, 5), ("histories", 5, 5), ("profiles", 1, 1)]


def test_its_frames_are_those_of_the_functions(
    store: SQLiteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_frames, "ROWS", 2)  # several row groups
    snapshot = built(store, root)
    events, at = frame(EVENTS_GIVEN), snapshot.as_of
    assert_frame_equal(snapshot.frame("events"), events)
    assert_frame_equal(snapshot.frame("items"), store.catalogue("items"))
    assert_frame_equal(snapshot.frame("users"), store.catalogue("users"))
    assert_frame_equal(snapshot.frame("interactions"), interactions(events, WEIGHTS))
    assert_frame_equal(snapshot.frame("texts"), texts(events, store.catalogue("items")))
    people = snapshot.frame("user_profiles")
    assert people["user_id"].to_list() == ["ann", "bob", "cid", "dora"]  # of the log and the catalogue
    for row in people.iter_rows(named=True):
        own = pl.col("user_id") == row["user_id"]
        past = events.filter(own).sort("timestamp", maintain_order=True)
        known = store.catalogue("users").filter(own)
        given = at, snapshot.context, FEATURES, WEIGHTS
        assert user_profile(row["user_id"], past, known, *given) == row
    of_items = snapshot.frame("item_profiles")
    assert of_items.select("item_id", "events_all", "count_buy_all", "distinct_users").rows() == [
        ("a", 2, 1, 2), ("b", 1, 1, 1), ("c", 0, 0, 0), ("z", 1, 0, 1)
    ]  # fmt: skip
    assert snapshot.context.item_ids.to_list() == ["a", "b", "c", "z"]
    assert snapshot.history.facts["watermark"] == 5
    assert snapshot.history.facts["users"] == 3


def test_building_again_touches_nothing(store: SQLiteStore, root: Path) -> None:
    first = built(store, root)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in [root, *root.rglob("*")]}
    second = built(SQLiteStore(store.path), root)
    assert second == first
    explicit = built(store, root, first.as_of)  # the default moment, named
    assert explicit == first
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in [root, *root.rglob("*")]} == before


def test_the_same_log_gives_the_same_bytes(store: SQLiteStore, root: Path, tmp_path: Path) -> None:
    other = filled(tmp_path / "other")
    other.mark("log", store.marks().get("log") or "one name")
    store.mark("log", other.marks()["log"])
    first, second = built(store, root), built(other, tmp_path / "elsewhere")
    assert first.name == second.name
    assert first.about["files"] == second.about["files"]


# The moment


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
    assert {p.name: p.read_bytes() for p in (past.folder / "context").iterdir()} == {
        p.name: p.read_bytes() for p in (alone.folder / "context").iterdir()
    }
    assert past.about["counts"] == alone.about["counts"] == {"events": 3, "users": 3, "items": 3}
    assert past.about["event_types"] == ["buy", "query", "view"]
    assert built(store, root, START + timedelta(days=2)).about["event_types"] == ["query", "view"]
    # What happens after the moment changes nothing, the name included.
    store.append(frame([event("e6", "ann", "a", 6)]))
    assert built(store, root, at) == past
    store.append(frame([event("e7", "ann", "a", 2.5)]))  # late news of the time before do
    assert built(store, root, at).name != past.name


def test_an_event_of_the_future_waits_for_its_time(store: SQLiteStore, root: Path) -> None:
    at = START + timedelta(days=5)
    store.append(frame([event("far", "eve", "unheard of", 400, "prophecy", text="tomorrow")]))
    now = built(store, root, at)
    for name in FRAMES:
        found = now.frame(name)
        assert "prophecy" not in str(found.columns)
        for column in ("user_id", "item_id", "id"):
            if column in found.columns:
                assert not found[column].is_in(["eve", "unheard of"]).any(), name
    assert now.context.event_types == ("buy", "query", "view")
    assert now.frame("texts").filter(pl.col("text") == "tomorrow").is_empty()
    later = built(store, root)  # built upon the history of the first
    assert later.as_of == START + timedelta(days=400)
    assert "eve" in later.frame("user_profiles")["user_id"]
    assert later.frame("item_profiles").filter(item_id="unheard of")["count_prophecy_all"].item() == 1


def test_the_moment_may_stand_in_any_zone_but_must_have_one(store: SQLiteStore, root: Path) -> None:
    at = START + timedelta(days=3)
    assert built(store, root, at.astimezone(ZoneInfo("Asia/Tokyo"))) == built(store, root, at)
    with pytest.raises(ContractError, match=r"as_of = 2024-01-04 00:00:00: a moment needs its time zone"):
        built(store, root, at.replace(tzinfo=None))


def test_the_settings_may_name_the_moment(store: SQLiteStore, root: Path) -> None:
    at = START + timedelta(days=3)
    snapshot = built(store, root, features_config=FEATURES.model_copy(update={"as_of": at}))
    assert snapshot.as_of == at
    assert snapshot.about["counts"]["events"] == 3


def test_an_empty_log_is_no_snapshot(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="the log is empty: run `attune ingest` first"):
        built(filled(tmp_path / "empty", []), root)
    with pytest.raises(ContractError, match=r"no event is as old as 2023-12-31 00:00; choose a later moment"):
        built(filled(tmp_path / "full"), root, START - timedelta(days=1))
    assert not root.exists()


# The name


def test_how_the_log_was_cut_into_batches_does_not_matter_its_order_does(
    store: SQLiteStore, root: Path, tmp_path: Path
) -> None:
    name = built(store, root).name
    whole = filled(tmp_path / "whole", [])
    whole.append(frame(EVENTS_GIVEN))
    whole.append(frame(EVENTS_GIVEN[:3]))
    assert built(whole, root).name == name
    sealed = filled(tmp_path / "sealed")
    sealed.seal(keep=2)
    assert built(sealed, root).name == name
    assert len(list(root.iterdir())) == 1
    assert (
        built(filled(tmp_path / "turned", EVENTS_GIVEN[::-1]), root).name != name
    )  # ties may fall otherwise


def test_what_the_store_remembers_for_itself_is_not_in_the_name(
    store: SQLiteStore, root: Path, tmp_path: Path
) -> None:
    store.mark("anything", "else")
    store.mark("timeless", "no")
    assert built(store, root).name == built(filled(tmp_path / "plain"), tmp_path / "other").name


def test_all_that_matters_is_in_the_name(store: SQLiteStore, root: Path, tmp_path: Path) -> None:
    changed = [EVENTS_GIVEN[0] | {"item_id": "b"}, *EVENTS_GIVEN[1:]]  # the same ids, other content
    more = [*EVENTS_GIVEN, event("e6", "u", "a", 4)]
    titled = [ITEMS_GIVEN[0] | {"title": "Pot"}, *ITEMS_GIVEN[1:]]
    names = [
        built(store, root).name,
        built(store, root, START + timedelta(days=5, microseconds=1)).name,
        built(store, root, interactions_config=InteractionsConfig()).name,
        built(filled(tmp_path / "1", changed), root).name,
        built(filled(tmp_path / "2", more), root).name,
        built(filled(tmp_path / "3", items=titled), root).name,
        built(filled(tmp_path / "4", items=ITEMS_GIVEN[:2]), root).name,
        built(filled(tmp_path / "5", users=["ann"]), root).name,
    ]
    store.mark("timeless", "yes")
    marked = built(store, root)
    assert marked.timeless is True
    assert len({*names, marked.name}) == 9
    for name in names:
        manifest.verify(root / name)


OTHER: dict[str, Any] = {
    "as_of": START + timedelta(days=5), "windows_days": (1, 8), "session_minutes": 31,
    "timezone": "Asia/Tokyo", "half_life_days": 31, "smoothing": 6, "affinities": 4,
    "last_items": 3, "price_bands": 6, "spend_types": ("buy",), "conversions": (("view", "buy"),),
    "new_item_days": 31, "new_user_days": 8, "co_items_days": 31, "consents": ("town",),
    "audience": ("town",),
}  # fmt: skip


def test_every_setting_is_in_the_name(store: SQLiteStore, root: Path) -> None:
    assert {*OTHER} == {*FeaturesConfig.model_fields}  # a new setting needs a line here
    names = {
        built(store, root, features_config=FEATURES.model_copy(update={n: v})).name for n, v in OTHER.items()
    }
    weights = (
        {"weights": {"view": 1, "buy": 2}},
        {"weights": {"view": 1}},
        {"weights": WEIGHTS.weights, "minimum_value": {"buy": 2}},
    )
    names |= {built(store, root, interactions_config=InteractionsConfig(**w)).name for w in weights}
    assert len(names | {built(store, root).name}) == len(OTHER) + len(weights) + 1


def test_an_attribute_that_users_do_not_have_is_told(store: SQLiteStore, root: Path, tmp_path: Path) -> None:
    config = FEATURES.model_copy(update={"audience": ("age",)})
    with pytest.raises(
        ContractError, match="names the user attribute 'age', which users do not have; they have town"
    ):
        built(store, root, features_config=config)
    assert list(root.iterdir()) == []
    nobody = filled(tmp_path / "nobody", users=[])  # may come to have it
    assert "age_audience" in built(nobody, root, features_config=config).frame("item_profiles").columns


# Versions


def test_attributes_of_then_are_joined_where_they_have_versions(
    store: SQLiteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = built(store, root)
    days = [None, 3, 6]
    rows = [
        ("a", f"Kettle {n}", None if d is None else START + timedelta(days=d)) for n, d in enumerate(days)
    ]
    schema = {"item_id": pl.String, "title": pl.String, "valid_from": ITEMS.schema["available_from"]}
    frames = {
        "items": ITEMS.conform(pl.DataFrame(rows, schema=schema, orient="row")),
        "users": USERS.conform(pl.DataFrame({"user_id": ["dora"]})),
    }
    monkeypatch.setattr(store, "catalogue", lambda kind: frames[kind])
    found = [built(store, root, START + timedelta(days=d)) for d in (2, 3, 5)]
    assert [s.frame("items")["title"].to_list() for s in found] == [["Kettle 0"], ["Kettle 1"], ["Kettle 1"]]
    assert [s.about["attributes"] for s in (plain, *found)] == ["current", *["versioned"] * 3]
    frames["items"] = frames["items"].head(2)  # what begins to hold after the moment changes nothing
    assert built(store, root, START + timedelta(days=5)) == found[-1]


# Interruptions


@pytest.mark.parametrize(
    "place",
    [
        "profiles.snapshot.write_log",
        "profiles.snapshot.save_context",
        "profiles.log_frames.said",
        "profiles.features.history_build.Spill._write",
        "profiles.features.history_build.by_user_and_time",
        "profiles.features.history_build._name_users",
        "profiles.features.profile_build.telling_terms",
        "profiles.features.profile_build.user_features",
        "profiles.features.profile_build.item_features",
        "profiles.features.profile_build.ProfileBuild._write_users",
        "profiles.manifest._seal",
    ],
)
def test_an_error_in_the_middle_leaves_nothing(
    place: str, store: SQLiteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = []

    def stop(*_: object, **__: object) -> None:
        reached.extend(p.relative_to(root) for p in root.rglob("*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(history_build, "BUFFER", 0)
    monkeypatch.setattr(place, stop)
    with pytest.raises(KeyboardInterrupt):
        built(store, root)
    assert reached  # something had been begun
    assert list(root.iterdir()) == []
    monkeypatch.undo()
    manifest.verify(built(store, root).folder)


def test_an_erasure_while_it_is_built_leaves_nothing_of_either(
    store: SQLiteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = store.scan

    def erased_midway(*given: Any) -> Iterator[pl.DataFrame]:
        if given[-1] == READ:
            store.erase(["bob", "cid"])
        return scan(*given)

    monkeypatch.setattr(store, "scan", erased_midway)
    with pytest.raises(ContractError, match=CHANGED):
        built(store, root)
    assert list(root.iterdir()) == []
    monkeypatch.undo()
    assert built(store, root).frame("user_profiles")["user_id"].to_list() == ["ann", "dora"]


def test_a_log_without_a_catalogue(root: Path, tmp_path: Path) -> None:
    snapshot = built(filled(tmp_path, items=[], users=[]), root)
    assert snapshot.about["counts"] == {"events": 5, "users": 3, "items": 3}
    assert snapshot.frame("item_profiles")["item_id"].to_list() == ["a", "b", "z"]
    assert snapshot.frame("texts")["owner"].unique().to_list() == ["user"]


def test_a_log_in_which_nothing_happens_to_items(root: Path, tmp_path: Path) -> None:
    store = filled(tmp_path, [event("q", "ann", None, 1, "query")], [], [])
    snapshot = built(store, root)
    assert snapshot.about["counts"] == {"events": 1, "users": 1, "items": 0}
    assert snapshot.frame("item_profiles").is_empty()
    assert snapshot.frame("user_profiles")["count_query_all"].to_list() == [1]


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


# Memory


GENERATED = dedent(
    """
    import sys
    from pathlib import Path

    import numpy as np
    import polars as pl

    from profiles.features import history_build
    from profiles.features import FeaturesConfig
    from profiles.interactions import InteractionsConfig
    from profiles.schema import EVENTS, ITEMS, TIME, USERS
    from profiles.snapshot import build

    EVENTS_EACH = 50_000
    folder, batches = Path(sys.argv[1]), int(sys.argv[2])


    class Generated:
        def scan(self, start, end, columns=None):
            for first in range(start // EVENTS_EACH * EVENTS_EACH, end, EVENTS_EACH):
                rng = np.random.default_rng(first)
                part = pl.DataFrame(
                    {
                        "event_id": pl.Series(np.arange(first, first + EVENTS_EACH)).cast(pl.String),
                        "user_id": pl.Series(rng.integers(0, 10_000, EVENTS_EACH)).cast(pl.String),
                        "item_id": pl.Series(rng.integers(0, 1000, EVENTS_EACH)).cast(pl.String),
                        "event_type": pl.Series(["view", "buy"]).gather(rng.integers(0, 2, EVENTS_EACH)),
                        "timestamp": pl.Series((first + np.arange(EVENTS_EACH)) * 1_000_000).cast(TIME),
                        "value": rng.random(EVENTS_EACH),
                    }
                )
                part = EVENTS.conform(part)[max(0, start - first) : end - first]
                yield part.select(columns or list(EVENTS.columns))

        def watermark(self):
            return batches * EVENTS_EACH

        def revision(self):
            return 0

        def marks(self):
            return {"log": "generated"}

        def catalogue(self, kind):
            return {"items": ITEMS, "users": USERS}[kind].empty()


    history_build.PARTITION, history_build.BUFFER = 100_000, 4_000_000
    built = build(Generated(), folder, InteractionsConfig(), FeaturesConfig(windows_days=(1, 30)))
    assert built.about["counts"] == {"events": batches * EVENTS_EACH, "users": 10_000, "items": 1000}
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """
)


def test_two_million_events_need_little_memory(tmp_path: Path) -> None:
    """Partitions of 100,000 events: half a GB at most, half of it the libraries; 0.7 in one partition."""
    for batches in ("3", "40"):  # the first compiles the loops, which takes memory of its own, once
        command = [sys.executable, "-c", GENERATED, str(tmp_path / batches), batches]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 500 * 1024
