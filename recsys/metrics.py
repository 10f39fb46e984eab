"""What a ranking is worth: pure functions from ranking frames to METRICS frames.

A `Metric` takes (recommendations, truth, k, context) and returns one row per source and user with
truth. Users without truth are left out; users with truth but without a list count as 0. A metric of
the whole catalogue has one row per source and a null user. `recommendations` may hold any number of
sources; `truth` is unique (user_id, item_id) pairs.

Lists are taken as they stand: full rankings over the catalogue, ties already broken. `measure`
checks its input once and finds the hits once; a metric called by itself trusts what it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from profiles.schema import ContractError
from recsys.schema import METRICS

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """What train knows: the catalogue, how many distinct users each item had, how many users there were."""

    items: pl.Series
    popularity: pl.DataFrame  # item_id, count; an item that is not named counts 0
    users: int


Metric = Callable[[pl.DataFrame, pl.DataFrame, int, Context], pl.DataFrame]


@dataclass(frozen=True)
class Hits:
    """Where truth stands in the lists: all that an accuracy metric needs to know.

    A cell is one source and one user with truth; hits are ordered by cell, then rank.
    """

    cells: pl.DataFrame  # source, user_id, truth; sorted
    truth: Counts  # (cells,) number of true items, at least 1
    cell: Counts  # (hits,) row in `cells`
    rank: Counts  # (hits,) place in the list, from 1
    nth: Counts  # (hits,) how many hits the list has up to and including this one

    @classmethod
    def of(cls, recommendations: pl.DataFrame, truth: pl.DataFrame, k: int) -> "Hits":
        """Find the hits among the first `k` of every list."""
        cells = _cells(recommendations, truth)
        found = (
            recommendations.filter(pl.col("rank") <= k)
            .join(truth, on=["user_id", "item_id"], how="semi")
            .join(cells.with_row_index("cell"), on=["source", "user_id"])
            .select(pl.col("cell", "rank").cast(pl.Int64))
            .sort("cell", "rank")
        )
        cell = found["cell"].to_numpy()
        nth = np.arange(1, len(cell) + 1) - np.searchsorted(cell, cell)
        return cls(cells, cells["truth"].cast(pl.Int64).to_numpy(), cell, found["rank"].to_numpy(), nth)

    def total(self, k: int, gain: Array | None = None) -> Array:
        """Sum `gain` (one number a hit; 1 if absent) over each cell's hits within `k`: (cells,)."""
        near = self.rank <= k
        weights = None if gain is None else gain[near]
        return np.bincount(self.cell[near], weights, minlength=len(self.cells)).astype(np.float64)


@dataclass(frozen=True)
class Accuracy:
    """A Metric that is a formula over hits, so that many of them share one search for hits."""

    name: str
    formula: Callable[[Hits, int], Array]

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.formula.__doc__)

    def __call__(
        self, recommendations: pl.DataFrame, truth: pl.DataFrame, k: int, context: Context
    ) -> pl.DataFrame:
        return self.over(Hits.of(recommendations, truth, k), k)

    def over(self, hits: Hits, k: int) -> pl.DataFrame:
        """Return the METRICS rows at `k` from hits found at `k` or deeper."""
        return _rows(self.name, k, hits.cells.with_columns(value=self.formula(hits, k)))


def accuracy(name: str) -> Callable[[Callable[[Hits, int], Array]], Accuracy]:
    """Make a formula over hits the Metric called `name`."""
    return lambda formula: Accuracy(name, formula)


@accuracy("recall")
def recall(hits: Hits, k: int) -> Array:
    """|hits@k| / |truth|, in [0, min(k, |truth|) / |truth|] (trec_eval; LightGCN, He et al. SIGIR 2020)."""
    return hits.total(k) / hits.truth


@accuracy("recall_capped")
def recall_capped(hits: Hits, k: int) -> Array:
    """|hits@k| / min(k, |truth|), in [0, 1] (Mult-VAE, Liang et al. WWW 2018, eq. 10)."""
    return hits.total(k) / np.minimum(k, hits.truth)


