"""The log in one SQLite file, sealed segments beside it.

What is appended is durable when `append` returns (WAL, synchronous=FULL). Threads that append at once
share a transaction; processes take turns (`sqlite_file`). What is older stands in segments, and is moved,
rewritten and copied by `sqlite_upkeep`.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import compress
from pathlib import Path

import orjson
import polars as pl

from profiles.schema import EVENTS, EXPOSURES, ContractError, microseconds
from profiles.store import Acks, EventStore, Kind, Removed, Status, rows
from profiles.store import sqlite_tables as tables
from profiles.store.appending import Appending
from profiles.store.rows import LOGS, Log
from profiles.store.scanning import Step, walk
from profiles.store.segments import Segment, Segments, lost
from profiles.store.sqlite_file import SQLiteFile
from profiles.store.sqlite_upkeep import Upkeep


class SQLiteStore(EventStore):
    """One SQLite file, and segments in a folder. Safe for several processes and threads."""

    def __init__(self, path: Path, folder: Path | None = None) -> None:
        self.path = path
        self.folder = folder or path.with_suffix("")
        self._file = SQLiteFile(path)
        self._segments = Segments(self.folder)
        self._upkeep = Upkeep(self._file, self._segments)
        self._intake = Appending(self._insert, (ValueError, OverflowError, sqlite3.DataError))
        with self._file.writing() as connection:
            tables.create(connection)
        self._upkeep.resume()

    def append(self, events: pl.DataFrame) -> Acks:
        acks = self._intake.append(events)
        if acks is None:
            return Acks([], self.watermark())
        self._upkeep.resume()
        return acks

    def _insert(self, events: rows.Batch) -> tuple[list[Status], int]:
        """Insert what is new in one transaction; tell what became of each event, and the watermark then."""
        ids = events.ids
        with self._file.writing() as connection:
            held = tables.digests(connection, ids)
            if len(held) < len(ids) and (sealed := tables.segments(connection, "events")):
                rest = [event_id not in held for event_id in ids]
                removals = [*tables.removals(connection).values()]
                try:
                    held |= self._segments.find(
                        sealed, [*compress(ids, rest)], [*compress(events.digests, rest)], removals
                    )
                except FileNotFoundError as error:  # no segment is replaced while this transaction lasts
                    raise lost(error) from error
            statuses, new = rows.judged(ids, events.digests, held)
            tables.insert(connection, "events", [(events.digests[i], *events.rows[i]) for i in new])
            self._upkeep.unfinished = bool(tables.state(connection, "unscrubbed"))
            return statuses, tables.last(connection, "events")

    def _scan(
        self, log: Log, from_seq: int = 0, to_seq: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        names = list(LOGS[log].columns if columns is None else columns)
        stored = ["seq", *names]

        def look(at: int) -> Step:
            with self._file.reading() as connection:
                revision = tables.state(connection, "revision")
                removals = [*tables.removals(connection).values()]
                segment = next(iter(tables.segments(connection, log, at)), None)
                if segment is not None:
                    return Step(revision, segment, removals, None)
                found = tables.unsealed(connection, log, ", ".join(stored), at, end, rows.CHUNK)
            return Step(revision, None, removals, rows.decoded(found, LOGS[log], stored))

        with self._file.reading() as connection:
            end = tables.last(connection, log) if to_seq is None else to_seq
        yield from walk(self._segments, look, self.revision, self._replaced, (from_seq, end), names)

    def _replaced(self, used: Sequence[Segment], error: FileNotFoundError) -> None:
        """Pass over a segment that was replaced while it was read; refuse the loss of one that counts."""
        with self._file.reading() as connection:
            if set(used) <= set(tables.segments(connection)):
                raise lost(error) from error

    def tail(self, user_id: str, n: int, until: datetime, after: int = 0) -> pl.DataFrame:
        names, moment = ["seq", *EVENTS.columns], microseconds(until)
        while True:
            with self._file.reading() as connection:
                sealed = tables.state(connection, "events")
                segments = tables.segments(connection, "events", after) if after < sealed else []
                removals = [*tables.removals(connection).values()] if segments else []
                found = connection.execute(
                    f"select {', '.join(names)} from events where user_id = ? and timestamp <= ? and seq > ? "
                    "order by timestamp desc, seq desc limit ?",
                    (user_id, moment, max(after, sealed), n),
                ).fetchall()
            newest = rows.decoded(found[::-1], EVENTS, names)
            if not segments:
                return newest.drop("seq")
            try:
                older = self._segments.latest(segments, user_id, n, moment, after, removals)
            except FileNotFoundError as error:
                self._replaced(segments, error)
                continue
            both = pl.concat([older.select(names), newest])
            return both.sort("timestamp", "seq").tail(n).drop("seq")

    def watermark(self) -> int:
        with self._file.reading() as connection:
            return tables.last(connection, "events")

    def revision(self) -> int:
        with self._file.reading() as connection:
            return tables.state(connection, "revision")

    def unwritable(self) -> str | None:
        try:
            with self._file.writing() as connection:
                tables.set_state(connection, "unscrubbed", tables.state(connection, "unscrubbed"))
        except (OSError, sqlite3.Error) as error:
            return str(error)
        return None

    def seal(self, keep: int = 0) -> int:
        return self._upkeep.seal(keep)

    def erase(self, users: Sequence[str]) -> Removed:
        return self._upkeep.remove(users=tuple(dict.fromkeys(users)))

    def retain(self, cut: datetime, event_types: Sequence[str] | None = None) -> Removed:
        if cut.tzinfo is None:
            raise ContractError(f"cut = {cut}: a moment needs its time zone")
        types = None if event_types is None else tuple(dict.fromkeys(event_types))
        return self._upkeep.remove(cut=microseconds(cut), event_types=types)

    def backup(self, folder: Path) -> None:
        self._upkeep.backup(folder)

    def restore(self, folder: Path) -> None:
        self._upkeep.restore(folder)

    def put(self, kind: Kind, frame: pl.DataFrame) -> int:
        types, bodies = rows.catalogued(kind, frame)
        with self._file.writing() as connection:
            known = rows.agreed(kind, types, tables.types(connection, kind))
            before = connection.total_changes
            connection.executemany(
                "insert into catalogue values (?, ?, ?) on conflict (kind, id) "
                "do update set body = excluded.body where body != excluded.body",
                [(kind, name, body) for name, body in bodies],
            )
            changed = connection.total_changes - before
            tables.mark(connection, f"{kind}.types", orjson.dumps(known).decode())
        return changed

    def catalogue(self, kind: Kind, only: str | None = None) -> pl.DataFrame:
        one, asked = ("", (kind,)) if only is None else ("and id = ?", (kind, only))
        with self._file.reading() as connection:
            types = tables.types(connection, kind)
            bodies = connection.execute(
                f"select body from catalogue where kind = ? {one} order by id", asked
            ).fetchall()
        return rows.catalogue(kind, types, [body for (body,) in bodies])

    def append_exposures(self, exposures: pl.DataFrame, marks: Mapping[str, str] | None = None) -> None:
        values = rows.encoded(EXPOSURES.conform(exposures))
        with self._file.writing() as connection:
            tables.insert(connection, "exposures", values)
            for name, value in (marks or {}).items():
                tables.mark(connection, name, value)

    def mark(self, name: str, value: str) -> None:
        with self._file.writing() as connection:
            tables.mark(connection, name, value)

    def marks(self) -> Mapping[str, str]:
        with self._file.reading() as connection:
            return dict(connection.execute("select name, value from marks order by name").fetchall())

    def close(self) -> None:
        self._file.close()
