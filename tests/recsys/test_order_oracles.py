"""What reads order, time or labels, against plain loops on a lopsided world."""

from collections import defaultdict
from math import log as ln

import numpy as np
import pytest

from profiles.schema import ContractError
from recsys.dataset import Dataset
from recsys.models.category_popularity import CategoryPopularity, CategoryPopularityConfig
from recsys.models.content_tags import ContentTags, ContentTagsConfig
from recsys.models.covisitation import Covisitation, CovisitationConfig
from recsys.models.popularity import Popularity, PopularityConfig
from recsys.models.random import Random, RandomConfig
from recsys.models.sequential_ease import SequentialEASE, SequentialEASEConfig
from recsys.order import sequences

REPEATS = ("binary", "sum", "log", "last")


def slow_sequences(log, repeats: str) -> list[list[tuple[int, float, float]]]:
    """Return (item, weight, days) of each user's distinct items by their newest interaction, oldest first."""
    users = defaultdict(dict)
    for user, item, weight, when in log.sort("timestamp", maintain_order=True)[
        "user_id", "item_id", "weight", "timestamp"
    ].rows():
        row, own = int(item[1:]), users[user]
        before, _ = own.pop(row, (0.0, None))
        own[row] = (weight if repeats == "last" else before + weight, when)
    value = {"binary": lambda w: 1.0, "log": lambda w: ln(1 + w)}.get(repeats, lambda w: w)
    return [[(i, value(w), t.timestamp() / 86_400) for i, (w, t) in users[u].items()] for u in sorted(users)]


@pytest.mark.parametrize("repeats", REPEATS)
def test_sequences_hold_an_item_once_at_its_newest_place(repeats, lopsided):
    found = sequences(lopsided.train.histories, 14, repeats)
    for user, expected in enumerate(slow_sequences(lopsided.log, repeats)):
        part = found.part(user, user + 1)
        assert part.items.tolist() == [i for i, _, _ in expected]
        np.testing.assert_allclose(part.weights, [w for _, w, _ in expected], rtol=1e-6)
        np.testing.assert_allclose(part.times / 86_400e6, [t for _, _, t in expected])


# Sequential EASE


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize(("window", "horizon", "decay"), [(3, 1, 0.5), (20, 4, 0.9), (1, 2, 1.0)])
def test_sequential_ease_is_a_ridge_of_the_future_on_the_past(window, horizon, decay, repeats, lopsided):
    past, coming, queries = [], [], np.zeros((23, 14))
    for user, done in enumerate(slow_sequences(lopsided.log, repeats)):
        for t in range(len(done)):
            s, f = np.zeros(14), np.zeros(14)
            for back in range(window):
                if t - back >= 0:
                    s[done[t - back][0]] = done[t - back][1] * decay**back
            for ahead in range(1, horizon + 1):
                if t + ahead < len(done):
                    f[done[t + ahead][0]] = decay ** (ahead - 1)
            past.append(s)
            coming.append(f)
            queries[user] = s  # the last one is what is asked
    s, f = np.array(past), np.array(coming)
    weights = np.linalg.solve(s.T @ s + 3.0 * np.eye(14), s.T @ f)
    config = SequentialEASEConfig(l2=3.0, window=window, horizon=horizon, decay=decay, repeats=repeats)
    model = SequentialEASE(config).fit(lopsided.train)
    said = f.sum(axis=0) > 0
    np.testing.assert_allclose(model.weights[:, said], weights[:, said], rtol=1e-4, atol=1e-6)
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores[:, said], (queries @ weights)[:, said], rtol=1e-4, atol=1e-6)
    assert np.isnan(scores[:, ~said]).all()


def test_sequential_ease_tells_after_from_before(world_of):
    rows = [(f"u{n}", item, float(day), 1.0) for n in range(5) for day, item in enumerate("abc")]
    world = world_of(rows)
    scores = (
        SequentialEASE(SequentialEASEConfig(horizon=1)).fit(world.train).score(world.ask({"q": ["b"]}))[0]
    )
    assert np.isnan(scores[0])
    assert scores[2] > 0.05
    assert scores[2] > scores[1]


def test_sequential_ease_refuses_a_large_catalogue(lopsided, monkeypatch):
    monkeypatch.setattr("recsys.models.sequential_ease.DENSE_ITEMS", 5)
    with pytest.raises(ContractError, match="14 items are above 5"):
        SequentialEASE().fit(lopsided.train)


# Co-visitation


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize(
    ("gap", "window", "direction"), [(20, 2, "both"), (60, 20, "forward"), (5, 9, "both")]
)
def test_covisitation_by_loops(gap, window, direction, repeats, lopsided):
    together, counts, queries = np.zeros((14, 14)), np.zeros(14), np.zeros((23, 14))
    for user, done in enumerate(slow_sequences(lopsided.log, repeats)):
        for a, (j, wj, tj) in enumerate(done):
            counts[j] += 1
            queries[user, j] = wj * 0.8 ** (len(done) - 1 - a)
            for b, (i, wi, ti) in enumerate(done):
                if 0 < b - a <= window and ti - tj < gap:
                    together[j, i] += (1 - (ti - tj) / gap) * wi
                    if direction == "both":
                        together[i, j] += (1 - (ti - tj) / gap) * wj
    weights = np.zeros((14, 14))
    for j in range(11):
        found = sorted((-together[j, i] / (counts[j] * counts[i]) ** 0.5, i) for i in range(11))
        for value, i in found[:4]:
            weights[j, i] = -value
    config = CovisitationConfig(
        gap_days=gap, window=window, direction=direction, recency=0.8, neighbours=4, repeats=repeats
    )
    model = Covisitation(config).fit(lopsided.train)
    np.testing.assert_allclose(model.weights.toarray(), weights, rtol=1e-5, atol=1e-9)
    expected = queries @ weights
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores, np.where(expected == 0, np.nan, expected), rtol=1e-5)


