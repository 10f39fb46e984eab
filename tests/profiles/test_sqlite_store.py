"""What the SQLite store keeps beyond the contract: its file, its locks, its log, and who may do what when."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles import manifest
from profiles.schema import EVENTS, EXPOSURES, ContractError
from profiles.store import Acks, EventStore, Removed, rows, sqlite_tables
from profiles.store.segments import Segment, Segments
from profiles.store.sqlite import SQLiteStore
from profiles.store.sqlite_upkeep import Upkeep

START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "events.db")
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
    with sqlite._file.writing() as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("pragma mmap_size").fetchone() == (0,)
        assert connection.in_transaction
    with sqlite._file.reading() as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_writer_waits_for_the_lock_file(sqlite: SQLiteStore) -> None:
    with sqlite._file.lock_path.open() as held, ThreadPoolExecutor(1) as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = pool.submit(sqlite.append, frame(event("a")))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        assert sqlite.watermark() == 0  # readers do not wait
        fcntl.flock(held, fcntl.LOCK_UN)
        assert waiting.result(timeout=30).watermark == 1


def content(path: Path) -> bytes:
    """Read a file in another process: closing it here would drop SQLite's locks."""
    return subprocess.run(["cat", path], capture_output=True, check=True).stdout


def test_readers_cannot_write_or_checkpoint(sqlite: SQLiteStore) -> None:
    reader = sqlite._file.open()
    assert reader.execute("select count(*) from events").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("insert into marks values ('a', 'b')")
    sqlite.append(frame(event("a")))
    before = content(sqlite.path)  # the event is in the log beside it
    sqlite._file._local.connection.close()
    reader.close()
    assert content(sqlite.path) == before
    assert ids(SQLiteStore(sqlite.path)) == ["a"]


def test_an_error_within_a_transaction_leaves_nothing(sqlite: SQLiteStore) -> None:
    sqlite.append(frame(event("a")))

    def spoil() -> None:
        with sqlite._file.writing() as connection:
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
    with sqlite._file.writing() as connection:
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


# Group commit


def test_threads_share_transactions_and_a_bad_batch_fails_alone(sqlite: SQLiteStore) -> None:
    groups: list[int] = []
    insert = sqlite._intake._insert

    def counted(events: rows.Batch) -> tuple[list[Any], int]:
        groups.append(len(events))
        return insert(events)

    sqlite._intake._insert = counted
    barrier = threading.Barrier(16)
    good = [[frame(event(f"{w}-{n}", value=n)) for n in range(20)] for w in range(16)]
    bad = pl.DataFrame([event("x")]).with_columns(user_id=pl.lit(None, pl.String))
    odd = pl.DataFrame([event("y", other=1)])

    def send(worker: int) -> list[Acks | Exception]:
        barrier.wait()
        said: list[Acks | Exception] = []
        for n, part in enumerate(good[worker]):
            said.append(sqlite.append(part))
            if worker % 4 == 0:
                with pytest.raises(ContractError, match="column 'user_id' holds 1 nulls"):
                    sqlite.append(bad)
            if worker % 4 == 1 and n % 2:
                with pytest.raises(ContractError, match="column 'other' is not one of"):
                    sqlite.append(odd)
        return said

    with ThreadPoolExecutor(16) as pool:
        said = [acks for found in pool.map(send, range(16)) for acks in found]
    assert all(isinstance(acks, Acks) and acks.statuses == ["accepted"] for acks in said)
    assert len(ids(sqlite)) == 320
    assert sum(groups) == 320
    assert len([group for group in groups if group]) < 300  # some shared one
    assert len({acks.watermark for acks in said if isinstance(acks, Acks)}) < 300


