"""Offline evaluation: ask the queries of a split, measure the lists, pool the splits."""

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt, field_validator

from recsys.dataset import Catalogue, Queries
from recsys.metrics import METRICS_BY_NAME, Context, measure
from recsys.schema import METRICS
from recsys.split import Split, SplitConfig, seen

MetricName = Literal[
    "recall", "recall_capped", "precision", "r_precision", "ndcg", "ndcg_graded", "hit_rate", "mrr", "map",
    "auc",
    "completeness", "novelty", "serendipity", "diversity", "calibration", "arp", "aclt", "tail_share",
    "coverage", "gini", "entropy", "exposure_gap",
]  # fmt: skip


class EvaluationConfig(SplitConfig):
    """The split, and what is measured on it."""

    metrics: tuple[MetricName, ...] = Field(
        ("ndcg", "recall", "recall_capped", "hit_rate", "mrr", "map", "coverage", "novelty"),
        description="metrics in the table and in evaluation.json",
    )
    ks: tuple[PositiveInt, ...] = Field((5, 10, 20), min_length=1, description="list lengths measured")
    slices: tuple[str, ...] = Field(
        (),
        description="columns of the user profiles by whose values users are told apart in the report, beside "
        "their activity",
    )
    reference: str | None = Field(
        None, description="Parquet of user_id, item_id, score: a known answer, ranked beside the sources"
    )

    @field_validator("metrics")
    @classmethod
    def _per_user(cls, metrics: tuple[MetricName, ...]) -> tuple[MetricName, ...]:
        if all(METRICS_BY_NAME[name].whole for name in metrics):
            told = ", ".join(metrics) or "none"
            raise ValueError(f"name one that is measured per user, such as ndcg ({told} compares no sources)")
        return metrics

    @property
    def headline(self) -> tuple[str, int]:
        """The metric and list length that sources are compared by."""
        return headline([name for name in self.metrics if not METRICS_BY_NAME[name].whole], self.ks)


def headline(metrics: Collection[str], ks: Collection[int]) -> tuple[str, int]:
    """Choose the metric per user and the list length that sources are compared by: ndcg@10 where there is."""
    return "ndcg" if "ndcg" in metrics else min(metrics), 10 if 10 in ks else max(ks)


def queries(
    split: Split,
    catalogue: Catalogue,
    config: SplitConfig,
    vectors: np.ndarray | None = None,
    limit: int | None = None,
    users: Sequence[str] | None = None,
) -> Queries:
    """Ask about a split's users, or some of them, at its moment, knowing only its histories."""
    whom = split.users if users is None else users
    shown = seen(split.histories, config)
    return catalogue.queries(whom, split.histories, split.at, shown, vectors, limit)


def context(split: Split, catalogue: Catalogue) -> Context:
    """Collect what the metrics may know: the catalogue at the moment, popularity, users' pasts."""
    train = split.train.filter(pl.col("weight") > 0)
    popularity = train.group_by("item_id").agg(pl.col("user_id").n_unique().cast(pl.Int64).alias("count"))
    available = catalogue.candidates(np.array([split.moment]))[0]
    done = split.histories.filter(pl.col("weight") > 0).select("user_id", "item_id")
    done = done.unique(maintain_order=True)
    told = catalogue.attributes.select("item_id", "categories")
    labelled = told if told["categories"].list.len().sum() else None
    items = catalogue.items.ids.filter(available)
    return Context(items, popularity, train["user_id"].n_unique(), labelled, done)


def measure_split(
    recommendations: pl.DataFrame, split: Split, catalogue: Catalogue, config: EvaluationConfig
) -> pl.DataFrame:
    """Return METRICS of every source on one split."""
    return measure(recommendations, split.truth, config.metrics, config.ks, context(split, catalogue))


def pool(metrics: Sequence[tuple[Split, pl.DataFrame]]) -> pl.DataFrame:
    """Put the METRICS of several splits into one frame with a column `cluster`.

    A user asked at several origins is several rows, named `user @ origin`, in one cluster: they are
    not independent. A metric of the catalogue becomes its mean over the splits.
    """
    if len(metrics) == 1:
        return metrics[0][1].with_columns(pl.col("user_id").alias("cluster"))
    frames = [
        frame.with_columns(
            pl.col("user_id").alias("cluster"), (pl.col("user_id") + f" @ {split.name}").alias("user_id")
        )
        for split, frame in metrics
    ]
    rows = pl.concat(frames)
    per_user = rows.filter(pl.col("user_id").is_not_null())
    whole = (
        rows.filter(pl.col("user_id").is_null())
        .group_by("source", "metric", "k")
        .agg(pl.col("value").mean())
        .with_columns(pl.lit(None, pl.String).alias("user_id"), pl.lit(None, pl.String).alias("cluster"))
    )
    columns = [*METRICS.columns, "cluster"]
    return pl.concat([per_user.select(columns), whole.select(columns)]).sort(list(METRICS.key))
