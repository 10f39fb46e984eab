"""The log by user: every event of everyone once, oldest first, however it was cut, dealt out and spilt."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from profiles.features import coding, history, history_build
from profiles.features.coding import session_keys
from profiles.features.history import History
from profiles.features.history_build import build
from profiles.features.numbering import hashed
from profiles.features.ordering import by_user_and_time
from profiles.features.past import FOLLOWED, WROTE, Events
from profiles.features.spill import Spill
from profiles.schema import EPOCH, EVENTS, ContractError, microseconds

Row = dict[str, Any]
Told = tuple[Any, ...]  # item, type, time, value, marks, session of one event

USERS = ["a", "", "b", "nul\0", "nul\0🎬", "🎬", "ünï", "z" * 300, *(f"u{n}" for n in range(30))]
ITEMS = ["i", "j", "", "i\0", "🎬 item", *(f"i{n}" for n in range(10))]
NOBODY = ["A", "c", "nul", "zz", "u", "u30", "\U0010ffff"]

AN_EVENT = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(USERS),
        "item_id": st.sampled_from([None, *ITEMS]),
        "event_type": st.sampled_from(["view", "buy", "Ärger", ""]),
        "time": st.one_of(st.integers(0, 4), st.sampled_from([-(10**15), 1_700_000_000_000_000, 4 * 10**15])),
        "value": st.sampled_from([None, None, -0.5, 0.0, 3.25, 1e300, float("nan")]),
        "text": st.sampled_from([None, None, "", " \n", "tea"]),
        "session_id": st.sampled_from([None, None, "", "s", "t"]),
        "recommendation_id": st.sampled_from([None, "r"]),
    }
)
FINE = {"batch": 1, "partition": 1, "buffer": 0}  # as small as all can be
A_CUT = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 40),
        "partition": st.sampled_from([2, 7, 20, 60]),  # events
        "buffer": st.sampled_from([0, 300, 2000, 10**9]),  # bytes
    }
)


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Return EVENTS, numbered."""
    ready = [
        {"event_id": str(n), "properties": None}
        | {name: value for name, value in row.items() if name != "time"}
        | {"timestamp": EPOCH + timedelta(microseconds=row["time"])}
        for n, row in enumerate(rows)
    ]
    return EVENTS.conform(pl.DataFrame(ready, schema=EVENTS.schema))


def row(user: str, time: int = 0, item: str | None = "i", kind: str = "view", **rest: Any) -> Row:
    known = {"user_id": user, "item_id": item, "event_type": kind, "time": time}
    return known | dict.fromkeys(("value", "text", "session_id", "recommendation_id")) | rest


def made(
    folder: Path,
    rows: Sequence[Row],
    *,
    batch: int = 7,
    partition: int = 10**6,
    buffer: int = 10**9,
    before: History | None = None,
    catalogue: Sequence[str] = (),
    link: Callable[[str], None] | None = None,
    **about: Any,
) -> History:
    """Build the history of rows (those after `before`), cut as told."""
    events = frame(rows)

    def scan(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for first in range(0, len(events), batch):
            yield events[first : first + batch].select(columns)

    expected = len(rows) + (int(before.facts["events"]) if before else 0)
    items = pl.Series(list(catalogue), dtype=pl.String)
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_build, "PARTITION", partition)
        patch.setattr(history_build, "BUFFER", buffer)
        return build(folder, scan, expected, items, about, before, link)


def expected_of(rows: Sequence[Row]) -> dict[str, list[Told]]:
    """Return what each user did, oldest first, of equal times as it was committed: the oracle."""
    found: dict[str, list[Told]] = {}
    for one in sorted(rows, key=lambda r: r["time"]):
        marks = WROTE * bool((one["text"] or "").strip()) + FOLLOWED * (one["recommendation_id"] is not None)
        value = one["value"]
        session = 0 if one["session_id"] is None else int(session_keys(pl.Series([one["session_id"]]))[0])
        value = None if value != value else value
        told = (one["item_id"], one["event_type"], one["time"], value, marks, session)
        found.setdefault(one["user_id"], []).append(told)
    return found


def told(of: History, events: Events) -> list[Told]:
    """Return coded events in words."""
    items, types = [*of.item_ids, None], of.event_types
    values = [None if v != v else v for v in events.value.tolist()]
    return [
        (items[item], types[kind], time, value, marks, session)
        for item, kind, time, value, marks, session in zip(
            events.item.tolist(), events.kind.tolist(), events.time.tolist(), values,
            events.marks.tolist(), events.session.tolist(), strict=True,
        )
    ]  # fmt: skip


