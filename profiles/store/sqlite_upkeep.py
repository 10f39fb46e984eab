"""Sealing, taking out, copying and sweeping of the SQLite store: one at a time, over all processes.

Each step writes files first, durable, and then decides in one transaction that they count. A kill leaves
either a folder that does not count, which the next one sweeps away, or a step that the next one finishes.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl

from profiles import manifest
from profiles.schema import ContractError
from profiles.store import Removed, rows
from profiles.store import sqlite_tables as tables
from profiles.store.removals import Removal
from profiles.store.rows import LOGS, Log
from profiles.store.segments import Segments, batched, lost
from profiles.store.sqlite_file import SQLiteFile

DATABASE = "log.db"  # in a backup
PAUSE = 60  # seconds before another attempt at what a kill has left


class Upkeep:
    """What is done to a store as a whole."""

    def __init__(self, file: SQLiteFile, segments: Segments) -> None:
        self._file = file
        self._segments = segments
        self._not_before = 0.0
        self.unfinished = True  # a kill may have left something; the last transaction knows

    def resume(self) -> None:
        """Finish what a kill has left, unless another is at work.

        Where that fails (a full disk, a damaged segment) what was to be taken out stays hidden, and the
        next writer tries again after a while; whoever asks for upkeep is told.
        """
        if not self.unfinished or time.monotonic() < self._not_before:
            return
        try:
            with self._file.upkeep(wait=False) as mine:
                if mine:
                    self._finish()
        except (OSError, sqlite3.Error, ContractError):
            self._not_before = time.monotonic() + PAUSE

    def seal(self, keep: int) -> int:
        """Move rows into segments; returns how many events."""
        if keep < 0:
            raise ContractError(f"keep = {keep}: a number of events is 0 or more")
        with self._file.upkeep():
            self._finish()
            self._seal("exposures", 0)
            return self._seal("events", keep)

    def remove(
        self,
        users: tuple[str, ...] | None = None,
        cut: int | None = None,
        event_types: tuple[str, ...] | None = None,
    ) -> Removed:
        """Take rows out: hidden by the first transaction, gone from every file at the end."""
        if users == () or event_types == ():
            return Removed()
        with self._file.writing() as connection:
            upto = {log: tables.last(connection, log) for log in LOGS}
            removal = Removal(upto["events"], upto["exposures"], users, cut, event_types)
            connection.execute("pragma secure_delete = on")
            number = tables.begin_removal(connection, removal)
            connection.execute("pragma secure_delete = off")
        with self._file.upkeep():
            self._finish()
            with self._file.writing() as connection:
                return tables.removed(connection, number)

    def backup(self, folder: Path) -> None:
        """Copy the database as of one moment, and the segments that count in it."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ContractError(f"{folder}: a backup needs an empty folder, or none yet")
        with self._file.upkeep():
            self._finish()
            if folder.exists():
                folder.rmdir()
            with manifest.building(folder, {"store": "sqlite", "version": tables.VERSION}) as place:
                with closing(sqlite3.connect(place / DATABASE, isolation_level=None)) as copy:
                    with self._file.reading() as connection:
                        connection.backup(copy)
                    copy.execute("pragma journal_mode = delete")  # one file, nothing beside it
                    held = tables.segments(copy)
                for segment in held:
                    Segments(place).copy(segment, self._segments)

    def restore(self, folder: Path) -> None:
        """Take a backup in: its segments first, then its rows in one transaction."""
        about = manifest.verify(folder)
        if (about.get("store"), about.get("version")) != ("sqlite", tables.VERSION):
            raise ContractError(f"{folder}: not a backup of a SQLite store of version {tables.VERSION}")
        address = f"{(folder / DATABASE).resolve().as_uri()}?mode=ro&immutable=1"
        with self._file.upkeep(), closing(sqlite3.connect(address, uri=True)) as copy:
            self._finish()
            with self._file.reading() as connection:
                self._refuse_unless_empty(connection)
            for segment in tables.segments(copy):
                self._segments.copy(segment, Segments(folder))
            with self._file.writing() as connection:
                self._refuse_unless_empty(connection)
                tables.take_over(connection, copy)
            self._finish()

    def _refuse_unless_empty(self, connection: sqlite3.Connection) -> None:
        if not tables.empty(connection):
            raise ContractError(f"{self._file.path}: this store holds something; restore into a new one")

    def _seal(self, log: Log, keep: int) -> int:
        moved = 0
        with self._file.reading() as connection:
            upto = tables.newest_but(connection, log, keep)
        while True:
            with self._file.reading() as connection:
                revision, sealed = tables.state(connection, "revision"), tables.state(connection, log)
            frame = next(batched(self._unsealed(log, sealed, upto)), None)
            if frame is None:
                break
            segment = self._segments.write(log, frame, revision, (sealed + 1, frame["seq"][-1]))
            with self._file.writing() as connection:
                if tables.state(connection, "revision") != revision:
                    continue  # some of these rows have been taken out since they were read
                tables.register(connection, segment)
                tables.set_state(connection, log, segment.last)
            moved += segment.rows
        if moved:
            self._drop_sealed(log)
            self._file.shrink()
        return moved

    def _unsealed(self, log: Log, at: int, upto: int) -> Iterator[pl.DataFrame]:
        names = ["seq", *LOGS[log].columns]
        while True:
            with self._file.reading() as connection:
                found = tables.unsealed(connection, log, ", ".join(names), at, upto, rows.CHUNK)
            if not found:
                return
            part = rows.decoded(found, LOGS[log], names)
            at = part["seq"][-1]
            yield part

    def _drop_sealed(self, log: Log) -> None:
        more = True
        while more:
            with self._file.writing() as connection:
                more = tables.drop_sealed(connection, log)

    def _finish(self) -> None:
        """Do what was decided and may have been left undone: rows, segments, folders, bytes."""
        with self._file.reading() as connection:
            leftover = [log for log in LOGS if tables.twice(connection, log)]
            registered, removals = tables.segments(connection), tables.removals(connection)
            revision, unscrubbed = (tables.state(connection, n) for n in ("revision", "unscrubbed"))
        for log in leftover:
            self._drop_sealed(log)
        for old in registered if removals else ():
            try:
                new, counts = self._segments.without(old, [*removals.values()], revision)
            except FileNotFoundError as error:
                raise lost(error) from error
            if new == old:
                continue
            with self._file.writing() as connection:
                tables.register(connection, new, old.name)
                for number, count in zip(removals, counts, strict=True):
                    tables.add_to_removal(connection, number, old.kind, count)
        with self._file.reading() as connection:
            self._segments.sweep({segment.name for segment in tables.segments(connection)})
        if unscrubbed:
            with self._file.writing() as connection:
                tables.end_removals(connection, [*removals])
            self._file.scrub()
            with self._file.writing() as connection:  # another removal may have begun meanwhile
                tables.set_state(connection, "unscrubbed", int(bool(tables.removals(connection))))
