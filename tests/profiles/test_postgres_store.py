"""What PostgreSQL in particular must keep, on a real server: gaps, crashes, secrets, bytes that are gone."""

import logging
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profiles.schema import EVENTS, EXPOSURES, ContractError
from profiles.store import open_store, postgres_rows, postgres_tables, rows
from profiles.store import postgres as postgres_store
from profiles.store.postgres import PostgresStore

START = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def event(event_id: str, user: str = "u", minutes: float = 0, **rest: Any) -> dict[str, Any]:
    moment = START + timedelta(minutes=minutes)
    return {"event_id": event_id, "user_id": user, "event_type": "view", "timestamp": moment} | rest


def frame(*events: dict[str, Any]) -> pl.DataFrame:
    known = {n: d for n, d in EVENTS.schema.items() if any(n in e for e in events)}
    return EVENTS.conform(pl.DataFrame(list(events), schema=known)) if events else EVENTS.empty()


def shown(*users: str, minutes: float = 0) -> pl.DataFrame:
    rows = [
        {"recommendation_id": "r", "user_id": user, "item_id": "i", "rank": n + 1, "propensity": None,
         "source": "ease", "release": "r", "blend": "b", "timestamp": START + timedelta(minutes=minutes)}
        for n, user in enumerate(users)
    ]  # fmt: skip
    return EXPOSURES.conform(pl.DataFrame(rows))


