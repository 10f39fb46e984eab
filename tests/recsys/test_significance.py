"""The bootstrap against enumeration, against the normal law, and against itself."""

from itertools import product

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles.schema import ContractError
from recsys.schema import METRICS
from recsys.significance import Difference, Interval, compare, interval, paired, summarise


def measured(source: str, metric: str, values: dict[str, float], k: int = 10) -> pl.DataFrame:
    rows = [(source, metric, k, user, value) for user, value in values.items()]
    return pl.DataFrame(rows, METRICS.schema, orient="row")


def named(values: np.ndarray) -> dict[str, float]:
    return {f"u{n:04}": float(value) for n, value in enumerate(values)}


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_interval_is_that_of_all_resamples_enumerated(level: float) -> None:
    values = np.array([0.0, 0.1, 1.0, 3.0])
    every = np.sort([np.mean(drawn) for drawn in product(values, repeat=4)])
    low, high = np.quantile(every, [(1 - level) / 2, (1 + level) / 2])
    assert interval(values, level=level, resamples=40_000) == pytest.approx((1.025, low, high), abs=1e-12)


def test_interval_of_unequal_clusters_is_that_of_all_resamples_enumerated() -> None:
    rows = {"x": [0.0], "y": [1.0, 2.0, 6.0], "z": [4.0, 5.0]}
    every = [np.mean(np.concatenate(drawn)) for drawn in product(map(np.array, rows.values()), repeat=3)]
    low, high = np.quantile(every, [0.1, 0.9])
    values, clusters = np.array([1.0, 4.0, 0.0, 2.0, 5.0, 6.0]), np.array(list("yzxyzy"))
    found = interval(values, level=0.8, resamples=40_000, clusters=clusters)
    assert found == pytest.approx((3.0, low, high), abs=1e-12)


def test_interval_of_many_users_is_the_normal_one() -> None:
    values = np.random.default_rng(3).beta(0.5, 2, size=3000)
    error = values.std() / np.sqrt(len(values))
    found = interval(values, resamples=20_000)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_a_seed_gives_its_interval_again() -> None:
    values = np.random.default_rng(0).random(50)
    assert interval(values, seed=1) == interval(values, seed=1)
    assert interval(values, seed=1) != interval(values, seed=2)


def test_one_user_alone_has_no_interval() -> None:
    assert interval(np.array([0.3])) == pytest.approx(Interval(0.3, np.nan, np.nan), nan_ok=True)
    lone = paired(np.array([1.0]), np.array([0.0]))
    assert lone.mean == 1.0
    assert np.isnan([lone.low, lone.high, lone.p]).all()
    assert not lone.significant


def test_paired_sees_a_difference_that_lies_within_users() -> None:
    random = np.random.default_rng(5)
    b = random.random(400)  # users differ far more from each other than a differs from b
    a = b + random.normal(0.01, 0.02, size=400)
    better, worse = paired(a, b), paired(b, a)
    assert better.low < 0.01 < better.high
    assert better.significant
    assert worse.significant
    assert better.p == worse.p == pytest.approx(2 / 2001)
    assert (worse.mean, worse.low, worse.high) == pytest.approx((-better.mean, -better.high, -better.low))
    assert interval(a).low < interval(b).mean < interval(a).high  # what unpaired intervals would miss


def test_paired_finds_nothing_as_often_as_it_promises() -> None:
    random = np.random.default_rng(6)
    noise = [random.normal(0, 1, size=(2, 100)) for _ in range(400)]
    found = [paired(a, b, seed=n, resamples=400) for n, (a, b) in enumerate(noise)]
    wrong = np.mean([difference.significant for difference in found])
    assert abs(wrong - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 400) + 0.01
    assert np.mean([difference.p for difference in found]) == pytest.approx(0.5, abs=0.05)


def test_equal_values_do_not_differ() -> None:
    values = np.random.default_rng(0).random(30)
    assert paired(values, values) == Difference(0.0, 0.0, 0.0, 1.0)
    assert not paired(values, values).significant


def test_repeating_users_adds_no_evidence_once_they_are_clusters() -> None:
    values = np.random.default_rng(8).random(300)
    users = np.arange(300)
    fourfold, whose = np.repeat(values, 4), np.repeat(users, 4)
    once, clustered, naive = interval(values), interval(fourfold, clusters=whose), interval(fourfold)
    assert clustered == pytest.approx(once, abs=1e-12)
    width = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert width == pytest.approx(2, rel=0.1)  # sqrt(4): what treating rows as users would claim


