"""The log's contract: an event is acknowledged once, kept once, and read in the order it was committed.

`EventStore` is what every store keeps; `open_store` opens the one an address names. Behind it stand one
SQLite file (`sqlite`) and PostgreSQL (`postgres`). Both move closed ranges of events into
sealed segments (`segments`): a reader never sees an event in both places, nor in neither.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl

from profiles.schema import EVENTS, EXPOSURES, ITEMS, USERS, ContractError, Frame

Status = Literal["accepted", "duplicate", "conflict"]
Kind = Literal["items", "users"]
CATALOGUES: dict[Kind, Frame] = {"items": ITEMS, "users": USERS}


@dataclass(frozen=True)
class Acks:
    """What became of each event of a batch, in its order, and the store's sequence number after it."""

    statuses: Sequence[Status]
    watermark: int

    def count(self, status: Status) -> int:
        """Count the events of one status."""
        return sum(s == status for s in self.statuses)


@dataclass(frozen=True)
class Removed:
    """How many rows were taken out of the log, for good."""

    events: int = 0
    exposures: int = 0


class EventStore(ABC):
    """Events, exposures and the catalogue of one workspace."""

    @abstractmethod
    def append(self, events: pl.DataFrame) -> Acks:
        """Commit EVENTS. Same id and content: duplicate; same id, other content: conflict, not stored."""

    def scan(
        self, from_seq: int = 0, to_seq: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yield EVENTS with sequence numbers in (from_seq, to_seq], in order, in bounded batches.

        `columns` names those that are wanted; all where it is None.
        """
        unknown = [name for name in columns or () if name not in EVENTS.columns]
        if unknown:
            raise ContractError(f"EVENTS: column {unknown[0]!r} is not one of {[*EVENTS.columns]}")
        return self._scan("events", from_seq, to_seq, columns)

    @abstractmethod
    def _scan(
        self,
        log: Literal["events", "exposures"],
        from_seq: int = 0,
        to_seq: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield a log step by step, each from one moment; nothing is held while its rows are used."""

    @abstractmethod
    def tail(self, user_id: str, n: int, until: datetime, after: int = 0) -> pl.DataFrame:
        """Return a user's latest n EVENTS at or before `until` with a sequence number above `after`.

        Oldest first; events of one moment in the order they were committed.
        """

    @abstractmethod
    def watermark(self) -> int:
        """Return the sequence number of the last committed event, 0 when there is none. It never falls."""

    @abstractmethod
    def revision(self) -> int:
        """Return how many times events were taken out: what was read under another number is out of date."""

    @abstractmethod
    def unwritable(self) -> str | None:
        """Return why nothing can be committed now; None where it can."""

    @abstractmethod
    def seal(self, keep: int = 0) -> int:
        """Move all but the newest `keep` events, and all exposures, into sealed segments.

        Returns how many events moved. Reads give the same before, meanwhile and after.
        """

    @abstractmethod
    def erase(self, users: Sequence[str]) -> Removed:
        """Take everything of these users out: events, exposures, their rows in the user catalogue.

        No read shows them once this has begun; when it returns no file of the store holds a byte of
        them. A killed erasure is finished by the next writer.
        """

    @abstractmethod
    def retain(self, cut: datetime, event_types: Sequence[str] | None = None) -> Removed:
        """Take out the events before `cut`, of these types or of all; of all: the exposures too."""

    @abstractmethod
    def backup(self, folder: Path) -> None:
        """Write a consistent copy of the whole store into an empty folder, while others go on writing."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Fill this store, which must be empty, from a backup; its files are checked first."""

    @abstractmethod
    def put(self, kind: Kind, frame: pl.DataFrame) -> int:
        """Insert or replace ITEMS or USERS by id; returns how many ids are new or changed.

        With `valid_from` an id has several rows, its versions; all of them are replaced together.
        """

    @abstractmethod
    def catalogue(self, kind: Kind, only: str | None = None) -> pl.DataFrame:
        """Return all ITEMS or USERS, or those of one id, sorted by id, older versions first."""

    @abstractmethod
    def append_exposures(self, exposures: pl.DataFrame, marks: Mapping[str, str] | None = None) -> None:
        """Commit EXPOSURES, and facts to remember (`mark`), in one transaction: both or neither."""

    def exposures(self) -> pl.DataFrame:
        """Return all EXPOSURES, in the order they were committed."""
        return pl.concat([EXPOSURES.empty(), *self._scan("exposures")])

    @abstractmethod
    def mark(self, name: str, value: str) -> None:
        """Remember a fact about the log, such as `timeless`."""

    @abstractmethod
    def marks(self) -> Mapping[str, str]:
        """Return the facts remembered."""

    @abstractmethod
    def close(self) -> None:
        """Finish what is being written and let go of files and connections; the store is used no more."""


def open_store(place: str | Path, folder: Path) -> EventStore:
    """Open the store at a path (SQLite) or at a `postgresql://` address; sealed segments lie in `folder`."""
    if str(place).startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
        from profiles.store.postgres import PostgresStore

        return PostgresStore(str(place), folder)
    from profiles.store.sqlite import SQLiteStore

    return SQLiteStore(Path(place), folder)