def all_told(of: History) -> dict[str, list[Told]]:
    """Return everybody's events, read partition by partition."""
    found: dict[str, list[Told]] = {}
    for number in range(of.partitions):
        users, events = of.users(number), of.events(number)
        assert events.starts.tolist() == users["start"].to_list()
        ends = [*events.starts[1:].tolist(), len(events.time)]
        for place, (user, key) in enumerate(users.select("user_id", "key").iter_rows()):
            assert user not in found
            assert key == hashed(pl.Series([user]))[0]
            one = events.users(place, place + 1)
            assert len(one.time) == ends[place] - int(events.starts[place]) > 0
            found[user] = told(of, one)
        assert users["key"].is_sorted()
    return found


def refuse_anything_else(
    of: History, rows: Sequence[Row], catalogue: Sequence[str] = (), before: History | None = None
) -> None:
    """Compare a history with the oracle, whole and one user at a time; codes go on from those of before."""
    expected = expected_of(rows)
    assert all_told(of) == expected
    fresh = History(of.folder)
    for user, events in expected.items():
        found = fresh.of_user(user)
        assert found is not None
        assert found.starts.tolist() == [0]
        assert told(fresh, found) == events
    for user in [*NOBODY, *USERS]:
        assert (fresh.of_user(user) is not None) == (user in expected)
    items = before.item_ids.to_list() if before else []
    assert of.item_ids.to_list() == items + sorted(
        {r["item_id"] for r in rows} - {None, *items} | {*catalogue}
    )
    types = before.event_types if before else ()
    assert of.event_types == (*types, *sorted({r["event_type"] for r in rows}.difference(types)))
    facts = {name: of.facts[name] for name in ("events", "users", "items")}
    assert facts == {"events": len(rows), "users": len(expected), "items": len(of.item_ids)}
    numbers = range(of.partitions)
    files = {f"{what}-{n:04}.arrow" for what in ("users", "said", "events") for n in numbers}
    assert {p.name for p in of.folder.iterdir()} == files | {"items.arrow", "facts.json"}


@settings(max_examples=80)
@given(st.lists(AN_EVENT, max_size=60), A_CUT, st.lists(st.sampled_from(["i", "new", "Ä"]), max_size=3))
@example([], FINE, [])
@example([], FINE, ["i"])
@example([row("a", value=1.0), row("b"), row("b", session_id="s")], FINE, [])
def test_everybodys_events_stand_in_order(rows: list[Row], cut: dict[str, int], catalogue: list[str]) -> None:
    with TemporaryDirectory() as folder:
        found = made(Path(folder) / "h", rows, catalogue=catalogue, **cut)
        assert found.partitions >= len(rows) / cut["partition"]
        refuse_anything_else(found, rows, catalogue)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.lists(AN_EVENT, max_size=30), A_CUT), min_size=2, max_size=4))
@example([([row("a", 5)], FINE), ([], FINE)])
def test_a_history_grows_by_what_is_new(steps: list[tuple[list[Row], dict[str, int]]]) -> None:
    """Late events, equal times, new users, items and types; other cuts and more partitions each time."""
    with TemporaryDirectory() as folder:
        before, rows, partitions = None, [], 0
        for number, (more, cut) in enumerate(steps):
            rows += more
            found = made(Path(folder) / str(number), more, before=before, **cut)
            assert found.partitions >= partitions
            partitions = found.partitions
            refuse_anything_else(found, rows, before=before)
            before = found


def test_a_partition_without_new_events_is_the_same_file(tmp_path: Path) -> None:
    """Whatever items and types come elsewhere; a late event counts as new."""
    rows = [row(f"u{n % 40}", n, f"i{n % 7}") for n in range(390)]
    before = made(tmp_path / "0", rows, partition=50)
    more = [row("u7", 3, "a new item", "a new type", value=2.0), row("u7", 900, "a new item")]

    def link(name: str) -> None:
        (tmp_path / "1" / name).hardlink_to(before.folder / name)

    found = made(tmp_path / "1", more, partition=50, before=before, link=link)
    refuse_anything_else(found, rows + more, before=before)
    assert found.partitions == before.partitions == 8
    changed = [p.name for p in found.folder.iterdir() if not p.samefile(before.folder / p.name)]
    number = next(n for n in range(8) if "u7" in before.users(n)["user_id"])
    assert {*changed} == {
        "facts.json", "items.arrow", *(f"{what}-{number:04}.arrow" for what in ("events", "said", "users"))
    }  # fmt: skip


def test_partitions_follow_the_log_as_it_grows(tmp_path: Path) -> None:
    rows = [row(f"u{n % 90}", n) for n in range(1000)]
    before, sizes = None, []
    for number, end in enumerate((100, 101, 350, 1000)):
        first = 0 if before is None else int(before.facts["events"])
        before = made(tmp_path / str(number), rows[first:end], partition=100, before=before)
        sizes.append(before.partitions)
        refuse_anything_else(before, rows[:end])
    assert sizes == [1, 2, 4, 16]
    assert made(tmp_path / "same", [], partition=10**6, before=before).partitions == 16


