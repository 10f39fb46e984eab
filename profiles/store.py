"""The log: an event is acknowledged once, kept once, and read in the order it was committed.

`EventStore` is the contract; SQLite stands behind it here. What is appended is durable when `append`
returns (WAL, synchronous=FULL). SQLite before 3.51.3 can corrupt a file when two connections write and
checkpoint at once, so a lock file is held across each transaction and the checkpoint inside it, and
readers open the file read-only: closing them never checkpoints.
"""

import fcntl
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import orjson
import polars as pl
from polars import selectors as cs

from profiles.events import event_digest
from profiles.schema import EVENTS, EXPOSURES, ITEMS, TIME, USERS, ContractError, Frame, microseconds

Status = Literal["accepted", "duplicate", "conflict"]
Kind = Literal["items", "users"]
CATALOGUES: dict[Kind, Frame] = {"items": ITEMS, "users": USERS}
CHUNK = 50_000  # events a transaction
ASKED = 30_000  # ids in one question; SQLite takes 32,766 parameters


@dataclass(frozen=True)
class Acks:
    """What became of each event of a batch, in its order, and the store's sequence number after it."""

    statuses: Sequence[Status]
    watermark: int

    def count(self, status: Status) -> int:
        """Count the events of one status."""
        return sum(s == status for s in self.statuses)


class EventStore(ABC):
    """Events, exposures and the catalogue of one workspace."""

    @abstractmethod
    def append(self, events: pl.DataFrame) -> Acks:
        """Commit EVENTS. Same id and content: duplicate; same id, other content: conflict, not stored."""

    @abstractmethod
    def scan(self, from_seq: int = 0, to_seq: int | None = None) -> Iterator[pl.DataFrame]:
        """Yield EVENTS with sequence numbers in (from_seq, to_seq], in order, in bounded batches."""

    @abstractmethod
    def tail(self, user_id: str, n: int, until: datetime) -> pl.DataFrame:
        """Return a user's latest n EVENTS at or before `until`, oldest first."""

    @abstractmethod
    def watermark(self) -> int:
        """Return the sequence number of the last committed event, 0 when there is none."""

    @abstractmethod
    def unwritable(self) -> str | None:
        """Return why nothing can be committed now; None where it can."""

    @abstractmethod
    def put(self, kind: Kind, frame: pl.DataFrame) -> int:
        """Insert or replace ITEMS or USERS by id; returns how many rows are new or changed."""

    @abstractmethod
    def catalogue(self, kind: Kind) -> pl.DataFrame:
        """Return all ITEMS or USERS, sorted by id."""

    @abstractmethod
    def append_exposures(self, exposures: pl.DataFrame) -> None:
        """Commit EXPOSURES."""

    @abstractmethod
    def exposures(self) -> pl.DataFrame:
        """Return all EXPOSURES, in the order they were committed."""

    @abstractmethod
    def mark(self, name: str, value: str) -> None:
        """Remember a fact about the log, such as `timeless`."""

    @abstractmethod
    def marks(self) -> Mapping[str, str]:
        """Return the facts remembered."""


_EVENT_COLUMNS = ", ".join(EVENTS.columns)
_EXPOSURE_COLUMNS = ", ".join(EXPOSURES.columns)
_TABLES = f"""
create table if not exists events (
  seq integer primary key autoincrement, digest text not null, event_id text not null unique,
  user_id text not null, item_id text, event_type text not null, timestamp integer not null, value real,
  text text, session_id text, recommendation_id text, properties text);
create index if not exists events_of_user on events (user_id, timestamp, seq);
create table if not exists exposures (seq integer primary key, {_EXPOSURE_COLUMNS});
create table if not exists catalogue (kind text, id text, body text not null, primary key (kind, id));
create table if not exists marks (name text primary key, value text not null);
"""


