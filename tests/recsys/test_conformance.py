"""What every recommender promises, checked for each one in the registry; a new one is tested as it is.

Worlds are small and the answers known. Where a recommender cannot meet a test as it stands, it is named
in a table here with the reason.
"""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from profiles.schema import ContractError
from recsys.dataset import Catalogue, Dataset, Histories, Vocabulary
from recsys.models import RECOMMENDERS, load
from recsys.recommender import BLOCK, NotApplicableError, Recommender
from recsys.schema import RECOMMENDATIONS

ROOT = Path(__file__).parents[2]

# Settings for these small worlds, so that gradients take a moment; what is promised holds at any of them.
QUICK: dict[str, dict[str, Any]] = {
    "bert4rec": {"factors": 8, "epochs": 2, "update_epochs": 2},
    "caser": {"factors": 8, "epochs": 2, "update_epochs": 2},
    "bpr": {"factors": 8, "iterations": 5},
    "graph_content": {"factors": 8, "epochs": 2, "update_epochs": 2},
    "lightgcn": {"factors": 8, "epochs": 2, "update_epochs": 2},
    "mult_vae": {"hidden": 12, "latent": 4, "epochs": 2, "update_epochs": 2},
    "simplex": {"factors": 8, "epochs": 2, "update_epochs": 2},
    "gru4rec": {"factors": 8, "epochs": 2, "update_epochs": 2},
    "sasrec": {"factors": 8, "epochs": 2, "update_epochs": 2},
}
# Settings for the world of two tastes only.
SMALL: dict[str, dict[str, Any]] = {
    "bpr": {"factors": 4, "iterations": 300},
    "graph_content": {"factors": 8, "epochs": 60, "learning_rate": 0.02},
    "lightgcn": {"factors": 8, "epochs": 60, "learning_rate": 0.02},
    "mult_vae": {"hidden": 12, "latent": 4, "epochs": 100, "learning_rate": 0.01},
    "simplex": {"factors": 8, "epochs": 60, "learning_rate": 0.02, "negatives": 8, "weight": 4.0},
    "als": {"factors": 2},  # 64 factors reproduce 15 items cell by cell, unseen ones included
}
# What says which item comes next, not which belong together: p0 and q0 never come after anything.
FOLLOWS_ORDER = dict.fromkeys(
    ("bert4rec", "caser", "gru4rec", "sasrec"), "learns a chain in test_sequence_models.py"
) | {"sequential_ease": "the first item follows no other, so it cannot be told from a past"}

# What stays the same whatever `repeats` says, and why.
STATE_WITHOUT_REPEATS = {
    "popularity": "counts interactions, not pairs",
    "category_popularity": "counts interactions, not pairs; its queries are tested in test_order_oracles.py",
    "content_text": "learns nothing from interactions; its queries are tested in test_oracles.py",
    "content_tags": "learns nothing from interactions; its queries are tested in test_order_oracles.py",
    "content_attributes": "learns nothing from interactions; queries: test_content_models.py",
    "content_vectors": "learns nothing from interactions; queries: test_content_models.py",
    "random": "learns nothing",
    "association_rules": "counts users of a pair, not weights",
}
# What knows of items that nobody touched, and so hears those who did.
KNOWS_UNTOUCHED = {
    "content_vectors": "an item's vector is there from the start",
    "graph_content": "an item's text has a place in the graph",
}
COUNTS_REPEATS = {
    "popularity": "counts interactions, not pairs, so a repeat is meant to matter",
    "category_popularity": "counts interactions, not pairs, so a repeat is meant to matter",
}

MILLION = 1_000_000

every = pytest.mark.parametrize("name", sorted(RECOMMENDERS))


def make(name, **config) -> Recommender:
    kind = RECOMMENDERS[name]
    return kind(kind.config_class(**{**QUICK.get(name, {}), **config}))


def fit(name, world, **config) -> Recommender:
    return make(name, **config).fit(world.train)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return np.array_equal(left, right, equal_nan=True)


def state(model: Recommender, folder: Path, name: str) -> bytes:
    model.save(folder, name)
    return (folder / "state.safetensors").read_bytes()


@pytest.fixture(scope="module")
def fitted(crowd, lopsided, two_tastes):
    """Return a recommender fitted on a shared world, each fitted once."""
    worlds = {"crowd": crowd, "lopsided": lopsided, "two_tastes": two_tastes}
    models: dict[tuple[str, str], Recommender] = {}

    def get(name: str, world: str) -> Recommender:
        if (name, world) not in models:
            models[name, world] = fit(name, worlds[world])
        return models[name, world]

    return get


