"""What knows items by their content, against slow versions of themselves, and what is new among them."""

from dataclasses import replace
from itertools import pairwise
from math import log as ln

import numpy as np
import polars as pl
import pytest

from profiles.schema import ContractError
from recsys import training
from recsys.dataset import Catalogue, Dataset
from recsys.models import RECOMMENDERS
from recsys.recommender import NotApplicableError
from recsys.vectors import unit

REPEATS = ("binary", "sum", "log", "last")


def fit(name, train, **config):
    kind = RECOMMENDERS[name]
    return kind(kind.config_class(**config)).fit(train)


def newest_ages(world) -> np.ndarray:
    """Return the days since each pair's newest interaction at `as_of`, (users, items); inf if none."""
    users = world.log["user_id"].unique().sort().to_list()
    ages = np.full((len(users), len(world.catalogue.items)), np.inf)
    for user, item, when in world.log["user_id", "item_id", "timestamp"].rows():
        cell = users.index(user), world.catalogue.items.row(item)
        ages[cell] = min(ages[cell], (world.as_of - when).total_seconds() / 86_400)
    return ages


# Vectors a user brings


@pytest.mark.parametrize("half_life", [None, 4.0])
@pytest.mark.parametrize("repeats", REPEATS)
def test_content_vectors_by_loops(repeats, half_life, lopsided):
    vectors = lopsided.vectors.copy()
    vectors[[2, 5]] = np.nan
    train = replace(lopsided.train, brought={"images": vectors})
    scores = fit("content_vectors", train, repeats=repeats, half_life_days=half_life).score(
        lopsided.queries()
    )
    x, ages = lopsided.train.matrix(repeats).toarray().astype(float), newest_ages(lopsided)
    for user in range(23):
        liked = np.zeros(6)
        for item in np.flatnonzero(x[user]):
            if not np.isnan(vectors[item]).any():
                fading = 1 if half_life is None else 0.5 ** (ages[user, item] / half_life)
                liked += x[user, item] * fading * vectors[item]
        expected = vectors @ (liked / np.linalg.norm(liked)) if liked.any() else np.full(14, np.nan)
        np.testing.assert_allclose(scores[user], expected, rtol=1e-4, atol=1e-6)


def test_content_vectors_ranks_what_nobody_touched(lopsided):
    vectors = np.full((14, 2), np.nan, np.float32)
    vectors[[0, 12]], vectors[[1, 13]] = [1, 0], [0.6, 0.8]
    model = fit("content_vectors", replace(lopsided.train, brought={"a": vectors}))
    queries = lopsided.ask({"u": ["i00", "i03"], "v": ["i03"]})
    ranked = model.rank(queries, 14, lopsided.catalogue)
    assert ranked.rows[0, :4].tolist() == [12, 1, 13, -1]
    assert ranked.lengths[1] == 0


def test_content_vectors_reads_the_file_it_is_told_to(lopsided):
    one, two = lopsided.vectors, lopsided.vectors[:, ::-1] ** 3
    both = replace(lopsided.train, brought={"one": one, "two": two})
    assert np.array_equal(fit("content_vectors", both, vectors="two").vectors, two, equal_nan=True)
    for name in (None, "three"):
        with pytest.raises(ContractError, match="names none of the files brought: one, two"):
            fit("content_vectors", both, vectors=name)
    with pytest.raises(NotApplicableError, match="nobody brought vectors"):
        fit("content_vectors", lopsided.without_text().train)
    with pytest.raises(NotApplicableError, match="no item of the catalogue has a vector in 'one'"):
        fit("content_vectors", replace(lopsided.train, brought={"one": one * np.nan}))
    timeless = replace(both, timeless=True)
    with pytest.raises(NotApplicableError, match="half_life_days needs times"):
        fit("content_vectors", timeless, vectors="one", half_life_days=2)


# Labels and texts that fade


