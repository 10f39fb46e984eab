"""The log's contract, for every store; then what SQLite in particular must keep, a kill -9 included."""

import fcntl
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profiles.schema import EVENTS, EXPOSURES, ITEMS, TIME, USERS, ContractError
from profiles.store import EventStore, SQLiteStore

START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Backend:
    """How to open one store, here and in another process; opening it again gives the same log."""

    open: Callable[[Path], EventStore]
    code: str  # binds `store`, from `place`


BACKENDS: Mapping[str, Backend] = {
    "sqlite": Backend(
        lambda place: SQLiteStore(place / "log" / "events.db"),
        "from profiles.store import SQLiteStore\nstore = SQLiteStore(place / 'log' / 'events.db')",
    )
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


@pytest.fixture
def store(backend: Backend, tmp_path: Path) -> EventStore:
    return backend.open(tmp_path)


@pytest.fixture
def sqlite(tmp_path: Path) -> SQLiteStore:
    return SQLiteStore(tmp_path / "events.db")


def event(event_id: str, user: str = "u", minutes: float = 0, **rest: Any) -> dict[str, Any]:
    moment = START + timedelta(minutes=minutes)
    return {"event_id": event_id, "user_id": user, "event_type": "view", "timestamp": moment} | rest


def frame(*events: dict[str, Any]) -> pl.DataFrame:
    known = {n: d for n, d in EVENTS.schema.items() if any(n in e for e in events)}
    return EVENTS.conform(pl.DataFrame(list(events), schema=known)) if events else EVENTS.empty()


def everything(store: EventStore) -> pl.DataFrame:
    return pl.concat([EVENTS.empty(), *store.scan()])


def ids(store: EventStore) -> list[str]:
    return everything(store)["event_id"].to_list()


# Appending


def test_an_empty_store(store: EventStore) -> None:
    assert store.watermark() == 0
    assert list(store.scan()) == []
    assert_frame_equal(store.tail("u", 5, LATER), EVENTS.empty())
    acks = store.append(EVENTS.empty())
    assert (list(acks.statuses), acks.watermark) == ([], 0)
    assert_frame_equal(store.catalogue("items"), ITEMS.empty())
    assert_frame_equal(store.catalogue("users"), USERS.empty())
    assert_frame_equal(store.exposures(), EXPOSURES.empty())
    assert store.marks() == {}


def test_accepted_then_duplicate_then_conflict(store: EventStore) -> None:
    first = store.append(frame(event("a", value=1.0), event("b")))
    assert list(first.statuses) == ["accepted", "accepted"]
    again = store.append(frame(event("a", value=1.0)))
    assert (list(again.statuses), again.watermark) == (["duplicate"], first.watermark)
    other = store.append(frame(event("a", value=2.0), event("c")))
    assert list(other.statuses) == ["conflict", "accepted"]
    assert other.watermark > first.watermark
    assert_frame_equal(everything(store), frame(event("a", value=1.0), event("b"), event("c")))
    assert [other.count(s) for s in ("accepted", "duplicate", "conflict")] == [1, 0, 1]


def test_duplicates_and_conflicts_within_one_batch(store: EventStore) -> None:
    rows = [event("a"), event("b"), event("a"), event("a", item_id="x"), event("b"), event("c")]
    acks = store.append(frame(*rows))
    expected = ["accepted", "accepted", "duplicate", "conflict", "duplicate", "accepted"]
    assert list(acks.statuses) == expected
    assert_frame_equal(everything(store), frame(event("a"), event("b"), event("c")))


@pytest.mark.parametrize("name", [n for n in EVENTS.columns if n != "event_id"])
def test_every_column_is_content(store: EventStore, name: str) -> None:
    full: dict[str, Any] = event("a", item_id="i", value=1.0, text="t", session_id="s")
    full |= {"recommendation_id": "r", "properties": "{}"}
    changed = {"timestamp": START + timedelta(microseconds=1), "value": 1.0000000000000002}.get(name, "other")
    assert list(store.append(frame(full)).statuses) == ["accepted"]
    assert list(store.append(frame(full | {name: changed})).statuses) == ["conflict"]
    if EVENTS.columns[name].optional:
        assert list(store.append(frame(full | {name: None})).statuses) == ["conflict"]
    assert_frame_equal(everything(store), frame(full))


def test_null_and_empty_are_different(store: EventStore) -> None:
    acks = store.append(frame(event("a", text=None), event("a", text=""), event("b", text="")))
    assert list(acks.statuses) == ["accepted", "conflict", "accepted"]
    assert everything(store)["text"].to_list() == [None, ""]


def test_columns_that_are_left_out_are_null(store: EventStore) -> None:
    bare = pl.DataFrame([event("a")])
    assert list(store.append(bare).statuses) == ["accepted"]
    assert list(store.append(frame(event("a"))).statuses) == ["duplicate"]
    with pytest.raises(ContractError, match="column 'user_id' is missing"):
        store.append(bare.drop("user_id"))
    assert ids(store) == ["a"]


def test_reopening_finds_everything(backend: Backend, tmp_path: Path) -> None:
    first = backend.open(tmp_path)
    acks = first.append(frame(event("a"), event("b")))
    first.mark("timeless", "yes")
    second = backend.open(tmp_path)
    assert second.watermark() == acks.watermark
    assert ids(second) == ["a", "b"]
    assert list(second.append(frame(event("a"), event("c"))).statuses) == ["duplicate", "accepted"]
    assert first.watermark() == second.watermark() > acks.watermark
    assert ids(first) == ["a", "b", "c"]
    assert first.marks() == second.marks() == {"timeless": "yes"}


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
CONTENT = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from("abcdefgh"),
        "user_id": st.sampled_from("uv"),
        "item_id": st.none() | TEXT,
        "event_type": st.sampled_from(["view", "buy"]),
        "timestamp": st.datetimes(datetime(1960, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
        "value": st.none() | st.floats(allow_nan=False),
        "text": st.none() | TEXT,
    }
)


@settings(max_examples=40)
@given(batches=st.lists(st.lists(CONTENT, max_size=6), max_size=4), resent=st.integers(0, 3))
@pytest.mark.parametrize("name", BACKENDS)
def test_a_store_is_a_list_and_a_dictionary(
    name: str, batches: list[list[dict[str, Any]]], resent: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = BACKENDS[name].open(tmp_path_factory.mktemp("model"))
    held: dict[str, dict[str, Any]] = {}
    marks = [0]
    for batch in [*batches, *batches[:resent]]:
        expected = []
        for row in batch:
            known = held.get(row["event_id"])
            expected.append("accepted" if known is None else "duplicate" if known == row else "conflict")
            held.setdefault(row["event_id"], row)
        acks = store.append(frame(*batch))
        assert list(acks.statuses) == expected
        assert acks.watermark == store.watermark()
        assert acks.watermark >= marks[-1]
        assert (acks.watermark > marks[-1]) == ("accepted" in expected)
        marks.append(acks.watermark)
    whole = frame(*held.values())
    assert_frame_equal(everything(store), whole)
    parts = [part for low, high in pairwise(marks) for part in store.scan(low, high)]
    assert_frame_equal(pl.concat([EVENTS.empty(), *parts]), whole)


# Reading


@pytest.fixture
def seven(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> tuple[EventStore, list[int]]:
    """Events e1…e7 and the watermark after each, written and read three at a time."""
    monkeypatch.setattr("profiles.store.CHUNK", 3)
    return store, [0, *(store.append(frame(event(f"e{n}", minutes=-n))).watermark for n in range(1, 8))]


def test_scan_is_in_log_order_and_its_ranges_are_open_below(seven: tuple[EventStore, list[int]]) -> None:
    store, after = seven
    for low in range(8):
        for high in range(8):
            found = [e for part in store.scan(after[low], after[high]) for e in part["event_id"]]
            assert found == [f"e{n}" for n in range(low + 1, high + 1)]
        rest = [e for part in store.scan(after[low]) for e in part["event_id"]]
        assert rest == [f"e{n}" for n in range(low + 1, 8)]
    assert list(store.scan(after[7])) == []
    assert [e for part in store.scan(0, after[7] + 100) for e in part["event_id"]] == [
        f"e{n}" for n in range(1, 8)
    ]


def test_scan_comes_in_bounded_batches(seven: tuple[EventStore, list[int]]) -> None:
    store, after = seven
    assert [len(part) for part in store.scan()] == [3, 3, 1]
    assert [len(part) for part in store.scan(after[1])] == [3, 3]
    assert all(part.schema == EVENTS.schema for part in store.scan())


def test_an_append_of_several_chunks_is_one_list_of_answers(seven: tuple[EventStore, list[int]]) -> None:
    store, after = seven
    sent = [event(f"e{n}", minutes=-n) for n in (6, 7, 8, 9)]
    sent += [event("e8"), event("e9", minutes=-9), event("e10")]
    acks = store.append(frame(*sent))
    known, new = ["duplicate"] * 2, ["accepted"] * 2
    assert list(acks.statuses) == [*known, *new, "conflict", "duplicate", "accepted"]
    assert [e for part in store.scan(after[7]) for e in part["event_id"]] == ["e8", "e9", "e10"]


def test_a_scan_sees_one_moment_and_holds_nobody_else_there(seven: tuple[EventStore, list[int]]) -> None:
    store, after = seven
    seen, marks = [], [after[7]]
    for n, part in enumerate(store.scan()):
        seen += part["event_id"].to_list()
        acks = store.append(frame(event(f"late{n}", "late", n)))
        marks.append(acks.watermark)
        assert store.watermark() == acks.watermark
        assert store.tail("late", 1, LATER)["event_id"].to_list() == [f"late{n}"]
    assert seen == [f"e{n}" for n in range(1, 8)]
    assert marks == sorted(set(marks))


def test_tail_is_the_newest_n_oldest_first(store: EventStore) -> None:
    store.append(frame(event("noon", "u", 720), event("dawn", "u", 300), event("other", "v", 600)))
    store.append(frame(event("night", "u", 1400), event("noon2", "u", 720)))

    def tail(user: str, n: int, until: datetime = LATER) -> list[str]:
        return store.tail(user, n, until)["event_id"].to_list()

    assert tail("u", 9) == ["dawn", "noon", "noon2", "night"]  # equal times as they came
    assert tail("u", 2) == ["noon2", "night"]
    assert tail("u", 0) == []
    assert tail("v", 9) == ["other"]
    assert tail("nobody", 9) == []
    noon = START + timedelta(minutes=720)
    assert tail("u", 9, noon) == ["dawn", "noon", "noon2"]
    assert tail("u", 1, noon) == ["noon2"]
    assert tail("u", 9, noon - timedelta(microseconds=1)) == ["dawn"]
    assert tail("u", 9, noon.astimezone(ZoneInfo("Asia/Tokyo"))) == ["dawn", "noon", "noon2"]
    assert_frame_equal(store.tail("v", 1, LATER), frame(event("other", "v", 600)))


ODD = [
    *("'", "''", '"', "'; drop table events; --", "a/b\\c", "../up", "%", "_", "?", ":a", "$1", "a\nb\r\n\t"),
    *("🎬", "👩‍👩‍👧", "é", "e\u0301", "ß", "SS", "ﬀ", "漢字", "\u202e", "\ufeff", "\x7f", "\x01"),
    *("", " ", "a", "A", " a", "a ", "0", "00", "0.0", "1e3", "null", "NaN", "true", "x" * 300, "é" * 300),
]


def test_ids_are_any_text_and_kept_to_the_letter(store: EventStore) -> None:
    sent = frame(*(event(odd, odd, n, item_id=odd, event_type=odd or "e") for n, odd in enumerate(ODD)))
    assert store.append(sent).count("accepted") == len(ODD)
    assert store.append(sent[::-1]).count("duplicate") == len(ODD)
    assert_frame_equal(everything(store), sent)
    for n, odd in enumerate(ODD):
        assert_frame_equal(store.tail(odd, 5, LATER), sent[n : n + 1])
    store.put("items", pl.DataFrame({"item_id": ODD, "title": ODD, "odd '\"🎬 name": ODD}))
    kept = store.catalogue("items")
    assert kept["item_id"].to_list() == sorted(ODD)  # by code point
    assert kept["title"].to_list() == kept["odd '\"🎬 name"].to_list() == sorted(ODD)
    for odd in ODD:
        store.mark(odd, odd)
    assert store.marks() == store.marks() | {odd: odd for odd in ODD}


def test_values_and_times_keep_every_bit(store: EventStore) -> None:
    values = [0.1, 1 / 3, 1e308, 5e-324, -1e-300, 2.0**53 + 2, 3.0, float("inf"), -float("inf")]
    times = [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(1900, 1, 1, tzinfo=UTC), START]
    times += [datetime(2099, 12, 31, 23, 59, 59, 999999, UTC), START + timedelta(microseconds=1)]
    rows = [event(f"v{n}", value=v) for n, v in enumerate(values)]
    rows += [event(f"t{n}") | {"timestamp": t} for n, t in enumerate(times)]
    store.append(frame(*rows))
    assert_frame_equal(everything(store), frame(*rows), check_exact=True)


# Catalogues, exposures, marks


def put(store: EventStore, **columns: Any) -> int:
    return store.put("users", pl.DataFrame(columns))


def test_put_counts_what_is_new_or_changed(store: EventStore) -> None:
    assert put(store, user_id=["b", "a"], age=[2, 1]) == 2
    assert put(store, user_id=["a", "b"], age=[1, 2]) == 0
    assert put(store, user_id=["a", "b", "c"], age=[1, 3, None]) == 2
    expected = pl.DataFrame({"user_id": ["a", "b", "c"], "age": [1, 3, None]})
    assert_frame_equal(store.catalogue("users"), expected)
    assert put(store, user_id=[], age=[]) == 0
    assert store.put("users", store.catalogue("users")) == 0
    assert_frame_equal(store.catalogue("items"), ITEMS.empty())


def test_the_order_of_columns_is_no_change(store: EventStore) -> None:
    assert put(store, user_id=["a"], x=[1], y=["1"]) == 1
    assert put(store, y=["1"], user_id=["a"], x=[1]) == 0


KEPT: dict[str, pl.Series] = {
    "text": pl.Series(["", "é'\n", None]),
    "flag": pl.Series([True, False, None]),
    "float": pl.Series([0.1, -1e300, None]),
    "single": pl.Series([0.1, 3.0, None], dtype=pl.Float32),
    "whole": pl.Series([2**63 - 1, -(2**63), None]),
    "small": pl.Series([-128, 127, None], dtype=pl.Int8),
    "large": pl.Series([2**64 - 1, 0, None], dtype=pl.UInt64),
    "list": pl.Series([["a", "é", ""], [], None], dtype=pl.List(pl.String)),
    "time": pl.Series([START, datetime(1960, 1, 1, 0, 0, 0, 1, UTC), None], dtype=TIME),
}


def test_types_survive(store: EventStore) -> None:
    sent = pl.DataFrame({"user_id": ["a", "b", "c"], **KEPT})
    store.put("users", sent)
    assert_frame_equal(store.catalogue("users"), sent, check_exact=True)
    assert store.put("users", sent) == 0


def test_other_times_become_utc_microseconds(store: EventStore) -> None:
    naive = pl.Series([datetime(2024, 1, 1, 12), None])
    sent = {"naive": naive, "ms": naive.dt.cast_time_unit("ms"), "ns": naive.dt.cast_time_unit("ns")}
    berlin = naive.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    put(store, user_id=["a", "b"], **sent, zone=berlin)
    expected = pl.Series([datetime(2024, 1, 1, 12, tzinfo=UTC), None], dtype=TIME)
    found = store.catalogue("users")
    for name in (*sent, "zone"):
        assert found[name].dtype == TIME
        assert found[name].to_list() == expected.to_list()


def test_types_json_does_not_know_become_text(store: EventStore) -> None:
    sent = {
        "date": (pl.Series([date(2024, 1, 1), None]), ["2024-01-01", None]),
        "category": (pl.Series(["x", None], dtype=pl.Categorical), ["x", None]),
        "numbers": (pl.Series([[1, 2], None]), ["[1, 2]", None]),
        "struct": (pl.Series([{"a": 1}, None]), ["{'a': 1}", None]),
        "wide": (pl.Series([2**100, None], dtype=pl.Int128), [str(2**100), None]),
        "money": (pl.Series(["1.20", None]).cast(pl.Decimal(9, 2)), ["1.20", None]),
    }
    columns = {name: given for name, (given, _) in sent.items()}
    assert put(store, user_id=["a", "b"], **columns) == 2
    found = store.catalogue("users")
    assert {n: found[n].to_list() for n in sent} == {n: expected for n, (_, expected) in sent.items()}
    assert all(found[n].dtype == pl.String for n in sent)
    assert put(store, user_id=["a", "b"], **columns) == 0
    assert store.put("users", found) == 0  # what comes out goes in again


def test_a_value_that_is_no_number_is_null(store: EventStore) -> None:
    put(store, user_id=["a", "b"], x=[float("nan"), float("inf")])
    assert store.catalogue("users")["x"].to_list() == [None, None]


def test_another_type_is_refused_by_name_and_nothing_is_written(store: EventStore) -> None:
    put(store, user_id=["a"], age=[1])
    message = "users: attribute 'age' is String here and Int64 in the store; cast it in the column mapping"
    with pytest.raises(ContractError, match=message):
        put(store, user_id=["a", "b"], age=["1", "2"], other=[1, 2])
    assert_frame_equal(store.catalogue("users"), pl.DataFrame({"user_id": ["a"], "age": [1]}))
    store.put("items", pl.DataFrame({"item_id": ["a"], "age": ["old"]}))  # items are not users
    with pytest.raises(ContractError, match="ITEMS: column 'item_id' is missing"):
        store.put("items", pl.DataFrame({"id": ["a"]}))


def test_nulls_alone_have_no_type(store: EventStore) -> None:
    put(store, user_id=["a"], age=[None], town=["x"])
    assert put(store, user_id=["a"], age=[7], town=["x"]) == 1
    assert put(store, user_id=["b"], age=[None], town=[None]) == 1
    expected = pl.DataFrame({"user_id": ["a", "b"], "town": ["x", None], "age": [7, None]})
    assert_frame_equal(store.catalogue("users"), expected, check_column_order=False)


def test_a_row_put_later_replaces_the_whole_row(store: EventStore) -> None:
    put(store, user_id=["a", "b"], age=[1, 2], town=["x", "y"])
    assert put(store, user_id=["a"], age=[1]) == 1
    expected = pl.DataFrame({"user_id": ["a", "b"], "age": [1, 2], "town": [None, "y"]})
    assert_frame_equal(store.catalogue("users"), expected)


def test_items_have_every_named_column(store: EventStore) -> None:
    store.put("items", pl.DataFrame({"item_id": ["i"], "tags": [["x"]], "colour": ["red"]}))
    found = store.catalogue("items")
    assert found.columns == [*ITEMS.columns, "colour"]
    assert found.drop("colour").schema == ITEMS.schema
    assert found["tags"].to_list() == [["x"]]


def test_attributes_put_at_once_are_all_known(store: EventStore) -> None:
    def write(n: int) -> None:
        for _ in range(5):
            put(store, user_id=[f"u{n}"], **{f"x{n}": [n]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    found = store.catalogue("users")
    assert set(found.columns) == {"user_id", *(f"x{n}" for n in range(8))}
    assert [found[f"x{n}"].to_list() for n in range(8)] == [
        [n if n == m else None for m in range(8)] for n in range(8)
    ]


def test_exposures_come_back_in_order(store: EventStore) -> None:
    def shown(name: str, size: int) -> pl.DataFrame:
        rows = [
            {"recommendation_id": name, "user_id": "u'", "item_id": f"i{n}", "rank": n + 1,
             "propensity": None if n % 2 else 1 / 3, "source": "ease", "release": "r", "blend": "default",
             "timestamp": START + timedelta(microseconds=n)}
            for n in range(size)
        ]  # fmt: skip
        return EXPOSURES.conform(pl.DataFrame(rows))

    parts = [shown("z", 3), shown("a", 2), shown("m", 1)]
    for part in parts:
        store.append_exposures(part)
    store.append_exposures(EXPOSURES.empty())
    assert_frame_equal(store.exposures(), pl.concat(parts), check_exact=True)
    assert store.watermark() == 0  # no events
    with pytest.raises(ContractError, match="EXPOSURES: column 'rank' is missing"):
        store.append_exposures(parts[0].drop("rank"))


def test_marks_are_replaced(store: EventStore) -> None:
    store.mark("timeless", "no")
    store.mark("b", "1")
    store.mark("timeless", "yes")
    assert store.marks() == {"b": "1", "timeless": "yes"}


# Many at once


def test_threads_store_each_event_once(store: EventStore) -> None:
    shared = [event(f"s{n}", minutes=n) for n in range(150)]

    def send(worker: int) -> Counter[str]:
        own = [event(f"w{worker}-{n}", minutes=n) for n in range(75)]
        sent = [*shared, *own]
        random.Random(worker).shuffle(sent)
        said: Counter[str] = Counter()
        last = 0
        for start in range(0, len(sent), 25):
            acks = store.append(frame(*sent[start : start + 25]))
            said.update(acks.statuses)
            assert last <= acks.watermark <= store.watermark()
            last = acks.watermark
        return said

    with ThreadPoolExecutor(6) as pool:
        said = sum(pool.map(send, range(6)), Counter())
    assert said == {"accepted": 150 + 6 * 75, "duplicate": 5 * 150}
    found = ids(store)
    assert len(found) == len(set(found)) == 600


def test_of_rivals_one_is_kept(store: EventStore) -> None:
    barrier = threading.Barrier(6)

    def send(worker: int) -> list[str]:
        barrier.wait()
        return list(store.append(frame(*(event(f"e{n}", value=worker) for n in range(20)))).statuses)

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(send, range(6)))
    kept = {e: int(v) for e, v in everything(store).select("event_id", "value").rows()}
    assert len(kept) == 20
    for n in range(20):
        answers = [statuses[n] for statuses in said]
        assert answers == ["accepted" if w == kept[f"e{n}"] else "conflict" for w in range(6)]


def running(code: str, place: Path, *arguments: object) -> subprocess.Popen[str]:
    start = f"import sys\nfrom pathlib import Path\nplace = Path(sys.argv[1])\n{code}"
    command = [sys.executable, "-c", start, str(place), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


SENDER = """
import random
from datetime import UTC, datetime
import polars as pl
worker = int(sys.argv[2])
names = [f"s{n}" for n in range(100)] + [f"w{worker}-{n}" for n in range(50)]
random.Random(worker).shuffle(names)
said = []
for start in range(0, 150, 15):
    rows = {"event_id": names[start:start + 15], "user_id": "u", "event_type": "view"}
    at = pl.lit(datetime(2024, 1, 1, tzinfo=UTC)).alias("timestamp")
    said += store.append(pl.DataFrame(rows).with_columns(at)).statuses
print(said.count("accepted"), said.count("duplicate"), said.count("conflict"))
"""


def test_processes_store_each_event_once(backend: Backend, tmp_path: Path) -> None:
    senders = [running(backend.code + SENDER, tmp_path, worker) for worker in range(4)]
    said = [tuple(map(int, sender.communicate(timeout=60)[0].split())) for sender in senders]
    assert [sum(column) for column in zip(*said, strict=True)] == [100 + 4 * 50, 3 * 100, 0]
    found = ids(backend.open(tmp_path))
    assert len(found) == len(set(found)) == 300


def test_readers_see_whole_batches_and_do_not_wait(store: EventStore) -> None:
    done = threading.Event()

    def write() -> None:
        try:
            for batch in range(15):
                store.append(frame(*(event(f"{batch}-{n}", f"u{batch}") for n in range(40))))
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    sizes, last = [], 0
    while not done.is_set():
        mark = store.watermark()
        found = ids(store)
        assert len(found) >= last
        assert len(found) % 40 == 0
        early = [e for part in store.scan(0, mark) for e in part["event_id"]]
        assert len(early) % 40 == 0
        assert found[: len(early)] == early
        sizes.append(len(found))
        last = len(found)
    writer.join()
    assert len(ids(store)) == 600
    assert sizes == sorted(sizes)


WRITER = """
import itertools, random
from datetime import UTC, datetime
import polars as pl
trial, sizes = sys.argv[2], random.Random(int(sys.argv[2]))
at = pl.lit(datetime(2024, 1, 1, tzinfo=UTC)).alias("timestamp")
for batch in itertools.count():
    size = sizes.choice([1, 3, 40])
    names = [f"{trial}/{batch}/{size}/{n}" for n in range(size)]
    rows = {"event_id": names, "user_id": "u", "event_type": "view", "text": "x" * 500}
    store.append(pl.DataFrame(rows).with_columns(at))
    print(f"{batch}/{size}", flush=True)
"""
TRIALS = 16


def test_nothing_acknowledged_is_lost_to_kill_9(backend: Backend, tmp_path: Path) -> None:
    store = backend.open(tmp_path)
    waits = random.Random(1)
    acked: dict[str, list[str]] = {}
    writers: list[subprocess.Popen[str]] = []
    for trial in range(TRIALS):
        while len(writers) < 2 and trial + len(writers) < TRIALS:
            writers.append(running(backend.code + WRITER, tmp_path, trial + len(writers)))
        writer = writers.pop(0)
        assert writer.stdout is not None
        first = writer.stdout.readline()
        threading.Event().wait(waits.uniform(0, 0.06))
        os.kill(writer.pid, signal.SIGKILL)
        acked[str(trial)] = [first.strip(), *writer.stdout.read().split()]
        assert writer.wait(timeout=30) == -signal.SIGKILL
        writer.stdout.close()
        assert store.append(frame(event(f"survivor{trial}"))).count("accepted") == 1  # no lock is left
        found = Counter(ids(backend.open(tmp_path)))
        assert set(found.values()) == {1}
        batches: dict[str, Counter[str]] = {}
        for name in found:
            of, _, rest = name.partition("/")
            if rest:
                batches.setdefault(of, Counter())[rest.rpartition("/")[0]] += 1
        for of, said in acked.items():
            held = batches[of]
            assert set(said) <= set(held)
            assert len(held) <= len(said) + 1  # at most the one being acknowledged
            assert all(count == int(batch.partition("/")[2]) for batch, count in held.items())
        assert sum(name.startswith("survivor") for name in found) == trial + 1


# SQLite


def test_a_nul_is_a_character(sqlite: SQLiteStore) -> None:
    sent = frame(*(event(e, e, n, text=e) for n, e in enumerate(["a\0b", "a", "a\0c", "\0", "a\0"])))
    assert sqlite.append(sent).count("accepted") == 5
    assert sqlite.append(sent).count("duplicate") == 5
    assert sqlite.append(frame(event("a\0b"))).count("conflict") == 1
    assert_frame_equal(everything(sqlite), sent)
    assert_frame_equal(sqlite.tail("a\0b", 9, LATER), sent[:1])
    sqlite.put("users", pl.DataFrame({"user_id": ["a\0b", "a"], "x": ["\0", "1\0"]}))
    assert sqlite.catalogue("users").rows() == [("a", "1\0"), ("a\0b", "\0")]


def test_more_ids_than_sqlite_takes_parameters(sqlite: SQLiteStore) -> None:
    names = pl.int_range(33_000, eager=True).cast(pl.String).to_frame("event_id")
    many = EVENTS.conform(names.join(frame(event("x")).drop("event_id"), how="cross"))
    assert sqlite.append(many).count("accepted") == 33_000
    assert sqlite.append(many).count("duplicate") == 33_000


def test_the_writing_connection_is_durable(sqlite: SQLiteStore) -> None:
    with sqlite._writing() as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("pragma mmap_size").fetchone() == (0,)
        assert connection.in_transaction
    assert sqlite._reader.execute("pragma journal_mode").fetchone() == ("wal",)
    assert sqlite._reader.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_writer_waits_for_the_lock_file(sqlite: SQLiteStore) -> None:
    with sqlite._lock_path.open() as held, ThreadPoolExecutor(1) as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = pool.submit(sqlite.append, frame(event("a")))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        assert sqlite.watermark() == 0  # readers do not wait
        fcntl.flock(held, fcntl.LOCK_UN)
        assert waiting.result(timeout=30).watermark == 1


def test_readers_cannot_write_or_checkpoint(sqlite: SQLiteStore) -> None:
    reader = sqlite._open()
    assert reader.execute("select count(*) from events").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("insert into marks values ('a', 'b')")
    sqlite.append(frame(event("a")))
    before = sqlite.path.read_bytes()  # the event is in the log beside it, for a reader was there
    sqlite._reader.close()
    del sqlite._local.connection
    reader.close()
    assert sqlite.path.read_bytes() == before
    assert ids(SQLiteStore(sqlite.path)) == ["a"]


def test_an_error_within_a_transaction_leaves_nothing(sqlite: SQLiteStore) -> None:
    sqlite.append(frame(event("a")))

    def spoil() -> None:
        with sqlite._writing() as connection:
            connection.execute("delete from events")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spoil()
    assert ids(sqlite) == ["a"]
    assert sqlite.append(frame(event("b"))).count("accepted") == 1  # the lock was let go


def seen_of(store: EventStore) -> tuple[object, ...]:
    tail = store.tail("u", 5, LATER)["event_id"].to_list()
    return store.watermark(), ids(store), tail, store.marks(), len(store.catalogue("users"))


def test_a_transaction_under_way_blocks_no_reader_and_shows_nothing(sqlite: SQLiteStore) -> None:
    other = SQLiteStore(sqlite.path)
    sqlite.append(frame(event("a")))
    with sqlite._writing() as connection:
        connection.execute("update events set user_id = 'gone'")
        connection.execute("insert into marks values ('half', 'done')")
        for reader in (sqlite, other):
            with ThreadPoolExecutor(1) as fresh:  # a thread that has not read before, too
                for seen in (seen_of(reader), fresh.submit(seen_of, reader).result(timeout=5)):
                    assert seen == (1, ["a"], ["a"], {}, 0)
    assert other.tail("gone", 5, LATER)["event_id"].to_list() == ["a"]
    assert other.marks() == {"half": "done"}


def test_the_log_beside_the_file_does_not_grow_without_end(sqlite: SQLiteStore) -> None:
    assert sqlite.watermark() == 0  # a reader that stays open keeps writers from being the last to close
    wal = sqlite.path.with_name(sqlite.path.name + "-wal")
    for n in range(40):
        sqlite.append(frame(*(event(f"{n}-{m}", text="x" * 2000) for m in range(100))))
    assert sqlite.watermark() == 4000
    assert wal.stat().st_size < 8 << 20  # 1,000 pages of 4 KiB and one transaction
