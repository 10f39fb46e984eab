"""How frames go into PostgreSQL's tables and come out, within one transaction.

PostgreSQL's text holds no NUL character: `\\0` is stored as `\\x01\\x01` and `\\x01` as `\\x01\\x02`; both
come back as they were, and sort as before.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeVar, cast

import orjson
import polars as pl
import sqlalchemy as sa
from polars import selectors as cs
from sqlalchemy.dialects import postgresql

from profiles.store import Kind, Removed
from profiles.store.postgres_server import driver_of
from profiles.store.postgres_tables import CATALOGUE, EVENT_TAIL, LOG, MARKS, REMOVALS, SEGMENTS, TAILS, TYPES
from profiles.store.removals import Removal
from profiles.store.rows import LOGS, Batch, Log, Row, decoded
from profiles.store.segments import Segment

STEP = 10_000  # rows of a catalogue in one statement

T = TypeVar("T")
_USER = [*LOGS["events"].columns].index("user_id")


def text_key(text: str) -> bytes:
    """Return what stands for an id in an index."""
    return blake2b(text.encode(), digest_size=16).digest()


def user_key(user_id: str) -> int:
    """Return what stands for a user in the index of events, in half the space; two users may share it."""
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8).digest(), "big", signed=True)


def copy_in(connection: sa.Connection, table: sa.Table, rows: Iterable[Sequence[object]]) -> None:
    """Insert whole rows, in the table's order of columns (three times as fast as INSERT)."""
    types = {sa.BigInteger: "int8", sa.Text: "text", sa.Double: "float8", sa.LargeBinary: "bytea"}
    driver = driver_of(connection)
    names = ", ".join(f'"{column.name}"' for column in table.c)
    with driver.cursor() as cursor, cursor.copy(f"copy {table.name} ({names}) from stdin binary") as copy:
        copy.set_types([types[type(column.type)] for column in table.c])
        for row in rows:
            copy.write_row(row)


def put_events(connection: sa.Connection, events: Batch, numbers: Sequence[int]) -> None:
    """Insert events under these ascending sequence numbers, and remember the last."""
    if not numbers:
        return
    users = {user: user_key(user) for user in {row[_USER] for row in events.rows}}
    copy_in(
        connection,
        EVENT_TAIL,
        (
            (seq, text_key(row[0]), bytes.fromhex(digest), users[row[_USER]], *map(escaped, row))
            for seq, digest, row in zip(numbers, events.digests, events.rows, strict=True)
        ),
    )
    connection.execute(LOG.update().values(events=numbers[-1]))


def put_exposures(connection: sa.Connection, exposures: Sequence[Row], numbers: Sequence[int]) -> None:
    """Insert EXPOSURES under these ascending sequence numbers, and remember the last."""
    if not numbers:
        return
    numbered = zip(numbers, exposures, strict=True)
    copy_in(connection, TAILS["exposures"], ((seq, *map(escaped, row)) for seq, row in numbered))
    connection.execute(LOG.update().values(exposures=numbers[-1]))


