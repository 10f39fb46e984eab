"""The log's contract, for every store."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
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
from profiles.store import EventStore, Removed
from profiles.store.sqlite import SQLiteStore

START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Backend:
    """How to open one store, here and in another process; opening it again gives the same log."""

    open: Callable[[Path], EventStore]
    code: str  # binds `store`, from `place`


BACKENDS = ("sqlite", "postgres")  # each has a fixture NAME_backend, here or in conftest.py


@pytest.fixture(scope="session")
def sqlite_backend() -> Backend:
    return Backend(
        lambda place: SQLiteStore(place / "log" / "events.db"),
        "from profiles.store.sqlite import SQLiteStore\nstore = SQLiteStore(place / 'log' / 'events.db')",
    )


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(f"{request.param}_backend")
    return found


@pytest.fixture
def store(backend: Backend, tmp_path: Path) -> Iterator[EventStore]:
    store = backend.open(tmp_path)
    yield store
    store.close()


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
def test_a_store_is_a_list_and_a_dictionary(
    backend: Backend,
    batches: list[list[dict[str, Any]]],
    resent: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = backend.open(tmp_path_factory.mktemp("model"))
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
    monkeypatch.setattr("profiles.store.rows.CHUNK", 3)
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


def test_one_row_of_a_catalogue(store: EventStore) -> None:
    assert store.catalogue("users", "ann").is_empty()
    users = pl.DataFrame({"user_id": ["ann", "b\x00b", "ann's"], "age": [1, 2, 3]})
    store.put("users", users)
    for user_id, age in users.rows():
        found = store.catalogue("users", user_id)
        assert found.select("user_id", "age").rows() == [(user_id, age)]
    nobody = store.catalogue("users", "an")
    assert nobody.is_empty()
    assert nobody.schema == store.catalogue("users").schema
    assert store.catalogue("items", "ann").is_empty()


def test_exposures_come_back_in_order(store: EventStore) -> None:
    parts = [shown("z", 3), shown("a", 2), shown("m", 1)]
    for part in parts:
        store.append_exposures(part)
    store.append_exposures(EXPOSURES.empty())
    assert_frame_equal(store.exposures(), pl.concat(parts), check_exact=True)
    assert store.watermark() == 0  # no events
    with pytest.raises(ContractError, match="EXPOSURES: column 'rank' is missing"):
        store.append_exposures(parts[0].drop("rank"))


def test_exposures_and_their_marks_are_stored_together_or_not_at_all(store: EventStore) -> None:
    store.append_exposures(shown("a", 1), {"done": "1"})
    store.append_exposures(EXPOSURES.empty(), {"done": "2", "other": "x"})
    assert store.marks() == {"done": "2", "other": "x"}
    with pytest.raises(Exception, match=r"(?i)null|none|str"):
        store.append_exposures(shown("b", 1), {"done": "3", "other": None})  # type: ignore[dict-item]
    assert store.marks() == {"done": "2", "other": "x"}
    assert_frame_equal(store.exposures(), shown("a", 1), check_exact=True)


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
TRIALS = 4


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


# Sealing


def shown(name: str, size: int, user: str = "u", minutes: float = 0) -> pl.DataFrame:
    rows = [
        {"recommendation_id": name, "user_id": user, "item_id": f"i{n}", "rank": n + 1,
         "propensity": None if n % 2 else 1 / 3, "source": "ease", "release": "r", "blend": "default",
         "timestamp": START + timedelta(minutes=minutes, microseconds=n)}
        for n in range(size)
    ]  # fmt: skip
    return EXPOSURES.conform(pl.DataFrame(rows))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of about ten rows, batches of three."""
    monkeypatch.setattr("profiles.store.rows.CHUNK", 3)
    monkeypatch.setattr("profiles.store.segments.MOST_ROWS", 10)
    monkeypatch.setattr("profiles.store.segments.GROUP", 2)