# Declarations


@every
def test_configuration_is_declared_once(name):
    kind = RECOMMENDERS[name]
    for field, about in kind.config_class.model_fields.items():
        assert about.description, field
        assert not about.is_required(), f"{field} has no default"
    with pytest.raises(ValidationError, match="extra_forbidden"):
        kind.config_class(no_such_setting=1)
    with pytest.raises(ValidationError, match="frozen"):
        kind().config.repeats = "sum"
    assert kind.state
    assert kind.__doc__


# Fit and score


@every
def test_fit_returns_self_and_keeps_the_items(name, lopsided):
    model = make(name)
    assert model.fit(lopsided.train) is model
    assert model.items.ids.equals(lopsided.catalogue.items.ids)


@every
def test_scores_are_float32_of_every_query_and_item(name, fitted, lopsided):
    model, queries = fitted(name, "lopsided"), lopsided.queries()
    scores = model.score(queries)
    assert scores.dtype == np.float32
    assert scores.shape == (23, 14)
    assert not np.isinf(scores).any()
    raw = model._score(queries.part(0, 5), None)
    assert raw.dtype == np.float32
    assert raw.shape == (5, 14)
    assert model._score(queries.part(0, 5), np.array([3, 1])).shape == (5, 2)
    assert model.score(queries.part(0, 0)).shape == (0, 14)


@every
def test_two_fits_are_the_same_bits(name, fitted, crowd, tmp_path):
    first, second = fitted(name, "crowd"), fit(name, crowd)
    assert same(first.score(crowd.queries()), second.score(crowd.queries()))
    assert state(first, tmp_path / "first", name) == state(second, tmp_path / "second", name)


@every
def test_a_list_is_the_same_alone_and_in_a_batch(name, fitted, crowd):
    model, queries = fitted(name, "crowd"), crowd.queries()
    assert len(queries) == 100
    assert len(queries) % BLOCK
    together = model.rank(queries, 20, crowd.catalogue)
    for row in range(len(queries)):
        alone = model.rank(queries.part(row, row + 1), 20, crowd.catalogue)
        assert same(alone.rows[0], together.rows[row]), row
        assert same(alone.scores[0], together.scores[row]), row


@every
def test_a_list_is_the_same_whoever_else_asks(name, fitted, crowd):
    model = fitted(name, "crowd")
    users = crowd.log["user_id"].unique().sort().to_list()
    order = np.random.default_rng(0).permutation(len(users))
    ahead = model.rank(crowd.catalogue.queries(users, crowd.log, crowd.as_of), 20, crowd.catalogue)
    mixed = crowd.catalogue.queries([users[n] for n in order], crowd.log, crowd.as_of)
    ranked = model.rank(mixed, 20, crowd.catalogue)
    assert same(ranked.rows, ahead.rows[order])
    assert same(ranked.scores, ahead.scores[order])


@every
def test_scores_of_some_items_are_columns_of_all_scores(name, fitted, crowd):
    model, queries = fitted(name, "crowd"), crowd.queries()
    some = np.array([7, 0, len(crowd.catalogue.items) - 1, 3, 3])
    np.testing.assert_allclose(model.score(queries, some), model.score(queries)[:, some], rtol=1e-5)
    assert model.score(queries, np.zeros(0, np.int64)).shape == (100, 0)


@every
def test_scores_of_nobody_in_particular(name, fitted, crowd):
    """A history is all there is to a user: under another name it gets the same scores."""
    model = fitted(name, "crowd")
    known = crowd.queries().part(5, 6)
    renamed = crowd.log.filter(pl.col("user_id") == known.ids[0]).with_columns(user_id=pl.lit("new"))
    new = crowd.catalogue.queries(["new"], renamed, crowd.as_of)
    assert same(model.score(new), model.score(known))


@every
def test_the_order_of_history_rows_does_not_depend_on_the_log(name, fitted, crowd):
    model, shuffled = fitted(name, "crowd"), crowd.log.sample(fraction=1.0, shuffle=True, seed=1)
    users = crowd.queries().ids
    queries = crowd.catalogue.queries(users, shuffled, crowd.as_of)
    assert same(model.score(queries), model.score(crowd.queries()))


@every
def test_a_catalogue_of_another_size_is_refused(name, fitted, crowd, lopsided):
    with pytest.raises(ContractError, match="14 items meet a model of"):
        fitted(name, "crowd").score(lopsided.queries())


# Lists


