"""The columns of an item's profile, in explicit dictionaries: one function, one column.

Every function takes the `Totals` of the log and returns one value an item. Rates that rest on few
events are pulled towards the log's own rate.
"""

from functools import partial

import numpy as np
import polars as pl

from profiles.features import VALUE_SHARES, Feature, Lists, counts_by_type, loops
from profiles.features.past import ratio
from profiles.features.totals import Totals
from profiles.schema import DAY, TIME

Columns = dict[str, Feature[Totals]]
U32, F64, U8 = pl.UInt32(), pl.Float64(), pl.UInt8()
PRIOR = 20.0  # events the log's own rate counts for in a smoothed rate


def _all(t: Totals) -> np.ndarray:
    """Events of each item."""
    return t.context.events


def _moment(times: np.ndarray, known: np.ndarray) -> pl.Series:
    return pl.Series(np.where(known, times, 0)).cast(TIME).set(pl.Series(~known), None)


def _age(t: Totals) -> np.ndarray:
    since = t.context.since
    known = since <= t.context.as_of
    return np.where(known, (t.context.as_of - np.where(known, since, 0)) / DAY, np.nan)


def _trend(t: Totals) -> np.ndarray:
    """log2 of the last 7 days' daily rate over that of the last 30, each with one event in 30 days more."""
    week, month = t.counts(7).sum(axis=1), t.counts(30).sum(axis=1)
    return np.asarray(np.log2((week * (30 / 7) + 1) / (month + 1)))


def _smoothed(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Rate of `above` in `below`, pulled towards the rate of the whole log; NaN where that has none."""
    overall = above.sum() / below.sum() if below.any() else np.nan
    return np.asarray((above + PRIOR * overall) / (below + PRIOR))


def _recency(t: Totals) -> np.ndarray:
    return np.where(_all(t) > 0, (t.context.as_of - np.where(_all(t) > 0, t.last, 0)) / DAY, np.nan)


def _price_band(t: Totals) -> np.ndarray:
    band = t.context.attributes["price_band"]
    codes = np.append(band.values.cast(pl.UInt8).to_numpy(), np.uint8(0))
    found = np.full(band.items.shape[0], -1)
    found[np.diff(band.items.indptr) > 0] = band.items.indices
    return codes[found]


POPULARITY: Columns = {
    "first_event": Feature(lambda t: _moment(t.first, _all(t) > 0), TIME, "UTC", "first event"),
    "last_event": Feature(lambda t: _moment(t.last, _all(t) > 0), TIME, "UTC", "latest event"),
    "recency_days": Feature(_recency, F64, "days", "time since the latest event"),
    "age_days": Feature(_age, F64, "days", "time since it was available, else since its first event"),
    "distinct_users": Feature(lambda t: t.users, U32, "users", "different users", fill=0),
    "popularity": Feature(
        lambda t: t.context.percentile, F64, "0 to 1", "percentile of events among items with any"
    ),
    "trend": Feature(_trend, F64, "log2", "daily rate of the last 7 days over the last 30", window="30 days"),
    "repeat_share": Feature(
        lambda t: _smoothed(_all(t) - t.users, _all(t)),
        F64,
        "share",
        "events of users who had touched it, smoothed",
    ),
    "price_band": Feature(
        _price_band, U8, "band", "band of its price, from 1; 0: no price", "attributes", fill=0
    ),
}


def _audience(name: str, t: Totals) -> Lists:
    """Shares of the values of a user attribute among an item's users, most frequent first."""
    table = t.audience[name]
    item, code = np.nonzero(table)
    times = table[item, code].astype(np.int64)
    order = np.lexsort((code, -times, item))
    total = np.maximum(1, table.sum(axis=1, dtype=np.int64))
    offsets = np.append(0, np.cumsum((table > 0).sum(axis=1)))
    return Lists(offsets, t.audiences[name][code[order]], times[order] / total[item[order]])


AUDIENCE: Columns = {
    "user_events": Feature(
        lambda t: ratio(t.user_events.astype(np.float64), t.users),
        F64,
        "events",
        "mean events of the users who touched it",
    ),
    "new_user_share": Feature(
        lambda t: _smoothed(t.young, _all(t)),
        F64,
        "share",
        "events of users in their first days, smoothed",
    ),
    "entry_share": Feature(
        lambda t: _smoothed(t.openers, _all(t)), F64, "share", "events that began a visit, smoothed"
    ),
}


def _co_items(t: Totals) -> Lists:
    """Items most often next to an item in a visit, as the share of its neighbours; ties by id."""
    pairs = t.pairs()
    first, last = pairs.indptr[:-1], pairs.indptr[1:]
    nothing = np.zeros(pairs.shape[1])
    offsets, others, shares = loops.strongest(
        first, last, pairs.indices, pairs.data, 0.0, nothing, 0, t.config.affinities
    )
    return Lists(offsets, t.context.item_ids.gather(others), shares)


def _count(kind: int | None, days: int | None, t: Totals) -> np.ndarray:
    counts = t.counts(days)
    return np.asarray(counts.sum(axis=1)) if kind is None else counts[:, kind]


def _value_mean(kind: int, t: Totals) -> np.ndarray:
    return ratio(t.value_sum[:, kind], t.value_count[:, kind])


def _conversion(first: int, second: int, t: Totals) -> np.ndarray:
    counts = t.counts()
    return np.asarray(np.minimum(1.0, _smoothed(counts[:, second], counts[:, first])))


def _by_type(t: Totals) -> Columns:
    """Counts of every type and window, means of values, and rates from type to type."""
    types = t.context.event_types
    columns: Columns = counts_by_type(
        types, t.config.windows_days, lambda kind, days: partial(_count, kind, days)
    )
    for kind, name in enumerate(types):
        columns[f"value_mean_{name}"] = Feature(
            partial(_value_mean, kind), F64, "as given", "mean of values", name
        )
    for first, second in t.config.conversions:
        if first in types and second in types:
            columns[f"{first}_to_{second}"] = Feature(
                partial(_conversion, types.index(first), types.index(second)),
                F64,
                "share",
                f"{second} events to one {first}, smoothed, at most 1",
                f"{first}, {second}",
            )
    return columns


def item_features(totals: Totals) -> Columns:
    """Return every column that is made from events, by name, in order."""
    audience: Columns = {
        f"{name}_audience": Feature(
            partial(_audience, name), VALUE_SHARES, "shares", f"mix of {name} among its users", fill=[]
        )
        for name in totals.audiences
    }
    co_items: Columns = {
        "co_items": Feature(
            _co_items,
            VALUE_SHARES,
            "shares",
            "items next to it in visits, as shares of all such",
            window=f"{totals.config.co_items_days} days",
            fill=[],
        )
    }
    return POPULARITY | _by_type(totals) | AUDIENCE | audience | co_items
