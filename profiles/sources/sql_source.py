"""A source that is the answer of a SQL query: PostgreSQL, MySQL or MariaDB, and SQLite.

The query runs in a read-only transaction and is read through a cursor of the server's, some rows at a
time. `${VAR}` in the address is taken from the environment; a password is never shown.

Types come as the database has them: numbers, booleans, text, dates, times of day, moments (one without a
zone is UTC), decimals, arrays as lists, JSON as its text, UUIDs as text. Bytes are refused: what they mean
only the query can say.
"""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl

from profiles.schema import ContractError
from profiles.sources.limits import Limits
from profiles.sources.sandbox import Rows
from profiles.sources.source_config import SourceConfig
from profiles.sources.variables import VARIABLE, filled, unset

FIRST, ROWS = 1_000, 50_000  # fetched before it is known how large a row is, and at most
SECRET = re.compile(r"^([^:/?#]+://[^/?#]*?:)(.+)(@[^@]*)$", re.DOTALL)
DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mysql+pymysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "mariadb+pymysql": "mariadb+pymysql",
    "sqlite": "sqlite",
}
DIGITS = 38  # of a decimal
INTEGERS = (-(2**63), 2**63 - 1, 2**64 - 1)
# What each of these is to a frame; further ones are text, as they print.
PLAIN: dict[type, pl.DataType] = {
    bool: pl.Boolean(),
    str: pl.String(),
    float: pl.Float64(),
    date: pl.Date(),
    time: pl.Time(),
    timedelta: pl.Duration("us"),
}


def ask(
    source: SourceConfig, root: Path, limits: Limits, advance: Callable[[int], None] = lambda _: None
) -> Generator[Rows]:
    """Yield what the query answers, of nothing a frame without rows; `advance` is told how many rows."""
    with _cursor(source, root, str(source.query)) as (names, fetch):
        if len(names) > limits.columns:
            raise ContractError(
                f"the query has {len(names):,} columns, more than limits.columns = {limits.columns:,}"
            )
        if twice := {name for name in names if names.count(name) > 1}:
            raise ContractError(
                f"the query has two columns {min(twice)!r}; name one of them otherwise (as …)"
            )
        seen: dict[str, str] = {}
        before, given = 0, False
        size = FIRST
        while rows := fetch(size):
            frame = _frame(names, rows, seen, before, limits)
            before += frame.height
            each = frame.estimated_size() / frame.height
            size = max(1, min(ROWS, int((32 << 20) / max(each, 1))))
            given = True
            yield Rows(0, frame, False)
            advance(frame.height)
        if not given:
            yield Rows(0, pl.DataFrame(schema=dict.fromkeys(names, pl.Null)), False)


def contents(source: SourceConfig, root: Path) -> str:
    """Return what changes with the rows a query gives: its probe's answer, or a hash of all its rows.

    The hash counts each row as often as it comes and takes no notice of their order.
    """
    total, count = 0, 0
    with _cursor(source, root, str(source.probe or source.query)) as (names, fetch):
        while rows := fetch(ROWS):
            for row in rows:
                hashed = blake2b(repr([str(v) if isinstance(v, memoryview) else v for v in row]).encode())
                total = (total + int.from_bytes(hashed.digest()[:16], "big")) % 2**128
            count += len(rows)
    return f"{names} {count} {total:032x}"


def masked(url: str) -> str:
    """Return an address without its password; one that is a ${VAR} is left as it is."""
    found = SECRET.match(url)
    if not found or VARIABLE.fullmatch(found[2]):
        return re.sub(r"(?i)([?&](?:password|passwd|pwd)=)(?!\$\{)[^&#]*", r"\1***", url)
    return f"{found[1]}***{found[3]}"


