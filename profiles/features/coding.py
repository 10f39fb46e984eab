"""Batches of the log turned into numbers and dealt out to partitions, each event to that of its user.

Few events say a value or a session, so these are held apart, beside the places of the events they belong to.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from profiles.features.history import BLANK, CODED, partition_of
from profiles.features.numbering import Numbering, hashed
from profiles.features.ordering import gathered
from profiles.features.past import marks
from profiles.jit import compiled
from profiles.schema import ContractError

READ = ("user_id", "item_id", "event_type", "timestamp", "value", "text", "session_id", "recommendation_id")
TYPES = 1000  # event types at most: a profile has columns for each
# Whole records are dealt out, not arrays one by one: each partition is written to at one place.
DEALT = np.dtype([("user", np.int32), *CODED.items()])
SAID = np.dtype([("at", np.int64), *((name, type(blank)) for name, blank in BLANK.items())])


@dataclass(frozen=True)
class Coded:
    """One batch, dealt out: records ordered by partition, and where each partition's begin."""

    events: np.ndarray  # DEALT
    bounds: np.ndarray
    said: np.ndarray  # SAID; `at` counts from the partition's first event of this batch
    said_bounds: np.ndarray

    @property
    def rows(self) -> int:
        """Events of the batch."""
        return int(self.bounds[-1])


class Coding:
    """Turns batches into numbers; users, items and types not met before get the next ones.

    Threads may share one.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.users, self.items, self.types = Numbering(), Numbering(), Numbering()

    def __call__(self, batch: pl.DataFrame) -> Coded:
        """Code a batch of READ and deal it out."""
        key = hashed(batch["user_id"])
        part = partition_of(key, self.partitions)
        to, bounds = np.empty(len(part), np.int64), np.zeros(self.partitions + 1, np.int64)
        _deal(part, to, bounds)
        kind = self.types(batch["event_type"])
        refuse_many(int(kind.max(initial=0)) + 1, batch["event_type"])
        events = np.empty(len(part), DEALT)
        user, item = self.users(batch["user_id"], key), self.items(batch["item_id"])
        time = batch["timestamp"].to_physical().to_numpy()
        _deal_events(to, user, item, kind, time, marks(batch).to_numpy(), events)
        return Coded(events, bounds, *self._said(batch, part, to - bounds[part]))

    def _said(self, batch: pl.DataFrame, part: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what some events say, with their place `at` among those of their partition."""
        value, session = batch["value"], batch["session_id"]
        rows = np.flatnonzero((value.is_not_null() | session.is_not_null()).to_numpy())
        to, bounds = np.empty(len(rows), np.int64), np.zeros(self.partitions + 1, np.int64)
        _deal(gathered(part, rows), to, bounds)
        said = np.empty(len(rows), SAID)
        said["at"][to] = gathered(at, rows)
        said["value"][to] = value.gather(rows).fill_null(float("nan")).to_numpy()
        said["session"][to] = session_keys(session.gather(rows))
        return said, bounds


def refuse_many(count: int, types: pl.Series) -> None:
    """Raise ContractError for more event types than profiles can have columns for."""
    if count > TYPES:
        raise ContractError(
            f"the log has more than {TYPES:,} event types, such as {types[0]!r} and {types[-1]!r}; map "
            "event_type to a column that says what kind of event it was"
        )


def session_keys(sessions: pl.Series) -> np.ndarray:
    """Return a number for each session id, 0 where there is none."""
    if sessions.null_count() == len(sessions):
        return np.zeros(len(sessions), np.uint64)
    return np.where(sessions.is_null(), np.uint64(0), hashed(sessions))


@compiled
def _deal(part: np.ndarray, to: np.ndarray, bounds: np.ndarray) -> None:
    """Set `to`, where each goes when they stand by partition, and `bounds`, all 0, where these begin."""
    for at in range(len(part)):
        bounds[part[at] + 1] += 1
    for number in range(1, len(bounds)):
        bounds[number] += bounds[number - 1]
    free = bounds[:-1].copy()
    for at in range(len(part)):
        to[at] = free[part[at]]
        free[part[at]] += 1


@compiled
def _deal_events(
    to: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    kind: np.ndarray,
    time: np.ndarray,
    marks: np.ndarray,
    events: np.ndarray,
) -> None:
    """Set `events`, DEALT, each where `to` says."""
    for at in range(len(to)):
        own = events[to[at]]
        own.user, own.item, own.kind, own.time, own.marks = user[at], item[at], kind[at], time[at], marks[at]