def test_the_whole_range_of_hashes_is_used(tmp_path: Path) -> None:
    found = made(tmp_path / "h", [row(str(n)) for n in range(4000)], batch=999, partition=500)
    sizes = [len(found.users(number)) for number in range(found.partitions)]
    assert len(sizes) == 8
    assert min(sizes) > 350
    assert max(sizes) < 650


# Threads and memory


def test_its_bytes_do_not_depend_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rows = [
        row(f"u{u}", int(t), f"i{i}", f"kind {k}", value=float(v))
        for u, t, i, k, v in zip(
            rng.zipf(1.3, 6000) % 700, rng.integers(0, 500, 6000), rng.zipf(1.2, 6000) % 900,
            rng.integers(0, 40, 6000), rng.random(6000), strict=True,
        )
    ]  # fmt: skip
    contents = []
    for number, threads in enumerate((1, 2, 2, 7)):
        monkeypatch.setenv("ATTUNE_THREADS", str(threads))
        half = made(tmp_path / f"{number} half", rows[:3500], batch=50, partition=700, buffer=20_000)
        whole = made(tmp_path / f"{number} whole", rows[3500:], batch=50, partition=700, before=half)
        contents.append([(p.name, p.read_bytes()) for h in (half, whole) for p in sorted(h.folder.iterdir())])
    assert contents[1:] == contents[:-1]


def test_an_error_midway_leaves_no_spilt_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_build, "BUFFER", 0)
    events, seen = frame([row("a", value=1.0), row("b")]), []

    def scan(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for _ in range(10):
            yield events.select(columns)
        seen.extend(p.name for p in tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, scan, 20, pl.Series(dtype=pl.String), {})
    assert sorted(seen) == ["spill-events-0000", "spill-said-0000"]
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_thread_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(history_build, "by_user_and_time", refuse)
    with pytest.raises(OSError, match="no space left"):
        made(tmp_path / "h", [row("a")], buffer=0)
    assert not list((tmp_path / "h").glob("spill-*"))


@settings(max_examples=80)
@given(st.lists(st.lists(st.integers(0, 2), max_size=9), max_size=9), st.sampled_from([0, 60, 10**9]))
def test_what_is_spilt_comes_back_in_order(batches: list[list[int]], limit: int) -> None:
    record = np.dtype([("number", np.int64), ("mark", np.uint8)])
    expected: list[list[tuple[int, int]]] = [[], [], []]
    number = 0
    with TemporaryDirectory() as folder, Spill(Path(folder), "one", 3, limit, record) as spill:
        for parts in batches:
            part = np.array(sorted(parts), np.int64)
            numbers = np.arange(number, number + len(part))
            number += len(part)
            for p, n in zip(part.tolist(), numbers.tolist(), strict=True):
                expected[p].append((n, n % 200))
            records = np.empty(len(part), record)
            records["number"], records["mark"] = numbers, numbers % 200
            spill.add(records, np.append(0, np.cumsum(np.bincount(part, minlength=3))))
        for p in range(3):
            found = spill.take(p)
            assert found.dtype == record
            assert found.tolist() == expected[p]
            assert not len(spill.take(p))
        assert list(Path(folder).iterdir()) == []


def test_what_events_do_not_say_takes_no_room(tmp_path: Path) -> None:
    for buffer in (0, 10**9):
        plain = made(tmp_path / f"{buffer} plain", [row("a"), row("b")], buffer=buffer, partition=1)
        assert all(pl.read_ipc(path).is_empty() for path in plain.folder.glob("said-*.arrow"))
    rich = made(tmp_path / "rich", [row("a", value=1.0, session_id="s")], before=plain)
    refuse_anything_else(rich, [row("a"), row("b"), row("a", value=1.0, session_id="s")])


# What it says of itself


def test_its_facts(tmp_path: Path) -> None:
    found = made(tmp_path / "h", [row("a"), row("b", kind="buy")], log="l", watermark=2)
    assert json.loads((tmp_path / "h" / "facts.json").read_bytes()) == {
        "log": "l", "watermark": 2, "format": history.FORMAT, "partitions": 1, "polars": pl.__version__,
        "event_types": ["buy", "view"], "events": 2, "users": 2, "items": 1,
    }  # fmt: skip
    assert found.readable
    for name, value in (("polars", "1.0"), ("format", 0)):
        (tmp_path / "h" / "facts.json").write_text(json.dumps(found.facts | {name: value}))
        assert not History(tmp_path / "h").readable
    (tmp_path / "h" / "facts.json").write_text("{}")
    assert not History(tmp_path / "h").readable


def test_progress_is_told_every_event(tmp_path: Path) -> None:
    events, seen = frame([row("a")] * 25), []
    items = pl.Series(dtype=pl.String)
    build(tmp_path, lambda columns: [events.select(columns)] * 3, 75, items, {}, progress=seen.append)
    assert seen == [25, 25, 25]


def test_too_many_event_types_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "TYPES", 5)
    rows = [row("a", kind=f"type {n}") for n in range(6)]
    five = made(tmp_path / "5", rows[:5])
    refuse_anything_else(five, rows[:5])
    for number, more in enumerate(({"rows": rows}, {"rows": rows[5:], "before": five})):
        with pytest.raises(ContractError, match=r"more than 5 event types, such as .*; map event_type to"):
            made(tmp_path / f"too many {number}", **more)