@pytest.mark.parametrize("repeats", REPEATS)
def test_content_tags_fades_by_loops(repeats, lopsided):
    own = [set(row[0] or ()) for row in lopsided.catalogue.attributes.select("categories").iter_rows()]
    names = sorted(set().union(*own))
    v = np.zeros((14, len(names)))
    for item, has in enumerate(own):
        for name in has:
            v[item, names.index(name)] = ln(15 / (1 + sum(name in other for other in own))) + 1
    v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)
    x, ages = lopsided.train.matrix(repeats).toarray().astype(float), newest_ages(lopsided)
    model = fit("content_tags", lopsided.train, repeats=repeats, half_life_days=4.0)
    scores = model.score(lopsided.queries())
    for user in range(23):
        done = np.flatnonzero(x[user])
        liked = sum(x[user, item] * 0.5 ** (ages[user, item] / 4) * v[item] for item in done)
        expected = v @ liked / np.linalg.norm(liked)
        np.testing.assert_allclose(scores[user], np.where(expected == 0, np.nan, expected), rtol=1e-4)
        history, parts = model.influence(lopsided.queries().part(user, user + 1), np.arange(14))
        assert history.tolist() == done.tolist()
        np.testing.assert_allclose(parts.sum(axis=0), expected, rtol=1e-4, atol=1e-7)
    even = fit("content_tags", lopsided.train, repeats=repeats).score(lopsided.queries())
    assert np.nanmax(np.abs(scores - even)) > 0.01


@pytest.mark.parametrize("repeats", REPEATS)
def test_content_text_fades_by_loops(repeats, lopsided):
    """What was chosen fades; what the user wrote is taken as it comes."""
    v = lopsided.vectors.astype(float)
    written = np.random.default_rng(2).normal(size=(23, 6)).astype(np.float32)
    written[::3] = np.nan
    x, ages = lopsided.train.matrix(repeats).toarray().astype(float), newest_ages(lopsided)
    model = fit("content_text", lopsided.train, repeats=repeats, own_words=0.3, half_life_days=4.0)
    scores = model.score(lopsided.queries(vectors=written))
    for user in range(23):
        done = [item for item in np.flatnonzero(x[user]) if not np.isnan(v[item]).any()]
        liked = sum(x[user, item] * 0.5 ** (ages[user, item] / 4) * v[item] for item in done)
        mixed = liked / np.linalg.norm(liked)
        if not np.isnan(written[user]).any():
            mixed = 0.7 * mixed + 0.3 * written[user] / np.linalg.norm(written[user])
        np.testing.assert_allclose(scores[user], v @ mixed / np.linalg.norm(mixed), rtol=1e-4, atol=1e-6)


def test_centred_texts_by_loops(lopsided):
    """What all texts have in common is no likeness, in items as in own words."""
    v = unit(lopsided.vectors.astype(float) + 3)  # all in one corner
    v[4] = np.nan
    world = replace(lopsided.train, vectors=(2 * v).astype(np.float32))
    written = np.random.default_rng(2).normal(size=(23, 6)).astype(np.float32) + 3
    written[::3] = np.nan
    model = fit("content_text", world, own_words=0.3, centred=True)
    scores = model.score(lopsided.queries(vectors=written))
    mean = np.mean([row for row in v if not np.isnan(row).any()], axis=0)
    turned, x = unit(v - mean), lopsided.train.matrix("binary").toarray()
    for user in range(23):
        liked = sum(turned[item] for item in np.flatnonzero(x[user]) if item != 4)
        mixed = liked / np.linalg.norm(liked)
        if not np.isnan(written[user]).any():
            own = written[user] / np.linalg.norm(written[user]) - mean
            mixed = 0.7 * mixed + 0.3 * own / np.linalg.norm(own)
        np.testing.assert_allclose(scores[user], turned @ mixed / np.linalg.norm(mixed), rtol=1e-3, atol=1e-5)
    plain = fit("content_text", world, own_words=0.3).score(lopsided.queries(vectors=written))
    assert np.nanmin(plain) > 0.8  # everything near everything


