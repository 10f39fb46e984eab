"""Ids as rows, histories, queries and the catalogue, against plain loops."""

from collections import defaultdict
from datetime import UTC, datetime
from math import log as ln

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.schema import INTERACTIONS, ITEMS, TIME, ContractError, microseconds
from recsys.dataset import ALWAYS, Catalogue, Dataset, Histories, Queries, Vocabulary

STRANGE = [
    "plain",
    "it's",
    'a "quoted" one',
    "a/b\\c",
    "two\nlines\r\n",
    "tab\tand\0zero",
    "🦉 ünïcode é e\u0301",
    "x" * 300,
    " ",
    "",
    "NULL",
    "-1",
]


def ids(names: list[str]) -> pl.Series:
    return pl.Series("id", names, dtype=pl.String)


# Vocabulary


def test_a_vocabulary_is_sorted_distinct_ids():
    vocabulary = Vocabulary.of(ids(["b", "a", "b"]), pl.Series("item_id", ["c", None, "a"]))
    assert vocabulary.ids.to_list() == ["a", "b", "c"]
    assert len(vocabulary) == 3
    assert [vocabulary.row(name) for name in ("a", "c", "z")] == [0, 2, -1]
    assert vocabulary.take(np.array([2, 0, 2], np.int32)).to_list() == ["c", "a", "c"]
    with pytest.raises(ContractError, match="unique ids; 2 repeat"):
        Vocabulary(ids(["a", "b", "a"]))


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 5000])
def test_few_and_many_ids_are_looked_up_alike(count):
    vocabulary = Vocabulary.of(ids([*STRANGE, *[f"i{n}" for n in range(700)]]))
    random = np.random.default_rng(count)
    names = [*vocabulary.ids, "unknown", "i-1", None]
    asked = [names[n] for n in random.integers(0, len(names), count)]
    expected = [-1 if name is None else vocabulary.row(name) for name in asked]
    rows = vocabulary.rows(ids(asked))
    assert rows.dtype == np.int32
    assert rows.tolist() == expected
    assert vocabulary.rows(asked).dtype == np.int32
    assert vocabulary.rows(asked).tolist() == expected


@pytest.mark.parametrize("repeat", [1, 200])
def test_strange_ids_find_their_row(repeat):
    vocabulary = Vocabulary.of(ids(STRANGE))
    assert len(vocabulary) == len(STRANGE)
    rows = vocabulary.rows(ids(STRANGE * repeat))
    assert vocabulary.take(rows).to_list() == STRANGE * repeat


def test_strange_ids_pass_through_a_recommendation(world_of):
    """Every user has every item but one, whose id comes back as it was."""
    from recsys.models import RECOMMENDERS

    rows = [(user, item, 1.0, 1.0) for user in STRANGE for item in STRANGE if item != user]
    world = world_of(rows)
    model = RECOMMENDERS["popularity"]().fit(world.train)
    listed = model.recommend(world.queries(), 3, world.catalogue, "popularity")
    assert dict(listed["user_id", "item_id"].rows()) == {name: name for name in STRANGE}
    assert len(listed) == len(STRANGE)


# Histories

USERS, THINGS = ["u0", "u1", "u2", "u3"], ["a", "b", "c", "d", "e"]
logs = st.lists(
    st.tuples(
        st.sampled_from([*USERS, "stranger"]),
        st.sampled_from([*THINGS, "unknown"]),
        st.integers(0, 4).map(float),
        st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    ),
    max_size=30,
)


def slow_history(rows, user, limit):
    """Return (item row, weight, day) oldest first; Python's sort keeps the order of the log."""
    mine = sorted((r for r in rows if r[0] == user and r[1] in THINGS), key=lambda r: r[2])
    return [(THINGS.index(r[1]), r[3], r[2]) for r in mine[-limit if limit else None :]]


