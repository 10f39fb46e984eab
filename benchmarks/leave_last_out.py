"""Leave-last-out over a file of ordered sequences: everybody's last item is the truth.

The file has `user`, `item` and `pos`, no times: places in a history stand for them. All a user did before
is history, training and masked; candidates are all items of the file. The cut of train asks for each
user's second-last item. Like every leave-last-out it leaks what others did later.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import polars as pl

from benchmarks.process import NotReached
from benchmarks.trials import TEST, Question, Stage
from profiles.schema import INTERACTIONS, ITEMS, TIME
from recsys.dataset import Catalogue, Dataset
from recsys.evaluation import EvaluationConfig, queries
from recsys.split import Split, splits

CUT = "cut"
QUICK_USERS = 150
BEGIN = datetime(2000, 1, 1, tzinfo=UTC)  # places in a history, shown as seconds from here
CONFIG = EvaluationConfig(split="leave_last_out")


@cache
def interactions(file: Path, quick: bool = False) -> pl.DataFrame:
    """Return INTERACTIONS whose times are places in the history; of the first QUICK_USERS where quick."""
    if not file.exists():
        raise NotReached(f"{file} is not there: give --data, or set ATTUNE_DATA")
    rows = pl.read_parquet(file).sort("user", "pos")
    if quick:
        rows = rows.filter(pl.col("user") <= QUICK_USERS)
    return INTERACTIONS.conform(
        rows.select(
            pl.col("user").cast(pl.String).alias("user_id"),
            pl.col("item").cast(pl.String).alias("item_id"),
            pl.lit("interaction").alias("event_type"),
            pl.lit(1.0, pl.Float32).alias("weight"),
            (pl.lit(BEGIN) + pl.duration(seconds="pos")).cast(TIME).alias("timestamp"),
        )
    )


def whole_catalogue(log: pl.DataFrame, items: pl.DataFrame) -> Catalogue:
    """Return every item of the log with its attributes, on offer at every moment: places are no times."""
    known = log.select(pl.col("item_id").unique().sort()).join(items, on="item_id", how="left")
    dated = known.with_columns(pl.lit(BEGIN).cast(TIME).alias("available_from"))
    last = log["timestamp"].max()
    assert isinstance(last, datetime)
    return Catalogue.of(ITEMS.conform(dated.sort("item_id")), log, last)


def stage(log: pl.DataFrame, items: pl.DataFrame, part: str) -> Stage:
    """Return the test, or the cut of train; `items` holds ITEMS' attributes by item_id."""
    catalogue = whole_catalogue(log, items)
    test = last(log, catalogue)
    if part == TEST:
        return Stage(_dataset(test, catalogue), {TEST: _question(test, catalogue)})
    cut = last(test.train, catalogue)
    return Stage(_dataset(cut, catalogue), {CUT: _question(cut, catalogue)}, _dataset(test, catalogue))


def last(log: pl.DataFrame, catalogue: Catalogue) -> Split:
    """Take everybody's last item as the truth."""
    return splits(log, catalogue, CONFIG, timeless=True)[0]


def _dataset(split: Split, catalogue: Catalogue) -> Dataset:
    return Dataset.of(split.train, catalogue, split.at, timeless=True)


def _question(split: Split, catalogue: Catalogue) -> Question:
    return Question(queries(split, catalogue, CONFIG), split.truth)
