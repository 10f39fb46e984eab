"""Every protocol of splitting: what it promises on random logs, and its diagram by hand."""

from collections import Counter
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.schema import ITEMS, ContractError
from recsys.dataset import Catalogue
from recsys.split import PROTOCOLS, Split, SplitConfig, by_users, splits
from recsys.split import given as read

LEAKING = {"leave_last_out", "ratio", "random", "k_fold", "strong", "cold_items"}
KEY = ["user_id", "item_id"]


@pytest.fixture(scope="module")
def cut(log_of, at_day):
    """Return a function that splits a log whose items are all there from the start."""

    def split(rows, **config) -> list[Split]:
        log = log_of(rows)
        early = log.with_columns(timestamp=pl.lit(at_day(-1)))
        return splits(log, Catalogue.of(ITEMS.empty(), early, at_day(1000)), SplitConfig(**config))

    return split


def pairs(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return sorted(frame.select(KEY).rows())


rows_ = st.lists(
    st.tuples(
        st.sampled_from([f"u{n}" for n in range(6)]),
        st.sampled_from("abcdefg"),
        st.integers(0, 20).map(float),
        st.sampled_from([0.0, 1.0, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=50,
).filter(lambda rows: any(row[3] for row in rows))
configs = st.builds(
    SplitConfig,
    split=st.sampled_from(sorted(PROTOCOLS)),
    target=st.sampled_from(["all", "first", "last", "random", "successive"]),
    quantile=st.sampled_from([0.2, 0.6]),
    held=st.sampled_from([0.2, 0.5]),
    folds=st.sampled_from([2, 3]),
    shots=st.integers(1, 2),
    seed=st.integers(0, 3),
    every_days=st.just(4),
    origins=st.just(2),
)


@settings(max_examples=150)
@given(rows=rows_, config=configs)
def test_no_truth_is_known_and_seeds_repeat(rows, config, cut, log_of):
    found = cut(rows, **config.model_dump())
    again = cut(rows, **config.model_dump())
    log = Counter(log_of(rows).rows())
    for split, other in zip(found, again, strict=True):
        for name in ("train", "histories", "truth"):
            assert getattr(split, name).equals(getattr(other, name))
        for known in (split.train, split.histories):
            assert Counter(known.rows()) <= log
            assert known.join(split.truth, on=KEY).is_empty()
        assert split.truth.is_empty() or (split.truth["weight"] > 0).all()
        assert set(split.users) == set(split.histories["user_id"])
        assert not split.truth.select(KEY).is_duplicated().any()
        assert (split.leaks is not None) == (config.split in LEAKING)
        if config.split not in LEAKING and len(split.truth):
            later = log_of(rows).join(split.truth, on=KEY, how="semi").filter(pl.col("weight") > 0)
            assert (
                split.train["timestamp"].max()
                < later.group_by(KEY).agg(pl.col("timestamp").max())["timestamp"].min()
            )


# By hand

LOG = [
    ("u", "a", 1, 1.0),
    ("v", "b", 2, 1.0),
    ("u", "b", 3, 1.0),
    ("v", "a", 4, 1.0),  # the cut of what follows
    ("u", "c", 5, 1.0),
    ("v", "d", 6, 2.0),
    ("new", "a", 6, 1.0),
    ("u", "d", 7, 3.0),
    ("new", "b", 8, 1.0),
    ("new", "c", 9, 1.0),
    ("u", "e", 9, 1.0),
]


def test_a_date_cuts_as_a_quantile_does(cut, at_day):
    (split,) = cut(LOG, date=at_day(4))
    assert pairs(split.truth) == [("u", "c"), ("u", "d"), ("u", "e"), ("v", "d")]
    assert split.truth["weight"].to_list() == [1.0, 3.0, 1.0, 2.0]
    (naive,) = cut(LOG, date=at_day(4).replace(tzinfo=None))
    assert naive.at == split.at


@pytest.mark.parametrize("day", [0.5, 9, 12])
def test_a_date_outside_the_log_is_refused(day, cut, at_day):
    with pytest.raises(
        ContractError, match=r"leaves nothing on one side; the log goes from 2024-01-02.*cut between"
    ):
        cut(LOG, date=at_day(day))


def test_targets_choose_of_what_follows(cut, at_day):
    def truth(target, **more):
        return [pairs(split.truth) for split in cut(LOG, date=at_day(4), target=target, **more)]

    assert truth("first") == [[("u", "c"), ("v", "d")]]
    assert truth("last") == [[("u", "e"), ("v", "d")]]
    drawn = {tuple(truth("random", seed=seed)[0]) for seed in range(40)}
    assert drawn == {(("u", item), ("v", "d")) for item in "cde"}
    # Who is new is asked as soon as something is known of them.
    steps = [[("u", "c"), ("v", "d")], [("new", "b"), ("u", "d")], [("new", "c"), ("u", "e")]]
    assert truth("successive") == steps
    assert truth("successive", steps=2) == steps[:2]


def test_successive_knows_what_came_between_and_trains_on_none_of_it(cut, at_day):
    first, second, third = cut(LOG, date=at_day(4), target="successive")
    assert first.train.equals(third.train)
    assert pairs(first.histories) == [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b")]
    assert pairs(second.histories) == [("new", "a"), ("u", "a"), ("u", "b"), ("u", "c")]
    more = [("new", "b"), ("u", "d")]
    assert pairs(third.histories) == sorted(pairs(second.histories) + more)
    assert [split.at for split in (first, second, third)] == [at_day(4), at_day(6), at_day(8)]


def test_cold_users_come_after_the_cut(cut, at_day):
    (split,) = cut(LOG, split="cold_users", date=at_day(4))
    assert split.users == ["new"]
    assert pairs(split.histories) == [("new", "a")]
    assert pairs(split.truth) == [("new", "b"), ("new", "c")]
    assert split.at == at_day(6)
    assert split.train["timestamp"].max() == at_day(4)
    (two,) = cut(LOG, split="cold_users", date=at_day(4), shots=2)
    assert pairs(two.truth) == [("new", "c")]


def test_ratio_holds_each_ones_last(cut):
    (split,) = cut(LOG, split="ratio", held=0.4)
    assert pairs(split.truth) == [("new", "c"), ("u", "d"), ("u", "e"), ("v", "d")]  # 1 of 3, 2 of 5
    (few,) = cut(LOG, split="ratio", held=0.3)
    assert pairs(few.truth) == [("u", "e")]  # of three not even one


def test_random_holds_a_share_of_pairs_and_folds_hold_each_once(cut):
    rows = [(f"u{u}", f"i{i}", u + i, 1.0) for u in range(10) for i in range(10)]
    (split,) = cut(rows, split="random", held=0.3)
    assert len(split.truth) == 30
    (other,) = cut(rows, split="random", held=0.3, seed=1)
    assert pairs(other.truth) != pairs(split.truth)
    folds = cut(rows, split="k_fold", folds=4)
    assert [len(fold.truth) for fold in folds] == [25] * 4
    assert sorted(pair for fold in folds for pair in pairs(fold.truth)) == sorted(row[:2] for row in rows)
    assert folds[0].name == "fold 1 of 4"


def test_a_drawn_split_does_not_hang_on_the_order_of_rows(cut):
    rows = [(f"u{u}", f"i{i}", u + i, 1.0) for u in range(9) for i in range(7)]
    for name in ("random", "strong", "cold_items"):
        (one,), (other,) = cut(rows, split=name), cut(rows[::-1], split=name)
        assert pairs(one.truth) == pairs(other.truth)
        assert pairs(one.train) == pairs(other.train)


def test_strong_generalisation_never_meets_those_it_asks(cut):
    rows = [(f"u{u}", f"i{i}", u + i, 1.0) for u in range(10) for i in range(10)]
    (split,) = cut(rows, split="strong", held=0.3)
    assert len(split.users) == 3
    assert not {*split.users} & {*split.train["user_id"]}
    assert split.train["user_id"].n_unique() == 7
    assert split.truth.group_by("user_id").len()["len"].to_list() == [3] * 3
    assert len(split.histories) == 3 * 7


def test_cold_items_are_nowhere_known(cut):
    rows = [(f"u{u}", f"i{i}", u + i, 1.0) for u in range(10) for i in range(10)]
    (split,) = cut(rows, split="cold_items", held=0.25)
    cold = {*split.truth["item_id"]}
    assert len(cold) == 2
    assert not cold & {*split.train["item_id"], *split.histories["item_id"]}
    assert len(split.truth) == 20 == split.counts["unreachable_pairs"]


def test_users_part_into_validation_and_test(cut, at_day):
    rows = [(f"u{u}", f"i{i}", i, 1.0) for u in range(10) for i in range(10)]
    (split,) = cut(rows, date=at_day(6))
    validation, test = by_users(split, 0.3, seed=2)
    assert len(validation.users) == validation.counts["users"] == 3
    assert sorted(validation.users + test.users) == split.users
    assert validation.train.equals(test.train)
    assert {*test.histories["user_id"]} == {*test.users}
    with pytest.raises(ContractError, match="leaves nobody on one side"):
        by_users(split, 0.01)


# Files


def test_a_split_is_read_from_files(tmp_path, at_day):
    for name, text in {
        "train.csv": "user_id,item_id,timestamp\n1,a,100\n1,b,200\n2,a,300\n",
        "truth.tsv": "user_id\titem_id\ttimestamp\n1\tc\t400\n2\tb\t500\n9\ta\t600\n",
        "timeless.csv": "user_id,item_id,weight\n1,c,2.5\n",
        "early.csv": "user_id,item_id,timestamp\n1,c,150\n",
        "both.csv": "user_id,item_id,timestamp\n1,a,900\n",
        "bare.csv": "user_id,thing\n1,a\n",
    }.items():
        (tmp_path / name).write_text(text)
    known = pl.DataFrame({"item_id": ["a", "b", "c"], "timestamp": [at_day(-30_000)] * 3})
    catalogue = Catalogue.of(ITEMS.empty(), known, at_day(0))

    def split(truth, **config):
        return read(tmp_path / "train.csv", tmp_path / truth, catalogue, SplitConfig(**config))

    found = split("truth.tsv")
    assert pairs(found.truth) == [("1", "c"), ("2", "b")]
    assert found.counts["cold_users"] == 1
    assert found.leaks is None
    assert found.at - timedelta(seconds=300) == found.at.replace(minute=0, second=0)
    assert split("early.csv").leaks
    assert split("timeless.csv").truth["weight"].to_list() == [2.5]
    assert split("timeless.csv").leaks == "unknown: timeless.csv has no times"
    with pytest.raises(ContractError, match="user '1', item 'a' is in the known files too"):
        split("both.csv")
    assert pairs(split("both.csv", repeat_consumption=True).truth) == [("1", "a")]
    with pytest.raises(ContractError, match="no column 'item_id'; it has user_id, thing"):
        split("bare.csv")
    with pytest.raises(ContractError, match=r"not '\.txt'"):
        split("truth.txt")
