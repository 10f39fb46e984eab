"""How alike the lists of two sources are."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from profiles.schema import ContractError
from recsys.metrics.checks import refuse_depths, refuse_lists, refuse_places
from recsys.schema import METRICS


def overlap(
    recommendations: pl.DataFrame, a: str, b: str, ks: Sequence[int], persistence: float = 0.9
) -> pl.DataFrame:
    """Return the rank-biased overlap of two sources' lists as METRICS, source "a ~ b", by k and user.

    Of lists cut at k, s ≤ l long, with X_d items in common among their first d (Webber, Moffat & Zobel, TOIS
    2010, eq. 32):

        RBO = (1-p)/p [sum_{d≤l} X_d/d p^d + sum_{s<d≤l} X_s (d-s)/(s d) p^d] + [(X_l - X_s)/l + X_s/s] p^l

    In [0, 1]: 0 without a common item, 1 for equal lists. A reader goes on to the next place with probability
    p, `persistence`: 0.9 reads ten places on average. Users whom both sources give a list.
    """
    refuse_depths(ks)
    if not 0 < persistence < 1:
        raise ContractError(f"persistence is a probability between 0 and 1, not {persistence}")
    for source in (a, b):
        if recommendations.filter(pl.col("source") == source).is_empty():
            raise ContractError(f"there is no list of source {source!r}")
    pair = recommendations.filter(pl.col("source").is_in([a, b]))
    refuse_lists(pair)
    refuse_places(pair)
    place = {s: pair.filter(pl.col("source") == s).select("user_id", "item_id", "rank") for s in (a, b)}
    lengths = {s: frame.group_by("user_id").agg(pl.len().alias("length")) for s, frame in place.items()}
    users = lengths[a].join(lengths[b], on="user_id").sort("user_id").with_row_index("row")
    common = (
        place[a].join(place[b], on=["user_id", "item_id"])
        .join(users, on="user_id")
        .select("row", depth=pl.max_horizontal("rank", "rank_right"))
    )  # fmt: skip
    row, depth = (common[name].to_numpy().astype(np.int64) for name in ("row", "depth"))
    frames = [METRICS.empty()]
    for k in sorted(set(ks)):
        sizes = np.minimum(users.select("length", "length_right").to_numpy(), k)
        near = depth <= k
        met = np.bincount(row[near] * k + depth[near] - 1, minlength=len(users) * k)
        value = _rbo(np.cumsum(met.reshape(len(users), k), axis=1), sizes.min(1), sizes.max(1), persistence)
        frames.append(
            users.select(
                pl.lit(f"{a} ~ {b}").alias("source"),
                pl.lit("rbo").alias("metric"),
                pl.lit(k, pl.Int64).alias("k"),
                "user_id",
                pl.Series("value", value),
            )
        )
    return pl.concat(frames)


def _rbo(common: np.ndarray, short: np.ndarray, long: np.ndarray, p: float) -> np.ndarray:
    """Evaluate the equation: `common` (users, k) holds X_d, `short` and `long` (users,) the lengths."""
    d = np.arange(1, common.shape[1] + 1)
    s, ell = short[:, None], long[:, None]
    rows = np.arange(len(common))
    x_s, x_l = common[rows, short - 1], common[rows, long - 1]
    inside = d <= ell
    terms = common / d + (d > s) * x_s[:, None] * (d - s) / (s * d)
    summed = (inside * terms * p**d).sum(axis=1)
    value: np.ndarray = (1 - p) / p * summed + ((x_l - x_s) / long + x_s / short) * p**long
    return value