def test_as_many_event_types_as_a_number_holds(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"the log has more than 1,000 event types"):
        made(tmp_path / "h", [row("a", kind=str(n)) for n in range(70_000)], batch=70_000)


# The order of arrays


def refuse_another_order(user: np.ndarray, time: np.ndarray) -> None:
    """Compare where `by_user_and_time` puts events with what sorting says."""
    users = int(user.max(initial=-1)) + 1
    to, starts = by_user_and_time(user, time, users)
    order = np.lexsort((np.arange(len(user)), time, user))
    assert (to[order] == np.arange(len(user))).all()
    assert starts.tolist() == [int(np.argmax(user[order] == one)) for one in range(users)]


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(-2, 2)), max_size=70))
@example([(1, 0), (0, 0), (2, 0), (1, -1), (0, 0)])
@example([(0, 5)] * 5)
def test_the_order_of_users_and_times(rows: list[tuple[int, int]]) -> None:
    there = sorted({user for user, _ in rows})  # numbered without gaps
    user = np.array([there.index(user) for user, _ in rows], np.int64)
    refuse_another_order(user, np.array([time for _, time in rows], np.int64))


def test_the_order_of_many() -> None:
    rng = np.random.default_rng(0)
    user = np.unique(rng.integers(0, 300, 20_000), return_inverse=True)[1].astype(np.int32)
    for time in (np.arange(20_000), rng.integers(0, 50, 20_000), -np.arange(20_000)):
        refuse_another_order(user, time)


def test_sessions_are_told_apart() -> None:
    keys: Callable[..., list[int]] = lambda *ids: session_keys(pl.Series(ids, dtype=pl.String)).tolist()  # noqa: E731
    assert keys(None, None) == [0, 0]
    found = keys("", None, "a", "a\0", "a")
    assert found[1] == 0
    assert found[2] == found[4]
    assert len({*found}) == 4
    assert found[2] == keys("a")[0]


def test_the_past_of_one_user_in_words(tmp_path: Path) -> None:
    rows = [row("a", 9, None, "query"), row("b", 1), row("a", 3, "i\0", value=0.5), row("a", 3, "j")]
    found = made(tmp_path / "h", rows)
    past = found.past("a")
    assert past.schema == {name: EVENTS.schema[name] for name in history.PAST}
    assert past.rows() == [
        (item, kind, EPOCH + timedelta(microseconds=time), value)
        for item, kind, time, value in (
            ("i\0", "view", 3, 0.5),
            ("j", "view", 3, None),
            (None, "query", 9, None),
        )
    ]
    nobody = found.past("nobody")
    assert (nobody.schema, len(nobody)) == (past.schema, 0)
    itemless = made(tmp_path / "itemless", rows[:1]).past("a")
    assert itemless.rows() == past.rows()[2:]
    assert itemless.schema == past.schema


def test_one_users_read_touches_no_other(tmp_path: Path) -> None:
    """However many events, a partition's arrays are views of its file."""
    events = pl.concat([frame([row(f"u{n % 3}", n, value=1.0) for n in range(1000)])] * 400)
    found = build(
        tmp_path, lambda columns: [events.select(columns)], len(events), pl.Series(dtype=pl.String), {}
    )
    one = found.of_user("u1")
    assert one is not None
    for name in ("item", "kind", "time", "marks"):
        assert not getattr(one, name).flags.owndata
    with pa.memory_map(str(found.folder / "events-0000.arrow")) as file:
        assert pa.ipc.open_file(file).num_record_batches == 1


def test_times_come_through_exactly(tmp_path: Path) -> None:
    times = [-62_000_000_000_000_001, -1, 0, 1, 253_000_000_000_000_001]
    found = made(tmp_path / "h", [row("a", t) for t in times[::-1]])
    events = found.of_user("a")
    assert events is not None
    assert events.time.tolist() == times
    assert microseconds(frame([row("a", times[0])])["timestamp"][0]) == times[0]
