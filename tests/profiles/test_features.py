"""Every profile column against a loop over a lopsided log, as of any moment, for all users and for one."""

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from profiles.features import (
    AFFINITIES,
    AFFINITY,
    ITEM_FEATURES,
    USER_FEATURES,
    Feature,
    FeaturesConfig,
    counts,
    item_profiles,
    user_profiles,
)
from profiles.interactions import InteractionsConfig, interactions
from profiles.schema import EVENTS, INTERACTIONS, ITEMS

START = datetime(2024, 1, 1, tzinfo=UTC)
TYPES = ("buy", "rating", "view")
CONFIG = FeaturesConfig(windows_days=(1, 7, 30), half_life_days=9.5, affinities=3, last_items=4)
WEIGHTS = InteractionsConfig(weights={"view": 1, "buy": 3.25, "rating": 2}, minimum_value={"rating": 3})
DAY = timedelta(days=1)


def event(
    user: str, item: str | None = None, days: float = 0, kind: str = "view", **rest: Any
) -> dict[str, Any]:
    moment = START + timedelta(days=days)
    return {"user_id": user, "item_id": item, "event_type": kind, "timestamp": moment} | rest


def frame(events: Sequence[dict[str, Any]]) -> pl.DataFrame:
    if not events:
        return EVENTS.empty()
    schema = {n: d for n, d in EVENTS.schema.items() if n == "event_id" or any(n in e for e in events)}
    rows = [{"event_id": str(n)} | e for n, e in enumerate(events)]
    return EVENTS.conform(pl.DataFrame(rows, schema=schema))


def catalogue(of: dict[str, tuple[list[str] | None, list[str] | None]]) -> pl.DataFrame:
    columns = {
        "item_id": list(of), "categories": [c for c, _ in of.values()], "tags": [t for _, t in of.values()]
    }  # fmt: skip
    schema = {n: ITEMS.schema[n] for n in columns}
    return ITEMS.conform(pl.DataFrame(columns, schema=schema))


@pytest.fixture(scope="module")
def world() -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """400 events in no order of time, over 60 days, with ties to the microsecond, and their catalogue.

    9 users of very unequal length, 13 items of 15 known, some without category or tags.
    """
    rng = random.Random(11)
    users = [f"u{n}" for n in range(8)] + ["nul\0🎬 '"]
    items = [f"i{n:02}" for n in range(15)]
    events = []
    for _ in range(400):
        user = users[min(int(rng.expovariate(0.5)), 8)]
        item = None if rng.random() < 0.1 else items[min(int(rng.expovariate(0.3)), 14)]
        days = rng.choice([rng.uniform(0, 60), rng.randrange(60), rng.randrange(120) / 2])
        kind = "query" if item is None else rng.choice(TYPES)
        events.append(
            event(user, item, days, kind,
                  value=rng.choice([None, 1.0, 2.5, 3.0, 4.75]),
                  text=rng.choice([None, None, f"text {len(events)}", ""]),
                  session_id=rng.choice([None, "s1", "s2", f"s{len(events)}"]))
        )  # fmt: skip
    words = ["ant", "bee", "cat", "dog", "eel"]
    known: dict[str, tuple[list[str] | None, list[str] | None]] = {}
    for item in items[:13]:
        known[item] = (
            rng.choice([None, [], rng.sample(words, 1), rng.sample(words, 3)]),
            rng.choice([None, rng.sample(words, 2), rng.sample(words, 5)]),
        )
    return events, catalogue(known)


MOMENTS = [60, 31.25, 30, 7, 0.5, -1]


def moment(days: float) -> datetime:
    return START + timedelta(days=days)


def batch(
    events: pl.DataFrame,
    items: pl.DataFrame,
    at: datetime,
    ids: Sequence[str],
    config: FeaturesConfig = CONFIG,
) -> pl.DataFrame:
    names = pl.Series(list(ids), dtype=pl.String)
    return user_profiles(names, events, interactions(events, WEIGHTS), items, at, ["odd", *TYPES], config)


def of_items(events: pl.DataFrame, at: datetime, ids: Sequence[str]) -> pl.DataFrame:
    return item_profiles(pl.Series(list(ids), dtype=pl.String), events, at, ["odd", *TYPES], CONFIG)


# The slow way


