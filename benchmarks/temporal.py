"""The global temporal protocol on MovieLens 1M: who is asked, what is known, what is the target."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.process import NotReached
from benchmarks.trials import TEST, Question, Stage
from profiles.schema import INTERACTIONS, ITEMS, TIME
from recsys.dataset import Catalogue, Dataset

FILE, FILMS = "ml_1m/ratings.parquet", "ml_1m/movies.parquet"
QUANTILE = 0.9  # of the interactions' times
CORE = 5
ORDERS = 20  # of what is tied
VALIDATION_USERS = 1000
QUICK_USERS = 300


@dataclass(frozen=True)
class Cut:
    """The moment, what lies before it, and who is asked about what lies after."""

    at: datetime
    train: pl.DataFrame  # INTERACTIONS at or before it
    tested: list[str]  # users who did something after it


@cache
def interactions(data: Path, quick: bool = False) -> pl.DataFrame:
    """Return INTERACTIONS in order; of the first QUICK_USERS where quick."""
    return prepared(_ratings(data, quick))


def prepared(ratings: pl.DataFrame) -> pl.DataFrame:
    """Drop null times and consecutive repeats, keep the core, order by (timestamp, seq_pos, row)."""
    dated = ratings.with_row_index("row").drop_nulls("timestamp").sort("timestamp", "seq_pos", "row")
    again = pl.col("movie_id") == pl.col("movie_id").shift(1).over("user_id")
    kept = dated.filter(~again.fill_null(False))
    size = -1
    while len(kept) != size:
        size = len(kept)
        kept = kept.filter(pl.len().over("user_id") >= CORE).filter(pl.len().over("movie_id") >= CORE)
    return INTERACTIONS.conform(
        kept.select(
            pl.col("user_id").cast(pl.String),
            pl.col("movie_id").cast(pl.String).alias("item_id"),
            pl.lit("rating").alias("event_type"),
            pl.lit(1.0, pl.Float32).alias("weight"),
            pl.from_epoch("timestamp", "s").dt.replace_time_zone("UTC").cast(TIME),
        )
    )


def undated(data: Path, quick: bool) -> int:
    """Return how many ratings have no time."""
    return _ratings(data, quick)["timestamp"].null_count()


def cut(log: pl.DataFrame) -> Cut:
    """Part the log at the quantile of its times."""
    times = log["timestamp"].sort()
    at = times[int(QUANTILE * (len(times) - 1))]
    late = log.filter(pl.col("timestamp") > at)
    return Cut(at, log.filter(pl.col("timestamp") <= at), late["user_id"].unique().sort().to_list())


def stage(data: Path, part: str, quick: bool) -> Stage:
    """Return the test with its tied orders, or the cut of train."""
    log = interactions(data, quick)
    items = _films(data)
    parted = cut(log)
    catalogue = _catalogue(log, items)
    if part == TEST:
        asked = {TEST: last(log, parted.tested, catalogue)}
        for order in range(ORDERS):
            asked[f"order-{order}"] = last(reordered(log, order), parted.tested, catalogue)
        return Stage(Dataset.of(parted.train, catalogue, parted.at), asked)
    held = validation_users(parted.train)
    rest = parted.train.filter(~pl.col("user_id").is_in(held))
    return Stage(Dataset.of(rest, catalogue, parted.at), {part: last(parted.train, held, catalogue)})


def validation_users(train: pl.DataFrame) -> list[str]:
    """Return who is taken out of train whole: drawn, a fifth at most, of those with a last item."""
    sizes = train.group_by("user_id").len().filter(pl.col("len") > 1).sort("user_id")
    users = sizes["user_id"].to_numpy()
    size = min(VALIDATION_USERS, max(1, len(users) // 5))
    return sorted(np.random.default_rng(0).choice(users, size, replace=False).tolist())


def last(log: pl.DataFrame, users: list[str], catalogue: Catalogue) -> Question:
    """Ask users for the last of what they did, knowing all before it; those with one item are left out."""
    theirs = log.filter(pl.col("user_id").is_in(users)).with_row_index("place")
    final = pl.col("place") == pl.col("place").max().over("user_id")
    history = theirs.filter(~final).drop("place")
    truth = theirs.filter(final).join(history, on="user_id", how="semi").select("user_id", "item_id")
    newest: Mapping[str, int] = dict(
        history.group_by("user_id").agg(pl.col("timestamp").max().to_physical()).iter_rows()
    )
    ids = truth["user_id"].sort().to_list()
    at = np.array([newest[user] for user in ids], np.int64)
    return Question(catalogue.queries(ids, history, at), truth.sort("user_id"))


def reordered(log: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Put what happened to one user at one moment into an order drawn by `seed`."""
    drawn = pl.Series("drawn", np.random.default_rng(seed).random(len(log)))
    return log.with_columns(drawn).sort("timestamp", "drawn").drop("drawn")


def _ratings(data: Path, quick: bool) -> pl.DataFrame:
    if not (data / FILE).exists():
        raise NotReached(f"{data / FILE} is not there: give --data, or set ATTUNE_DATA")
    ratings = pl.read_parquet(data / FILE)
    return ratings.filter(pl.col("user_id") <= QUICK_USERS) if quick else ratings


def _films(data: Path) -> pl.DataFrame:
    return pl.read_parquet(data / FILMS).select(
        pl.col("movie_id").cast(pl.String).alias("item_id"),
        pl.col("genres").str.split("|").alias("categories"),
    )


def _catalogue(log: pl.DataFrame, items: pl.DataFrame) -> Catalogue:
    """Return every film of the log, on offer at every moment: the ranking is over all."""
    first = log["timestamp"].min()
    known = log.select(pl.col("item_id").unique().sort()).join(items, on="item_id", how="left")
    dated = known.with_columns(pl.lit(first).cast(TIME).alias("available_from")).sort("item_id")
    newest = log["timestamp"].max()
    assert isinstance(newest, datetime)
    return Catalogue.of(ITEMS.conform(dated), log, newest)