def test_content_ease_by_loops(lopsided):
    """Each row of EASE's weights is regressed on the texts of the touched items, by least squares alone."""
    v, ridge, x = unit(lopsided.vectors.astype(float)), 0.5, lopsided.train.matrix("binary").toarray()
    v[3] = np.nan  # touched, without a text
    train = replace(lopsided.train, vectors=(2 * v).astype(np.float32))
    touched, texts = x.any(axis=0), ~np.isnan(v[:, 0])
    assert (texts & ~touched).any()
    taught = np.flatnonzero(touched & texts)
    mean = v[taught].mean(axis=0)
    z = np.hstack([v - mean, np.ones((14, 1))])
    weights = fit("ease", train, l2=20.0).weights
    shrunk = np.vstack([z[taught], np.sqrt(ridge) * np.eye(7)])  # ridge as rows of its own

    def map_to(targets):
        return np.linalg.lstsq(shrunk, np.concatenate([targets, np.zeros(7)]), rcond=None)[0]

    rows = {j: map_to(weights[j, taught]) for j in np.flatnonzero(touched)}
    foretell = np.array([map_to([rows[j][n] for j in taught]) for n in range(7)]).T
    rows |= {j: z[j] @ foretell for j in np.flatnonzero(texts & ~touched)}
    model = fit("content_ease", train, l2=20.0, ridge=ridge, own_words=0.3)
    written = np.random.default_rng(2).normal(size=(23, 6)).astype(np.float32)
    written[::3] = np.nan
    asked = lopsided.queries(vectors=written)
    scores = model.score(asked)
    for user, done in enumerate(x):
        mixed = sum(rows[j] for j in np.flatnonzero(done))
        mixed = mixed / np.linalg.norm(mixed)
        if not np.isnan(written[user]).any():
            own = np.append(written[user] / np.linalg.norm(written[user]) - mean, 1) @ foretell
            mixed = 0.7 * mixed + 0.3 * own / np.linalg.norm(own)
        expected = z @ (mixed / np.linalg.norm(mixed))
        np.testing.assert_allclose(scores[user], expected, rtol=1e-3, atol=1e-5)
        assert np.isnan(scores[user, 3])
    alone = model.score(lopsided.ask({"w": []}, vectors=written[1:2]))[0]
    own = np.append(written[1] / np.linalg.norm(written[1]) - mean, 1) @ foretell
    np.testing.assert_allclose(alone, z @ own / np.linalg.norm(own), rtol=1e-3, atol=1e-5)
    new = model.score(lopsided.ask({"n": [lopsided.catalogue.items.ids[int(np.flatnonzero(~touched)[0])]]}))
    assert np.isfinite(new[0, taught]).all()  # a history nobody else shares still has its words


def test_content_ease_knows_what_goes_with_a_new_item(world_of):
    """Two kinds of items by their texts; of each kind one is new: it goes with its own."""
    random = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 8)
    vectors = (np.eye(2)[kinds] + 0.1 * random.normal(size=(16, 2))).astype(np.float32)
    rows = [
        (f"u{user}", f"x{8 * (user % 2) + item:02}", 1.0, 1.0)
        for user in range(40)
        for item in random.choice(7, 4, replace=False)
    ]
    world = replace(world_of(rows, extra=["x07", "x15"]), vectors=vectors)
    scores = fit("content_ease", world.train, l2=10.0).score(world.ask({"u": ["x00"], "v": ["x08"]}))
    assert scores[0, 7] > 0 > scores[0, 15]
    assert scores[1, 15] > 0 > scores[1, 7]


@pytest.mark.parametrize("name", ["content_attributes", "content_tags", "content_text", "item_knn"])
def test_what_fades_needs_times(name, lopsided):
    timeless = replace(lopsided.train, timeless=True)
    with pytest.raises(NotApplicableError, match="half_life_days needs times"):
        fit(name, timeless, half_life_days=2)
    fit(name, timeless)


# Attributes


