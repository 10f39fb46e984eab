"""The columns of a user's profile in plain Polars: what someone at home in it would write.

The same names and meanings as ours (`attune show user` explains each), in lazy queries on the streaming
engine over one frame sorted by user and time; ids become enumerations first, as strings cost memory.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from benchmarks.log import TYPES, Log
from profiles.schema import DAY, TIME, microseconds

WEIGHTS = {"view": 1.0, "cart": 2.0, "purchase": 4.0, "rating": 1.0}  # of an event, for affinities
WINDOWS = {"1d": 1, "7d": 7, "30d": 30, "90d": 90, "365d": 365, "all": 1_000_000}
PAUSE = 30 * 60_000_000  # microseconds without an event that end a visit
HALF_LIFE, SMOOTHING, KEPT, LAST_ITEMS, BANDS, NEW = 30.0, 5.0, 5, 20, 5, 30
ATTRIBUTES = {"category": "categories", "tag": "tags", "brand": "brand", "price_band": "price_band"}

VALUE_SHARE = pl.Struct({"value": pl.String(), "share": pl.Float64()})

user, item, kind, time = pl.col("user_id"), pl.col("item_id"), pl.col("event_type"), pl.col("timestamp")
value, age, gap, place = pl.col("value"), pl.col("age"), pl.col("gap"), pl.col("place")


@dataclass(frozen=True)
class _Tables:
    """What every family of columns reads."""

    events: pl.LazyFrame  # by user, then time
    pairs: pl.LazyFrame  # a row for each user and item
    at: int  # the moment, in microseconds since 1970
    items: pl.DataFrame  # standing and attributes, a row for each item of the catalogue


def polars_profiles(log: Log) -> pl.DataFrame:
    """Return a row for each user with an event, by id."""
    tables = _tables(log)
    profiles = tables.events.group_by("user_id").agg(_simple()).collect(engine="streaming")
    families = [_visits(tables), _behaviour(tables)]
    families += [_affinity(tables, name) for name in ATTRIBUTES]
    for family in families:
        profiles = profiles.join(family.collect(engine="streaming"), on="user_id", how="left")
    return _finished(profiles)


def _tables(log: Log) -> _Tables:
    at = microseconds(log.as_of)
    users = pl.Enum(pl.read_parquet(log.users, columns=["user_id"])["user_id"].sort())
    catalogue = pl.read_parquet(log.items)
    coded = pl.scan_parquet(log.events).select(
        user.cast(users),
        item.cast(pl.Enum(catalogue["item_id"])),
        kind.cast(pl.Enum(TYPES)),
        time.to_physical(),
        value,
        texts=pl.col("text").is_not_null(),
        followed=pl.col("recommendation_id").is_not_null(),
        session=pl.col("session_id").hash(),
        told=pl.col("session_id").is_not_null(),
    )
    ordered = coded.sort("user_id", "timestamp", maintain_order=True).collect(engine="streaming")
    same = user == user.shift(1)
    told = pl.col("told") & pl.col("told").shift(1)
    day = time // DAY
    events = (
        ordered.with_row_index("place")
        .lazy()
        .with_columns(
            age=at - time,
            day=day,
            hour=(time - day * DAY) // (DAY // 24),
            weekday=(day + 3) % 7,
            gap=pl.when(same).then(time - time.shift(1)),
            opens_day=~(same & (day == day.shift(1))).fill_null(False),
            opens_visit=~(
                same
                & pl.when(told)
                .then(pl.col("session") == pl.col("session").shift(1))
                .otherwise(time - time.shift(1) <= PAUSE)
            ).fill_null(False),
            weight=kind.replace_strict(WEIGHTS, default=0.0, return_dtype=pl.Float64),
        )
    )
    strength = pl.col("weight") * (-age / (DAY * HALF_LIFE) * math.log(2)).exp()
    pairs = (
        events.filter(item.is_not_null())
        .group_by("user_id", "item_id")
        .agg(
            first=time.min(),
            place=place.max(),
            youngest=age.min(),
            oldest=age.max(),
            events=pl.len(),
            recent=_within(30).sum(),
            weight=pl.col("weight").sum(),
            strength=strength.sum(),
            said=time.filter(pl.col("weight") > 0).max(),
        )
        .collect(engine="streaming")
    )
    return _Tables(events, pairs.lazy(), at, _items(catalogue, pairs, at))


def _items(catalogue: pl.DataFrame, pairs: pl.DataFrame, at: int) -> pl.DataFrame:
    """Return each item's events, weight, percentile and surprise beside its attributes."""
    counted = pairs.group_by("item_id").agg(
        count=pl.col("events").sum(), weight=pl.col("weight").sum(), met=pl.col("first").min()
    )
    price = pl.col("price")
    edges = _edges(catalogue["price"].drop_nulls().to_numpy())
    known = catalogue.with_columns(
        item.cast(pairs.schema["item_id"]),
        price_band=pl.when(price.is_not_null()).then(_band(price, edges).cast(pl.String)),
    )
    alive = pl.col("count").rank("average") - 1
    return known.join(counted, on="item_id", how="left").with_columns(
        percentile=alive / (pl.col("count").is_not_null().sum() - 1).clip(1),
        surprise=-(pl.col("count") / pl.col("count").sum()).log(2),
        since=pl.coalesce(pl.col("available_from").to_physical(), "met"),
    )


