"""The events behind a trait, told by hand for small pasts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from profiles.features import FeaturesConfig, history_build
from profiles.features.context import ATTRIBUTES, Context, load, save
from profiles.features.evidence import behind
from profiles.features.live import user_profile
from profiles.features.profile_build import ProfileBuild
from profiles.features.user_features import user_features
from profiles.interactions import InteractionsConfig
from profiles.schema import EVENTS, ITEMS, USERS, microseconds

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
AT = START + 100 * DAY
CONFIG = FeaturesConfig(windows_days=(7, 30), half_life_days=10, spend_types=("buy",), price_bands=2)
WEIGHTS = InteractionsConfig(weights={"view": 1, "buy": 4, "rating": 1}, minimum_value={"rating": 3})

ITEMS_GIVEN = [
    {"item_id": "kettle", "categories": ["home"], "tags": ["red", "new"], "brand": "m", "price": 20.0},
    {"item_id": "tea", "categories": ["food"], "tags": ["red"], "brand": "n", "price": 3.0},
    {"item_id": "cup", "categories": ["home"], "tags": None, "brand": "n", "price": 4.0},
    {"item_id": "plain", "categories": None, "tags": None, "brand": None, "price": None},
]

Row = dict[str, Any]


def event(
    name: str, days: float, item: str | None, kind: str = "view", user: str = "ann", **rest: Any
) -> Row:
    known = {"event_id": name, "user_id": user, "item_id": item, "event_type": kind}
    return known | {"timestamp": START + days * DAY, "value": None, "text": None} | rest


ANN = [
    event("old buy", 5, "kettle", "buy", value=20.0),
    event("old view", 6, "kettle"),
    event("paid nothing", 40, "kettle", "buy", value=0.0),
    event("poor", 60, "tea", "rating", value=1.0),
    event("month", 75, "cup"),
    event("asked", 80, None, "query", text="red tea"),
    event("blank", 90, None, "query", text=" "),
    event("week", 95, "tea", "buy", value=3.0),
    event("plain", 96, "plain"),
    event("rated", 97, "tea", "rating", value=5.0),
]
BOB = [event(f"bob {n}", n, "cup", user="bob") for n in range(30)]


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    schema = {n: t for n, t in EVENTS.schema.items() if n in (rows[0] if rows else EVENTS.schema)}
    return EVENTS.conform(pl.DataFrame(list(rows), schema=schema))


def known(folder: Path, rows: Sequence[Row], config: FeaturesConfig = CONFIG) -> Context:
    """Return what profiles of a log compare with."""
    events = frame(sorted(rows, key=lambda r: r["timestamp"]))
    items = ITEMS.conform(pl.DataFrame(ITEMS_GIVEN))
    (folder / "history").mkdir(parents=True)
    past = history_build.build(
        folder / "history", lambda columns: [events.select(columns)], len(events), items["item_id"], {}
    )
    texts = events.select("user_id", "text", "timestamp").drop_nulls("text")
    given = items, USERS.empty(), texts, microseconds(AT), config, WEIGHTS
    return ProfileBuild(past, *given).run(folder)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return known(tmp_path, ANN + BOB)


@pytest.fixture
def found(context: Context) -> dict[str, list[str]]:
    """The names of the events behind each of Ann's columns."""
    return named(behind(frame(ANN), AT, context, CONFIG, WEIGHTS))


def named(found: dict[str, pl.DataFrame]) -> dict[str, list[str]]:
    for events in found.values():
        assert events.schema == EVENTS.schema
    return {name: events["event_id"].to_list() for name, events in found.items()}


def test_every_column_has_its_events(found: dict[str, list[str]], context: Context) -> None:
    assert [*found] == [*user_features(context, CONFIG)]


@pytest.mark.parametrize(
    ("column", "events"),
    [
        ("events_all", ["rated", "plain", "week"]),
        ("events_7d", ["rated", "plain", "week"]),
        ("count_buy_all", ["week", "paid nothing", "old buy"]),
        ("count_buy_30d", ["week"]),
        ("count_buy_7d", ["week"]),
        ("count_view_30d", ["plain", "month"]),
        ("count_view_7d", ["plain"]),
        ("count_query_7d", []),
        ("count_query_all", ["blank", "asked"]),
        ("recency_days_rating", ["rated", "poor"]),
        ("value_mean_buy", ["week", "paid nothing", "old buy"]),
        ("spend", ["week", "old buy"]),
        ("orders", ["week", "old buy"]),
        ("spend_30d", ["week"]),
        ("spend_90d", ["week"]),
        ("spend_365d", ["week", "old buy"]),
        ("spending_band", ["week", "old buy"]),
        ("texts", ["asked"]),
        ("distinct_items", ["rated", "plain", "week"]),
        ("distinct_items_30d", ["rated", "plain", "week"]),
        ("last_items", ["rated", "plain", "week"]),
        ("explore_share", ["rated", "plain", "week"]),
        ("category_entropy", ["rated", "plain", "week"]),
        ("first_event", ["rated", "plain", "week"]),
    ],
)
def test_the_latest_events_a_column_is_made_from(
    column: str, events: list[str], found: dict[str, list[str]]
) -> None:
    assert found[column] == events