@given(rows=logs, limit=st.sampled_from([None, 1, 2, 5, 100]))
def test_histories_are_each_users_rows_in_time(rows, limit, log_of, at_day):
    histories = Histories.of(log_of(rows), Vocabulary(ids(USERS)), Vocabulary(ids(THINGS)), limit)
    assert len(histories) == len(USERS)
    assert histories.offsets.dtype == histories.times.dtype == np.int64
    assert histories.items.dtype == np.int32
    assert histories.weights.dtype == np.float32
    for row, user in enumerate(USERS):
        at = slice(*histories.offsets[row : row + 2])
        times = [(t - microseconds(at_day(0))) / 86_400e6 for t in histories.times[at].tolist()]
        found = list(zip(histories.items[at].tolist(), histories.weights[at].tolist(), times, strict=True))
        assert found == slow_history(rows, user, limit)
        assert (histories.rows[at] == row).all()
    assert len(histories.rows) == histories.offsets[-1] == len(histories.items)


def test_equal_moments_keep_the_order_of_the_log(log_of):
    rows = [("u0", "c", 1, 1), ("u1", "a", 1, 1), ("u0", "a", 1, 2), ("u0", "b", 0, 1), ("u0", "c", 1, 3)]
    histories = Histories.of(log_of(rows), Vocabulary(ids(USERS)), Vocabulary(ids(THINGS)))
    assert histories.items.tolist() == [1, 2, 0, 2, 0]
    assert histories.weights.tolist() == [1, 1, 2, 3, 1]
    assert histories.offsets.tolist() == [0, 4, 5, 5, 5]


@given(rows=logs, repeats=st.sampled_from(["binary", "sum", "log", "last"]))
def test_a_matrix_has_one_cell_a_pair(rows, repeats, log_of):
    histories = Histories.of(log_of(rows), Vocabulary(ids(USERS)), Vocabulary(ids(THINGS)))
    before = histories.weights.copy()
    matrix = histories.matrix(5, repeats)
    assert matrix.shape == (4, 5)
    assert matrix.dtype == np.float32
    cells = defaultdict(list)
    for row, user in enumerate(USERS):
        for item, weight, _ in slow_history(rows, user, None):
            cells[row, item].append(weight)
    value = {"binary": lambda w: 1, "sum": sum, "log": lambda w: ln(1 + sum(w)), "last": lambda w: w[-1]}
    expected = np.zeros((4, 5))
    for cell, weights in cells.items():
        expected[cell] = value[repeats](weights)
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-6)
    assert matrix.nnz == len(cells)
    assert matrix.has_sorted_indices
    assert np.array_equal(histories.weights, before)


@given(rows=logs, start=st.integers(0, 4), size=st.integers(0, 4))
def test_a_part_of_histories_is_those_rows(rows, start, size, log_of):
    stop = min(start + size, 4)
    whole = Histories.of(log_of(rows), Vocabulary(ids(USERS)), Vocabulary(ids(THINGS)))
    part = whole.part(start, stop)
    assert len(part) == stop - start
    assert np.array_equal(part.matrix(5, "sum").toarray(), whole.matrix(5, "sum").toarray()[start:stop])
    assert part.times.tolist() == whole.times[(whole.rows >= start) & (whole.rows < stop)].tolist()


def test_histories_in_which_nothing_happened():
    empty = Histories.empty(3)
    assert len(empty) == 3
    assert empty.matrix(4, "last").toarray().tolist() == [[0.0] * 4] * 3
    assert not len(empty.rows)


# Catalogue


@pytest.fixture
def dated(items_of, log_of, at_day):
    """Known from the attributes, from the first event, from both, from neither."""
    attributes = items_of({"both": (5, 9), "dated": (2, None), "ends": (None, 3), "neither": (None, None)})
    events = log_of([("u", "event", 4, 1), ("v", "event", 3, 0), ("u", "both", 1, 1), ("u", "ends", 1, 1)])
    nameless = events.head(1).with_columns(item_id=pl.lit(None, pl.String))
    events = pl.concat([events, nameless])
    return Catalogue.of(attributes.reverse(), events, at_day(10))