def _edges(values: np.ndarray) -> list[float]:
    """Return the inner edges that part values above 0 into bands of equal numbers."""
    values = values[values > 0]
    if not len(values):
        return []
    return [float(edge) for edge in np.unique(np.quantile(values, np.arange(1, BANDS) / BANDS))]


def _band(values: pl.Expr, edges: list[float]) -> pl.Expr:
    """Number the band each value lies in, from 1; a value at an edge is in the upper one."""
    return pl.lit(pl.Series(edges, dtype=pl.Float64)).search_sorted(values, side="right") + 1


def _within(days: float) -> pl.Expr:
    return age < int(days * DAY)


def _ratio(above: pl.Expr, below: pl.Expr) -> pl.Expr:
    """Divide; null where there is nothing to divide by."""
    return pl.when(below != 0).then(above / below)


def _simple() -> list[pl.Expr]:
    """Return what one pass over a user's events gives."""
    opens, hour, day = pl.col("opens_day"), pl.col("hour"), pl.col("day")
    days, span = opens.sum(), day.max() - day.min()
    angle = hour * (2 * math.pi / 24)
    money = (kind == "purchase") & (value > 0)
    spent = value.filter(money)
    columns = {
        "first_event": time.min().cast(TIME),
        "last_event": time.max().cast(TIME),
        "recency_days": age.min() / DAY,
        "tenure_days": age.max() / DAY,
        "active_days": days,
        "active_days_30d": (opens & _within(30)).sum(),
        "active_share": days / (span + 1),
        "events_per_active_day": pl.len() / days,
        "gap_days": _ratio(span, days - 1),
        "longest_gap_days": gap.max().fill_null(0) / DAY,
        "trend": ((_within(7).sum() + 1) / 7).log(2) - ((_within(30).sum() + 1) / 30).log(2),
        "texts": pl.col("texts").sum(),
        "follow_share": pl.col("followed").mean(),
    }
    for short, window in WINDOWS.items():
        columns[f"events_{short}"] = _within(window).sum()
        columns |= {f"count_{t}_{short}": ((kind == t) & _within(window)).sum() for t in TYPES}
    for t in TYPES:
        columns[f"recency_days_{t}"] = age.filter(kind == t).min() / DAY
        columns[f"value_sum_{t}"] = value.filter(kind == t).sum()
        columns[f"value_mean_{t}"] = value.filter(kind == t).mean()
    columns |= {
        "sessions": pl.col("opens_visit").sum(),
        "sessions_30d": (pl.col("opens_visit") & _within(30)).sum(),
        "session_events": pl.len() / pl.col("opens_visit").sum(),
        "cosine": angle.cos().mean(),
        "sine": angle.sin().mean(),
        **{f"weekday_{n}": (pl.col("weekday") == n).sum() for n in range(7)},
        "weekend_share": (pl.col("weekday") >= 5).mean(),
        "night_share": (hour < 6).mean(),
        "morning_share": hour.is_between(6, 11).mean(),
        "afternoon_share": hour.is_between(12, 17).mean(),
        "evening_share": (hour >= 18).mean(),
        "orders": money.sum(),
        "spend": spent.sum(),
        **{f"spend_{n}d": value.filter(money & _within(n)).sum() for n in (30, 90, 365)},
        "spend_mean": spent.mean(),
        "spend_max": spent.max().fill_null(0.0),
        "spend_recency_days": age.filter(money).min() / DAY,
        "spend_gap_days": _ratio((age.filter(money).max() - age.filter(money).min()) / DAY, money.sum() - 1),
    }
    return [expression.alias(name) for name, expression in columns.items()]


def _visits(tables: _Tables) -> pl.LazyFrame:
    """Return what is known visit by visit."""
    numbered = tables.events.with_columns(visit=pl.col("opens_visit").cum_sum())
    visits = numbered.group_by("user_id", "visit").agg(begin=time.min(), end=time.max(), events=pl.len())
    minutes, begin = (pl.col("end") - pl.col("begin")) / 60e6, pl.col("begin")
    return visits.group_by("user_id").agg(
        session_minutes=minutes.mean(),
        longest_session_minutes=minutes.max(),
        session_gap_days=_ratio((begin.max() - begin.min()) / DAY, pl.len() - 1),
        bounce_share=(pl.col("events") == 1).mean(),
    )


