"""A reason names what really moved the item: tested by taking it away."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys.dataset import Histories, Queries
from serving.engine import Engine
from serving.explain import EVENTS_NAMED
from serving.workspace import Workspace

Variant = Callable[[str], Workspace]
KINDS = {"because", "query", "text", "popular"}


@pytest.fixture
def engine(variant: Variant) -> Engine:
    workspace = variant("all")
    return Engine(workspace, workspace.release)


def explained(engine: Engine, user: str, k: int = 10, **more: Any) -> list[dict[str, Any]]:
    past = engine.past(user, engine.workspace.snapshot.as_of)
    items: list[dict[str, Any]] = engine.recommend(past, k, explain=True, **more)["items"]
    return items


def users_of(engine: Engine, n: int) -> list[str]:
    """Return users with at least five liked items."""
    liked = engine.workspace.snapshot.frame("interactions").filter(pl.col("weight") > 0)
    counts = liked.group_by("user_id").agg(pl.col("item_id").n_unique()).filter(pl.col("item_id") >= 5)
    return counts["user_id"].sort().gather_every(max(1, len(counts) // n)).head(n).to_list()


def without(queries: Queries, item: int) -> Queries:
    """Return one query as if the item had never been in its history."""
    h = queries.histories
    keep = h.items != item
    left = Histories(np.array([0, keep.sum()]), h.items[keep], h.weights[keep], h.times[keep])
    return replace(queries, histories=left)


def test_reasons_name_what_the_user_did(engine: Engine) -> None:
    titles = dict(engine.release.catalogue.attributes.select("item_id", "title").iter_rows())
    named = 0
    for user in users_of(engine, 40):
        queries = engine.queries([engine.past(user, engine.workspace.snapshot.as_of)])
        history = set(engine.release.catalogue.items.take(queries.histories.items))
        for item in explained(engine, user):
            sources = {s["source"]: s["contribution"] for s in item["sources"]}
            assert item["reasons"]
            because = [r for r in item["reasons"] if r["kind"] == "because"]
            assert len(because) <= EVENTS_NAMED
            assert sum(r["share"] for r in because) <= 1 + 1e-6
            assert len({r["item_id"] for r in because}) == len(because)
            for reason in item["reasons"]:
                assert reason["kind"] in KINDS
                assert reason["source"] in sources
                if reason["kind"] == "because":
                    named += 1
                    assert reason["item_id"] in history
                    assert 0 < reason["share"] <= 1
                    assert reason["title"] == titles[reason["item_id"]]
                    assert reason["text"] == f"because of {reason['title']}"
            shares = [r["share"] for r in because]
            assert shares == sorted(shares, reverse=True)
            # The source that added most speaks first.
            order = [sources[r["source"]] for r in item["reasons"]]
            assert order == sorted(order, reverse=True)
            kinds = [r["kind"] for r in item["reasons"] if r["kind"] != "because"]
            assert len(kinds) == len(set(kinds))
    assert named > 400


def test_shares_are_what_each_event_adds_to_ease(engine: Engine) -> None:
    """By hand: the weight of the past item towards the listed one, over all that raise it."""
    ease = engine.release.recommenders["ease"]
    rows = engine.release.catalogue.items
    checked = 0
    for user in users_of(engine, 15):
        queries = engine.queries([engine.past(user, engine.workspace.snapshot.as_of)])
        history = np.unique(queries.histories.items)
        for item in explained(engine, user):
            because = [r for r in item["reasons"] if r["kind"] == "because" and r["source"] == "ease"]
            if not because:
                continue
            weights = ease.weights[history, rows.row(item["item_id"])].astype(np.float64)  # type: ignore[attr-defined]
            raising = np.clip(weights, 0, None)
            best = np.sort(raising)[::-1][: len(because)] / raising.sum()
            np.testing.assert_allclose([r["share"] for r in because], best, rtol=1e-5)
            for reason in because:
                own = raising[list(history).index(rows.row(reason["item_id"]))]
                assert reason["share"] == pytest.approx(own / raising.sum(), rel=1e-5)
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("source", ["ease", "item_knn"])
def test_by_deletion(variant: Variant, source: str) -> None:
    """Without the named event the score falls more than without a random other one, in 90 % of cases."""
    workspace = variant("all")
    release = replace(workspace.release, weights={source: 1.0})
    engine, recommender = Engine(workspace, release), release.recommenders[source]
    random, rows = np.random.default_rng(2), release.catalogue.items
    won, cases = 0, 0
    for user in users_of(engine, 60):
        queries = engine.queries([engine.past(user, workspace.snapshot.as_of)])
        history = np.unique(queries.histories.items)
        for item in explained(engine, user, k=5):
            because = [r for r in item["reasons"] if r["kind"] == "because"]
            if not because:
                continue
            target = np.array([rows.row(item["item_id"])])
            named = rows.row(because[0]["item_id"])
            other = int(random.choice(history[history != named]))
            whole = recommender.score(queries, target)[0, 0]
            fell = [
                float(whole - np.nan_to_num(recommender.score(without(queries, row), target)[0, 0]))
                for row in (named, other)
            ]
            won += fell[0] > fell[1]
            cases += 1
    assert cases >= 250
    assert won / cases >= 0.9


def test_words_are_a_reason(engine: Engine) -> None:
    """Each weighs what the score of the text source loses without it."""
    asked, user = "a soft velvet cushion", users_of(engine, 1)[0]
    items = explained(engine, user, query_text=asked)
    assert items[0]["reasons"][0]["kind"] == "query"
    encoder, release = engine.workspace.words.encoder, engine.release
    source = release.recommenders[release.text_source() or ""]
    query = engine.queries([engine.past(user, engine.workspace.snapshot.as_of)])
    silent = replace(query, histories=Histories.empty(1))

    def score(text: str, row: int) -> float:
        return float(source.score(replace(silent, vectors=encoder.encode([text])), np.array([row]))[0, 0])

    told = 0
    for item in items:
        for reason in item["reasons"]:
            if reason["kind"] != "query":
                continue
            row = release.catalogue.items.row(item["item_id"])
            weights = {asked[w["start"] : w["end"]]: w["weight"] for w in reason["words"]}
            assert list(weights) == asked.split() == [w["word"] for w in reason["words"]]
            for word, weight in weights.items():
                less = asked.replace(word, "", 1)
                assert weight == pytest.approx(score(asked, row) - score(less, row), abs=0.02)
            assert reason["error"] == pytest.approx(abs(sum(weights.values()) - score(asked, row)), abs=0.02)
            first, second, *_ = sorted(weights, key=lambda word: -weights[word])
            both = weights[second] > weights[first] / 3
            assert reason["text"] == f"matches your words: {f'{first}, {second}' if both else first}"
            told += 1
    assert told


def test_words_without_items_or_meaning_are_no_mistake(engine: Engine) -> None:
    everything = engine.release.catalogue.items.ids.to_list()
    past = engine.past("nobody at all", engine.workspace.snapshot.as_of)
    asked = {"explain": True, "query_text": "a soft velvet cushion"}
    assert engine.recommend(past, 5, exclude=everything, **asked)["items"] == []
    silent = engine.recommend(past, 5, explain=True, query_text="  ")
    assert "query_text_ignored" in silent["degraded"]
    assert all("words" not in reason for item in silent["items"] for reason in item["reasons"])


def test_long_requests_are_explained_by_their_first_words(engine: Engine) -> None:
    items = explained(engine, "nobody at all", k=3, query_text="velvet " * 60)
    assert all(len(r["words"]) == 24 for i in items for r in i["reasons"] if r["kind"] == "query")


def test_a_cold_list_is_popular_and_nothing_else(engine: Engine) -> None:
    for item in explained(engine, "nobody at all"):
        assert [(r["kind"], r["text"]) for r in item["reasons"]] == [("popular", "popular with others")]


def test_without_asking_there_are_no_reasons(engine: Engine) -> None:
    past = engine.past(users_of(engine, 1)[0], engine.workspace.snapshot.as_of)
    assert all(item["reasons"] == [] for item in engine.recommend(past, 5)["items"])
