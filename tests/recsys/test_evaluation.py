"""Evaluation from a split to pooled METRICS, with every number worked out by hand."""

from math import log2

import numpy as np
import polars as pl
import pytest

from profiles.schema import ITEMS, ContractError
from recsys.dataset import Catalogue, Dataset
from recsys.evaluation import EvaluationConfig, context, measure_split, pool, queries
from recsys.models.popularity import Popularity
from recsys.schema import METRICS, RECOMMENDATIONS
from recsys.significance import summarise
from recsys.split import splits

CONFIG = EvaluationConfig(
    split="rolling", every_days=2, origins=2, ks=(1, 2), metrics=("recall", "mrr", "coverage", "novelty")
)
ROWS = [
    # until the first origin, day 4: a has three users, b two, c one
    ("u", "a", 0, 1.0),
    ("v", "a", 0, 1.0),
    ("w", "a", 1, 1.0),
    ("v", "b", 1, 1.0),
    ("w", "b", 2, 1.0),
    ("w", "c", 2, 1.0),
    ("x", "d", 3, 0.0),  # says nothing: d is no one's, x has no past
    # until the second, day 6
    ("u", "b", 5, 1.0),
    ("u", "c", 5, 1.0),
    ("v", "d", 6, 1.0),
    # until the end, day 8
    ("u", "d", 7, 1.0),
    ("v", "c", 8, 1.0),
    ("new", "a", 8, 1.0),
]


@pytest.fixture
def measured(log_of, at_day):
    """Return the splits of the log above, what popularity lists at each, and its METRICS."""
    log = log_of(ROWS)
    catalogue = Catalogue.of(ITEMS.empty(), log, at_day(100))
    found = []
    for split in splits(log, catalogue, CONFIG):
        model = Popularity().fit(Dataset.of(split.train, catalogue, split.at))
        listed = model.recommend(queries(split, catalogue, CONFIG), 2, catalogue, "popularity")
        found.append((split, listed, measure_split(listed, split, catalogue, CONFIG)))
    return catalogue, found


def value(frame: pl.DataFrame, metric: str, k: int, user: str | None) -> float:
    return frame.filter(pl.col("metric") == metric, pl.col("k") == k, pl.col("user_id").eq_missing(user))[
        "value"
    ].item()


def test_each_split_asks_with_its_own_past(measured):
    _, ((first, early, _), (second, late, _)) = measured
    assert first.users == ["u", "v"]
    # Ties go to the lower row: d, which nobody liked yet, stands behind c.
    assert early["user_id", "item_id", "rank"].rows() == [
        ("u", "b", 1), ("u", "c", 2), ("v", "c", 1), ("v", "d", 2)
    ]  # fmt: skip
    assert second.users == ["u", "v"]
    assert late["user_id", "item_id", "rank"].rows() == [("u", "d", 1), ("v", "c", 1)]
    assert second.counts["cold_users"] == 1


def test_a_context_knows_what_train_knew(measured, items_of, log_of, at_day):
    catalogue, ((first, *_), (second, *_)) = measured
    early, late = context(first, catalogue), context(second, catalogue)
    assert dict(early.popularity.rows()) == {"a": 3, "b": 2, "c": 1}
    assert early.users == 3
    assert dict(late.popularity.rows()) == {"a": 3, "b": 3, "c": 2, "d": 1}
    assert early.items.to_list() == ["a", "b", "c", "d"]
    later = Catalogue.of(items_of({"d": (5, None), "b": (0, 3)}), log_of(ROWS), at_day(100))
    assert context(first, later).items.to_list() == ["a", "c"]
    assert context(second, later).items.to_list() == ["a", "c", "d"]


def test_measures_of_one_split(measured):
    _, ((_, _, frame), _) = measured
    assert frame.schema == METRICS.schema
    expected = {
        ("recall", 1, "u"): 1 / 2,
        ("recall", 2, "u"): 1.0,
        ("recall", 1, "v"): 0.0,
        ("recall", 2, "v"): 1.0,
        ("mrr", 1, "u"): 1.0,
        ("mrr", 2, "u"): 1.0,
        ("mrr", 1, "v"): 0.0,
        ("mrr", 2, "v"): 1 / 2,
        ("coverage", 1, None): 2 / 4,
        ("coverage", 2, None): 3 / 4,
        ("novelty", 1, "u"): -log2(3 / 4),
        ("novelty", 2, "u"): -(log2(3 / 4) + log2(2 / 4)) / 2,
        ("novelty", 1, "v"): -log2(2 / 4),
        ("novelty", 2, "v"): -(log2(2 / 4) + log2(1 / 4)) / 2,
    }
    found = {(metric, k, user): v for metric, k, user, v in frame["metric", "k", "user_id", "value"].rows()}
    assert found == pytest.approx(expected)
    assert frame["source"].unique().to_list() == ["popularity"]


