"""The blend against a slow and obvious version of itself."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.schema import ContractError
from recsys.dataset import Vocabulary
from recsys.metrics import Context, measure
from recsys.metrics.accuracy import ndcg
from recsys.ranking import Ranked, top_k
from recsys.recommender import as_frame
from recsys.schema import RECOMMENDATIONS
from serving.blend import FALLBACK, LAST, Blended, _cells, _ndcg, fit_weights, fuse, normalised
from serving.schema import CONTRIBUTIONS

Lists = list[list[int]]  # rows by query, best first


def ranked(lists: Lists, depth: int) -> Ranked:
    """Scores fall from 1 by a tenth a place."""
    rows = np.full((len(lists), depth), -1, np.int32)
    scores = np.full((len(lists), depth), np.nan, np.float32)
    for q, items in enumerate(lists):
        rows[q, : len(items)] = items
        scores[q, : len(items)] = 1 - np.arange(len(items)) / 10
    return Ranked(rows, scores)


@st.composite
def questions(draw: st.DrawFn, items: int = 12) -> tuple[dict[str, Lists], dict[str, float], float, int]:
    queries = draw(st.integers(1, 4))
    one = st.permutations(range(items)).flatmap(lambda p: st.integers(0, items).map(lambda n: list(p[:n])))
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
    lists = {name: draw(st.lists(one, min_size=queries, max_size=queries)) for name in names}
    weight = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1.0]), st.floats(0.01, 10))
    weights = {name: draw(weight) for name in draw(st.lists(st.sampled_from("abcde"), unique=True))}
    constant = draw(st.sampled_from([0.5, 1.0, 5.0, 60.0]))
    return lists, weights, constant, draw(st.integers(1, items + 5))


def slow(
    lists: Mapping[str, Lists],
    weights: Mapping[str, float],
    constant: float,
    k: int,
    fallback: Lists | None,
) -> list[list[tuple[int, float, dict[str, float]]]]:
    """Return per query (item, score, contribution by source): loops over the formula."""
    answers = []
    least = min([weights[s] for s in lists if weights.get(s, 0) > 0], default=1.0)
    for q in range(len(next(iter(lists.values())))):
        parts: dict[int, dict[str, float]] = {}
        for source, by_query in lists.items():
            for rank, item in enumerate(by_query[q], 1):
                if weights.get(source, 0) > 0:
                    parts.setdefault(item, {})[source] = weights[source] / (constant + rank)
        if fallback is not None:
            for rank, item in enumerate(fallback[q], 1):
                if item not in parts:
                    parts[item] = {"fallback:f": FALLBACK * least / (constant + rank)}
        scored = [(item, float(np.float32(sum(by.values()))), by) for item, by in parts.items()]
        answers.append(sorted(scored, key=lambda s: (-s[1], s[0]))[:k])
    return answers


@settings(max_examples=150)
@given(questions(), st.booleans(), st.data())
def test_fuse_is_its_formula(
    question: tuple[dict[str, Lists], dict[str, float], float, int], filled: bool, data: st.DataObject
) -> None:
    lists, weights, constant, k = question
    queries = len(next(iter(lists.values())))
    order = st.permutations(range(12))
    fallback = data.draw(st.lists(order, min_size=queries, max_size=queries)) if filled else None
    # Sources may look into different depths.
    rankings = {
        name: ranked(by_query, max(map(len, by_query)) + n)
        for n, (name, by_query) in enumerate(lists.items())
    }
    given_fallback = None if fallback is None else ("f", ranked([list(f) for f in fallback], 12))
    if not filled and not any(weights.get(name, 0) > 0 for name in lists):
        with pytest.raises(ContractError, match="no source has a weight above 0"):
            fuse(rankings, weights, constant, k, given_fallback)
        return
    blended = fuse(rankings, weights, constant, k, given_fallback)
    expected = slow(lists, weights, constant, k, None if fallback is None else [list(f) for f in fallback])

    assert blended.ranked.rows.shape == (queries, k)
    for q, wanted in enumerate(expected):
        n = len(wanted)
        assert blended.ranked.rows[q].tolist() == [item for item, _, _ in wanted] + [-1] * (k - n)
        np.testing.assert_allclose(blended.ranked.scores[q, :n], [s for _, s, _ in wanted], rtol=1e-6)
        assert np.isnan(blended.ranked.scores[q, n:]).all()
        np.testing.assert_allclose(
            blended.parts[q, :n].sum(axis=1, dtype=np.float64), blended.ranked.scores[q, :n], rtol=1e-6
        )
        assert not blended.parts[q, n:].any()
        assert not blended.ranks[q, n:].any()
        for place, (item, _, by_source) in enumerate(wanted):
            for s, name in enumerate(blended.sources):
                found = blended.parts[q, place, s], blended.ranks[q, place, s]
                if name not in by_source:
                    assert found == (0, 0)
                    assert np.isnan(blended.source_scores[q, place, s])
                    continue
                own = fallback[q] if name == "fallback:f" and fallback is not None else lists[name][q]
                rank = list(own).index(item) + 1
                assert found[1] == rank
                assert found[0] == pytest.approx(by_source[name], rel=1e-6)
                assert blended.source_scores[q, place, s] == np.float32(1 - (rank - 1) / 10)


def test_ties_go_to_the_lower_row() -> None:
    a, b = ranked([[7, 3, 9]], 3), ranked([[3, 7, 1]], 3)
    blended = fuse({"a": a, "b": b}, {"a": 1.0, "b": 1.0}, 5.0, 4)
    assert blended.ranked.rows[0].tolist() == [3, 7, 1, 9]
    assert blended.ranked.scores[0].tolist() == pytest.approx([1 / 6 + 1 / 7] * 2 + [1 / 8] * 2, rel=1e-6)


def test_a_small_constant_keeps_the_first_place_first() -> None:
    """The reason the constant is 5 and not 60: two of weight 1 against one of .1."""
    first = {name: ranked([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], 10) for name in "ab"}
    rankings = {**first, "c": ranked([[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]], 10)}
    weights = {"a": 1.0, "b": 1.0, "c": 0.1}
    assert fuse(rankings, weights, 5.0, 10).ranked.rows[0].tolist() == list(range(10))


def test_the_fallback_fills_below_and_has_no_say_above() -> None:
    blend, fill = ranked([[4, 2]], 2), ranked([[2, 0, 1, 4, 3]], 5)
    blended = fuse({"a": blend, "f": fill}, {"a": 0.01}, 5.0, 10, ("f", fill))
    assert blended.sources == ("a", "fallback:f")
    assert blended.ranked.rows[0].tolist() == [4, 2, 0, 1, 3] + [-1] * 5
    assert blended.ranks[0, :5].tolist() == [[1, 0], [2, 0], [0, 2], [0, 3], [0, 5]]
    assert blended.parts[0, :2, 1].tolist() == [0, 0]


def test_nothing_listed_gives_empty_lists() -> None:
    empty = ranked([[], []], 3)
    blended = fuse({"a": empty}, {"a": 1.0}, 5.0, 4, ("f", ranked([[], [1]], 2)))
    assert blended.ranked.lengths.tolist() == [0, 1]
    recommendations, contributions = blended.frames(["u", "v"], Vocabulary(pl.Series(["x", "y"])))
    assert recommendations.rows() == [("v", "y", 1, np.float32(FALLBACK / 6), "blend")]
    assert contributions["source"].to_list() == ["fallback:f"]


def test_no_queries_give_no_lists() -> None:
    blended = fuse({"a": ranked([], 3)}, {"a": 1.0}, 5.0, 4)
    assert blended.ranked.rows.shape == (0, 4)
    recommendations, contributions = blended.frames([], Vocabulary(pl.Series(["x"])))
    assert recommendations.schema == RECOMMENDATIONS.schema
    assert contributions.schema == CONTRIBUTIONS.schema
    assert len(recommendations) == len(contributions) == 0


def test_weights_that_make_no_sense() -> None:
    a = {"a": ranked([[0]], 1)}
    with pytest.raises(ContractError, match="weight of 'b' is negative"):
        fuse(a, {"a": 1.0, "b": -0.1}, 5.0, 1)
    for weights in ({}, {"a": 0.0}, {"unknown": 1.0}):
        with pytest.raises(ContractError, match="no source has a weight above 0"):
            fuse(a, weights, 5.0, 1)
    assert fuse(a, {"a": 1.0, "unknown": 5.0, "b": 0.0}, 5.0, 1).sources == ("a",)


@settings(max_examples=40)
@given(questions())
def test_the_frames_keep_their_contract(
    question: tuple[dict[str, Lists], dict[str, float], float, int],
) -> None:
    lists, _, constant, k = question
    rankings = {name: ranked(by_query, 12) for name, by_query in lists.items()}
    queries = len(next(iter(lists.values())))
    ids = [f"user {q}" for q in range(queries)]
    blended: Blended = fuse(rankings, dict.fromkeys(lists, 1.0), constant, k)
    items = Vocabulary(pl.Series([f"item {i:02}" for i in range(12)]))
    recommendations, contributions = blended.frames(ids, items)
    assert recommendations.schema == RECOMMENDATIONS.schema
    assert contributions.schema == CONTRIBUTIONS.schema
    for q, user in enumerate(ids):
        own = recommendations.filter(user_id=user)
        assert own["rank"].to_list() == list(range(1, len(own) + 1))
        assert own["item_id"].n_unique() == len(own) == blended.ranked.lengths[q]
        assert own["score"].is_sorted(descending=True)
    assert set(recommendations["source"]) <= {"blend"}
    sums = contributions.group_by("user_id", "item_id").agg(pl.col("contribution").sum())
    both = recommendations.join(sums, on=["user_id", "item_id"], how="full")
    assert len(both) == len(recommendations) == len(sums)
    np.testing.assert_allclose(both["score"], both["contribution"], rtol=1e-6)
    assert not contributions.select("user_id", "item_id", "source").is_duplicated().any()
    for user, item, source, rank, score, _ in contributions.rows():
        assert lists[source][ids.index(user)][rank - 1] == int(item[5:])
        assert score == np.float32(1 - (rank - 1) / 10)


def measured(
    rankings: Mapping[str, Ranked], weights: Mapping[str, float], truth: list[np.ndarray], k: int
) -> float:
    """Return the mean NDCG@k of what `fuse` lists, by the metric of `recsys`."""
    blended = fuse(rankings, weights, 5.0, k).ranked
    ids = [f"{q:04}" for q in range(len(truth))]
    items = Vocabulary(pl.Series([str(i) for i in range(100)]))
    pairs = [(user, str(item)) for user, own in zip(ids, truth, strict=True) for item in own]
    wanted = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    context = Context(items.ids, pl.DataFrame(schema={"item_id": pl.String, "count": pl.Int64}), 1)
    lists = as_frame(blended, ids, items, "blend")
    if not len(lists):
        return 0.0
    found = ndcg(lists, wanted, k, context)
    assert len(found) == len(ids)
    return float(found["value"].mean())


@st.composite
def validations(draw: st.DrawFn) -> tuple[dict[str, Ranked], list[np.ndarray]]:
    """Two to four sources over 15 items and 1 to 12 queries with one to four true items each."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries, names = draw(st.integers(1, 12)), "abcd"[: draw(st.integers(2, 4))]
    lists = {
        name: ranked([random.permutation(15)[: random.integers(0, 9)].tolist() for _ in range(queries)], 9)
        for name in names
    }
    truth = [random.permutation(20)[: random.integers(1, 5)].astype(np.int32) for _ in range(queries)]
    return lists, truth


