"""Queries as sources, asked of real servers: PostgreSQL, MariaDB, SQLite."""

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from profiles.schema import ContractError
from profiles.sources import Batch, Kind, SourceConfig, fingerprint, locate, read, sql_source
from profiles.sources.limits import Limits
from profiles.sources.sql_source import ask, masked

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MARIADB = (
    "MariaDB is not installed: there is no mariadbd or mariadb-install-db (apt-get install mariadb-server)"
)
SECRET = "hush/hush@1"


def source(url: str, query: str = "select * from log", **settings: Any) -> SourceConfig:
    return SourceConfig(url=url, query=query, **{"name": "log", **settings})


def frames(url: str, query: str, root: Path = Path(), limits: Limits | None = None) -> pl.DataFrame:
    rows = [rows.frame for rows in ask(source(url, query), root, limits or Limits())]
    return pl.concat(rows, how="diagonal_relaxed")


def refused(url: str, query: str = "select * from log", root: Path = Path(), **settings: Any) -> str:
    with pytest.raises(ContractError) as error:
        read(source(url, query, **settings), "events", root, NOW)
    return str(error.value)


@pytest.fixture
def postgres(postgres_url: str) -> Callable[[str], str]:
    """Run statements on a fresh database; returns its address."""
    import psycopg

    def run(statements: str) -> str:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(statements)
        return postgres_url

    return run