@every
def test_seen_items_are_listed_only_when_asked_for(name, fitted, crowd):
    model, queries, catalogue = fitted(name, "crowd"), crowd.queries(), crowd.catalogue
    pairs = crowd.log.select("user_id", "item_id").unique()
    new = model.recommend(queries, 50, catalogue, name)
    assert len(new)
    assert new.join(pairs, on=["user_id", "item_id"], how="semi").is_empty()
    all_of_it = model.recommend(queries, 50, catalogue, name, exclude_seen=False)
    again = all_of_it.join(pairs, on=["user_id", "item_id"], how="semi")
    assert again["user_id"].n_unique() > 50
    # Nothing else changes: without the seen ones it is the same list.
    rest = all_of_it.join(pairs, on=["user_id", "item_id"], how="anti", maintain_order="left")
    assert rest["item_id"].equals(new["item_id"])


@every
def test_seen_may_hold_more_than_the_history(name, fitted, lopsided, log_of):
    model = fitted(name, "lopsided")
    past = log_of([("u", "i00", 1, 1.0), ("u", "i01", 2, 1.0), ("u", "i02", 3, 0.0)])
    masked = log_of([("u", "i03", 3, 1.0), ("u", "i04", 3, 0.0)])
    queries = lopsided.catalogue.queries(["u"], past, lopsided.as_of)
    other = lopsided.catalogue.queries(["u"], past, lopsided.as_of, seen=masked)
    assert same(model.score(queries), model.score(other))
    listed = model.recommend(queries, 14, lopsided.catalogue, name)["item_id"].to_list()
    assert not {"i00", "i01", "i02"} & set(listed)
    assert "i03" in listed
    listed = model.recommend(other, 14, lopsided.catalogue, name)["item_id"].to_list()
    assert not {"i03", "i04"} & set(listed)
    assert {"i00", "i01"} & set(listed)


@every
def test_only_what_is_available_at_the_moment_of_asking(name, lopsided, items_of, at_day):
    spans = {f"i{n:02}": (float(n), None if n % 3 else 20.0 + n) for n in range(14)}
    items = items_of(spans, {item: ["all", item[-1]] for item in spans})
    catalogue = Catalogue.of(items, lopsided.log, lopsided.as_of)
    model = make(name).fit(replace(lopsided.train, catalogue=catalogue))
    days = np.array([-1.0, 0.0, 5.0, 20.0, 23.0, 50.0, *[100.0] * 17])
    moments = np.array([int(at_day(d).timestamp() * 1e6) for d in days])
    users = lopsided.log["user_id"].unique().sort().to_list()
    queries = catalogue.queries(users, lopsided.log, moments)
    listed = model.recommend(queries, 14, catalogue, name, exclude_seen=False)
    open_at = {
        user: {i for i, (start, stop) in spans.items() if start <= day and (stop is None or day < stop)}
        for user, day in zip(users, days, strict=True)
    }
    scored = dict(zip(users, ~np.isnan(model.score(queries)), strict=True))
    for user in users:
        can_say = {i for i, said in zip(spans, scored[user], strict=True) if said}
        assert set(listed.filter(pl.col("user_id") == user)["item_id"]) == open_at[user] & can_say, user
    assert not open_at[users[0]]
    assert open_at[users[1]] == {"i00"}


@every
def test_excluded_rows_are_listed_for_nobody(name, fitted, crowd):
    model, catalogue = fitted(name, "crowd"), crowd.catalogue
    out = np.array([0, 5, 6])
    ranked = model.rank(crowd.queries(), 50, catalogue, excluded=out)
    everything = model.rank(crowd.queries(), 50, catalogue)
    for row, full in zip(ranked.rows, everything.rows, strict=True):
        assert row[row >= 0].tolist() == [i for i in full if i >= 0 and i not in out]


@every
def test_a_k_above_the_catalogue_shortens_the_list(name, fitted, lopsided):
    model, queries = fitted(name, "lopsided"), lopsided.queries()
    ranked = model.rank(queries, 1000, lopsided.catalogue)
    assert ranked.rows.shape == ranked.scores.shape == (23, 1000)
    assert (ranked.lengths <= 14).all()
    for row, scores, length in zip(ranked.rows, ranked.scores, ranked.lengths, strict=True):
        assert (row[:length] >= 0).all()
        assert (row[length:] == -1).all()
        assert not np.isnan(scores[:length]).any()
        assert np.isnan(scores[length:]).all()
    for k in (1, 3, 14):
        assert same(model.rank(queries, k, lopsided.catalogue).rows, ranked.rows[:, :k])
    with pytest.raises(ContractError, match="at least 1"):
        model.rank(queries, 0, lopsided.catalogue)


