"""Every user column against a loop over a lopsided log: in partitions, and for one live user."""

import cmath
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from profiles.features import VALUE_SHARES, FeaturesConfig, profile_build
from profiles.features.user_features import user_features
from profiles.interactions import InteractionsConfig

Row = dict[str, Any]
DAY = timedelta(days=1)


def mean(values: Any) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def slow_activity(o: Any, own: list[Row]) -> Row:
    times = [e["timestamp"] for e in own]
    days = sorted({o.local(e).date() for e in own})
    gaps = [b - a for a, b in pairwise(times)]
    return {
        "first_event": min(times, default=None),
        "last_event": max(times, default=None),
        "recency_days": o.days_old(own[-1]) if own else None,
        "tenure_days": o.days_old(own[0]) if own else None,
        "active_days": len(days),
        "active_days_30d": len({o.local(e).date() for e in o.within(own, 30)}),
        "active_share": len(days) / ((days[-1] - days[0]).days + 1) if own else None,
        "events_per_active_day": len(own) / len(days) if own else None,
        "gap_days": mean((b - a).days for a, b in pairwise(days)),
        "longest_gap_days": max(gaps, default=timedelta(0)) / DAY if own else None,
        "trend": o.trend(own) if own else None,
        "texts": sum(bool(e["text"] and e["text"].strip()) for e in own),
        "follow_share": mean(float(e["recommendation_id"] is not None) for e in own),
    }


def slow_counts(o: Any, own: list[Row]) -> Row:
    found: Row = {}
    for name, kind in [("events", None), *((f"count_{kind}", kind) for kind in o.types)]:
        chosen = [e for e in own if kind is None or e["event_type"] == kind]
        for days in o.config.windows_days:
            found[f"{name}_{days}d"] = len(o.within(chosen, days))
        found[f"{name}_all"] = len(chosen)
    for kind in o.types:
        chosen = [e for e in own if e["event_type"] == kind]
        values = [o.value(e) for e in chosen if o.value(e) is not None]
        found[f"recency_days_{kind}"] = min((o.days_old(e) for e in chosen), default=None)
        found[f"value_sum_{kind}"] = sum(values, 0.0)
        found[f"value_mean_{kind}"] = mean(values)
    return found


def slow_sessions(o: Any, own: list[Row]) -> Row:
    visits = o.visits(own)
    lengths = [(v[-1]["timestamp"] - v[0]["timestamp"]) / timedelta(minutes=1) for v in visits]
    starts = [v[0]["timestamp"] for v in visits]
    return {
        "sessions": len(visits),
        "sessions_30d": len(o.within([v[0] for v in visits], 30)),
        "session_events": mean(float(len(v)) for v in visits),
        "session_minutes": mean(lengths),
        "longest_session_minutes": max(lengths, default=None),
        "session_gap_days": mean((b - a) / DAY for a, b in pairwise(starts)),
        "bounce_share": mean(float(len(v) == 1) for v in visits),
    }


def slow_habits(o: Any, own: list[Row]) -> Row:
    hours = [o.local(e).hour for e in own]
    days = Counter(o.local(e).weekday() for e in own)
    centre = mean(cmath.exp(2j * math.pi * hour / 24) for hour in hours)  # type: ignore[arg-type]
    agree = None if centre is None else abs(centre)
    usual = round(cmath.phase(centre) * 12 / math.pi, 9) % 24 if centre is not None and agree > 1e-9 else None
    spans = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}
    return {
        "usual_hour": usual,
        "hour_regularity": agree,
        "usual_weekday": min((d for d in days if days[d] == max(days.values())), default=None),
        "weekend_share": mean(float(o.local(e).weekday() > 4) for e in own),
        **{f"{name}_share": mean(float(a <= h < b) for h in hours) for name, (a, b) in spans.items()},
    }


