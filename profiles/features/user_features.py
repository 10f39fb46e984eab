"""The columns of a user's profile, in explicit dictionaries: one function, one column.

Every function takes a `Past` and returns one value a user. Times are UTC, days and hours those of the
configured zone, windows open at the far end: an event exactly 7 days old is not in the last 7 days.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import polars as pl

from profiles.features import VALUE_SHARES, Feature, FeaturesConfig, counts_by_type
from profiles.features.affinity import entropy, strongest
from profiles.features.context import ATTRIBUTES, Context
from profiles.features.past import FOLLOWED, WROTE, Past, item_lists, ratio
from profiles.schema import DAY, TIME

Columns = dict[str, Feature[Past]]
U32, F64, U8 = pl.UInt32(), pl.Float64(), pl.UInt8()


def _days(span: np.ndarray) -> np.ndarray:
    return span / DAY


def _gap_days(p: Past) -> np.ndarray:
    """Mean days between successive active days."""
    days = p.day[p.last] - p.day[p.events.starts]
    return ratio(days.astype(np.float64), p.sum(p.opens_day) - 1)


def _longest_gap(p: Past) -> np.ndarray:
    step = np.diff(p.events.time, prepend=0)
    step[p.events.starts] = 0
    return _days(p.max(step))


def _trend(p: Past) -> np.ndarray:
    """log2 of the last 7 days' daily rate over that of the last 30, each with one event in 30 days more."""
    return np.asarray(np.log2((p.sum(p.within(7)) * (30 / 7) + 1) / (p.sum(p.within(30)) + 1)))


ACTIVITY: Columns = {
    "first_event": Feature(lambda p: p.events.time[p.events.starts], TIME, "UTC", "first event"),
    "last_event": Feature(lambda p: p.events.time[p.last], TIME, "UTC", "latest event"),
    "recency_days": Feature(lambda p: _days(p.age[p.last]), F64, "days", "time since the latest event"),
    "tenure_days": Feature(
        lambda p: _days(p.age[p.events.starts]), F64, "days", "time since the first event"
    ),
    "active_days": Feature(lambda p: p.sum(p.opens_day), U32, "days", "days with an event", fill=0),
    "active_days_30d": Feature(
        lambda p: p.sum(p.closes_day & p.within(30)),
        U32,
        "days",
        "days with an event",
        window="30 days",
        fill=0,
    ),
    "active_share": Feature(
        lambda p: ratio(p.sum(p.opens_day), p.day[p.last] - p.day[p.events.starts] + 1),
        F64,
        "share",
        "days with an event, of those from the first to the latest",
    ),
    "events_per_active_day": Feature(
        lambda p: p.length / p.sum(p.opens_day), F64, "events", "events on a day with any"
    ),
    "gap_days": Feature(_gap_days, F64, "days", "mean time between successive active days"),
    "longest_gap_days": Feature(_longest_gap, F64, "days", "longest time without an event"),
    "trend": Feature(_trend, F64, "log2", "daily rate of the last 7 days over the last 30", window="30 days"),
    "texts": Feature(
        lambda p: p.sum((p.events.marks & WROTE) > 0),
        U32,
        "texts",
        "texts written",
        "events with text",
        fill=0,
    ),
    "follow_share": Feature(
        lambda p: p.sum((p.events.marks & FOLLOWED) > 0) / p.length,
        F64,
        "share",
        "events that came from a recommendation",
    ),
}


def _session_mean(p: Past, values: np.ndarray) -> np.ndarray:
    """Mean over each user's visits."""
    user, users = p.sessions[2], len(p.length)
    return np.asarray(np.bincount(user, values, users) / np.bincount(user, minlength=users))


def _session_minutes(p: Past) -> np.ndarray:
    first, last, _ = p.sessions
    return np.asarray((p.events.time[last] - p.events.time[first]) / 60e6)


def _first_session(p: Past) -> np.ndarray:
    """Place of each user's first visit among the visits."""
    return np.searchsorted(p.sessions[2], np.arange(len(p.length)))


def _session_gap(p: Past) -> np.ndarray:
    """Mean days from the start of one visit to the start of the next."""
    first, _, user = p.sessions
    begin = _first_session(p)
    end = np.append(begin[1:], len(user)) - 1
    return ratio(_days(p.events.time[first[end]] - p.events.time[first[begin]]), end - begin)


SESSIONS: Columns = {
    "sessions": Feature(lambda p: p.sum(p.opens_session), U32, "visits", "visits", fill=0),
    "sessions_30d": Feature(
        lambda p: p.sum(p.opens_session & p.within(30)),
        U32,
        "visits",
        "visits begun",
        window="30 days",
        fill=0,
    ),
    "session_events": Feature(
        lambda p: p.length / p.sum(p.opens_session), F64, "events", "mean events of a visit"
    ),
    "session_minutes": Feature(
        lambda p: _session_mean(p, _session_minutes(p)), F64, "minutes", "mean length of a visit"
    ),
    "longest_session_minutes": Feature(
        lambda p: np.maximum.reduceat(_session_minutes(p), _first_session(p)), F64, "minutes", "longest visit"
    ),
    "session_gap_days": Feature(_session_gap, F64, "days", "mean time from visit to visit"),
    "bounce_share": Feature(
        lambda p: _session_mean(p, (p.sessions[0] == p.sessions[1]).astype(np.float64)),
        F64,
        "share",
        "visits of a single event",
    ),
}


