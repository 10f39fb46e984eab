"""A snapshot built upon the history of the one before equals one built from the whole log."""

import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profiles import manifest
from profiles.features import FeaturesConfig, history_build
from profiles.features.coding import READ
from profiles.features.context import Context
from profiles.features.history import files_of
from profiles.interactions import InteractionsConfig
from profiles.schema import EVENTS, ITEMS, USERS, ContractError
from profiles.snapshot import FRAMES, Snapshot, build, built_upon
from profiles.store.sqlite import SQLiteStore

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEIGHTS = InteractionsConfig(weights={"view": 1, "buy": 2.5, "rating": 1}, minimum_value={"rating": 3})
OTHER_WEIGHTS = InteractionsConfig(weights={"view": 2, "rare": 1})
FEATURES = FeaturesConfig(
    windows_days=(1, 9, 40), half_life_days=11, spend_types=("buy",), conversions=(("view", "buy"),),
    affinities=3, last_items=4, price_bands=3, audience=("town",), consents=("mail",),
    timezone="Europe/Berlin",
)  # fmt: skip

Row = dict[str, Any]

EVENT = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["ann", "bob", "cid", "nul\0", "🎬", "zoe"]),
        "item_id": st.sampled_from(["a", "b", "c", "d", "i\0", "only in the log", None]),
        "event_type": st.sampled_from(["view", "view", "buy", "rating", "rare"]),
        "days": st.one_of(st.integers(0, 60).map(lambda n: n / 2), st.sampled_from([-4000.0, 59.99, 60.0])),
        "value": st.sampled_from([None, 1.0, 2.5, 4.0, 0.1]),
        "text": st.sampled_from([None, None, "red tea", "green tea", " "]),
        "session_id": st.sampled_from([None, None, "s"]),
        "recommendation_id": st.sampled_from([None, "r"]),
    }
)
ITEM = st.fixed_dictionaries(
    {
        "item_id": st.sampled_from(["a", "b", "c", "never touched"]),
        "categories": st.sampled_from([None, [], ["x"], ["y", "x"]]),
        "tags": st.sampled_from([None, ["t", "u"]]),
        "brand": st.sampled_from([None, "m", "n"]),
        "price": st.sampled_from([None, 1.0, 5.0, 9.5]),
        "available_from": st.sampled_from([None, START + 3 * DAY, START + 99 * DAY]),
    }
)
USER = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["ann", "bob", "silent"]),
        "town": st.sampled_from([None, "Rome", "oslo"]),
        "mail": st.sampled_from([None, "yes", "no"]),
    }
)
CHUNK = st.fixed_dictionaries(
    {
        "events": st.lists(EVENT, max_size=12),
        "items": st.lists(ITEM, max_size=2, unique_by=lambda row: str(row["item_id"])),
        "users": st.lists(USER, max_size=2, unique_by=lambda row: str(row["user_id"])),
        "at": st.sampled_from([None, None, 20.25, 60.0, 100.0]),
        "seal": st.booleans(),
        "erase": st.sampled_from([None, None, None, None, "ann", "zoe"]),
        "retain": st.sampled_from([None, None, None, None, -3000.0, 15.0]),  # days before which all goes
        "weights": st.sampled_from([WEIGHTS, WEIGHTS, OTHER_WEIGHTS]),
    }
)


def event(user: str, item: str | None, days: float, kind: str = "view", **rest: Any) -> Row:
    known = {"user_id": user, "item_id": item, "event_type": kind, "days": days}
    return known | dict.fromkeys(("value", "text", "session_id", "recommendation_id")) | rest


def frame(rows: Sequence[Row], first: int = 0) -> pl.DataFrame:
    ready = [
        {"event_id": f"e{first + n}", "properties": None}
        | {name: value for name, value in row.items() if name != "days"}
        | {"timestamp": START + row["days"] * DAY}
        for n, row in enumerate(rows)
    ]
    return EVENTS.conform(pl.DataFrame(ready, schema=EVENTS.schema))


def built(
    store: SQLiteStore, root: Path, at: float | None = None, weights: InteractionsConfig = WEIGHTS
) -> Snapshot:
    return build(store, root, weights, FEATURES, None if at is None else START + at * DAY)


