"""What some users did until a moment, as arrays: the one thing a user's profile is a function of.

Events stand user by user, each user's oldest first, every user with one at least. What several columns
need (days, visits, first touches, decayed weights) is computed once, when it is first asked for: one pass
over the events (`passes`) for many columns.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from profiles.features import FeaturesConfig, Lists, loops, passes
from profiles.features.context import Context, weights_of
from profiles.interactions import InteractionsConfig
from profiles.schema import DAY, TIME

SPENDING_DAYS = (30, 90, 365)  # windows of what was spent
WROTE, FOLLOWED = 1, 2  # marks of an event: it has a text, it came from a recommendation


def worded() -> pl.Expr:
    """Tell which EVENTS have a text; one of blanks is none."""
    return (pl.col("text").str.strip_chars() != "").fill_null(False)


def marks(events: pl.DataFrame) -> pl.Series:
    """Return the marks of EVENTS."""
    followed = pl.col("recommendation_id").is_not_null().cast(pl.UInt8) * FOLLOWED
    if not events["text"].count():  # most logs have none, and stripping nothing takes its time
        return events.select(followed).to_series()
    return events.select(worded().cast(pl.UInt8) * WROTE + followed).to_series()


@dataclass(frozen=True)
class Events:
    """Coded events of some users: arrays of one length, and where each user's begin.

    starts (users,) int64 · item int32 (-1: none) · kind uint16 · time int64 microseconds ·
    value float64 (NaN: none) · marks uint8 · session uint64 (0: none)
    """

    starts: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    time: np.ndarray
    value: np.ndarray
    marks: np.ndarray
    session: np.ndarray

    def until(self, moment: int) -> "tuple[Events, np.ndarray]":
        """Return the events at or before a moment, and which users still have one (all: the same object)."""
        kept = self.time <= moment
        if kept.all():
            return self, np.ones(len(self.starts), bool)
        counts = np.add.reduceat(kept, self.starts, dtype=np.int64) if len(kept) else np.zeros(0, np.int64)
        alive = counts > 0
        starts = np.cumsum(counts[alive]) - counts[alive]
        rest = (getattr(self, name)[kept] for name in ("item", "kind", "time", "value", "marks", "session"))
        return Events(starts, *rest), alive

    def users(self, first: int, last: int) -> "Events":
        """Return the events of the users first … last - 1, as views."""
        begin = int(self.starts[first])
        end = int(self.starts[last]) if last < len(self.starts) else len(self.time)
        names = ("item", "kind", "time", "value", "marks", "session")
        return Events(self.starts[first:last] - begin, *(getattr(self, name)[begin:end] for name in names))


@dataclass(frozen=True)
class Past:
    """The events of some users at or before a moment, and all that columns share."""

    events: Events
    as_of: int  # microseconds since 1970; no event is later
    context: Context
    config: FeaturesConfig
    interactions: InteractionsConfig

    def __post_init__(self) -> None:
        assert len(self.events.starts), "a past has users, each with an event"

    # Segments

    @cached_property
    def length(self) -> np.ndarray:
        """Events of each user."""
        return np.diff(self.bounds)

    @cached_property
    def last(self) -> np.ndarray:
        """Place of each user's latest event."""
        return self.bounds[1:] - 1

    @cached_property
    def bounds(self) -> np.ndarray:
        """Where each user's events begin, and behind them where the last user's end."""
        return np.append(self.events.starts, len(self.events.time))

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over each user's events; of a mask, count them."""
        dtype = np.int64 if values.dtype == bool else None
        return np.asarray(np.add.reduceat(values, self.events.starts, dtype=dtype))

    # Time

    @cached_property
    def age(self) -> np.ndarray:
        """Microseconds from each event to the moment."""
        return self.as_of - self.events.time

    def within(self, days: float) -> np.ndarray:
        """Tell which events are less than this many days old."""
        return self.age < days * DAY

    @cached_property
    def local(self) -> np.ndarray:
        """Time on the wall of the configured zone, in microseconds."""
        if self.config.timezone == "UTC":
            return self.events.time
        series = pl.Series(self.events.time).cast(TIME).dt.convert_time_zone(self.config.timezone)
        return series.dt.replace_time_zone(None).to_physical().to_numpy()

    def day(self, at: np.ndarray) -> np.ndarray:
        """Return the local day of the events at some places, counted from 1970."""
        return np.asarray(self.local[at] // DAY)

    @cached_property
    def rhythm(self) -> passes.Rhythm:
        """When each user comes."""
        return passes.rhythm(self.bounds, self.events.time, self.local, self.as_of)

    @cached_property
    def by_type(self) -> passes.ByType:
        """What each user did of each type."""
        e, windows = self.events, np.array(self.config.windows_days) * DAY
        types = len(self.context.event_types)
        return passes.by_type(self.bounds, e.kind, e.time, e.value, self.as_of, windows, types)

    @cached_property
    def visits(self) -> passes.Visits:
        """Each user's visits."""
        e, longest = self.events, self.config.session_minutes * 60e6
        return passes.visits(self.bounds, e.time, e.session, longest, self.as_of)

    # Items

    @cached_property
    def named(self) -> np.ndarray:
        """Which events name an item."""
        return self.events.item >= 0

    @cached_property
    def tastes(self) -> passes.Tastes:
        """What items each user touches."""
        e, new = self.events, self.config.new_item_days * DAY
        return passes.tastes(self.bounds, e.item, e.time, self.strength, self.context.about, new, self.as_of)

    # Money and taste

    @cached_property
    def money(self) -> np.ndarray:
        """Which kinds are money: a value above 0 of one is spent."""
        return np.isin(np.array([*self.context.event_types, ""]), self.config.spend_types)

    @cached_property
    def spending(self) -> passes.Spending:
        """What each user spent."""
        e, windows = self.events, np.array(SPENDING_DAYS) * DAY
        return passes.spending(self.bounds, e.kind, e.time, e.value, self.money, self.as_of, windows)

    @cached_property
    def weight(self) -> np.ndarray:
        """How much each event says for its item, before decay."""
        tables = weights_of(self.context.event_types, self.interactions)
        return passes.weights(self.events.item, self.events.kind, self.events.value, *tables)

    @cached_property
    def strength(self) -> np.ndarray:
        """Decayed weight of each event.

        Age counts from the user's own latest event that says something, and to 900 half-lives: a user
        who left keeps their taste, and no weight sinks to zero.
        """
        found = np.empty(len(self.weight))
        half_life = DAY * self.config.half_life_days
        loops.decayed(self.events.starts, self.events.time, self.weight, half_life, found)
        return found

    @cached_property
    def leanings(self) -> "Leanings":
        """Decayed weight of each value of all attributes."""
        events, has = self.events, self.context.values
        bounds = np.array([*self.context.first_value.values(), has.shape[1]])
        return Leanings(
            [*self.context.first_value],
            *loops.added_up(
                events.starts, events.item, self.tastes.strength, has.indptr, has.indices, bounds
            ),
        )


@dataclass(frozen=True)
class Leanings:
    """Users' decayed weights over the values of all attributes, numbered as in `Context.values`.

    User u has for attribute a values[offsets[s]:offsets[s + 1]] with s = u * attributes + a; the one met
    first for the first time stands last.
    """

    attributes: list[str]
    offsets: np.ndarray
    values: np.ndarray
    sums: np.ndarray

    def of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return where each user's values of an attribute begin and end."""
        place, step = self.attributes.index(name), len(self.attributes)
        return self.offsets[place:-1:step], self.offsets[place + 1 :: step]


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide; NaN where there is nothing to divide by."""
    found = np.full(len(above), np.nan)
    np.divide(above, below, out=found, where=np.asarray(below) != 0)
    return found


def item_lists(past: Past, chosen: np.ndarray, keep: int) -> Lists:
    """Return the item ids of each user's latest chosen events, newest first."""
    offsets, at = passes.newest(past.bounds, chosen, keep)
    return Lists(offsets, pl.Series(past.events.item[at]), names=past.context.item_ids)