def test_covisitation_needs_times(lopsided):
    timeless = Dataset.of(lopsided.log, lopsided.catalogue, lopsided.as_of, timeless=True)
    with pytest.raises(ContractError, match="gap_days needs times"):
        Covisitation().fit(timeless)


# Popularity of a window, random


def test_popularity_counts_only_its_window(lopsided, at_day):
    model = Popularity(PopularityConfig(window_days=40, half_life_days=10)).fit(lopsided.train)
    expected = np.zeros(14)
    for item, weight, when in lopsided.log["item_id", "weight", "timestamp"].rows():
        age = (at_day(100) - when).total_seconds() / 86_400
        expected[int(item[1:])] += weight / 2 ** (age / 10) if age <= 40 else 0
    assert (expected > 0).sum() < (Popularity().fit(lopsided.train).scores > 0).sum() + 1
    np.testing.assert_allclose(model.scores, expected, rtol=1e-5)
    timeless = Dataset.of(lopsided.log, lopsided.catalogue, lopsided.as_of, timeless=True)
    with pytest.raises(ContractError, match="window_days needs times"):
        Popularity(PopularityConfig(window_days=1)).fit(timeless)


def test_random_is_another_order_for_another_seed(crowd):
    orders = {
        tuple(Random(RandomConfig(seed=seed)).fit(crowd.train).scores.argsort().tolist()) for seed in range(5)
    }
    assert len(orders) == 5
    means = [Random(RandomConfig(seed=seed)).fit(crowd.train).scores.mean() for seed in range(40)]
    assert abs(np.mean(means) - 0.5) < 0.05  # 45 draws each: one standard error is .007


# Content by labels


@pytest.mark.parametrize("repeats", REPEATS)
def test_content_tags_by_loops(repeats, lopsided):
    labels = [set(row[0] or ()) for row in lopsided.catalogue.attributes.select("categories").iter_rows()]
    names = sorted(set().union(*labels))
    vectors = np.zeros((14, len(names)))
    for item, own in enumerate(labels):
        for name in own:
            having = sum(name in other for other in labels)
            vectors[item, names.index(name)] = ln(15 / (1 + having)) + 1
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    liked = lopsided.train.matrix(repeats).toarray() @ vectors
    expected = liked / np.linalg.norm(liked, axis=1, keepdims=True) @ vectors.T
    scores = ContentTags(ContentTagsConfig(repeats=repeats)).fit(lopsided.train).score(lopsided.queries())
    np.testing.assert_allclose(scores, np.where(expected == 0, np.nan, expected), rtol=1e-5)


def test_content_tags_ranks_what_nobody_touched(items_of, lopsided):
    from recsys.dataset import Catalogue

    spans = dict.fromkeys([f"i{n:02}" for n in range(14)], (0.0, None))
    labels = {"i00": ["red"], "i01": ["blue"], "i12": ["red"], "i13": ["blue"]}
    catalogue = Catalogue.of(items_of(spans, labels), lopsided.log, lopsided.as_of)
    train = Dataset.of(lopsided.log, catalogue, lopsided.as_of)
    found = ContentTags().fit(train).score(lopsided.ask({"u": ["i00"]}))[0]
    assert np.flatnonzero(~np.isnan(found)).tolist() == [0, 12]
    np.testing.assert_allclose(found[[0, 12]], 1)


@pytest.mark.parametrize("half_life", [None, 3.0])
@pytest.mark.parametrize("repeats", REPEATS)
def test_category_popularity_by_loops(repeats, half_life, lopsided):
    labels = [set(row[0] or ()) for row in lopsided.catalogue.attributes.select("categories").iter_rows()]
    names = sorted(set().union(*labels))
    counts = np.zeros(14)
    for item, weight, when in lopsided.log["item_id", "weight", "timestamp"].rows():
        age = (lopsided.as_of - when).total_seconds() / 86_400
        counts[int(item[1:])] += weight * (1 if half_life is None else 0.5 ** (age / half_life))
    expected = np.zeros((len(lopsided.train.histories), 14))
    for user, history in enumerate(lopsided.train.matrix(repeats).toarray()):
        leaning = {
            name: sum(x / len(own) for x, own in zip(history, labels, strict=True) if name in own)
            for name in names
        }
        for name, weight in leaning.items():
            within = np.array(
                [count if name in own else 0 for count, own in zip(counts, labels, strict=True)]
            )
            if weight and within.sum():
                expected[user] += weight / sum(leaning.values()) * within / within.sum()
    config = CategoryPopularityConfig(repeats=repeats, half_life_days=half_life)
    scores = CategoryPopularity(config).fit(lopsided.train).score(lopsided.queries())
    np.testing.assert_allclose(scores, np.where(expected == 0, np.nan, expected), rtol=1e-5)
