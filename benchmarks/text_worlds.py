"""Three logs with words, and the questions asked of them: who is asked when, knowing what.

`instruments`: 10,261 reviews of Amazon's instruments; those with 4 stars and more are choices, all are texts
of who wrote them, and what was written of an item up to the cut is all that is known of it. `films`:
MovieLens 1M, ratings from 4; a film's text is its plot alone. `shop`: the simulated shop that comes with
Attune; people search and write reviews, items have titles and descriptions.

    warm        cut at a quantile of time; asked is what users with a past chose after it
    cold_users  the same, but half of those asked are strangers: nothing of theirs is learned from, and all
                that is known of them is what they wrote before the cut (what they wrote of is not listed)
    cold_items  a fifth of the items held out whole; asked are some of those who liked them, for a list of
                these items alone, and beside it for one of all items

Each question comes twice: as the test, and as the same question about what the test may learn from, which
settings are chosen on.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.process import NotReached
from nlp.reviews import reviews
from profiles.interactions import InteractionsConfig, interactions
from profiles.log_frames import said, written
from profiles.schema import EVENTS, ITEMS, TIME
from profiles.simulate import WorldConfig, simulate
from recsys.dataset import Catalogue, Queries
from recsys.evaluation import queries
from recsys.split import Split, SplitConfig, by_users, splits, validations

FILES = {
    "instruments": ("amazon_instruments/reviews.parquet",),
    "films": ("ml_1m/ratings.parquet", "ml_1m/movies_extra_imdb.parquet"),
    "shop": (),
}
QUANTILES = {"instruments": 0.8, "films": 0.9, "shop": 0.8}
HELD, ASKED = 0.2, 2000  # share of the items; users asked about them
QUICK_USERS = 150
CHOICES = {  # what speaks for an item
    "instruments": InteractionsConfig(minimum_value={"rating": 4}),
    "films": InteractionsConfig(minimum_value={"rating": 4}),
    "shop": InteractionsConfig(
        weights={"view": 1, "cart": 2, "purchase": 4, "rating": 1, "review": 1},
        minimum_value={"rating": 3, "review": 3},
    ),
}


@dataclass(frozen=True)
class World:
    """A log whose events and items may have words."""

    events: pl.DataFrame  # EVENTS
    items: pl.DataFrame  # ITEMS
    choices: pl.DataFrame  # INTERACTIONS
    catalogue: Catalogue


@dataclass(frozen=True)
class Part:
    """What may be learned, and what is asked. Nothing in here is later than `split.at` but the truth."""

    split: Split
    catalogue: Catalogue
    events: pl.DataFrame  # EVENTS that may be learned from
    items: pl.DataFrame  # ITEMS whose texts may be learned from
    described: pl.DataFrame  # ITEMS whose texts are known when it is asked
    own: pl.DataFrame  # user_id, text, timestamp: what those asked wrote
    queries: Queries
    hidden: np.ndarray  # rows that no list holds

    def frame(self, name: str) -> pl.DataFrame:
        """Return a frame that pairs are made of, as a snapshot would."""
        if name == "texts":
            return pl.concat([written(self.events), said(self.items)])
        return {"events": self.events, "interactions": self.split.train}[name]

    def of_some(self, users: int) -> "Part":
        """Return the part with the pasts of at most so many users, drawn."""
        ids = self.split.train["user_id"].unique().sort()
        drawn = ids.sample(min(users, len(ids)), seed=0).implode()
        theirs = pl.col("user_id").is_in(drawn)
        split = replace(self.split, train=self.split.train.filter(theirs))
        return replace(self, split=split, events=self.events.filter(theirs))

    @property
    def reviews(self) -> pl.DataFrame:
        """What was written of items."""
        return reviews(self.events)


@cache
def world(name: str, data: Path, quick: bool = False) -> World:
    """Return a log by its name."""
    if missing := [file for file in FILES[name] if not (data / file).exists()]:
        raise NotReached(f"{data / missing[0]} is not there: give --data, or set ATTUNE_DATA")
    made = _shop(quick) if name == "shop" else {"instruments": _instruments, "films": _films}[name](data)
    events, items = EVENTS.conform(made[0]), ITEMS.conform(made[1])
    if quick and name != "shop":
        names = events["user_id"].unique().sort().head(QUICK_USERS)
        events = events.filter(pl.col("user_id").is_in(names.implode()))
    newest = events["timestamp"].max()
    assert isinstance(newest, datetime)
    catalogue = Catalogue.of(items, events.select("item_id", "timestamp").drop_nulls(), newest)
    return World(events, items, interactions(events, CHOICES[name]), catalogue)


def part(world: World, name: str, question: str, validation: bool, seed: int = 0) -> Part:
    """Return one question about a log, or the same about what its test may learn from."""
    if question == "cold_items":
        return _cold_items(world, validation, seed)
    config = SplitConfig(quantile=QUANTILES[name])
    (split,) = (validations if validation else splits)(world.choices, world.catalogue, config)
    _, strangers = by_users(split, 0.5, seed)
    known = pl.col("timestamp") <= split.at
    outside = strangers.truth.select("user_id").unique()
    events = world.events.filter(known).join(outside, on="user_id", how="anti", maintain_order="left")
    # Strangers teach nothing in either question, so that one encoder serves both.
    train = split.train.join(outside, on="user_id", how="anti", maintain_order="left")
    asked = replace(split if question == "warm" else strangers, train=train)
    own = world.events.filter(known, pl.col("text").is_not_null()).select("user_id", "text", "timestamp")
    whole = queries(asked, world.catalogue, config)
    if question == "cold_users":
        writers = own["user_id"].unique()
        users = [user for user in asked.users if user in set(writers)]
        truth = asked.truth.filter(pl.col("user_id").is_in(users))
        asked = replace(asked, truth=truth)
        nothing = asked.histories.clear()
        whole = world.catalogue.queries(users, nothing, asked.at, seen=_met(world.events, asked.at))
    return Part(asked, world.catalogue, events, world.items, world.items, own, whole, np.zeros(0, np.int32))


def _met(events: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Return as INTERACTIONS what users wrote of."""
    wrote = events.filter(pl.col("text").is_not_null(), pl.col("timestamp") <= at)
    return interactions(wrote, InteractionsConfig())