def slow_common(own: list[dict[str, Any]], at: datetime) -> dict[str, Any]:
    times = [e["timestamp"] for e in own]
    found: dict[str, Any] = {
        "events": len(own),
        "first_event": min(times, default=None),
        "last_event": max(times, default=None),
        "recency_days": (at - max(times)) / DAY if times else None,
    }
    for kind in ("odd", *TYPES):
        of_type = [e for e in own if e["event_type"] == kind]
        for days in CONFIG.windows_days:
            inside = [e for e in of_type if at - e["timestamp"] < days * DAY]
            found[f"count_{kind}_{days}d"] = len(inside)
        found[f"count_{kind}_all"] = len(of_type)
    return found


def slow_user(own: list[dict[str, Any]], items: pl.DataFrame, at: datetime) -> dict[str, Any]:
    own = sorted((e for e in own if e["timestamp"] <= at), key=lambda e: e["timestamp"])  # stable
    touched = [e["item_id"] for e in reversed(own) if e["item_id"] is not None]
    texts = [e["text"] for e in own if e["text"] is not None]
    found = slow_common(own, at) | {
        "active_days": len({e["timestamp"].date() for e in own}),
        "sessions": len({e["session_id"] for e in own} - {None}),
        "distinct_items": len(set(touched)),
        "last_items": list(dict.fromkeys(touched))[: CONFIG.last_items],
        "texts": len(texts),
        "last_text": texts[-1] if texts else None,
    }
    for column, attribute in AFFINITIES.items():
        said = dict(items.select("item_id", attribute).rows())
        strength: dict[str, float] = defaultdict(float)
        for e in own:
            weight = WEIGHTS.weights.get(e["event_type"], 0.0)
            if e["event_type"] == "rating" and (e["value"] is None or e["value"] < 3):
                weight = 0.0
            if weight:
                for value in said.get(e["item_id"]) or []:
                    strength[value] += weight * 0.5 ** ((at - e["timestamp"]) / DAY / CONFIG.half_life_days)
        whole = sum(strength.values())
        best = sorted(strength.items(), key=lambda pair: (-pair[1], pair[0]))[: CONFIG.affinities]
        found[column] = [{"value": value, "share": s / whole} for value, s in best]
    return found


def slow_item(own: list[dict[str, Any]], at: datetime) -> dict[str, Any]:
    own = [e for e in own if e["timestamp"] <= at]
    values = [e["value"] for e in own if e["value"] is not None]
    return slow_common(own, at) | {
        "distinct_users": len({e["user_id"] for e in own}),
        "mean_value": sum(values) / len(values) if values else None,
    }


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name in AFFINITIES:
            assert [a["value"] for a in found[name]] == [a["value"] for a in value], name
            shares = [a["share"] for a in value]
            assert [a["share"] for a in found[name]] == pytest.approx(shares, rel=1e-9, abs=0), name
        elif isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=1e-9, abs=0), name
        else:
            assert found[name] == value, name


@pytest.mark.parametrize("days", MOMENTS)
def test_every_user_column_is_what_a_loop_finds(
    days: float, world: tuple[list[dict[str, Any]], pl.DataFrame]
) -> None:
    events, items = world
    ids = ["nobody", *sorted({e["user_id"] for e in events}, reverse=True)]
    found = batch(frame(events), items, moment(days), ids)
    assert found["user_id"].to_list() == ids
    for row in found.to_dicts():
        user = row.pop("user_id")
        own = [e for e in events if e["user_id"] == user]
        same(row, slow_user(own, items, moment(days)))


@pytest.mark.parametrize("days", MOMENTS)
def test_every_item_column_is_what_a_loop_finds(
    days: float, world: tuple[list[dict[str, Any]], pl.DataFrame]
) -> None:
    events, _ = world
    ids = ["nothing", *sorted({e["item_id"] for e in events if e["item_id"]}, reverse=True)]
    found = of_items(frame(events), moment(days), ids)
    assert found["item_id"].to_list() == ids
    for row in found.to_dicts():
        item = row.pop("item_id")
        own = [e for e in events if e["item_id"] == item]
        same(row, slow_item(own, moment(days)))


@pytest.mark.parametrize("days", MOMENTS)
def test_a_profile_as_of_a_moment_is_that_of_the_log_until_then(
    days: float, world: tuple[list[dict[str, Any]], pl.DataFrame]
) -> None:
    rows, items = world
    events, at = frame(rows), moment(days)
    cut = events.filter(pl.col("timestamp") <= at)
    ids = [*sorted(set(events["user_id"])), "nobody"]
    close(batch(events, items, at, ids), batch(cut, items, at, ids))
    things = [*sorted(set(events["item_id"].drop_nulls())), "nothing"]
    close(of_items(events, at, things), of_items(cut, at, things))


