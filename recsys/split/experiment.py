"""One experiment, and how the past is told from what should have been recommended."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from profiles.schema import microseconds
from recsys.dataset import Catalogue

Protocol = Literal[
    "temporal", "rolling", "leave_last_out", "ratio", "random", "k_fold", "strong",
    "cold_users", "cold_items", "given",
]  # fmt: skip
Target = Literal["all", "first", "last", "random", "successive"]


class FilesConfig(BaseModel):
    """A split that others made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str = Field(description="CSV, TSV or Parquet of user_id, item_id and, if known, timestamp, weight")
    truth: str = Field(description="the same, of what is asked")
    histories: str | None = Field(None, description="the same, of the users asked; none: train knows them")


class SplitConfig(BaseModel):
    """How the past is told from what should have been recommended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Protocol = Field("temporal", description="the protocol; `recsys.split` draws each")
    quantile: float = Field(0.9, gt=0, lt=1, description="temporal: share of the interactions before the cut")
    date: datetime | None = Field(
        None, description="temporal: the cut itself (UTC), in place of the quantile"
    )
    target: Target = Field(
        "all",
        description="temporal: which of a user's later interactions count: all, the first, the last, one at "
        "random, or one after the other (successive), those before it known",
    )
    steps: PositiveInt = Field(10, description="target successive: how many of a user's interactions in turn")
    every_days: PositiveInt = Field(7, description="rolling: days between origins, and of truth after each")
    origins: PositiveInt = Field(8, description="rolling: how many, the last ending with the log")
    held: float = Field(
        0.2, gt=0, lt=1, description="ratio, random, strong, cold_items: share of what is held out"
    )
    folds: int = Field(5, ge=2, description="k_fold: parts, each the truth once")
    files: FilesConfig | None = Field(
        None, description="given: where the split is, from the settings' folder"
    )
    validation: Literal["time", "users"] = Field(
        "time",
        description="what weights and settings are chosen on: an earlier cut, or the same of other users",
    )
    validation_share: float = Field(
        0.5, gt=0, lt=1, description="validation users: share of those asked that is chosen on, not tested"
    )
    shots: PositiveInt = Field(1, description="cold_users: interactions of a new user that are known")
    seed: int = Field(
        0, ge=0, description="of what is drawn: random, k_fold, strong, cold_items, target random, validation"
    )
    seen_events: tuple[str, ...] = Field((), description="event types that mask an item; empty: all")
    truth_events: tuple[str, ...] = Field((), description="event types that count as truth; empty: all")
    repeat_consumption: bool = Field(False, description="whether an item seen before may be right again")

    @field_validator("date")
    @classmethod
    def _in_utc(cls, date: datetime | None) -> datetime | None:
        return date.replace(tzinfo=UTC) if date is not None and date.tzinfo is None else date

    @model_validator(mode="after")
    def _files_are_given(self) -> Self:
        if (self.files is None) == (self.split == "given"):
            raise ValueError('split = "given" and files = { train = …, truth = … } go together')
        return self


@dataclass(frozen=True)
class Split:
    """One experiment: `Split(train, histories, truth)` at a moment."""

    name: str
    at: datetime
    train: pl.DataFrame  # INTERACTIONS
    histories: pl.DataFrame  # INTERACTIONS of the users asked about, none of them truth
    truth: pl.DataFrame  # user_id, item_id, weight: distinct pairs that can be listed, their largest weight
    counts: Mapping[str, int]  # pairs and users left out, by reason
    leaks: str | None = None  # what the protocol lets train know of the future
    learned: datetime | None = None  # where train ends before `at`; splits that have it share one train

    @property
    def as_of(self) -> datetime:
        """The moment train is of."""
        return self.learned or self.at

    @property
    def moment(self) -> int:
        """`at` in microseconds."""
        return microseconds(self.at)

    @property
    def users(self) -> list[str]:
        """Users asked about, sorted."""
        return self.truth["user_id"].unique().sort().to_list()


def seen(interactions: pl.DataFrame, config: SplitConfig) -> pl.DataFrame:
    """Return the interactions that mask their item for the user."""
    if config.repeat_consumption:
        return interactions.clear()
    if config.seen_events:
        return interactions.filter(pl.col("event_type").is_in(config.seen_events))
    return interactions


def experiment(
    name: str,
    at: datetime,
    train: pl.DataFrame,
    future: pl.DataFrame,
    catalogue: Catalogue,
    config: SplitConfig,
    leaks: str | None = None,
    past: pl.DataFrame | None = None,
    learned: datetime | None = None,
) -> Split:
    """Make a Split: `future` becomes the truth of users with a `past`, which is train's unless given.

    What nobody may list then, because it is seen and masked or not on offer, leaves the truth, counted.
    """
    past = train if past is None else past
    liked = future.filter(pl.col("weight") > 0)
    if config.truth_events:
        liked = liked.filter(pl.col("event_type").is_in(config.truth_events))
    pairs = liked.group_by("user_id", "item_id").agg(pl.col("weight").max()).sort("user_id", "item_id")
    known_users = past.filter(pl.col("weight") > 0).select("user_id").unique()
    warm = pairs.join(known_users, on="user_id", how="semi")
    fresh = warm.join(seen(past, config), on=["user_id", "item_id"], how="anti")
    available = pl.DataFrame({"item_id": catalogue.items.ids}).filter(
        catalogue.candidates(np.array([microseconds(at)]))[0]
    )
    truth = fresh.join(available, on="item_id", how="semi").sort("user_id", "item_id")
    trained = train.filter(pl.col("weight") > 0).select("item_id").unique()
    counts = {
        "users": truth["user_id"].n_unique(),
        "cold_users": pairs["user_id"].n_unique() - warm["user_id"].n_unique(),
        "pairs": len(fresh),
        "seen_pairs": len(warm) - len(fresh),
        "unavailable_pairs": len(fresh) - len(truth),
        "unreachable_pairs": len(fresh.join(trained, on="item_id", how="anti")),
    }
    histories = past.join(truth.select("user_id").unique(), on="user_id", how="semi", maintain_order="left")
    return Split(name, at, train, histories, truth, counts, leaks, learned)