def described(world):
    """Return the world's data, its items with a maker, a price, an age group and some facets."""
    random = np.random.default_rng(5)
    attributes = world.catalogue.attributes.with_columns(
        brand=pl.Series([None if n == 4 else f"brand {n % 3}" for n in range(14)]),
        price=pl.Series([None if n == 2 else float(random.lognormal(2, 1)) for n in range(14)]),
        age=pl.Series([n % 2 * 12 for n in range(14)]),
        facets=pl.Series([["old", "big", "old"] if n < 3 else [f"brand {n % 3}"] for n in range(14)]),
    ).with_columns(categories=pl.lit(None, pl.List(pl.String)))
    return replace(world.train, catalogue=replace(world.catalogue, attributes=attributes))


@pytest.mark.parametrize("half_life", [None, 4.0])
@pytest.mark.parametrize("repeats", REPEATS)
def test_content_attributes_by_loops(repeats, half_life, lopsided):
    train = described(lopsided)
    rows = train.catalogue.attributes.to_dicts()
    prices = sorted(row["price"] for row in rows if row["price"] is not None)
    edges = [np.quantile(prices, share) for share in (1 / 3, 2 / 3)]
    own = [
        {("facets", facet) for facet in row["facets"]}
        | {("brand", row["brand"]), ("age", row["age"])}
        | ({("price", sum(row["price"] >= edge for edge in edges))} if row["price"] is not None else set())
        for row in rows
    ]
    own = [{label for label in has if label[1] is not None} for has in own]
    names = sorted(set().union(*own), key=str)
    v = np.zeros((14, len(names)))
    for item, has in enumerate(own):
        for label in has:
            v[item, names.index(label)] = ln(15 / (1 + sum(label in other for other in own))) + 1
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    x = lopsided.train.matrix(repeats).toarray().astype(float)
    if half_life is not None:
        x *= 0.5 ** (newest_ages(lopsided) / half_life)
    expected = (x @ v) / np.linalg.norm(x @ v, axis=1, keepdims=True) @ v.T
    model = fit("content_attributes", train, repeats=repeats, bands=3, half_life_days=half_life)
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores, np.where(expected == 0, np.nan, expected), rtol=1e-4)
    query = lopsided.queries().part(3, 4)
    history, parts = model.influence(query, np.arange(14))
    for item, part in zip(history, parts, strict=True):
        np.testing.assert_allclose(
            part, x[3, item] * v[item] @ v.T / np.linalg.norm(x[3] @ v), rtol=1e-4, atol=1e-7
        )
    assert set(history) == set(np.flatnonzero(x[3]))


def test_only_the_attributes_asked_for_are_read(lopsided):
    train = described(lopsided)
    model = fit("content_attributes", train, attributes=["brand"])
    assert model.by_label.shape == (3, 14)
    scores = model.score(lopsided.ask({"u": ["i01"]}))[0]
    assert np.flatnonzero(~np.isnan(scores)).tolist() == [1, 7, 10, 13]  # i13 is new; i04 has no brand
    with pytest.raises(ContractError, match=r"'colour' is none of the items' .*brand.*age"):
        fit("content_attributes", train, attributes=["colour"])
    with pytest.raises(ContractError, match="'title' is none of"):
        fit("content_attributes", train, attributes=["title"])
    bare = train.catalogue.attributes.select("item_id", "title", "available_from", "available_to")
    bare = bare.with_columns(brand=pl.lit(None, pl.String))
    with pytest.raises(NotApplicableError, match="no item has an attribute"):
        fit("content_attributes", replace(train, catalogue=replace(train.catalogue, attributes=bare)))


def test_a_number_falls_into_one_of_equally_many(lopsided):
    train = described(lopsided)
    bands = fit("content_attributes", train, attributes=["price"], bands=3).by_label
    assert sorted(bands.getnnz(axis=1)) == [4, 4, 5]
    price = train.catalogue.attributes["price"].to_numpy()
    spans = sorted((price[row.indices].min(), price[row.indices].max()) for row in bands)
    assert all(below[1] < above[0] for below, above in pairwise(spans))
    odd = train.catalogue.attributes.with_columns(price=pl.Series([np.nan, np.inf, 5.0] + [1.0] * 11))
    odd = replace(train, catalogue=replace(train.catalogue, attributes=odd))
    for bands in (1, 2, 5):  # as bands and as they are: what is no number is no label
        found = fit("content_attributes", odd, attributes=["price"], bands=bands).by_label
        assert set(found.indices) == set(range(2, 14))