@every
def test_recommendations_keep_their_contract(name, fitted, crowd):
    queries = crowd.queries()
    frame = fitted(name, "crowd").recommend(queries, 7, crowd.catalogue, "this source")
    assert frame.equals(RECOMMENDATIONS.conform(frame))
    assert frame.schema == RECOMMENDATIONS.schema
    assert frame["source"].unique().to_list() == ["this source"]
    assert frame["user_id"].unique(maintain_order=True).is_in(list(queries.ids)).all()
    assert not frame.select("user_id", "item_id").is_duplicated().any()
    assert not frame["score"].is_nan().any()
    for (user,), rows in frame.group_by("user_id"):
        assert rows["rank"].to_list() == list(range(1, len(rows) + 1)), user
        assert (rows["score"].diff().drop_nulls() <= 0).all(), user
    nobody = fitted(name, "crowd").recommend(queries.part(0, 0), 7, crowd.catalogue, "none")
    assert nobody.schema == RECOMMENDATIONS.schema
    assert nobody.is_empty()


# Histories that are hardly there, or far too much


@every
def test_an_empty_history_is_answered(name, fitted, lopsided):
    model = fitted(name, "lopsided")
    queries = lopsided.ask({"nobody": [], "i did": ["i00", "i01"]})
    scores = model.score(queries)[0]
    listed = model.recommend(queries, 14, lopsided.catalogue, name).filter(pl.col("user_id") == "nobody")
    assert len(listed) == (~np.isnan(scores)).sum()
    assert not np.isinf(scores).any()
    if not model.reads_history:
        assert len(listed)
        assert same(scores, model.score(queries)[1])


@every
def test_unknown_items_say_nothing(name, fitted, lopsided):
    model = fitted(name, "lopsided")
    queries = lopsided.ask(
        {"nothing": [], "unknown": ["x", "y"], "known": ["i01", "i02"], "both": ["x", "i01", "y", "i02"]}
    )
    scores = model.score(queries)
    assert same(scores[1], scores[0])
    assert same(scores[3], scores[2])


@every
def test_items_nobody_touched_say_nothing_but_by_their_text(name, fitted, lopsided):
    model = fitted(name, "lopsided")
    scores = model.score(lopsided.ask({"untouched": ["i11", "i12"], "nothing": []}))
    assert not np.isinf(scores).any()
    if not model.reads_text and name not in KNOWS_UNTOUCHED:
        assert same(scores[0], scores[1])


@pytest.fixture(scope="module")
def flood(lopsided):
    """The lopsided world with its first row a million times more, and a history and one as flooded."""
    often = replace(lopsided, log=pl.concat([lopsided.log, lopsided.log[np.zeros(MILLION, np.int64)]]))
    asked = lopsided.ask({"u": ["i00", "i03"]})
    histories = asked.histories
    repeated = Histories(
        histories.offsets + np.array([0, MILLION]),
        np.insert(histories.items, 0, np.full(MILLION, histories.items[0])),
        np.insert(histories.weights, 0, np.ones(MILLION)),
        np.insert(histories.times, 0, np.full(MILLION, histories.times[0])),
    )
    return often, asked, replace(asked, histories=repeated)


@every
def test_a_million_repeats(name, fitted, lopsided, flood):
    often, asked, repeated = flood
    few, many = fitted(name, "lopsided"), fit(name, often)
    for model in (few, many):
        scores = model.score(repeated)
        assert not np.isinf(scores).any()
        assert model.rank(repeated, 5, lopsided.catalogue).lengths[0] > 0
        if name not in COUNTS_REPEATS:  # binary: a pair is a pair, at fit as in a query
            assert same(scores, few.score(asked))
    if name in COUNTS_REPEATS:
        assert not same(many.score(asked), few.score(asked))


@every
def test_a_million_repeats_summed_up(name, flood):
    often, asked, repeated = flood
    model = fit(name, often, repeats="sum")
    for queries in (asked, repeated):
        scores = model.score(queries)
        assert not np.isinf(scores).any()
        assert model.rank(queries, 5, often.catalogue).lengths[0] > 0


@every
def test_the_longest_history_there_can_be(name, fitted, crowd):
    everything = crowd.catalogue.items.ids.to_list()
    ranked = fitted(name, "crowd").rank(crowd.ask({"u": everything}), 5, crowd.catalogue)
    assert ranked.lengths.tolist() == [0]