def _hours(first: int, last: int) -> Callable[[Past], np.ndarray]:
    return lambda p: p.sum((p.hour >= first) & (p.hour < last)) / p.length


def _usual_hour(p: Past) -> np.ndarray:
    """Circular mean of the hours; none where they cancel out."""
    x, y = p.clock
    hour = np.round(np.arctan2(y, x) * (24 / (2 * np.pi)), 9) % 24  # a hair below 0 is 0, not 24
    return np.where(np.hypot(x, y) > 1e-9, hour, np.nan)


def _mode(p: Past, values: np.ndarray, size: int) -> np.ndarray:
    """Most frequent value of each user, the smallest of equals."""
    table = np.bincount(p.user * np.int64(size) + values, minlength=size * len(p.length))
    return np.asarray(table.reshape(-1, size).argmax(axis=1))


HABITS: Columns = {
    "usual_hour": Feature(_usual_hour, F64, "hours", "circular mean of the local hours"),
    "hour_regularity": Feature(lambda p: np.hypot(*p.clock), F64, "0 to 1", "how much the hours agree"),
    "usual_weekday": Feature(lambda p: _mode(p, p.weekday, 7), U8, "0 Monday", "most frequent weekday"),
    "weekend_share": Feature(lambda p: p.sum(p.weekday >= 5) / p.length, F64, "share", "events at weekends"),
    "night_share": Feature(_hours(0, 6), F64, "share", "events from 0 to 6 h"),
    "morning_share": Feature(_hours(6, 12), F64, "share", "events from 6 to 12 h"),
    "afternoon_share": Feature(_hours(12, 18), F64, "share", "events from 12 to 18 h"),
    "evening_share": Feature(_hours(18, 24), F64, "share", "events from 18 to 24 h"),
}


def _spend(days: float | None) -> Callable[[Past], np.ndarray]:
    return lambda p: p.sum(p.spent if days is None else np.where(p.within(days), p.spent, 0.0))


def _order_gap(p: Past) -> np.ndarray:
    """Mean days from one spending event to the next."""
    spent = p.spent > 0
    time = p.events.time
    first = p.min(np.where(spent, time, np.iinfo(np.int64).max))
    latest = p.max(np.where(spent, time, np.iinfo(np.int64).min))
    orders = p.sum(spent)
    span = np.where(orders > 0, latest, 0) - np.where(orders > 0, first, 0)
    return ratio(_days(span), np.maximum(orders - 1, 0))


def _spend_recency(p: Past) -> np.ndarray:
    """Days since the latest spending event."""
    age = p.min(np.where(p.spent > 0, p.age, np.iinfo(np.int64).max))
    return np.where(age == np.iinfo(np.int64).max, np.nan, _days(age))


def _band(p: Past) -> np.ndarray:
    """Band of what was spent, from 1; 0 where nothing was."""
    spend = p.sum(p.spent)
    return np.where(spend > 0, np.searchsorted(p.context.bands, spend, side="right") + 1, 0)


MONEY = "events of spend_types with a value above 0"
VALUE: Columns = {
    "orders": Feature(lambda p: p.sum(p.spent > 0), U32, "events", "events that spent", MONEY, fill=0),
    "spend": Feature(_spend(None), F64, "money", "sum spent", MONEY, fill=0.0),
    "spend_30d": Feature(_spend(30), F64, "money", "sum spent", MONEY, "30 days", 0.0),
    "spend_90d": Feature(_spend(90), F64, "money", "sum spent", MONEY, "90 days", 0.0),
    "spend_365d": Feature(_spend(365), F64, "money", "sum spent", MONEY, "365 days", 0.0),
    "spend_mean": Feature(
        lambda p: ratio(p.sum(p.spent), p.sum(p.spent > 0)), F64, "money", "mean spent at once", MONEY
    ),
    "spend_max": Feature(lambda p: p.max(p.spent), F64, "money", "most spent at once", MONEY, fill=0.0),
    "spend_recency_days": Feature(_spend_recency, F64, "days", "time since the latest spending", MONEY),
    "spend_gap_days": Feature(_order_gap, F64, "days", "mean time from one spending to the next", MONEY),
    "spending_band": Feature(
        _band, U8, "band", "band of spend among those who spent, from 1; 0: nothing", MONEY, fill=0
    ),
}


def _novelty(p: Past) -> np.ndarray:
    """Share of first touches that met an item in its first days."""
    first = p.touches[0]
    since = p.context.since.take(p.events.item, mode="wrap") if len(p.context.since) else p.events.time
    fresh = first & (p.events.time - since < p.config.new_item_days * DAY)
    return ratio(p.sum(fresh), p.sum(first))


def _explored(p: Past) -> np.ndarray:
    """Share of the last 30 days' item events that were first touches."""
    recent = p.named & p.within(30)
    return ratio(p.sum(p.touches[0] & recent), p.sum(recent))