def test_an_affinity_rests_on_the_strongest_events_of_its_first_value(
    found: dict[str, list[str]], context: Context
) -> None:
    """Tea bought five days ago counts most; a poor rating and a query not at all."""
    row = user_profile("ann", frame(ANN), USERS.empty(), AT, context, CONFIG, WEIGHTS)
    first = {name: row[f"{name}_affinity"][0]["value"] for name in ATTRIBUTES}
    assert first == {"category": "food", "tag": "red", "brand": "n", "price_band": "1"}
    assert found["category_affinity"] == ["week", "rated"]
    assert found["tag_affinity"] == ["week", "rated", "paid nothing"]  # 4 · 2^-.2, 1, 4 · 2^-5.7
    assert found["brand_affinity"] == ["week", "rated", "month"]


def test_only_what_is_weighed_is_behind_an_entropy(context: Context) -> None:
    rows = [event("1", 80, "cup"), event("2", 81, "tea", "rating", value=2.0), event("3", 82, None, "query")]
    found = named(behind(frame(rows), AT, context, CONFIG, WEIGHTS))
    assert found["category_entropy"] == found["brand_entropy"] == ["1"]
    assert found["distinct_items"] == ["2", "1"]


def test_a_window_opens_after_its_far_end(context: Context) -> None:
    edge, inside = event("edge", 93, "tea"), event("in", 93 + 1e-6, "tea")
    found = named(behind(frame([edge, inside]), AT, context, CONFIG, WEIGHTS))
    assert found["count_view_7d"] == ["in"]
    assert found["count_view_30d"] == ["in", "edge"]


def test_the_value_a_profile_names_first_is_the_one_explained(tmp_path: Path) -> None:
    """Smoothing may lift what everybody likes above what the user did a little more of."""
    mine = [event("home", 95, "cup"), event("food", 96, "tea")]
    context = known(tmp_path, mine + BOB)
    row = user_profile("ann", frame(mine), USERS.empty(), AT, context, CONFIG, WEIGHTS)
    assert row["category_affinity"][0]["value"] == "home"  # though food is a day newer
    assert named(behind(frame(mine), AT, context, CONFIG, WEIGHTS))["category_affinity"] == ["home"]


def test_a_past_without_anything(context: Context) -> None:
    assert behind(frame([]), AT, context, CONFIG, WEIGHTS) == {}


def test_events_that_say_nothing(context: Context) -> None:
    silent = [event("q", 90, None, "query"), event("u", 91, "never heard of", "unheard of")]
    found = named(behind(frame(silent), AT, context, CONFIG, WEIGHTS))
    assert found["events_all"] == ["u", "q"]
    for name in (
        "count_view_all",
        "spend",
        "texts",
        "distinct_items",
        *(f"{a}_affinity" for a in ATTRIBUTES),
    ):
        assert found[name] == []


@pytest.mark.parametrize("keep", [1, 2, 100])
def test_as_many_as_asked(keep: int, context: Context) -> None:
    found = behind(frame(ANN), AT, context, CONFIG, WEIGHTS, keep)
    assert len(found["events_all"]) == min(keep, len(ANN))
    assert max(map(len, found.values())) <= keep


def test_types_named_like_columns(tmp_path: Path) -> None:
    odd = [event("1", 1, "cup", "tag_affinity"), event("2", 2, "tea", "affinity")]
    weights = InteractionsConfig()
    found = named(behind(frame(odd), AT, known(tmp_path, odd), CONFIG, weights))
    assert found["recency_days_tag_affinity"] == ["1"]
    assert found["value_mean_affinity"] == ["2"]
    assert found["tag_affinity"] == ["2"]


def test_what_a_release_has_read_back_explains_alike(context: Context, tmp_path: Path) -> None:
    save(context, tmp_path / "context")
    read = load(tmp_path / "context")
    first, second = (behind(frame(ANN), AT, c, CONFIG, WEIGHTS) for c in (context, read))
    assert named(first) == named(second)