def slow_value(o: Any, own: list[Row]) -> Row:
    orders = [e for e in own if o.spent(e) > 0]
    spent = [o.spent(e) for e in orders]
    times = [e["timestamp"] for e in orders]
    band = o.band(sum(spent), o.spend_edges) if spent else 0
    return {
        "orders": len(orders),
        "spend": sum(spent, 0.0),
        **{f"spend_{days}d": sum(map(o.spent, o.within(orders, days)), 0.0) for days in (30, 90, 365)},
        "spend_mean": mean(spent),
        "spend_max": max(spent, default=0.0),
        "spend_recency_days": o.days_old(orders[-1]) if orders else None,
        "spend_gap_days": mean((b - a) / DAY for a, b in pairwise(times)),
        "spending_band": band,
    }


def slow_behaviour(o: Any, own: list[Row]) -> Row:
    named = [e for e in own if e["item_id"] is not None]
    met: dict[str, Row] = {}
    for e in named:
        met.setdefault(e["item_id"], e)
    recent = o.within(named, 30)
    firsts = sum(met[e["item_id"]] is e for e in recent)
    fresh = timedelta(days=o.config.new_item_days)
    taste = [o.percentile[e["item_id"]] for e in named]
    whole = sum(o.item_events.values())
    prices = [o.known.get(e["item_id"], {}).get("price") for e in named]
    return {
        "distinct_items": len(met),
        "distinct_items_30d": len({e["item_id"] for e in recent}),
        "repeat_share": (len(named) - len(met)) / len(named) if named else None,
        "explore_share": firsts / len(recent) if recent else None,
        "novelty_seeking": mean(float(e["timestamp"] - o.since(i) < fresh) for i, e in met.items()),
        "surprise": mean(-math.log2(o.item_events[e["item_id"]] / whole) for e in named),
        "popularity_taste": mean(taste),
        "popularity_spread": float(np.std(taste)) if taste else None,
        "mean_price": mean(price for price in prices if price is not None),
        "category_entropy": slow_entropy(slow_strength(o, own, "category")),
        "brand_entropy": slow_entropy(slow_strength(o, own, "brand")),
    }


def slow_strength(o: Any, own: list[Row], name: str) -> dict[str, float]:
    """Decayed weights of the values met, in the order in which they were met."""
    said = [e for e in own if e["item_id"] is not None and o.weight(e) > 0]
    found: dict[str, float] = defaultdict(float)
    for e in said:
        age = min((said[-1]["timestamp"] - e["timestamp"]) / DAY / o.config.half_life_days, 900)
        for value in o.values(name, e["item_id"]):
            found[value] += o.weight(e) * 0.5**age
    return found


def slow_entropy(strength: dict[str, float]) -> float | None:
    shares = [s / sum(strength.values()) for s in strength.values()]
    return -sum(s * math.log2(s) for s in shares) if shares else None


def slow_affinity(o: Any, own: list[Row], name: str) -> list[Row]:
    strength = slow_strength(o, own, name)
    prior = o.config.smoothing if any(o.log_shares[name].values()) else 0
    below = sum(strength.values()) + prior
    pairs = [(v, (s + prior * o.log_shares[name][v]) / below) for v, s in reversed(strength.items())]
    pairs.sort(key=lambda pair: -np.float32(pair[1]))  # stable: of equals the one met last for the first time
    return [{"value": value, "share": share} for value, share in pairs[: o.config.affinities]]


def slow_user(o: Any, user: str) -> Row:
    own = o.own(user)
    touched = [e["item_id"] for e in reversed(own) if e["item_id"] is not None]
    return (
        slow_activity(o, own)
        | slow_counts(o, own)
        | slow_sessions(o, own)
        | slow_habits(o, own)
        | slow_value(o, own)
        | slow_behaviour(o, own)
        | {"last_items": list(dict.fromkeys(touched))[: o.config.last_items]}
        | {f"{n}_affinity": slow_affinity(o, own, n) for n in ("category", "tag", "brand", "price_band")}
    )