def same(found: Any, expected: Any, at: str = "") -> None:
    """Compare values: floats within 1e-9 relative, all else exactly."""
    if isinstance(expected, float) and isinstance(found, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True), at
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), at
        for name in expected:
            same(found[name], expected[name], f"{at}/{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), (at, found, expected)
        for n, (one, other) in enumerate(zip(found, expected, strict=True)):
            same(one, other, f"{at}/{n}")
    else:
        assert found == expected, at


def plain(context: Context) -> Row:
    """Return a context as values."""
    return {
        "as_of": context.as_of,
        "items": context.item_ids.to_list(),
        "types": context.event_types,
        "events": context.events.tolist(),
        "since": context.since.tolist(),
        "price": context.price.tolist(),
        "bands": context.bands.tolist(),
        "telling": context.telling.rows(),
        "attributes": {
            name: (a.values.to_list(), a.items.toarray().tolist(), a.share.tolist())
            for name, a in context.attributes.items()
        },
    }


def refuse_differences(found: Snapshot, expected: Snapshot) -> None:
    """Compare all there is of two snapshots of one log; the first may rest on an older history."""
    assert found.name == expected.name
    for name in FRAMES:
        one, other = found.frame(name), expected.frame(name)
        assert one.schema == other.schema
        same(one.to_dicts(), other.to_dicts(), name)
    same(plain(found.context), plain(expected.context), "context")
    for name in ("event_types", "counts", "attributes", "watermark"):
        assert found.about[name] == expected.about[name]
    for user in expected.frame("events")["user_id"].unique():
        one, other = found.history.of_user(user), expected.history.of_user(user)
        assert one is not None
        assert other is not None
        for name in ("time", "value", "marks", "session"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert_frame_equal(found.history.past(user), expected.history.past(user))


def put(store: SQLiteStore, items: Sequence[Row], users: Sequence[Row]) -> None:
    if items:
        schema = {name: ITEMS.schema[name] for name in items[0]}
        store.put("items", ITEMS.conform(pl.DataFrame(list(items), schema=schema)))
    if users:
        schema = dict.fromkeys(users[0], pl.String)
        store.put("users", USERS.conform(pl.DataFrame(list(users), schema=schema)))


LATE = [event("ann", "a", -4000.0, "rare"), event("new", "new", 3.0, "gift", value=9.0, text="old tea")]
PLAIN = [event("ann", "a", 30.0), event("bob", "b", 31.0, "buy", value=2.0, text="red tea")]


def chunk(events: Sequence[Row], **rest: Any) -> Row:
    nothing = dict.fromkeys(("at", "erase", "retain")) | {"items": [], "users": [], "seal": False}
    return nothing | {"weights": WEIGHTS, "events": events} | rest


@settings(max_examples=8)
@given(st.lists(CHUNK, min_size=2, max_size=4), st.sampled_from([3, 9, 10**6]), st.sampled_from([0, 10**9]))
@example([chunk(PLAIN), chunk(LATE, seal=True), chunk([], at=10.0)], 10**6, 10**9)
@example([chunk(PLAIN * 3 + LATE), chunk(LATE[:1], weights=OTHER_WEIGHTS), chunk(LATE[1:])], 10**6, 10**9)
@example([chunk(PLAIN * 3, at=30.5), chunk(LATE, at=30.5), chunk([]), chunk(PLAIN, at=30.0)], 10**6, 10**9)
@example([chunk(PLAIN * 3), chunk(LATE, erase="ann"), chunk(PLAIN), chunk([], retain=31.0)], 10**6, 10**9)
def test_it_equals_a_build_of_everything(chunks: list[Row], partition: int, buffer: int) -> None:
    """Late events, new items, types and users, a catalogue that changes, moments before and behind.

    Events that are erased or not retained, and weights that change.
    """
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_build, "PARTITION", partition)
        patch.setattr(history_build, "BUFFER", buffer)
        root, store, count = Path(folder), SQLiteStore(Path(folder) / "events.db"), 0
        there: list[Row] = []
        for number, chunk in enumerate(chunks):
            store.append(frame(chunk["events"], count))
            count += len(chunk["events"])
            there += chunk["events"]
            put(store, chunk["items"], chunk["users"])
            if chunk["seal"]:
                store.seal(keep=3)
            if chunk["erase"]:
                store.erase([chunk["erase"]])
                there = [row for row in there if row["user_id"] != chunk["erase"]]
            if chunk["retain"] is not None:
                store.retain(START + chunk["retain"] * DAY)
                there = [row for row in there if row["days"] >= chunk["retain"]]
            given = chunk["at"], chunk["weights"]
            if not any(chunk["at"] is None or row["days"] <= chunk["at"] for row in there):
                with pytest.raises(ContractError, match=r"the log is empty|no event is as old"):
                    built(store, root / "grown", *given)
                continue
            grown = built(store, root / "grown", *given)
            manifest.verify(grown.folder)
            refuse_differences(grown, built(store, root / f"whole {number}", *given))
        store.close()


def test_a_long_log_day_by_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 events of 60 days, one in ten a day or a month late, in partitions that multiply."""
    monkeypatch.setattr(history_build, "PARTITION", 150)
    rng = np.random.default_rng(11)
    store = SQLiteStore(tmp_path / "events.db")
    towns = ["Rome" if n % 3 else "Oslo" for n in range(40)]
    put(store, [], [{"user_id": f"u{n}", "town": town, "mail": "yes"} for n, town in enumerate(towns)])
    partitions = []
    for day in range(0, 60, 12):
        rows = []
        for _ in range(300):
            late = rng.choice([0, 1, 30], p=[0.9, 0.05, 0.05])
            kind = str(rng.choice(["view", "buy", "rating"]))
            item = None if rng.random() < 0.1 else f"i{rng.zipf(1.4) % (20 + day)}"
            value = None if kind == "view" else float(rng.integers(1, 6)) + 0.1
            time = day + 12 * float(rng.random()) - float(late)
            rows.append(event(f"u{rng.zipf(1.5) % (30 + day)}", item, time, kind, value=value))
        store.append(frame(rows, 300 * day))
        put(store, [{"item_id": f"i{day}", "categories": ["x", f"c{day % 5}"], "price": day + 0.5}], [])
        grown = built(store, tmp_path / "grown")
        refuse_differences(grown, built(store, tmp_path / f"whole {day}"))
        partitions.append(grown.history.partitions)
    assert partitions == [2, 4, 8, 8, 16]


# What is read


class Spied:
    """Remembers how a store is read."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store, self.scans = store, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def scan(self, first: int, last: int, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        self.scans.append((first, last, columns))
        return self._store.scan(first, last, columns)

    def for_the_history(self) -> list[tuple[int, int]]:
        return [(first, last) for first, last, columns in self.scans if columns == READ]

    def for_the_frames(self) -> list[tuple[int, int]]:
        return [(first, last) for first, last, columns in self.scans if columns is None]


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    store = SQLiteStore(tmp_path / "events.db")
    put(store, [], [{"user_id": "ann", "town": "Rome", "mail": "yes"}])
    store.append(frame(PLAIN))
    return store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def spied(store: SQLiteStore, root: Path, at: float | None = None) -> Spied:
    """Build, and return how the log was read."""
    found: Any = Spied(store)
    built(found, root, at)
    told: Spied = found
    return told


def reads(store: SQLiteStore, root: Path) -> list[tuple[int, int]]:
    """Build, and return what was read of the log for the history: everything or what is new."""
    return spied(store, root).for_the_history()


WHOLE = [(0, 4)]
NEW = [(2, 4)]


def grow(store: SQLiteStore) -> None:
    store.append(frame(LATE, 2))


def test_only_what_is_new_is_read_for_the_history(store: SQLiteStore, root: Path) -> None:
    assert reads(store, root) == [(0, 2)]
    assert reads(store, root) == []
    grow(store)
    assert reads(store, root) == NEW
    put(store, [{"item_id": "a", "title": "Kettle"}], [])  # the catalogue changed, the log did not
    assert reads(store, root) == [(4, 4)]
    store.append(frame([event("eve", "e", 50.0)], 4))
    shutil.rmtree(built_upon(root, store, 4, 0).folder)  # type: ignore[union-attr]
    assert reads(store, root) == [(4, 5)]  # the other of this watermark


def test_the_newest_snapshot_is_built_upon(store: SQLiteStore, root: Path) -> None:
    old = built(store, root)
    grow(store)
    past, newest = built(store, root, 30.0), built(store, root)
    for watermark, expected in ((1, None), (2, old), (3, old), (4, newest), (9, newest)):
        found = built_upon(root, store, watermark, 0)
        assert (found and found.folder) == (expected and expected.folder)
    assert built_upon(root, store, 9, 1) is None
    assert built_upon(root / "nowhere", store, 9, 0) is None
    shutil.rmtree(newest.folder)
    found = built_upon(root, store, 4, 0)
    assert found is not None
    assert found.folder == past.folder


def inodes(snapshot: Snapshot) -> dict[str, int]:
    """Return the files that hold the log and where they are on the disk."""
    paths = (p for name in ("events", "interactions", "texts") for p in (snapshot.folder / name).iterdir())
    return {str(p.relative_to(snapshot.folder)): p.stat().st_ino for p in paths if p.stem.isdigit()}


def test_parts_of_the_log_are_linked_until_as_many_events_follow(store: SQLiteStore, root: Path) -> None:
    """As the digits of a binary number: after n days of one event there are as many parts as n has ones."""
    store.append(frame([event("ann", "a", 30.0) for _ in range(6)], 2))
    before, parts = inodes(built(store, root)), []
    for day in range(1, 9):
        store.append(frame([event("eve", "e", 40.0 + day)], 7 + day))
        found = spied(store, root)
        origin = built_upon(root, store, 8 + day, 0)
        assert origin is not None
        now = inodes(Snapshot(origin.folder))
        kept = [name for name in now if now[name] == before.get(name)]
        parts.append((len(now) // 3, len(kept) // 3, found.for_the_frames()[0]))
        before = now
    assert parts == [
        (2, 1, (8, 9)), (2, 1, (8, 10)), (3, 2, (10, 11)), (2, 1, (8, 12)), (3, 2, (12, 13)),
        (3, 2, (12, 14)), (4, 3, (14, 15)), (1, 0, (0, 16)),
    ]  # fmt: skip


def test_partitions_of_the_history_without_new_events_are_linked(
    store: SQLiteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_build, "PARTITION", 8)
    store.append(frame([event(f"u{n % 20}", "b", n / 2) for n in range(60)], 2))
    before = built(store, root)
    store.append(frame([event("u7", "a", 0.25, "new type")], 62))
    after = built(store, root)
    names = [p.name for p in (after.folder / "history").glob("*-*.arrow")]
    same = [n for n in names if (after.folder / "history" / n).samefile(before.folder / "history" / n)]
    assert before.history.partitions == after.history.partitions == 8
    assert len(same) == len(names) - 3
    assert all(after.about["files"][f"history/{n}"] == before.about["files"][f"history/{n}"] for n in same)


def test_parts_that_do_not_serve_a_moment_are_read_again(store: SQLiteStore, root: Path) -> None:
    """Built for day 30: what happened on day 31 was left out. Late events are read with what is new."""
    store.append(frame([event("ann", "a", 1.0) for _ in range(6)], 2))
    assert spied(store, root, 30.0).for_the_frames() == [(0, 8), (0, 8)]  # hashed and written
    assert spied(store, root, 30.5).for_the_frames() == []  # no event came between
    assert spied(store, root).for_the_frames() == [(0, 8), (0, 8)]
    store.append(frame(LATE, 8))
    assert spied(store, root).for_the_frames() == [(8, 10), (8, 10)]
    assert spied(store, root, 30.0).for_the_frames() == [(0, 10), (0, 10)]
    assert spied(store, root, 99.0).for_the_frames() == []


def test_where_files_cannot_be_linked_they_are_copied(
    store: SQLiteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError

    store.append(frame([event("ann", "a", 1.0) for _ in range(6)], 2))
    before = built(store, root)
    store.append(frame(LATE, 8))
    monkeypatch.setattr(Path, "hardlink_to", refused)
    after = built(store, root)
    manifest.verify(after.folder)
    assert inodes(before).keys() < inodes(after).keys()
    assert not {*inodes(before).values()} & {*inodes(after).values()}


def test_after_an_erasure_nothing_old_is_used(store: SQLiteStore, root: Path) -> None:
    built(store, root)
    grow(store)
    store.erase(["ann"])
    found: Any = Spied(store)
    snapshot = built(found, root)
    assert found.for_the_history() == WHOLE
    assert snapshot.history.facts["events"] == 2
    assert snapshot.history.of_user("ann") is None
    assert "ann" not in snapshot.frame("user_profiles")["user_id"]
    for path in snapshot.folder.rglob("*"):
        assert path.is_dir() or b"ann" not in path.read_bytes()


def test_the_history_of_another_log_is_not_used(store: SQLiteStore, root: Path, tmp_path: Path) -> None:
    built(store, root)
    other = SQLiteStore(tmp_path / "other.db")
    put(other, [], [{"user_id": "ann", "town": "Rome", "mail": "yes"}])
    other.append(frame([event("eve", "a", 1.0), event("eve", "b", 2.0), *LATE]))
    assert reads(other, root) == WHOLE


def test_a_log_that_went_another_way_after_a_restore(store: SQLiteStore, root: Path, tmp_path: Path) -> None:
    """A file of two events is put back; what the snapshots know of the time after it never was."""
    built(store, root)
    store.close()
    shutil.copy(store.path, tmp_path / "restored.db")
    store = SQLiteStore(store.path)
    store.append(frame([event("gone", "gone", 5.0)], 2))
    built(store, root)
    restored = SQLiteStore(tmp_path / "restored.db")
    restored.append(frame([event("eve", "other", 5.0)], 90))
    restored.append(frame([event("eve", "other", 6.0)], 91))
    assert restored.marks()["log"] == store.marks()["log"]
    assert reads(restored, root) == NEW  # the first two events are the same
    snapshot = built(restored, root)
    assert snapshot.history.of_user("gone") is None
    refuse_differences(snapshot, built(restored, tmp_path / "whole"))


@pytest.mark.parametrize(
    "name",
    [
        *(f"history/{name}" for name in ("facts.json", "items.arrow", *files_of(0))),
        *(f"{name}/0000.parquet" for name in ("events", "interactions", "texts")),
        *("log.json", "manifest.json"),
    ],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "empty"])
def test_a_damaged_history_is_passed_over(name: str, damage: str, store: SQLiteStore, root: Path) -> None:
    first = built(store, root)
    path = first.folder / name
    content = path.read_bytes()
    half = len(content) // 2
    if damage == "missing":
        path.unlink()
    else:
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"flip": flipped, "cut": content[:half], "empty": b""}[damage])
    grow(store)
    assert reads(store, root) == WHOLE
    for path in root.iterdir():
        if path != first.folder:
            manifest.verify(path)


@pytest.mark.parametrize("name", ["manifest.json", "history/facts.json", "log.json"])
@pytest.mark.parametrize("content", ["{}", "[]", '{"as_of": 1, "parts": 2}'])
def test_json_of_another_kind_is_passed_over(name: str, content: str, store: SQLiteStore, root: Path) -> None:
    (built(store, root).folder / name).write_text(content)
    grow(store)
    assert reads(store, root) == WHOLE


def test_a_file_too_many_makes_a_history_doubtful(store: SQLiteStore, root: Path) -> None:
    (built(store, root).folder / "history" / "users-0001.arrow").touch()
    grow(store)
    assert reads(store, root) == WHOLE


@pytest.mark.parametrize("change", [{"polars": "1.0"}, {"format": 0}, {"log": "x"}, {"revision": 7}])
def test_a_history_another_program_wrote_is_not_used(change: Row, store: SQLiteStore, root: Path) -> None:
    snapshot = built(store, root)
    path = snapshot.folder / "history" / "facts.json"
    path.write_text(json.dumps(snapshot.history.facts | change))
    reseal(snapshot)
    grow(store)
    assert reads(store, root) == WHOLE


def test_parts_another_program_wrote_are_not_used(store: SQLiteStore, root: Path) -> None:
    store.append(frame(PLAIN * 3, 2))
    snapshot = built(store, root)
    path = snapshot.folder / "log.json"
    path.write_text(path.read_text().replace(f'"{pl.__version__}"', '"1.0"'))
    reseal(snapshot)
    store.append(frame(LATE, 8))
    found = spied(store, root)
    assert found.for_the_frames() == [(0, 10), (0, 10)]
    assert found.for_the_history() == [(8, 10)]


def reseal(snapshot: Snapshot) -> None:
    """Seal a folder that was written to as if it had been made so."""
    about = {name: value for name, value in snapshot.about.items() if name not in ("files", manifest.SEAL)}
    (snapshot.folder / manifest.MANIFEST).unlink()
    manifest._seal(snapshot.folder, about, {})


def test_half_built_folders_are_not_looked_into(store: SQLiteStore, root: Path) -> None:
    snapshot = built(store, root)
    snapshot.folder.rename(root / f".{snapshot.name}-abc")
    grow(store)
    assert reads(store, root) == WHOLE