def test_one_live_user_has_the_row_of_the_batch(world: tuple[list[dict[str, Any]], pl.DataFrame]) -> None:
    rows, items = world
    events = frame(rows)
    ids = [*sorted(set(events["user_id"])), "nobody"]
    whole = batch(events, items, moment(60), ids)
    for user in ids:
        own = events.filter(pl.col("user_id") == user).sort(
            "timestamp", maintain_order=True
        )  # as tail gives it
        close(batch(own, items, moment(60), [user]), whole.filter(pl.col("user_id") == user))


def close(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Floats to 1e-9, everything else to the bit."""
    exact = pl.selectors.exclude(pl.selectors.float(), *AFFINITIES)
    assert_frame_equal(found.select(exact), expected.select(exact), check_exact=True)
    assert_frame_equal(found, expected, rel_tol=1e-9, abs_tol=0)


# What no random log shows


def test_every_column_says_what_it_is() -> None:
    declared = {**USER_FEATURES, **ITEM_FEATURES, **counts(TYPES, CONFIG)}
    assert len(declared) == len(USER_FEATURES | ITEM_FEATURES) + len(TYPES) * 4
    for feature in [*USER_FEATURES.values(), *ITEM_FEATURES.values(), *counts(TYPES, CONFIG).values()]:
        assert isinstance(feature, Feature)
        assert feature.unit.strip()
        assert feature.meaning.strip()


def test_ids_without_events_get_the_declared_fill() -> None:
    for events in (EVENTS.empty(), frame([event("other", "i")])):
        row = batch(events, ITEMS.empty(), START, ["u"]).row(0, named=True)
        features = USER_FEATURES | counts(["odd", *TYPES], CONFIG)
        expected = {n: f.fill for n, f in features.items()} | {n: [] for n in AFFINITIES}
        assert row == {"user_id": "u"} | expected
        features = ITEM_FEATURES | counts(["odd", *TYPES], CONFIG)
        row = of_items(events, START, ["unknown"]).row(0, named=True)
        assert row == {"item_id": "unknown"} | {n: f.fill for n, f in features.items()}


def test_types_are_as_declared_with_and_without_rows(
    world: tuple[list[dict[str, Any]], pl.DataFrame],
) -> None:
    rows, items = world
    features = USER_FEATURES | counts(["odd", *TYPES], CONFIG)
    dtypes = {"user_id": pl.String()} | {n: f.dtype for n, f in features.items()}
    dtypes |= dict.fromkeys(AFFINITIES, AFFINITY)
    for events, ids in ((frame(rows), ["u0", "u1"]), (EVENTS.empty(), ["u0"]), (EVENTS.empty(), [])):
        found = batch(events, items, moment(60), ids)
        assert dict(found.schema) == dtypes
        assert len(found) == len(ids)
    things = {"item_id": pl.String()} | {
        n: f.dtype for n, f in (ITEM_FEATURES | counts(["odd", *TYPES], CONFIG)).items()
    }
    assert dict(of_items(frame(rows), moment(60), ["i00"]).schema) == things
    assert dict(of_items(EVENTS.empty(), moment(60), []).schema) == things


def test_a_window_holds_now_and_not_its_own_length() -> None:
    at = moment(30)
    ages = [timedelta(0), 7 * DAY - timedelta(microseconds=1), 7 * DAY, 7 * DAY + timedelta(microseconds=1)]
    for age, inside in zip(ages, [1, 1, 0, 0], strict=True):
        row = batch(frame([event("u", "i") | {"timestamp": at - age}]), ITEMS.empty(), at, ["u"])
        assert row["count_view_7d"].to_list() == [inside]
        assert row["count_view_all"].to_list() == [1]
    late = frame([event("u", "i") | {"timestamp": at + timedelta(microseconds=1)}])
    assert batch(late, ITEMS.empty(), at, ["u"])["events"].to_list() == [0]  # not yet


def test_days_are_counted_in_utc() -> None:
    events = frame([event("u", "i", 0.999), event("u", "i", 1), event("u", "i", 1.5), event("u", "i", 3)])
    assert batch(events, ITEMS.empty(), moment(9), ["u"])["active_days"].to_list() == [3]


def test_the_moment_may_stand_in_any_zone() -> None:
    events = frame([event("u", "i", 1), event("u", "i", 2.5)])
    tokyo = moment(2).astimezone(ZoneInfo("Asia/Tokyo"))
    assert_frame_equal(
        batch(events, ITEMS.empty(), tokyo, ["u"]), batch(events, ITEMS.empty(), moment(2), ["u"])
    )
    with pytest.raises(TypeError, match="naive"):
        batch(events, ITEMS.empty(), datetime(2024, 1, 1), ["u"])


def test_last_items_are_distinct_newest_first_and_ties_go_to_the_later_row() -> None:
    rows = [("a", 5), ("b", 1), ("c", 3), ("d", 3), (None, 6), ("c", 2), ("b", 4), ("e", 0), ("f", 0)]
    events = frame([event("u", item, days) for item, days in rows])
    assert batch(events, ITEMS.empty(), moment(9), ["u"])["last_items"].to_list() == [["a", "b", "d", "c"]]
    wide = CONFIG.model_copy(update={"last_items": 9})
    found = batch(events, ITEMS.empty(), moment(9), ["u"], wide)["last_items"].to_list()
    assert found == [["a", "b", "d", "c", "f", "e"]]


def test_last_text_of_equal_times_is_the_later_row() -> None:
    events = frame([event("u", days=1, text="x"), event("u", days=1, text="y"), event("u", days=0, text="z")])
    assert batch(events, ITEMS.empty(), moment(9), ["u"])["last_text"].to_list() == ["y"]


# Affinities


def leaning(
    done: list[tuple[str, float, float]], of: dict[str, list[str]], **config: Any
) -> list[tuple[str, float]]:
    """Category affinities of a user who did (item, days, weight)."""
    columns = {
        "user_id": ["u"] * len(done),
        "item_id": [item for item, _, _ in done],
        "event_type": ["view"] * len(done),
        "weight": [weight for _, _, weight in done],
        "timestamp": [moment(days) for _, days, _ in done],
    }
    weighted = INTERACTIONS.conform(pl.DataFrame(columns))
    items = catalogue({item: (values, None) for item, values in of.items()})
    found = user_profiles(
        pl.Series(["u"]), EVENTS.empty(), weighted, items, moment(100), [], FeaturesConfig(**config)
    )
    assert found["tag_affinity"].to_list() == [[]]
    return [(a["value"], a["share"]) for a in found["category_affinity"][0]]


def test_a_half_life_halves() -> None:
    of = {"i": ["x"], "j": ["y"], "k": ["x", "z"]}
    assert leaning([("i", 100, 1), ("j", 90, 1)], of, half_life_days=10) == [("x", 2 / 3), ("y", 1 / 3)]
    assert leaning([("i", 100, 1), ("j", 70, 8)], of, half_life_days=10) == [("x", 0.5), ("y", 0.5)]
    assert leaning([("j", 80, 1), ("k", 80, 3)], of) == [("x", 3 / 7), ("z", 3 / 7), ("y", 1 / 7)]
    assert leaning([("i", 101, 9), ("j", 100, 1)], of) == [("y", 1.0)]  # the future is not in it


def test_ties_go_by_name_and_keep_cuts_after_the_shares() -> None:
    of = {"i": ["d", "b"], "j": ["c", "a"], "k": ["e"]}
    done = [("i", 100.0, 1.0), ("j", 100.0, 1.0), ("k", 100.0, 4.0)]
    assert leaning(done, of, affinities=3) == [("e", 0.5), ("a", 0.125), ("b", 0.125)]
    assert leaning(done, of, affinities=1) == [("e", 0.5)]
    whole = leaning(done, of, affinities=9)
    assert [value for value, _ in whole] == ["e", "a", "b", "c", "d"]
    assert sum(share for _, share in whole) == 1.0


def test_what_weighs_nothing_or_names_nothing_leans_nowhere() -> None:
    of = {"i": ["x"], "j": []}
    assert leaning([("i", 100, 0)], of) == []
    assert leaning([("j", 100, 1)], of) == []
    assert leaning([("unknown", 100, 1)], of) == []
    assert leaning([("unknown", 100, 1), ("i", 100, 0), ("i", 99, 1)], of) == [("x", 1.0)]


def test_shares_outlive_any_number_of_half_lives() -> None:
    of = {"i": ["x"], "j": ["y"]}
    found = leaning([("i", -9000, 1), ("j", -9001, 1)], of, half_life_days=1)
    assert found == [("x", pytest.approx(2 / 3, rel=1e-9)), ("y", pytest.approx(1 / 3, rel=1e-9))]
    found = leaning([("i", -9000, 1), ("j", 100, 1)], of, half_life_days=1)
    assert found == [("y", 1.0), ("x", 0.0)]


def test_settings_are_checked() -> None:
    for wrong in ({"half_life_days": 0}, {"affinities": 0}, {"windows_days": (0,)}, {"last_item": 3}):
        with pytest.raises(ValidationError):
            FeaturesConfig.model_validate(wrong)