SETTINGS: dict[str, tuple[int, float, Row, Row]] = {  # seed, as of, settings, sizes
    "many small partitions": (1, 120, {}, {"partition": 60}),
    "an earlier moment": (2, 60.5, {"timezone": "America/New_York"}, {"partition": 300}),
    "everything smoothed": (3, 120, {"smoothing": 1e6, "timezone": "Australia/Sydney"}, {"partition": 50}),
    "nothing smoothed": (4, 119, {"smoothing": 0, "half_life_days": 0.02}, {"partition": 500}),
    "one band, one visit": (5, 90, {"price_bands": 1, "session_minutes": 1e9, "timezone": "UTC"}, {}),
    "after everything": (6, 500, {"windows_days": (1, 7, 30, 365, 1000), "affinities": 99}, {"partition": 7}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_user_column_is_what_a_loop_finds(
    name: str,
    lopsided_world: Callable[..., Any],
    oracle_of: Callable[..., Any],
    built_of: Callable[..., Any],
    same_row: Callable[[Any, Any], None],
) -> None:
    seed, days, settings, sizes = SETTINGS[name]
    world = lopsided_world(seed, **settings)
    world = replace(world, at=world.at + (days - 120) * DAY)
    if name == "nothing smoothed":
        world = replace(world, weights=InteractionsConfig(minimum_value={"rating": 3, "view": 0.5}))
    found, oracle = built_of(world, **sizes), oracle_of(world)
    assert found.users["user_id"].to_list() == oracle.users
    for row in found.users.to_dicts():
        live = found.live(row["user_id"])
        same_row(live, row)  # also what is said and written, which other files test
        given = {n: v for n, v in row.items() if not n.startswith(("attribute_", "consent_"))}
        user = given.pop("user_id")
        del given["last_text"], given["top_terms"]
        same_row(given, slow_user(oracle, user))


# What no random log shows


def test_columns_beyond_what_is_held_come_from_beside(
    lopsided_world: Callable[..., Any], built_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = lopsided_world(3)
    held = built_of(world, partition=100)
    for limit in (0, 20_000):
        monkeypatch.setattr(profile_build, "HELD", limit)
        beside = built_of(world, partition=100)
        assert beside.users.equals(held.users)
        assert beside.items.equals(held.items)
        assert {p.name for p in beside.folder.iterdir()} == {p.name for p in held.folder.iterdir()}


def test_every_column_says_what_it_is(
    lopsided_world: Callable[..., Any], built_of: Callable[..., Any]
) -> None:
    for config in (FeaturesConfig(), lopsided_world(1).config):
        context = replace(built_of(lopsided_world(1)).context, event_types=("view", "purchase"))
        features = user_features(context, config)
        assert len(features) == len(set(features)) >= 60
        for name, feature in features.items():
            for said in (feature.unit, feature.meaning, feature.source, feature.window):
                assert said.strip(), name
            assert isinstance(feature.dtype, pl.DataType)
            filled = pl.Series([feature.fill], dtype=feature.dtype, strict=True)
            assert filled.to_list() == [feature.fill]
            counted = feature.dtype == pl.UInt32() or feature.dtype == pl.List(pl.String)
            assert counted is False or feature.fill in (0, [])
            days = [f"{n} days" for n in (30, 90, 365, *config.windows_days)]
            assert feature.window in ("all time", *days), name


def test_ids_without_events_get_the_declared_fill(
    world_of: Callable[..., Any], built_of: Callable[..., Any], event_of: Callable[..., Row]
) -> None:
    users = pl.DataFrame({"user_id": ["silent"]})
    for rows in ([], [event_of("other", "i", text="words")]):
        found = built_of(world_of(rows, users=users))
        features = user_features(found.context, found.world.config)
        expected = {n: f.fill for n, f in features.items()} | {"last_text": None, "top_terms": []}
        row = found.users.filter(pl.col("user_id") == "silent").row(0, named=True)
        assert row == {"user_id": "silent"} | expected


def test_types_are_as_declared_with_and_without_rows(
    lopsided_world: Callable[..., Any], world_of: Callable[..., Any], built_of: Callable[..., Any]
) -> None:
    for world in (lopsided_world(1), world_of([]), world_of([], users=pl.DataFrame({"user_id": ["u"]}))):
        found = built_of(world)
        features = user_features(found.context, world.config)
        dtypes = {"user_id": pl.String()} | {n: f.dtype for n, f in features.items()}
        dtypes |= {"last_text": pl.String(), "top_terms": VALUE_SHARES}
        given = {n: d for n, d in found.users.schema.items() if not n.startswith(("attribute_", "consent_"))}
        assert given == dtypes


def test_a_window_holds_now_and_not_its_own_length(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    at, tick = datetime(2024, 1, 31, tzinfo=UTC), timedelta(microseconds=1)
    for age, inside in ((0 * DAY, 1), (7 * DAY - tick, 1), (7 * DAY, 0), (7 * DAY + tick, 0)):
        row = profile([event_of("u", "i") | {"timestamp": at - age}], at=30, windows_days=(1, 7, 30))
        assert (row["count_view_7d"], row["count_view_all"]) == (inside, 1)
    for age, inside in ((30 * DAY - tick, 1), (30 * DAY, 0)):
        own = [event_of("u", "i", 0, "buy", value=2.0) | {"timestamp": at - age}]
        row = profile(own, at=30)
        names = ("events_30d", "active_days_30d", "sessions_30d", "distinct_items_30d")
        assert [row[n] for n in names] == [inside] * 4
        assert (row["spend_30d"], row["explore_share"]) == (2.0 * inside, 1.0 if inside else None)


def test_a_day_cut_by_its_window_counts(profile: Callable[..., Row], event_of: Callable[..., Row]) -> None:
    row = profile([event_of("u", "i", 0.25), event_of("u", "i", 0.75), event_of("u", "i", 9)], at=30.5)
    assert (row["active_days_30d"], row["sessions_30d"]) == (2, 2)


def test_days_and_hours_are_those_of_the_zone(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    rows = [event_of("u", "i", days) for days in (0.999, 1, 1.5, 3)]
    assert profile(rows)["active_days"] == 3
    utc, tokyo = (profile([event_of("u", "i", 4.75)], timezone=zone) for zone in ("UTC", "Asia/Tokyo"))
    assert (utc["usual_weekday"], utc["weekend_share"], utc["evening_share"]) == (4, 0, 1)  # Friday 18 h
    assert (tokyo["usual_weekday"], tokyo["weekend_share"], tokyo["night_share"]) == (5, 1, 1)
    # Berlin's clocks go back at 3 h on 27 October 2024: that day has 25 hours, two of them called 2.
    berlin = ZoneInfo("Europe/Berlin")
    night = [datetime(2024, 10, 27, 0, 30, tzinfo=UTC) + n * timedelta(hours=1) for n in range(2)]
    edges = [datetime(2024, 10, 27, tzinfo=berlin), datetime(2024, 10, 27, 23, 59, 59, tzinfo=berlin)]
    rows = [event_of("u", "i") | {"timestamp": t.astimezone(UTC)} for t in (*night, *edges)]
    row = profile(rows, at=320, timezone="Europe/Berlin")
    assert (row["active_days"], row["night_share"], row["evening_share"]) == (1, 0.75, 0.25)


def test_the_usual_hour_goes_round_the_clock(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    def usual(*hours: float) -> tuple[float | None, float]:
        row = profile([event_of("u", "i", n + hour / 24) for n, hour in enumerate(hours)])
        return row["usual_hour"], row["hour_regularity"]

    assert usual(23, 1) == (0.0, pytest.approx(math.cos(math.pi / 12)))  # and not 24
    assert usual(22, 23) == (22.5, pytest.approx(math.cos(math.pi / 24)))
    assert usual(1.99) == (1.0, pytest.approx(1))
    assert usual(6, 18) == (None, pytest.approx(0, abs=1e-12))


def test_a_trend_is_flat_where_nothing_changes(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    daily = [event_of("u", "i", n + 0.5) for n in range(100)]
    assert profile(daily)["trend"] == pytest.approx(0, abs=1e-12)
    assert profile(daily[:20])["trend"] == 0.0  # long gone: no event in either window
    assert profile(daily[:95])["trend"] < -1
    assert profile(daily[95:])["trend"] > 1


@pytest.mark.parametrize(
    ("visits", "minutes_and_names"),
    [
        (1, [(0, None), (30, None), (60, None)]),
        (2, [(0, None), (30.001, None)]),
        (1, [(0, "a"), (500, "a")]),  # a name outlasts a pause
        (2, [(0, "a"), (0, "b")]),
        (3, [(0, "a"), (1, "b"), (2, "a")]),
        (1, [(0, "a"), (5, None), (10, "a")]),
        (2, [(0, "a"), (5, None), (10, "b")]),  # what has no name between them does not join two visits
        (2, [(0, "a"), (5, None), (40, "a")]),
        (2, [(0, "a"), (40, None), (45, "b")]),  # the pause has ended a, so b is the nameless visit
        (3, [(0, "a"), (40, None), (45, "b"), (46, None), (47, "c")]),
        (1, [(0, None), (5, "a"), (6, None), (7, "a")]),
    ],
)
def test_visits_end_where_the_name_changes_or_after_a_pause(
    visits: int,
    minutes_and_names: list[tuple[float, str | None]],
    profile: Callable[..., Row],
    event_of: Callable[..., Row],
) -> None:
    rows = [event_of("u", "i", 1 + m / 1440, session_id=name) for m, name in minutes_and_names]
    others = [event_of(user, "i", 1, session_id="a") for user in ("t", "v")]
    assert profile([*others, *rows])["sessions"] == visits


def test_money_is_what_spending_types_spend(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    nothing = [event_of("u", "i", n, "buy", value=v) for n, v in enumerate([None, float("nan"), 0.0, -5.0])]
    row = profile([*nothing, event_of("u", "i", 5, "view", value=9.0)])
    assert [row[n] for n in ("orders", "spend", "spend_max", "spending_band")] == [0, 0.0, 0.0, 0]
    assert [row[f"spend_{n}"] for n in ("mean", "recency_days", "gap_days")] == [None] * 3
    once = profile([*nothing, event_of("u", "i", 5, "buy", value=9.0)])
    assert [once[f"spend_{n}"] for n in ("mean", "recency_days", "gap_days")] == [9.0, 95.0, None]
    assert str(row["spend"]) == "0.0"  # and not -0.0


def test_last_items_are_distinct_newest_first_and_ties_go_to_the_later_row(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    rows = [("a", 5), ("b", 1), ("c", 3), ("d", 3), (None, 6), ("c", 2), ("b", 4), ("e", 0), ("f", 0)]
    events = [event_of("u", item, days) for item, days in rows]
    assert profile(events, last_items=4)["last_items"] == ["a", "b", "d", "c"]
    assert profile(events, last_items=9)["last_items"] == ["a", "b", "d", "c", "f", "e"]


def test_a_new_item_is_new_from_when_it_could_be_had(
    profile: Callable[..., Row], event_of: Callable[..., Row]
) -> None:
    old = {"item_id": "old", "available_from": datetime(2023, 1, 1, tzinfo=UTC)}
    soon = {"item_id": "soon", "available_from": datetime(2024, 3, 1, tzinfo=UTC)}
    rows = [
        event_of("u", "old", 1),
        event_of("u", "soon", 1),
        event_of("other", "i", 0),
        event_of("u", "i", 30),
    ]
    assert profile(rows, [old, soon])["novelty_seeking"] == 1 / 3
    assert profile(rows, [old, soon], new_item_days=31)["novelty_seeking"] == 2 / 3


def test_settings_are_checked() -> None:
    wrong = [
        {"half_life_days": 0}, {"affinities": 0}, {"windows_days": (0,)}, {"last_item": 3}, {"smoothing": -1},
        {"windows_days": (7, 1)}, {"windows_days": (7, 7)}, {"windows_days": ()},
        {"timezone": "Mars/Olympus"}, {"timezone": "../etc/passwd"}, {"price_bands": 101},
        {"as_of": datetime(2024, 1, 1)},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(ValidationError):
            FeaturesConfig.model_validate(one)