@accuracy("ndcg")
def ndcg(hits: Hits, k: int) -> Array:
    """sum over hits@k of 1 / log2(rank + 1), over its best: the sum for ranks 1..min(k, |truth|).

    In [0, 1]; gains are binary (Järvelin & Kekäläinen, TOIS 2002, with the discount 1 / log2(rank + 1)).
    """
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    best: Array = ideal[np.minimum(k, hits.truth) - 1]
    return hits.total(k, 1 / np.log2(hits.rank + 1)) / best


@accuracy("hit_rate")
def hit_rate(hits: Hits, k: int) -> Array:
    """1 if any of the first k is true, else 0 (Deshpande & Karypis, TOIS 2004)."""
    return (hits.total(k) > 0).astype(np.float64)


@accuracy("mrr")
def mrr(hits: Hits, k: int) -> Array:
    """1 / rank of the first hit within k, 0 without one; in {0} or [1 / k, 1] (Voorhees, TREC-8 1999)."""
    return hits.total(k, (hits.nth == 1) / hits.rank)


@accuracy("map")
def average_precision(hits: Hits, k: int) -> Array:
    """sum over hits@k of precision@rank, over |truth|; in [0, min(k, |truth|) / |truth|].

    The divisor is |truth| as in trec_eval's map_cut and ranx's map@k. RecBole divides by
    min(k, |truth|) and reads higher wherever |truth| > k.
    """
    return hits.total(k, hits.nth / hits.rank) / hits.truth


def coverage(recommendations: pl.DataFrame, truth: pl.DataFrame, k: int, context: Context) -> pl.DataFrame:
    """|catalogue items in the first k of any list| / |catalogue|, in [0, 1] (Ge et al., RecSys 2010).

    Every list given counts, with truth or without; a number to compare between equal sets of users only.
    """
    near = pl.col("rank") <= k
    known = pl.col("item_id").is_in(context.items.implode())
    share = pl.col("item_id").filter(near & known).n_unique() / context.items.n_unique()
    found = recommendations.group_by("source").agg(share.alias("value"))
    return _rows("coverage", k, found.with_columns(pl.lit(None, pl.String).alias("user_id")))


def novelty(recommendations: pl.DataFrame, truth: pl.DataFrame, k: int, context: Context) -> pl.DataFrame:
    """mean over the first k of -log2 p(i), p(i) = (train users of i + 1) / (train users + 1).

    In bits, in [0, log2(users + 1)]: 0 for what everyone had, the most for what nobody had. The added
    one keeps new items finite. A list shorter than k is averaged over what it holds; no list at all
    shows nothing new: 0. (Self-information: Zhou et al., PNAS 2010; Castells et al., 2015.)
    """
    share = (pl.col("count").fill_null(0) + 1) / (context.users + 1)
    means = (
        recommendations.filter(pl.col("rank") <= k)
        .join(truth.select(pl.col("user_id").unique()), on="user_id", how="semi")
        .join(context.popularity, on="item_id", how="left")
        .sort("source", "user_id", "rank")
        .group_by("source", "user_id", maintain_order=True)
        .agg(value=(-share.log(2)).mean())
    )
    cells = _cells(recommendations, truth).join(means, on=["source", "user_id"], how="left")
    return _rows("novelty", k, cells.with_columns(pl.col("value").fill_null(0.0)))


METRICS_BY_NAME: dict[str, Metric] = {
    "recall": recall,
    "recall_capped": recall_capped,
    "ndcg": ndcg,
    "hit_rate": hit_rate,
    "mrr": mrr,
    "map": average_precision,
    "coverage": coverage,
    "novelty": novelty,
}


