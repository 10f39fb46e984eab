"""The tables of the SQLite store, and what is asked of them within one transaction.

Rows of `events` and `exposures` up to the `sealed` number of their log stand in a segment and no longer
count: one row of `state` decides which copy is the one, and the other is deleted in small steps.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import orjson

from profiles.schema import ContractError
from profiles.store import Kind, Removed
from profiles.store.removals import Removal
from profiles.store.rows import LOGS, Log, Row
from profiles.store.segments import Segment

VERSION = 1
COLUMNS: Mapping[Log, str] = {log: ", ".join(frame.columns) for log, frame in LOGS.items()}
STEP = 2_000  # rows deleted in one transaction
ASKED = 30_000  # ids in one question; SQLite takes 32,766 parameters

_TABLES = f"""
create table if not exists events (
  seq integer primary key autoincrement, digest text not null, event_id text not null unique,
  user_id text not null, item_id text, event_type text not null, timestamp integer not null, value real,
  text text, session_id text, recommendation_id text, properties text);
create index if not exists events_of_user on events (user_id, timestamp, seq);
create table if not exists exposures (seq integer primary key autoincrement, {COLUMNS["exposures"]});
create table if not exists catalogue (kind text, id text, body text not null, primary key (kind, id));
create table if not exists marks (name text primary key, value text not null);
create table if not exists segments (
  name text primary key, kind text not null, first integer not null, last integer not null,
  rows integer not null, earliest integer not null, latest integer not null, seal text not null);
create table if not exists removals (
  id integer primary key autoincrement, body text, events integer not null default 0,
  exposures integer not null default 0);
create table if not exists state (name text primary key, value integer not null);
insert or ignore into state values ('events', 0), ('exposures', 0), ('revision', 0), ('unscrubbed', 0);
"""

_KEPT = ("events", "exposures", "catalogue", "marks", "segments", "removals", "state", "sqlite_sequence")


def create(connection: sqlite3.Connection) -> None:
    """Make the tables; rebuild those of an older version."""
    (version,) = connection.execute("pragma user_version").fetchone()
    if version == VERSION:
        return
    if version > VERSION:
        raise ContractError(f"the store is of version {version}; this program knows those up to {VERSION}")
    old = connection.execute("select 1 from sqlite_schema where name = 'exposures'").fetchone()
    if version == 0 and old:  # its sequence numbers could be given out again
        connection.execute("alter table exposures rename to exposures_0")
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)
    if version == 0 and old:
        names = f"seq, {COLUMNS['exposures']}"
        connection.execute(f"insert into exposures ({names}) select {names} from exposures_0")
        connection.execute("drop table exposures_0")
    connection.execute(f"pragma user_version = {VERSION}")


def state(connection: sqlite3.Connection, name: str) -> int:
    """Return a number of the store: `events`, `exposures` (sealed up to), `revision`, `unscrubbed`."""
    (value,) = connection.execute("select value from state where name = ?", (name,)).fetchone()
    return int(value)


def set_state(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Set one of those numbers."""
    connection.execute("update state set value = ? where name = ?", (value, name))


def last(connection: sqlite3.Connection, log: Log) -> int:
    """Return the highest sequence number ever given out in a log."""
    row = connection.execute("select seq from sqlite_sequence where name = ?", (log,)).fetchone()
    return int(row[0]) if row else 0


def unsealed(
    connection: sqlite3.Connection, log: Log, columns: str, after: int, upto: int, most: int
) -> list[Row]:
    """Return the first `most` rows with after < seq <= upto that are in no segment, in order."""
    return connection.execute(
        f"select {columns} from {log} where seq > ? and seq <= ? order by seq limit ?",
        (max(after, state(connection, log)), upto, most),
    ).fetchall()


def newest_but(connection: sqlite3.Connection, log: Log, keep: int) -> int:
    """Return the sequence number of the newest unsealed row but `keep`; 0 where there are not so many."""
    row = connection.execute(
        f"select seq from {log} where seq > ? order by seq desc limit 1 offset ?",
        (state(connection, log), keep),
    ).fetchone()
    return int(row[0]) if row else 0


def segments(connection: sqlite3.Connection, log: Log | None = None, after: int = 0) -> list[Segment]:
    """Return the registered segments that reach beyond `after`, in order."""
    rows = connection.execute(
        "select name, kind, first, last, rows, earliest, latest, seal from segments "
        "where kind = coalesce(?, kind) and last > ? order by kind, first",
        (log, after),
    )
    return [Segment(*row) for row in rows]


def register(connection: sqlite3.Connection, new: Segment | None, old: str | None = None) -> None:
    """Let one segment count in place of another."""
    connection.execute("delete from segments where name = ?", (old,))
    if new is not None:
        values = (new.name, new.kind, new.first, new.last, new.rows, new.earliest, new.latest, new.seal)
        connection.execute("insert into segments values (?, ?, ?, ?, ?, ?, ?, ?)", values)


def removals(connection: sqlite3.Connection) -> dict[int, Removal]:
    """Return what has begun to be taken out and may still stand in a segment, by number."""
    rows = connection.execute("select id, body from removals where body is not null order by id")
    return {number: Removal.of(body) for number, body in rows}