@contextmanager
def _cursor(
    source: SourceConfig, root: Path, query: str
) -> Generator[tuple[list[str], Callable[[int], Sequence[Any]]]]:
    """Run a query read-only; yield its columns' names and what fetches its next rows."""
    shown, secret = masked(str(source.url)), ""
    try:
        from sqlalchemy import create_engine, exc, pool
    except ImportError:
        raise ContractError(
            f"{shown}: reading databases needs SQLAlchemy and drivers: pip install 'attune[sql]'"
        ) from None
    try:
        url = _address(str(source.url), root)
        secret = str(url.password or "")
        here = {} if url.get_backend_name() != "sqlite" else {"creator": partial(_open_sqlite, url.database)}
        engine = create_engine(url, poolclass=pool.NullPool, hide_parameters=True, **here)
        with engine.connect() as connection:
            _read_only(connection, url.get_backend_name())
            answer = connection.execution_options(
                stream_results=True, max_row_buffer=ROWS, no_parameters=True
            ).exec_driver_sql(query)
            if not answer.returns_rows:
                raise ContractError(f"{shown}: the query gives no rows; it must be a SELECT")
            yield list(answer.keys()), answer.fetchmany
    except ModuleNotFoundError as error:
        raise ContractError(
            f"{shown}: the driver {error.name} is missing: pip install 'attune[sql]'"
        ) from None
    except Exception as error:
        if not isinstance(error, (exc.SQLAlchemyError, *_errors())):
            raise
        said = str(getattr(error, "orig", None) or error)
        said = " ".join(said.split())
        for word in {secret} - {""}:
            said = said.replace(word, "***")
        raise ContractError(f"{shown}: {said[:500]}") from None  # what it came from may hold the password


def _errors() -> tuple[type[Exception], ...]:
    """Return what drivers raise while rows are fetched from them."""
    import sqlite3

    found: list[type[Exception]] = [sqlite3.Error]
    for name in ("psycopg", "pymysql"):
        try:
            found.append(__import__(name).Error)
        except ImportError:
            continue
    return tuple(found)


def _address(written: str, root: Path) -> Any:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if lacking := unset(written):
        raise ContractError(f"{masked(written)} names ${{{lacking[0]}}}, which is not set; set it")
    try:
        url = make_url(filled(written))
    except (ArgumentError, ValueError):
        raise ContractError(
            f"{masked(written)} is no address of a database; it looks like postgresql://user@host/database "
            "(signs such as @ and / in a password are written %40 and %2F)"
        ) from None
    if url.drivername not in DRIVERS:
        raise ContractError(
            f"{masked(written)}: {url.drivername!r} is no database that can be read; there are postgresql, "
            "mysql, mariadb and sqlite"
        )
    url = url.set(drivername=DRIVERS[url.drivername])
    if url.get_backend_name() != "sqlite":
        return url
    file = root / Path(url.database or "").expanduser()
    if not url.database or not file.is_file():
        raise ContractError(f"{masked(written)}: there is no file {file}")
    return url.set(database=str(file.resolve()), query={})


def _open_sqlite(file: str) -> Any:
    import sqlite3

    return sqlite3.connect(f"{Path(file).as_uri()}?mode=ro", uri=True)


def _read_only(connection: Any, backend: str) -> None:
    """Begin a transaction of one state of the data that cannot write; values come as documented."""
    if backend == "postgresql":
        from psycopg.types.string import TextLoader

        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        adapters = connection.connection.driver_connection.adapters
        for name in ("json", "jsonb"):
            adapters.register_loader(name, TextLoader)
    elif backend == "sqlite":
        connection.exec_driver_sql("pragma query_only = on")
    else:
        connection.exec_driver_sql("set session transaction isolation level repeatable read, read only")
        connection.rollback()  # it holds from the next transaction


def _frame(
    names: Sequence[str], rows: Sequence[Any], seen: dict[str, str], before: int, limits: Limits
) -> pl.DataFrame:
    columns = []
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        column, kind = _column(name, values, before, limits)
        if kind is not None and seen.setdefault(name, kind) != kind:
            raise ContractError(
                f"the query's column {name!r} holds {seen[name]} and, by row {before + len(values)}, {kind}; "
                "cast it in the query"
            )
        columns.append(column)
    return pl.DataFrame(columns)