# A graph with content


@pytest.fixture
def learned(monkeypatch):
    """The networks that were trained, the newest last."""
    networks, train = [], training.train

    def spy(task, config):
        networks.append(task.module)
        return train(task, config)

    monkeypatch.setattr(training, "train", spy)
    return networks


@pytest.mark.parametrize("repeats", ["binary", "sum"])
@pytest.mark.parametrize("texts", [True, False])
def test_graph_content_by_dense_products(texts, repeats, lopsided, learned):
    train = described(lopsided)
    if not texts:
        train = replace(train, vectors=None)
    model = fit(
        "graph_content", train, attributes=["brand", "facets"], label_weight=0.5, repeats=repeats,
        factors=5, layers=2, epochs=3, learning_rate=0.05,
    )  # fmt: skip
    has = [
        {("brand", row["brand"])} - {("brand", None)} | {("facets", facet) for facet in row["facets"]}
        for row in train.catalogue.attributes.to_dicts()
    ]
    names = sorted(set().union(*has))
    x = train.matrix(repeats).toarray().astype(float)
    joined = np.vstack([x, [[0.5 * (name in own) for own in has] for name in names]])
    nodes = len(joined)
    a = np.zeros((nodes + 14, nodes + 14))
    a[:nodes, nodes:], a[nodes:, :nodes] = joined, joined.T
    scale = 1 / np.sqrt(a.sum(axis=1))
    a *= scale[:, None] * scale
    made = learned[0]
    own = made.items.detach().double().numpy() * (x.sum(axis=0) > 0)[:, None]
    if texts:
        own += np.nan_to_num(train.vectors) @ made.map.weight.detach().double().numpy().T
    first = np.vstack([np.zeros((23, 5)), made.labels.detach().double().numpy(), own])
    mean = (first + a @ first + a @ a @ first) / 3
    scores = model.score(lopsided.queries())
    np.testing.assert_allclose(scores, mean[:23] @ mean[nodes:].T, rtol=1e-3, atol=1e-5)
    assert not np.isnan(scores).any()


def test_graph_content_places_what_nobody_touched(two_tastes, items_of):
    ids = [*two_tastes.catalogue.items.ids, "new p", "new q", "new"]
    tastes = {i: ["things", f"of {i.removeprefix('new ')[0]}"] for i in ids if i != "new"}
    catalogue = Catalogue.of(
        items_of(dict.fromkeys(ids, (0.0, None)), tastes), two_tastes.log, two_tastes.as_of
    )
    train = Dataset.of(two_tastes.log, catalogue, two_tastes.as_of)
    model = fit("graph_content", train, factors=8, epochs=60, learning_rate=0.02)
    queries = catalogue.queries(
        two_tastes.log["user_id"].unique().sort().to_list(), two_tastes.log, two_tastes.as_of
    )
    scores = dict(zip(catalogue.items.ids, model.score(queries).T, strict=True))
    likes_p = np.array([user[0] == "a" for user in queries.ids])
    assert ((scores["new p"] > scores["new q"]) == likes_p).all()
    for strange, new in (("q", "new p"), ("p", "new q")):
        own = likes_p == (new == "new p")
        assert all((scores[new] > scores[i])[own].all() for i in ids if i[0] == strange)
    assert np.isnan(scores["new"]).all()
    # As a past, too, it says what its labels say.
    past = two_tastes.log.head(1).with_columns(user_id=pl.lit("u"), item_id=pl.lit("new q"))
    asked = catalogue.queries(["u"], past, two_tastes.as_of)
    ranked = model.rank(asked, 9, catalogue)
    assert {catalogue.items.ids[int(row)][0] for row in ranked.rows[0]} == {"q"}


