"""Affinities where the answer is known: half-lives, ties, smoothing, and what says nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from profiles.interactions import InteractionsConfig

Row = dict[str, Any]


@pytest.fixture
def leaning(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> Callable[..., list[tuple[str, float]]]:
    """Category affinities of a user who did (item, days, type) to items of the categories given."""

    def lean(
        done: list[tuple[str, float, str]], of: dict[str, list[str]], **settings: Any
    ) -> list[tuple[str, float]]:
        items = [{"item_id": item, "categories": values} for item, values in of.items()]
        rows = [event_of("u", item, days, kind) for item, days, kind in done]
        weights = InteractionsConfig(weights={"one": 1, "three": 3, "nine": 9, "nothing": 0})
        row = profile(rows, items, weights=weights, **({"smoothing": 0} | settings))
        assert row["tag_affinity"] == row["brand_affinity"] == row["price_band_affinity"] == []
        return [(a["value"], a["share"]) for a in row["category_affinity"]]

    return lean


def test_a_half_life_halves(leaning: Callable[..., list[tuple[str, float]]]) -> None:
    of = {"i": ["x"], "j": ["y"], "k": ["x", "z"]}
    two = leaning([("i", 100, "one"), ("j", 90, "one")], of, half_life_days=10)
    assert two == [("x", pytest.approx(2 / 3)), ("y", pytest.approx(1 / 3))]
    three = leaning([("i", 100, "one"), ("j", 80, "nine")], of, half_life_days=10)
    assert three == [("y", pytest.approx(9 / 13)), ("x", pytest.approx(4 / 13))]
    assert leaning([("i", 101, "nine"), ("j", 100, "one")], of) == [("y", 1.0)]  # the future is not in it


def test_of_equals_the_value_met_last_for_the_first_time_and_keep_cuts_after_the_shares(
    leaning: Callable[..., list[tuple[str, float]]],
) -> None:
    of = {"i": ["a"], "j": ["b"], "k": ["e"]}
    done = [("k", 100.0, "three"), ("j", 100.0, "one"), ("i", 100.0, "one")]
    assert leaning(done, of, affinities=2) == [("e", 0.6), ("a", 0.2)]
    assert leaning(done, of, affinities=1) == [("e", 0.6)]
    whole = leaning(done, of, affinities=9)
    assert [value for value, _ in whole] == ["e", "a", "b"]
    assert sum(share for _, share in whole) == pytest.approx(1.0)


def test_smoothing_leans_as_everybody_does(leaning: Callable[..., list[tuple[str, float]]]) -> None:
    of = {"i": ["x"], "j": ["y"]}
    done = [("i", 100.0, "one"), ("j", 0.0, "three")]
    mine = 1 / (1 + 3 / 2**10)
    assert leaning(done, of, half_life_days=10, smoothing=1e12)[0] == ("y", pytest.approx(0.75))
    found = dict(leaning(done, of, half_life_days=10, smoothing=4))
    total = 1 + 3 / 2**10
    assert found == {
        "x": pytest.approx((1 + 4 * 0.25) / (total + 4)),
        "y": pytest.approx((3 / 1024 + 3) / (total + 4)),
    }
    assert dict(leaning(done, of, half_life_days=10))["x"] == pytest.approx(mine)


def test_what_weighs_nothing_or_names_nothing_leans_nowhere(
    leaning: Callable[..., list[tuple[str, float]]],
) -> None:
    of: dict[str, list[str]] = {"i": ["x"], "j": []}
    for smoothing in (0, 5):
        assert leaning([("i", 100, "nothing")], of, smoothing=smoothing) == []
        assert leaning([("i", 100, "unheard of")], of, smoothing=smoothing) == []
        assert leaning([("j", 100, "one")], of, smoothing=smoothing) == []
        assert leaning([("unknown", 100, "one")], of, smoothing=smoothing) == []
    both = [("unknown", 100, "one"), ("i", 100, "nothing"), ("i", 99, "one")]
    assert leaning(both, of) == [("x", 1.0)]


def test_shares_outlive_any_number_of_half_lives(leaning: Callable[..., list[tuple[str, float]]]) -> None:
    of: dict[str, list[str]] = {"i": ["x"], "j": ["y"], "k": []}
    found = leaning([("i", -9000, "one"), ("j", -9001, "one")], of, half_life_days=1)
    assert found == [("x", pytest.approx(2 / 3, rel=1e-9)), ("y", pytest.approx(1 / 3, rel=1e-9))]
    found = leaning([("i", -9000, "one"), ("j", 100, "one")], of, half_life_days=1)
    assert found == [("y", 1.0), ("x", pytest.approx(0, abs=1e-200))]
    # An item without categories is newer than all that has one by more than a float can halve.
    found = leaning([("i", -9000, "three"), ("j", -9000, "one"), ("k", 100, "one")], of, half_life_days=1)
    assert found == [("x", 0.75), ("y", 0.25)]


def test_an_event_without_an_item_ages_nothing(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    items = [{"item_id": "i", "categories": ["x"]}, {"item_id": "j", "categories": ["y"]}]
    rows = [event_of("u", "i", 10), event_of("u", "j", 20), event_of("other", "j", 20)]
    later = [*rows, event_of("u", None, 90)]
    assert profile(later, items)["category_affinity"] == profile(rows, items)["category_affinity"]