def _recent_items(p: Past) -> np.ndarray:
    """Distinct items among the events of the last 30 days."""
    return p.sum(p.touches[1] & p.within(30))


def _spread(p: Past) -> np.ndarray:
    """Standard deviation of the popularity of what was touched."""
    taste = p.of_item(p.context.percentile)
    known = ~np.isnan(taste)
    mean = p.mean(taste, known)
    deviation = np.where(known, taste - mean[p.user], 0.0)
    return np.asarray(np.sqrt(p.mean(deviation * deviation, known)))


def _of_items(table: str, p: Past) -> np.ndarray:
    """Mean over a user's item events of what the context says of the item."""
    found = p.of_item(getattr(p.context, table))
    return p.mean(found, ~np.isnan(found))


ITEM_EVENTS = "events with an item"
BEHAVIOUR: Columns = {
    "distinct_items": Feature(
        lambda p: p.sum(p.touches[0]), U32, "items", "different items touched", ITEM_EVENTS, fill=0
    ),
    "distinct_items_30d": Feature(
        _recent_items, U32, "items", "different items touched", ITEM_EVENTS, "30 days", 0
    ),
    "repeat_share": Feature(
        lambda p: 1 - ratio(p.sum(p.touches[0]), p.sum(p.named)),
        F64,
        "share",
        "item events that repeat an item",
        ITEM_EVENTS,
    ),
    "explore_share": Feature(
        _explored, F64, "share", "item events that met an item for the first time", ITEM_EVENTS, "30 days"
    ),
    "novelty_seeking": Feature(_novelty, F64, "share", "items met in their first days", ITEM_EVENTS),
    "surprise": Feature(
        partial(_of_items, "surprise"), F64, "bits", "mean -log2 share of the items touched", ITEM_EVENTS
    ),
    "popularity_taste": Feature(
        partial(_of_items, "percentile"),
        F64,
        "0 to 1",
        "mean popularity percentile of the items touched",
        ITEM_EVENTS,
    ),
    "popularity_spread": Feature(
        _spread, F64, "0 to 1", "standard deviation of that percentile", ITEM_EVENTS
    ),
    "mean_price": Feature(
        partial(_of_items, "price"), F64, "money", "mean price of the items touched", ITEM_EVENTS
    ),
    "category_entropy": Feature(
        partial(entropy, "category"), F64, "bits", "spread over categories", "weighted events"
    ),
    "brand_entropy": Feature(partial(entropy, "brand"), F64, "bits", "spread over brands", "weighted events"),
}

LISTS: Columns = {
    "last_items": Feature(
        lambda p: item_lists(p, p.touches[1], p.config.last_items),
        pl.List(pl.String),
        "item ids",
        "most recent distinct items, newest first",
        ITEM_EVENTS,
        fill=[],
    ),
    **{
        f"{name}_affinity": Feature(
            partial(strongest, name),
            VALUE_SHARES,
            "shares",
            f"{name.replace('_', ' ')} values leaned to: decayed, smoothed against the log's shares",
            "weighted events",
            fill=[],
        )
        for name in ATTRIBUTES
    },
}


def _count(kind: int | None, window: int, p: Past) -> np.ndarray:
    counts = p.counts[:, :, window]
    return np.asarray(counts.sum(axis=1)) if kind is None else counts[:, kind]


def _recency(kind: int, p: Past) -> np.ndarray:
    age = p.min(np.where(p.events.kind == kind, p.age, np.iinfo(np.int64).max))
    return np.where(age == np.iinfo(np.int64).max, np.nan, _days(age))


def _valued(p: Past, kind: int) -> np.ndarray:
    return np.asarray((p.events.kind == kind) & ~np.isnan(p.events.value))


def _value_sum(kind: int, p: Past) -> np.ndarray:
    return p.sum(np.where(_valued(p, kind), p.events.value, 0.0))


def _value_mean(kind: int, p: Past) -> np.ndarray:
    return p.mean(p.events.value, _valued(p, kind))


@lru_cache(maxsize=64)
def _by_type(event_types: tuple[str, ...], windows_days: tuple[int, ...]) -> Columns:
    """Counts of every type and window, and each type's recency and values."""
    columns: Columns = counts_by_type(
        event_types,
        windows_days,
        lambda kind, days: partial(_count, kind, -1 if days is None else windows_days.index(days)),
    )
    for kind, name in enumerate(event_types):
        columns[f"recency_days_{name}"] = Feature(
            partial(_recency, kind), F64, "days", "time since the latest", name
        )
        columns[f"value_sum_{name}"] = Feature(
            partial(_value_sum, kind), F64, "as given", "sum of values", name, fill=0.0
        )
        columns[f"value_mean_{name}"] = Feature(
            partial(_value_mean, kind), F64, "as given", "mean of values", name
        )
    return columns


def user_features(context: Context, config: FeaturesConfig) -> Columns:
    """Return every column that is made from events, by name, in order."""
    by_type = _by_type(context.event_types, config.windows_days)
    return ACTIVITY | by_type | SESSIONS | HABITS | VALUE | BEHAVIOUR | LISTS