def tail_rows(
    connection: sa.Connection,
    kind: Log,
    after: int = 0,
    last: int = 2**63 - 1,
    limit: int | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return the first rows that are not sealed with numbers in (after, last], in order, with `seq`."""
    table = TAILS[kind]
    names = list(dict.fromkeys([*(LOGS[kind].columns if columns is None else columns), "seq"]))
    asked = sa.select(*(table.c[name] for name in names)).where(table.c.seq > after, table.c.seq <= last)
    found = connection.execute(asked.order_by(table.c.seq).limit(limit))
    return all_plain(decoded(cast("list[Row]", found.fetchall()), LOGS[kind], names))


def latest_rows(connection: sa.Connection, user_id: str, n: int, until: int, after: int) -> pl.DataFrame:
    """Return a user's newest n events that are not sealed, at or before `until`, newest first, with `seq`."""
    table, names = EVENT_TAIL, [*LOGS["events"].columns, "seq"]
    asked = (
        sa.select(*(table.c[name] for name in names))
        .where(table.c.user_key == user_key(user_id), table.c.user_id == escaped(user_id))
        .where(table.c.timestamp <= until, table.c.seq > after)
        .order_by(table.c.timestamp.desc(), table.c.seq.desc())
        .limit(n)
    )
    found = connection.execute(asked)
    return all_plain(decoded(cast("list[Row]", found.fetchall()), LOGS["events"], names))


def held_digests(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the digest of each of these event ids that is not sealed."""
    keys = {text_key(event_id): event_id for event_id in ids}
    asked = sa.select(EVENT_TAIL.c.key, EVENT_TAIL.c.digest).where(
        EVENT_TAIL.c.key == any_of(list(keys), sa.LargeBinary)
    )
    return {keys[key]: digest.hex() for key, digest in connection.execute(asked)}


def any_of(values: Sequence[object], dtype: Any) -> Any:
    """Return SQL's `any` of an array: one parameter, however many values."""
    return sa.any_(sa.literal(list(values), sa.ARRAY(dtype)))


# Text


def escaped(value: T) -> T:
    """Return a value as it is stored: text without NUL, anything else as it is."""
    if isinstance(value, str) and ("\0" in value or "\x01" in value):
        return value.replace("\x01", "\x01\x02").replace("\0", "\x01\x01")  # type: ignore[return-value]
    return value


def all_plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with stored text as it was."""
    found = frame.select(cs.string().str.contains("\x01", literal=True).any())
    names = [column.name for column in found if column.item()]
    plain = pl.col(names).str.replace_many(["\x01\x02", "\x01\x01"], ["\x01", "\0"])
    return frame.with_columns(plain) if names else frame


# The log


def log_row(connection: sa.Connection) -> sa.Row[Any]:
    """Return the one row of LOG."""
    return connection.execute(sa.select(LOG)).one()


def registered(connection: sa.Connection, kind: Log | None = None) -> list[Segment]:
    """Return the segments that count, oldest first."""
    where = sa.true() if kind is None else SEGMENTS.c.kind == kind
    found = connection.execute(sa.select(SEGMENTS).where(where).order_by(SEGMENTS.c.first))
    return [Segment(**row) for row in found.mappings()]


def pending(connection: sa.Connection) -> dict[int, Removal]:
    """Return the removals under way by the revision each began."""
    asked = sa.select(REMOVALS.c.revision, REMOVALS.c.body).where(REMOVALS.c.body.is_not(None))
    found = connection.execute(asked.order_by(REMOVALS.c.revision))
    return {revision: Removal.of(body) for revision, body in found}


def sealed(connection: sa.Connection, kind: Log) -> tuple[list[Segment], list[Removal]]:
    """Return the segments of a log, and what of them is to be hidden."""
    segments = registered(connection, kind)
    return segments, list(pending(connection).values()) if segments else []


def taken_out(connection: sa.Connection, revision: int) -> Removed:
    """Return what a removal took out."""
    asked = sa.select(REMOVALS.c.events, REMOVALS.c.exposures).where(REMOVALS.c.revision == revision)
    return Removed(*connection.execute(asked).one())


# Catalogues and marks


def known_types(connection: sa.Connection, kind: Kind) -> dict[str, str]:
    """Return the type each attribute of a catalogue is kept as."""
    found = connection.scalar(sa.select(TYPES.c.types).where(TYPES.c.kind == kind))
    types: dict[str, str] = orjson.loads(found) if found else {}
    return types


def put_types(connection: sa.Connection, kind: Kind, types: Mapping[str, str]) -> None:
    """Remember the type each attribute of a catalogue is kept as."""
    new = postgresql.insert(TYPES).values(kind=kind, types=orjson.dumps(types).decode())
    connection.execute(new.on_conflict_do_update(index_elements=["kind"], set_={"types": new.excluded.types}))


def put_bodies(connection: sa.Connection, kind: Kind, bodies: Mapping[str, str]) -> int:
    """Insert or replace rows of a catalogue by id; return how many are new or changed."""
    put = sa.text(
        "insert into attune_catalogue select :kind, * from "
        "unnest(cast(:keys as bytea[]), cast(:ids as text[]), cast(:bodies as text[])) "
        "on conflict (kind, key) do update set body = excluded.body "
        "where attune_catalogue.body != excluded.body"
    )
    changed = 0
    rest = iter(bodies.items())
    while part := list(islice(rest, STEP)):
        ids = [row_id for row_id, _ in part]
        values = {"keys": [text_key(i) for i in ids], "ids": [escaped(i) for i in ids]}
        values["bodies"] = [body for _, body in part]
        changed += connection.execute(put, {"kind": kind, **values}).rowcount
    return changed


def bodies(connection: sa.Connection, kind: Kind, only: str | None = None) -> list[str]:
    """Return the rows of a catalogue, or those of one id, sorted by id."""
    asked = sa.select(CATALOGUE.c.body).where(CATALOGUE.c.kind == kind).order_by(CATALOGUE.c.id)
    if only is not None:
        asked = asked.where(CATALOGUE.c.key == text_key(only), CATALOGUE.c.id == escaped(only))
    return list(connection.scalars(asked))


def put_mark(connection: sa.Connection, name: str, value: str) -> None:
    """Remember a fact."""
    new = postgresql.insert(MARKS).values(name=escaped(name), value=escaped(value))
    connection.execute(new.on_conflict_do_update(index_elements=["name"], set_={"value": new.excluded.value}))


def all_marks(connection: sa.Connection) -> dict[str, str]:
    """Return the facts remembered, sorted by name."""
    found = connection.execute(sa.select(MARKS).order_by(MARKS.c.name)).fetchall()
    frame = all_plain(pl.DataFrame(found, schema={"name": pl.String, "value": pl.String}, orient="row"))
    return dict(frame.rows())
