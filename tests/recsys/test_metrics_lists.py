"""Metrics of lists and of the catalogue, overlap and slices: by hand and by plain loops."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import log, log2, sqrt
from typing import get_args

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.evaluation import MetricName
from recsys.metrics import METRICS_BY_NAME, Context, measure
from recsys.metrics.overlap import overlap
from recsys.metrics.slices import by_activity, by_column, by_popularity, gap, of_items, of_users
from recsys.schema import METRICS, RECOMMENDATIONS

POPULARITY = {"hit": 60, "known": 15, "some": 9, "few": 8, "rare": 8}  # 80 of 100 pairs: hit, known, some
CATEGORIES = {"hit": ["pop"], "known": ["pop", "rock"], "some": ["rock"], "few": ["jazz"], "rare": None}
CONTEXT = Context(
    items=pl.Series([*POPULARITY, "new"]),
    popularity=pl.DataFrame({"item_id": [*POPULARITY], "count": [*POPULARITY.values()]}),
    users=70,
    categories=pl.DataFrame({"item_id": [*CATEGORIES], "categories": [*CATEGORIES.values()]}),
    histories=pl.DataFrame({"user_id": ["u", "u", "v", "w"], "item_id": ["hit", "known", "few", "rare"]}),
)
Lists = Mapping[str, Sequence[str]]


def ranked(lists: Lists, source: str = "model") -> pl.DataFrame:
    rows = [(u, item, n, 1 / n, source) for u, items in lists.items() for n, item in enumerate(items, 1)]
    return pl.DataFrame(rows, RECOMMENDATIONS.schema, orient="row")


def true(pairs: Lists) -> pl.DataFrame:
    rows = [(user, item) for user, items in pairs.items() for item in items]
    return pl.DataFrame(rows, {"user_id": pl.String, "item_id": pl.String}, orient="row")


LISTS = {
    "u": ["hit", "some", "few", "rare", "new"],
    "v": ["known", "hit"],
    "w": ["rare"],
    "without truth": ["new", "hit"],
}
TRUTH = true({"u": ["few", "new"], "v": ["hit"], "w": ["some"], "no list": ["hit"]})


def value(name: str, k: int, context: Context = CONTEXT, lists: Lists = LISTS) -> dict[str | None, float]:
    frame = measure(ranked(lists), TRUTH, [name], [k], context)
    return dict(frame["user_id", "value"].rows())


def test_every_metric_can_be_asked_for() -> None:
    assert get_args(MetricName) == tuple(METRICS_BY_NAME)


def test_what_lists_are_like_by_hand() -> None:
    assert value("completeness", 4) == {"u": 1.0, "v": 0.5, "w": 0.25, "no list": 0.0}
    assert value("arp", 3) == pytest.approx({"u": 77 / 3, "v": 37.5, "w": 8, "no list": 0})
    assert value("aclt", 4) == {"u": 2.0, "v": 0.0, "w": 1.0, "no list": 0.0}
    assert value("aclt", 5)["u"] == 3.0  # what nobody had is tail
    assert value("tail_share", 4) == {"u": 0.5, "v": 0.0, "w": 1.0, "no list": 0.0}
    # few is at rank 3 and shares place 4 by popularity with rare; new is 5th and 6th of 6
    assert value("serendipity", 5) == pytest.approx({"u": (1 / 6 + 1 / 6) / 5, "v": 0, "w": 0, "no list": 0})


def test_the_tail_shares_the_last_fifth() -> None:
    tail = dict(CONTEXT.tail().rows())
    assert tail == {"hit": False, "known": False, "some": False, "few": True, "rare": True, "new": True}


def test_diversity_is_the_mean_over_pairs() -> None:
    context = replace(
        CONTEXT,
        categories=pl.DataFrame(
            {"item_id": [*CATEGORIES, "x"], "categories": [*CATEGORIES.values(), ["rock", "pop", "folk"]]}
        ),
    )
    lists = {"u": ["x", "hit", "known", "rare", "few"], "v": ["hit", "rare"], "w": ["hit", "some"]}
    kinds = {**{i: set(c) for i, c in CATEGORIES.items() if c}, "x": {"rock", "pop", "folk"}}

    def apart(items: Sequence[str]) -> float:
        told = [kinds[item] for item in items if item in kinds]
        pairs = [1 - len(a & b) / sqrt(len(a) * len(b)) for a, b in combinations(told, 2)]
        return sum(pairs) / len(pairs) if pairs else 0.0

    for k in (1, 2, 3, 5):
        expected = {user: apart(lists.get(user, [])[:k]) for user in ("u", "v", "w", "no list")}
        assert value("diversity", k, context, lists) == pytest.approx(expected, abs=1e-12)
    assert value("diversity", 2, context, lists)["w"] == 1.0


def test_calibration_is_the_divergence_from_ones_own_taste() -> None:
    def divergence(p: Mapping[str, float], q: Mapping[str, float]) -> float:
        return sum(x * log(x / (0.99 * q.get(c, 0) + 0.01 * x)) for c, x in p.items())

    found = value("calibration", 3)
    assert found.keys() == {"u", "v"}  # nothing w did has a category; no list did nothing at all
    taste, shown = {"pop": 3 / 4, "rock": 1 / 4}, {"pop": 1 / 3, "rock": 1 / 3, "jazz": 1 / 3}
    assert found["u"] == pytest.approx(divergence(taste, shown), abs=1e-12)
    assert found["v"] == pytest.approx(log(100), abs=1e-12)  # jazz alone, and none in the list
    assert value("calibration", 2, lists={"u": ["hit", "known"]}) == pytest.approx({"u": 0, "v": log(100)})


def test_what_lists_do_to_the_catalogue_by_hand() -> None:
    # within 2: hit 3, some 1, known 1, rare 1, new 1, few 0
    shown = [0, 1, 1, 1, 1, 3]
    even = sum(abs(a - b) for a in shown for b in shown) / (2 * 6 * sum(shown))
    assert value("gini", 2) == pytest.approx({None: even}, abs=1e-12)
    assert value("entropy", 2) == pytest.approx({None: -(4 / 7 * log2(1 / 7) + 3 / 7 * log2(3 / 7))})
    one = {user: ["hit"] for user in "uvw"}
    assert value("gini", 1, lists=one) == pytest.approx({None: 5 / 6})
    assert value("entropy", 1, lists=one) == {None: 0.0}
    each = dict(zip("uvwxyz", [["hit"], ["known"], ["some"], ["few"], ["rare"], ["new"]], strict=True))
    assert value("gini", 1, lists=each) == pytest.approx({None: 0.0}, abs=1e-12)
    assert value("entropy", 1, lists=each) == pytest.approx({None: log2(6)})


def test_exposure_is_compared_with_merit() -> None:
    second = 1 / log2(3)
    head, tail = 2 + 2 * second, 1.0  # u: hit, some; v: known, hit; w: rare
    merit = 3 / 5  # of five true pairs hit, hit and some are of the head
    assert value("exposure_gap", 2) == pytest.approx({None: abs(head / (head + tail) - merit)})
    groups = pl.DataFrame({"item_id": ["hit", "some", "few"], "group": ["A", "B", "B"]})
    shares = {"A": 1 + second, "B": second, "none": 2.0}
    merits = {"A": 2 / 5, "B": 2 / 5, "none": 1 / 5}
    whole = sum(shares.values())
    expected = sum(abs(shares[g] / whole - merits[g]) for g in shares) / 2
    assert value("exposure_gap", 2, replace(CONTEXT, groups=groups)) == pytest.approx({None: expected})


@pytest.mark.parametrize(("name", "what"), [("diversity", "categories"), ("calibration", "histories")])
def test_what_a_metric_needs_is_asked_for(name: str, what: str) -> None:
    with pytest.raises(ContractError, match=f"give Context {what}"):
        value(name, 2, replace(CONTEXT, **{what: None}))


# Overlap


def slow_rbo(a: Sequence[str], b: Sequence[str], p: float) -> float:
    short, long = sorted((list(a), list(b)), key=len)
    s, ell = len(short), len(long)
    common = [len({*short[:d]} & {*long[:d]}) for d in range(ell + 1)]
    first = sum(common[d] / d * p**d for d in range(1, ell + 1))
    second = sum(common[s] * (d - s) / (s * d) * p**d for d in range(s + 1, ell + 1))
    return (1 - p) / p * (first + second) + ((common[ell] - common[s]) / ell + common[s] / s) * p**ell


def test_overlap_is_rank_biased() -> None:
    items = pl.Series([f"i{n}" for n in range(9)])
    lists = [
        {f"u{n}": items.shuffle(seed=10 * n + s).to_list()[: 1 + (n + 3 * s) % 9] for n in range(30)}
        for s in (1, 2)
    ]
    frame = pl.concat([ranked(lists[0], "a"), ranked({**lists[1], "alone": ["i1"]}, "b")])
    found = overlap(frame.sample(fraction=1, shuffle=True, seed=1), "a", "b", (1, 4, 20), 0.8)
    assert found.schema == METRICS.schema
    assert found["source"].unique().to_list() == ["a ~ b"]
    for k in (1, 4, 20):
        expected = {u: slow_rbo(lists[0][u][:k], lists[1][u][:k], 0.8) for u in lists[0]}
        rows = found.filter(pl.col("k") == k)["user_id", "value"].rows()
        assert dict(rows) == pytest.approx(expected, abs=1e-12)


def test_equal_lists_overlap_wholly_and_strange_ones_not_at_all() -> None:
    frame = pl.concat([ranked({"u": ["a", "b", "c"]}, s) for s in "xy"] + [ranked({"u": ["d", "e"]}, "z")])
    assert overlap(frame, "x", "y", (3, 9))["value"].to_list() == pytest.approx([1, 1])
    assert overlap(frame, "x", "z", (3,))["value"].to_list() == [0.0]
    with pytest.raises(ContractError, match="no list of source 'w'"):
        overlap(frame, "x", "w", (3,))
    with pytest.raises(ContractError, match="at least 1, not 0"):
        overlap(frame, "x", "y", (0,))


# Slices


def test_users_by_what_they_did() -> None:
    train = pl.DataFrame({"user_id": ["a"] * 2 + ["b"] * 3 + ["c"] * 9, "weight": [1.0, 0, *[1.0] * 12]})
    labels = by_activity(train, pl.Series(["c", "b", "a", "new"]), cold=2, heavy=5)
    assert labels.rows() == [("c", "heavy"), ("b", "warm"), ("a", "cold"), ("new", "cold")]
    with pytest.raises(ContractError, match="must be above 0"):
        by_activity(train, train["user_id"], cold=9, heavy=2)


def test_users_by_a_profile_column() -> None:
    profiles = pl.DataFrame(
        {
            "user_id": list("abcdef"),
            "age": [30.0, 10, None, 20, 40, 10],
            "country": ["de", None, "fr", "de", "fr", "fr"],
            "tags": [["x"]] * 6,
        }
    )
    assert by_column(profiles, "age", 2)["slice"].to_list() == ["2/2", "1/2", "unknown", "2/2", "2/2", "1/2"]
    assert by_column(profiles, "country")["slice"].to_list() == ["de", "unknown", "fr", "de", "fr", "fr"]
    with pytest.raises(ContractError, match="no column 'agee'; there are user_id, age"):
        by_column(profiles, "agee")
    with pytest.raises(ContractError, match="one value each"):
        by_column(profiles, "tags")


def test_items_by_popularity() -> None:
    assert dict(by_popularity(CONTEXT).rows()) == {
        "hit": "head", "known": "head", "some": "head", "few": "tail", "rare": "tail", "new": "new"
    }  # fmt: skip


def test_figures_by_slice_of_users_and_how_far_apart_they_lie() -> None:
    rows = [("m", "ndcg", 5, user, v) for user, v in zip("abcd", (0.1, 0.5, 0.9, 0.7), strict=True)]
    metrics = pl.DataFrame([*rows, ("m", "coverage", 5, None, 0.3)], METRICS.schema, orient="row")
    labels = pl.DataFrame({"user_id": list("abce"), "slice": ["cold", "cold", "heavy", "heavy"]})
    found = of_users(metrics, labels)
    assert found["slice", "metric", "mean", "users"].rows() == [
        ("cold", "ndcg", 0.3, 2), ("heavy", "ndcg", 0.9, 1)
    ]  # fmt: skip
    (row,) = gap(found).rows()
    assert row[:5] == ("m", "ndcg", 5, "heavy", "cold")
    assert row[5] == pytest.approx(0.6)
    pooled = metrics.with_columns(cluster="user_id", user_id=pl.col("user_id") + " @ then")
    assert of_users(pooled, labels).equals(found)
    with pytest.raises(ContractError, match="no measured user has a label"):
        of_users(metrics, labels.with_columns(user_id=pl.lit("?")))


def test_figures_by_slice_of_items_ask_for_those_items_only() -> None:
    found = of_items(ranked(LISTS), TRUTH, by_popularity(CONTEXT), ["recall"], [3], CONTEXT)
    recalls = {name: dict(frame["user_id", "value"].rows()) for name, frame in found.items()}
    assert recalls == {
        "head": {"no list": 0.0, "v": 1.0, "w": 0.0},
        "new": {"u": 0.0},
        "tail": {"u": 1.0},
    }


def test_metrics_on_a_lopsided_world_stay_in_their_ranges() -> None:
    random = np.random.default_rng(0)
    items = np.array([*POPULARITY, "new", "outside"])
    lists = {f"u{n}": random.permutation(items)[: 1 + n % 7].tolist() for n in range(50)}
    truth = true({f"u{n}": random.permutation(items)[: 1 + n % 5].tolist() for n in range(50)})
    past = pl.DataFrame({"user_id": [f"u{n}" for n in range(50)], "item_id": random.choice(items, 50)})
    frame = measure(ranked(lists), truth, list(METRICS_BY_NAME), [1, 3, 9], replace(CONTEXT, histories=past))
    most = {"arp": 60, "aclt": 9, "novelty": log2(71), "entropy": log2(6), "calibration": log(100) + 1e-9}
    for (name,), values in frame.group_by("metric"):
        bound = most.get(str(name), 1 + 1e-12)
        assert values["value"].is_between(0, bound).all(), name
