"""Events to weighted interactions: one function for a whole log and for one live user."""

from typing import Annotated

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from profiles.schema import INTERACTIONS


class InteractionsConfig(BaseModel):
    """Which events say something about taste, and how much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, Annotated[float, Field(ge=0, le=1e9)]] = Field(
        default_factory=dict,
        description="weight of each event type; types not named are ignored. Empty: every type weighs 1",
    )
    minimum_value: dict[str, float] = Field(
        default_factory=dict,
        description="per event type, the value from which an event speaks for the item, as 4 for a rating",
    )


def interactions(events: pl.DataFrame, config: InteractionsConfig) -> pl.DataFrame:
    """Return INTERACTIONS in the order of the log.

    An event below its type's minimum value weighs 0: the user has seen the item, and it says nothing
    for it. An event without an item is none.
    """
    if config.weights:
        weight = pl.col("event_type").replace_strict(config.weights, return_dtype=pl.Float32, default=None)
    else:
        weight = pl.lit(1.0, pl.Float32)
    for event_type, least in config.minimum_value.items():
        poor = (pl.col("event_type") == event_type) & ~(pl.col("value") >= least).fill_null(False)
        weight = pl.when(poor & weight.is_not_null()).then(pl.lit(0.0, pl.Float32)).otherwise(weight)
    chosen = events.lazy().select("user_id", "item_id", "event_type", weight.alias("weight"), "timestamp")
    named = chosen.filter(pl.col("item_id").is_not_null() & pl.col("weight").is_not_null())
    return INTERACTIONS.conform(named.collect())
