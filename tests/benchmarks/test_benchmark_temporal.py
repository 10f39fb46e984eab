"""The global temporal protocol on hand-made ratings: who is asked, what is known, what is the target."""

import numpy as np
import polars as pl
import pytest

from benchmarks import temporal
from benchmarks.trials import TEST
from recsys.dataset import Catalogue

SCHEMA = {"user_id": pl.Int32, "movie_id": pl.Int32, "timestamp": pl.Int32, "seq_pos": pl.Int32}


def ratings(*rows):
    return pl.DataFrame(rows, SCHEMA, orient="row")


def crossed(users, films, start=0):
    """Every user rates every film, one a second, users one after another."""
    return [(u, f, start + u * 100 + n, n) for u in users for n, f in enumerate(films)]


@pytest.fixture
def data(tmp_path):
    """Return a folder with 30 users of 6 films, and two who come after the cut."""
    rows = crossed(range(1, 31), range(1, 7))
    rows += [
        (1, 7, 9000, 6),
        (2, 7, 9000, 6),
        (2, 8, 9000, 7),
        (3, 7, 500, 6),
        (4, 7, 500, 6),
        (5, 7, 600, 6),
    ]
    rows += [(n, 8, 700, 8) for n in (6, 7, 8, 9)]
    rows += [(40, n, 9100, n) for n in range(1, 6)] + [(6, 6, None, None), (7, 5, None, None)]
    (tmp_path / "ml_1m").mkdir()
    ratings(*rows).write_parquet(tmp_path / temporal.FILE)
    films = pl.DataFrame({"movie_id": range(1, 9), "genres": ["Drama|War"] * 8})
    films.with_columns(pl.col("movie_id").cast(pl.Int32)).write_parquet(tmp_path / temporal.FILMS)
    temporal.interactions.cache_clear()
    return tmp_path


def of(queries, user):
    """Return a query's history as item rows."""
    at = queries.ids.index(user)
    return queries.histories.items[queries.histories.offsets[at] : queries.histories.offsets[at + 1]]


def test_what_has_no_time_goes_and_so_do_consecutive_repeats_and_what_is_rare():
    rows = crossed(range(1, 6), range(1, 6))
    more = [
        (1, 5, 150, 9),  # again what came just before: dropped
        (2, 1, 250, 9),  # again, but not in a row: kept
        (3, 9, 350, 9),  # a film one user saw: dropped
        (4, 1, None, None),
        *((9, film, 900 + film, film) for film in range(1, 5)),  # a user of four films: dropped
    ]
    log = temporal.prepared(ratings(*rows, *more))
    pairs = list(log["user_id", "item_id"].iter_rows())
    assert len(pairs) == 26
    assert pairs.count(("1", "5")) == 1
    assert pairs.count(("2", "1")) == 2
    assert not {"9"} & {user for user, _ in pairs}
    assert not {"9"} & {item for _, item in pairs}


def test_dropping_one_may_make_another_rare():
    # Film 9 has five users, one of whom (8) has four films only: without them it has four, and goes too.
    rows = crossed(range(1, 6), range(1, 6)) + [(u, 9, 900 + u, 9) for u in (1, 2, 3, 4)]
    rows += [(8, f, 950 + n, n) for n, f in enumerate((9, 1, 2, 3))]
    assert set(temporal.prepared(ratings(*rows))["item_id"]) == {"1", "2", "3", "4", "5"}


def test_order_is_time_then_place_then_row():
    rows = [(u, f, 100, 10 - f) for u in range(1, 6) for f in range(1, 6)]
    rows += [(1, 6, 50, 3)] + [(u, 6, 100, 5) for u in range(2, 6)]  # ties with film 5 and comes after it
    log = temporal.prepared(ratings(*rows))
    theirs = log.group_by("user_id", maintain_order=True).agg("item_id")
    found = dict(theirs.iter_rows())
    assert found["1"] == ["6", "5", "4", "3", "2", "1"]
    assert found["2"] == ["5", "6", "4", "3", "2", "1"]


