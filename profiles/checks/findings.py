"""What a check is given and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

Level = Literal["PASS", "WARN", "FAIL"]
TOLERATED = 0.01  # what every real log holds a little of is worth a warning above this share


@dataclass(frozen=True)
class Log:
    """What is checked: EVENTS, ITEMS, USERS, the weight of each event type (empty: not said), and the moment.

    Events are in the order they were committed. Of a timeless log, whose times are only an order, the
    clock is not asked.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    weights: Mapping[str, float]
    now: datetime
    timeless: bool = False


@dataclass(frozen=True)
class Finding:
    """What one check saw: how many rows or ids break the promise, one of them, and what to do.

    A PASS with a count saw so few that nothing need be done.
    """

    check: str
    level: Level
    count: int
    message: str
    example: str | None = None
    advice: str = ""


def first(values: pl.Series) -> str | None:
    """Show the first value."""
    return str(values[0]) if values.len() else None


def worth(count: int, total: int) -> Level:
    """Warn where more than the tolerated share is concerned."""
    return "WARN" if count > TOLERATED * total else "PASS"
