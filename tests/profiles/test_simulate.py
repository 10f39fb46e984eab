from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles.schema import EVENTS, ITEMS, TIME, USERS
from profiles.simulate import World, WorldConfig, simulate
from profiles.simulate_text import CATEGORIES

SMALL = WorldConfig(users=60, items=40, events=1500, days=30, seed=3)


@pytest.fixture(scope="module")
def world() -> World:
    return simulate()


@pytest.fixture(scope="module")
def small() -> World:
    return simulate(SMALL)


def test_the_same_configuration_gives_the_same_world(small: World) -> None:
    again = simulate(replace(SMALL))
    for name in ("events", "items", "users"):
        assert_frame_equal(getattr(small, name), getattr(again, name))
    at = SMALL.start + timedelta(days=9)
    np.testing.assert_array_equal(small.preferences(at), again.preferences(at))
    assert not simulate(replace(SMALL, seed=4)).events.equals(small.events)


def test_frames_keep_their_contracts(world: World) -> None:
    for frame, contract in ((world.events, EVENTS), (world.items, ITEMS), (world.users, USERS)):
        assert_frame_equal(contract.conform(frame), frame)
        assert frame[contract.key[0]].is_unique().all()
    assert world.events["timestamp"].is_sorted()
    assert world.events.join(world.users, on="user_id", how="anti").is_empty()
    mentioned = world.events.drop_nulls("item_id")
    assert mentioned.join(world.items, on="item_id", how="anti").is_empty()
    assert world.users.schema["joined"] == TIME
    assert world.items["title"].is_unique().all()
    assert world.items["tags"].list.len().is_between(2, 5).all()
    assert world.items["categories"].list.len().is_between(1, 2).all()


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        WorldConfig(users=1, items=1, events=8, days=10),
        WorldConfig(users=60, items=3, events=480, days=10, start=datetime(1969, 12, 28, 5, tzinfo=UTC)),
    ],
)
def test_a_world_of_any_size_has_exactly_its_events_inside_its_days(config: WorldConfig) -> None:
    events = simulate(config).events
    assert events.height == config.events
    assert events["timestamp"].min() > config.start
    assert events["timestamp"].max() < config.start + timedelta(days=config.days)


def test_a_world_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="8 events a user"):
        WorldConfig(users=100, events=500)
    with pytest.raises(ValueError, match="time zone"):
        WorldConfig(start=datetime(2026, 1, 1))


def test_event_types_have_their_shares_and_columns(world: World) -> None:
    counts = dict(world.events["event_type"].value_counts().iter_rows())
    assert counts == {
        "view": 80_000, "cart": 9_000, "purchase": 5_000, "rating": 3_000, "review": 1_500, "query": 1_500
    }  # fmt: skip
    kind = pl.col("event_type")
    stated = world.events.select(
        item=(pl.col("item_id").is_null() == (kind == "query")).all(),
        text=(pl.col("text").is_not_null() == kind.is_in(["query", "review"])).all(),
        value=(pl.col("value").is_not_null() == kind.is_in(["purchase", "rating", "review"])).all(),
        stars=pl.col("value").filter(kind.is_in(["rating", "review"])).is_in([1.0, 2.0, 3.0, 4.0, 5.0]).all(),
    )
    assert all(stated.row(0))
    paid = world.events.filter(kind == "purchase").join(world.items, on="item_id")
    assert (paid["value"] == paid["price"]).all()
    device = world.events["properties"].drop_nulls().str.json_path_match("$.device")
    assert 0 < len(device) < world.events.height
    assert set(device) == {"mobile", "desktop", "tablet"}


def test_nothing_happens_before_an_item_is_there_or_a_user_has_joined(world: World) -> None:
    early = world.events.join(world.items, on="item_id").filter(
        pl.col("timestamp") < pl.col("available_from")
    )
    assert early.is_empty()
    early = world.events.join(world.users, on="user_id").filter(pl.col("timestamp") < pl.col("joined"))
    assert early.is_empty()
    appeared = (world.items["available_from"] > world.config.start).mean()
    assert appeared == pytest.approx(0.4, abs=0.001)


def test_whatever_is_not_a_query_follows_a_view_of_the_same_pair(world: World) -> None:
    moment = pl.col("timestamp")
    pairs = world.events.drop_nulls("item_id").group_by("user_id", "item_id").agg(
        viewed=moment.filter(event_type="view").min(),
        cart=moment.filter(event_type="cart").min(),
        purchase=moment.filter(event_type="purchase").min(),
        judged=moment.filter(pl.col("event_type").is_in(["rating", "review"])).min(),
    )  # fmt: skip
    assert pairs["viewed"].null_count() == 0
    for later in ("cart", "purchase", "judged"):
        assert (pairs[later] > pairs["viewed"]).all()
    assert pairs.filter(pl.col("purchase").is_not_null(), pl.col("cart").is_null()).is_empty()
    assert (pairs["purchase"] > pairs["cart"]).all()


def test_a_few_users_only_write_and_a_few_do_very_much(world: World) -> None:
    users = world.events.group_by("user_id").agg(events=pl.len(), items=pl.col("item_id").n_unique())
    typed = world.events.group_by("user_id").agg(touched=pl.col("item_id").is_not_null().sum())
    assert (typed["touched"] == 0).sum() == 40
    assert typed.filter(pl.col("touched") > 0)["touched"].min() >= 3
    assert users.height == world.config.users
    assert users["events"].max() > 6 * users["events"].median()