def measure(
    recommendations: pl.DataFrame,
    truth: pl.DataFrame,
    names: Sequence[str],
    ks: Sequence[int],
    context: Context,
) -> pl.DataFrame:
    """Return every named metric at every k as one METRICS frame, by source, metric, k and user.

    Raises ContractError for an unknown name and for what `check_rankings` refuses.
    """
    unknown = [name for name in names if name not in METRICS_BY_NAME]
    if unknown:
        raise ContractError(f"metric {unknown[0]!r} is not one of {', '.join(METRICS_BY_NAME)}")
    check_rankings(recommendations, truth, ks)
    hits: Hits | None = None
    frames = [METRICS.empty()]
    for name in sorted(set(names)):
        metric = METRICS_BY_NAME[name]
        for k in sorted(set(ks)):
            if isinstance(metric, Accuracy):
                hits = hits or Hits.of(recommendations, truth, max(ks))
                frames.append(metric.over(hits, k))
            else:
                frames.append(metric(recommendations, truth, k, context))
    # Each frame is in order already; bringing whole frames together by source keeps them so.
    return pl.concat(frames).sort("source", maintain_order=True)


def check_rankings(recommendations: pl.DataFrame, truth: pl.DataFrame, ks: Sequence[int]) -> None:
    """Raise ContractError where measuring would give a number that means nothing.

    Refused: k below 1; a truth that is empty, repeats a pair or shares no user with the lists; lists
    with a NaN score, with ranks other than 1..n, or with an item twice.
    """
    for k in ks:
        if k < 1:
            raise ContractError(f"k is a list length and must be at least 1, not {k}")
    if truth.is_empty():
        raise ContractError("truth is empty: there is no user to measure")
    if row := _repeated(truth, "user_id", "item_id"):
        raise ContractError(f"truth: user {row['user_id']!r} holds item {row['item_id']!r} more than once")
    rank = pl.col("rank")
    lists = recommendations.group_by("source", "user_id").agg(
        rank.min().alias("first"), rank.max().alias("last"), rank.len().alias("length")
    )
    if lists.join(truth, on="user_id", how="semi").is_empty():
        listed = repr(recommendations["user_id"][0]) if len(recommendations) else "nobody"
        raise ContractError(
            "recommendations and truth have no user in common: "
            f"lists are for {listed}, …; truth is for {truth['user_id'][0]!r}, …"
        )
    if row := _first(recommendations.filter(pl.col("score").is_nan())):
        raise ContractError(f"{_whose(row)}: a score is NaN; leave out what has no score")
    if row := _first(
        lists.filter((pl.col("first") != 1) | (pl.col("last") != pl.col("length"))).sort(pl.all())
    ):
        found = f"{row['length']} ranks from {row['first']} to {row['last']}"
        raise ContractError(f"{_whose(row)}: ranks must be 1..n without gaps; found {found}")
    if row := _repeated(recommendations, "source", "user_id", "rank"):
        raise ContractError(f"{_whose(row)}: rank {row['rank']} is given more than once")
    if row := _repeated(recommendations, "source", "user_id", "item_id"):
        raise ContractError(f"{_whose(row)}: item {row['item_id']!r} is recommended more than once")


def _repeated(frame: pl.DataFrame, *key: str) -> dict[str, object] | None:
    """Return a row whose key stands in another row too. Equal hashes only raise the suspicion."""
    if frame.select(key).hash_rows().n_unique() == len(frame):
        return None
    return _first(frame.filter(pl.struct(key).is_duplicated()))


def _first(frame: pl.DataFrame) -> dict[str, object] | None:
    return frame.row(0, named=True) if len(frame) else None


def _whose(row: dict[str, object]) -> str:
    return f"source {row['source']!r}, user {row['user_id']!r}"


def _cells(recommendations: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Return one row per source and user with truth, and how much truth there is; sorted."""
    users = truth.group_by("user_id").agg(pl.len().alias("truth")).sort("user_id")
    return recommendations.select(pl.col("source").unique().sort()).join(
        users, how="cross", maintain_order="left_right"
    )


def _rows(metric: str, k: int, values: pl.DataFrame) -> pl.DataFrame:
    """Return values (source, user_id, value) as METRICS, in order of source and user."""
    return (
        values.with_columns(pl.lit(metric).alias("metric"), pl.lit(k, pl.Int64).alias("k"))
        .select(METRICS.schema.names())
        .sort("source", "user_id")
    )