def _cold_items(world: World, validation: bool, seed: int) -> Part:
    """Hold items out, of which no word is learned from; the validation holds others out of the rest."""
    config = SplitConfig(split="cold_items", held=HELD, seed=seed)
    (split,) = splits(world.choices, world.catalogue, config)
    hidden = pl.Series("item_id", [], pl.String)
    if validation:
        hidden = outside(world, split.train)
        other = config.model_copy(update={"seed": seed + 100})
        (split,) = splits(split.train, world.catalogue, other)
    split = _asking(split, ASKED, seed)
    left_out = pl.col("item_id").is_in(outside(world, split.train).implode())
    items, events = world.items.filter(~left_out), world.events.filter(~left_out)
    own = events.head(0).select("user_id", "text", "timestamp")
    asked, rows = queries(split, world.catalogue, SplitConfig()), world.catalogue.items.rows(hidden)
    return Part(split, world.catalogue, events, items, world.items, own, asked, rows)


def _asking(split: Split, users: int, seed: int) -> Split:
    """Return the split asking at most so many of its users, drawn."""
    drawn = pl.Series(split.users).sample(min(users, len(split.users)), seed=seed).implode()
    theirs = pl.col("user_id").is_in(drawn)
    return replace(split, truth=split.truth.filter(theirs), histories=split.histories.filter(theirs))


def outside(world: World, train: pl.DataFrame) -> pl.Series:
    """Return the items that train does not hold."""
    items = world.catalogue.items.ids.rename("item_id")
    return items.filter(~items.is_in(train["item_id"].unique().implode()))


def _instruments(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(data / FILES["instruments"][0]).with_row_index("row")
    events = rows.select(
        pl.col("row").cast(pl.String).alias("event_id"),
        pl.col("reviewerID").alias("user_id"),
        pl.col("asin").alias("item_id"),
        pl.lit("rating").alias("event_type"),
        pl.from_epoch("unixReviewTime", "s").dt.replace_time_zone("UTC").cast(TIME).alias("timestamp"),
        pl.col("overall").alias("value"),
        pl.col("reviewText").alias("text"),
    )
    return events, rows.select(item_id="asin").unique(maintain_order=True)


def _films(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(data / FILES["films"][0]).with_row_index("row").drop_nulls("timestamp")
    rows = rows.sort("timestamp", "seq_pos", "row")
    events = rows.select(
        pl.col("row").cast(pl.String).alias("event_id"),
        pl.col("user_id").cast(pl.String),
        pl.col("movie_id").cast(pl.String).alias("item_id"),
        pl.lit("rating").alias("event_type"),
        pl.from_epoch("timestamp", "s").dt.replace_time_zone("UTC").cast(TIME),
        pl.col("rating").cast(pl.Float64).alias("value"),
    )
    plots = pl.read_parquet(data / FILES["films"][1]).select(
        pl.col("movie_id").cast(pl.String).alias("item_id"), text="plot"
    )
    return events, plots.join(events, on="item_id", how="semi").filter(pl.col("text").str.len_chars() > 5)


def _shop(quick: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    config = WorldConfig(users=150, items=100, events=6000) if quick else WorldConfig()
    made = simulate(config)
    return made.events, made.items