@pytest.fixture(scope="session")
def mariadb_port() -> Iterator[int]:
    """A MariaDB server on loopback in a folder of its own."""
    install, server = shutil.which("mariadb-install-db"), shutil.which("mariadbd", path="/usr/sbin:/usr/bin")
    if not install or not server:
        pytest.skip(MARIADB)
    account = pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="attune-mariadb-", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        quick = ["--no-defaults", f"--datadir={data}"]
        made = [
            install,
            *quick,
            f"--user={account}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        subprocess.run(made, check=True, capture_output=True, timeout=120)
        port = free_port()
        running = subprocess.Popen(
            [
                *(server, *quick, f"--user={account}", f"--port={port}", "--bind-address=127.0.0.1"),
                *(
                    f"--socket={folder}/socket",
                    f"--pid-file={folder}/pid",
                    "--innodb-flush-log-at-trx-commit=0",
                ),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait(port)
            yield port
        finally:
            running.kill()
            running.wait()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(port: int) -> None:
    import pymysql

    for _ in range(300):
        try:
            pymysql.connect(host="127.0.0.1", port=port, user="root").close()
            return
        except pymysql.Error:
            time.sleep(0.1)
    pytest.fail("MariaDB does not start")


@pytest.fixture
def mariadb(mariadb_port: int) -> Callable[[str], str]:
    """Run statements on a fresh database; returns its address, with a password in it."""
    import pymysql

    def run(statements: str) -> str:
        with pymysql.connect(host="127.0.0.1", port=mariadb_port, user="root", autocommit=True) as connection:
            cursor = connection.cursor()
            cursor.execute("drop database if exists shop")
            cursor.execute("create database shop character set utf8mb4")
            cursor.execute(f"create user if not exists reader@'127.0.0.1' identified by '{SECRET}'")
            cursor.execute("grant all on shop.* to reader@'127.0.0.1'")
            connection.select_db("shop")
            for statement in statements.split(";"):
                if statement.strip():
                    cursor.execute(statement)
        return (
            f"mysql://reader:{SECRET.replace('/', '%2F').replace('@', '%40')}@127.0.0.1:{mariadb_port}/shop"
        )

    return run


@pytest.fixture
def sqlite(tmp_path: Path) -> Callable[[str], str]:
    def run(statements: str) -> str:
        with sqlite3.connect(tmp_path / "shop.db") as connection:
            connection.executescript(statements)
        return "sqlite:///shop.db"

    return run


EVENTS_TABLE = (
    "create table log (event_id varchar(40), user_id varchar(40), item_id bigint, event_type varchar(20), "
    "at timestamp null, value decimal(10,2), done boolean);"
    "insert into log values ('a', 'u1', 9007199254740993, 'view', '2024-05-01 10:00:00', 1.25, true),"
    "(null, 'u2', 5, 'buy', '2024-05-02 10:00:00', null, false),"
    "(null, 'u2', 5, 'buy', '2024-05-02 10:00:00', null, false),"
    "(null, null, 6, 'buy', '2024-05-02 10:00:00', 3, null)"
)
COLUMNS = {"timestamp": "at", "properties": {"expression": "'{}'"}}


@pytest.fixture(params=["postgres", "mariadb", "sqlite"])
def database(request: pytest.FixtureRequest) -> Callable[[str], str]:
    found: Callable[[str], str] = request.getfixturevalue(request.param)
    return found


def test_every_database_gives_the_events_that_a_file_gives(
    database: Callable[[str], str], tmp_path: Path
) -> None:
    url = database(EVENTS_TABLE)
    batch = read(source(url, "select * from log order by event_id", columns=COLUMNS), "events", tmp_path, NOW)
    assert (batch.rows, batch.rejected.height, batch.duplicates, batch.files) == (4, 1, 0, [])
    assert batch.rejected["problem"].to_list() == ["an event with no user"]
    assert batch.rejected["file"].to_list() == [masked(url)]
    (tmp_path / "log.csv").write_text(
        "event_id,user_id,item_id,event_type,at,value\n"
        "a,u1,9007199254740993,view,2024-05-01 10:00:00,1.25\n"
        "u2,5,buy\n".replace("u2,5,buy", ",u2,5,buy,2024-05-02 10:00:00,")
        * 1
        + ",u2,5,buy,2024-05-02 10:00:00,\n"
    )
    columns = {"timestamp": "at", "properties": {"expression": "'{}'"}}
    file = read(SourceConfig(path="log.csv", columns=columns), "events", tmp_path, NOW)
    assert_frame_equal(batch.frame.sort("event_id"), file.frame.sort("event_id"))


def test_batches_do_not_show(
    database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = database(
        "create table log (user_id varchar(10), event_type varchar(10), timestamp bigint);"
        + "insert into log values "
        + ",".join(f"('u{n % 7}', 'view', {1_700_000_000 + n % 11})" for n in range(900))
    )
    whole = read(source(url), "events", tmp_path, NOW).frame
    monkeypatch.setattr(sql_source, "ROWS", 7)
    sizes = [rows.frame.height for rows in ask(source(url), tmp_path, Limits())]
    assert len(sizes) == 1  # the first is a thousand
    monkeypatch.setattr(sql_source, "FIRST", 7)
    sizes = [rows.frame.height for rows in ask(source(url), tmp_path, Limits())]
    assert set(sizes[:-1]) == {7}
    parted = read(source(url), "events", tmp_path, NOW).frame
    assert set(parted["event_id"]) == set(whole["event_id"])
    assert parted.height == 900


def test_a_query_that_finds_nothing_says_so(database: Callable[[str], str], tmp_path: Path) -> None:
    url = database(EVENTS_TABLE)
    assert "no rows" in refused(url, "select * from log where 1 = 0", tmp_path, columns=COLUMNS)


def test_a_fingerprint_follows_the_rows_not_their_order(
    database: Callable[[str], str], tmp_path: Path
) -> None:
    url = database(EVENTS_TABLE)
    up, down = (
        fingerprint(source(url, f"select user_id, at from log order by at {d}"), tmp_path)
        for d in ("asc", "desc")
    )
    assert up != down  # the settings differ
    query = "select user_id, at from log order by at"
    assert fingerprint(source(url, query), tmp_path) == fingerprint(source(url, query), tmp_path)
    forth = sql_source.contents(source(url, "select user_id from log order by at"), tmp_path)
    assert forth == sql_source.contents(source(url, "select user_id from log order by at desc"), tmp_path)
    assert forth != sql_source.contents(source(url, "select distinct user_id from log"), tmp_path)
    probed = source(url, "select * from log", probe="select count(*) from log")
    assert sql_source.contents(probed, tmp_path) == sql_source.contents(probed, tmp_path)
    assert fingerprint(probed, tmp_path) != fingerprint(source(url), tmp_path)


def test_nothing_can_be_written(database: Callable[[str], str], tmp_path: Path) -> None:
    url = database(EVENTS_TABLE)
    assert locate(source(url), tmp_path) == ([], [f"log is a query of {masked(url)}"])
    for query in (
        "delete from log",
        "drop table log",
        "insert into log (user_id) values ('x')",
        "create table t (a int)",
    ):
        assert refused(url, query, tmp_path)
    assert frames(url, "select count(*) as n from log", tmp_path)["n"].to_list() == [4]


def test_signs_that_drivers_take_for_parameters_are_plain(
    database: Callable[[str], str], tmp_path: Path
) -> None:
    found = frames(
        database(EVENTS_TABLE), "select 'a%b %s :c ?' as a from log where user_id like 'u%'", tmp_path
    )
    assert found["a"].to_list() == ["a%b %s :c ?"] * 3


def test_postgres_is_asked_through_a_cursor_in_one_read_only_state(postgres: Callable[[str], str]) -> None:
    query = (
        "select count(*) as cursors, current_setting('transaction_read_only') as writes,"
        "current_setting('transaction_isolation') as state from pg_cursors"
    )
    assert frames(postgres("select 1"), query).row(0) == (1, "on", "repeatable read")


def test_mariadb_rows_stay_on_the_server_until_they_are_asked_for(
    mariadb: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_source, "FIRST", 10)
    monkeypatch.setattr(sql_source, "ROWS", 10)
    url = mariadb("create table t (n int); insert into t values (0)" + ",(1)" * 200)
    import pymysql.cursors

    fetched: list[int] = []
    original = pymysql.cursors.SSCursor.fetchmany

    def counted(self: Any, size: int | None = None) -> Any:
        rows = original(self, size)
        fetched.append(len(rows))
        return rows

    monkeypatch.setattr(pymysql.cursors.SSCursor, "fetchmany", counted)
    assert frames(url, "select * from t").height == 201
    assert max(fetched) <= 10


def test_postgres_types(postgres: Callable[[str], str]) -> None:
    url = postgres("select 1")
    found = frames(
        url,
        """select 12345678901234567890::numeric as large, 1.50::numeric(10,2) as price, 0.1::float8 as real,
        true as yes, '2024-05-01 10:00'::timestamp as naive, '2024-05-01 10:00+02'::timestamptz as zoned,
        '2024-05-01'::date as day, '{"a": [1, 2.50]}'::json as json, '[1]'::jsonb as jsonb,
        array['x', null, 'y'] as tags, array[1, 2] as numbers,
        '6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid as uuid,
        null as nothing, interval '90 minutes' as took""",
    ).row(0, named=True)
    assert found == {
        "large": Decimal("12345678901234567890"),
        "price": Decimal("1.50"),
        "real": 0.1,
        "yes": True,
        "naive": datetime(2024, 5, 1, 10),
        "zoned": datetime(2024, 5, 1, 8, tzinfo=UTC),
        "day": date(2024, 5, 1),
        "json": '{"a": [1, 2.50]}',
        "jsonb": "[1]",
        "tags": ["x", None, "y"],
        "numbers": ["1", "2"],
        "uuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "nothing": None,
        "took": timedelta(minutes=90),
    }


def test_a_moment_without_zone_is_utc_whatever_the_server_thinks(postgres: Callable[[str], str]) -> None:
    url = postgres(
        "create table log as select 'u' as user_id, 'view' as event_type,"
        "'2024-05-01 10:00'::timestamp as naive, '2024-05-01 12:00+02'::timestamptz as zoned"
    )
    url += "?options=-ctimezone%3DAsia/Tokyo"
    for column in ("naive", "zoned"):
        batch = read(source(url, columns={"timestamp": column}), "events", Path(), NOW)
        assert batch.frame["timestamp"].to_list() == [datetime(2024, 5, 1, 10, tzinfo=UTC)]


def test_mariadb_types(mariadb: Callable[[str], str]) -> None:
    url = mariadb(
        "create table t (u bigint unsigned, d decimal(20,4), j json, e enum('a','b'), dt datetime(6),"
        "f double);"
        "insert into t values (5, 1.5, '{\"a\": 1}', 'b', '2024-05-01 10:00:00.123456', 0.1),"
        "(18446744073709551615, null, null, null, null, null)"
    )
    found = frames(url, "select * from t order by u")
    assert found["u"].to_list() == [5, 18446744073709551615]
    assert found.row(0)[1:] == (Decimal("1.5"), '{"a": 1}', "b", datetime(2024, 5, 1, 10, 0, 0, 123456), 0.1)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select '\\xff'::bytea as raw", "column 'raw' holds bytes; leave it out, or decode it in the query"),
        ("select array['\\xff'::bytea] as raw", "an array of the query holds bytes"),
        ("select int4range(1, 5) as span", "column 'span' holds Range; cast it in the query"),
        ("select 'NaN'::numeric as n", "column 'n' holds NaN"),
        ("select 1e60::numeric as n", "decimals of more than 38 digits"),
        ("select 1 as a, 2 as a", "two columns 'a'"),
        ("select * from nothing_here", 'relation "nothing_here" does not exist'),
        ("select 1; drop table log", "postgresql://"),
        (
            "select repeat('x', 2000000) as a",
            "row 1 of the query: column 'a' has more than limits.cell_mb = 1",
        ),
    ],
)
def test_what_postgres_gives_that_cannot_be_used(postgres_url: str, query: str, said: str) -> None:
    with pytest.raises(ContractError) as error:
        list(ask(source(postgres_url, query), Path(), Limits(cell_mb=1)))
    assert said in str(error.value)


def test_values_of_two_kinds_in_one_column_are_refused(sqlite: Callable[[str], str], tmp_path: Path) -> None:
    url = sqlite("create table log (a, b); insert into log values (1, 2.5), ('x', 1)")
    assert frames(url, "select b from log", tmp_path)["b"].to_list() == [2.5, 1.0]
    with pytest.raises(ContractError, match="column 'a' holds int and str; cast it in the query"):
        frames(url, "select a from log", tmp_path)


def test_kinds_that_change_between_batches_are_refused(
    sqlite: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_source, "FIRST", 1)
    monkeypatch.setattr(sql_source, "ROWS", 1)
    url = sqlite("create table log (a); insert into log values (null), (1), (2.5), ('x')")
    with pytest.raises(
        ContractError, match="column 'a' holds numbers and, by row 4, text; cast it in the query"
    ):
        frames(url, "select a from log", tmp_path)


# Addresses


def test_a_password_is_never_shown(
    postgres_server: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = postgres_server.url("postgres", password=SECRET)
    monkeypatch.setenv("SHOP_PASSWORD", wrong.split(":")[2].split("@")[0])
    hidden = f"postgresql://owner:${{SHOP_PASSWORD}}@127.0.0.1:{postgres_server.port}/postgres"
    for url in (wrong, hidden):
        said = refused(url, "select 1")
        assert "password authentication failed" in said
        assert "hush" not in said
    assert "${SHOP_PASSWORD}" in said
    right = masked(postgres_url)
    assert "s3cret" not in right
    assert "***" in right
    assert "s3cret" not in refused(postgres_url, "select * from nothing_here")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@:/x@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("mysql://u:${P}@h/d", "mysql://u:${P}@h/d"),
        ("mysql://u:a${P}b@h/d", "mysql://u:***@h/d"),
        ("sqlite:///C:/x.db", "sqlite:///C:/x.db"),
        ("postgresql://h/d?user=u&password=p&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql://h/d?password=${P}", "postgresql://h/d?password=${P}"),
    ],
)
def test_masks(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_an_address_that_is_none_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    for url, said in (
        ("postgresql://u:${NOT_SET}@h/d", "names ${NOT_SET}, which is not set"),
        ("shop.db", "is no address of a database"),
        ("oracle://u:p@h/d", "'oracle' is no database that can be read; there are postgresql"),
        ("sqlite:///none.db", f"there is no file {tmp_path / 'none.db'}"),
        ("sqlite://", "there is no file"),
        ("postgresql://u:hush@127.0.0.1:1/d", "connection"),
    ):
        message = refused(url, root=tmp_path)
        assert said in message
        assert "hush" not in message
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give either path, for files, or url and query"),
        ({"path": "a", "url": "b", "query": "c", "name": "d"}, "give either path"),
        ({"url": "b", "name": "d"}, "url and query belong together"),
        ({"path": "a", "query": "b"}, "url and query belong together"),
        ({"url": "b", "query": "c"}, "a query needs a name"),
        ({"path": "a", "probe": "c"}, "probe is for a query"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        SourceConfig(**settings)
    assert said in str(error.value)


def test_items_come_from_a_query_with_their_lists_and_types(postgres: Callable[[str], str]) -> None:
    url = postgres(
        "create table items as select 1::bigint as id, 'Lamp' as title, array['home', 'light'] as categories,"
        "19.90::numeric(8,2) as price, true as sold, null::text as brand"
    )
    kind: Kind = "items"
    asked = source(url, "select * from items", columns={"item_id": "id"}, attributes=["sold"])
    batch: Batch = read(asked, kind, Path(), NOW)
    row = batch.frame.row(0, named=True)
    assert (row["item_id"], row["categories"], row["price"], row["sold"]) == (
        "1",
        ["home", "light"],
        19.9,
        True,
    )
