"""What a log in PostgreSQL needs done besides appending: sealing, and taking rows out for good.

One connection at a time does it, under the upkeep lock, which falls when that connection dies. Reads and
appends go on; they wait only while `vacuum full` writes a tail anew, so seal before tails grow large.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Literal

import polars as pl
import psycopg
import sqlalchemy as sa

from profiles.schema import ContractError
from profiles.store import rows
from profiles.store.postgres_rows import (
    any_of,
    escaped,
    log_row,
    pending,
    registered,
    tail_rows,
    text_key,
    user_key,
)
from profiles.store.postgres_server import Server, driver_of
from profiles.store.postgres_tables import (
    CATALOGUE,
    LOG,
    REMOVALS,
    SEGMENTS,
    TAILS,
    leave_queue,
    take_append_lock,
    take_remove_lock,
    try_lock,
)
from profiles.store.removals import Removal
from profiles.store.rows import Log
from profiles.store.segments import Segments, batched, lost

POLL = 0.05  # seconds between two looks whether a lock is free
PAUSE = timedelta(seconds=1)  # the longest that readers queue behind a vacuum that itself has to wait


@contextmanager
def upkeep(server: Server) -> Iterator[sa.Connection]:
    """Wait for the turn, and yield the one connection that may write and remove segments.

    Who has just had it cannot overtake who waits, neither in a process nor among them.
    """
    with server.queue:
        server.turn.acquire()
    try:
        with server.alone() as connection:
            _wait(connection, "queue")
            _wait(connection, "upkeep")
            with connection.begin():
                leave_queue(connection)
            yield connection
    finally:
        server.turn.release()


@contextmanager
def upkeep_now(server: Server) -> Iterator[sa.Connection | None]:
    """Yield that connection, or None where it is another's turn."""
    if not server.turn.acquire(blocking=False):
        yield None
        return
    try:
        with server.alone() as connection:
            with connection.begin():
                mine = try_lock(connection, "upkeep")
            yield connection if mine else None
    finally:
        server.turn.release()


def _wait(connection: sa.Connection, name: Literal["queue", "upkeep"]) -> None:
    """Ask for a lock until it is free: a statement that waits would keep alive what its holder removes."""
    while True:
        with connection.begin():
            if try_lock(connection, name):
                return
        time.sleep(POLL)


# Sealing


def seal(connection: sa.Connection, segments: Segments, keep: int) -> int:
    """Move all but the newest `keep` events, and all exposures, into segments; return how many events."""
    segments.sweep(_names(connection))
    keeps: dict[Log, int] = {"events": keep, "exposures": 0}
    moved = {
        kind: sum(
            _move(connection, segments, kind, frame) for frame in batched(_tail(connection, kind, newest))
        )
        for kind, newest in keeps.items()
    }
    return moved["events"]


def _tail(connection: sa.Connection, kind: Log, keep: int) -> Iterator[pl.DataFrame]:
    """Yield all but the newest `keep` rows of a tail, each frame read by a transaction of its own."""
    seq = TAILS[kind].c.seq
    with connection.begin():
        last = connection.scalar(sa.select(seq).order_by(seq.desc()).offset(keep).limit(1))
    after = 0
    while last is not None and after < last:
        with connection.begin():
            frame = tail_rows(connection, kind, after, last, rows.CHUNK)
        if not len(frame):
            return
        yield frame
        after = frame["seq"][-1]


def _move(connection: sa.Connection, segments: Segments, kind: Log, frame: pl.DataFrame) -> int:
    """Write rows as a segment, then register it and delete them at once; return how many."""
    table = TAILS[kind]
    span = int(frame["seq"][0]), int(frame["seq"][-1])
    while len(frame):
        with connection.begin():
            revision = log_row(connection).revision
        segment = segments.write(kind, frame, revision, span)
        with connection.begin() as transaction:
            take_remove_lock(connection)
            gone = connection.execute(sa.delete(table).where(table.c.seq.between(*span)))
            if gone.rowcount == len(frame):
                connection.execute(SEGMENTS.insert().values(**asdict(segment)))
                return len(frame)
            transaction.rollback()
        # Some were taken out since they were read: write what is left.
        segments.sweep(_names(connection))
        with connection.begin():
            frame = tail_rows(connection, kind, span[0] - 1, span[1])
    return 0


# Taking out


