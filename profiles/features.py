"""What the log says about users and items: one function, one column, in explicit dictionaries.

A feature is an expression over one group of events (those of a user, or of an item) seen from a
moment: `age_days` says how long before it each event happened, and no later event is in the group.
So the value for one live user is the batch's value by construction. Affinities, which need a join and
a ranking, are SQL statements run over the same frames (`sql/`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from profiles import engine
from profiles.schema import DAY, TIME, microseconds


class FeaturesConfig(BaseModel):
    """Moment, windows, decays and list lengths of the profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: AwareDatetime | None = Field(
        None, description="moment the profiles are built for, as 2026-01-31T00:00:00Z; none: the last event"
    )
    windows_days: tuple[PositiveInt, ...] = Field(
        (1, 7, 30, 90), description="windows of the counts, in days"
    )
    half_life_days: PositiveFloat = Field(30.0, description="an event counts half in affinities after this")
    affinities: PositiveInt = Field(5, description="strongest values kept of each affinity")
    last_items: PositiveInt = Field(20, description="most recent distinct items kept")


@dataclass(frozen=True)
class Feature:
    """One profile column: its expression over a group of events, unit, fill and meaning."""

    expression: Callable[[FeaturesConfig], pl.Expr]
    dtype: pl.DataType
    unit: str
    fill: object  # the value of an id without events; None: unknown
    meaning: str


def _last_items(config: FeaturesConfig) -> pl.Expr:
    newest_first = pl.col("item_id").drop_nulls().reverse().unique(maintain_order=True)
    return newest_first.head(config.last_items).implode()


def _count(event_type: str, days: int | None) -> Callable[[FeaturesConfig], pl.Expr]:
    of_type = pl.col("event_type") == event_type
    chosen = of_type if days is None else of_type & (pl.col("age_days") < days)
    return lambda _: chosen.sum()


def counts(event_types: Sequence[str], config: FeaturesConfig) -> dict[str, Feature]:
    """Return the columns count_<type>_<days>d and count_<type>_all for the types a log holds."""
    spans: list[int | None] = [*config.windows_days, None]
    return {
        f"count_{event_type}_{'all' if days is None else f'{days}d'}": Feature(
            _count(event_type, days), pl.UInt32(), "events", 0, f"{event_type} events in the window"
        )
        for event_type in event_types
        for days in spans
    }


USER_FEATURES: dict[str, Feature] = {
    "events": Feature(lambda _: pl.len(), pl.UInt32(), "events", 0, "everything the user did"),
    "active_days": Feature(
        lambda _: pl.col("timestamp").dt.date().n_unique(), pl.UInt32(), "days", 0, "UTC days with an event"
    ),
    "sessions": Feature(
        lambda _: pl.col("session_id").drop_nulls().n_unique(),
        pl.UInt32(),
        "sessions",
        0,
        "visits, where given",
    ),
    "distinct_items": Feature(
        lambda _: pl.col("item_id").drop_nulls().n_unique(),
        pl.UInt32(),
        "items",
        0,
        "different items touched",
    ),
    "first_event": Feature(lambda _: pl.col("timestamp").min(), TIME, "UTC", None, "first event"),
    "last_event": Feature(lambda _: pl.col("timestamp").max(), TIME, "UTC", None, "latest event"),
    "recency_days": Feature(
        lambda _: pl.col("age_days").min(), pl.Float64(), "days", None, "time since the latest event"
    ),
    "last_items": Feature(
        _last_items, pl.List(pl.String), "item ids", [], "most recent distinct items, newest first"
    ),
    "texts": Feature(lambda _: pl.col("text").is_not_null().sum(), pl.UInt32(), "texts", 0, "texts written"),
    "last_text": Feature(
        lambda _: pl.col("text").drop_nulls().last(), pl.String(), "text", None, "latest text written"
    ),
}

