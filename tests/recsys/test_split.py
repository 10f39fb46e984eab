"""Splits by hand, and on random logs against a reading of their definition by plain loops."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from profiles.schema import ITEMS, ContractError, microseconds
from recsys.dataset import Catalogue
from recsys.evaluation import queries
from recsys.split import SplitConfig, splits


@pytest.fixture
def cut(log_of, at_day):
    """Return a function that splits a hand-made log; every item is available from its first event."""

    def split(rows, attributes=None, **config):
        log = log_of(rows)
        catalogue = Catalogue.of(ITEMS.empty() if attributes is None else attributes, log, at_day(1000))
        return splits(log, catalogue, SplitConfig(**config))

    return split


def pairs(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return frame.select("user_id", "item_id").rows()


# By hand


def test_temporal_cuts_everybody_at_one_moment(cut, at_day):
    rows = [
        ("u", "a", 1, 1.0),
        ("v", "b", 2, 1.0),
        ("w", "c", 3, 1.0),
        ("u", "c", 4, 1.0),  # the cut: index int(0.6 * 6) = 3 of the seven
        ("u", "b", 5, 1.0),
        ("new", "a", 6, 1.0),
        ("v", "a", 7, 1.0),
    ]
    (split,) = cut(rows, quantile=0.6)
    assert split.at == at_day(4)
    assert split.name == "2024-01-05 00:00:00"
    assert split.moment == microseconds(at_day(4))
    assert pairs(split.train) == [("u", "a"), ("v", "b"), ("w", "c"), ("u", "c")]
    assert pairs(split.truth) == [("u", "b"), ("v", "a")]
    assert split.users == ["u", "v"]
    assert pairs(split.histories) == [("u", "a"), ("v", "b"), ("u", "c")]
    assert split.leaks is None
    assert split.counts == {
        "users": 2,
        "cold_users": 1,
        "pairs": 2,
        "seen_pairs": 0,
        "unavailable_pairs": 0,
        "unreachable_pairs": 0,
    }


def test_the_cut_counts_interactions_that_say_something(cut, at_day):
    rows = [("u", "a", 1, 1.0), *[("u", "b", 2, 0.0)] * 50, ("u", "c", 3, 1.0), ("u", "d", 4, 1.0)]
    (split,) = cut(rows, quantile=0.5)
    assert split.at == at_day(3)


def test_rolling_ends_with_the_log(cut, at_day):
    rows = [(f"u{d % 2}", f"i{d:02}", d, 1.0) for d in range(21)]
    found = cut(rows, split="rolling", every_days=5, origins=3)
    assert [split.at for split in found] == [at_day(5), at_day(10), at_day(15)]
    assert [split.name for split in found] == [f"2024-01-{d:02} 00:00:00" for d in (6, 11, 16)]
    for split, day in zip(found, (5, 10, 15), strict=True):
        assert split.train["item_id"].to_list() == [f"i{d:02}" for d in range(day + 1)]
        # Nothing of the days after was in the catalogue at the moment of asking.
        assert split.counts["pairs"] == split.counts["unavailable_pairs"] == 5
        assert split.truth.is_empty()


def test_rolling_origins_may_lie_before_the_log(cut):
    early, late = cut([("u", "a", 1, 1.0), ("u", "b", 2, 1.0)], split="rolling", every_days=1, origins=2)
    assert early.train.is_empty()
    assert early.users == []
    assert early.counts["cold_users"] == 1
    assert late.counts["unavailable_pairs"] == 1


def test_leave_last_out_holds_back_one_each(cut, at_day):
    rows = [
        ("u", "a", 1, 1.0),
        ("once", "a", 2, 1.0),
        ("u", "c", 3, 1.0),
        ("u", "b", 3, 1.0),  # last by the order of the log
        ("v", "b", 1, 1.0),
        ("v", "a", 9, 1.0),
        ("v", "d", 9, 0.0),  # later, but says nothing
        ("again", "a", 1, 1.0),
        ("again", "a", 2, 1.0),
    ]
    (split,) = cut(rows, split="leave_last_out")
    assert split.name == "last"
    assert split.at == at_day(9)
    assert pairs(split.truth) == [("u", "b"), ("v", "a")]
    assert sorted(pairs(split.train)) == [("again", "a"), ("u", "a"), ("u", "c"), ("v", "b")]
    assert sorted(pairs(split.histories)) == [("u", "a"), ("u", "c"), ("v", "b")]
    assert split.counts["cold_users"] == 1  # once
    assert split.counts["seen_pairs"] == 1  # again
    assert split.leaks is not None


def test_a_log_without_time_can_only_leave_the_last_out(log_of, at_day):
    log = log_of([("u", "a", 1, 1.0), ("u", "b", 2, 1.0), ("v", "b", 1, 1.0)])
    catalogue = Catalogue.of(ITEMS.empty(), log, at_day(1000))
    for protocol in ("temporal", "rolling"):
        with pytest.raises(ContractError, match="has only an order"):
            splits(log, catalogue, SplitConfig(split=protocol), timeless=True)
    (split,) = splits(log, catalogue, SplitConfig(split="leave_last_out"), timeless=True)
    assert pairs(split.truth) == [("u", "b")]


@pytest.mark.parametrize("protocol", ["temporal", "rolling", "leave_last_out"])
@pytest.mark.parametrize("rows", [[], [("u", "a", 1, 0.0)]], ids=["no rows", "none of weight"])
def test_nothing_to_split_is_said(protocol, rows, cut):
    with pytest.raises(ContractError, match="no interactions to split"):
        cut(rows, split=protocol)


def test_settings_have_bounds():
    for wrong in (
        {"quantile": 1.0},
        {"quantile": 0},
        {"origins": 0},
        {"every_days": 0},
        {"folds": 1},
        {"split": "luck"},
    ):
        with pytest.raises(ValidationError):
            SplitConfig(**wrong)


# What may be truth

PAST = [
    ("u", "a", 1, 1.0, "view"),
    ("u", "b", 1, 1.0, "buy"),
    ("u", "c", 1, 0.0, "hide"),
    ("v", "d", 1, 1.0, "view"),
    ("v", "e", 2, 1.0, "view"),
    ("hidden", "a", 1, 0.0, "hide"),
]
FUTURE = [
    ("u", "a", 3, 1.0, "buy"),
    ("u", "b", 3, 1.0, "view"),
    ("u", "c", 3, 1.0, "view"),
    ("u", "d", 3, 1.0, "view"),
    ("u", "d", 4, 1.0, "buy"),
    ("u", "e", 4, 0.0, "hide"),
    ("u", "new", 4, 1.0, "buy"),
    ("hidden", "b", 4, 1.0, "buy"),
]
LAST = [*PAST, *FUTURE]  # seven of the eleven with weight lie in the future: the cut is the fourth


@pytest.mark.parametrize(
    ("config", "truth", "seen", "unavailable"),
    [
        ({}, "d", 3, 1),
        ({"repeat_consumption": True}, "abcd", 0, 1),
        ({"seen_events": ("buy",)}, "acd", 1, 1),
        ({"seen_events": ("view", "buy")}, "cd", 2, 1),
        ({"truth_events": ("buy",)}, "d", 1, 1),
        ({"truth_events": ("buy",), "seen_events": ("hide",)}, "ad", 0, 1),
        ({"truth_events": ("hide",)}, "", 0, 0),
    ],
)
def test_what_counts_as_seen_and_as_truth(config, truth, seen, unavailable, cut):
    (split,) = cut(LAST, quantile=0.35, **config)
    assert split.at.day == 3
    assert pairs(split.truth) == [("u", item) for item in truth]
    assert split.counts["seen_pairs"] == seen
    assert split.counts["unavailable_pairs"] == unavailable
    assert split.counts["pairs"] == len(truth) + unavailable
    # Who only hid things has no past to answer from.
    assert split.counts["cold_users"] == ("hide" not in config.get("truth_events", ()))


def test_what_weighs_nothing_is_seen_but_neither_history_nor_truth(log_of, at_day):
    log = log_of(LAST)
    catalogue = Catalogue.of(ITEMS.empty(), log, at_day(1000))
    config = SplitConfig(quantile=0.35)
    (split,) = splits(log, catalogue, config)
    asked = queries(split, catalogue, config)
    assert list(asked.ids) == ["u"]
    assert asked.at.tolist() == [split.moment]
    assert catalogue.items.take(asked.histories.items).to_list() == ["a", "b"]
    assert catalogue.items.take(asked.seen.items).to_list() == ["a", "b", "c"]
    bought = queries(split, catalogue, SplitConfig(quantile=0.35, seen_events=("buy",)))
    assert catalogue.items.take(bought.seen.items).to_list() == ["b"]
    again = queries(split, catalogue, SplitConfig(quantile=0.35, repeat_consumption=True))
    assert not len(again.seen.items)
    assert again.histories.items.tolist() == asked.histories.items.tolist()


def test_what_was_not_on_offer_at_the_cut_is_no_truth(cut, items_of):
    attributes = items_of(
        {"early": (0, None), "later": (2.5, None), "gone": (0, 2), "going": (0, 2.000001), "now": (2, None)}
    )
    rows = [("u", "x", 1, 1.0), ("u", "y", 2, 1.0), ("u", "never dated", 3, 1.0)]
    rows += [("u", item, 3, 1.0) for item in attributes["item_id"]]
    (split,) = cut(rows, attributes, quantile=0.2)
    assert split.at.day == 3
    assert pairs(split.truth) == [("u", "early"), ("u", "going"), ("u", "now")]
    assert split.counts["unavailable_pairs"] == 3
    assert split.counts["unreachable_pairs"] == 6  # train knows none of them


# Random logs

USERS, THINGS = ["u0", "u1", "u2", "u3"], ["a", "b", "c", "d", "e"]
rows_ = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.sampled_from(THINGS),
        st.integers(0, 12).map(float),
        st.sampled_from([0.0, 1.0, 1.0, 2.0]),
        st.sampled_from(["view", "buy"]),
    ),
    min_size=1,
    max_size=40,
).filter(lambda rows: any(row[3] for row in rows))
spans = st.fixed_dictionaries(
    {
        thing: st.tuples(st.none() | st.integers(0, 8).map(float), st.none() | st.integers(6, 14).map(float))
        for thing in THINGS
    }
)
configs = st.builds(
    SplitConfig,
    split=st.sampled_from(["temporal", "rolling", "leave_last_out"]),
    quantile=st.sampled_from([0.1, 0.5, 0.9]),
    every_days=st.sampled_from([1, 3]),
    origins=st.integers(1, 3),
    seen_events=st.sampled_from([(), ("buy",)]),
    truth_events=st.sampled_from([(), ("buy",)]),
    repeat_consumption=st.booleans(),
)


def slow(past, future, available, config):
    """Read the definition of the truth off the page: pairs, then each reason to leave one out."""
    told = {(u, i) for u, i, _, w, kind in future if w and kind in (config.truth_events or ("view", "buy"))}
    masked = {(u, i) for u, i, _, _, kind in past if kind in (config.seen_events or ("view", "buy"))}
    masked = set() if config.repeat_consumption else masked
    known = {u for u, _, _, w, _ in past if w}
    trained = {i for _, i, _, w, _ in past if w}
    warm = {(u, i) for u, i in told if u in known}
    fresh = warm - masked
    truth = {(u, i) for u, i in fresh if i in available}
    counts = {
        "users": len({u for u, _ in truth}),
        "cold_users": len({u for u, _ in told} - known),
        "pairs": len(fresh),
        "seen_pairs": len(warm & masked),
        "unavailable_pairs": len(fresh) - len(truth),
        "unreachable_pairs": len({(u, i) for u, i in fresh if i not in trained}),
    }
    return sorted(truth), counts


@given(rows=rows_, spans=spans, config=configs)
def test_random_logs_split_as_defined(rows, spans, config, log_of, items_of, at_day):
    log = log_of(rows)
    catalogue = Catalogue.of(items_of(spans), log, at_day(1000))
    for split in splits(log, catalogue, config):
        ordered = sorted(rows, key=lambda row: row[2])
        assert (split.train["timestamp"] <= split.at).all()
        if config.split == "leave_last_out":
            last = {row[0]: n for n, row in enumerate(ordered) if row[3]}
            past = [row for n, row in enumerate(ordered) if n < last.get(row[0], -1)]
            future = [row for n, row in enumerate(ordered) if n == last.get(row[0])]
            assert split.at == at_day(max(row[2] for row in rows))
            assert sorted(split.train.rows()) == sorted(log_of(past).rows())
        else:
            end = at_day(max(row[2] for row in rows if row[3]))
            if config.split == "rolling":
                end = min(end, split.at + timedelta(days=config.every_days))
            past = [row for row in rows if at_day(row[2]) <= split.at]
            future = [row for row in rows if split.at < at_day(row[2]) <= end]
            assert split.train.rows() == log_of(past).rows()
        available = set()
        for item, (start, stop) in spans.items():
            first = min((row[2] for row in rows if row[1] == item), default=1000.0)
            begins, ends = at_day(first if start is None else start), stop is not None and at_day(stop)
            if begins <= split.at and not (ends and ends <= split.at):
                available.add(item)
        truth, counts = slow(past, future, available, config)
        assert pairs(split.truth) == truth
        assert split.counts == counts
        assert split.users == sorted({user for user, _ in truth})
        asked = split.train.filter(pl.col("user_id").is_in(split.users))
        assert split.histories.equals(asked)