@every
@pytest.mark.parametrize(
    ("rows", "extra"),
    [
        ([("u", "i", 1.0, 1.0)], []),
        ([("u", "i", 1.0, 1.0)], ["j", "k"]),
        ([("u", "i", 1.0, 1.0), ("v", "i", 2.0, 1.0), ("v", "i", 3.0, 1.0)], []),
        ([("u", "i", 1.0, 1.0), ("u", "j", 1.0, 2.0), ("u", "k", 1.0, 0.5)], ["l"]),
    ],
    ids=["one pair", "one interaction", "one item", "one user"],
)
def test_the_smallest_worlds(name, rows, extra, world_of):
    world = world_of(rows, extra)
    model = fit(name, world)
    queries = world.ask({"u": ["i"], "new": [], "other": ["i", "nothing"]})
    scores = model.score(queries)
    assert scores.shape == (3, len(world.catalogue.items))
    assert not np.isinf(scores).any()
    listed = model.recommend(queries, 3, world.catalogue, name)
    assert "i" not in listed.filter(pl.col("user_id") != "new")["item_id"]
    assert set(listed["item_id"]) <= set(world.catalogue.items.ids)


# Data that does not serve


@every
@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_refused(name, fitted, lopsided, weight):
    wrong = lopsided.log.with_columns(
        weight=pl.when(pl.int_range(pl.len()) == 4).then(pl.lit(weight, pl.Float32)).otherwise("weight")
    )
    user, item = lopsided.log.row(4)[:2]
    said = f"1 interactions have a weight that is no finite number, .* of user '{user}' and item '{item}'"
    with pytest.raises(ContractError, match=said):
        make(name).fit(replace(lopsided, log=wrong).train)
    with pytest.raises(ContractError, match=said):
        fitted(name, "lopsided").score(replace(lopsided, log=wrong).queries())


@every
def test_a_negative_weight_says_nothing_for_its_item(name, fitted, lopsided, log_of, tmp_path):
    disliked = log_of([("u00", "i10", 1.0, -1.0), ("new", "i00", 2.0, -3.0), ("u01", "i09", 3.0, -0.1)])
    world = replace(lopsided, log=pl.concat([lopsided.log, disliked]))
    model = fitted(name, "lopsided")
    assert state(fit(name, world), tmp_path / "one", name) == state(model, tmp_path / "two", name)
    queries = world.queries()
    place = list(queries.ids).index("new")
    nobody = lopsided.ask({"nobody": []})
    assert same(model.score(queries)[place], model.score(nobody)[0])
    listed = model.recommend(queries, 14, world.catalogue, name)
    assert ("new", "i00") not in set(listed.select("user_id", "item_id").iter_rows())  # it is still seen


@every
def test_unknown_items_are_left_out_of_a_fit(name, fitted, lopsided, log_of, tmp_path):
    unknown = log_of([("stranger", "no such item", 1.0, 1.0), ("u00", "nor this", 2.0, 1.0)])
    world = replace(lopsided, log=pl.concat([lopsided.log, unknown]))
    model, sound = fit(name, world), fitted(name, "lopsided")
    assert state(model, tmp_path / "model", name) == state(sound, tmp_path / "sound", name)
    with pytest.raises(ContractError, match="no interactions to learn from"):
        make(name).fit(replace(lopsided, log=unknown).train)


@every
def test_no_interactions_are_nothing_to_learn_from(name, lopsided, world_of):
    catalogue = lopsided.catalogue
    for rows in (lopsided.log.clear(), lopsided.log.with_columns(weight=pl.lit(0.0, pl.Float32))):
        nothing = Dataset.of(
            rows, catalogue, lopsided.as_of, lopsided.vectors, brought=lopsided.train.brought
        )
        assert not len(nothing.users)
        with pytest.raises(ContractError, match="no interactions to learn from"):
            make(name).fit(nothing)


@every
def test_what_the_data_lacks_is_said_or_not_needed(name, lopsided):
    """Without texts or without times a recommender fits, or says why not: nothing else may happen."""
    plain = lopsided.without_text()
    for lacking in (
        Dataset.of(plain.log, plain.catalogue, plain.as_of),
        replace(lopsided.train, timeless=True),
    ):
        model, reason = make(name), ""
        try:
            model.fit(lacking)
        except NotApplicableError as error:
            reason = str(error)
        if reason:
            assert len(reason) > 20
            assert not reason.startswith(name)  # whoever shows it names the source
        else:
            assert model.score(lopsided.queries()).shape == (23, 14)


# Known answers