def test_a_pool_of_one_names_users_as_they_are(measured):
    _, ((split, _, frame), _) = measured
    pooled = pool([(split, frame)])
    assert pooled.columns == [*METRICS.columns, "cluster"]
    assert pooled.drop("cluster").equals(frame)
    assert pooled["cluster"].equals(frame["user_id"].rename("cluster"), null_equal=True)


def test_a_pool_of_several_keeps_a_user_together(measured):
    _, ((first, _, early), (second, _, late)) = measured
    pooled = pool([(first, early), (second, late)])
    assert pooled.columns == [*METRICS.columns, "cluster"]
    assert METRICS.conform(pooled.drop("cluster")).height == pooled.height
    assert not pooled.select(METRICS.key).is_duplicated().any()
    users = pooled.filter(pl.col("user_id").is_not_null())
    assert users.height == 2 * 3 * 4  # metrics of a user, lengths, users at an origin
    assert set(users["user_id", "cluster"].rows()) == {
        ("u @ 2024-01-05 00:00:00", "u"),
        ("v @ 2024-01-05 00:00:00", "v"),
        ("u @ 2024-01-07 00:00:00", "u"),
        ("v @ 2024-01-07 00:00:00", "v"),
    }
    for split, frame in ((first, early), (second, late)):
        for user in ("u", "v"):
            for k in (1, 2):
                assert value(pooled, "recall", k, f"{user} @ {split.name}") == value(frame, "recall", k, user)
    whole = pooled.filter(pl.col("user_id").is_null())
    assert whole.height == 2
    assert whole["cluster"].null_count() == 2
    assert value(pooled, "coverage", 1, None) == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert value(pooled, "coverage", 2, None) == pytest.approx((3 / 4 + 2 / 4) / 2)


def test_a_summary_of_a_pool_counts_users_not_rows(measured):
    _, ((first, _, early), (second, _, late)) = measured
    summary = summarise(pool([(first, early), (second, late)]), resamples=50)
    recall = summary.filter(pl.col("metric") == "recall", pl.col("k") == 1).row(0, named=True)
    assert recall["mean"] == pytest.approx((1 / 2 + 0 + 1 + 1) / 4)
    assert recall["users"] == 2
    coverage = summary.filter(pl.col("metric") == "coverage", pl.col("k") == 2).row(0, named=True)
    assert coverage["mean"] == pytest.approx(5 / 8)
    assert coverage["low"] is coverage["users"] is None


def test_sources_are_measured_side_by_side(measured):
    catalogue, ((split, listed, _), _) = measured
    other = listed.with_columns(source=pl.lit("other")).filter(pl.col("user_id") == "u")
    frame = measure_split(pl.concat([listed, other]), split, catalogue, CONFIG)
    for source, mean in {"popularity": 1.0, "other": 0.5}.items():  # no list is a list without hits
        rows = frame.filter(pl.col("source") == source, pl.col("metric") == "recall", pl.col("k") == 2)
        assert rows["user_id"].to_list() == ["u", "v"]
        assert rows["value"].mean() == mean


def test_a_split_that_asks_nobody_is_refused(measured, log_of, at_day):
    catalogue, ((_, listed, _), _) = measured
    (nobody,) = splits(log_of(ROWS[:1]), catalogue, EvaluationConfig())
    assert nobody.users == []
    with pytest.raises(ContractError, match="truth is empty"):
        measure_split(listed, nobody, catalogue, CONFIG)


def test_queries_of_a_split_carry_vectors_and_limits(measured):
    catalogue, (_, (split, *_)) = measured
    vectors = np.eye(2, dtype=np.float32)
    asked = queries(split, catalogue, CONFIG, vectors, limit=1)
    assert asked.vectors is vectors
    assert catalogue.items.take(asked.histories.items).to_list() == ["c", "d"]
    assert catalogue.items.take(asked.seen.items).to_list() == ["a", "b", "c", "a", "b", "d"]


def test_lists_of_nobody_are_still_recommendations(measured, log_of):
    catalogue, _ = measured
    (nobody,) = splits(log_of(ROWS[:1]), catalogue, EvaluationConfig())
    model = Popularity().fit(Dataset.of(log_of(ROWS), catalogue, nobody.at))
    listed = model.recommend(queries(nobody, catalogue, CONFIG), 5, catalogue, "popularity")
    assert listed.equals(RECOMMENDATIONS.empty())
