"""The tables of a log in PostgreSQL, and the locks of those who write them.

Text is kept to the letter under the collation "C"; see `postgres_rows` for NUL. It may be longer than an
index takes, so what is looked up by text is indexed by its BLAKE2b. Times are microseconds since 1970.
"""

from typing import Any, Literal
from uuid import uuid4

import polars as pl
import sqlalchemy as sa

from profiles.schema import ContractError, Frame
from profiles.store.rows import LOGS, Log

FORMAT = 1  # of these tables; raise it when they change

TABLES = sa.MetaData()
_TEXT = sa.Text(collation="C")


def _columns(frame: Frame) -> list[sa.Column[Any]]:
    types: dict[pl.DataType, Any] = {pl.String(): _TEXT, pl.Float64(): sa.Double()}
    return [
        sa.Column(name, types.get(column.dtype, sa.BigInteger()), nullable=column.optional)
        for name, column in frame.columns.items()
    ]


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False)


LOG = sa.Table(  # one row
    "attune_log",
    TABLES,
    sa.Column("format", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False),  # names the folder of its segments
    sa.Column("events", sa.BigInteger, nullable=False),  # the last sequence numbers given
    sa.Column("exposures", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("unclean", sa.Boolean, nullable=False),  # what was taken out is still on the disk
)
EVENT_TAIL = sa.Table(  # events that are not sealed
    "attune_events",
    TABLES,
    _seq(),
    sa.Column("key", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("user_key", sa.BigInteger, nullable=False),
    *_columns(LOGS["events"]),
)
sa.Index("attune_events_of_user", EVENT_TAIL.c.user_key, EVENT_TAIL.c.timestamp, EVENT_TAIL.c.seq)
EXPOSURE_TAIL = sa.Table("attune_exposures", TABLES, _seq(), *_columns(LOGS["exposures"]))
TAILS: dict[Log, sa.Table] = {"events": EVENT_TAIL, "exposures": EXPOSURE_TAIL}
CATALOGUE = sa.Table(
    "attune_catalogue",
    TABLES,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("id", _TEXT, nullable=False),
    sa.Column("body", _TEXT, nullable=False),
)
TYPES = sa.Table(  # of the attributes in a catalogue, as one JSON object
    "attune_types",
    TABLES,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("types", _TEXT, nullable=False),
)
MARKS = sa.Table(
    "attune_marks",
    TABLES,
    sa.Column("name", _TEXT, primary_key=True),
    sa.Column("value", _TEXT, nullable=False),
)
SEGMENTS = sa.Table(
    "attune_segments",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    *(
        sa.Column(name, sa.BigInteger, nullable=False)
        for name in ("first", "last", "rows", "earliest", "latest")
    ),
    sa.Column("seal", sa.Text, nullable=False),
)
REMOVALS = sa.Table(  # with a body: what no read shows though segments may hold it; without: a record
    "attune_removals",
    TABLES,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),  # that it began
    sa.Column("body", _TEXT),
    *(sa.Column(kind, sa.BigInteger, nullable=False) for kind in LOGS),  # how many were taken out
)

_LOCK = "hashtextextended('attune {} ' || current_database() || ' ' || current_schema(), 0)"
# The server may be set to trade durability for speed; a writer that hangs must not hold the lock for ever.
_APPEND_LOCK = sa.text(
    f"select pg_advisory_xact_lock({_LOCK.format('append')}), "
    "case current_setting('synchronous_commit') when 'off' then set_config('synchronous_commit', 'on', true) "
    "end, set_config('idle_in_transaction_session_timeout', '60s', true)"
)
# Read from the table itself: `to_regclass` may remember what was not there before the lock was waited for.
_THERE = sa.text(
    "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relname = 'attune_log' and n.nspname = current_schema())"
)
_REMOVE_LOCK = sa.text(f"select pg_advisory_xact_lock({_LOCK.format('remove')})")
_TRY_LOCK = {
    name: sa.text(f"select pg_try_advisory_lock({_LOCK.format(name)})") for name in ("queue", "upkeep")
}
_LEAVE_QUEUE = sa.text(f"select pg_advisory_unlock({_LOCK.format('queue')})")


def prepare(connection: sa.Connection) -> str:
    """Make the tables where they are not; refuse those of another version; return the log's id.

    Any number of processes may try at once.
    """
    if (encoding := connection.scalar(sa.text("show server_encoding"))) != "UTF8":
        raise ContractError(f"the database keeps text as {encoding}; create one with encoding 'UTF8'")
    if not connection.scalar(_THERE):
        take_append_lock(connection)
        if not connection.scalar(_THERE):
            _create(connection)
    held = connection.scalar(sa.select(LOG.c.format))
    if held != FORMAT:
        raise ContractError(f"the tables of this log have format {held}, this version reads {FORMAT}")
    return str(connection.scalar(sa.select(LOG.c.id)))


def _create(connection: sa.Connection) -> None:
    TABLES.create_all(connection)
    for table in TABLES.sorted_tables:
        for column in table.c:
            if column.type is _TEXT:  # statistics would keep what people wrote after it is taken out
                change = f'alter table {table.name} alter column "{column.name}" set statistics 0'
                connection.execute(sa.text(change))
    connection.execute(
        LOG.insert().values(format=FORMAT, id=uuid4().hex, events=0, exposures=0, revision=0, unclean=False)
    )


def take_append_lock(connection: sa.Connection) -> None:
    """Wait until no other transaction appends, so that events are committed in the order of their numbers.

    What was committed before is visible to the next statement, not to this one.
    """
    connection.execute(_APPEND_LOCK)


def take_remove_lock(connection: sa.Connection) -> None:
    """Wait until no other transaction takes rows out of the tails; before the append lock, where both are."""
    connection.execute(_REMOVE_LOCK)


def try_lock(connection: sa.Connection, name: Literal["queue", "upkeep"]) -> bool:
    """Try to take a lock that is held until the connection is closed.

    Who has `upkeep` is the one that writes and removes segments; who has `queue` is the next.
    """
    return bool(connection.scalar(_TRY_LOCK[name]))


def leave_queue(connection: sa.Connection) -> None:
    """Let another be the next."""
    connection.execute(_LEAVE_QUEUE)
