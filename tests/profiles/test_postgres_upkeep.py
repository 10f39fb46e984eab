"""Sealing, taking out and copying a log in PostgreSQL: what readers see meanwhile, and what a kill leaves."""

import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from profiles import manifest
from profiles.schema import EVENTS, EXPOSURES, ContractError
from profiles.store import Removed, postgres_backup, postgres_rows, postgres_tables, postgres_upkeep, rows
from profiles.store import postgres as postgres_store
from profiles.store.postgres import PostgresStore
from profiles.store.segments import Segments

START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def event(event_id: str, user: str = "u", days: float = 0, **rest: Any) -> dict[str, Any]:
    moment = START + timedelta(days=days)
    return {"event_id": event_id, "user_id": user, "event_type": "view", "timestamp": moment} | rest


def frame(*events: dict[str, Any]) -> pl.DataFrame:
    known = {n: d for n, d in EVENTS.schema.items() if any(n in e for e in events)}
    return EVENTS.conform(pl.DataFrame(list(events), schema=known)) if events else EVENTS.empty()


def exposure(user: str, days: float = 0, item: str = "i") -> dict[str, Any]:
    names = {"recommendation_id": "r", "source": "ease", "release": "r", "blend": "b", "propensity": None}
    return {**names, "user_id": user, "item_id": item, "rank": 1, "timestamp": START + timedelta(days=days)}


def shown(*rows: dict[str, Any]) -> pl.DataFrame:
    return EXPOSURES.conform(pl.DataFrame(list(rows))) if rows else EXPOSURES.empty()


def everything(store: PostgresStore, *span: int) -> pl.DataFrame:
    return pl.concat([EVENTS.empty(), *store.scan(*span)])


def ids(store: PostgresStore) -> list[str]:
    return everything(store)["event_id"].to_list()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def opened(postgres_url: str, folder: Path) -> Iterator[Callable[[], PostgresStore]]:
    """`opened()` is one more store of the same log."""
    stores: list[PostgresStore] = []

    def another() -> PostgresStore:
        stores.append(PostgresStore(postgres_url, folder))
        return stores[-1]

    yield another
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], PostgresStore]) -> PostgresStore:
    return opened()


@pytest.fixture
def fresh(postgres_backend: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Any]]:
    """`fresh()` is the store of a new, empty log."""
    stores: list[Any] = []

    def new() -> Any:
        stores.append(postgres_backend.open(tmp_path_factory.mktemp("fresh")))
        return stores[-1]

    yield new
    for store in stores:
        store.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows a batch and four a segment, so that a few events are many of both."""
    monkeypatch.setattr("profiles.store.rows.CHUNK", 3)
    monkeypatch.setattr("profiles.store.segments.MOST_ROWS", 7)


@pytest.fixture
def raw(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of another program to the same database, in a transaction of its own."""
    with psycopg.connect(postgres_url) as connection:
        yield connection


# Sealing


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def unlocked(store: PostgresStore) -> bool:
    """Whether the server has noticed that whoever held a lock of the log has gone."""
    with store._reading() as connection:
        held = "select count(*) from pg_locks where locktype = 'advisory'"
        return not connection.scalar(sa.text(held))


def some_log(store: PostgresStore, events: int = 20) -> pl.DataFrame:
    sent = frame(*(event(f"e{n}", f"u{n % 3}", n * 4) for n in range(events)))
    store.append(sent)
    store.append_exposures(shown(*(exposure(f"u{n % 3}", n, f"i{n}") for n in range(8))))
    return sent


def rows_in_tail(raw: Any, table: str = "attune_events") -> int:
    found = int(raw.execute(f"select count(*) from {table}").fetchone()[0])
    raw.rollback()
    return found