def test_clusters_of_one_change_nothing() -> None:
    values = np.random.default_rng(9).random(40)
    assert interval(values, clusters=np.arange(40)) == pytest.approx(interval(values), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        (np.array([]), None, "needs users"),
        (np.array([0.1, np.nan]), None, "needs finite values"),
        (np.array([0.1, 0.2]), np.array([1]), "2 values cannot lie in 1 clusters"),
    ],
)
def test_what_has_no_interval_is_refused(
    values: np.ndarray, clusters: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        interval(values, clusters=clusters)


def test_paired_refuses_sides_of_unequal_length() -> None:
    with pytest.raises(ContractError, match="both sides"):
        paired(np.array([1.0]), np.array([1.0, 2.0]))


def test_summary_holds_the_interval_of_each_metric() -> None:
    random = np.random.default_rng(10)
    one, two, few = random.random(60), random.random(60), random.random(20)
    metrics = pl.concat(
        [
            measured("b", "ndcg", named(two)),
            measured("a", "recall", named(one)),
            measured("a", "ndcg", named(few)),
            pl.DataFrame([("a", "coverage", 10, None, 0.4)], METRICS.schema, orient="row"),
        ]
    )
    frame = summarise(metrics.sample(fraction=1, shuffle=True, seed=0), seed=4, resamples=500, level=0.9)
    expected = pl.DataFrame(
        [
            ("a", "coverage", 10, 0.4, None, None, None),
            ("a", "ndcg", 10, *interval(few, 4, 500, 0.9), 20),
            ("a", "recall", 10, *interval(one, 4, 500, 0.9), 60),
            ("b", "ndcg", 10, *interval(two, 4, 500, 0.9), 60),
        ],
        ["source", "metric", "k", "mean", "low", "high", "users"],
        orient="row",
    )
    assert_frame_equal(frame, expected, abs_tol=1e-12)


def test_summary_draws_the_clusters_a_frame_names() -> None:
    values = np.random.default_rng(11).random(50)
    whose = np.random.default_rng(12).integers(0, 12, size=50)
    metrics = measured("a", "ndcg", named(values)).with_columns(cluster=pl.Series(whose))
    row = summarise(metrics, resamples=300).row(0, named=True)
    expected = interval(values, resamples=300, clusters=whose)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(expected, abs=1e-12)
    assert row["users"] == 12


def test_summary_of_nothing_is_empty() -> None:
    assert summarise(METRICS.empty()).columns == ["source", "metric", "k", "mean", "low", "high", "users"]
    assert summarise(METRICS.empty()).is_empty()


def test_comparison_pairs_by_user() -> None:
    random = np.random.default_rng(13)
    a, b, whose = random.random(40), random.random(40), random.integers(0, 9, size=40)
    both = pl.concat([measured("a", "ndcg", named(a)), measured("b", "ndcg", named(b)).reverse()])
    noise = pl.concat([measured("a", "ndcg", named(b), k=5), measured("c", "ndcg", named(a))])
    metrics = pl.concat([noise, both])
    assert compare(metrics, "a", "b", "ndcg", 10, seed=2) == paired(a, b, seed=2)
    clusters = pl.DataFrame({"user_id": list(named(a)), "cluster": whose})
    assert compare(metrics.join(clusters, on="user_id"), "a", "b", "ndcg", 10) == paired(a, b, clusters=whose)


@pytest.mark.parametrize(
    ("b", "metric", "message"),
    [
        ({"u": 1.0, "w": 0.0}, "ndcg", "not measured over the same users: 2 of 3 have ndcg@10"),
        ({}, "ndcg", "no user of source 'b' has ndcg@10"),
        ({"u": 1.0}, "coverage", "no user of source 'a' has coverage@10"),
    ],
)
def test_comparison_refuses_other_users(b: dict[str, float], metric: str, message: str) -> None:
    metrics = pl.concat([measured("a", "ndcg", {"u": 1.0, "v": 0.5}), measured("b", "ndcg", b)])
    with pytest.raises(ContractError, match=message):
        compare(metrics, "a", "b", metric, 10)


def test_frames_that_break_their_key_are_refused() -> None:
    frame = measured("a", "ndcg", {"u": 1.0, "v": 0.5})
    with pytest.raises(ContractError, match="two rows have the same source, metric, k, user_id"):
        summarise(pl.concat([frame, frame]))
    torn = pl.concat([frame, measured("b", "ndcg", {"u": 1.0, "v": 0.5})]).with_columns(
        cluster=pl.Series([1, 2, 3, 2])
    )
    with pytest.raises(ContractError, match="lies in more than one cluster"):
        summarise(torn)