def test_popularity_is_skewed(world: World) -> None:
    counts = world.events.drop_nulls("item_id")["item_id"].value_counts(sort=True)["count"].to_numpy()
    counts = np.pad(counts, (0, world.config.items - len(counts)))
    assert counts[:100].sum() / counts.sum() > 0.3
    assert counts[500:].sum() / counts.sum() < 0.25


def test_a_session_is_one_visit_of_one_user_with_a_focus(world: World) -> None:
    category = world.items.select("item_id", category=pl.col("categories").list.first())
    sessions = (
        world.events.filter(event_type="view")
        .join(category, on="item_id")
        .group_by("session_id")
        .agg(
            users=pl.col("user_id").n_unique(),
            views=pl.len(),
            length=pl.col("timestamp").max() - pl.col("timestamp").min(),
            alike=(pl.col("category") == pl.col("category").mode().first()).mean(),
        )
    )
    assert (sessions["users"] == 1).all()
    assert sessions["length"].max() < timedelta(hours=2)
    assert 3.0 < sessions["views"].mean() < 6.0
    assert sessions.filter(pl.col("views") > 3)["alike"].mean() > 0.7


def test_users_come_back_to_what_they_saw(world: World) -> None:
    items = world.events.drop_nulls("item_id")
    views = items.filter(event_type="view")
    again = views.height - views.select("user_id", "item_id").n_unique()
    assert 0.15 < again / items.height < 0.22


def test_texts_say_what_the_item_is(world: World) -> None:
    tags = {tag for category in CATEGORIES for tag in category.tags}
    kinds = [kind for category in CATEGORIES for kind in category.kinds]
    assert len(tags) == sum(len(category.tags) for category in CATEGORIES)
    for title, text, own in world.items.select("title", "text", "tags").iter_rows():
        assert all(tag in text for tag in own), (title, text)
        assert "{" not in title + text
    queries = world.events.filter(event_type="query")["text"].to_list()
    assert all(1 <= len(query.split()) <= 4 for query in queries)
    assert all(any(kind in query for kind in kinds) or query.endswith("gift") for query in queries)
    assert np.mean([any(word in tags for word in query.split()) for query in queries]) > 0.5
    reviews = world.events.filter(event_type="review").join(world.items, on="item_id")
    named = [any(tag in text for tag in own) for text, own in reviews.select("text", "tags").iter_rows()]
    assert all(named)
    loved = reviews.filter(pl.col("text").str.contains("^(?:Love it|Love this|Perfect|Best)"))
    assert loved.height > 100
    assert (loved["value"] == 5).all()


def test_ratings_follow_the_true_taste(world: World) -> None:
    rows = {name: row for row, name in enumerate(world.users["user_id"])}
    columns = {name: column for column, name in enumerate(world.items["item_id"])}
    rated = world.events.filter(event_type="rating")
    u = rated["user_id"].replace_strict(rows).to_numpy()
    i = rated["item_id"].replace_strict(columns).to_numpy()
    score = world.preferences(world.config.start + timedelta(days=60))
    assert np.corrcoef(score[u, i], rated["value"].to_numpy())[0, 1] > 0.5


def test_tastes_drift(world: World) -> None:
    start = world.config.start
    moments = [start + timedelta(days=day) for day in (0, 1, 120)]
    first, next_day, last = (world.preferences(moment) for moment in moments)
    assert first.shape == (2000, 1000)
    assert first.dtype == np.float32
    assert np.isfinite(last).all()

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
        return float(np.median((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))))

    assert alike(first, next_day) > 0.99
    assert 0.4 < alike(first, last) < 0.9


def test_taste_is_worth_knowing_and_can_be_learned(world: World) -> None:
    """Oracle 3.7, EASE 1.8 times popularity when this was written."""
    events = world.events.drop_nulls("item_id")
    cut = events["timestamp"].sort()[int(0.9 * events.height)]
    u = world.users["user_id"].to_list()
    i = world.items["item_id"].to_list()
    pair = events.select(
        u=pl.col("user_id").replace_strict(u, range(len(u))),
        i=pl.col("item_id").replace_strict(i, range(len(i))),
        past=pl.col("timestamp") <= cut,
    )
    past, future = (pair.filter(pl.col("past") == side) for side in (True, False))
    seen, truth = np.zeros((2, len(u), len(i)))
    seen[past["u"], past["i"]] = 1.0
    truth[future["u"], future["i"]] = 1.0
    missing = (world.items["available_from"] > cut).to_numpy()
    truth[(seen > 0) | missing] = 0.0
    asked = (seen.sum(axis=1) > 0) & (truth.sum(axis=1) > 0)
    discount = 1.0 / np.log2(np.arange(2, 12))

    def ndcg(score: np.ndarray) -> float:
        ranked = np.where((seen > 0) | missing, -np.inf, score)[asked]
        top = np.argsort(-ranked, axis=1, kind="stable")[:, :10]
        ideal = np.cumsum(discount)[np.minimum(truth[asked].sum(axis=1), 10).astype(int) - 1]
        return float((np.take_along_axis(truth[asked], top, axis=1) @ discount / ideal).mean())

    inverse = np.linalg.inv(seen.T @ seen + 200.0 * np.eye(len(i)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    popularity = ndcg(np.tile(np.bincount(past["i"], minlength=len(i)), (len(u), 1)))
    ease, oracle = ndcg(seen @ weights), ndcg(world.preferences(cut))
    assert oracle > 3.0 * popularity
    assert 1.5 * popularity < ease < 0.8 * oracle