def test_seal_moves_all_but_the_newest(store: PostgresStore, raw: Any, folder: Path) -> None:
    sent = some_log(store)
    before = store.exposures()
    assert store.seal(keep=25) == 0
    assert store.seal(keep=5) == 15
    assert rows_in_tail(raw) == 5
    assert rows_in_tail(raw, "attune_exposures") == 0
    assert store.seal(keep=5) == 0
    assert store.seal() == 5
    assert rows_in_tail(raw) == 0
    assert_frame_equal(everything(store), sent)
    assert_frame_equal(store.exposures(), before)
    assert store.watermark() == 20
    assert store.append(sent).count("duplicate") == 20
    assert store.append(frame(event("e3", "other"))).count("conflict") == 1
    parts = list(folder.rglob("month=*/part.parquet"))
    assert {p.parent.name for p in parts} >= {"month=2024-01", "month=2024-02", "month=2024-03"}


STRIDE = 3  # of the points at which work is stopped; each takes a log of its own


class Stop(BaseException):
    """The process ends here."""


def stop_at(store: PostgresStore, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store stop before its n-th statement, commit or file that is put in its place."""
    counter = count()

    def step(*_: Any) -> None:
        if next(counter) == number:
            raise Stop

    for name in ("before_cursor_execute", "commit"):
        sa.event.listen(store._server._engine, name, step)
    for name in ("write", "sweep"):
        original = getattr(Segments, name)
        monkeypatch.setattr(Segments, name, lambda *a, _f=original: (step(), _f(*a))[1])
    vacuumed = postgres_upkeep._vacuumed
    monkeypatch.setattr(postgres_upkeep, "_vacuumed", lambda *a: (step(), vacuumed(*a))[1])


def test_sealing_stopped_anywhere_leaves_each_event_once(
    fresh: Any, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in count(step=STRIDE):
        first = fresh()
        sent = some_log(first, 10)
        exposures = first.exposures()
        second = PostgresStore(_address(first), first.folder)
        second.watermark()
        with monkeypatch.context() as patch:
            stop_at(second, number, patch)
            try:
                second.seal(2)
                finished = True
            except Stop:
                finished = False
        second.close()
        assert_frame_equal(everything(first), sent)
        assert_frame_equal(first.exposures(), exposures)
        assert first.append(sent).count("duplicate") == 10
        first.seal()
        assert_frame_equal(everything(first), sent)
        assert_frame_equal(first.exposures(), exposures)
        kept = {path.name for path in first.folder.glob("*/segments/*")}
        with first._reading() as connection:
            assert kept == set(connection.scalars(sa.text("select name from attune_segments")))
        if finished:
            break
    assert number > 20, number


def _address(store: PostgresStore) -> str:
    return store._server._engine.url.render_as_string(hide_password=False)


def test_sealing_waits_for_who_takes_out_and_no_append_waits_for_it(store: Any, raw: Any) -> None:
    sent = some_log(store)
    raw.execute(postgres_tables._REMOVE_LOCK.text)
    with ThreadPoolExecutor(1) as pool:
        sealing = pool.submit(store.seal)
        with pytest.raises(TimeoutError):
            sealing.result(timeout=0.5)
        assert store.append(frame(event("more"))).count("accepted") == 1
        assert len(everything(store)) == len(sent) + 1
        raw.rollback()
        assert sealing.result(timeout=60) in (20, 21)
    assert len(everything(store)) == len(sent) + 1


@pytest.mark.parametrize("question", ["held_digests", "sealed"])
def test_what_is_sealed_while_it_is_asked_for_is_found(
    opened: Any, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append asks whether it knows its events in two questions; they may be moved between them."""
    store, other = opened(), opened()
    sent = some_log(store)
    asked = getattr(postgres_rows, question)

    def sealed_meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        assert other.seal() == 20
        return asked(*arguments)

    monkeypatch.setattr(postgres_rows, question, sealed_meanwhile)
    assert store.append(sent).count("duplicate") == 20
    assert_frame_equal(everything(store), sent)


def test_a_missing_segment_is_told(store: PostgresStore, opened: Any, folder: Path) -> None:
    some_log(store)
    store.seal()
    (place,) = folder.glob("*/segments/events-*")
    place.rename(folder / "lost")
    other = opened()
    for read in (
        lambda: ids(other),
        lambda: other.tail("u1", 1, LATER),
        lambda: other.append(frame(event("e1"))),
    ):
        with pytest.raises(ContractError, match=r"events-1-20-0.*: missing, though the log needs it"):
            read()
    (folder / "lost").rename(place)
    assert len(ids(other)) == 20


def test_two_logs_may_share_a_folder(fresh: Any) -> None:
    first, second = fresh(), fresh()
    second.folder = first.folder
    for store in (first, second):
        some_log(store)
        store.seal()
    assert len(ids(first)) == len(ids(second)) == 20


@pytest.mark.parametrize("stores", [1, 2])
def test_who_waits_for_the_turn_is_not_overtaken(opened: Any, stores: int) -> None:
    """One that seals again and again lets another in, of its own process or of another's connections."""
    first = opened()
    other = first if stores == 1 else opened()
    first.watermark()
    turns: list[float] = []
    done = threading.Event()

    def again_and_again() -> None:
        while not done.is_set():
            with postgres_upkeep.upkeep(first._server):
                turns.append(time.monotonic())
                time.sleep(0.02)

    with ThreadPoolExecutor(1) as pool:
        looping = pool.submit(again_and_again)
        try:
            for _ in range(5):
                until(lambda: bool(turns))
                turns.clear()
                with postgres_upkeep.upkeep(other._server):
                    assert len(turns) <= 3
        finally:
            done.set()
        looping.result(timeout=60)


# Taking out


def found_in(place: Path, needle: str, *but: str) -> list[str]:
    """Return the files that hold these bytes."""
    wanted = needle.encode()
    found = []
    for path in sorted(place.rglob("*")):
        with suppress(FileNotFoundError):  # the server removes its own meanwhile
            if path.is_file() and not set(but) & set(path.parts) and wanted in path.read_bytes():
                found.append(str(path))
    return found


def on_disk(server: Any, folder: Path, needle: str) -> list[str]:
    """Return the files of the database and of the log that hold a text, also in Parquet."""
    server.execute("checkpoint")
    found = found_in(server.folder, needle, "pg_wal", "password") + found_in(folder, needle)
    for path in folder.rglob("*.parquet"):
        if any(needle in str(column.to_list()) for column in pl.read_parquet(path)):
            found.append(str(path))
    return found


def secret_life(store: PostgresStore, user: str) -> None:
    """Write of a user in every place there is: tail, segment, toast, exposures, catalogue, dead rows."""
    for n in range(3):
        rest = {
            "item_id": user,
            "text": f"{user} {secrets.token_hex(9000)}",
            "properties": f'{{"a": "{user}"}}',
        }
        store.append(frame(event(f"{user}-{n}", user, 40 * n, **rest), event(f"other{user[:4]}{n}", "other")))
        store.append_exposures(shown(exposure(user, n), exposure("other", n)))
        if n < 2:
            store.seal(keep=1)
    store.put("users", pl.DataFrame({"user_id": [user, "other"], "name": [f"name {user}", "other"]}))
    with suppress(ZeroDivisionError), store._writing() as connection:  # rolled back, but written
        postgres_rows.put_events(connection, rows.batch(frame(event(f"{user}-x", user))), [10**6])
        raise ZeroDivisionError


def test_erase_leaves_no_byte(postgres_server: Any, store: PostgresStore, raw: Any, folder: Path) -> None:
    user, also = secrets.token_hex(16), secrets.token_hex(16)
    secret_life(store, user)
    secret_life(store, also)
    raw.autocommit = True
    raw.execute("analyze")
    assert len(on_disk(postgres_server, folder, user)) > 3
    before, revision = store.watermark(), store.revision()
    assert store.erase([user, also, "nobody"]) == Removed(events=6, exposures=6)
    for gone in (user, also):
        assert on_disk(postgres_server, folder, gone) == []
        assert_frame_equal(store.tail(gone, 9, LATER), EVENTS.empty())
    assert set(everything(store)["user_id"]) == {"other"}
    assert len(ids(store)) == 6
    assert len(store.exposures()) == 6
    assert store.catalogue("users")["user_id"].to_list() == ["other"]
    assert (store.watermark(), store.revision()) == (before, revision + 1)
    assert store.append(frame(event(f"{user}-0", user))).count("accepted") == 1  # a new life
    assert store.tail(user, 9, LATER)["event_id"].to_list() == [f"{user}-0"]
    assert store.erase([user]) == Removed(events=1)


def test_the_search_for_bytes_finds_them(
    postgres_server: Any, store: PostgresStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `vacuum full` the rows are gone and the bytes are not."""
    user = secrets.token_hex(16)
    secret_life(store, user)
    monkeypatch.setattr(postgres_upkeep, "_vacuumed", lambda *_: 0)
    store.erase([user])
    assert store.tail(user, 9, LATER).is_empty()
    assert on_disk(postgres_server, folder, user) != []


def test_an_old_transaction_keeps_bytes_and_erase_says_so(
    postgres_server: Any, store: PostgresStore, opened: Any, raw: Any, folder: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE", timedelta(seconds=0.3))
    user = secrets.token_hex(16)
    secret_life(store, user)
    raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    raw.execute("select 1").fetchone()
    with pytest.raises(ContractError, match="shown to no one, but an old transaction keeps its rows"):
        store.erase([user])
    assert user not in set(everything(store)["user_id"]) | set(store.exposures()["user_id"])
    assert on_disk(postgres_server, folder, user) != []
    other = opened()
    assert other.append(frame(event("a"))).count("accepted") == 1  # it tries, and goes on
    assert on_disk(postgres_server, folder, user) != []
    raw.rollback()
    assert opened().append(frame(event("b"))).count("accepted") == 1
    assert on_disk(postgres_server, folder, user) == []


def test_a_table_in_use_delays_readers_by_moments_only(
    postgres_server: Any, store: PostgresStore, raw: Any, folder: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(postgres_upkeep, "PAUSE", timedelta(milliseconds=100))
    user = secrets.token_hex(16)
    secret_life(store, user)
    raw.execute("select count(*) from attune_events").fetchone()  # and holds the table, in its transaction
    with ThreadPoolExecutor(1) as pool:
        erasing = pool.submit(store.erase, [user])
        slowest = 0.0
        for _ in range(15):
            begun = time.monotonic()
            assert not erasing.done()
            store.tail("other", 3, LATER)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.05)
        raw.rollback()
        assert erasing.result(timeout=60).events == 3
    assert slowest < 2
    assert on_disk(postgres_server, folder, user) == []


def test_who_may_not_vacuum_is_told(
    postgres_server: Any, postgres_url: str, store: Any, folder: Path
) -> None:
    some_log(store)
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"create role r{database} login password 'x'")
    postgres_server.execute(f"grant all on all tables in schema public to r{database}", database)
    guest = PostgresStore(postgres_server.url(database, f"r{database}", "x"), folder)
    with pytest.raises(ContractError, match="may not vacuum it; give the address of the user who made it"):
        guest.erase(["u1"])
    assert guest.tail("u1", 9, LATER).is_empty()
    guest.close()
    postgres_server.execute(f"drop owned by r{database}", database)
    postgres_server.execute(f"drop role r{database}", database)
    store.append(frame(event("next")))  # the owner finishes
    with store._reading() as connection:
        assert connection.scalar(sa.text("select unclean from attune_log")) is False


def test_erasing_stopped_anywhere_shows_nothing_and_is_finished(
    fresh: Any, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in count(step=STRIDE):
        first = fresh()
        sent = some_log(first, 10)
        exposures = first.exposures()
        first.seal(3)
        second = PostgresStore(_address(first), first.folder)
        second.watermark()
        with monkeypatch.context() as patch:
            stop_at(second, number, patch)
            try:
                second.erase(["u1"])
                finished = True
            except Stop:
                finished = False
        second.close()
        until(partial(unlocked, first))
        begun = first.revision() == 1
        rest = sent.filter(pl.col("user_id") != "u1") if begun else sent
        assert_frame_equal(everything(first), rest)
        assert len(first.exposures()) == len(exposures) - 3 * begun
        third = PostgresStore(_address(first), first.folder)
        third.append(frame(event("new", "u1")))
        assert_frame_equal(everything(third)[:-1], rest)
        with third._reading() as connection:
            assert connection.scalar(sa.text("select unclean from attune_log")) is False
            assert not connection.scalar(sa.text("select count(body) from attune_removals"))
        for path in first.folder.rglob("*.parquet"):
            assert "u1" not in pl.read_parquet(path)["user_id"] or not begun
        third.close()
        if finished:
            break
    assert number > 20, number


KILLED = """
import os, signal, sys
from pathlib import Path
from profiles.store.segments import Segments
from profiles.store import open_store
store = open_store(sys.argv[1], Path(sys.argv[2]))
write = Segments.write
def killed(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
Segments.write = killed
store.erase([sys.argv[3]])
"""


def test_a_killed_erasure_is_finished_by_the_next_append(
    postgres_server: Any, postgres_url: str, store: PostgresStore, folder: Path
) -> None:
    user = secrets.token_hex(16)
    secret_life(store, user)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, postgres_url, str(folder), user], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert user not in set(everything(store)["user_id"]) | set(store.exposures()["user_id"])
    assert on_disk(postgres_server, folder, user) != []
    store.append(frame(event("next")))
    assert on_disk(postgres_server, folder, user) == []
    assert len(ids(store)) == 4


def test_reads_and_appends_go_on_while_users_are_erased(fresh: Any, small: None) -> None:
    store = fresh()
    sent = frame(*(event(f"e{n}", f"u{n % 8}", n % 50) for n in range(160)))
    store.append(sent)
    store.seal(40)
    erased: list[str] = []
    done = threading.Event()

    def read() -> int:
        rounds = 0
        while not done.is_set() or not rounds:
            gone = list(erased)
            found = everything(store)
            assert not set(gone) & set(found["user_id"])
            assert_frame_equal(found.filter(user_id="u7"), sent.filter(user_id="u7"))
            assert found.filter(user_id="new")["event_id"].is_sorted()
            for user in gone:
                assert store.tail(user, 3, LATER).is_empty()
            assert len(store.tail("u6", 30, LATER)) == 20
            rounds += 1
        return rounds

    def write() -> int:
        for n in count():
            if done.is_set():
                return n
            store.append(frame(event(f"new{n:05}", "new")))
        raise AssertionError

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writer = pool.submit(write)
        try:
            for n in range(5):
                assert store.erase([f"u{n}"]).events == 20
                erased.append(f"u{n}")
        finally:
            done.set()
        assert all(reader.result(timeout=120) for reader in readers)
        written = writer.result(timeout=120)
    assert len(everything(store).filter(user_id="new")) == written > 0


def test_a_scan_under_way_goes_on_and_shows_no_more_of_them(fresh: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("profiles.store.rows.CHUNK", 3)
    store = fresh()
    store.append(frame(*(event(f"e{n}", f"u{n % 2}", n / 9) for n in range(30))))
    store.seal(keep=15)
    scan = store.scan()
    first = next(scan)
    assert first["event_id"].to_list() == ["e0", "e1", "e2"]
    store.erase(["u1"])
    rest = pl.concat(scan)
    assert rest["event_id"].to_list() == [f"e{n}" for n in range(4, 30, 2)]


def test_two_who_erase_each_learn_what_they_took(fresh: Any, small: None) -> None:
    store = fresh()
    store.append(frame(*(event(f"e{n}", f"u{n % 6}", n) for n in range(60))))
    store.append_exposures(shown(*(exposure(f"u{n % 6}") for n in range(12))))
    store.seal(20)
    others = [PostgresStore(_address(store), store.folder) for _ in range(3)]
    with ThreadPoolExecutor(5) as pool:
        erasing = [pool.submit(other.erase, [f"u{n}", f"u{n + 3}"]) for n, other in enumerate(others)]
        sealing = pool.submit(store.seal, 3)
        assert [e.result(timeout=120) for e in erasing] == [Removed(events=20, exposures=4)] * 3
        sealing.result(timeout=120)
    assert everything(store).is_empty()
    assert store.exposures().is_empty()
    assert store.revision() == 3
    for other in others:
        other.close()


# Backups


def test_a_backup_is_of_one_moment_and_stays_as_it_is(fresh: Any, small: None, tmp_path: Path) -> None:
    store = fresh()
    some_log(store, 30)
    store.seal(10)
    store.put("users", pl.DataFrame({"user_id": ["b\0", "a"], "x": [1, 2]}))
    store.put("items", pl.DataFrame({"item_id": ["i"], "title": ["t"]}))
    store.mark("timeless", "y\0s")
    done = threading.Event()

    def write() -> None:
        for n in count():
            if done.is_set():
                return
            store.append(frame(event(f"w{n}", "w"), event(f"w{n}b", "w")))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            (tmp_path / "copy").mkdir()  # empty, so it may be there
            store.backup(tmp_path / "copy")
        finally:
            done.set()
        writing.result(timeout=60)
    copy = fresh()
    copy.restore(tmp_path / "copy")
    held = everything(copy)
    assert_frame_equal(held, everything(store, 0, copy.watermark()))
    assert len(held) == copy.watermark() >= 30
    assert len(held) % 2 == 0
    assert_frame_equal(copy.exposures(), store.exposures())
    for kind in ("users", "items"):
        assert_frame_equal(copy.catalogue(kind), store.catalogue(kind))
    assert copy.marks() == store.marks() == {"timeless": "y\0s"}
    assert copy.append(held).count("duplicate") == len(held)
    assert copy.append(frame(event("next"))).watermark == len(held) + 1
    assert copy.put("users", copy.catalogue("users")) == 0


def test_a_backup_made_while_a_user_is_being_taken_out(fresh: Any, tmp_path: Path, monkeypatch: Any) -> None:
    store = fresh()
    some_log(store)
    store.seal(5)
    with monkeypatch.context() as patch:
        patch.setattr(postgres_store, "tidy", lambda *_: None)
        patch.setattr(postgres_backup, "tidy", lambda *_: None)
        store.erase(["u1"])
        store.backup(tmp_path / "copy")
    assert "u1" in str(
        [pl.read_parquet(path)["user_id"] for path in (tmp_path / "copy").rglob("part.parquet")]
    )
    copy = fresh()
    copy.restore(tmp_path / "copy")
    assert set(everything(copy)["user_id"]) == {"u0", "u2"}
    for path in copy.folder.rglob("*.parquet"):
        assert "u1" not in pl.read_parquet(path)["user_id"]


def test_what_restore_refuses(fresh: Any, tmp_path: Path) -> None:
    store = fresh()
    some_log(store)
    store.backup(tmp_path / "copy")
    marked = fresh()
    marked.mark("a", "b")
    with pytest.raises(ContractError, match="this store holds something; restore into a new one"):
        marked.restore(tmp_path / "copy")
    with manifest.building(tmp_path / "other", {"store": "sqlite", "version": 1}):
        pass
    with pytest.raises(ContractError, match="other: not a backup of a PostgreSQL store of version 1"):
        fresh().restore(tmp_path / "other")


def test_a_restore_stopped_anywhere_can_be_tried_again(fresh: Any, tmp_path: Path, monkeypatch: Any) -> None:
    store = fresh()
    some_log(store, 6)
    store.seal(2)
    store.backup(tmp_path / "copy")
    for number in count(step=STRIDE):
        copy = fresh()
        copy.watermark()
        with monkeypatch.context() as patch:
            stop_at(copy, number, patch)
            try:
                copy.restore(tmp_path / "copy")
                break
            except Stop:
                pass
        again = PostgresStore(_address(copy), copy.folder)
        if again.watermark() == 0:
            again.restore(tmp_path / "copy")
        assert_frame_equal(everything(again), everything(store))
        again.close()
    assert number > 8