def remove(
    connection: sa.Connection,
    users: tuple[str, ...] | None = None,
    cut: int | None = None,
    event_types: tuple[str, ...] | None = None,
) -> int:
    """Take out of the tails, and hide from every read of segments, what `Removal` says; return its number.

    It is one transaction; `tidy` then takes it out of the segments and off the disk.
    """
    take_remove_lock(connection)
    take_append_lock(connection)
    log = log_row(connection)
    removal = Removal(log.events, log.exposures, users, cut, event_types)
    taken = {
        kind: connection.execute(sa.delete(table).where(_named(table, removal))).rowcount
        for kind, table in TAILS.items()
    }
    if users is not None:
        keys = any_of([text_key(user) for user in users], sa.LargeBinary)
        connection.execute(sa.delete(CATALOGUE).where(CATALOGUE.c.kind == "users", CATALOGUE.c.key == keys))
    number = int(log.revision) + 1
    connection.execute(REMOVALS.insert().values(revision=number, body=removal.body, **taken))
    connection.execute(LOG.update().values(revision=number, unclean=True))
    return number


def _named(table: sa.Table, removal: Removal) -> sa.ColumnElement[bool]:
    """Whether a row of a tail is one of those to be taken out: `Removal.matches`, in SQL."""
    if removal.users is not None:
        named: sa.ColumnElement[bool] = table.c.user_id == any_of(
            [escaped(user) for user in removal.users], sa.Text
        )
        if "user_key" in table.c:
            named &= table.c.user_key == any_of([user_key(user) for user in removal.users], sa.BigInteger)
        return named
    old: sa.ColumnElement[bool] = table.c.timestamp < removal.cut
    if removal.event_types is None:
        return old
    if "event_type" not in table.c:
        return sa.false()
    return sa.and_(old, table.c.event_type == any_of([escaped(n) for n in removal.event_types], sa.Text))


def tidy(connection: sa.Connection, segments: Segments, patience: timedelta) -> None:
    """Finish every removal begun, by whomever: rewrite segments, then let no dead row keep a byte.

    Raises ContractError where transactions of others keep dead rows for longer than `patience`.
    """
    with connection.begin():
        log = log_row(connection)
        removals = {number: r for number, r in pending(connection).items() if number <= log.revision}
        held = registered(connection)
    if not log.unclean:
        return
    for segment in held if removals else ():
        try:
            left, taken = segments.without(segment, list(removals.values()), log.revision)
        except FileNotFoundError as error:
            raise lost(error) from error
        if left is segment:
            continue
        counted = REMOVALS.c[segment.kind]
        with connection.begin():
            take_append_lock(connection)
            connection.execute(SEGMENTS.delete().where(SEGMENTS.c.name == segment.name))
            if left:
                connection.execute(SEGMENTS.insert().values(**asdict(left)))
            for number, count in zip(removals, taken, strict=True):
                more = REMOVALS.update().values({counted: counted + count})
                connection.execute(more.where(REMOVALS.c.revision == number))
    with connection.begin():
        done = any_of(list(removals), sa.BigInteger)
        connection.execute(REMOVALS.update().values(body=None).where(REMOVALS.c.revision == done))
    segments.sweep(_names(connection))
    deadline = time.monotonic() + patience.total_seconds()
    for table in (*TAILS.values(), CATALOGUE, REMOVALS):
        _vacuum(connection, table.name, deadline)
    with connection.begin():
        clean = LOG.update().values(unclean=False)
        connection.execute(clean.where(LOG.c.revision == log.revision))


def _names(connection: sa.Connection) -> list[str]:
    with connection.begin():
        return [segment.name for segment in registered(connection)]


def _vacuum(connection: sa.Connection, table: str, deadline: float) -> None:
    """Write a table anew without its dead rows, when nobody needs them any more."""
    while True:
        begun = time.monotonic()
        kept = _vacuumed(connection, table)
        if kept == 0:
            return
        if time.monotonic() >= deadline:
            raise ContractError(
                f"{table}: what was taken out is shown to no one, but an old transaction keeps its rows on "
                "the disk: end it (pg_stat_activity, pg_prepared_xacts, pg_replication_slots); the next "
                "writer then finishes"
            )
        time.sleep(max(0.1, time.monotonic() - begun))  # readers get half of the time


def _vacuumed(connection: sa.Connection, table: str) -> int | None:
    """Return how many dead rows `vacuum full` had to keep; None where it found the table in use."""
    kept: list[int] = []

    def note(message: psycopg.errors.Diagnostic) -> None:
        # "3 dead row versions cannot be removed yet.", in the server's language.
        found = re.match(r"\D*(\d+)", message.message_detail or "")
        if found and message.source_function == "copy_table_data":
            kept.append(int(found[1]))

    driver = driver_of(connection)
    driver.autocommit = True
    driver.add_notice_handler(note)
    try:
        driver.execute(f"set lock_timeout = {PAUSE // timedelta(milliseconds=1)}")
        driver.execute(f"vacuum (full, verbose) {table}")
    except psycopg.errors.LockNotAvailable:
        return None
    finally:
        driver.remove_notice_handler(note)
        if not driver.closed:
            driver.execute("reset lock_timeout")
            driver.autocommit = False
    if not kept:
        raise ContractError(f"{table}: this user may not vacuum it; give the address of the user who made it")
    return kept[-1]
