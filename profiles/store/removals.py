"""What is to be taken out of the log: everything of some users, or what is older than a moment.

A removal holds for the rows that were committed before it began. Readers hide what it names until no
segment holds it any more; what the same user does later is new life and stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl

from profiles.store.rows import Log


@dataclass(frozen=True)
class Removal:
    """Rows up to a sequence number: those of `users`, or those before `cut` (microseconds since 1970)."""

    events: int  # the last event and the last exposure that it concerns
    exposures: int
    users: tuple[str, ...] | None = None
    cut: int | None = None
    event_types: tuple[str, ...] | None = None  # with `cut`: only these, and no exposures

    @property
    def body(self) -> str:
        """The removal as JSON, to be kept until it is done."""
        return orjson.dumps(self).decode()

    @staticmethod
    def of(body: str) -> "Removal":
        """Return the removal from its JSON."""
        parsed = orjson.loads(body).items()
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in parsed}
        return Removal(**fields)

    def matches(self, kind: Log) -> pl.Expr:
        """Whether a row (user_id, event_type, timestamp, seq) is one of those to be taken out."""
        known = pl.col("seq") <= (self.events if kind == "events" else self.exposures)
        if self.users is not None:
            return known & pl.col("user_id").is_in(list(self.users))
        old = known & (pl.col("timestamp").to_physical() < self.cut)
        if self.event_types is None:
            return old
        return old & pl.col("event_type").is_in(list(self.event_types)) if kind == "events" else pl.lit(False)


def kept(frame: pl.DataFrame, kind: Log, removals: Sequence[Removal]) -> pl.DataFrame:
    """Return the rows that no removal names."""
    return frame.filter(~removal.matches(kind) for removal in removals) if removals else frame