def test_a_catalogue_knows_when_each_item_may_be_shown(dated, at_day):
    assert dated.items.ids.to_list() == ["both", "dated", "ends", "event", "neither"]
    assert dated.available_from.tolist() == [microseconds(at_day(d)) for d in (5, 2, 1, 3, 10)]
    assert dated.available_to.tolist() == [
        microseconds(at_day(9)), ALWAYS, microseconds(at_day(3)), ALWAYS, ALWAYS
    ]  # fmt: skip
    assert dated.attributes.equals(ITEMS.conform(dated.attributes))
    assert dated.attributes["item_id"].equals(dated.items.ids.rename("item_id"))
    assert dated.attributes["available_from"].to_list() == [at_day(5), at_day(2), at_day(1), at_day(3), None]


def test_candidates_begin_at_their_moment_and_end_before_it(dated, at_day):
    days = [0, 1, 2.999999, 3, 5, 8.999999, 9, 10]
    found = dated.candidates(np.array([microseconds(at_day(d)) for d in days]))
    assert found.dtype == bool
    assert found.astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 0, 1, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 0],
        [0, 1, 0, 1, 0],
        [0, 1, 0, 1, 1],
    ]


def test_attributes_of_any_name_stay_what_they_are(items_of, log_of, at_day):
    attributes = items_of({"a": (None, None)}).with_columns(
        first_event=pl.lit(at_day(7)), start=pl.lit("s"), count=pl.lit(3)
    )
    catalogue = Catalogue.of(attributes, log_of([("u", "a", 2, 1)]), at_day(10))
    assert catalogue.available_from.tolist() == [microseconds(at_day(2))]
    kept = catalogue.attributes.select("first_event", "start", "count").row(0)
    assert kept == (at_day(7), "s", 3)


def test_microseconds_are_exact(log_of, at_day):
    """A moment that a float of seconds would round stays the same everywhere."""
    day = 9_999.123_456_789
    log = log_of([("u", "a", day, 1)])
    catalogue = Catalogue.of(ITEMS.empty(), log, at_day(0))
    data = Dataset.of(log, catalogue, at_day(day))
    assert data.histories.times.tolist() == [microseconds(at_day(day))] == [data.as_of]
    assert catalogue.candidates(np.array([data.as_of - 1, data.as_of])).tolist() == [[False], [True]]


# Queries


def test_queries_tell_history_from_what_was_seen(log_of, at_day):
    log = log_of([("u", "a", 1, 1), ("u", "b", 2, 0), ("v", "c", 3, 2), ("u", "c", 4, 1), ("w", "a", 5, 1)])
    catalogue = Catalogue.of(ITEMS.empty(), log, at_day(10))
    asked = catalogue.queries(["v", "nobody", "u"], log, at_day(9))
    assert list(asked.ids) == ["v", "nobody", "u"]
    assert asked.at.tolist() == [microseconds(at_day(9))] * 3
    assert asked.items == 3
    assert asked.matrix("sum").toarray().tolist() == [[0, 0, 2], [0, 0, 0], [1, 0, 1]]
    assert asked.seen.rows.tolist() == [0, 2, 2, 2]
    assert asked.seen.items.tolist() == [2, 0, 1, 2]
    newest = catalogue.queries(["u"], log, at_day(9), limit=1)
    assert newest.histories.items.tolist() == [2]
    assert newest.seen.items.tolist() == [0, 1, 2]
    other = catalogue.queries(["u"], log, np.array([5]), seen=log.filter(pl.col("item_id") == "b"))
    assert other.at.tolist() == [5]
    assert other.histories.items.tolist() == [0, 2]
    assert other.seen.items.tolist() == [1]
    with pytest.raises(ContractError, match="unique ids"):
        catalogue.queries(["u", "u"], log, at_day(9))


