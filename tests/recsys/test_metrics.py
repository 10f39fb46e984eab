"""Metrics against their definitions, against ranx, and against input that would mean nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log2

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from ranx import Qrels, Run, evaluate

from profiles.schema import ContractError
from recsys.metrics import METRICS_BY_NAME, Context, measure
from recsys.metrics.accuracy import average_precision
from recsys.schema import METRICS, RECOMMENDATIONS

ACCURACY = [
    "recall", "recall_capped", "precision", "r_precision", "ndcg", "ndcg_graded", "hit_rate", "mrr", "map",
    "auc",
]  # fmt: skip
ITEMS = [f"i{n}" for n in range(12)]
USERS = [f"u{n}" for n in range(6)]
CONTEXT = Context(
    items=pl.Series("item_id", ["a", "b", "c", "d"]),
    popularity=pl.DataFrame({"item_id": ["a", "b", "c"], "count": [7, 3, 1]}),
    users=7,
    categories=pl.DataFrame({"item_id": ["a", "b", "c"], "categories": [["x"], ["x", "y"], None]}),
    histories=pl.DataFrame({"user_id": ["u", "w"], "item_id": ["a", "c"]}),
)
Lists = Mapping[str, Sequence[str]]


def ranked(lists: Lists, source: str = "model") -> pl.DataFrame:
    rows = [
        (user, item, rank, 1 / rank, source)
        for user, items in lists.items()
        for rank, item in enumerate(items, 1)
    ]
    return pl.DataFrame(rows, RECOMMENDATIONS.schema, orient="row")


def true(pairs: Lists) -> pl.DataFrame:
    rows = [(user, item) for user, items in pairs.items() for item in items]
    return pl.DataFrame(rows, {"user_id": pl.String, "item_id": pl.String}, orient="row")


def graded(pairs: Mapping[str, Mapping[str, float]]) -> pl.DataFrame:
    rows = [(user, item, float(weight)) for user, items in pairs.items() for item, weight in items.items()]
    names = {"user_id": pl.String, "item_id": pl.String, "weight": pl.Float32}
    return pl.DataFrame(rows, names, orient="row")


def values(frame: pl.DataFrame, metric: str, k: int) -> dict[str | None, float]:
    chosen = frame.filter(pl.col("metric") == metric, pl.col("k") == k)
    return dict(zip(chosen["user_id"], chosen["value"], strict=True))


def slow(metric: str, items: Sequence[str], wanted: Mapping[str, float], k: int) -> float:
    """The definition, read off the page; the catalogue is ITEMS, the first four of them in CONTEXT."""
    hit = [item in wanted for item in items[:k]]
    match metric:
        case "recall":
            return sum(hit) / len(wanted)
        case "recall_capped":
            return sum(hit) / min(k, len(wanted))
        case "ndcg":
            ideal = [True] * min(k, len(wanted))
            dcg, best = (sum(1 / log2(n + 2) for n, h in enumerate(hits) if h) for hits in (hit, ideal))
            return dcg / best
        case "ndcg_graded":
            gains = ([wanted.get(item, 0) for item in items], sorted(wanted.values(), reverse=True))
            dcg, best = (sum(g / log2(n + 2) for n, g in enumerate(of[:k])) for of in gains)
            return dcg / best
        case "precision":
            return sum(hit) / k
        case "r_precision":
            return sum(hit[: len(wanted)]) / len(wanted)
        case "auc":
            score = {item: -n for n, item in enumerate(items[:k])}
            pairs = [(score.get(t, -99), score.get(f, -99)) for t in wanted for f in {*ITEMS} - {*wanted}]
            return sum((t > f) + (t == f) / 2 for t, f in pairs) / len(pairs) if pairs else 0.5
        case "hit_rate":
            return float(any(hit))
        case "mrr":
            return 1 / (hit.index(True) + 1) if any(hit) else 0.0
        case "map":
            return sum(sum(hit[: n + 1]) / (n + 1) for n, h in enumerate(hit) if h) / len(wanted)
    raise AssertionError(metric)


def test_values_worked_out_by_hand() -> None:
    frame = measure(
        ranked({"u": ["a", "b", "c", "d", "e"]}),
        graded({"u": {"b": 1, "d": 3, "x": 2}}),
        ACCURACY,
        [1, 2, 5],
        replace(CONTEXT, items=pl.Series([*"abcdefgx"])),  # a, c, e, f and g are untrue
    )
    expected = {
        ("recall", 1): 0.0,
        ("recall", 2): 1 / 3,
        ("recall", 5): 2 / 3,
        ("recall_capped", 1): 0.0,
        ("recall_capped", 2): 1 / 2,
        ("recall_capped", 5): 2 / 3,
        ("ndcg", 1): 0.0,
        ("ndcg", 2): (1 / log2(3)) / (1 + 1 / log2(3)),
        ("ndcg", 5): (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / 2),
        ("ndcg_graded", 1): 0.0,
        ("ndcg_graded", 2): (1 / log2(3)) / (3 + 2 / log2(3)),
        ("ndcg_graded", 5): (1 / log2(3) + 3 / log2(5)) / (3 + 2 / log2(3) + 1 / 2),
        ("precision", 1): 0.0,
        ("precision", 2): 1 / 2,
        ("precision", 5): 2 / 5,
        ("r_precision", 1): 0.0,
        ("r_precision", 2): 1 / 3,
        ("r_precision", 5): 1 / 3,
        ("auc", 1): (4 / 2 * 3) / (3 * 5),  # all true ones are tied with four of five
        ("auc", 2): (4 + 4 / 2 * 2) / (3 * 5),
        ("auc", 5): (4 + 3 + 2 / 2) / (3 * 5),
        ("hit_rate", 1): 0.0,
        ("hit_rate", 2): 1.0,
        ("hit_rate", 5): 1.0,
        ("mrr", 1): 0.0,
        ("mrr", 2): 1 / 2,
        ("mrr", 5): 1 / 2,
        ("map", 1): 0.0,
        ("map", 2): (1 / 2) / 3,
        ("map", 5): (1 / 2 + 2 / 4) / 3,
    }
    found = {(row["metric"], row["k"]): row["value"] for row in frame.iter_rows(named=True)}
    assert found == pytest.approx(expected, abs=1e-12)


orders = st.permutations(ITEMS).flatmap(lambda order: st.integers(1, 12).map(lambda n: order[:n]))
wishes = st.dictionaries(st.sampled_from(ITEMS), st.sampled_from([0.5, 1.0, 2.0]), min_size=1)


@settings(max_examples=60, deadline=None)
@given(
    a=st.dictionaries(st.sampled_from(USERS), orders, min_size=1),
    b=st.dictionaries(st.sampled_from(USERS), orders, min_size=1),
    wanted=st.dictionaries(st.sampled_from(USERS), wishes, min_size=1),
    ks=st.lists(st.integers(1, 15), min_size=1, max_size=3, unique=True),
    seed=st.integers(0, 9),
)
def test_any_rankings_measure_as_defined(
    a: Lists, b: Lists, wanted: dict[str, dict[str, float]], ks: list[int], seed: int
) -> None:
    wanted = {"u-shared": {"i0": 1.0}, **wanted}
    lists = {"a": {"u-shared": ["i1", "i0"], **a}, "b": b}
    both = pl.concat([ranked(lists["b"], "b"), ranked(lists["a"], "a")])
    mixed, truth = (frame.sample(fraction=1, shuffle=True, seed=seed) for frame in (both, graded(wanted)))
    frame = measure(mixed, truth, ACCURACY, ks, replace(CONTEXT, items=pl.Series(ITEMS)))
    expected = [
        (source, metric, k, user, slow(metric, lists[source].get(user, []), wanted[user], k))
        for source in sorted(lists)
        for metric in sorted(ACCURACY)
        for k in sorted(ks)
        for user in sorted(wanted)
    ]
    assert_frame_equal(frame, pl.DataFrame(expected, METRICS.schema, orient="row"), rel_tol=0, abs_tol=1e-12)


@pytest.mark.filterwarnings("ignore:unsafe cast from uint64")  # numba, of ranx's own arrays
def test_ranx_agrees() -> None:
    order = pl.Series(ITEMS)
    lists = {f"u{n:02}": order.shuffle(seed=n).to_list()[: 3 + n % 8] for n in range(40)}
    wanted = {
        user: {item: 1 + place % 3 for place, item in enumerate(order.shuffle(seed=99 + n)[: 1 + n % 7])}
        for n, user in enumerate(lists)
    }
    qrels = Qrels(wanted)
    binary = Qrels({user: dict.fromkeys(items, 1) for user, items in wanted.items()})
    run = Run({user: {item: 1 / n for n, item in enumerate(items, 1)} for user, items in lists.items()})
    named = ["recall", "precision", "ndcg", "hit_rate", "mrr", "map"]  # it has no others cut at k
    names, ks = [*named, "ndcg_graded"], [1, 3, 10, 20]
    evaluate(binary, run, [f"{name}@{k}" for name in named for k in ks] + ["r-precision"])
    frame = measure(ranked(lists), graded(wanted), [*names, "r_precision"], ks, CONTEXT)
    assert values(frame, "r_precision", 20) == pytest.approx(dict(run.scores["r-precision"]), abs=1e-9)
    one = {name: dict(found) for name, found in run.scores.items()}
    evaluate(qrels, run, [f"ndcg@{k}" for k in ks])
    one |= {f"ndcg_graded@{k}": dict(run.scores[f"ndcg@{k}"]) for k in ks}
    for name in names:
        for k in ks:
            assert values(frame, name, k) == pytest.approx(dict(one[f"{name}@{k}"]), abs=1e-9)


def test_only_users_with_truth_are_measured() -> None:
    frame = measure(
        ranked({"listed": ["a"], "no truth": ["a"]}),
        true({"listed": ["a"], "no list": ["a"]}),
        [*ACCURACY, "novelty"],
        [3],
        CONTEXT,
    )
    for name in {*ACCURACY} - {"precision", "auc"}:
        assert values(frame, name, 3) == {"listed": 1.0, "no list": 0.0}
    assert values(frame, "precision", 3) == {"listed": 1 / 3, "no list": 0.0}
    assert values(frame, "auc", 3) == {"listed": 1.0, "no list": 0.5}
    assert values(frame, "novelty", 3).keys() == {"listed", "no list"}


def test_coverage_counts_catalogue_items_shown_to_anyone() -> None:
    lists = pl.concat(
        [
            ranked({"u": ["a", "b", "c"], "without truth": ["b", "d"]}, "wide"),
            ranked({"u": ["new"]}, "outside the catalogue"),
        ]
    )
    frame = measure(lists, true({"u": ["a"]}), ["coverage"], [1, 2], CONTEXT)
    assert frame.rows() == [
        ("outside the catalogue", "coverage", 1, None, 0.0),
        ("outside the catalogue", "coverage", 2, None, 0.0),
        ("wide", "coverage", 1, None, 2 / 4),
        ("wide", "coverage", 2, None, 3 / 4),
    ]


def test_novelty_is_the_surprise_of_an_item() -> None:
    lists = ranked({"everyone's": ["a"], "mixed": ["b", "c", "never seen"], "deep": ["c", "a"]})
    wanted = true({user: ["a"] for user in ("everyone's", "mixed", "deep", "no list")})
    frame = measure(lists, wanted, ["novelty"], [1, 3], CONTEXT)
    # shares of (7 + 1) users: a 8/8, b 4/8, c 2/8, never seen 1/8
    assert values(frame, "novelty", 1) == {"everyone's": 0.0, "mixed": 1.0, "deep": 2.0, "no list": 0.0}
    assert values(frame, "novelty", 3) == {"everyone's": 0.0, "mixed": 2.0, "deep": 1.0, "no list": 0.0}


@pytest.mark.parametrize("name", METRICS_BY_NAME)
def test_a_metric_alone_is_the_metric_measured(name: str) -> None:
    lists = pl.concat([ranked({"u": ["a", "b"], "v": ["c"]}, "x"), ranked({"v": ["b", "a", "d"]}, "w")])
    wanted = true({"u": ["b"], "v": ["a", "d"], "w": ["c"]})
    alone = METRICS_BY_NAME[name](lists, wanted, 2, CONTEXT)
    among = measure(lists, wanted, list(METRICS_BY_NAME), [3, 2, 2], CONTEXT)
    assert alone.schema == among.schema == METRICS.schema
    assert_frame_equal(alone, among.filter(pl.col("metric") == name, pl.col("k") == 2), check_exact=True)
    assert_frame_equal(among, among.sort("source", "metric", "k", "user_id"), check_exact=True)


def test_an_accuracy_metric_carries_its_definition() -> None:
    assert average_precision.name == "map"
    assert "trec_eval" in str(average_precision.__doc__)


GOOD = ranked({"u": ["a", "b", "c"]})
TRUE = true({"u": ["a"]})
RANK = pl.col("rank")


@pytest.mark.parametrize(
    ("lists", "wanted", "names", "ks", "message"),
    [
        (GOOD, TRUE, ["recal"], [1], "metric 'recal' is not one of recall, recall_capped, precision"),
        (GOOD, TRUE, ["recall"], [5, 0], "k is a list length and must be at least 1, not 0"),
        (GOOD, TRUE.clear(), ["recall"], [1], "truth is empty"),
        (GOOD, true({"u": ["a", "a"]}), ["recall"], [1], "user 'u' holds item 'a' more than once"),
        (GOOD, true({"7": ["a"]}), ["recall"], [1], "no user in common: lists are for 'u', .* is for '7'"),
        (GOOD.clear(), TRUE, ["recall"], [1], "no user in common: lists are for nobody"),
        (
            GOOD.with_columns(
                score=pl.when(RANK == 2).then(float("nan")).otherwise("score").cast(pl.Float32)
            ),
            TRUE,
            ["recall"],
            [1],
            "source 'model', user 'u': a score is NaN",
        ),
        (GOOD.filter(RANK != 2), TRUE, ["recall"], [1], "without gaps; found 2 ranks from 1 to 3"),
        (GOOD.filter(RANK > 1), TRUE, ["recall"], [1], "without gaps; found 2 ranks from 2 to 3"),
        (GOOD.with_columns(RANK.replace({1: 0, 2: 1})), TRUE, ["recall"], [1], "found 3 ranks from 0 to 3"),
        (GOOD.with_columns(RANK - 1), TRUE, ["recall"], [1], "without gaps; found 3 ranks from 0 to 2"),
        (
            GOOD.with_columns(RANK.replace(2, 3)),
            TRUE,
            ["recall"],
            [1],
            "user 'u': rank 3 is given more than once",
        ),
        (ranked({"u": ["a", "b", "a"]}), TRUE, ["recall"], [1], "item 'a' is recommended more than once"),
    ],
)
def test_what_would_mean_nothing_is_refused(
    lists: pl.DataFrame, wanted: pl.DataFrame, names: list[str], ks: list[int], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        measure(lists, wanted, names, ks, CONTEXT)


def test_one_item_from_two_sources_is_no_repetition() -> None:
    both = pl.concat([GOOD, GOOD.with_columns(source=pl.lit("other"))])
    assert measure(both, TRUE, ["recall"], [1], CONTEXT)["value"].to_list() == [1.0, 1.0]