def ids(store: PostgresStore, *span: int) -> list[str]:
    return [e for part in store.scan(*span) for e in part["event_id"]]


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
def raw(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of another program to the same database, in a transaction of its own."""
    with psycopg.connect(postgres_url) as connection:
        yield connection


# Addresses, errors, secrets


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_addresses(postgres_url: str, folder: Path, scheme: str) -> None:
    store = open_store(postgres_url.replace("postgresql", scheme, 1), folder)
    assert isinstance(store, PostgresStore)
    assert store.append(frame(event("a"))).watermark == 1
    store.close()


@pytest.mark.parametrize("package", ["sqlalchemy", "psycopg"])
def test_a_missing_package_is_named(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pathlib import Path\n"
        "from profiles.schema import ContractError\n"
        "from profiles.store import open_store\n"
        "try: open_store('postgresql:///x', Path('x'))\n"
        "except ContractError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "PostgreSQL" in done.stdout
    assert "pip install 'attune[sql]'" in done.stdout


def test_nothing_is_opened_before_it_is_used(folder: Path) -> None:
    assert isinstance(open_store("postgresql://nobody:x@192.0.2.1/none", folder), PostgresStore)
    assert not folder.exists()


SECRET = "Zq7-w0rd"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "postgresql://owner:Zq7-w0rd@127.0.0.1:{port}/postgres",
            "password authentication failed.*password of the address",
        ),
        ("postgresql://owner:Zq7-w0rd@127.0.0.1:1/postgres", "refused"),
        ("postgresql://owner@127.0.0.1:{port}/postgres?password=Zq7-w0rd", "authentication failed"),
        ("postgresql://owner:Zq7-w0rd@no-such-host.invalid/postgres", "no-such-host"),
        ("postgresql://owner:Zq7-w0rd@127.0.0.1:{port}/postgres?sslmode=Zq7-w0rd", "sslmode"),
        ("postgresql://owner:Zq7-w0rd@127.0.0.1:{port}/postgres?Zq7-w0rd=1", "option"),
        ("postgresql://owner:Zq7-w0rd@127.0.0.1:{port}/postgres?connect_timeout=Zq7-w0rd", "option"),
        ("postgresql://owner:p@ss:Zq7-w0rd@host/postgres", "no address"),
        ("postgresql://owner:Zq7-w0rd@127.0.0.1:12x/postgres", "no address"),
    ],
)
def test_no_secret_in_errors_or_logs(
    postgres_server: Any, folder: Path, caplog: pytest.LogCaptureFixture, address: str, said: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ContractError, match=said) as raised:
        open_store(address.format(port=postgres_server.port), folder).watermark()
    told = [*traceback.format_exception(raised.value), repr(raised.value), caplog.text]
    assert raised.value.__suppress_context__
    assert SECRET not in " ".join(told)
    assert "127.0.0.1" in str(raised.value) or "no" in str(raised.value)


def test_a_database_that_is_not_there(postgres_server: Any, folder: Path) -> None:
    store = PostgresStore(postgres_server.url("nowhere"), folder)
    with pytest.raises(ContractError, match=r'database "nowhere" does not exist; check that'):
        store.append(frame(event("a")))
    assert "nowhere" in (store.unwritable() or "")


def test_what_was_written_is_in_no_error(store: PostgresStore, raw: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    store.append(frame(event("a")))
    raw.execute("alter table attune_events add check (text != 'very private')")
    raw.commit()
    with pytest.raises(RuntimeError, match=r"violates check constraint .* \(SQLSTATE 23514\)") as raised:
        store.append(frame(event("b", text="very private")))
    assert "very private" not in "".join(traceback.format_exception(raised.value)).replace(
        'text="very private"', ""
    )
    assert "very private" not in caplog.text
    assert ids(store) == ["a"]


def test_rights_that_are_missing(postgres_server: Any, postgres_url: str, folder: Path) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"create role r{database} login password 'x'")
    address = postgres_server.url(database, f"r{database}", "x")
    store = PostgresStore(address, folder)
    with pytest.raises(ContractError, match="permission denied for schema public; grant this user"):
        store.watermark()
    store.close()
    owner = PostgresStore(postgres_url, folder)
    owner.append(frame(event("a")))
    postgres_server.execute(f"grant select on all tables in schema public to r{database}", database)
    reader = PostgresStore(address, folder)
    assert ids(reader) == ["a"]
    assert "permission denied" in (reader.unwritable() or "")
    with pytest.raises(ContractError, match=r"permission denied for table attune_\w+; grant"):
        reader.append(frame(event("b")))
    reader.close()
    owner.close()
    postgres_server.execute(f"drop owned by r{database}; drop role r{database}", database)


def test_a_server_that_only_reads(postgres_server: Any, postgres_url: str, opened: Any) -> None:
    first = opened()
    first.append(frame(event("a")))
    assert first.unwritable() is None
    assert first.marks() == {}  # to ask leaves nothing
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"alter database {database} set default_transaction_read_only = on")
    second = opened()
    assert ids(second) == ["a"]
    reason = second.unwritable()
    assert reason is not None
    assert "read-only transaction; give the address of the primary server" in reason
    with pytest.raises(ContractError, match="read-only"):
        second.append(frame(event("b")))
    assert ids(second) == ["a"]


def test_a_lost_connection_is_replaced(store: PostgresStore, raw: Any) -> None:
    store.append(frame(event("a")))
    with ThreadPoolExecutor(4) as pool:  # several connections
        assert set(pool.map(lambda _: store.watermark(), range(20))) == {1}
    raw.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid != pg_backend_pid() "
                "and datname = current_database()")  # fmt: skip
    raw.commit()
    assert store.append(frame(event("b"))).watermark == 2
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: store.watermark(), range(20))) == {2}


def test_a_connection_lost_in_a_call_is_told_and_nothing_is_half_stored(
    store: PostgresStore, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(frame(event("a")))
    copy_in = postgres_rows.copy_in

    def cut(connection: sa.Connection, *rest: Any) -> None:
        copy_in(connection, *rest)
        raw.execute(
            "select pg_terminate_backend(%s)", [connection.connection.driver_connection.info.backend_pid]
        )

    monkeypatch.setattr(postgres_rows, "copy_in", cut)
    with pytest.raises(ContractError, match=r"terminat|closed|lost"):
        store.append(frame(event("b"), event("c")))
    monkeypatch.undo()
    assert (ids(store), store.watermark()) == (["a"], 1)
    assert list(store.append(frame(event("b"))).statuses) == ["accepted"]


def test_another_format_is_refused(store: PostgresStore, opened: Any, raw: Any) -> None:
    store.append(frame(event("a")))
    raw.execute("update attune_log set format = 99")
    raw.commit()
    with pytest.raises(ContractError, match="have format 99, this version reads 1"):
        opened().watermark()


def test_a_database_that_cannot_hold_every_character_is_refused(postgres_server: Any, folder: Path) -> None:
    postgres_server.execute("create database ascii encoding 'SQL_ASCII' template template0")
    store = PostgresStore(postgres_server.url("ascii"), folder)
    with pytest.raises(ContractError, match="keeps text as SQL_ASCII; create one with encoding 'UTF8'"):
        store.append(frame(event("a")))
    store.close()
    postgres_server.drop_database("ascii")


def test_more_threads_than_connections(store: PostgresStore) -> None:
    with ThreadPoolExecutor(40) as pool:
        acks = list(pool.map(lambda n: store.append(frame(event(f"e{n}"))), range(200)))
        assert set(pool.map(lambda _: store.watermark(), range(200))) == {200}
    assert all(list(a.statuses) == ["accepted"] for a in acks)


def test_a_child_process_opens_connections_of_its_own(store: PostgresStore) -> None:
    store.append(frame(event("a")))
    with store._reading(), store._mutex:  # as threads of the parent may, at any moment
        child = os.fork()
        if not child:
            try:
                store.mark("from", "the child")
                os._exit(0 if store.watermark() == 1 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store._known is not None
    assert store.marks() == {"from": "the child"}
    assert store.append(frame(event("b"))).watermark == 2


def test_a_closed_store_says_so(store: PostgresStore) -> None:
    store.append(frame(event("a")))
    store.close()
    with pytest.raises(ContractError, match="closed"):
        store.watermark()


# The tables


def test_several_may_make_the_tables_at_once(opened: Any, raw: Any) -> None:
    """All have seen that there are none, and wait for the lock to make them."""
    raw.execute(postgres_tables._APPEND_LOCK.text)
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(opened().watermark) for _ in range(6)]
        until(lambda: waiting_for_locks(raw) == 6)
        raw.commit()
        assert [w.result(timeout=60) for w in waiting] == [0] * 6


def test_a_commit_is_durable_whatever_the_server_says(
    postgres_server: Any, postgres_url: str, store: Any
) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"alter database {database} set synchronous_commit = off")
    store.append(frame(event("a")))
    with store._writing() as connection:
        assert connection.scalar(sa.text("show synchronous_commit")) == "off"
        postgres_tables.take_append_lock(connection)
        assert connection.scalar(sa.text("show synchronous_commit")) == "on"


def test_statistics_hold_no_text(store: PostgresStore, raw: Any) -> None:
    store.append(frame(*(event(f"e{n}", f"person{n % 9}", text="private words") for n in range(500))))
    store.append_exposures(shown(*(f"person{n % 9}" for n in range(500))))
    store.put("users", pl.DataFrame({"user_id": [f"person{n}" for n in range(500)], "x": "private words"}))
    store.mark("m", "private words")
    raw.commit()
    raw.autocommit = True
    raw.execute("analyze")
    kept = raw.execute(
        "select tablename, attname, most_common_vals::text, histogram_bounds::text from pg_stats "
        "where tablename like 'attune%'"
    ).fetchall()
    assert {"attune_events", "attune_catalogue"} <= {row[0] for row in kept}
    assert not [row for row in kept if "person" in str(row[2:]) or "private" in str(row[2:])]


def test_ids_longer_than_an_index_takes(store: PostgresStore) -> None:
    long = random.Random(1).randbytes(200_000).hex()  # cannot be compressed away
    sent = frame(event(long, long, item_id=long), event(long[:-1] + "g", long[:-1] + "g"))
    assert store.append(sent).count("accepted") == 2
    assert store.append(sent).count("duplicate") == 2
    assert_frame_equal(store.tail(long, 5, LATER), sent[:1])
    people = pl.DataFrame({"user_id": sorted([long, long + "0"]), "x": [1, 2]})
    assert store.put("users", people) == 2
    assert store.put("users", people) == 0
    assert_frame_equal(store.catalogue("users"), people)
    assert store.erase([long]).events == 1
    assert store.catalogue("users")["x"].to_list() == [2]


NUL = st.text(st.sampled_from("\0\1\2a"), max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=st.lists(st.tuples(NUL, NUL, NUL), min_size=1, max_size=6, unique_by=lambda row: row[0]))
def test_nul_is_a_character(store: PostgresStore, given_: list[tuple[str, str, str]]) -> None:
    before = store.watermark()
    known = {event_id for part in store.scan() for event_id in part["event_id"]}
    sent = frame(*(event(i, u, n, item_id=t, text=t, properties=t) for n, (i, u, t) in enumerate(given_)))
    sent = sent.filter(~pl.col("event_id").is_in(list(known)))
    assert set(store.append(sent).statuses) <= {"accepted"}
    assert set(store.append(sent).statuses) <= {"duplicate"}
    assert_frame_equal(pl.concat([EVENTS.empty(), *store.scan(before)]), sent)
    for user in sent["user_id"]:
        tail = store.tail(user, 1000, LATER)
        assert set(tail["user_id"]) == {user}
        assert set(sent.filter(user_id=user)["event_id"]) <= set(tail["event_id"])
    people = pl.DataFrame(given_, schema=["user_id", "x", "y"], orient="row")
    store.put("users", people)
    held = store.catalogue("users")
    assert held["user_id"].to_list() == sorted(held["user_id"])
    assert_frame_equal(held.join(people, on="user_id", how="semi"), people.sort("user_id"))
    for name, value, _ in given_:
        store.mark(name, value)
    assert store.marks() == store.marks() | {name: value for name, value, _ in given_}
    assert list(store.marks()) == sorted(store.marks())


# No gap is passed


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting_for_locks(raw: Any) -> int:
    found = raw.execute(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted and database = "
        "(select oid from pg_database where datname = current_database())"
    ).fetchone()
    return int(found[0])


@contextmanager
def slow_append(store: PostgresStore, event_id: str) -> Iterator[None]:
    """Append in a transaction that commits only at the end of the block, as a slow machine would."""
    with store._writing() as connection:
        postgres_tables.take_append_lock(connection)
        number = postgres_rows.log_row(connection).events + 1
        postgres_rows.put_events(connection, rows.batch(frame(event(event_id))), [number])
        yield


def later_append_beside_a_slow_one(store: PostgresStore, other: PostgresStore, raw: Any) -> list[Any]:
    """Return what is seen while a slow append is open and a later one is tried, and after both."""
    store.append(frame(event("first")))
    with ThreadPoolExecutor(1) as pool:
        with slow_append(store, "slow"):
            later = pool.submit(other.append, frame(event("later"), event("later2")))
            with pytest.raises(TimeoutError):
                later.result(timeout=0.5)
            seen = [(reader.watermark(), ids(reader)) for reader in (store, other)]
            blocked = waiting_for_locks(raw)
        acks = later.result(timeout=30)
    return [seen, blocked, list(acks.statuses), acks.watermark, ids(other)]


def test_a_later_append_waits_for_a_slow_one(store: PostgresStore, opened: Any, raw: Any) -> None:
    seen, blocked, statuses, watermark, order = later_append_beside_a_slow_one(store, opened(), raw)
    assert seen == [(1, ["first"])] * 2
    assert blocked == 1  # on the lock, and on nothing else
    assert (statuses, watermark) == (["accepted"] * 2, 4)
    assert order == ["first", "slow", "later", "later2"]


def test_without_the_lock_that_fails(
    store: PostgresStore, opened: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(frame(event("zero")))
    other = opened()
    assert other.watermark() == 1
    for module in (postgres_tables, postgres_store):
        monkeypatch.setattr(module, "take_append_lock", lambda connection: None)
    with pytest.raises(RuntimeError, match="duplicate key"):  # two events of one number
        later_append_beside_a_slow_one(store, other, raw)


def test_a_writer_that_numbers_from_a_sequence_without_the_lock_makes_a_gap(store: Any, raw: Any) -> None:
    """What the lock is for: numbers taken in one order and committed in another."""
    store.append(frame(event("first")))

    def insert(connection: Any, number: int) -> None:
        connection.execute(
            "insert into attune_events (seq, key, event_id, digest, user_key, user_id, event_type, "
            "timestamp) "
            "values (%s, %s, %s, '', 0, 'u', 'view', 0)",
            [number, b"%d" % number, f"e{number}"],
        )

    with psycopg.connect(raw.info.dsn, password=raw.info.password) as slow:
        insert(slow, 2)
        insert(raw, 3)
        raw.execute("update attune_log set events = 3")
        raw.commit()
        assert (store.watermark(), ids(store)) == (3, ["first", "e3"])  # who reads on from 3 never sees 2
    assert ids(store) == ["first", "e2", "e3"]


def test_readers_following_the_log_miss_nothing(opened: Any) -> None:
    """Each reader goes on from the last watermark it was told; together they see every event, in order."""
    done = threading.Event()

    def write(worker: int) -> None:
        store = opened()
        for n in range(25):
            store.append(frame(*(event(f"{worker}-{n}-{m}") for m in range(1 + (n + worker) % 4))))

    def follow(by_watermark: bool) -> list[str]:
        store, at, seen = opened(), 0, []
        while True:
            last_time = done.is_set()
            end = store.watermark() if by_watermark else None
            parts = [e for part in store.scan(at, end) for e in part["event_id"]]
            seen += parts
            at = end if end is not None else at + len(parts)
            if last_time:
                return seen

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(follow, by_watermark) for by_watermark in (True, False)]
        writers = [pool.submit(write, worker) for worker in range(4)]
        for writer in writers:
            writer.result(timeout=120)
        done.set()
        seen = [reader.result(timeout=60) for reader in readers]
    whole = ids(opened())
    assert len(whole) == len(set(whole)) == sum(1 + (n + w) % 4 for n in range(25) for w in range(4))
    assert seen == [whole, whole]


# Crashes


WRITER = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
import polars as pl
from profiles.schema import ContractError
from profiles.store import open_store
store = open_store(sys.argv[1], Path(sys.argv[2]))
at = pl.lit(datetime(2024, 1, 1, tzinfo=UTC)).alias("timestamp")
for batch in itertools.count():
    names = [f"{sys.argv[3]}/{batch}/{n}" for n in range(5)]
    try:
        rows = {"event_id": names, "user_id": "u", "event_type": "view"}
        store.append(pl.DataFrame(rows).with_columns(at))
    except ContractError as error:
        print("stopped:", error, flush=True)
        break
    print(batch, flush=True)
"""


def test_a_server_that_crashes_loses_nothing_acknowledged(own_postgres_server: Any, folder: Path) -> None:
    server = own_postgres_server
    url = server.url(server.new_database())
    acked: set[str] = set()
    store = PostgresStore(url, folder)
    for trial in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, url, str(folder), f"{trial}{worker}"],
                stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )
            for worker in range(2)
        ]  # fmt: skip
        lines = [[writer.stdout.readline()] for writer in writers]  # type: ignore[union-attr]
        time.sleep(0.4)
        server.stop("immediate")
        for worker, writer in enumerate(writers):
            told = lines[worker] + writer.stdout.read().splitlines()  # type: ignore[union-attr]
            writer.wait(timeout=60)
            assert told.pop().startswith("stopped: postgresql://127.0.0.1"), told
            acked |= {f"{trial}{worker}/{int(batch)}/{n}" for batch in told for n in range(5)}
        with pytest.raises(ContractError, match="refused"):
            store.watermark()
        assert "refused" in (store.unwritable() or "")
        server.start()
        found = Counter(ids(store))
        assert acked <= set(found)
        assert set(found.values()) == {1}
        assert len(found) % 5 == 0  # batches are whole
        assert len(found) <= len(acked) + 5 * 2 * (trial + 1)
        assert store.watermark() == len(found)
    store.close()