ITEM_FEATURES: dict[str, Feature] = {
    "events": Feature(lambda _: pl.len(), pl.UInt32(), "events", 0, "everything done to the item"),
    "distinct_users": Feature(
        lambda _: pl.col("user_id").n_unique(), pl.UInt32(), "users", 0, "different users who touched it"
    ),
    "first_event": Feature(lambda _: pl.col("timestamp").min(), TIME, "UTC", None, "first event"),
    "last_event": Feature(lambda _: pl.col("timestamp").max(), TIME, "UTC", None, "latest event"),
    "recency_days": Feature(
        lambda _: pl.col("age_days").min(), pl.Float64(), "days", None, "time since the latest event"
    ),
    "mean_value": Feature(
        lambda _: pl.col("value").mean(), pl.Float64(), "as given", None, "mean of the values given to it"
    ),
}

AFFINITIES: dict[str, str] = {"category_affinity": "categories", "tag_affinity": "tags"}  # column: attribute


def user_profiles(
    ids: pl.Series,
    events: pl.DataFrame,
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    as_of: datetime,
    event_types: Sequence[str],
    config: FeaturesConfig,
) -> pl.DataFrame:
    """Return USER_PROFILES: one row for each of `ids`, in that order.

    Give a whole log or one user's events: nothing here knows the difference. `event_types` fixes the
    count columns, so that a user who never rated has a zero and not a missing column.
    """
    features = USER_FEATURES | counts(event_types, config)
    profiles = _aggregate("user_id", ids, events, as_of, features, config)
    for column, attribute in AFFINITIES.items():
        touched = (
            _aged(interactions, as_of)
            .join(items.select("item_id", pl.col(attribute).alias("attribute")), on="item_id")
            .select("user_id", "attribute", pl.col("weight").cast(pl.Float64), "age_days")
            .filter((pl.col("weight") > 0) & (pl.col("attribute").list.len() > 0))
        )
        found = engine.run(
            "affinity", {"touched": touched}, half_life_days=config.half_life_days, keep=config.affinities
        )
        found = found.rename({"affinity": column}).with_columns(pl.col(column).cast(AFFINITY))
        profiles = profiles.join(found, on="user_id", how="left", maintain_order="left")
        profiles = profiles.with_columns(pl.col(column).fill_null(pl.lit([], AFFINITY)))
    return profiles


def item_profiles(
    ids: pl.Series,
    events: pl.DataFrame,
    as_of: datetime,
    event_types: Sequence[str],
    config: FeaturesConfig,
) -> pl.DataFrame:
    """Return ITEM_PROFILES: one row for each of `ids`, in that order."""
    features = ITEM_FEATURES | counts(event_types, config)
    return _aggregate("item_id", ids, events, as_of, features, config)


AFFINITY = pl.List(pl.Struct({"value": pl.String(), "share": pl.Float64()}))


def _aged(frame: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Keep what happened at or before the moment, and say how many days before."""
    age = pl.lit(microseconds(as_of)) - pl.col("timestamp").to_physical()
    return frame.filter(age >= 0).with_columns((age / DAY).alias("age_days"))


def _aggregate(
    key: str,
    ids: pl.Series,
    events: pl.DataFrame,
    as_of: datetime,
    features: Mapping[str, Feature],
    config: FeaturesConfig,
) -> pl.DataFrame:
    """Run every feature over each id's events, oldest first, and fill the ids without any."""
    past = _aged(events, as_of).sort("timestamp", maintain_order=True)
    columns = [f.expression(config).cast(f.dtype).alias(name) for name, f in features.items()]
    found = past.filter(pl.col(key).is_not_null()).group_by(key).agg(columns)
    profiles = ids.rename(key).to_frame().join(found, on=key, how="left", maintain_order="left")
    return profiles.with_columns(
        pl.col(name).fill_null(pl.lit(f.fill, f.dtype)) for name, f in features.items() if f.fill is not None
    )