def _behaviour(tables: _Tables) -> pl.LazyFrame:
    """Return what a user makes of the items, from the pairs of user and item."""
    standing = tables.items.lazy().select("item_id", "percentile", "surprise", "since", "price")
    n, percentile, recent = pl.col("events"), pl.col("percentile"), 30 * DAY

    def mean(of: pl.Expr) -> pl.Expr:
        return _ratio((of * n).sum(), n.filter(of.is_not_null()).sum())

    return (
        tables.pairs.join(standing, on="item_id", how="left")
        .group_by("user_id")
        .agg(
            distinct_items=pl.len(),
            distinct_items_30d=(pl.col("youngest") < recent).sum(),
            repeat_share=1 - pl.len() / n.sum(),
            explore_share=_ratio((pl.col("oldest") < recent).sum(), pl.col("recent").sum()),
            novelty_seeking=(pl.col("first") - pl.col("since") < NEW * DAY).mean(),
            surprise=mean(pl.col("surprise")),
            popularity_taste=mean(percentile),
            popularity_spread=(mean(percentile**2) - mean(percentile) ** 2).clip(0).sqrt(),
            mean_price=mean(pl.col("price")),
            last_items=item.sort_by("place", descending=True).head(LAST_ITEMS),
        )
    )


def _affinity(tables: _Tables, name: str) -> pl.LazyFrame:
    """Return the strongest values of an attribute, decayed and smoothed to everybody's shares."""
    values = tables.items.select("item_id", "weight", value=ATTRIBUTES[name])
    if name in ("category", "tag"):
        values = values.explode("value")
    values = values.drop_nulls("value")
    values = values.with_columns(pl.col("value").cast(pl.Enum(values["value"].unique().sort())))
    everybody = values.group_by("value").agg(pl.col("weight").sum())
    everybody = everybody.select("value", overall=pl.col("weight") / pl.col("weight").sum())
    strength, whole = pl.col("strength"), pl.col("whole")
    said = tables.pairs.filter(strength > 0)
    leanings = (
        said.select("user_id", "item_id", "strength")
        .join(values.lazy().select("item_id", "value"), on="item_id")
        .group_by("user_id", "value")
        .agg(strength.sum())
        .collect(engine="streaming")
        .lazy()
    )
    latest = said.group_by("user_id").agg(latest=pl.col("said").max())
    users = leanings.group_by("user_id").agg(whole=strength.sum()).join(latest, on="user_id")
    # Decay counts from the user's own latest weighted event. The share is made before the group is
    # sorted: within it Polars 2.1 reads beyond memory where a struct mixes columns and sums.
    fresh = (-(tables.at - pl.col("latest")) / (DAY * HALF_LIFE) * math.log(2)).exp()
    shares = (
        leanings.join(everybody.lazy(), on="value")
        .join(users, on="user_id")
        .with_columns(
            share=(strength + SMOOTHING * fresh * pl.col("overall")) / (whole + SMOOTHING * fresh),
            bits=-(strength / whole) * (strength / whole).log(2),
        )
    )
    by = [pl.col("share").cast(pl.Float32), pl.col("value").to_physical()]
    leaning = pl.struct("value", "share").sort_by(by, descending=[True, False]).head(KEPT)
    columns = {f"{name}_affinity": leaning.cast(VALUE_SHARE)}
    if name in ("category", "brand"):
        columns[f"{name}_entropy"] = pl.col("bits").sum()
    return shares.group_by("user_id").agg(**columns)


def _finished(profiles: pl.DataFrame) -> pl.DataFrame:
    """Put together what needs several columns, or all users."""
    spend, (x, y) = pl.col("spend"), (pl.col("cosine"), pl.col("sine"))
    length = (x**2 + y**2).sqrt()
    weekdays = [f"weekday_{n}" for n in range(7)]
    edges = _edges(profiles["spend"].to_numpy())
    return (
        profiles.with_columns(
            user.cast(pl.String),
            usual_hour=pl.when(length > 1e-9).then((pl.arctan2(y, x) * (24 / (2 * math.pi)) + 24) % 24),
            hour_regularity=length,
            usual_weekday=pl.concat_list(weekdays).list.arg_max(),
            spending_band=pl.when(spend > 0).then(_band(spend, edges)).otherwise(0).cast(pl.UInt8),
            last_items=pl.col("last_items").cast(pl.List(pl.String)),
        )
        .drop("cosine", "sine", *weekdays)
        .sort("user_id")
    )
