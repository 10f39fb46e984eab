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
from profiles.features.context import ATTRIBUTES, NEVER, Context
from profiles.features.past import FOLLOWED, SPENDING_DAYS, WROTE, Past, item_lists, ratio
from profiles.schema import DAY, TIME

Columns = dict[str, Feature[Past]]
U32, F64, U8 = pl.UInt32(), pl.Float64(), pl.UInt8()


def _days(span: np.ndarray) -> np.ndarray:
    return span / DAY


def _span(p: Past) -> np.ndarray:
    """Days from the first event's to the latest one's."""
    return np.asarray(p.day(p.last) - p.day(p.events.starts))


def _gap_days(p: Past) -> np.ndarray:
    """Mean days between successive active days."""
    return ratio(_span(p).astype(np.float64), p.rhythm.days - np.int64(1))


def _trend(p: Past) -> np.ndarray:
    """log2 of the last 7 days' daily rate over that of the last 30, each with one event in 30 days more."""
    return np.asarray(np.log2((p.rhythm.week * (30 / 7) + 1) / (p.rhythm.month + 1.0)))


ACTIVITY: Columns = {
    "first_event": Feature(lambda p: p.events.time[p.events.starts], TIME, "UTC", "first event"),
    "last_event": Feature(lambda p: p.events.time[p.last], TIME, "UTC", "latest event"),
    "recency_days": Feature(lambda p: _days(p.age[p.last]), F64, "days", "time since the latest event"),
    "tenure_days": Feature(
        lambda p: _days(p.age[p.events.starts]), F64, "days", "time since the first event"
    ),
    "active_days": Feature(lambda p: p.rhythm.days, U32, "days", "days with an event", fill=0),
    "active_days_30d": Feature(
        lambda p: p.rhythm.recent_days,
        U32,
        "days",
        "days with an event",
        window="30 days",
        fill=0,
    ),
    "active_share": Feature(
        lambda p: p.rhythm.days / (_span(p) + 1),
        F64,
        "share",
        "days with an event, of those from the first to the latest",
    ),
    "events_per_active_day": Feature(
        lambda p: p.length / p.rhythm.days, F64, "events", "events on a day with any"
    ),
    "gap_days": Feature(_gap_days, F64, "days", "mean time between successive active days"),
    "longest_gap_days": Feature(
        lambda p: _days(p.rhythm.longest), F64, "days", "longest time without an event"
    ),
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


def _minutes(span: np.ndarray) -> np.ndarray:
    return span / 60e6


SESSIONS: Columns = {
    "sessions": Feature(lambda p: p.visits.number, U32, "visits", "visits", fill=0),
    "sessions_30d": Feature(
        lambda p: p.visits.recent,
        U32,
        "visits",
        "visits begun",
        window="30 days",
        fill=0,
    ),
    "session_events": Feature(lambda p: p.length / p.visits.number, F64, "events", "mean events of a visit"),
    "session_minutes": Feature(
        lambda p: _minutes(p.visits.lasted) / p.visits.number, F64, "minutes", "mean length of a visit"
    ),
    "longest_session_minutes": Feature(lambda p: _minutes(p.visits.longest), F64, "minutes", "longest visit"),
    "session_gap_days": Feature(
        lambda p: ratio(_days(p.visits.last - p.visits.first), p.visits.number - np.int64(1)),
        F64,
        "days",
        "mean time from the start of one visit to that of the next",
    ),
    "bounce_share": Feature(
        lambda p: p.visits.single / p.visits.number,
        F64,
        "share",
        "visits of a single event",
    ),
}


def _hours(first: int, last: int) -> Callable[[Past], np.ndarray]:
    return lambda p: p.rhythm.hours[first:last].sum(axis=0) / p.length


def _usual_hour(p: Past) -> np.ndarray:
    """Circular mean of the hours; none where they cancel out."""
    x, y = p.rhythm.x, p.rhythm.y
    hour = np.round(np.arctan2(y, x) * (24 / (2 * np.pi)), 9) % 24  # a hair below 0 is 0, not 24
    return np.where(np.hypot(x, y) > 1e-9, hour, np.nan)


HABITS: Columns = {
    "usual_hour": Feature(_usual_hour, F64, "hours", "circular mean of the local hours"),
    "hour_regularity": Feature(
        lambda p: np.hypot(p.rhythm.x, p.rhythm.y), F64, "0 to 1", "how much the hours agree"
    ),
    "usual_weekday": Feature(
        lambda p: p.rhythm.weekdays.argmax(axis=0), U8, "0 Monday", "most frequent weekday"
    ),
    "weekend_share": Feature(
        lambda p: p.rhythm.weekdays[5:].sum(axis=0) / p.length, F64, "share", "events at weekends"
    ),
    "night_share": Feature(_hours(0, 6), F64, "share", "events from 0 to 6 h"),
    "morning_share": Feature(_hours(6, 12), F64, "share", "events from 6 to 12 h"),
    "afternoon_share": Feature(_hours(12, 18), F64, "share", "events from 12 to 18 h"),
    "evening_share": Feature(_hours(18, 24), F64, "share", "events from 18 to 24 h"),
}


def _spend(days: int | None) -> Callable[[Past], np.ndarray]:
    window = -1 if days is None else SPENDING_DAYS.index(days)
    return lambda p: np.asarray(p.spending.sums[window])


def _order_gap(p: Past) -> np.ndarray:
    """Mean days from one spending event to the next."""
    return ratio(_days(p.spending.last - p.spending.first), np.maximum(p.spending.orders - 1, 0))


def _spend_recency(p: Past) -> np.ndarray:
    """Days since the latest spending event."""
    return np.where(p.spending.orders > 0, _days(p.as_of - p.spending.last), np.nan)


def _band(p: Past) -> np.ndarray:
    """Band of what was spent, from 1; 0 where nothing was."""
    spend = p.spending.sums[-1]
    return np.where(spend > 0, np.searchsorted(p.context.bands, spend, side="right") + 1, 0)


MONEY = "events of spend_types with a value above 0"
VALUE: Columns = {
    "orders": Feature(lambda p: p.spending.orders, U32, "events", "events that spent", MONEY, fill=0),
    "spend": Feature(_spend(None), F64, "money", "sum spent", MONEY, fill=0.0),
    "spend_30d": Feature(_spend(30), F64, "money", "sum spent", MONEY, "30 days", 0.0),
    "spend_90d": Feature(_spend(90), F64, "money", "sum spent", MONEY, "90 days", 0.0),
    "spend_365d": Feature(_spend(365), F64, "money", "sum spent", MONEY, "365 days", 0.0),
    "spend_mean": Feature(
        lambda p: ratio(p.spending.sums[-1], p.spending.orders), F64, "money", "mean spent at once", MONEY
    ),
    "spend_max": Feature(lambda p: p.spending.most, F64, "money", "most spent at once", MONEY, fill=0.0),
    "spend_recency_days": Feature(_spend_recency, F64, "days", "time since the latest spending", MONEY),
    "spend_gap_days": Feature(_order_gap, F64, "days", "mean time from one spending to the next", MONEY),
    "spending_band": Feature(
        _band, U8, "band", "band of spend among those who spent, from 1; 0: nothing", MONEY, fill=0
    ),
}


def _mean(row: int) -> Callable[[Past], np.ndarray]:
    return lambda p: np.asarray(p.tastes.means[row])


ITEM_EVENTS = "events with an item"
BEHAVIOUR: Columns = {
    "distinct_items": Feature(
        lambda p: p.tastes.distinct, U32, "items", "different items touched", ITEM_EVENTS, fill=0
    ),
    "distinct_items_30d": Feature(
        lambda p: p.tastes.recent_distinct,
        U32,
        "items",
        "different items touched",
        ITEM_EVENTS,
        "30 days",
        0,
    ),
    "repeat_share": Feature(
        lambda p: 1 - ratio(p.tastes.distinct, p.tastes.named),
        F64,
        "share",
        "item events that repeat an item",
        ITEM_EVENTS,
    ),
    "explore_share": Feature(
        lambda p: ratio(p.tastes.explored, p.tastes.recent),
        F64,
        "share",
        "item events that met an item for the first time",
        ITEM_EVENTS,
        "30 days",
    ),
    "novelty_seeking": Feature(
        lambda p: ratio(p.tastes.fresh, p.tastes.distinct),
        F64,
        "share",
        "items met in their first days",
        ITEM_EVENTS,
    ),
    "surprise": Feature(_mean(0), F64, "bits", "mean -log2 share of the items touched", ITEM_EVENTS),
    "popularity_taste": Feature(
        _mean(1),
        F64,
        "0 to 1",
        "mean popularity percentile of the items touched",
        ITEM_EVENTS,
    ),
    "popularity_spread": Feature(
        lambda p: p.tastes.spread, F64, "0 to 1", "standard deviation of that percentile", ITEM_EVENTS
    ),
    "mean_price": Feature(_mean(2), F64, "money", "mean price of the items touched", ITEM_EVENTS),
    "category_entropy": Feature(
        partial(entropy, "category"), F64, "bits", "spread over categories", "weighted events"
    ),
    "brand_entropy": Feature(partial(entropy, "brand"), F64, "bits", "spread over brands", "weighted events"),
}

LISTS: Columns = {
    "last_items": Feature(
        lambda p: item_lists(p, p.tastes.last, p.config.last_items),
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
    return np.asarray(p.by_type.counts[-1 if kind is None else kind, window])


def _recency(kind: int, p: Past) -> np.ndarray:
    latest = p.by_type.latest[kind]
    return np.where(latest == -NEVER, np.nan, _days(p.as_of - np.where(latest == -NEVER, 0, latest)))


def _value_sum(kind: int, p: Past) -> np.ndarray:
    return np.asarray(p.by_type.value_sum[kind])


def _value_mean(kind: int, p: Past) -> np.ndarray:
    return ratio(p.by_type.value_sum[kind], p.by_type.value_count[kind])


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