def _column(name: str, values: Sequence[Any], before: int, limits: Limits) -> tuple[pl.Series, str | None]:
    """Return values as a column, and in a word what they are (null: nothing yet)."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pl.Series(name, [None] * len(values), dtype=pl.Null), None
    if kinds <= {bool} or kinds <= {str}:
        if str in kinds:
            _refuse_large(name, values, before, limits)
        return pl.Series(
            name, values, dtype=PLAIN[kinds.copy().pop()]
        ), "text" if str in kinds else "booleans"
    if kinds <= {int, float, Decimal}:
        return _numbers(name, values, kinds), "numbers"
    if kinds == {datetime}:
        zoned = {value.tzinfo is not None for value in values if value is not None}
        if len(zoned) > 1:
            raise ContractError(f"the query's column {name!r} holds moments with and without zone; cast it")
        dtype = pl.Datetime("us", "UTC" if zoned == {True} else None)
        return pl.Series(name, values, dtype=dtype), "moments"
    if len(kinds) == 1 and (kind := next(iter(kinds))) in PLAIN:
        return pl.Series(name, values, dtype=PLAIN[kind]), kind.__name__
    if kinds & {bytes, bytearray, memoryview}:
        raise ContractError(
            f"the query's column {name!r} holds bytes; leave it out, or decode it in the query "
            "(PostgreSQL: encode(…, 'hex'), MySQL: hex(…), SQLite: hex(…))"
        )
    if kinds == {list}:
        parts = [
            value if value is None else [None if v is None else _word(v) for v in value] for value in values
        ]
        return pl.Series(name, parts, dtype=pl.List(pl.String)), "lists"
    if kinds <= {UUID}:
        return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String), "text"
    what = " and ".join(sorted(kind.__name__ for kind in kinds))
    raise ContractError(
        f"the query's column {name!r} holds {what}; cast it in the query, for example to text"
    )


def _numbers(name: str, values: Sequence[Any], kinds: set[type]) -> pl.Series:
    present = [value for value in values if value is not None]
    if float in kinds:
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    if Decimal not in kinds:
        low, high = min(present), max(present)
        if INTEGERS[0] <= low and high <= INTEGERS[1]:
            return pl.Series(name, values, dtype=pl.Int64)
        if low >= 0 and high <= INTEGERS[2]:
            return pl.Series(name, values, dtype=pl.UInt64)
    exact = [None if v is None else Decimal(v) for v in values]
    odd = [v for v in exact if v is not None and not v.is_finite()]
    if odd:
        raise ContractError(
            f"the query's column {name!r} holds {odd[0]}; leave such rows out or cast it in the query"
        )
    scale = max(0, *(-int(v.as_tuple().exponent) for v in exact if v is not None))
    whole = max(v.adjusted() + 1 for v in exact if v is not None)
    if max(whole, 1) + scale > DIGITS:
        raise ContractError(
            f"the query's column {name!r} holds decimals of more than {DIGITS} digits; round it in the query"
        )
    return pl.Series(name, exact, dtype=pl.Decimal(DIGITS, scale))


def _word(value: Any) -> str:
    if isinstance(value, list | bytes | memoryview):
        raise ContractError(f"an array of the query holds {type(value).__name__}; cast it in the query")
    return str(value)


def _refuse_large(name: str, values: Sequence[Any], before: int, limits: Limits) -> None:
    for row, value in enumerate(values, before + 1):
        if value is not None and len(value) > limits.cell // 4 and len(value.encode()) > limits.cell:
            raise ContractError(
                f"row {row} of the query: column {name!r} has more than limits.cell_mb = {limits.cell_mb}"
            )