class SQLiteStore(EventStore):
    """One SQLite file. Safe for several processes and threads; readers never wait for a writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._mutex = threading.Lock()
        self._local = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing() as connection:
            connection.executescript(_TABLES)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock file, open, run one transaction, checkpoint by closing; roll back on any error."""
        with self._mutex, self._lock_path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=60)
            try:
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = full")
                connection.execute("begin immediate")
                yield connection
                if connection.in_transaction:
                    connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            finally:
                connection.close()

    @property
    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
        return connection

    def _open(self) -> sqlite3.Connection:
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        return sqlite3.connect(address, uri=True, isolation_level=None, timeout=60)

    def append(self, events: pl.DataFrame) -> Acks:
        events = EVENTS.conform(events)
        digests = event_digest(events)
        statuses: list[Status] = []
        for start in range(0, len(events), CHUNK):
            part, digest = events[start : start + CHUNK], digests[start : start + CHUNK]
            with self._writing() as connection:
                statuses += _insert(connection, part, digest.to_list())
        return Acks(statuses, self.watermark())

    def scan(self, from_seq: int = 0, to_seq: int | None = None) -> Iterator[pl.DataFrame]:
        last = self.watermark() if to_seq is None else to_seq
        # A connection of its own: the thread's other reads must not be held at the moment this began.
        with closing(self._open()) as connection:
            cursor = connection.execute(
                f"select {_EVENT_COLUMNS} from events where seq > ? and seq <= ? order by seq",
                (from_seq, last),
            )
            while rows := cursor.fetchmany(CHUNK):
                yield _events(rows)

    def tail(self, user_id: str, n: int, until: datetime) -> pl.DataFrame:
        rows = self._reader.execute(
            f"select {_EVENT_COLUMNS} from events where user_id = ? and timestamp <= ? "
            "order by timestamp desc, seq desc limit ?",
            (user_id, microseconds(until), n),
        ).fetchall()
        return _events(rows[::-1])

    def watermark(self) -> int:
        (last,) = self._reader.execute("select coalesce(max(seq), 0) from events").fetchone()
        return int(last)

    def unwritable(self) -> str | None:
        try:
            with self._writing() as connection:
                connection.execute("insert or replace into marks values ('written', '')")
                connection.execute("rollback")
        except (OSError, sqlite3.Error) as error:
            return str(error)
        return None

    def put(self, kind: Kind, frame: pl.DataFrame) -> int:
        # A column of nulls alone has no type to remember; the mapping may have left it so.
        frame = (
            CATALOGUES[kind].conform(frame).drop(cs.by_dtype(pl.Null)).with_columns(cs.datetime().cast(TIME))
        )
        key = CATALOGUES[kind].key[0]
        types = {n: str(d) if str(d) in _STORED else "String" for n, d in frame.schema.items()}
        rows = [(kind, row[key], _body(row, types)) for row in frame.iter_rows(named=True)]
        with self._writing() as connection:
            known = _types(connection, kind)
            for name in frame.columns:
                if name in known and types[name] != known[name]:
                    raise ContractError(
                        f"{kind}: attribute {name!r} is {types[name]} here and {known[name]} in the store; "
                        "cast it in the column mapping"
                    )
            before = connection.total_changes
            connection.executemany(
                "insert into catalogue values (?, ?, ?) on conflict (kind, id) "
                "do update set body = excluded.body where body != excluded.body",
                rows,
            )
            changed = connection.total_changes - before
            _mark(connection, f"{kind}.types", orjson.dumps(known | types).decode())
        return changed

    def catalogue(self, kind: Kind) -> pl.DataFrame:
        frame = CATALOGUES[kind]
        with closing(self._open()) as connection:
            connection.execute("begin")  # rows and types of one moment
            types = _types(connection, kind)
            rows = connection.execute(
                "select body from catalogue where kind = ? order by id", (kind,)
            ).fetchall()
        if not rows:
            return frame.empty()
        bodies = [orjson.loads(body) for (body,) in rows]
        columns = {
            name: pl.Series(name, [b.get(name) for b in bodies], dtype=_STORED[dtype])
            for name, dtype in types.items()
        }
        times = [pl.col(n).cast(TIME) for n, dtype in types.items() if dtype == str(TIME)]
        return frame.conform(pl.DataFrame(columns).with_columns(times))

    def append_exposures(self, exposures: pl.DataFrame) -> None:
        rows = _rows(EXPOSURES.conform(exposures))
        marks = ", ".join("?" * len(EXPOSURES.columns))
        with self._writing() as connection:
            connection.executemany(f"insert into exposures ({_EXPOSURE_COLUMNS}) values ({marks})", rows)

    def exposures(self) -> pl.DataFrame:
        rows = self._reader.execute(f"select {_EXPOSURE_COLUMNS} from exposures order by seq").fetchall()
        return _frame(rows, EXPOSURES)

    def mark(self, name: str, value: str) -> None:
        with self._writing() as connection:
            _mark(connection, name, value)

    def marks(self) -> Mapping[str, str]:
        return dict(self._reader.execute("select name, value from marks order by name").fetchall())


_STORED = {
    str(dtype): dtype if dtype != TIME else pl.Int64()
    for dtype in (
        *(pl.String(), pl.Boolean(), pl.Float32(), pl.Float64(), TIME, pl.List(pl.String)),
        *(pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()),
    )
}  # attribute types that survive as JSON; any other is kept as its text, a NaN as null


def _insert(connection: sqlite3.Connection, events: pl.DataFrame, digests: list[str]) -> list[Status]:
    """Insert what is new and tell what became of each event."""
    ids = events["event_id"].to_list()
    held: dict[str, str] = {}
    for start in range(0, len(ids), ASKED):  # parameters: SQLite's json_each ends a string at a NUL
        asked = ids[start : start + ASKED]
        places = ", ".join("?" * len(asked))
        question = f"select event_id, digest from events where event_id in ({places})"
        held.update(connection.execute(question, asked).fetchall())
    statuses: list[Status] = []
    new = []
    for index, (event_id, digest) in enumerate(zip(ids, digests, strict=True)):
        known = held.get(event_id)
        if known is None:
            held[event_id] = digest
            new.append(index)
            statuses.append("accepted")
        else:
            statuses.append("duplicate" if known == digest else "conflict")
    fresh = events if len(new) == len(events) else events[new]
    marks = ", ".join("?" * (len(EVENTS.columns) + 1))
    connection.executemany(
        f"insert into events (digest, {_EVENT_COLUMNS}) values ({marks})",
        ((digests[i], *row) for i, row in zip(new, _rows(fresh), strict=True)),
    )
    return statuses


def _mark(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("insert or replace into marks values (?, ?)", (name, value))


def _types(connection: sqlite3.Connection, kind: Kind) -> dict[str, str]:
    """Return the attributes of a catalogue and the type each is kept as."""
    row = connection.execute("select value from marks where name = ?", (f"{kind}.types",)).fetchone()
    types: dict[str, str] = orjson.loads(row[0]) if row else {}
    return types


def _body(row: dict[str, object], types: Mapping[str, str]) -> str:
    """Return one catalogue row as JSON: times as microseconds, unknown types as text, nulls left out."""
    plain: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            plain[name] = microseconds(value)
        elif value is not None:
            plain[name] = str(value) if types[name] == "String" else value
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()


def _rows(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.with_columns(pl.col("timestamp").to_physical()).rows()


def _frame(rows: list[tuple[object, ...]], frame: Frame) -> pl.DataFrame:
    stored = {n: pl.Int64() if d == TIME else d for n, d in frame.schema.items()}
    return pl.DataFrame(rows, schema=stored, orient="row").cast({"timestamp": TIME})


def _events(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return _frame(rows, EVENTS)
