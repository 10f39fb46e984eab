"""Splits: what is learned from, what the queries know, and what they should have been told.

    temporal          ───────── train ─────────┤cut├──── truth ────
    rolling           ──── train ────┤o1├ truth ┤
                      ──────── train ───────┤o2├ truth ┤   (each origin a split of its own)
    leave_last_out    every user: ── train ──┤last├       (leaks: train holds what came later elsewhere)

Candidates are the items available at the moment of asking. Pairs nobody may list then, because they
are seen and masked or not on offer, leave the truth and are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from profiles.schema import ContractError, microseconds
from recsys.dataset import Catalogue

Protocol = Literal["temporal", "rolling", "leave_last_out"]


class SplitConfig(BaseModel):
    """How the past is told from what should have been recommended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Protocol = Field("temporal", description="temporal, rolling or leave_last_out")
    quantile: float = Field(0.9, gt=0, lt=1, description="temporal: share of the interactions before the cut")
    every_days: PositiveInt = Field(7, description="rolling: days between origins, and of truth after each")
    origins: PositiveInt = Field(8, description="rolling: how many, the last ending with the log")
    seen_events: tuple[str, ...] = Field((), description="event types that mask an item; empty: all")
    truth_events: tuple[str, ...] = Field((), description="event types that count as truth; empty: all")
    repeat_consumption: bool = Field(False, description="whether an item seen before may be right again")


@dataclass(frozen=True)
class Split:
    """One experiment: `Split(train, histories, truth)` at a moment."""

    name: str
    at: datetime
    train: pl.DataFrame  # INTERACTIONS
    histories: pl.DataFrame  # INTERACTIONS of the users asked about, all before the truth
    truth: pl.DataFrame  # user_id, item_id: distinct pairs that can be listed
    counts: Mapping[str, int]  # pairs and users left out, by reason
    leaks: str | None = None  # what the protocol lets train know of the future

    @property
    def moment(self) -> int:
        """`at` in microseconds."""
        return microseconds(self.at)

    @property
    def users(self) -> list[str]:
        """Users asked about, sorted."""
        return self.truth["user_id"].unique().sort().to_list()


def splits(
    interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig, timeless: bool = False
) -> list[Split]:
    """Cut INTERACTIONS as the configuration says; each split asks about the users with a past and a truth."""
    if timeless and config.split != "leave_last_out":
        raise ContractError(
            f'evaluation: split = "{config.split}" needs times, and this log has only an order; '
            'set split = "leave_last_out"'
        )
    liked = interactions.filter(pl.col("weight") > 0)
    if not len(liked):
        raise ContractError("evaluation: there are no interactions to split")
    if config.split == "leave_last_out":
        return [_leave_last_out(interactions, catalogue, config)]
    last = liked["timestamp"].max()
    assert isinstance(last, datetime)
    if config.split == "temporal":
        cut = liked["timestamp"].sort()[int(config.quantile * (len(liked) - 1))]
        return [_at(interactions, catalogue, config, cut, last)]
    step = timedelta(days=config.every_days)
    origins = [last - step * (config.origins - i) for i in range(config.origins)]
    return [_at(interactions, catalogue, config, origin, origin + step) for origin in origins]


def _at(
    interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig, cut: datetime, end: datetime
) -> Split:
    past = interactions.filter(pl.col("timestamp") <= cut)
    future = interactions.filter((pl.col("timestamp") > cut) & (pl.col("timestamp") <= end))
    return _split(cut.strftime("%Y-%m-%d %H:%M:%S"), cut, past, future, catalogue, config)


def _leave_last_out(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> Split:
    ordered = interactions.sort("timestamp", maintain_order=True).with_row_index("place")
    liked = ordered.filter(pl.col("weight") > 0)
    final = liked.group_by("user_id").agg(pl.col("place").last()).rename({"place": "final"})
    ordered = ordered.join(final, on="user_id", how="left", maintain_order="left")
    past = ordered.filter(pl.col("place") < pl.col("final")).drop("place", "final")
    future = ordered.filter(pl.col("place") == pl.col("final")).drop("place", "final")
    at = ordered["timestamp"].max()
    assert isinstance(at, datetime)
    leaks = "train holds interactions of other users later than the truth"
    return _split("last", at, past, future, catalogue, config, leaks)


def seen(interactions: pl.DataFrame, config: SplitConfig) -> pl.DataFrame:
    """Return the interactions that mask their item for the user."""
    if config.repeat_consumption:
        return interactions.clear()
    if config.seen_events:
        return interactions.filter(pl.col("event_type").is_in(config.seen_events))
    return interactions


def _split(
    name: str,
    at: datetime,
    past: pl.DataFrame,
    future: pl.DataFrame,
    catalogue: Catalogue,
    config: SplitConfig,
    leaks: str | None = None,
) -> Split:
    liked = future.filter(pl.col("weight") > 0)
    if config.truth_events:
        liked = liked.filter(pl.col("event_type").is_in(config.truth_events))
    pairs = liked.select("user_id", "item_id").unique().sort("user_id", "item_id")
    known_users = past.filter(pl.col("weight") > 0).select("user_id").unique()
    warm = pairs.join(known_users, on="user_id", how="semi")
    fresh = warm.join(seen(past, config), on=["user_id", "item_id"], how="anti")
    available = pl.DataFrame({"item_id": catalogue.items.ids}).filter(
        catalogue.candidates(np.array([microseconds(at)]))[0]
    )
    truth = fresh.join(available, on="item_id", how="semi").sort("user_id", "item_id")
    trained = past.filter(pl.col("weight") > 0).select("item_id").unique()
    counts = {
        "users": truth["user_id"].n_unique(),
        "cold_users": pairs["user_id"].n_unique() - warm["user_id"].n_unique(),
        "pairs": len(fresh),
        "seen_pairs": len(warm) - len(fresh),
        "unavailable_pairs": len(fresh) - len(truth),
        "unreachable_pairs": len(fresh.join(trained, on="item_id", how="anti")),
    }
    histories = past.join(truth.select("user_id").unique(), on="user_id", how="semi", maintain_order="left")
    return Split(name, at, past, histories, truth, counts, leaks)
