"""Words into recommendations: what may be learned from knows nothing of what is asked."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import text_into_recommendations as benchmark
from benchmarks import text_readers, text_worlds
from benchmarks.text_worlds import Part, outside
from nlp.pairs import of_snapshot
from recsys.models import RECOMMENDERS

BOTH = pytest.mark.parametrize("validation", [True, False])


@pytest.fixture(scope="module")
def shop() -> text_worlds.World:
    return text_worlds.world("shop", Path(), quick=True)


def ids(frame: pl.DataFrame, column: str = "user_id") -> set[str]:
    return set(frame[column].drop_nulls())


@BOTH
def test_nothing_that_is_learned_or_known_is_later_than_the_question(shop, validation):
    for question in ("warm", "cold_users"):
        part = text_worlds.part(shop, "shop", question, validation)
        for frame in (part.split.train, part.events, part.own, part.split.histories):
            assert frame["timestamp"].max() <= part.split.at
        assert len(part.queries) == part.split.truth["user_id"].n_unique() > 10
        late = part.split.truth.join(part.split.histories, on=["user_id", "item_id"])
        assert late.is_empty()
    test = text_worlds.part(shop, "shop", "warm", False)
    chosen_on = text_worlds.part(shop, "shop", "warm", True)
    assert chosen_on.split.at < test.split.at


@BOTH
def test_strangers_teach_nothing_and_are_known_by_their_words_alone(shop, validation):
    part = text_worlds.part(shop, "shop", "cold_users", validation)
    asked = set(part.queries.ids)
    assert asked == ids(part.split.truth) <= ids(part.own)
    assert not asked & (ids(part.events) | ids(part.split.train))
    assert len(part.queries.histories.items) == 0
    wrote = shop.events.filter(pl.col("text").is_not_null(), pl.col("timestamp") <= part.split.at)
    wrote = wrote.drop_nulls("item_id").filter(pl.col("user_id").is_in(list(asked)))
    seen = {
        (part.queries.ids[row], part.catalogue.items.ids[int(item)])
        for row, item in zip(part.queries.seen.rows, part.queries.seen.items, strict=True)
    }
    assert seen == set(wrote.select("user_id", "item_id").iter_rows())
    warm = text_worlds.part(shop, "shop", "warm", validation)
    assert warm.events.equals(part.events)  # one encoder serves both


def test_new_items_teach_no_word_and_the_validation_asks_for_others(shop):
    tests = text_worlds.part(shop, "shop", "cold_items", False)
    chosen_on = text_worlds.part(shop, "shop", "cold_items", True)
    tested = set(outside(shop, tests.split.train))
    others = set(outside(shop, chosen_on.split.train)) - tested
    assert ids(tests.split.truth, "item_id") <= tested
    assert ids(chosen_on.split.truth, "item_id") <= others
    assert 10 < len(others) < len(tested) < 25  # a fifth of 100, and of the rest
    for part, held in ((tests, tested), (chosen_on, tested | others)):
        for frame in (part.items, part.events, part.split.train, part.split.histories):
            assert not ids(frame, "item_id") & held
        assert held <= ids(part.described, "item_id")  # their words are known when they are asked for
    assert set(chosen_on.catalogue.items.take(chosen_on.hidden)) == tested
    assert not len(tests.hidden)


def test_a_list_of_new_items_holds_no_other(shop):
    bench = benchmark.Bench("shop", "cold_items", "", "", True)
    part = text_worlds.part(shop, "shop", "cold_items", True)
    data, asked = vectors_of(part)
    model = RECOMMENDERS["content_text"]().fit(data)
    new = benchmark.ranked(bench, part, model, asked, 5, whole=False)
    held = set(part.catalogue.items.rows(outside(shop, part.split.train))) - set(part.hidden)
    assert set(new.rows[new.rows >= 0]) <= held
    whole = benchmark.ranked(bench, part, model, asked, 50, whole=True)
    assert not set(whole.rows[whole.rows >= 0]) & set(part.hidden)
    assert set(whole.rows[whole.rows >= 0]) - held
    values = benchmark.ndcg(part, new)
    assert values.shape == (len(asked),)
    assert 0 < values.mean() < 1


def test_a_quick_run_keeps_what_most_is_said_of_and_every_search(shop, monkeypatch):
    monkeypatch.setattr(benchmark, "QUICK_ITEMS", 20)
    some = benchmark.of_some_items(shop)
    kept = ids(some.items, "item_id")
    assert kept == set(some.catalogue.items.ids) == ids(some.events, "item_id")
    assert kept >= ids(some.choices, "item_id")
    counts = dict(shop.events["item_id"].drop_nulls().value_counts().iter_rows())
    assert len(kept) == 20
    assert min(counts[name] for name in kept) >= max(n for name, n in counts.items() if name not in kept)
    assert some.events["item_id"].null_count() == shop.events["item_id"].null_count() > 50
    assert len(some.events) - some.events["item_id"].null_count() == sum(counts[name] for name in kept)


def test_a_quick_run_is_kept_apart_and_the_full_one_asks_for_every_draw(monkeypatch):
    whole, brief = (benchmark.Bench("films", "cold_items", "", "/kept", quick) for quick in (False, True))
    assert len(whole.seeds) == benchmark.SEEDS > len(brief.seeds) > 1
    places = {bench._place("chosen") for bench in (whole, brief)}
    assert len({place.parent for place in places}) == 2
    monkeypatch.setattr(benchmark, "QUICK_ITEMS", 20)
    assert whole._place("chosen") in places
    assert brief._place("chosen") not in places


def vectors_of(part: Part):
    from recsys.dataset import Dataset

    drawn = np.random.default_rng(0).normal(size=(len(part.catalogue.items), 4)).astype(np.float32)
    return Dataset.of(part.split.train, part.catalogue, part.split.as_of, drawn), part.queries


def test_pairs_are_of_what_may_be_learned_from(shop):
    part = text_worlds.part(shop, "shop", "cold_items", False)
    some = part.of_some(20)
    assert some.split.train["user_id"].n_unique() == 20
    assert ids(some.events) <= ids(some.split.train)
    pairs, _ = of_snapshot(some, text_readers.PAIRS["shop"], 1)
    held = part.described.filter(pl.col("item_id").is_in(outside(shop, part.split.train).implode()))
    titles = held["title"].to_list()
    assert len(pairs) > 20
    assert not any(title in text for text in pairs["right"] for title in titles)


def test_a_ratio_is_of_means_and_its_interval_of_whole_users():
    values, other = np.array([0.4, 0.2, 0.9, 0.1]), np.array([0.2, 0.1, 0.3, 0.2])
    users = np.array(["u", "u", "v", "w"])
    found = benchmark.against(values, other, users)
    assert found["ratio"] == pytest.approx(1.6 / 0.8)
    assert found["users"] == 3
    assert 0.5 <= found["ratio_low"] < 2 < found["ratio_high"] < 3.001  # of w alone, and of v alone
    assert found["gain"] == pytest.approx(0.2)
    assert benchmark.against(values, 0 * other, users)["ratio"] is None


def test_words_read_by_rarity_are_vectors_too():
    reader = text_readers.Tfidf(["red apple pie", "red boat", "apple boat", "zebra"])
    found = reader.encode(["an apple", "nothing known", "red red boat"])
    assert found.shape == (3, reader.dimension) == (3, 3)  # zebra and pie are in one text alone
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0, 1], atol=1e-6)