@settings(max_examples=60)
@given(validations(), st.integers(1, 12), st.sampled_from([1, 3, 20]))
def test_fitted_weights_are_never_below_the_best_single_source(
    asked: tuple[dict[str, Ranked], list[np.ndarray]], k: int, rounds: int
) -> None:
    """By the real metric, on what `fuse` really lists: ties and short lists included."""
    rankings, truth = asked
    weights = fit_weights([(rankings, truth)], 5.0, rounds, k)
    assert sum(weights.values()) == pytest.approx(1)
    alone = {name: measured(rankings, {name: 1.0}, truth, k) for name in rankings}
    blended = measured(rankings, weights, truth, k)
    assert blended >= max(alone.values()) - 1e-12
    if rounds == 1:
        assert blended == pytest.approx(max(alone.values()))
        assert weights == {max(alone, key=lambda n: (round(alone[n], 9), -list(alone).index(n))): 1.0}


@settings(max_examples=60)
@given(validations(), st.integers(1, 12), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_the_metric_inside_is_the_metric_outside(
    asked: tuple[dict[str, Ranked], list[np.ndarray]], k: int, counts: list[int]
) -> None:
    rankings, truth = asked
    weights = {name: float(n) for name, n in zip(rankings, counts, strict=False)}
    if not any(weights.values()):
        weights = dict.fromkeys(rankings, 1.0)
    gains, relevant, sizes = _cells(rankings, truth, list(rankings), 5.0)
    wide = max(0, k - gains.shape[1])
    scores = np.pad(gains @ np.array([weights[n] for n in rankings]), ((0, 0), (0, wide)))
    inside = _ndcg(scores, np.pad(relevant, ((0, 0), (0, wide))), sizes, k)
    assert inside == pytest.approx(measured(rankings, weights, truth, k), abs=1e-9)


def test_ndcg_by_hand() -> None:
    """Two of three true items, at ranks 1 and 3 of a list of 3, out of a candidate set smaller than k."""
    scores = np.array([[0.3, 0.2, 0.1, 0.0, 0.0]])
    relevant = np.array([[True, False, True, True, False]])  # the fourth is not listed
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert _ndcg(scores, relevant, np.array([3]), 5) == pytest.approx((1 + 1 / 2) / ideal)


def planted(seed: int = 0, queries: int = 200) -> tuple[dict[str, Ranked], list[np.ndarray]]:
    """`good` has the one true item first, the others are chance."""
    random = np.random.default_rng(seed)
    truth = [random.integers(0, 50, 1).astype(np.int32) for _ in range(queries)]
    chance = {
        name: ranked([random.permutation(50)[:10].tolist() for _ in range(queries)], 10) for name in "xyz"
    }
    good = [[int(t[0]), *(i for i in random.permutation(50)[:9].tolist() if i != t[0])] for t in truth]
    return {"x": chance["x"], "good": ranked(good, 10), "y": chance["y"], "z": chance["z"]}, truth


def test_a_planted_best_source_is_found() -> None:
    rankings, truth = planted()
    assert fit_weights([(rankings, truth)], 5.0, 20) == {"good": 1.0}


def test_two_sources_that_know_different_users_both_get_weight() -> None:
    """One has the true item first for even queries, the other for odd ones; else they name the chaff."""
    truth = [np.array([q % 40], np.int32) for q in range(60)]
    own = [[int(t[0]), *range(41, 50)] for t in truth]
    other = [list(range(50, 60)) for _ in truth]
    rankings = {
        "even": ranked([own[q] if q % 2 == 0 else other[q] for q in range(60)], 10),
        "noise": ranked([list(range(60, 70)) for _ in truth], 10),
        "odd": ranked([own[q] if q % 2 else other[q] for q in range(60)], 10),
    }
    weights = fit_weights([(rankings, truth)], 5.0, 20)
    assert weights == {"even": 0.5, "odd": 0.5}


def test_a_source_that_pays_in_a_small_share_only_is_found() -> None:
    """`b` knows what `a` doubts, but overrules it where it is wrong unless its share is under 0.28."""
    right, wrong = 1, 2
    doubted = np.arange(40) < 10
    a = Ranked(
        np.where(doubted[:, None], [wrong, right, 3], [right, wrong, 3]).astype(np.int32),
        np.where(doubted[:, None], [1.0, 0.9, 0.0], [1.0, 0.6, 0.0]).astype(np.float32),
    )
    b = Ranked(
        np.where(doubted[:, None], [right, 4], [wrong, 4]).astype(np.int32),
        np.tile(np.array([1, 0], np.float32), (40, 1)),
    )
    truth = [np.array([right], np.int32)] * 40
    weights = fit_weights([({"a": a, "b": b}, truth)], None, 20)
    assert weights == {"a": 0.75, "b": 0.25}
    assert fit_weights([({"a": a, "b": b}, truth)], None, 3) == {"a": 1.0}


def test_the_choice_is_deterministic_also_where_queries_are_drawn() -> None:
    rankings, truth = planted(queries=300)
    noisy = {name: rankings[name] for name in "xyz"}
    first = fit_weights([(noisy, truth)], 5.0, 10, users=50, seed=3)
    assert first == fit_weights([(noisy, truth)], 5.0, 10, users=50, seed=3)
    drawn = np.sort(np.random.default_rng(3).choice(300, 50, replace=False))
    part = {n: Ranked(r.rows[drawn], r.scores[drawn]) for n, r in noisy.items()}
    assert first == fit_weights([(part, [truth[i] for i in drawn])], 5.0, 10)


def test_trials_are_pooled_and_may_differ_in_width() -> None:
    """A trial of 10 queries for one source and one of 30 for another: the larger decides."""
    truth = np.array([0], np.int32)

    def trial(best: str, queries: int, depth: int) -> tuple[dict[str, Ranked], list[np.ndarray]]:
        hit = [0, *range(10, 9 + depth)]
        miss = list(range(30, 30 + depth))
        return (
            {n: ranked([hit if n == best else miss] * queries, depth) for n in "ab"},
            [truth] * queries,
        )

    one, other = trial("a", 10, 4), trial("b", 30, 7)
    assert fit_weights([one, other], 5.0, 1) == {"b": 1.0}
    assert fit_weights([other, one], 5.0, 1) == {"b": 1.0}
    none: tuple[dict[str, Ranked], list[np.ndarray]] = ({n: ranked([], 3) for n in "ab"}, [])
    assert fit_weights([one, none], 5.0, 5) == {"a": 1.0}


def test_the_whole_metric_agrees_on_a_case() -> None:
    """`measure` too, the door of the evaluation."""
    rankings, truth = planted(queries=40)
    ids = [f"{q:04}" for q in range(40)]
    items = Vocabulary(pl.Series([str(i) for i in range(50)]))
    wanted = pl.DataFrame({"user_id": ids, "item_id": [str(t[0]) for t in truth]})
    context = Context(items.ids, pl.DataFrame(schema={"item_id": pl.String, "count": pl.Int64}), 1)
    weights = dict.fromkeys(rankings, 1.0)
    lists = as_frame(fuse(rankings, weights, 5.0, 10).ranked, ids, items, "blend")
    gains, relevant, sizes = _cells(rankings, truth, list(rankings), 5.0)
    inside = _ndcg(gains.sum(axis=2), relevant, sizes, 10)
    outside = measure(lists, wanted, ["ndcg"], [10], context)["value"].mean()
    assert inside == pytest.approx(outside, abs=1e-12)


# Level 1: normalised scores


def test_scores_are_normalised_from_first_to_last():
    scores = np.array([[9.0, 5.0, 1.0], [2.0, 2.0, np.nan], [np.nan] * 3, [-1.0, -3.0, np.nan]], np.float32)
    rows = np.where(np.isnan(scores), -1, np.arange(3)).astype(np.int32)
    found = normalised(Ranked(rows, scores))
    expected = [[1, LAST + (1 - LAST) / 2, LAST], [1, 1, np.nan], [np.nan] * 3, [1, LAST, np.nan]]
    np.testing.assert_allclose(found, expected)
    moved = normalised(Ranked(rows, 7 * scores + 100))  # another scale, the same say
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_a_combination_of_scores_by_loops():
    random = np.random.default_rng(5)
    rankings, said = {}, {}
    for name in "abc":
        scores = random.normal(size=(6, 30)).astype(np.float32)
        rankings[name] = top_k(scores, 12, random.random((6, 30)) < 0.7)
        points = normalised(rankings[name])
        said[name] = [
            {int(i): p for i, p in zip(r, line, strict=True) if i >= 0}
            for r, line in zip(rankings[name].rows, points, strict=True)
        ]
    weights = {"a": 0.5, "b": 0.2, "c": 0.3}
    blended = fuse(rankings, weights, None, 8)
    for query in range(6):
        total = {
            item: sum(w * said[name][query].get(item, 0.0) for name, w in weights.items())
            for name in "abc"
            for item in said[name][query]
        }
        best = sorted(total, key=lambda item: (-np.float32(total[item]), item))[:8]
        assert blended.ranked.rows[query].tolist() == best
        np.testing.assert_allclose(blended.ranked.scores[query], [total[i] for i in best], rtol=1e-6)
        np.testing.assert_allclose(blended.parts[query].sum(axis=1), blended.ranked.scores[query], rtol=1e-6)


def test_two_noisy_sources_of_equal_worth_are_combined():
    random = np.random.default_rng(2)
    truth = [random.choice(40, 3, replace=False) for _ in range(60)]
    signal = np.zeros((60, 40), np.float32)
    for query, items in enumerate(truth):
        signal[query, items] = 1.0
    noisy = {name: top_k(signal + random.normal(size=signal.shape).astype(np.float32), 40) for name in "ab"}
    weights = fit_weights([(noisy, truth)], None, 20)
    assert sum(weights.values()) == pytest.approx(1)
    assert set(weights) == {"a", "b"}


def test_normalised_fusion_keeps_a_fallback_below():
    a = Ranked(np.array([[3, 1]], np.int32), np.array([[5.0, 4.0]], np.float32))
    f = Ranked(np.array([[1, 2, 0]], np.int32), np.array([[9.0, 8.0, 7.0]], np.float32))
    blended = fuse({"a": a}, {"a": 1.0}, None, 10, ("f", f))
    assert blended.ranked.rows[0, :4].tolist() == [3, 1, 2, 0]