@every
def test_a_personal_list_starts_with_the_rest_of_ones_taste(name, two_tastes):
    model = fit(name, two_tastes, **SMALL.get(name, {}))
    if not model.reads_history:
        pytest.skip("not personal, and says so")
    if name in FOLLOWS_ORDER:
        pytest.skip(FOLLOWS_ORDER[name])
    assert_tastes(model, two_tastes)


def assert_tastes(model: Recommender, world) -> None:
    """Each list of the world of two tastes begins with the rest of the user's own."""
    items = set(world.catalogue.items.ids)
    listed = model.recommend(world.queries(), 15, world.catalogue, "any")
    for user, done in world.log.group_by("user_id").agg("item_id").iter_rows():
        own = {i for i in items if i[0] == {"a": "p", "b": "q"}[user[0]]}
        missing = own - set(done)
        found = listed.filter(pl.col("user_id") == user)["item_id"].to_list()
        assert len(missing) == 2, user
        assert set(found[:2]) == missing, user


@every
def test_the_repeats_setting_is_honoured(name, lopsided, tmp_path):
    states = {
        repeats: state(fit(name, lopsided, repeats=repeats), tmp_path / repeats, name)
        for repeats in ("binary", "sum", "log", "last")
    }
    assert len(set(states.values())) == (1 if name in STATE_WITHOUT_REPEATS else 4)


@every
def test_influence_adds_up_to_the_score(name, fitted, crowd):
    model, queries = fitted(name, "crowd"), crowd.queries()
    items = np.array([4, 2, 9, 30, 31, 12])
    scores = model.score(queries, items)
    for row in range(len(queries)):
        query = queries.part(row, row + 1)
        found = model.influence(query, items)
        if found is None:
            pytest.skip("has no such decomposition")
        rows, parts = found
        assert parts.shape == (len(rows), len(items))
        assert len(np.unique(rows)) == len(rows)
        assert set(rows) <= set(query.histories.items)
        said = ~np.isnan(scores[row])
        np.testing.assert_allclose(parts.sum(axis=0)[said], scores[row][said], rtol=1e-4, atol=1e-7)


# Updates

# What an item that nobody touched yet changes the others for, and why.
JOINS_NEWS = {"graph_content": "its labels are edges of the graph; see test_content_models.py"}
STILL = {"learning_rate": 1e-12}  # an update that cannot move: it ends where it begins


def updated(name, old, world, **config) -> Recommender:
    """Return what becomes of a fitted recommender in another world; the one given stays as it is."""
    model = copy.copy(old)
    model.config = old.config.model_copy(update=config)
    return model.update(world.train)


def shelved(world, log: pl.DataFrame, items: pl.DataFrame):
    """Return a world of another log and items: its rows in no order, the texts of items as they were."""
    made = Catalogue.of(items, log, world.as_of)
    order = np.random.default_rng(1).permutation(len(made.items))
    ids, start, stop = made.items.ids.gather(order), made.available_from[order], made.available_to[order]
    catalogue = Catalogue(Vocabulary(ids), made.attributes[order], start, stop)
    vectors = np.random.default_rng(2).normal(size=(len(order), 16)).astype(np.float32)
    rows = world.catalogue.items.rows(ids)
    vectors[rows >= 0] = world.vectors[rows[rows >= 0]]
    return replace(world, log=log, catalogue=catalogue, vectors=vectors)


@pytest.fixture(scope="module")
def news(items_of) -> pl.DataFrame:
    """ITEMS that are new, and sort before all others."""
    return items_of({"a0": (96.0, None)}, {"a0": ["a", "i0"]})


@pytest.fixture(scope="module")
def grown(crowd, log_of, news):
    """The crowd later on: more events and users, a new item, and one that is gone."""
    more = [(f"new{n}", f"i{(3 * n + k) % 40:02}", 91.0 + k, 1.0) for n in range(20) for k in range(4)]
    more += [(f"u{n:03}", "a0", 96.0, 1.0) for n in range(0, 40, 3)]
    more += [(f"u{n:03}", f"i{n % 7 + 20}", 97.0, 2.0) for n in range(30)]
    log = pl.concat([crowd.log, log_of(more)]).filter(pl.col("item_id") != "i05")
    items = crowd.catalogue.attributes.filter(pl.col("item_id") != "i05")
    return shelved(crowd, log, pl.concat([items, news]))


