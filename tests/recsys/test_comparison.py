"""Tests over users against enumeration, against worked cases, and against what they promise."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.comparison import detectable, effect, holm, judge, over_seeds, permutation
from recsys.schema import METRICS
from recsys.significance import paired


def test_permutation_is_that_of_all_signs_enumerated() -> None:
    a, b = np.array([0.3, 0.8, 0.5, 0.9, 0.1, 0.7]), np.array([0.1, 0.2, 0.6, 0.4, 0.1, 0.5])
    gain = a - b
    means = [abs(np.dot(signs, gain)) for signs in product([-1, 1], repeat=6)]
    exact = np.mean([m >= abs(gain.sum()) - 1e-12 for m in means])
    assert 0.05 < exact < 0.3
    assert permutation(a, b, resamples=40_000) == pytest.approx(exact, abs=0.006)
    assert permutation(b, a, resamples=40_000) == permutation(a, b, resamples=40_000)
    assert permutation(a, a) == 1.0
    assert np.isnan(permutation(a[:1], b[:1]))


def test_a_clusters_signs_are_thrown_together() -> None:
    a, b, whose = np.array([1.0, 2.0, 3.0, 1.0]), np.zeros(4), np.array(list("xxyx"))
    # two clusters: sums 4 and 3; two of four throws are as extreme
    assert permutation(a, b, resamples=20_000, clusters=whose) == pytest.approx(0.5, abs=0.02)
    assert permutation(a, b, resamples=20_000) == pytest.approx(2 / 16, abs=0.02)


def test_permutation_is_wrong_as_often_as_it_promises() -> None:
    random = np.random.default_rng(2)
    found = [permutation(*random.exponential(1, (2, 60)), seed=n, resamples=300) for n in range(400)]
    assert abs(np.mean(np.array(found) <= 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 400) + 0.005
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_holm_by_hand() -> None:
    # 0.01 x 4; 0.02 x 3; 0.03 x 2 stands no lower than the one before; 0.9 x 1
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([0.02, float("nan"), 0.03]) == pytest.approx([0.04, float("nan"), 0.04], nan_ok=True)
    assert holm([]) == []


def test_effect_is_the_gain_in_its_own_spread() -> None:
    b = np.array([0.0, 1.0, 2.0, 3.0])
    assert effect(b + np.array([1, 2, 1, 2]), b) == pytest.approx(1.5 / np.std([1, 2, 1, 2], ddof=1))
    assert effect(b, b) == 0
    assert effect(b - 1, b) == -np.inf
    assert np.isnan(effect(b[:1], b[:1] + 1))


def test_what_is_detectable_is_detected_four_times_of_five() -> None:
    random = np.random.default_rng(4)
    least = np.mean([detectable(random.normal(0, 1, 100), np.zeros(100)) for _ in range(200)])
    assert least == pytest.approx(2.8 / 10, rel=0.03)
    seen = [
        paired(random.normal(least, 1, 100), np.zeros(100), seed=n, resamples=300).significant
        for n in range(300)
    ]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.08)


def test_repeated_rows_of_a_user_make_nothing_more_detectable() -> None:
    gain = np.random.default_rng(5).normal(0, 1, 80)
    once = detectable(gain, np.zeros(80))
    thrice, whose = np.repeat(gain, 3), np.repeat(np.arange(80), 3)
    assert detectable(thrice, np.zeros(240), clusters=whose) == pytest.approx(once)
    assert np.isnan(detectable(gain[:1], np.zeros(1)))


def measured(source: str, values: np.ndarray) -> pl.DataFrame:
    rows = [(source, "ndcg", 10, f"u{n:03}", float(value)) for n, value in enumerate(values)]
    return pl.DataFrame(rows, METRICS.schema, orient="row")


def test_a_comparison_says_all_of_it() -> None:
    random = np.random.default_rng(6)
    b = random.random(200)
    a = b + np.where(np.arange(200) < 150, 0.02, -0.01) + random.normal(0, 0.001, 200)
    found = judge(pl.concat([measured("a", a), measured("b", b)]), "a", "b", "ndcg", 10)
    assert (found.a, found.b) == pytest.approx((a.mean(), b.mean()))
    assert found.difference == paired(a, b)
    assert (found.users, found.better, found.worse) == (200, 150, 50)
    assert found.p == permutation(a, b) == pytest.approx(1 / 2001)
    assert (found.effect, found.detectable) == (effect(a, b), detectable(a, b))


def test_spread_over_seeds_is_that_of_the_means() -> None:
    runs = [measured("m", np.array(values)) for values in ([0.0, 1.0], [0.5, 0.7], [1.0, 0.8])]
    (row,) = over_seeds(runs).rows(named=True)
    means = [0.5, 0.6, 0.9]
    assert (row["mean"], row["sd"]) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
    assert (row["least"], row["most"], row["seeds"]) == pytest.approx((0.5, 0.9, 3))
    with pytest.raises(ContractError, match="two runs or more, not 1"):
        over_seeds(runs[:1])
    with pytest.raises(ContractError, match=r"'n' has ndcg@10 in 1 of 2 runs"):
        over_seeds([runs[0], pl.concat([runs[1], measured("n", np.ones(2))])])
