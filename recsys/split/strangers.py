"""Splits by who, or what, train has never met."""

import numpy as np
import polars as pl

from recsys.dataset import Catalogue
from recsys.split.experiment import Split, SplitConfig, experiment
from recsys.split.temporal import bounds
from recsys.split.withheld import ANY

OTHERS = "train holds interactions of other users later than the histories and the truth"


def strong(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Hold `held` of the users out of train; of their pairs ask for `held`, drawn, knowing the others.

        u        ──x──x──x──x──         train
        held     ──h──1──h──h──         histories h, truth 1; train has never met them

    Strong generalisation (Marlin 2004; Liang et al., WWW 2018). Who has one pair is not asked.
    """
    random = np.random.default_rng(config.seed)
    users = _drawn(interactions["user_id"], config.held, random)
    train = interactions.join(users, on="user_id", how="anti", maintain_order="left")
    theirs = interactions.join(users, on="user_id", how="semi", maintain_order="left")
    pairs = theirs.select("user_id", "item_id").unique().sort("user_id", "item_id")
    order = pl.Series(random.random(len(pairs)))
    place = pl.col("draw").rank("ordinal").over("user_id")
    count = pl.len().over("user_id")
    asked = pairs.with_columns(draw=order).filter(
        (count > 1) & (place <= (config.held * count).ceil().clip(1, count - 1))
    )
    key = ["user_id", "item_id"]
    past = theirs.join(asked, on=key, how="anti", maintain_order="left")
    future = theirs.join(asked, on=key, how="semi", maintain_order="left")
    at = bounds(interactions)[1]
    return [experiment("strong", at, train, future, catalogue, config, OTHERS, past)]


def cold_items(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Hold `held` of the items out of train: asked is who liked them, knowing all else these users did.

    u  ──x──1──x──x──               items 1 and 2 are held out: truth 1
    v  ─────x──x──1──2──            truth 1 2; leaks: train holds what came after them
    """
    items = _drawn(interactions["item_id"], config.held, np.random.default_rng(config.seed))
    train = interactions.join(items, on="item_id", how="anti", maintain_order="left")
    future = interactions.join(items, on="item_id", how="semi", maintain_order="left")
    return [experiment("cold items", bounds(interactions)[1], train, future, catalogue, config, ANY)]


def _drawn(ids: pl.Series, share: float, random: np.random.Generator) -> pl.DataFrame:
    """Draw a share of the distinct ids, at least one, whatever their order."""
    known = ids.unique().sort()
    count = max(1, int(share * len(known)))
    return known.gather(np.sort(random.permutation(len(known))[:count])).to_frame()