@pytest.mark.parametrize("size", [1, 4, 7, 10, 32])
def test_blocks_are_the_queries_in_equal_sizes(size, lopsided):
    vectors = np.arange(46, dtype=np.float32).reshape(23, 2)
    users = lopsided.log["user_id"].unique().sort().to_list()
    whole = lopsided.catalogue.queries(users, lopsided.log, np.arange(23), vectors=vectors)
    places, blocks = zip(*whole.blocks(size), strict=True)
    assert [i for place in places for i in range(place.start, place.stop)] == list(range(23))
    for place, block in zip(places, blocks, strict=True):
        held = place.stop - place.start
        assert held == min(size, 23 - place.start)
        assert len(block) == len(block.histories) == len(block.seen) == held
        assert block.items == 14
        assert list(block.ids) == users[place]
        assert block.at.tolist() == list(range(23))[place]
        assert np.array_equal(block.vectors, vectors[place])
        assert np.array_equal(block.matrix("sum").toarray(), whole.matrix("sum").toarray()[place])
    nobody = Queries(3, [], Histories.empty(0), Histories.empty(0), np.zeros(0, np.int64))
    assert list(nobody.blocks(size)) == []


@pytest.mark.parametrize("days", [[4, 4, 4, 4], [1, 9, 4, 20]])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_what_is_barred_is_said_cell_by_cell(days, exclude_seen, log_of, at_day):
    log = log_of([("u", "a", 1, 1), ("v", "b", 2, 1), ("v", "e", 2, 1), ("u", "e", 3, 0)])
    times = {"available_from": [at_day(2), at_day(5)], "available_to": [at_day(5), at_day(15)]}
    on_offer = pl.DataFrame({"item_id": ["c", "d"], **times}, schema_overrides=dict.fromkeys(times, TIME))
    catalogue = Catalogue.of(ITEMS.conform(on_offer), log, at_day(10))
    at = np.array([microseconds(at_day(day)) for day in days])
    asked = catalogue.queries(["v", "nobody", "u", "x"], log, at)
    allowed = catalogue.barred(asked, exclude_seen, np.array([1])).allowed
    seen = [{1, 4}, set(), {0, 4}, set()]
    for n, moment in enumerate(at):
        for item in range(5):
            open_ = catalogue.available_from[item] <= moment < catalogue.available_to[item]
            gone = item == 1 or (exclude_seen and item in seen[n])
            assert allowed[n, item] == (open_ and not gone), (n, item)


def test_nobody_asks() -> None:
    catalogue = Catalogue.of(ITEMS.empty(), INTERACTIONS.empty(), datetime(2026, 1, 1, tzinfo=UTC))
    nobody = Queries(0, [], Histories.empty(0), Histories.empty(0), np.zeros(0, np.int64))
    assert catalogue.barred(nobody).allowed.shape == (0, 0)


# Dataset


def test_a_dataset_ends_at_its_moment(log_of, at_day):
    log = log_of(
        [
            ("late", "a", 5.000001, 1),
            ("u", "b", 5, 2),
            ("u", "a", 6, 1),
            ("only seen", "b", 1, 0),
            ("u", "a", 1, 1),
        ]
    )
    catalogue = Catalogue.of(ITEMS.empty(), log, at_day(10))
    vectors = np.ones((2, 3), np.float32)
    data = Dataset.of(log, catalogue, at_day(5), vectors)
    assert data.users.ids.to_list() == ["u"]
    assert data.items is catalogue.items
    assert data.histories.items.tolist() == [0, 1]
    assert data.histories.weights.tolist() == [1, 2]
    assert data.matrix("sum").toarray().tolist() == [[1, 2]]
    assert data.as_of == microseconds(at_day(5))
    assert data.vectors is vectors
    assert not data.timeless


def test_a_weight_of_null_says_nothing_and_is_seen(lopsided):
    log = lopsided.log.head(3).with_columns(
        user_id=pl.lit("u"), item_id=pl.Series(["i00", "i01", "i02"]), weight=pl.Series([1.0, None, 2.0])
    )
    queries = lopsided.catalogue.queries(["u"], log, lopsided.as_of)
    assert sorted(queries.histories.items) == [0, 2]
    assert sorted(queries.seen.items) == [0, 1, 2]