def test_an_event_that_the_file_does_not_take_fails_alone(
    sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.append(frame(event("first")))
    connect = sqlite._file._connect

    def narrow() -> sqlite3.Connection:
        connection = connect()
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
        return connection

    monkeypatch.setattr(sqlite._file, "_connect", narrow)
    sqlite._file._drop_writer()
    hold = threading.Event()
    commit = sqlite._intake._group._commit

    def slow(batches: Any) -> Any:
        hold.wait()
        return commit(batches)

    sqlite._intake._group._commit = slow
    with ThreadPoolExecutor(6) as pool:
        sent = [
            pool.submit(sqlite.append, frame(event(f"e{n}", text="x" * (2000 * (n == 3))))) for n in range(6)
        ]
        while len(sqlite._intake._group._waiting) < 5:
            hold.wait(0.01)
        hold.set()
        assert isinstance(sent[3].exception(), sqlite3.DataError)
        assert [s.result().statuses for n, s in enumerate(sent) if n != 3] == [["accepted"]] * 5
    assert sorted(ids(sqlite)) == ["e0", "e1", "e2", "e4", "e5", "first"]


def test_after_an_error_of_the_disk_the_store_goes_on(
    sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.append(frame(event("a")))

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("profiles.store.sqlite_tables.insert", full)
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            sqlite.append(frame(event("b")))
        assert ids(sqlite) == ["a"]
    assert sqlite.append(frame(event("b"))).statuses == ["accepted"]
    assert sqlite.unwritable() is None
    with monkeypatch.context() as patch:
        patch.setattr("profiles.store.sqlite_tables.set_state", full)
        assert sqlite.unwritable() == "database or disk is full"


# The life of a store


def test_closing_folds_the_log_in_and_ends_the_store(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.db")
    store.append(frame(event("a")))
    with ThreadPoolExecutor(1) as other:
        assert other.submit(store.watermark).result() == 1
        store.close()
        store.close()
        left = sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size)
        assert left == ["events.db"]
        for use in (store.watermark, lambda: store.append(frame(event("b"))), lambda: list(store.scan())):
            with pytest.raises(sqlite3.ProgrammingError, match="the store has been closed"):
                other.submit(use).result()
    assert ids(SQLiteStore(tmp_path / "events.db")) == ["a"]


def test_closing_waits_for_readers(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.db")
    store.append(frame(*(event(f"e{n}") for n in range(200))))
    begun = threading.Barrier(5)

    def read() -> None:
        begun.wait()
        with suppress(sqlite3.ProgrammingError):
            while True:
                assert len(ids(store)) == 200

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        begun.wait()
        store.close()
        for reader in readers:
            reader.result()


def test_a_child_process_has_connections_of_its_own(sqlite: SQLiteStore, tmp_path: Path) -> None:
    sqlite.append(frame(event("first")))
    second = SQLiteStore(sqlite.path)
    second.append(frame(event("first")))
    removed = SQLiteStore(tmp_path / "removed" / "events.db")
    removed.append(frame(event("first")))
    shutil.rmtree(tmp_path / "removed")
    done = threading.Event()

    def write() -> None:
        for n in range(100_000):
            with sqlite._file.writing() as connection:
                connection.execute("insert or replace into marks values ('parent', ?)", (str(n),))
                done.wait(0.001)  # most forks happen within a transaction
            if done.is_set():
                return

    def read() -> None:
        while not done.is_set():
            with sqlite._file.reading() as connection:
                assert connection.execute("select count(*) from events").fetchone() == (1,)
                done.wait(0.001)

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work) for work in (write, read, read)]
        children = []
        for n in range(8):
            child = os.fork()
            if not child:
                try:  # no frames: Polars does not survive a fork
                    sqlite.mark(f"child{n}", "was here")
                    os._exit(
                        0 if sqlite.marks()[f"child{n}"] == "was here" and sqlite.watermark() == 1 else 1
                    )
                finally:
                    os._exit(2)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
        done.set()
        for work in working:
            work.result()
    assert {f"child{n}" for n in range(8)} < set(sqlite.marks())
    assert sqlite.append(frame(event("last"), event("first"))).statuses == ["accepted", "duplicate"]
    with sqlite._file.reading() as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_store_of_the_first_version_goes_on(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
    for statement in (
        "create table events (seq integer primary key autoincrement, digest text not null, event_id text "
        "not null unique, user_id text not null, item_id text, event_type text not null, timestamp integer "
        "not null, value real, text text, session_id text, recommendation_id text, properties text)",
        f"create table exposures (seq integer primary key, {', '.join(EXPOSURES.columns)})",
        "create table catalogue (kind text, id text, body text not null, primary key (kind, id))",
        "create table marks (name text primary key, value text not null)",
        "insert into exposures values (1, 'r', 'u', 'i', 1, null, 's', 'r', 'b', 5)",
        "insert into exposures values (7, 'q', 'u', 'i', 1, null, 's', 'r', 'b', 6)",
        "insert into marks values ('timeless', 'no')",
    ):
        connection.execute(statement)
    connection.close()
    store = SQLiteStore(tmp_path / "events.db")
    assert store.exposures()["recommendation_id"].to_list() == ["r", "q"]
    store.seal()
    store.append_exposures(store.exposures()[:1])
    assert store.exposures()["recommendation_id"].to_list() == ["r", "q", "r"]
    assert store.marks() == {"timeless": "no"}
    with store._file.writing() as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(ContractError, match="the store is of version 99; this program knows those up to 1"):
        SQLiteStore(tmp_path / "events.db")


# What a kill leaves


def test_rows_that_are_sealed_and_not_yet_deleted_do_not_count(
    sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = frame(*(event(f"e{n}", f"u{n % 3}", n) for n in range(30)))
    sqlite.append(sent)
    with monkeypatch.context() as patch:
        patch.setattr(Upkeep, "_drop_sealed", lambda *_: None)
        assert sqlite.seal(keep=9) == 21
        assert_frame_equal(everything(sqlite), sent)
        assert sqlite.tail("u1", 99, LATER)["event_id"].to_list() == [f"e{n}" for n in range(1, 30, 3)]
        assert sqlite.append(sent).count("duplicate") == 30
        assert sqlite.erase(["u2"]) == Removed(events=10)
        assert len(everything(sqlite)) == 20
    with sqlite._file.reading() as connection:
        assert connection.execute("select count(*) from events").fetchone() == (20,)
    other = SQLiteStore(sqlite.path)
    with other._file.reading() as connection:
        assert connection.execute("select count(*) from events").fetchone() == (6,)
    assert_frame_equal(everything(other), sent.filter(pl.col("user_id") != "u2"))


def test_sealed_rows_are_deleted_in_steps_where_much_is_left(
    sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_tables, "STEP", 4)
    sent = frame(*(event(f"e{n}", f"u{n % 3}", n) for n in range(30)))
    sqlite.append(sent)
    for keep in (19, 9, 5, 3):  # the last of them leaves so little that it is put aside
        sqlite.seal(keep)
        with sqlite._file.reading() as connection:
            left = connection.execute("select event_id from events order by seq").fetchall()
        assert left == [(f"e{n}",) for n in range(30 - keep, 30)]
        assert_frame_equal(everything(sqlite), sent)
    assert sqlite.append(frame(event("next"))).watermark == 31


def test_room_is_given_back_after_sealing(sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiles.store.sqlite_file.ROOM", 1 << 20)
    for n in range(10):
        sqlite.append(frame(*(event(f"{n}-{m}", text="x" * 2000) for m in range(300))))
    before = sqlite.path.stat().st_size
    sqlite.seal(keep=10)
    sqlite.close()
    assert sqlite.path.stat().st_size < before / 20
    assert len(everything(SQLiteStore(sqlite.path))) == 3000


def test_what_is_erased_while_it_is_being_sealed_is_in_no_segment(
    sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = frame(*(event(f"e{n}", f"u{n % 3}", n) for n in range(30)))
    sqlite.append(sent)
    write = Segments.write
    written: list[Segment] = []
    erasing: list[Future[Removed]] = []

    def slow(*arguments: Any) -> Segment:
        if not erasing:  # the rows have been read, the segment does not count yet
            erasing.append(pool.submit(sqlite.erase, ["u1"]))
            while not sqlite.revision():
                threading.Event().wait(0.001)
        written.append(write(*arguments))
        return written[-1]

    monkeypatch.setattr(Segments, "write", slow)
    with ThreadPoolExecutor(1) as pool:
        assert sqlite.seal(keep=3) == 18
        assert erasing[0].result() == Removed(events=10)
    assert [segment.rows for segment in written] == [27, 18]
    assert_frame_equal(everything(sqlite), sent.filter(pl.col("user_id") != "u1"))
    assert len([*(sqlite.folder / "segments").iterdir()]) == 1


def test_folders_that_do_not_count_are_swept_away(sqlite: SQLiteStore) -> None:
    sqlite.append(frame(event("a"), event("b")))
    sqlite.seal(keep=1)
    held = set((sqlite.folder / "segments").iterdir())
    assert len(held) == 1
    (sqlite.folder / "segments" / "events-2-2-0").mkdir()
    (sqlite.folder / "segments" / ".events-2-2-0-abc").mkdir()
    with sqlite._file.upkeep():  # somebody is at work: they may be theirs
        assert len([*(sqlite.folder / "segments").iterdir()]) == 3
        SQLiteStore(sqlite.path).close()
        assert len([*(sqlite.folder / "segments").iterdir()]) == 3
    assert ids(SQLiteStore(sqlite.path)) == ["a", "b"]
    assert set((sqlite.folder / "segments").iterdir()) == held


@pytest.mark.parametrize("other", ["open", "append", "seal", "backup", "erase"])
def test_whoever_writes_next_finishes_an_erasure(
    sqlite: SQLiteStore, other: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sqlite.append(frame(*(event(f"e{n}", secret(n % 3), n) for n in range(30))))
    sqlite.seal(keep=9)

    def broken(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as patch:
        patch.setattr("profiles.store.segments.Segments.without", broken)
        with pytest.raises(OSError, match="disk"):
            sqlite.erase([secret(1)])
    nexts: dict[str, Callable[[], object]] = {
        "open": lambda: SQLiteStore(sqlite.path).close(),
        "append": lambda: sqlite.append(frame(event("new"))),
        "seal": sqlite.seal,
        "backup": lambda: sqlite.backup(tmp_path / "kept"),
        "erase": lambda: sqlite.erase(["nobody"]),
    }
    sqlite._upkeep.unfinished = other == "append"  # as the transaction before would have told
    nexts[other]()
    everywhere = b"".join(content(p) for p in tmp_path.rglob("*") if p.is_file())
    assert secret(1).encode() not in everywhere
    assert secret(2).encode() in everywhere


@pytest.mark.parametrize("step", ["without", "sweep"])
def test_an_erasure_that_was_cut_off_is_finished_by_the_next_writer(
    sqlite: SQLiteStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = frame(*(event(f"e{n}", f"u{n % 3}", n) for n in range(30)))
    sqlite.append(sent)
    sqlite.seal(keep=9)

    def broken(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(f"profiles.store.segments.Segments.{step}", broken)
        with pytest.raises(OSError, match="disk"):
            sqlite.erase(["u1"])
        for store in (sqlite, SQLiteStore(sqlite.path)):  # it opens, and hides what is to go
            assert_frame_equal(everything(store)[:20], sent.filter(pl.col("user_id") != "u1"))
            assert not len(store.tail("u1", 9, LATER))
            assert store.append(frame(event(f"new{id(store)}"))).statuses == ["accepted"]
            assert store.append(sent.filter(pl.col("user_id") != "u1")).count("duplicate") == 20
    assert b"u1" in b"".join(map(content, sqlite.folder.rglob("*.parquet")))
    other = SQLiteStore(sqlite.path) if step == "sweep" else sqlite
    other._upkeep._not_before = 0
    assert other.append(sent[1:2]).statuses == ["accepted"]  # new life
    assert other.erase(["u1"]) == Removed(events=1)
    assert b"u1" not in b"".join(map(content, sqlite.folder.rglob("*.parquet")))
    assert len(everything(other)) == 22


def test_a_scan_under_way_does_not_show_who_has_been_erased(
    sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiles.store.rows.CHUNK", 5)
    sent = frame(*(event(f"e{n}", f"u{n % 3}", n) for n in range(30)))
    sqlite.append(sent)
    sqlite.seal(keep=9)
    scan = sqlite.scan()
    found = [next(scan)]
    assert sqlite.erase(["u1"]).events == 10
    found += scan
    left = sent[5:].filter(pl.col("user_id") != "u1")
    assert_frame_equal(pl.concat(found), pl.concat([sent[:5], left]))


# Erasing to the last byte


def secret(n: int) -> str:
    return sha256(f"secret {n}".encode()).hexdigest()[:32]


def test_no_file_holds_a_byte_of_the_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiles.store.segments.MOST_ROWS", 400)
    monkeypatch.setattr("profiles.store.rows.CHUNK", 100)
    store = SQLiteStore(tmp_path / "log" / "events.db")
    other = SQLiteStore(tmp_path / "log" / "events.db")  # somebody else has it open, too

    def batch(n: int) -> list[dict[str, Any]]:
        users = [secret(m) for m in range(60)] + [f"stays{m}" for m in range(60)]
        return [
            event(f"{u}/{n}", u, n * 9_000, text=f"I am {u}.", session_id=u, item_id=f"made-by-{u}",
                  properties=f'{{"me": "{u}"}}')
            for u in users
        ]  # fmt: skip

    for n in range(8):
        store.append(frame(*batch(n)))
        row = {
            "recommendation_id": f"r{n}",
            "item_id": "i",
            "rank": 1,
            "source": "s",
            "release": "r",
            "blend": "b",
        }
        for user in (secret(n), f"stays{n}"):
            shown = pl.DataFrame([row | {"user_id": user, "timestamp": START}])
            store.append_exposures(EXPOSURES.conform(shown))
        store.put("users", pl.DataFrame({"user_id": [secret(n), f"stays{n}"], "name": ["x", "y"]}))
        if n in (2, 5):
            store.seal(keep=50)
    assert len(everything(other)) == 960
    assert store.erase([secret(n) for n in range(60)]) == Removed(events=480, exposures=8)
    found = everything(other)
    assert len(found) == 480
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    raw = {path: content(path) for path in files}
    decoded = [str(pl.read_parquet(path).rows()).encode() for path in files if path.suffix == ".parquet"]
    with other._file.reading() as connection:
        tables = connection.execute("select name from sqlite_schema where type = 'table'").fetchall()
        decoded += [str(connection.execute(f"select * from {t}").fetchall()).encode() for (t,) in tables]
    everywhere = b"".join([*raw.values(), *decoded])
    for n in range(60):
        assert secret(n).encode() not in everywhere
        assert secret(n)[4:28].encode() not in everywhere
    assert everywhere.count(b"stays7") > 8
    assert b"secret" not in everywhere
    store.append(found)
    assert len(everything(store)) == 480


def test_a_reader_that_does_not_let_go_holds_an_erasure_up_and_is_told(
    sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiles.store.sqlite_file.PATIENCE", 0.1)
    sqlite.append(frame(event("a", secret(1)), event("b")))
    reader = sqlite._file.open()
    reader.execute("begin")
    reader.execute("select * from events").fetchall()
    with pytest.raises(TimeoutError, match="another program has been reading this file"):
        sqlite.erase([secret(1)])
    assert ids(sqlite) == ["b"]
    reader.close()
    sqlite._upkeep._not_before = 0
    sqlite.append(frame(event("c")))  # finishes it
    assert secret(1).encode() not in b"".join(
        content(p) for p in sqlite.path.parent.rglob("*") if p.is_file()
    )


def test_a_backup_of_another_kind_is_refused(sqlite: SQLiteStore, tmp_path: Path) -> None:
    with manifest.building(tmp_path / "kept", {"store": "postgres", "version": 1}):
        pass
    with pytest.raises(ContractError, match="not a backup of a SQLite store of version 1"):
        sqlite.restore(tmp_path / "kept")
