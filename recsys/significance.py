"""How sure a mean over users is, and whether two sources differ: the bootstrap.

Users are drawn with replacement, as many as there are, `resamples` times; the interval holds the
middle `level` of the means so drawn (the percentile interval, Efron & Tibshirani 1993, ch. 13). Equal
seeds give equal intervals. One user alone has no interval: it is NaN in an array, null in a frame.

Rows of one user in several weeks are not independent: drawn one by one they would pass for more
evidence than they are, and the interval would be too narrow. `clusters` names whose each row is; whole
clusters are drawn and the mean stays one over rows (Cameron, Gelbach & Miller 2008).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from profiles.schema import ContractError
from recsys.schema import METRICS

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

BLOCK = 1 << 20  # counts held at a time; a block of 8 MiB stays near the processor


class Interval(NamedTuple):
    """A mean and where it lies."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over the same users, its interval, and its two-sided bootstrap p-value."""

    mean: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0 (without an interval: no)."""
        return self.low > 0 or self.high < 0


def interval(
    values: Array,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    clusters: Labels | None = None,
) -> Interval:
    """Return the mean of `values` (one per user) with its bootstrap interval."""
    values = _finite(values)
    low, high = _bounds(_means(values[:, None], seed, resamples, clusters), level)
    return Interval(float(values.mean()), float(low[0]), float(high[0]))


def paired(
    a: Array,
    b: Array,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    clusters: Labels | None = None,
) -> Difference:
    """Return how much better a is than b; row by row the two are of the same user.

    p = 2 min(P(mean ≤ 0), P(mean ≥ 0)) over the resamples, each count one too many so that p is
    never 0 (Davison & Hinkley 1997, section 4.4).
    """
    if np.shape(a) != np.shape(b):
        raise ContractError(f"a pair needs both sides: {np.shape(a)} values against {np.shape(b)}")
    gain = _finite(np.subtract(a, b))
    means = _means(gain[:, None], seed, resamples, clusters)
    low, high = _bounds(means, level)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = np.nan if np.isnan(low[0]) else min(1.0, 2 * (tail + 1) / (resamples + 1))
    return Difference(float(gain.mean()), float(low[0]), float(high[0]), float(p))


def summarise(
    metrics: pl.DataFrame, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> pl.DataFrame:
    """Return source, metric, k, mean, low, high, users; in order of source, metric and k.

    `metrics` is a METRICS frame; where it has a column `cluster` (whose row it is, when user_id names
    more than the user), clusters are drawn, and counted as `users`. A metric of the whole catalogue
    keeps its value and has neither interval nor users. All that is of the same users is drawn together.
    """
    key = ["source", "metric", "k"]
    columns = metrics.select(key).unique().sort(key).with_row_index("column")
    rows = _users(metrics).with_row_index("row")
    cells = metrics.join(columns, on=key).join(rows, on="user_id")
    values = np.full((len(rows), len(columns)), np.nan)
    values[cells["row"].to_numpy(), cells["column"].to_numpy()] = _finite(cells["value"].to_numpy())
    present, whose = ~np.isnan(values), rows["cluster"].to_numpy()

    mean, low, high = np.full((3, len(columns)), np.nan)
    users = np.zeros(len(columns), dtype=np.int64)
    masks, group = np.unique(present, axis=1, return_inverse=True)
    for number, mask in enumerate(masks.T):
        if not mask.any():
            continue
        same = np.flatnonzero(group == number)
        drawn = values[np.ix_(mask, same)]
        mean[same] = drawn.mean(axis=0)
        low[same], high[same] = _bounds(_means(drawn, seed, resamples, whose[mask]), level)
        users[same] = len(np.unique(whose[mask]))
    found = {"mean": mean, "low": low, "high": high}
    whole = metrics.filter(pl.col("user_id").is_null()).select(*key, "value")
    return (
        columns.with_columns(pl.Series(n, v, nan_to_null=True) for n, v in found.items())
        .with_columns(pl.Series("users", users).replace(0, None))
        .join(whole, on=key, how="left")
        .sort(key)
        .select(*key, pl.coalesce("mean", "value").alias("mean"), "low", "high", "users")
    )


def compare(
    metrics: pl.DataFrame,
    a: str,
    b: str,
    metric: str,
    k: int,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Difference:
    """Return how much better source `a` is than `b`; raises ContractError as `aligned`."""
    left, right, clusters = aligned(metrics, a, b, metric, k)
    return paired(left, right, seed, resamples, level, clusters)


def aligned(metrics: pl.DataFrame, a: str, b: str, metric: str, k: int) -> tuple[Array, Array, Labels]:
    """Return what `a` and `b` reached, row by row of the same user, and whose cluster each row is.

    Raises ContractError where either was not measured or their users differ.
    """
    chosen = metrics.filter(
        pl.col("source").is_in([a, b]),
        pl.col("metric") == metric,
        pl.col("k") == k,
        pl.col("user_id").is_not_null(),
    )
    sides = [chosen.filter(pl.col("source") == source).sort("user_id") for source in (a, b)]
    for source, side in zip((a, b), sides, strict=True):
        if side.is_empty():
            raise ContractError(f"no user of source {source!r} has {metric}@{k}")
    if not sides[0]["user_id"].equals(sides[1]["user_id"]):
        alone = len(set(sides[0]["user_id"]) ^ set(sides[1]["user_id"]))
        raise ContractError(
            f"{a!r} and {b!r} were not measured over the same users: {alone} of "
            f"{chosen['user_id'].n_unique()} have {metric}@{k} from one side only"
        )
    clusters = _users(chosen)["cluster"].to_numpy()
    left, right = (side["value"].to_numpy() for side in sides)
    return left, right, clusters


def _users(metrics: pl.DataFrame) -> pl.DataFrame:
    """Return user_id and the number of its cluster (itself where the frame names none), by user_id.

    Raises ContractError where `metrics` breaks its key, or a user_id lies in two clusters.
    """
    if metrics.n_unique(METRICS.key) != len(metrics):
        raise ContractError(f"METRICS: two rows have the same {', '.join(METRICS.key)}")
    label = pl.col("cluster" if "cluster" in metrics.columns else "user_id")
    users = (
        metrics.filter(pl.col("user_id").is_not_null())
        .select("user_id", label.rank("dense").alias("cluster"))
        .unique()
        .sort("user_id")
    )
    if users["user_id"].n_unique() != len(users):
        raise ContractError("METRICS: a user_id lies in more than one cluster")
    return users


def _finite(values: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ContractError("a bootstrap needs finite values; leave out the users that have none")
    return values


def _means(values: Array, seed: int, resamples: int, clusters: Labels | None) -> Array:
    """Return the means of (rows, columns) values under resampling of clusters: (resamples, columns)."""
    if len(values) == 0:
        raise ContractError("a bootstrap needs users; there is none")
    sums, sizes = by_cluster(values, clusters)
    if len(sums) == 1:
        return np.full((resamples, values.shape[1]), np.nan)
    return np.concatenate(
        [drawn @ sums / (drawn @ sizes)[:, None] for drawn in draws(len(sums), seed, resamples)]
    )


def by_cluster(values: Array, clusters: Labels | None) -> tuple[Array, Array]:
    """Return each cluster's sum of (rows, columns) values, and its size; without clusters a row is one."""
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise ContractError(f"{len(values)} values cannot lie in {len(clusters)} clusters, one each")
    labels, cluster = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(labels), values.shape[1]))
    np.add.at(sums, cluster, values)
    return sums, np.bincount(cluster).astype(np.float64)


def draws(n: int, seed: int, resamples: int) -> Iterator[Array]:
    """Yield blocks of rows, each how often each of `n` is drawn in one resample: (block, n)."""
    random = np.random.default_rng(seed)
    step = max(1, BLOCK // n)
    for start in range(0, resamples, step):
        block = min(step, resamples - start)
        drawn = random.integers(0, n, size=(block, n)) + n * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * n).reshape(block, n).astype(np.float64)


def _bounds(means: Array, level: float) -> tuple[Array, Array]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