def begin_removal(connection: sqlite3.Connection, removal: Removal) -> int:
    """Take the rows out that stand in a table, and remember to take out the others; returns its number."""
    number = connection.execute("insert into removals (body) values (?)", (removal.body,)).lastrowid
    assert number is not None
    for log in LOGS:
        for condition, values in _conditions(removal, log):
            sealed = state(connection, log)
            counted = connection.execute(
                f"delete from {log} where seq > ? and {condition}", (sealed, *values)
            )
            add_to_removal(connection, number, log, counted.rowcount)
            connection.execute(f"delete from {log} where {condition}", values)
    users = [(user,) for user in removal.users or ()]
    connection.executemany("delete from catalogue where kind = 'users' and id = ?", users)
    set_state(connection, "revision", state(connection, "revision") + 1)
    set_state(connection, "unscrubbed", 1)
    return number


def add_to_removal(connection: sqlite3.Connection, number: int, log: Log, rows: int) -> None:
    """Count rows that a removal has taken out."""
    connection.execute(f"update removals set {log} = {log} + ? where id = ?", (rows, number))


def end_removals(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Forget what was to be taken out; the counts stay for whoever began it."""
    connection.executemany("update removals set body = null where id = ?", [(n,) for n in numbers])


def removed(connection: sqlite3.Connection, number: int) -> Removed:
    """Return what a removal took out, and drop it."""
    row = connection.execute("select events, exposures from removals where id = ?", (number,)).fetchone()
    connection.execute("delete from removals where id = ?", (number,))
    return Removed(*row)


def twice(connection: sqlite3.Connection, log: Log) -> bool:
    """Whether rows that stand in a segment still stand in the table, too."""
    first = connection.execute(f"select min(seq) from {log}").fetchone()[0]
    return first is not None and int(first) <= state(connection, log)


def drop_sealed(connection: sqlite3.Connection, log: Log) -> bool:
    """Delete rows that stand in a segment, too; returns whether there may be more.

    Where little is left, that is put aside and the table emptied, which takes no time for each row.
    """
    sealed = state(connection, log)
    left = connection.execute(
        f"select seq from {log} where seq > ? limit 1 offset {STEP}", (sealed,)
    ).fetchone()
    if left is None:
        connection.execute(f"create table aside as select * from {log} where seq > ?", (sealed,))
        connection.execute(f"delete from {log}")
        connection.execute(f"insert into {log} select * from aside")
        connection.execute("drop table aside")
        return False
    bound = connection.execute(f"select seq from {log} order by seq limit 1 offset {STEP - 1}").fetchone()[0]
    connection.execute(f"delete from {log} where seq <= ?", (min(bound, sealed),))
    return bool(bound < sealed)


def digests(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the digest of each of these event ids that stands in the table."""
    held: dict[str, str] = {}
    for places, asked in _asked(ids):
        held.update(
            connection.execute(f"select event_id, digest from events where event_id in {places}", asked)
        )
    return held


def insert(connection: sqlite3.Connection, log: Log, rows: Sequence[Row]) -> None:
    """Insert rows of a log; those of events begin with their digest."""
    columns = f"digest, {COLUMNS[log]}" if log == "events" else COLUMNS[log]
    marks = ", ".join("?" * (columns.count(",") + 1))
    connection.executemany(f"insert into {log} ({columns}) values ({marks})", rows)


def mark(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Remember a fact."""
    connection.execute("insert or replace into marks values (?, ?)", (name, value))


def types(connection: sqlite3.Connection, kind: Kind) -> dict[str, str]:
    """Return the attributes of a catalogue and the type each is kept as."""
    row = connection.execute("select value from marks where name = ?", (f"{kind}.types",)).fetchone()
    found: dict[str, str] = orjson.loads(row[0]) if row else {}
    return found


def empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever kept."""
    if any(last(connection, log) for log in LOGS):
        return False
    return not any(
        connection.execute(f"select 1 from {t} limit 1").fetchone() for t in ("catalogue", "marks")
    )


def take_over(connection: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    """Fill empty tables from those of another database of this version."""
    for table in _KEPT:
        connection.execute(f"delete from {table}")
        found = copy.execute(f"select * from {table}")
        marks = ", ".join("?" * len(found.description))
        connection.executemany(f"insert into {table} values ({marks})", found)
    # Whoever has read the empty store must not take what it read for still true.
    set_state(connection, "revision", state(connection, "revision") + 1)


def _conditions(removal: Removal, log: Log) -> list[tuple[str, Sequence[object]]]:
    if removal.users is not None:
        return [(f"user_id in {places}", asked) for places, asked in _asked(removal.users)]
    if removal.event_types is None:
        return [("timestamp < ?", (removal.cut,))]
    if log == "exposures":
        return []
    return [("timestamp < ? and event_type = ?", (removal.cut, name)) for name in removal.event_types]


def _asked(names: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield names as parameters, for SQLite's json_each ends a string at a NUL: "(?, ?)" and the two."""
    for start in range(0, len(names), ASKED):
        asked = names[start : start + ASKED]
        yield f"({', '.join('?' * len(asked))})", asked