@every
def test_an_update_says_of_the_same_items_what_a_fit_says(name, fitted, grown, tmp_path):
    old, fresh = fitted(name, "crowd"), fit(name, grown)
    before = state(old, tmp_path / "before", name)
    model = updated(name, old, grown)
    assert model.items.ids.equals(grown.catalogue.items.ids)
    queries = grown.queries()
    scores = model.score(queries)
    assert scores.shape == (120, len(grown.catalogue.items))
    assert same(np.isnan(scores), np.isnan(fresh.score(queries)))
    assert not np.isinf(scores).any()
    new = grown.catalogue.items.row("a0")
    assert old.items.row("a0") < 0
    assert not np.isnan(scores[:, new]).all()
    assert "i05" not in set(model.recommend(queries, 50, grown.catalogue, name)["item_id"])
    assert (state(model, tmp_path / "after", name) == state(fresh, tmp_path / "fresh", name)) is (
        model.updates_exactly()
    )
    assert state(old, tmp_path / "again", name) == before  # a copy was updated, and shares nothing with it


@every
def test_a_loaded_model_updates_to_the_same_bits(name, fitted, grown, tmp_path):
    old = fitted(name, "crowd")
    old.save(tmp_path / "saved", name)
    here, there = updated(name, old, grown), load(tmp_path / "saved").update(grown.train)
    assert state(here, tmp_path / "here", name) == state(there, tmp_path / "there", name)
    again = updated(name, there, grown)  # and so on
    assert again.score(grown.queries()).shape == (120, len(grown.catalogue.items))


@every
def test_an_update_goes_on_from_what_each_item_was(name, fitted, crowd, news):
    """Where nothing may move, items keep their scores, whatever rows they have now."""
    old = fitted(name, "crowd")
    if old.updates_exactly() or "learning_rate" not in type(old.config).model_fields:
        pytest.skip("is fitted anew, or takes no steps of a size")
    items = [crowd.catalogue.attributes, *([] if name in JOINS_NEWS else [news])]
    world = shelved(crowd, crowd.log, pl.concat(items))
    model = updated(name, old, world, **STILL)
    there = model.score(world.queries(), model.items.rows(old.items.ids))
    slack = {"bpr": 2e-3}.get(name, 1e-5)  # the map of bpr is fitted again
    np.testing.assert_allclose(there, old.score(crowd.queries()), rtol=1e-3, atol=slack)


@every
def test_an_update_without_news_keeps_the_taste(name, two_tastes):
    """Half of what there is to know, then all of it."""
    half = replace(two_tastes, log=two_tastes.log.filter(pl.col("user_id").str.tail(1).is_in(list("01234"))))
    model = fit(name, half, **SMALL.get(name, {}))
    if not model.reads_history:
        pytest.skip("not personal, and says so")
    if name in FOLLOWS_ORDER:
        pytest.skip(FOLLOWS_ORDER[name])
    assert_tastes(model.update(two_tastes.train), two_tastes)
    assert_tastes(model.update(two_tastes.train), two_tastes)


@every
def test_an_update_needs_something_to_go_on_from_and_something_to_learn(name, fitted, lopsided):
    with pytest.raises(ContractError, match="nothing to go on from: fit or load"):
        make(name).update(lopsided.train)
    old = copy.copy(fitted(name, "lopsided"))
    before = old.score(lopsided.queries())
    with pytest.raises(ContractError, match="no interactions to learn from"):
        old.update(replace(lopsided, log=lopsided.log.clear()).train)
    assert same(old.score(lopsided.queries()), before)


@every
def test_an_update_to_another_catalogue_altogether_is_a_fit(name, fitted, crowd, world_of, tmp_path):
    rows = [(f"u{n}", f"x{(n + k) % 9}", float(k), 1.0) for n in range(30) for k in range(4)]
    other = world_of(rows, extra=["x9"], width=16)
    model, fresh = updated(name, fitted(name, "crowd"), other), fit(name, other)
    assert state(model, tmp_path / "model", name) == state(fresh, tmp_path / "fresh", name)
    nothing_learned = world_of([("u", "x9", 1.0, 1.0)], extra=[f"x{n}" for n in range(9)], width=16)
    model = fit(name, nothing_learned).update(other.train)
    assert same(np.isnan(model.score(other.queries())), np.isnan(fresh.score(other.queries())))


# Saving and loading


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from profiles.schema import ITEMS
from recsys.dataset import Catalogue, Histories, Queries
from recsys.models import load

here = Path(sys.argv[1])
asked = np.load(here / "queries.npz", allow_pickle=False)
parts = {of: Histories(*(asked[f"{of}.{n}"] for n in ("offsets", "items", "weights", "times")))
         for of in ("histories", "seen")}