def test_a_test_user_did_something_after_the_cut_and_is_asked_for_the_last_of_it(data):
    log = temporal.interactions(data)
    parted = temporal.cut(log)
    moment = parted.train["timestamp"].max()
    assert len(parted.train) >= temporal.QUANTILE * len(log) - 1
    late = log.filter(pl.col("timestamp") > moment)
    assert set(parted.tested) == set(late["user_id"])
    stage = temporal.stage(data, TEST, False)
    question = stage.asked[TEST]
    truth = dict(question.truth.iter_rows())
    # 1 and 2 come back after the cut. Of 2's two films at one moment the later place is the last.
    assert truth["1"] == "7"
    assert truth["2"] == "8"
    assert truth["40"] == "5"
    names = stage.train.items.ids.to_list()
    # What user 2 did after the cut, but before the target, is history; and user 40 is nobody in train.
    assert [names[i] for i in of(question.queries, "2")] == ["1", "2", "3", "4", "5", "6", "7"]
    assert [names[i] for i in of(question.queries, "40")] == ["1", "2", "3", "4"]
    assert stage.train.users.row("40") == -1
    assert len(stage.train.histories.items) == len(parted.train)
    assert stage.train.catalogue.candidates(question.queries.at).all()
    # Nobody is asked later than the newest thing they did.
    at = question.queries.at[question.queries.ids.index("2")]
    assert at == stage.asked[TEST].queries.histories.times[of_last(question.queries, "2")]
    assert temporal.undated(data, False) == 2


def of_last(queries, user):
    return queries.histories.offsets[queries.ids.index(user) + 1] - 1


def test_tied_orders_change_what_is_tied_and_nothing_else(data):
    stage = temporal.stage(data, TEST, False)
    truths = [dict(q.truth.iter_rows()) for name, q in stage.asked.items() if name != TEST]
    assert len(truths) == temporal.ORDERS
    assert {t["1"] for t in truths} == {"7"}
    assert {t["2"] for t in truths} == {"7", "8"}
    assert {t["40"] for t in truths} == {"1", "2", "3", "4", "5"}
    names = stage.train.items.ids.to_list()
    for question, truth in zip(list(stage.asked.values())[1:], truths, strict=True):
        history = [names[i] for i in of(question.queries, "2")]
        assert sorted([*history, truth["2"]]) == ["1", "2", "3", "4", "5", "6", "7", "8"]
        assert history[:6] == ["1", "2", "3", "4", "5", "6"]


def test_validation_takes_users_out_whole_and_asks_for_their_last_before_the_cut(data):
    stage = temporal.stage(data, "cut", False)
    parted = temporal.cut(temporal.interactions(data))
    held = temporal.validation_users(parted.train)
    assert 0 < len(held) <= parted.train["user_id"].n_unique() // 5
    assert all(stage.train.users.row(user) == -1 for user in held)
    rest = parted.train.filter(~pl.col("user_id").is_in(held))
    assert len(stage.train.histories.items) == len(rest)
    truth = dict(stage.asked["cut"].truth.iter_rows())
    assert sorted(truth) == held
    for user in held:
        theirs = parted.train.filter(pl.col("user_id") == user)["item_id"].to_list()
        assert truth[user] == theirs[-1]
        assert len(of(stage.asked["cut"].queries, user)) == len(theirs) - 1


def test_a_user_of_one_item_has_nothing_to_be_asked_with():
    log = temporal.prepared(ratings(*crossed(range(1, 6), range(1, 6))))
    items = pl.DataFrame({"item_id": ["1"], "categories": [["Drama"]]})
    catalogue = temporal._catalogue(log, items)
    assert isinstance(catalogue, Catalogue)
    single = log.filter((pl.col("user_id") != "3") | (pl.col("item_id") == "2"))
    question = temporal.last(single, ["2", "3"], catalogue)
    assert question.queries.ids == ["2"]
    assert np.array_equal(question.truth["user_id"].to_list(), ["2"])
