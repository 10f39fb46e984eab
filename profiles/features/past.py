"""What some users did until a moment, as arrays: the one thing a user's profile is a function of.

Events stand user by user, each user's oldest first, every user with one at least. What several columns
need (days, visits, first touches, decayed weights) is computed once, when it is first asked for.
Segmented sums run over whole blocks of users: a block of some 100,000 events stays in the cache, where
one pass costs about a nanosecond an event.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from profiles.features import FeaturesConfig, Lists, loops
from profiles.features.context import Context, weights_of
from profiles.interactions import InteractionsConfig
from profiles.schema import DAY, TIME

HOUR = DAY // 24
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
        return np.diff(self.events.starts, append=len(self.events.time))

    @cached_property
    def last(self) -> np.ndarray:
        """Place of each user's latest event."""
        return np.asarray(self.events.starts + self.length - 1)

    @cached_property
    def user(self) -> np.ndarray:
        """Number of each event's user."""
        return np.repeat(np.arange(len(self.length), dtype=np.int32), self.length)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over each user's events; of a mask, count them."""
        dtype = np.int64 if values.dtype == bool else None
        return np.asarray(np.add.reduceat(values, self.events.starts, dtype=dtype))

    def max(self, values: np.ndarray) -> np.ndarray:
        """Return the largest of each user's events."""
        return np.maximum.reduceat(values, self.events.starts)

    def min(self, values: np.ndarray) -> np.ndarray:
        """Return the smallest of each user's events."""
        return np.minimum.reduceat(values, self.events.starts)

    def mean(self, values: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return the mean over each user's events that count; NaN where none does."""
        return ratio(self.sum(np.where(where, values, 0.0)), self.sum(where))

    def changes(self, values: np.ndarray) -> np.ndarray:
        """Tell which events are their user's first or differ from the one before."""
        found = np.empty(len(values), bool)
        np.not_equal(values[1:], values[:-1], out=found[1:])
        found[self.events.starts] = True
        return found

    # Time

    @cached_property
    def age(self) -> np.ndarray:
        """Microseconds from each event to the moment."""
        return self.as_of - self.events.time

    def within(self, days: float) -> np.ndarray:
        """Tell which events are less than this many days old."""
        return self.age < days * DAY

    @cached_property
    def window(self) -> np.ndarray:
        """The first window each event falls in, by number; beyond all: len(windows_days)."""
        place = np.zeros(len(self.age), np.uint8)
        for days in self.config.windows_days:
            place += self.age >= days * DAY
        return place

    @cached_property
    def counts(self) -> np.ndarray:
        """Events by (user, type, window); the last window is all time."""
        types, windows = len(self.context.event_types) + 1, len(self.config.windows_days) + 1
        key = (self.user * np.int64(types) + self.events.kind) * windows + self.window
        shape = (len(self.length), types, windows)
        table = np.bincount(key, minlength=int(np.prod(shape))).reshape(shape)
        return np.asarray(table.cumsum(axis=2))

    @cached_property
    def local(self) -> np.ndarray:
        """Time on the wall of the configured zone, in microseconds."""
        if self.config.timezone == "UTC":
            return self.events.time
        series = pl.Series(self.events.time).cast(TIME).dt.convert_time_zone(self.config.timezone)
        return series.dt.replace_time_zone(None).to_physical().to_numpy()

    @cached_property
    def day(self) -> np.ndarray:
        """Local day of each event, counted from 1970."""
        return self.local // DAY

    @cached_property
    def hour(self) -> np.ndarray:
        """Local hour of each event."""
        return np.asarray((self.local - self.day * DAY) // HOUR)

    @cached_property
    def clock(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean direction of each user's hours on the circle of the day, as (x, y)."""
        angle = np.arange(24) * (2 * np.pi / 24)
        x, y = (self.sum(side[self.hour]) / self.length for side in (np.cos(angle), np.sin(angle)))
        return x, y

    @cached_property
    def weekday(self) -> np.ndarray:
        """Local weekday of each event, 0 Monday."""
        return (self.day + 3) % 7

    @cached_property
    def opens_day(self) -> np.ndarray:
        """Which events are the first of their user's day."""
        return self.changes(self.day)

    @cached_property
    def closes_day(self) -> np.ndarray:
        """Which events are the last of their user's day."""
        return np.append(self.opens_day[1:], True)

    @cached_property
    def opens_session(self) -> np.ndarray:
        """Which events begin a visit.

        Of two neighbours that both name their session, the second does where the name changes, however
        long the pause; any other event after a long pause, or where the visit had another name till then.
        """
        e, opens = self.events, np.empty(len(self.events.time), bool)
        loops.opens_visit(e.starts, e.time, e.session, self.config.session_minutes * 60e6, opens)
        return opens

    @cached_property
    def sessions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place of each visit's first event, of its last, and the number of its user."""
        first = np.flatnonzero(self.opens_session)
        return first, np.append(first[1:], len(self.opens_session)) - 1, self.user[first]

    # Items

    @cached_property
    def named(self) -> np.ndarray:
        """Which events name an item."""
        return self.events.item >= 0

    @cached_property
    def touches(self) -> tuple[np.ndarray, np.ndarray]:
        """Which events are the first, and which the last, of their user with their item."""
        first, last = np.zeros(len(self.named), bool), np.zeros(len(self.named), bool)
        loops.touches(self.events.starts, self.events.item, first, last)
        return first, last

    def of_item(self, table: np.ndarray) -> np.ndarray:
        """Look up each event's item in a table of items; NaN where an event names none."""
        found = (
            table.take(self.events.item, mode="wrap").astype(np.float64)
            if len(table)
            else np.zeros(len(self.age))
        )
        found[~self.named] = np.nan
        return found

    def newest(self, chosen: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets by user and the places of their latest chosen events, newest first."""
        at = np.flatnonzero(chosen)[::-1]
        user = self.user[at]  # falling
        count = np.bincount(user, minlength=len(self.length))
        before = np.cumsum(count[::-1])[::-1] - count  # chosen events of later users
        at = at[np.arange(len(at)) - before[user] < keep]
        kept = np.minimum(count, keep)
        offsets = np.append(0, np.cumsum(kept))
        user = self.user[at]
        ahead = offsets[user] + np.arange(len(at)) - (np.cumsum(kept[::-1])[::-1] - kept)[user]
        ordered = np.empty_like(at)
        ordered[ahead] = at
        return offsets, ordered

    # Taste

    @cached_property
    def spent(self) -> np.ndarray:
        """What each event spent: its value where its type is money, else 0."""
        money = np.isin(np.array([*self.context.event_types, ""]), self.config.spend_types)
        return np.where(money[self.events.kind] & (self.events.value > 0), self.events.value, 0.0)

    @cached_property
    def weight(self) -> np.ndarray:
        """How much each event says for its item, before decay."""
        weight = weights_of(self.events.kind, self.events.value, self.context.event_types, self.interactions)
        weight[~self.named] = 0.0
        return weight

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
            *loops.added_up(events.starts, events.item, self.strength, has.indptr, has.indices, bounds),
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
    offsets, at = past.newest(chosen, keep)
    return Lists(offsets, past.context.item_ids[past.events.item[at]])
