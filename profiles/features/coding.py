"""Batches of the log turned into numbers and dealt out to partitions, each event to that of its user.

Few events say a value or a session, so these are held apart, beside the places of the events they belong to.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from profiles.features.history import BLANK, CODED, Types, partition_of
from profiles.features.numbering import Numbering, hashed
from profiles.features.ordering import gathered, scattered
from profiles.features.past import marks
from profiles.jit import compiled
from profiles.schema import ContractError

READ = ("user_id", "item_id", "event_type", "timestamp", "value", "text", "session_id", "recommendation_id")
TYPES = 1000  # event types at most: a profile has columns for each
DEALT: Types = {"user": np.int32, **CODED}
SAID: Types = {"at": np.int64, **{name: type(blank) for name, blank in BLANK.items()}}


@dataclass(frozen=True)
class Coded:
    """One batch, dealt out: arrays ordered by partition, and where each partition's begin."""

    arrays: dict[str, np.ndarray]  # DEALT
    bounds: np.ndarray
    said: dict[str, np.ndarray]  # SAID; `at` counts from the partition's first event of this batch
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
        arrays = {
            "user": self.users(batch["user_id"], key),
            "item": self.items(batch["item_id"]),
            "kind": kind.astype(np.uint16),
            "time": batch["timestamp"].to_physical().to_numpy(),
            "marks": marks(batch).to_numpy(),
        }
        dealt = {name: scattered(array, to) for name, array in arrays.items()}
        return Coded(dealt, bounds, *self._said(batch, part, to - bounds[part]))

    def _said(
        self, batch: pl.DataFrame, part: np.ndarray, at: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return what some events say, with their place `at` among those of their partition."""
        value, session = batch["value"], batch["session_id"]
        rows = np.flatnonzero((value.is_not_null() | session.is_not_null()).to_numpy())
        to, bounds = np.empty(len(rows), np.int64), np.zeros(self.partitions + 1, np.int64)
        _deal(gathered(part, rows), to, bounds)
        said = {
            "at": gathered(at, rows),
            "value": value.gather(rows).fill_null(float("nan")).to_numpy(),
            "session": session_keys(session.gather(rows)),
        }
        return {name: scattered(array, to) for name, array in said.items()}, bounds


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
