"""The log in PostgreSQL, sealed segments in a folder beside it.

Each append is one transaction that holds one advisory lock and numbers its events inside it: the order
of numbers is the order of commits, so that no reader ever passes a number that is still to come. Each
read sees one moment, the list of segments included. Processes may share a database and its folder.

What is taken out leaves tables, indexes, statistics (`vacuum full`) and segments. Not in this store's
hands: PostgreSQL's write-ahead log holds what was written until its files are used again; archives,
standbys, base backups and a server log that is told to hold values keep them as long as their owners say.

The address must lead to sessions of one's own, not through a pooler that shares them by transaction.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import compress
from pathlib import Path
from typing import Any

import polars as pl

from profiles.schema import EXPOSURES, ContractError, microseconds
from profiles.store import Acks, EventStore, Kind, Removed, Status, rows
from profiles.store.appending import Appending
from profiles.store.rows import LOGS, Log
from profiles.store.scanning import Step, walk
from profiles.store.segments import Segment, Segments, lost

try:
    import psycopg  # noqa: F401 (the driver that SQLAlchemy is told to use)
    import sqlalchemy as sa
except ModuleNotFoundError as error:
    raise ContractError(
        f"a log in PostgreSQL needs {error.name}, which is not installed: pip install 'attune[sql]'"
    ) from error

from profiles.store import postgres_backup
from profiles.store import postgres_rows as pg
from profiles.store.postgres_server import Server
from profiles.store.postgres_tables import prepare, take_append_lock
from profiles.store.postgres_upkeep import remove, seal, tidy, upkeep, upkeep_now

AGAIN = 60  # seconds until another attempt at what a process that died has left
PATIENCE = timedelta(minutes=1)  # for transactions of others that keep what was taken out on the disk

_STORES: "weakref.WeakSet[PostgresStore]" = weakref.WeakSet()


class PostgresStore(EventStore):
    """One database and one folder. Safe for several processes and threads; nothing is opened before use."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self._server = Server(address)
        self._intake = Appending(self._insert, (RuntimeError,))
        self._mutex = threading.Lock()
        self._known: Segments | None = None
        self._unfinished = False  # as the last transaction saw it
        self._not_before = 0.0
        self._closed = False
        _STORES.add(self)

    def append(self, events: pl.DataFrame) -> Acks:
        acks = self._intake.append(events)
        if acks is None:
            return Acks([], self.watermark())
        self._resume()
        return acks

    def _insert(self, events: rows.Batch) -> tuple[list[Status], int]:
        """Insert what is new; tell what became of each event, and the watermark then."""
        with self._appending() as (connection, log):
            # In this order: what is sealed between the two questions was in the tail at the first.
            held = pg.held_digests(connection, events.ids)
            segments, removals = pg.sealed(connection, "events")
            try:
                rest = [event_id not in held for event_id in events.ids]
                asked = [*compress(events.ids, rest)], [*compress(events.digests, rest)]
                held |= self._segments.find(segments, *asked, removals)
            except FileNotFoundError as error:  # none is replaced while the lock is held
                raise lost(error) from error
            statuses, new = rows.judged(events.ids, events.digests, held)
            numbers = range(log.events + 1, log.events + 1 + len(new))
            fresh = rows.Batch([events.digests[n] for n in new], [events.rows[n] for n in new])
            pg.put_events(connection, fresh, numbers)
        return statuses, log.events + len(new)

    def _scan(
        self, log: Log, from_seq: int = 0, to_seq: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        # Up to what was the end when this began; below it nothing changes but what is taken out. So no
        # transaction is open in between: one that lasts for hours would keep what is taken out meanwhile
        # on the disk.
        names = list(LOGS[log].columns if columns is None else columns)
        with self._reading() as connection:
            last = getattr(pg.log_row(connection), log)
        end = last if to_seq is None else min(to_seq, last)

        def look(at: int) -> Step:
            with self._reading() as connection:
                revision = pg.log_row(connection).revision
                segments, removals = pg.sealed(connection, log)
                segment = next((s for s in segments if s.last > at), None)
                tail = None if segment else pg.tail_rows(connection, log, at, end, rows.CHUNK, names)
            return Step(revision, segment, removals, tail)

        yield from walk(self._segments, look, self.revision, self._replaced, (from_seq, end), names)

    def _replaced(self, used: Sequence[Segment], error: FileNotFoundError) -> None:
        """Pass over a segment that was replaced after it was listed; refuse the loss of one that counts."""
        with self._reading() as connection:
            if set(used) <= set(pg.registered(connection)):
                raise lost(error) from error

    def tail(self, user_id: str, n: int, until: datetime, after: int = 0) -> pl.DataFrame:
        moment = microseconds(until)
        while True:
            with self._reading() as connection:
                newest = pg.latest_rows(connection, user_id, n, moment, after)
                segments, removals = pg.sealed(connection, "events")
            try:
                older = self._segments.latest(segments, user_id, n, moment, after, removals)
            except FileNotFoundError as error:
                self._replaced(segments, error)
                continue
            both = pl.concat([older, newest.select(older.columns)])
            return both.sort("timestamp", "seq").tail(n).drop("seq")

    def watermark(self) -> int:
        with self._reading() as connection:
            return int(pg.log_row(connection).events)

    def revision(self) -> int:
        with self._reading() as connection:
            return int(pg.log_row(connection).revision)

    def unwritable(self) -> str | None:
        try:
            with self._writing() as connection:
                connection.execute(sa.text("set local lock_timeout = '5s'"))
                pg.put_mark(connection, "", "")
                connection.rollback()
        except ContractError as error:
            return str(error)
        return None

    def seal(self, keep: int = 0) -> int:
        if keep < 0:
            raise ContractError(f"keep = {keep}: a number of events is 0 or more")
        segments = self._segments
        with upkeep(self._server) as connection:
            tidy(connection, segments, PATIENCE)
            return seal(connection, segments, keep)

    def erase(self, users: Sequence[str]) -> Removed:
        return self._remove(users=tuple(dict.fromkeys(users))) if len(users) else Removed()

    def retain(self, cut: datetime, event_types: Sequence[str] | None = None) -> Removed:
        if cut.tzinfo is None:
            raise ContractError(f"cut = {cut}: a moment needs its time zone")
        types = None if event_types is None else tuple(dict.fromkeys(event_types))
        return Removed() if types == () else self._remove(cut=microseconds(cut), event_types=types)

    def _remove(
        self,
        users: tuple[str, ...] | None = None,
        cut: int | None = None,
        event_types: tuple[str, ...] | None = None,
    ) -> Removed:
        with self._writing() as connection:
            number = remove(connection, users, cut, event_types)
        with upkeep(self._server) as connection:
            tidy(connection, self._segments, PATIENCE)
        with self._reading() as connection:
            return pg.taken_out(connection, number)

    def backup(self, folder: Path) -> None:
        postgres_backup.backup(self._server, self._segments, folder, PATIENCE)

    def restore(self, folder: Path) -> None:
        postgres_backup.restore(self._server, self._segments, folder, PATIENCE)

    def put(self, kind: Kind, frame: pl.DataFrame) -> int:
        types, bodies = rows.catalogued(kind, frame)
        with self._appending() as (connection, _):  # the types are read, then written
            known = rows.agreed(kind, types, pg.known_types(connection, kind))
            changed = pg.put_bodies(connection, kind, dict(bodies))
            pg.put_types(connection, kind, known)
        self._resume()
        return changed

    def catalogue(self, kind: Kind, only: str | None = None) -> pl.DataFrame:
        with self._reading() as connection:
            types, bodies = pg.known_types(connection, kind), pg.bodies(connection, kind, only)
        return rows.catalogue(kind, types, bodies)

    def append_exposures(self, exposures: pl.DataFrame, marks: Mapping[str, str] | None = None) -> None:
        exposures = EXPOSURES.conform(exposures)
        if len(exposures) or marks:
            with self._appending() as (connection, log):
                first = log.exposures + 1
                pg.put_exposures(connection, rows.encoded(exposures), range(first, first + len(exposures)))
                for name, value in (marks or {}).items():
                    pg.put_mark(connection, name, value)
            self._resume()

    def mark(self, name: str, value: str) -> None:
        with self._writing() as connection:
            pg.put_mark(connection, name, value)

    def marks(self) -> Mapping[str, str]:
        with self._reading() as connection:
            return pg.all_marks(connection)

    def close(self) -> None:
        self._closed = True
        self._server.close()

    # Connections

    @property
    def _segments(self) -> Segments:
        return self._ready()

    def _ready(self) -> Segments:
        """Make the tables where they are not, and return the segments of this log."""
        if self._closed:
            raise ContractError(f"{self._server.name}: the store has been closed")
        with self._mutex:
            if self._known is None:
                with self._server.writing() as connection:
                    log = prepare(connection)
                # A folder by the log's own id: what another log left here is not this one's to sweep away.
                self._known = Segments(self.folder / f"postgresql-{log}")
            return self._known

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._ready()
        with self._server.reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        self._ready()
        with self._server.writing() as connection:
            yield connection

    @contextmanager
    def _appending(self) -> Iterator[tuple[sa.Connection, sa.Row[Any]]]:
        """Run one transaction under the lock; yields its connection and the state of the log."""
        with self._writing() as connection:
            take_append_lock(connection)
            log = pg.log_row(connection)
            self._unfinished = log.unclean
            yield connection, log

    def _resume(self) -> None:
        """Finish what a process that died began to take out, unless somebody is at it.

        Where that fails it stays hidden, and the next writer tries again after a while; whoever asks
        for upkeep is told.
        """
        with self._mutex:
            if not self._unfinished or time.monotonic() < self._not_before:
                return
            self._not_before = time.monotonic() + AGAIN
        with suppress(Exception), upkeep_now(self._server) as connection:  # what was asked is committed
            if connection is not None:
                tidy(connection, self._segments, timedelta(0))
                self._unfinished, self._not_before = False, 0.0


def _forget() -> None:
    """In a child process: leave the parent's connections, and the locks that its threads hold, alone."""
    for store in list(_STORES):
        store._mutex = threading.Lock()
        store._server.forget()


os.register_at_fork(after_in_child=_forget)
