"""Splits of every user's own interactions: train knows of others what came later, and says so."""

import numpy as np
import polars as pl

from recsys.dataset import Catalogue
from recsys.split.experiment import Split, SplitConfig, experiment
from recsys.split.temporal import bounds

LATER = "train holds interactions of other users later than the truth"
ANY = "train holds interactions later than the truth, the same user's too"


def leave_last_out(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Hold back each user's last interaction; of several at one moment the last by the order of the log.

    u  ──x──x──x──┤1                truth 1
    v  ────────────x───x──x──┤1     truth 1; leaks: u's train may be later than v's truth, and so on
    """
    return [_tail(interactions, catalogue, config, "last", pl.lit(1))]


def ratio(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Hold back the last `held` of each user's interactions, rounded down: who has few is not asked.

    u  ──x──x──x──x──┤1             held = 0.2: truth 1 of five
    v  ─────x──x──                  two: all train; leaks as leave_last_out
    """
    count = (config.held * pl.len() + 1e-9).floor()
    return [_tail(interactions, catalogue, config, "ratio", count)]


def _tail(
    interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig, name: str, count: pl.Expr
) -> Split:
    """Hold back the last `count` (of a user's rows with weight) of each user; train ends before them."""
    ordered = interactions.sort("timestamp", maintain_order=True).with_row_index("place")
    liked = ordered.filter(pl.col("weight") > 0)
    first = (
        liked.with_columns(left=pl.int_range(pl.len(), 0, -1).over("user_id"))
        .with_columns(count=count.over("user_id"))
        .filter(pl.col("left") <= pl.col("count"))
        .group_by("user_id").agg(pl.col("place").min().alias("first"))
    )  # fmt: skip
    cut = ordered.join(first, on="user_id", how="left", maintain_order="left")
    # Who has nothing held back stays whole; who did nothing of weight is no part of it.
    cut = cut.join(liked, on="user_id", how="semi", maintain_order="left")
    before = pl.col("first").is_null() | (pl.col("place") < pl.col("first"))
    past, future = cut.filter(before), cut.filter(~before & (pl.col("weight") > 0))
    columns = interactions.columns
    at = bounds(interactions)[1]
    return experiment(name, at, past.select(columns), future.select(columns), catalogue, config, LATER)


def random(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Hold back `held` of all (user, item) pairs, drawn by the seed.

    u  ──x──1──x──x──2──x──         truth 1 2; leaks: train holds what came after them
    v  ─────x──x──1──
    """
    part = (_drawn(interactions, config.seed) / config.held).floor()
    return [_pairs(interactions, catalogue, config, "random", part, 0)]


def k_fold(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Part all (user, item) pairs into `folds` by the seed; each part is the truth once.

    u  ──1──2──x──1──3──x──         fold 1: truth 1 1, train all else; fold 2: truth 2, …; leaks as random
    """
    part = (_drawn(interactions, config.seed) * config.folds).floor()
    return [
        _pairs(interactions, catalogue, config, f"fold {n + 1} of {config.folds}", part, n)
        for n in range(config.folds)
    ]


def _drawn(interactions: pl.DataFrame, seed: int) -> pl.Series:
    """Return for every row its pair's place in a random order, evenly in [0, 1); whatever the rows' order."""
    pairs = interactions.select("user_id", "item_id").unique().sort("user_id", "item_id")
    places = np.random.default_rng(seed).permutation(len(pairs)) / max(len(pairs), 1)
    drawn = pairs.with_columns(draw=pl.Series(places))
    key = ["user_id", "item_id"]
    return interactions.select(key).join(drawn, on=key, how="left", maintain_order="left")["draw"]


def _pairs(
    interactions: pl.DataFrame,
    catalogue: Catalogue,
    config: SplitConfig,
    name: str,
    part: pl.Series,
    number: int,
) -> Split:
    at = bounds(interactions)[1]
    past, future = interactions.filter(part != number), interactions.filter(part == number)
    return experiment(name, at, past, future, catalogue, config, ANY)