def test_graph_content_hides_own_vectors_while_training(lopsided, learned):
    fit("graph_content", described(lopsided), attributes=["brand"], factors=4, epochs=1, hidden=0.5)
    network = learned[0]
    network.map = None
    network.train()
    hidden = [(network.first()[1].detach() == 0).all(1).numpy() for _ in range(50)]
    assert (np.array(hidden)[:, 11:]).all()  # nobody touched them: there is nothing to hide
    assert 0.4 < np.array(hidden)[:, :11].mean() < 0.6
    network.eval()
    assert not (network.first()[1][:-3] == 0).all(1).any()


def test_graph_content_goes_on_from_labels_by_name_and_the_map_of_texts(lopsided, learned):
    """Where nothing may move, a label keeps its vector in any column, and a new one begins among its like."""
    settings = {"attributes": ["brand", "facets"], "factors": 4, "learning_rate": 0.05}
    train = described(lopsided)
    model = fit("graph_content", train, epochs=3, **settings)
    names = ["brand:brand 0", "brand:brand 1", "brand:brand 2"]
    names += [f"facets:{facet}" for facet in ("big", "brand 0", "brand 1", "brand 2", "old")]
    old = dict(zip(names, model.content["labels"], strict=True))
    own, table = model.first.copy(), model.content["map"].copy()
    assert np.isnan(own[11:]).all()
    assert not np.isnan(own[:11]).any()
    facets = [["a new one", "old"] if n in (0, 4) else ["old", "big"] if n < 3 else [] for n in range(14)]
    attributes = train.catalogue.attributes.with_columns(facets=pl.Series(facets, dtype=pl.List(pl.String)))
    again = replace(train, catalogue=replace(train.catalogue, attributes=attributes))
    model.config = model.config.model_copy(update={"learning_rate": 1e-12})
    model.update(again)
    found = learned[-1].labels.detach().numpy()
    kept = ["brand:brand 0", "brand:brand 1", "brand:brand 2", "facets:big", "facets:old"]
    np.testing.assert_allclose(found[[0, 1, 2, 4, 5]], [old[name] for name in kept], atol=1e-6)
    # Item 0 is of brand 0 and old, and item 4, of no brand, is old.
    among = [(old["brand:brand 0"] + old["facets:old"]) / 2, old["facets:old"]]
    np.testing.assert_allclose(found[3], np.mean(among, axis=0), atol=1e-6)
    np.testing.assert_allclose(model.content["map"], table, atol=1e-6)
    np.testing.assert_allclose(model.first, own, atol=1e-6)
    # Texts of another length are mapped anew, and none at all need no map.
    for width in (3, None):
        wider = replace(again, vectors=None if width is None else lopsided.vectors[:, :width])
        assert not np.isnan(model.update(wider).score(lopsided.queries())).all()
        assert model.content.get("map", np.zeros((4, 0))).shape == (4, width or 0)


def test_graph_content_of_texts_alone_is_saved_and_goes_on(lopsided, tmp_path):
    model = fit("graph_content", lopsided.train, attributes=[], factors=4, epochs=1)
    model.save(tmp_path / "model", "graph_content")
    again = RECOMMENDERS["graph_content"].load(tmp_path / "model")
    assert np.array_equal(
        again.update(lopsided.train).score(lopsided.queries()),
        model.update(lopsided.train).score(lopsided.queries()),
        equal_nan=True,
    )


def test_graph_content_says_when_there_is_no_content(lopsided):
    bare = lopsided.catalogue.attributes.with_columns(categories=pl.lit(None, pl.List(pl.String)))
    train = replace(lopsided.without_text().train, catalogue=replace(lopsided.catalogue, attributes=bare))
    with pytest.raises(NotApplicableError, match="no item has a category, tag or text"):
        fit("graph_content", train)
    with pytest.raises(ContractError, match="'genre' is none of the items'"):
        fit("graph_content", lopsided.train, attributes=["genre"])
    with pytest.raises(NotApplicableError):
        fit("graph_content", train, attributes=[])
