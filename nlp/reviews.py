"""What others wrote of an item: it describes the item where nobody else does."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from nlp.embed import user_vectors

NEWEST = 50  # reviews of an item that pairs are made with


def item_vectors(
    item_ids: Sequence[str],
    said: np.ndarray | None,
    reviews: pl.DataFrame,
    vectors: Mapping[str, np.ndarray],
    at: datetime,
    dimension: int,
) -> np.ndarray:
    """Return (items, dimension) float32: the direction of what an item says and of what was written of it.

    `said` (items, dimension) are the unit vectors of the items' own texts, NaN where there is none; `reviews`
    holds item_id, text_hash and timestamp, and counts up to `at`, each alike. Both parts weigh the same;
    where one is missing the other stands alone.
    """
    owned = reviews.select("text_hash", "timestamp", user_id="item_id")
    written = user_vectors(item_ids, owned, vectors, at, math.inf, dimension)
    if said is None:
        return written
    both = np.stack([said, written])
    total = np.nan_to_num(both).sum(axis=0)
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    mean: np.ndarray = np.divide(total, lengths, out=np.full_like(total, np.nan), where=lengths > 0)
    return mean


def reviews(events: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, user_id, text and timestamp of what was written of items in EVENTS, oldest first."""
    written = pl.col("text").str.strip_chars() != ""
    found = events.filter(pl.col("item_id").is_not_null(), written)
    return found.select("item_id", "user_id", "text", "timestamp").sort("timestamp", maintain_order=True)


def told_by_others(pairs: pl.DataFrame, reviews: pl.DataFrame) -> pl.DataFrame:
    """Return `pairs` (user_id, item_id, …) with `right`: what somebody else wrote of the item.

    The NEWEST reviews of an item take turns; a pair whose turn is its own user's takes the next, and is left
    out where that is theirs too: what they wrote after they chose would tell which item it was.
    """
    newest = reviews.group_by("item_id", maintain_order=True).tail(NEWEST)
    newest = newest.select(
        "item_id",
        turn=pl.int_range(pl.len()).over("item_id"),
        of=pl.len().over("item_id"),
        by="user_id",
        right="text",
    )
    sizes = newest.select("item_id", "of").unique()
    asked = pairs.with_row_index("place").join(sizes, on="item_id", maintain_order="left")
    asked = asked.with_columns(first=pl.int_range(pl.len()).over("item_id"))
    tries = pl.concat(asked.with_columns(turn=(pl.col("first") + n) % pl.col("of")) for n in (0, 1))
    met = tries.join(newest.drop("of"), on=["item_id", "turn"], maintain_order="left")
    others = met.filter(pl.col("by") != pl.col("user_id"))
    found = others.unique("place", keep="first", maintain_order=True).sort("place")
    return found.drop("place", "of", "first", "turn", "by")
