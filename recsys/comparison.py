"""Whether one source is better than another, how sure that is, and what could have been seen at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import polars as pl

from profiles.charts import Chart
from profiles.display import Displayed
from profiles.schema import ContractError
from recsys.significance import BLOCK, Array, Difference, Labels, aligned, by_cluster, paired


@dataclass(frozen=True)
class Comparison(Displayed):
    """Source a against b by one metric at one k, over the same users."""

    a: float  # means
    b: float
    difference: Difference  # a - b, by the bootstrap
    p: float  # of the permutation test
    effect: float  # Cohen's d of the pairs
    detectable: float  # the least difference these users would have shown
    users: int
    better: int  # users for whom a is above b
    worse: int

    def to_polars(self) -> pl.DataFrame:
        """Return the one row a, b, mean, low, high, p, effect, detectable, users, better, worse."""
        gain = self.difference
        told = {"mean": gain.mean, "low": gain.low, "high": gain.high}
        rest = {
            name: getattr(self, name) for name in ("p", "effect", "detectable", "users", "better", "worse")
        }
        return pl.DataFrame([{"a": self.a, "b": self.b, **told, **rest}])

    def plot(self) -> Chart:
        """Draw the difference with its interval."""
        from recsys.plots import difference

        shown = self.to_polars().select(pl.lit("").alias("label"), "mean", "low", "high")
        return difference(shown, "difference of means, a - b")


def judge(
    metrics: pl.DataFrame, a: str, b: str, metric: str, k: int, seed: int = 0, resamples: int = 2000
) -> Comparison:
    """Compare source `a` with `b` in a METRICS frame; raises ContractError as `aligned`."""
    left, right, clusters = aligned(metrics, a, b, metric, k)
    sums, sizes = by_cluster((left - right)[:, None], clusters)
    gain = sums[:, 0]
    return Comparison(
        float(left.mean()),
        float(right.mean()),
        paired(left, right, seed, resamples, clusters=clusters),
        permutation(left, right, seed, resamples, clusters),
        effect(left, right),
        detectable(left, right, clusters=clusters),
        len(sizes),
        int((gain > 0).sum()),
        int((gain < 0).sum()),
    )


def permutation(
    a: Array, b: Array, seed: int = 0, resamples: int = 2000, clusters: Labels | None = None
) -> float:
    """Return the two-sided p of the paired permutation test: how often chance alone parts a and b so far.

    If both were the same, whose value is whose would be a coin's throw: the signs of the differences are
    thrown anew, a cluster's together, and means as large as the one found are counted, it included
    (Fisher 1935; Smucker, Allan & Carterette, CIKM 2007). Equal seeds give equal p; NaN for one user alone.
    """
    sums, _ = by_cluster(np.subtract(a, b)[:, None], clusters)
    gain = sums[:, 0]
    if len(gain) == 1:
        return float("nan")
    found, random, step = abs(gain.sum()), np.random.default_rng(seed), max(1, BLOCK // len(gain))
    slack = 1e-12 * np.abs(gain).sum()  # the same sum in another order is the same
    extreme = 1
    for start in range(0, resamples, step):
        signs = 2.0 * random.integers(0, 2, (min(step, resamples - start), len(gain))) - 1
        extreme += int((np.abs(signs @ gain) >= found - slack).sum())
    return extreme / (resamples + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values so corrected that any of them is wrongly small no oftener than it says.

    The i-th smallest of m becomes max over j ≤ i of min(1, (m - j + 1) p_j) (Holm 1979). NaN does not count.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]
    factors = len(order) - np.arange(len(order))
    corrected = values.copy()
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return [float(value) for value in corrected]


def effect(a: Array, b: Array) -> float:
    """Return mean(a - b) / sd(a - b): Cohen's d of pairs; 0.2 is small, 0.5 middling, 0.8 large (Cohen 1988).

    0 where nothing differs, infinite where everyone differs alike, NaN for one user alone.
    """
    gain = np.subtract(a, b)
    if len(gain) < 2:
        return float("nan")
    mean, spread = float(gain.mean()), float(gain.std(ddof=1))
    if spread > 1e-12 * abs(mean):
        return mean / spread
    return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))


def detectable(
    a: Array, b: Array, level: float = 0.95, power: float = 0.8, clusters: Labels | None = None
) -> float:
    """Return the least true difference of means that a test at `level` on such users shows with `power`.

    (z_{(1 + level) / 2} + z_power) s, s the standard error of the mean difference, of clusters' sums where
    there are clusters (Cohen 1988; Sakai, SIGIR 2016). NaN for one user alone.
    """
    gain = np.subtract(a, b)
    sums, sizes = by_cluster(gain[:, None], clusters)
    n = len(sums)
    if n < 2:
        return float("nan")
    rest = sums[:, 0] - gain.mean() * sizes
    error = np.sqrt(n / (n - 1) * (rest**2).sum()) / sizes.sum()
    normal = NormalDist()
    return float((normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * error)


def over_seeds(runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return source, metric, k, mean, sd, least, most, seeds of METRICS frames, one a seed.

    What is averaged is each run's mean over users: sd (n - 1) is how far another seed alone moves it. Raises
    ContractError for fewer than two runs, or runs that did not measure the same.
    """
    if len(runs) < 2:
        raise ContractError(f"a spread over seeds needs two runs or more, not {len(runs)}")
    key = ["source", "metric", "k"]
    means = pl.concat(run.group_by(key).agg(pl.col("value").mean()) for run in runs)
    value = pl.col("value")
    found = means.group_by(key).agg(
        mean=value.mean(), sd=value.std(), least=value.min(), most=value.max(), seeds=pl.len()
    )
    if len(part := found.filter(pl.col("seeds") != len(runs)).sort(key)):
        row = part.row(0, named=True)
        raise ContractError(
            f"{row['source']!r} has {row['metric']}@{row['k']} in {row['seeds']} of {len(runs)} runs; "
            "measure the same in each"
        )
    return found.sort(key)