@pytest.fixture
def long(store: EventStore, small: None) -> tuple[EventStore, pl.DataFrame, list[int]]:
    """A store of 40 events of 5 users over 20 months, out of order, sealed in parts; its rows and marks."""
    rows = [
        event(f"e{n}", f"u{n % 5}", ((n * 7) % 20) * 43_200, value=n / 3, text=f"t{n}") for n in range(40)
    ]
    marks = [store.append(frame(*rows[n : n + 4])).watermark for n in range(0, 20, 4)]
    assert store.seal(keep=3) == 17
    marks += [store.append(frame(*rows[n : n + 4])).watermark for n in range(20, 40, 4)]
    assert store.seal(keep=11) == 12
    return store, frame(*rows), marks


def test_what_is_sealed_reads_as_before(long: tuple[EventStore, pl.DataFrame, list[int]]) -> None:
    store, whole, marks = long
    assert_frame_equal(everything(store), whole, check_exact=True)
    assert store.watermark() == marks[-1]
    for low in range(0, 41, 4):
        for high in range(low, 41, 4):
            found = list(store.scan([0, *marks][low // 4], [0, *marks][high // 4]))
            assert_frame_equal(pl.concat([EVENTS.empty(), *found]), whole[low:high])
            assert all(0 < len(part) <= 3 for part in found)
    assert store.seal(keep=11) == 0
    assert store.seal(keep=999) == 0
    assert store.seal() == 11
    assert store.seal() == 0
    assert_frame_equal(everything(store), whole, check_exact=True)
    assert store.watermark() == marks[-1]
    with pytest.raises(ContractError, match="keep = -1"):
        store.seal(-1)


def test_scan_reads_the_columns_that_are_wanted(long: tuple[EventStore, pl.DataFrame, list[int]]) -> None:
    store, whole, marks = long
    for columns in (["user_id"], ["timestamp", "event_id"], ["value", "item_id"], [*EVENTS.columns]):
        assert_frame_equal(pl.concat(store.scan(columns=columns)), whole.select(columns))
        assert_frame_equal(pl.concat(store.scan(marks[2], marks[8], columns)), whole[12:36].select(columns))
    with pytest.raises(ContractError, match="column 'seq' is not one of"):
        list(store.scan(columns=["user_id", "seq"]))


def test_tail_reaches_into_segments(long: tuple[EventStore, pl.DataFrame, list[int]]) -> None:
    store, whole, marks = long
    numbered = whole.with_row_index()
    for user in ("u0", "u3", "nobody"):
        for n in (0, 1, 3, 8, 100):
            for months in (-1, 0, 4, 11, 30):
                for mark in (0, 2, 5, 9):
                    until = START + timedelta(minutes=months * 43_200)
                    known = numbered.filter(
                        pl.col("user_id") == user, pl.col("timestamp") <= until, pl.col("index") >= 4 * mark
                    )
                    expected = known.sort("timestamp", "index").tail(n).drop("index")
                    assert_frame_equal(store.tail(user, n, until, [0, *marks][mark]), expected)


def test_sealed_events_are_still_known(long: tuple[EventStore, pl.DataFrame, list[int]]) -> None:
    store, whole, marks = long
    assert store.append(whole).statuses == ["duplicate"] * 40
    assert store.append(whole.sample(fraction=1, shuffle=True, seed=1)).count("duplicate") == 40
    other = whole.with_columns(text=pl.lit("other"))
    acks = store.append(pl.concat([other, frame(event("new"))]))
    assert acks.statuses == ["conflict"] * 40 + ["accepted"]
    assert acks.watermark > marks[-1]
    assert ids(store) == [*whole["event_id"], "new"]


def test_sealing_keeps_every_bit(backend: Backend, store: EventStore, tmp_path: Path) -> None:
    values = [0.1, 1e308, 5e-324, -0.0, 0.0, 2.0**53 + 2, float("inf"), -float("inf"), None, float("nan")]
    rows = [event(odd, odd, n, item_id=odd, text=odd, properties=None if n % 2 else odd)
            for n, odd in enumerate(ODD)]  # fmt: skip
    rows += [event(f"v{n}", value=v) for n, v in enumerate(values)]
    times = [(1969, 12, 31, 23, 59, 59, 999999), (1900, 2, 28), (2099, 12, 31, 23, 59, 59, 999999)]
    rows += [event(f"t{n}") | {"timestamp": datetime(*t, tzinfo=UTC)} for n, t in enumerate(times)]
    sent = frame(*rows)
    store.append(sent)
    before = everything(store)
    assert store.seal() == len(sent)
    for opened in (store, backend.open(tmp_path)):
        assert_frame_equal(everything(opened), before, check_exact=True)
        assert opened.append(sent).count("duplicate") == len(sent)
        for n, odd in enumerate(ODD):
            assert_frame_equal(opened.tail(odd, 5, LATER), sent[n : n + 1])


def test_exposures_are_sealed_too(backend: Backend, store: EventStore, small: None, tmp_path: Path) -> None:
    parts = [shown(f"r{n}", n % 4 + 1, f"u{n % 3}", n * 9_000) for n in range(12)]
    for n, part in enumerate(parts):
        store.append_exposures(part)
        if n in (5, 9):
            assert store.seal() == 0  # no events
    assert_frame_equal(store.exposures(), pl.concat(parts), check_exact=True)
    assert_frame_equal(backend.open(tmp_path).exposures(), pl.concat(parts), check_exact=True)
    assert store.watermark() == 0


def test_reading_and_writing_go_on_while_sealing(store: EventStore, small: None) -> None:
    done = threading.Event()

    def write() -> None:
        try:
            for n in range(60):
                store.append(frame(event(f"e{n}", f"u{n % 2}", -n)))
        finally:
            done.set()

    def seal() -> None:
        while not done.is_set():
            store.seal(keep=2)

    workers = [threading.Thread(target=work) for work in (write, seal)]
    for worker in workers:
        worker.start()
    length = 0
    while not done.is_set():
        mark = store.watermark()
        found = [e for part in store.scan(0, mark) for e in part["event_id"]]
        assert found == [f"e{n}" for n in range(len(found))]
        assert len(found) >= length
        length = len(found)
        tail = store.tail("u1", 100, LATER)["event_id"].to_list()
        assert tail == [f"e{n}" for n in range(2 * len(tail) - 1, 0, -2)]
        assert len(tail) >= length // 2
    for worker in workers:
        worker.join()
    store.seal()
    assert ids(store) == [f"e{n}" for n in range(60)]


def parquet(place: Path) -> list[Path]:
    return sorted(place.rglob("*.parquet"))


@pytest.mark.parametrize("file", ["part.parquet", "ids.npy", "users.npy", "user_rows.npy", "manifest.json"])
def test_a_damaged_segment_is_named(backend: Backend, file: str, small: None, tmp_path: Path) -> None:
    store = backend.open(tmp_path)
    sent = frame(*(event(f"e{n}", f"u{n}", n) for n in range(9)))
    store.append(sent)
    store.seal()
    store.close()
    (damaged,) = tmp_path.rglob(file)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    store = backend.open(tmp_path)
    message = rf"{damaged}: its content is not what was sealed \(SHA-256 differs\)"
    read: dict[str, Callable[[], object]] = {
        "scan": lambda: everything(store),
        "tail": lambda: store.tail("u3", 1, LATER),
        "append": lambda: store.append(sent.with_columns(text=pl.lit("other"))),
        "erase": lambda: store.erase(["u3"]),
    }
    needed = {"part.parquet": ["scan", "tail", "append"], "manifest.json": [*read], "ids.npy": ["append"]}
    for name in needed.get(file, ["tail", "erase"]):
        with pytest.raises(ContractError, match=message):
            read[name]()
    assert store.watermark() > 0  # what does not need it goes on


def test_a_lost_segment_is_named(backend: Backend, small: None, tmp_path: Path) -> None:
    store = backend.open(tmp_path)
    sent = frame(event("a"), event("b"))
    store.append(sent)
    store.seal()
    (lost,) = parquet(tmp_path)
    lost.unlink()
    other = sent.with_columns(text=pl.lit("other"))
    for read in (lambda: everything(store), lambda: store.tail("u", 1, LATER), lambda: store.append(other)):
        with pytest.raises(ContractError, match=f"{lost}: missing, though the log needs it"):
            read()


# Taking out


def test_erasing_leaves_no_trace_of_a_user(long: tuple[EventStore, pl.DataFrame, list[int]]) -> None:
    store, whole, marks = long
    put(store, user_id=["u1", "u2"], age=[1, 2])
    store.append_exposures(shown("a", 2, "u1"))
    store.append_exposures(shown("b", 2, "u2"))
    store.seal(keep=11)
    store.append_exposures(shown("c", 3, "u1"))
    before = store.revision()
    assert store.erase(["u1", "nobody"]) == Removed(events=8, exposures=5)
    assert store.revision() > before
    rest = whole.filter(pl.col("user_id") != "u1")
    assert_frame_equal(everything(store), rest)
    assert_frame_equal(store.tail("u1", 9, LATER), EVENTS.empty())
    theirs = whole.filter(pl.col("user_id") == "u2").sort("timestamp", maintain_order=True)
    assert_frame_equal(store.tail("u2", 99, LATER), theirs)
    assert_frame_equal(store.exposures(), shown("b", 2, "u2"))
    assert store.catalogue("users")["user_id"].to_list() == ["u2"]
    assert store.watermark() == marks[-1]
    again = store.revision()
    assert store.erase(["u1"]) == Removed()
    assert store.erase([]) == Removed()
    assert store.append(rest).count("duplicate") == len(rest)
    assert store.revision() >= again
    assert_frame_equal(everything(store), rest)


def test_an_erased_user_may_begin_anew(long: tuple[EventStore, pl.DataFrame, list[int]]) -> None:
    store, whole, marks = long
    mine = whole.filter(pl.col("user_id") == "u4")
    store.erase(["u4"])
    acks = store.append(mine.with_columns(text=pl.lit("new life")))  # the same ids, and other content
    assert acks.statuses == ["accepted"] * 8
    assert acks.watermark > marks[-1]
    put(store, user_id=["u4"], age=[4])
    for _ in range(2):
        found = store.tail("u4", 99, LATER)
        assert set(found["event_id"]) == set(mine["event_id"])
        assert set(found["text"]) == {"new life"}
        assert len(everything(store)) == 40
        assert store.catalogue("users")["user_id"].to_list() == ["u4"]
        store.seal()


def test_everybody_may_be_erased(long: tuple[EventStore, pl.DataFrame, list[int]]) -> None:
    store, whole, marks = long
    assert store.erase([f"u{n}" for n in range(5)]) == Removed(events=40)
    assert ids(store) == []
    assert store.watermark() == marks[-1]
    assert store.append(whole).count("accepted") == 40
    assert store.watermark() > marks[-1]
    assert_frame_equal(everything(store), whole)


def test_retention_goes_by_age_and_type(store: EventStore, small: None) -> None:
    rows = [
        event(f"e{n}", f"u{n % 2}", n * 1440, event_type=("view", "buy", "rate")[n % 3]) for n in range(30)
    ]
    store.append(frame(*rows[::2]))
    store.seal(keep=4)
    store.append(frame(*rows[1::2]))
    for n in range(6):
        store.append_exposures(shown(f"r{n}", 1, minutes=n * 1440))
        if n == 3:
            store.seal(keep=18)
    kept = {row["event_id"]: row for row in [*rows[::2], *rows[1::2]]}
    cut = START + timedelta(days=10)
    store.put("users", pl.DataFrame({"user_id": ["u0"]}))
    assert store.retain(cut, ["view", "rate"]) == Removed(events=7)
    kept = {k: v for k, v in kept.items() if v["timestamp"] >= cut or v["event_type"] == "buy"}
    assert_frame_equal(everything(store), frame(*kept.values()))
    assert len(store.exposures()) == 6
    revision = store.revision()
    cut = START + timedelta(days=4)
    assert store.retain(cut) == Removed(events=1, exposures=4)
    assert store.revision() > revision
    kept = {k: v for k, v in kept.items() if v["timestamp"] >= cut}
    assert_frame_equal(everything(store), frame(*kept.values()))
    assert store.exposures()["recommendation_id"].to_list() == ["r4", "r5"]
    assert store.retain(cut) == Removed()
    assert store.retain(LATER, []) == Removed()
    assert store.catalogue("users")["user_id"].to_list() == ["u0"]
    assert store.append(frame(*rows[:1])).statuses == ["accepted"]  # what was taken out is not known any more
    with pytest.raises(ContractError, match="needs its time zone"):
        store.retain(datetime(2024, 1, 1))
    assert store.retain(LATER) == Removed(events=len(kept) + 1, exposures=2)
    assert ids(store) == []


def test_erasures_at_once_count_their_own(store: EventStore, small: None) -> None:
    store.append(frame(*(event(f"e{n}", f"u{n % 6}", n * 9_000) for n in range(60))))
    store.seal(keep=20)
    with ThreadPoolExecutor(6) as pool:
        removed = list(pool.map(lambda n: store.erase([f"u{n}"]), range(5)))
    assert removed == [Removed(events=10)] * 5
    assert ids(store) == [f"e{n}" for n in range(5, 60, 6)]


def test_readers_never_see_half_an_erasure(store: EventStore, small: None) -> None:
    whole = frame(*(event(f"e{n}", f"u{n % 3}", n * 9_000) for n in range(60)))
    store.append(whole)
    store.seal(keep=9)
    begun, done = threading.Event(), threading.Event()

    def erase() -> None:
        begun.set()
        store.erase(["u1"])
        done.set()

    def read() -> None:
        before = store.revision()
        found = everything(store)
        while not done.is_set():
            if store.revision() > before:
                assert "u1" not in everything(store)["user_id"]
                assert not len(store.tail("u1", 9, LATER))
            found = everything(store)
            assert len(found.filter(pl.col("user_id") != "u1")) == 40
            assert found["event_id"].is_unique().all()

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        pool.submit(erase).result()
        for reader in readers:
            reader.result()


# Copying


def told(store: EventStore) -> dict[str, Any]:
    """Return everything that a store says."""
    return {
        "events": everything(store).rows(),
        "exposures": store.exposures().rows(),
        "users": store.catalogue("users").rows(),
        "items": store.catalogue("items").rows(),
        "marks": store.marks(),
        "watermark": store.watermark(),
    }


@pytest.fixture
def full(long: tuple[EventStore, pl.DataFrame, list[int]]) -> EventStore:
    store, *_ = long
    put(store, user_id=["u1", "u2"], age=[1, 2])
    store.put("items", pl.DataFrame({"item_id": ["i"], "tags": [["x"]]}))
    store.append_exposures(shown("a", 2, "u1"))
    store.seal(keep=11)
    store.append_exposures(shown("b", 2, "u2"))
    store.erase(["u3"])
    store.mark("timeless", "no")
    return store


def test_a_backup_restores_everything(backend: Backend, full: EventStore, tmp_path: Path) -> None:
    expected = told(full)
    (tmp_path / "kept").mkdir()
    full.backup(tmp_path / "kept")
    full.append(frame(event("later")))
    full.erase(["u1"])
    other = backend.open(tmp_path / "other")
    revision = other.revision()
    other.restore(tmp_path / "kept")
    assert told(other) == expected
    assert other.revision() > revision
    reopened = backend.open(tmp_path / "other")
    assert told(reopened) == expected
    held = everything(reopened)
    assert reopened.append(held).count("duplicate") == len(held)
    assert reopened.append(frame(event("more"))).watermark > expected["watermark"]
    assert reopened.erase(["u1"]) == Removed(events=8, exposures=2)
    reopened.seal()
    third = backend.open(tmp_path / "third")
    third.restore(tmp_path / "kept")  # the backup is as it was
    assert told(third) == expected


def test_a_backup_goes_where_nothing_is_and_comes_back_where_nothing_is(
    backend: Backend, full: EventStore, tmp_path: Path
) -> None:
    full.backup(tmp_path / "kept")
    with pytest.raises(ContractError, match="kept: a backup needs an empty folder"):
        full.backup(tmp_path / "kept")
    expected = told(full)
    with pytest.raises(ContractError, match="restore into a new one"):
        full.restore(tmp_path / "kept")
    assert told(full) == expected
    changes: list[Callable[[EventStore], object]] = [
        lambda other: other.append(frame(event("a"))),
        lambda other: put(other, user_id=["a"]),
        lambda other: other.append_exposures(shown("a", 1)),
        lambda other: (other.append(frame(event("a"))), other.erase(["u"])),
    ]
    for n, change in enumerate(changes):
        other = backend.open(tmp_path / f"other{n}")
        change(other)
        with pytest.raises(ContractError, match="restore into a new one"):
            other.restore(tmp_path / "kept")
    with pytest.raises(ContractError, match=r"there is no manifest\.json"):
        backend.open(tmp_path / "empty").restore(tmp_path / "nowhere")


def test_a_restored_store_is_not_the_empty_one_that_was_read(
    backend: Backend, store: EventStore, tmp_path: Path
) -> None:
    store.append(frame(event("a")))
    assert store.revision() == 0
    store.backup(tmp_path / "kept")
    other = backend.open(tmp_path / "other")
    other.restore(tmp_path / "kept")
    assert other.revision() > 0
    assert ids(other) == ["a"]


def test_every_file_of_a_backup_is_checked(backend: Backend, full: EventStore, tmp_path: Path) -> None:
    full.backup(tmp_path / "kept")
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(files) > 20
    for n, path in enumerate(files[:: len(files) // 12]):
        data = path.read_bytes()
        for spoilt in (data[:-2], bytes([data[0] ^ 1]) + data[1:]):
            path.write_bytes(spoilt)
            other = backend.open(tmp_path / f"other{n}")
            with pytest.raises(ContractError, match=re.escape(path.name)):
                other.restore(tmp_path / "kept")
            assert other.watermark() == 0
            assert ids(other) == []
            other.close()
        path.write_bytes(data)
    backend.open(tmp_path / "good").restore(tmp_path / "kept")


def test_a_backup_is_of_one_moment(backend: Backend, store: EventStore, tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        for n in range(10_000):
            store.append(frame(*(event(f"{n}-{m}", f"u{n % 3}", n) for m in range(5))))
            if done.wait(0.003):
                return

    def seal() -> None:
        while not done.wait(0.02):
            store.seal(keep=7)

    workers = [threading.Thread(target=work) for work in (write, seal)]
    for worker in workers:
        worker.start()
    try:
        for n in range(4):
            while store.watermark() < 60 * (n + 1):
                done.wait(0.001)
            store.backup(tmp_path / f"kept{n}")
    finally:
        done.set()
        for worker in workers:
            worker.join()
    whole, length = ids(store), -1
    for n in range(4):
        other = backend.open(tmp_path / f"other{n}")
        other.restore(tmp_path / f"kept{n}")
        found = ids(other)
        assert found == whole[: len(found)]
        assert len(found) % 5 == 0
        assert len(found) >= length
        length = len(found)


# Everything, in any order


class Model:
    """A log as a list of (mark, row): what a store must say, whatever was done to it."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.marks = [0]

    def append(self, batch: list[dict[str, Any]]) -> list[str]:
        held = {row["event_id"]: row for _, row in self.rows}
        statuses = []
        for row in batch:
            known = held.get(row["event_id"])
            statuses.append("accepted" if known is None else "duplicate" if known == row else "conflict")
            if known is None:
                held[row["event_id"]] = row
                self.rows.append((len(self.marks), row))
        return statuses

    def remove(self, gone: Callable[[dict[str, Any]], bool]) -> int:
        before = len(self.rows)
        self.rows = [(mark, row) for mark, row in self.rows if not gone(row)]
        return before - len(self.rows)

    @staticmethod
    def old(row: dict[str, Any], cut: datetime, types: list[str] | None) -> bool:
        return row["timestamp"] < cut and (types is None or row["event_type"] in types)

    def tail(self, user: str, n: int, until: datetime, mark: int) -> pl.DataFrame:
        known = [r for m, r in self.rows if r["user_id"] == user and r["timestamp"] <= until and m > mark]
        newest = sorted(known, key=lambda row: row["timestamp"])
        return frame(*newest[max(0, len(newest) - n) :])


MOMENTS = st.datetimes(datetime(2023, 1, 1), datetime(2023, 6, 1), timezones=st.just(UTC))
ROW = st.fixed_dictionaries(
    {
        "event_id": st.text("abcdefghij", min_size=1, max_size=2),
        "user_id": st.sampled_from("uvwx"),
        "item_id": st.none() | TEXT,
        "event_type": st.sampled_from(["view", "buy"]),
        "timestamp": MOMENTS,
        "value": st.none() | st.floats(allow_nan=False),
    }
)
STEP = st.one_of(
    st.tuples(st.just("append"), st.lists(ROW, max_size=8)),
    st.tuples(st.just("append"), st.lists(ROW, max_size=8)),
    st.tuples(st.just("seal"), st.integers(0, 6)),
    st.tuples(st.just("erase"), st.lists(st.sampled_from("uvwxy"), max_size=2)),
    st.tuples(st.just("retain"), st.tuples(MOMENTS, st.none() | st.lists(st.sampled_from(["view", "buy"])))),
    st.tuples(
        st.just("tail"), st.tuples(st.sampled_from("uvwx"), st.integers(0, 9), MOMENTS, st.integers(0))
    ),
    st.tuples(st.just("scan"), st.tuples(st.integers(0), st.integers(0))),
    st.tuples(st.just("open"), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=14))
def test_whatever_is_done_the_log_says_the_same_as_a_list(
    backend: Backend, steps: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("model")
    store, model, revision = backend.open(place), Model(), 0
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"rows.CHUNK": 3, "segments.MOST_ROWS": 6, "segments.GROUP": 2}.items():
            patch.setattr(f"profiles.store.{name}", value)
        for step, given_ in steps:
            if step == "append":
                acks = store.append(frame(*given_))
                assert list(acks.statuses) == model.append(given_)
                model.marks.append(acks.watermark)
            elif step == "seal":
                store.seal(given_)
            elif step == "erase":
                gone = model.remove(lambda row, users=given_: row["user_id"] in users)
                assert store.erase(given_).events == gone
                assert store.revision() > revision or not gone
            elif step == "retain":
                gone = model.remove(lambda row, given=given_: Model.old(row, *given))
                assert store.retain(*given_).events == gone
                assert store.revision() > revision or not gone
            elif step == "tail":
                user, n, until, mark = given_
                mark %= len(model.marks)
                found = store.tail(user, n, until, model.marks[mark])
                assert_frame_equal(found, model.tail(user, n, until, mark), check_exact=True)
            elif step == "scan":
                low, high = sorted(mark % len(model.marks) for mark in given_)
                found = pl.concat([EVENTS.empty(), *store.scan(model.marks[low], model.marks[high])])
                assert_frame_equal(found, frame(*(row for mark, row in model.rows if low < mark <= high)))
            else:
                store.close()
                store = backend.open(place)
            assert store.revision() >= revision
            revision = store.revision()
            assert store.watermark() == model.marks[-1]
            assert_frame_equal(everything(store), frame(*(row for _, row in model.rows)), check_exact=True)
    store.close()


# Versions


def test_an_id_keeps_all_its_versions_and_they_are_replaced_together(store: EventStore) -> None:
    since = [START + timedelta(days=2), None, START]
    schema = {"item_id": pl.String, "title": pl.String, "valid_from": TIME}
    given = pl.DataFrame(
        {"item_id": ["b", "a", "b"], "title": ["new", "x", "old"], "valid_from": since}, schema
    )
    assert store.put("items", given) == 2
    kept = store.catalogue("items").select(list(schema))
    assert kept.rows() == [("a", "x", None), ("b", "old", START), ("b", "new", START + timedelta(days=2))]
    assert store.put("items", given) == 0
    assert store.put("items", given.filter(title="new")) == 1
    assert store.catalogue("items")["title"].to_list() == ["x", "new"]
    assert store.put("items", given.filter(title="x").drop("valid_from").with_columns(title=pl.lit("y"))) == 1
    assert store.catalogue("items")["title"].to_list() == ["y", "new"]