ids = [str(i) for i in range(len(asked["at"]))]
for name in sys.argv[2:]:
    model = load(here / name)
    catalogue = Catalogue(model.items, ITEMS.empty(), asked["from"], asked["to"])
    queries = Queries(len(model.items), ids, parts["histories"], parts["seen"], asked["at"])
    ranked = model.rank(queries, 20, catalogue)
    np.savez(here / f"{name}.npz", rows=ranked.rows, scores=ranked.scores, raw=model.score(queries),
             items=np.array(model.items.ids.to_list()))
"""


@pytest.fixture(scope="module")
def elsewhere(fitted, crowd, tmp_path_factory) -> Path:
    """Save every recommender, and let a new process in another folder load and ask each."""
    here = tmp_path_factory.mktemp("saved")
    queries, arrays = crowd.queries(), ("offsets", "items", "weights", "times")
    asked = {f"histories.{n}": getattr(queries.histories, n) for n in arrays}
    asked |= {f"seen.{n}": getattr(queries.seen, n) for n in arrays}
    span = {"from": crowd.catalogue.available_from, "to": crowd.catalogue.available_to}
    np.savez(here / "queries.npz", at=queries.at, **asked, **span)
    for name in RECOMMENDERS:
        fitted(name, "crowd").save(here / name, name)
    away = tmp_path_factory.mktemp("away")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(here), *RECOMMENDERS], cwd=away, env=environment, check=True
    )
    return here


@every
def test_a_new_process_ranks_the_same(name, fitted, crowd, elsewhere):
    model, queries = fitted(name, "crowd"), crowd.queries()
    ranked = model.rank(queries, 20, crowd.catalogue)
    there = np.load(elsewhere / f"{name}.npz", allow_pickle=False)
    assert there["items"].tolist() == model.items.ids.to_list()
    assert same(there["rows"], ranked.rows)
    assert same(there["scores"], ranked.scores)
    assert same(there["raw"], model.score(queries))
    here = load(elsewhere / name)
    assert type(here) is RECOMMENDERS[name]
    assert here.config == model.config
    assert same(here.score(queries), model.score(queries))


@every
def test_a_saved_folder_holds_items_and_numbers_only(name, elsewhere, crowd):
    folder = elsewhere / name
    assert sorted(p.name for p in folder.iterdir()) == [
        "items.parquet",
        "recommender.json",
        "state.safetensors",
    ]
    items = pl.read_parquet(folder / "items.parquet")
    assert items.columns == ["id"]
    assert items["id"].equals(crowd.catalogue.items.ids)
    tensors = load_file(folder / "state.safetensors")
    kind = RECOMMENDERS[name]
    assert {key.split(".")[0] for key in tensors} == set(kind.state)
    users = crowd.log["user_id"].unique()
    for file in ("recommender.json", "state.safetensors"):
        content = (folder / file).read_bytes()
        assert not any(user.encode() in content for user in users), file
    if not kind.holds_users:
        parts = (".data", ".indices", ".indptr")
        shapes = {key: value.shape for key, value in tensors.items() if not key.endswith(parts)}
        shapes |= json.loads((folder / "recommender.json").read_text())["sparse"]
        assert not [key for key, shape in shapes.items() if len(users) in shape]


@every
def test_two_saves_are_the_same_bytes(name, fitted, tmp_path):
    model = fitted(name, "lopsided")
    for folder in ("one", "two"):
        model.save(tmp_path / folder, name)
    load(tmp_path / "one").save(tmp_path / "three", name)
    for file in ("state.safetensors", "recommender.json", "items.parquet"):
        contents = {(tmp_path / folder / file).read_bytes() for folder in ("one", "two", "three")}
        assert len(contents) == 1, file
    with pytest.raises(FileExistsError):
        model.save(tmp_path / "one", name)


@every
def test_a_configuration_with_an_unknown_key_is_refused(name, fitted, tmp_path):
    fitted(name, "lopsided").save(tmp_path / "saved", name)
    file = tmp_path / "saved" / "recommender.json"
    about = json.loads(file.read_text())
    assert about["recommender"] == name
    file.write_text(json.dumps(about | {"config": about["config"] | {"no_such_setting": 1}}))
    with pytest.raises(ValidationError, match="no_such_setting"):
        load(tmp_path / "saved")
    file.write_text(json.dumps(about | {"recommender": "no such one"}))
    with pytest.raises(ContractError, match="no recommender is called 'no such one'"):
        load(tmp_path / "saved")
