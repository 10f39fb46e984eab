"""Checks: each has a log that keeps its promise and one that breaks it, in words and in number."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from profiles.checks import CHECKS, Finding, Log, run_checks
from profiles.schema import EVENTS, ITEMS, USERS
from profiles.simulate import WorldConfig, simulate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
START = datetime(2025, 12, 1, tzinfo=UTC)


def event(user: str, item: str | None = "a", kind: str = "view", day: float = 0) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "event_type": kind, "timestamp": START + timedelta(days=day)}


GOOD = [event("u", "a"), event("u", "b", day=1), event("v", "a", "buy", day=2), event("v", None, day=3)]
TITLED = [{"item_id": "a", "title": "A"}, {"item_id": "b", "title": "B"}]


def log(
    events: Sequence[dict[str, Any]] = GOOD,
    items: Sequence[dict[str, Any]] = TITLED,
    users: Sequence[str] = (),
    weights: dict[str, float] | None = None,
    timeless: bool = False,
) -> Log:
    rows = (
        pl.DataFrame(events, infer_schema_length=None).with_row_index("event_id")
        if events
        else EVENTS.empty()
    )
    return Log(
        EVENTS.conform(rows),
        ITEMS.conform(pl.DataFrame(items)) if items else ITEMS.empty(),
        USERS.conform(pl.DataFrame({"user_id": list(users)}, schema={"user_id": pl.String})),
        weights or {},
        NOW,
        timeless,
    )


def found(name: str, checked: Log) -> tuple[str, int, str, str | None]:
    finding = CHECKS[name](checked)
    assert finding.check == name
    return finding.level, finding.count, finding.message, finding.example


def test_a_good_log_passes_every_check() -> None:
    findings = run_checks(log(users=["u", "v"], weights={"view": 1, "buy": 5}))
    assert [finding.check for finding in findings] == list(CHECKS)
    assert {finding.level for finding in findings} == {"PASS"}


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_takes_an_empty_log_and_has_a_docstring(name: str) -> None:
    assert isinstance(CHECKS[name](log([], [])), Finding)
    assert CHECKS[name].__doc__


def test_every_complaint_comes_with_advice() -> None:
    bad = [
        event("u", "x", "odd"),
        event("u", "x", "odd"),
        event("U", "x", day=400),
        event("u", "x", day=-20_000),
    ]
    findings = run_checks(log(bad, [{"item_id": "a"}], ["w"], {"view": 1}))
    complaints = [finding for finding in findings if finding.level != "PASS"]
    assert len(complaints) >= 9
    assert all(finding.advice and finding.count for finding in complaints)


@pytest.mark.parametrize(
    ("name", "checked", "level", "count", "message", "example"),
    [
        ("has_events", log([]), "FAIL", 1, "no events", None),
        ("has_several_users", log([event("u"), event("u", "b")]), "FAIL", 1,
         "one user: nothing can be learned from others", "u"),
        ("has_several_users", log([]), "FAIL", 1, "no users", None),
        ("has_several_items", log([event("u"), event("v")]), "FAIL", 1,
         "one item: there is nothing to choose from", "a"),
        ("has_several_items", log([event("u", None)]), "FAIL", 1, "no event names an item", None),
        ("times_in_range", log([event("u", day=-20_000), event("v")]), "WARN", 1,
         "1 events lie before 1990", "1971-02-28 00:00:00+00:00"),
        ("times_in_range", log([event("u"), event("v")]), "WARN", 2,
         "all events have one time", "2025-12-01 00:00:00+00:00"),
        ("times_in_range", log(), "PASS", 0, "from 2025-12-01 to 2025-12-04", None),
        ("times_in_range", log([event("u", day=-20_000)], timeless=True), "PASS", 0,
         "an order, no times", None),
        ("future_times", log([event("u", day=31.9), event("u", day=32.1)]), "WARN", 1,
         "1 events lie in the future", "2026-01-02 02:24:00+00:00"),
        ("unknown_items", log([event("u", "z"), event("u", "y"), event("u", "a")]), "WARN", 2,
         "2 of 3 items that events name are not in the catalogue", "z"),
        ("unknown_items", log([event("u", "z")], []), "PASS", 0, "there is no catalogue", None),
        ("silent_users", log(users=["w"]), "WARN", 1, "no listed user has an event", "w"),
        ("silent_users", log(users=["w", "u"]), "PASS", 1, "1 listed users have no events yet", None),
        ("unweighted_types", log(weights={"buy": 1}), "WARN", 3,
         "3 events are of types without a weight: view", "view"),
        ("unweighted_types", log(weights={}), "PASS", 0, "2 event types", None),
        ("repeated_events", log([event("u")] * 3 + [event("u", "b")]), "WARN", 2,
         "2 events have the user, item, type and time of another", "u, a, view, 2025-12-01 00:00:00+00:00"),
        ("lookalike_ids", log([event("Ann"), event("ann "), event("bob", "x y"), event("bob", "xy")]),
         "WARN", 2, "2 ids differ from another only by case or blanks", "'Ann' and 'ann '"),
        ("gaps_in_days", log([event("u"), event("u", day=7), event("u", day=16), event("u", day=30)]),
         "WARN", 2, "2 silences of more than 7 days; the longest has 13 days", "until 2025-12-31"),
        ("gaps_in_days", log([event("u"), event("u", day=8)]),
         "PASS", 0, "no silence of more than 7 days", None),
        ("items_without_title", log(items=[{"item_id": "a", "title": "A"}, {"item_id": "b", "title": None}]),
         "WARN", 1, "1 of 2 items have no title", "b"),
        ("texts_present", log(items=[{"item_id": "a"}]), "WARN", 1,
         "no event and no item has text or title", None),
        ("texts_present", log([event("u") | {"text": "good"}], []), "PASS", 0,
         "text of 1 events and 0 items, 0 titles", None),
    ],
)  # fmt: skip
def test_what_each_check_says(
    name: str, checked: Log, level: str, count: int, message: str, example: str | None
) -> None:
    assert found(name, checked) == (level, count, message, example)


def test_one_heavy_user_is_named() -> None:
    robot = [event("robot", f"i{n}") for n in range(1001)]
    people = [event(f"u{n % 500}", f"i{n}") for n in range(3000)]
    said = "1 users make more than 5% each; the largest has 1,001 events"
    assert found("heavy_users", log(robot + people)) == ("WARN", 1, said, "robot")
    assert found("heavy_users", log(robot[:1000] + people))[0] == "PASS"


def columns(**given: Any) -> Log:
    """Make a log of columns in the order they are committed; `at` holds seconds after START."""
    frame = pl.DataFrame({"user_id": "u", "item_id": "i", "event_type": "view"} | given, strict=False)
    seconds = (pl.col("at") * 1_000_000).round().cast(pl.Int64)
    frame = frame.with_columns(timestamp=pl.lit(START) + pl.duration(microseconds=seconds)).drop("at")
    frame = frame.with_columns(event_id=pl.format("e{}", pl.int_range(pl.len())))
    return Log(EVENTS.conform(frame), ITEMS.empty(), USERS.empty(), {}, NOW + timedelta(days=1000))


def timeless(checked: Log) -> Log:
    return Log(checked.events, checked.items, checked.users, {}, NOW, True)


def users(count: int, size: int) -> list[str]:
    return [f"u{n % count}" for n in range(size)]


HOURS, DAYS = 3600, 86_400


@pytest.mark.parametrize("seed", [0, 1])
def test_the_simulated_shop_keeps_every_promise(seed: int) -> None:
    world = simulate(WorldConfig(users=300, items=100, events=20_000, seed=seed))
    weights = dict.fromkeys(world.events["event_type"].unique(), 1.0)
    now = world.events["timestamp"].max()
    assert isinstance(now, datetime)
    findings = run_checks(Log(world.events, world.items, world.users, weights, now))
    assert [f for f in findings if f.level != "PASS"] == []


# Ids


@pytest.mark.parametrize(
    ("events", "count", "message", "example"),
    [
        ([event("null"), event("v"), event("v")], 1, "user_id 'null' has 1", "null"),
        ([event("u", "None"), event("v", "None"), event("Guest"), event("v")], 3,
         "user_id 'Guest' has 1", "Guest"),
        ([event("u", " NaN "), event("v")], 1, "item_id ' NaN ' has 1", " NaN "),
        ([event("00000000-0000-0000-0000-000000000000"), event("v")], 1,
         "user_id '00000000-0000-0000-0000-000000000000' has 1", "00000000-0000-0000-0000-000000000000"),
    ],
)  # fmt: skip
def test_ids_that_stand_for_none_are_named(
    events: list[dict[str, Any]], count: int, message: str, example: str
) -> None:
    said = f"{count} events have an id that stands for none; {message}"
    assert found("placeholder_ids", log(events)) == ("WARN", count, said, example)


def test_a_number_is_a_placeholder_only_where_it_is_no_ids_peer() -> None:
    ids = [str(n % 100) for n in range(1000)]
    assert found("placeholder_ids", columns(item_id=ids, at=range(1000)))[0] == "PASS"
    # 101 ids hold 1,109 events: ten times an even share are 109.8.
    assert found("placeholder_ids", columns(item_id=["-1"] * 109 + ids, at=range(1109)))[0] == "PASS"
    said = "110 events have an id that stands for none; item_id '-1' has 110"
    many = columns(item_id=["-1"] * 110 + ids, at=range(1110))
    assert found("placeholder_ids", many) == ("WARN", 110, said, "-1")


def test_names_that_only_look_like_placeholders_are_left_alone() -> None:
    assert found("placeholder_ids", log([event("Nan"), event("nullable"), event("NA7")]))[0] == "PASS"


def test_user_ids_that_are_addresses_are_told_without_showing_them() -> None:
    bad = log([event("ann@shop.example"), event("bob@shop.example"), event("v@home"), event("@me")])
    said = "2 of 4 user ids are e-mail addresses"
    assert found("personal_ids", bad) == ("WARN", 2, said, "[…]@shop.example")
    assert found("personal_ids", log())[0] == "PASS"


def test_event_types_that_differ_by_case_are_lookalikes() -> None:
    said = "1 ids differ from another only by case or blanks"
    two = log([event("u", kind="View"), event("v", kind="view")])
    assert found("lookalike_ids", two) == ("WARN", 1, said, "'View' and 'view'")


# Values


def test_values_missing_from_some_events_of_a_type_are_counted() -> None:
    rated = [event("u", kind="rate") | {"value": v} for v in (1.0, 2.0, None)]
    bought = [event("u", kind="buy") | {"value": v} for v in (None, 3.0)]
    said = "1 events have no value where most of their type have one; of rate 1 of 3"
    assert found("missing_values", log(rated + bought)) == ("WARN", 1, said, "rate")
    assert found("missing_values", log(rated[:2] + bought))[0] == "PASS"


def test_a_value_that_never_changes_is_told() -> None:
    kinds, values = ["buy"] * 100 + ["rate"] * 100, [1.0] * 100 + [1.0, 2.0] * 50
    said = "1 event types have one value for all their events; buy has 1 in 100"
    assert found("constant_values", columns(event_type=kinds, value=values, at=range(200))) == (
        "WARN", 1, said, "buy",
    )  # fmt: skip
    assert (
        found("constant_values", columns(event_type=kinds[1:], value=values[1:], at=range(199)))[0] == "PASS"
    )


# Times


@pytest.mark.parametrize(
    ("hours", "at", "count"),
    [
        ([0] * 200, "00:00", 200),
        ([-2] * 110 + [-1] * 90, "22:00", 200),  # midnight in Berlin, in summer and in winter
        ([0] * 100 + [n * 0.0773 + 0.01 for n in range(200)], "00:00", 100),
    ],
)
def test_dates_without_times_heap_up(hours: list[float], at: str, count: int) -> None:
    log_ = columns(at=[n * DAYS + h * HOURS for n, h in enumerate(hours, 1)])
    said = f"{count} of {len(hours)} events are stamped at {at} sharp: dates without times"
    assert found("dates_without_times", log_) == ("WARN", count, said, at)
    assert found("dates_without_times", timeless(log_))[0] == "PASS"


@pytest.mark.parametrize(
    "seconds",
    [
        [n * HOURS for n in range(2000)],  # whole hours: coarse, but times
        [n * 977.0 for n in range(2000)],
        [6 * HOURS] * 200 + [n * 977.0 for n in range(200)],  # one moment is no time of day
        [n * DAYS for n in range(99)],  # too few
        [n * DAYS for n in range(100)] + [n * 977.0 + 0.5 for n in range(10_000)],  # under a hundredth
        [n * DAYS + h * HOURS for h, size in ((9, 200), (12, 200), (15, 67)) for n in range(size)],  # shifts
    ],
)
def test_times_that_are_times_do_not(seconds: list[float]) -> None:
    assert found("dates_without_times", columns(at=seconds))[0] == "PASS"


def test_a_crowd_at_one_moment_is_a_load() -> None:
    alone = [n * 61.7 + 0.3 for n in range(5000)]
    crowd = columns(user_id=users(150, 5200), at=alone + [777.7] * 200)
    said = "200 events share 1 moments; at the fullest 150 users have 200"
    assert found("shared_moments", crowd) == ("WARN", 200, said, "2025-12-01 00:12:57.700000+00:00")
    assert found("shared_moments", columns(user_id=users(100, 5200), at=alone + [777.7] * 200))[0] == "PASS"
    busy = columns(user_id=users(500, 9000), at=[n // 300 + 0.5 for n in range(9000)])
    assert found("shared_moments", busy)[0] == "PASS"


# Order


def late(total: int, behind: dict[int, float]) -> Log:
    """Commit an event a minute, some of which happened days before."""
    days = pl.Series([behind.get(n, 0.0) for n in range(total)])
    minutes = pl.int_range(total, eager=True) * 60.0 + 100 * DAYS
    return columns(user_id=users(97, total), at=minutes - days * DAYS)


def test_late_events_are_counted_with_how_late() -> None:
    behind = dict.fromkeys(range(500, 1500, 50), 2.0) | {1700: 9.0}
    said = "21 events came more than a day late, half of them 2.0 days and more, the latest 9.0"
    assert found("late_events", late(2000, behind)) == ("WARN", 21, said, "e1700")
    assert found("late_events", late(3000, behind)) == ("PASS", 21, said, "e1700")
    assert found("late_events", late(2000, dict.fromkeys(behind, 0.99)))[:2] == ("PASS", 0)


def test_one_time_far_ahead_makes_nobody_late() -> None:
    ahead = dict.fromkeys(range(500, 1500, 50), -30.0)
    assert found("late_events", late(2000, ahead)) == ("PASS", 0, "none came more than a day late", None)


def test_a_file_of_older_events_is_not_late() -> None:
    behind = dict.fromkeys(range(3000, 4500), 50.0) | {4800: 3.0}
    said = (
        "1 events came more than a day late, half of them 3.0 days and more, the latest 3.0; "
        "1,500 older events were loaded in bulk"
    )
    assert found("late_events", late(5000, behind)) == ("PASS", 1, said, "e4800")


def test_a_log_in_another_order_says_nothing_of_lateness_and_clocks() -> None:
    random = np.random.default_rng(3)
    said = "the log is not in the order of its times: lateness cannot be told"
    names = users(60, 30_000)
    shuffled = columns(user_id=names, at=random.random(30_000) * 300 * DAYS)
    assert found("late_events", shuffled) == ("PASS", 0, said, None)
    by_user = columns(user_id=sorted(names), at=np.sort(random.random((60, 500)) * 300 * DAYS).ravel())
    assert found("late_events", by_user) == ("PASS", 0, said, None)
    blocks = columns(
        user_id=sorted(users(20, 30_000)), at=np.sort(random.random((20, 1500)) * 300 * DAYS).ravel()
    )
    assert found("late_events", blocks) == ("PASS", 0, said, None)
    # Each user did all on one evening, and some did ten times as much as others.
    evenings = [(f"u{n}", random.random() * 300 * DAYS, 200 if n % 2 else 20) for n in range(200)]
    at = np.concatenate([start + np.arange(size) * 9.0 for _, start, size in evenings])
    by_evening = columns(user_id=[u for u, _, size in evenings for _ in range(size)], at=at)
    for other in (shuffled, by_user, blocks, by_evening):
        assert found("clock_skew", other)[:2] == found("shifted_types", other)[:2] == ("PASS", 0)


def test_a_small_file_in_another_order_says_nothing_of_clocks() -> None:
    random = np.random.default_rng(4)
    evenings = np.concatenate([n + np.arange(20) * 9.0 for n in random.random(40) * 300 * DAYS])
    names = users(97, 10_000) + sorted(users(40, 800))
    at = np.concatenate([300 * DAYS + np.arange(10_000) * 60.0, evenings])
    assert found("clock_skew", columns(user_id=names, at=at))[:2] == ("PASS", 0)


@pytest.mark.parametrize(("size", "count"), [(999, 999), (1000, 0)])
def test_a_thousand_late_events_in_a_row_are_a_file(size: int, count: int) -> None:
    assert found("late_events", late(8000, dict.fromkeys(range(3000, 3000 + size), 50.0)))[1] == count


@pytest.mark.parametrize(("every", "count"), [(4, 0), (6, 490)])
def test_a_fifth_of_late_events_is_another_order(every: int, count: int) -> None:
    assert found("late_events", late(3000, dict.fromkeys(range(60, 3000, every), 3.0)))[1] == count


@pytest.mark.parametrize(("size", "count"), [(4, 0), (5, 1)])
def test_a_wrong_clock_shows_in_five_events(size: int, count: int) -> None:
    names, at = users(40, 4000), np.arange(4000) * 10.0
    for n in range(size):
        names[1000 + 40 * n], at[1000 + 40 * n] = "phone", at[1000 + 40 * n] + 7200
    assert found("clock_skew", columns(user_id=names, at=at))[1] == count


def skewed(hours: dict[str, float], total: int = 4000) -> Log:
    """Commit an event every ten seconds; the clocks of some users are wrong."""
    names = users(40, total)
    return columns(user_id=names, at=[n * 10.0 + hours.get(u, 0) * HOURS for n, u in enumerate(names)])


def test_a_clock_that_is_wrong_by_the_same_hours_is_found() -> None:
    said = "the clocks of 2 users are wrong by more than 10 minutes; the worst is 5.0 hours behind"
    assert found("clock_skew", skewed({"u3": 0.5, "u7": -5})) == ("WARN", 2, said, "u7")
    ahead = "the clocks of 1 users are wrong by more than 10 minutes; the worst is 48.0 hours ahead"
    assert found("clock_skew", skewed({"u3": 48})) == ("WARN", 1, ahead, "u3")
    assert found("clock_skew", skewed({"u3": 0.15}))[:2] == ("PASS", 0)


def test_one_wrong_clock_among_many_users_is_told_and_no_warning() -> None:
    names = users(400, 8000)
    checked = columns(user_id=names, at=[n * 10.0 + HOURS * (u == "u3") for n, u in enumerate(names)])
    assert found("clock_skew", checked)[:2] == ("PASS", 1)


def test_a_phone_that_was_offline_has_no_wrong_clock() -> None:
    """It sends at once what happened over hours: late, but not by the same time."""
    at = [n * 10.0 for n in range(4000)]
    at[2000:2020] = [2000 * 10.0 - n * 1000.0 for n in range(20, 0, -1)]
    names = users(40, 4000)
    names[2000:2020] = ["phone"] * 20
    assert found("clock_skew", columns(user_id=names, at=at))[:2] == ("PASS", 0)


@pytest.mark.parametrize(("hours", "told"), [(2, "2 hours ahead of"), (-3, "3 hours behind")])
def test_a_type_in_another_zone_is_found_by_the_order(hours: int, told: str) -> None:
    kinds = ["buy" if n % 10 == 0 else "view" for n in range(4000)]
    at = [n * 10.0 + hours * HOURS * (k == "buy") for n, k in enumerate(kinds)]
    level, count, message, example = found("shifted_types", columns(event_type=kinds, at=at))
    assert (level, example) == ("WARN", "buy")
    assert message == f"1 event types lie whole hours beside the others; buy is {told} them"
    assert 290 <= count <= 400  # at both ends of the log there are no neighbours on one side
    half = [n * 10.0 + 1800 * (k == "buy") for n, k in enumerate(kinds)]
    assert found("shifted_types", columns(event_type=kinds, at=half))[0] == "PASS"


@pytest.mark.parametrize(("hours", "level"), [(1, "WARN"), (14, "WARN"), (-14, "WARN"), (15, "PASS")])
def test_zones_differ_by_fourteen_hours_at_most(hours: int, level: str) -> None:
    kinds = ["buy" if n % 10 == 0 else "view" for n in range(4000)]
    at = [n * 10.0 + hours * HOURS * (k == "buy") for n, k in enumerate(kinds)]
    assert found("shifted_types", columns(event_type=kinds, at=at))[0] == level


def visits(hours: float, spread: float, count: int = 150) -> Log:
    """Sort visits by time as a file does: two views and a purchase about `hours` later."""
    rows = [
        (f"s{n}", kind, n * 3 * HOURS + after)
        for n in range(count)
        for kind, after in (("view", 0), ("view", 60), ("buy", 120 + hours * HOURS + (n % 7 - 3) * spread))
    ]
    sessions, kinds, at = zip(*sorted(rows, key=lambda row: row[2]), strict=True)
    return columns(session_id=sessions, event_type=kinds, at=at)


def test_a_type_in_another_zone_is_found_by_the_sessions() -> None:
    said = "1 event types lie whole hours beside the others; buy is 2 hours ahead of them"
    assert found("shifted_types", visits(2, 10)) == ("WARN", 150, said, "buy")
    assert found("shifted_types", visits(0, 10))[0] == "PASS"
    assert found("shifted_types", visits(2, 900))[0] == "PASS"  # people take their time
    assert found("shifted_types", visits(2, 10, 100))[0] == "WARN"
    assert found("shifted_types", visits(2, 10, 99))[0] == "PASS"


# Rates


def test_one_heavy_item_is_named() -> None:
    many = [f"i{n % 200}" for n in range(9000)]
    said = "1 items hold more than 10% of the events each; the largest has 1,001"
    assert found("heavy_items", columns(item_id=["home"] * 1001 + many, at=range(10_001))) == (
        "WARN", 1, said, "home",
    )  # fmt: skip
    assert found("heavy_items", columns(item_id=["home"] * 1000 + many, at=range(10_000)))[0] == "PASS"
    # Of five items each has its fifth.
    assert (
        found("heavy_items", columns(item_id=[f"i{n % 5}" for n in range(9000)], at=range(9000)))[0] == "PASS"
    )


def human(size: int, seed: int = 0) -> np.ndarray:
    """Return seconds of events with gaps as uneven as people's, who sleep for eight hours."""
    awake = np.cumsum(np.random.default_rng(seed).lognormal(4, 1.5, size))
    return awake // (16 * HOURS) * DAYS + awake % (16 * HOURS)


def within(seconds: float, size: int) -> np.ndarray:
    """Return moments at random within some seconds, the second minute of the log the first."""
    return np.sort(np.random.default_rng(1).random(size)) * seconds + 60


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (within(59, 121), "more than 120 events in a minute"),
        (within(DAYS - 61, 5001), "more than 5,000 in a day"),
        (np.arange(101) * 30.0 + 0.5, "a machine's rhythm"),
        (np.cumsum([27.0, 30, 33, 30] * 40) + 0.5, "a machine's rhythm"),
        # every fifth gap is another
        (np.cumsum([500, 30.0, 29, 31, 30] * 30) + 0.5, "a machine's rhythm"),
        ((np.arange(72) * HOURS)[:, None].repeat(2, 1).ravel() + human(144) % 3000, "every hour of 3 days"),
    ],
)
def test_robots_are_told_by_what_nobody_does(at: np.ndarray, told: str) -> None:
    people = human(2000, seed=5)
    names = users(10, 2000) + ["robot"] * len(at)
    said = f"1 users with {len(at):,} events act as no person can: 1 with {told}"
    checked = columns(user_id=names, at=np.concatenate([people, at]))
    assert found("robots", checked) == ("WARN", 1, said, "robot")
    assert found("robots", timeless(checked))[0] == "PASS"


@pytest.mark.parametrize(
    "at",
    [
        within(59, 120),
        within(DAYS - 61, 5000),
        human(3000),
        np.arange(100) * 30.0 + 0.5,  # 99 gaps
        np.cumsum([26.0, 30, 34, 30] * 40) + 0.5,  # a tenth is 3 seconds
        np.repeat(human(40), 30),  # pages of ratings that are sent at once
        np.cumsum([30.0, 29, 31, 500] * 40) + 0.5,
        np.arange(300) * float(DAYS),  # dates: one event a day is no rhythm
        np.repeat(np.arange(20) * float(DAYS), 400),  # dates: a day's events are no minute's
        (np.arange(48) * HOURS)[:, None].repeat(3, 1).ravel() + human(144) % 3000,
    ],
)
def test_people_are_no_robots(at: np.ndarray) -> None:
    assert found("robots", columns(at=at))[:2] == ("PASS", 0)


def test_a_robot_of_several_kinds_counts_once() -> None:
    at = np.concatenate([np.arange(6000) * 0.4 + 60, human(1000)])
    checked = columns(user_id=["robot"] * 6000 + users(9, 1000), at=at)
    said = (
        "1 users with 6,000 events act as no person can: 1 with more than 120 events in a minute, "
        "1 with more than 5,000 in a day, 1 with a machine's rhythm"
    )
    assert found("robots", checked) == ("WARN", 1, said, "robot")


# Drift


def daily(counts: Sequence[int], kinds: Sequence[str] = ("view",)) -> Log:
    at = [
        day * DAYS + (n + 0.5) * DAYS / (count + 1) for day, count in enumerate(counts) for n in range(count)
    ]
    return columns(event_type=[kinds[n % len(kinds)] for n in range(len(at))], at=at)


WEEK = [100, 104, 96, 108, 100, 40, 30]


def test_a_new_level_of_volume_is_found_on_its_day() -> None:
    before, after = WEEK * 5, [3 * n for n in WEEK] * 3
    said = "the level of a day's events changes 1 times; most from 100 to 300"
    assert found("volume_drift", daily(before + after)) == ("WARN", 1, said, "from 2026-01-05")
    back = "the level of a day's events changes 1 times; most from 300 to 100"
    fallen = daily([3 * n for n in WEEK] * 5 + WEEK * 3)
    assert found("volume_drift", fallen) == ("WARN", 1, back, "from 2026-01-05")
    twice = daily(before + [n // 4 for n in WEEK] * 5 + WEEK * 5)
    assert found("volume_drift", twice)[:2] == ("WARN", 2)


@pytest.mark.parametrize(
    "counts",
    [
        WEEK * 8,
        WEEK * 5 + [9 * n for n in WEEK[:2]] + WEEK * 3,  # a feast of two days
        [round(n * 1.015**day) for day, n in enumerate(WEEK * 10)],  # growth of a half a month
        [n * 19 // 100 for n in WEEK] * 5 + [n // 20 for n in WEEK] * 3,  # so few that a change says nothing
        WEEK * 4,  # too short
        WEEK * 5 + [0] * 9 + WEEK * 5,  # a silence is gaps_in_days' business
        [20, 300, 60, 900, 10, 200, 80] * 5 + [50, 600, 120, 1800, 20, 400, 160] * 3,  # bursts
    ],
)
def test_volume_that_keeps_its_level_does_not_drift(counts: list[int]) -> None:
    assert found("volume_drift", daily(counts))[0] == "PASS"


@pytest.mark.parametrize(
    ("before", "after", "level"),
    [
        ([100], [200], "WARN"),
        ([100], [199], "PASS"),
        ([9], [20], "WARN"),
        ([9], [19], "PASS"),
        # Days that differ by a factor of two anyway have to change by 4.7.
        ([70, 140], [560, 280], "WARN"),
        ([70, 140], [420, 210], "PASS"),
    ],
)
def test_a_level_has_to_change_enough(before: list[int], after: list[int], level: str) -> None:
    assert found("volume_drift", daily(before * (80 // len(before)) + after * (12 // len(after))))[0] == level


def test_drift_needs_four_weeks_before_and_one_after() -> None:
    assert found("volume_drift", daily([100] * 29 + [300] * 8))[:2] == ("WARN", 1)  # both ends are cut
    assert found("volume_drift", daily([100] * 29 + [300] * 7))[2] == "less than five weeks"
    assert found("type_drift", mixed([0.1] * 4 + [0.0]))[0] == "WARN"
    assert found("type_drift", mixed([0.1] * 4))[2] == "less than five weeks"


@pytest.mark.parametrize(
    ("before", "after", "level"),
    [
        (0.12, 0.035, "WARN"),
        (0.12, 0.045, "PASS"),
        (0.05, 0.16, "WARN"),
        (0.05, 0.14, "PASS"),
        (0.075, 0.0, "WARN"),  # of 1,400 events a week 105 were due
        (0.07, 0.0, "PASS"),
        (0.02, 0.073, "WARN"),
        (0.02, 0.07, "PASS"),
    ],
)
def test_a_share_has_to_change_enough(before: float, after: float, level: str) -> None:
    assert found("type_drift", mixed([before] * 5 + [after]))[0] == level


def mixed(shares: Sequence[float], total: int = 200) -> Log:
    """Make a log of whole weeks in each of which `cart` has a share; a day before and after are cut."""
    kinds = ["view"]
    for share in shares:
        kinds += ["cart"] * round(7 * total * share) + ["view"] * (7 * total - round(7 * total * share))
    days = [0.0] + [1 + n / total for n in range(len(kinds) - 1)]
    return columns(event_type=[*kinds, "view"], at=[d * DAYS + 0.5 for d in [*days, 7 * len(shares) + 1.5]])


def test_a_type_that_stops_or_starts_is_found_in_its_week() -> None:
    said = "1 event types change their share of the log abruptly; cart from 10.0% to 0.0%"
    lost = found("type_drift", mixed([0.1] * 5 + [0.0] * 2))
    assert lost == ("WARN", 1, said, "cart in the week of 2026-01-06")
    said = "1 event types change their share of the log abruptly; cart from 0.0% to 10.0%"
    assert found("type_drift", mixed([0.0] * 5 + [0.1])) == (
        "WARN",
        1,
        said,
        "cart in the week of 2026-01-06",
    )


@pytest.mark.parametrize(
    "shares",
    [[0.1] * 8, [0.1] * 5 + [0.04] * 2, [0.1] * 5 + [0.25], [0.05] * 5 + [0.0], [0.1] * 4],
)
def test_a_mix_that_moves_little_does_not_drift(shares: list[float]) -> None:
    assert found("type_drift", mixed(shares))[0] == "PASS"


def test_drift_is_not_asked_of_an_order() -> None:
    for name in ("volume_drift", "type_drift"):
        assert found(name, timeless(daily(WEEK * 9)))[2] == "an order, no times"


# Texts


def written(*texts: str | None, properties: str | None = None) -> Log:
    return columns(text=list(texts), properties=properties, at=range(len(texts)))


@pytest.mark.parametrize(
    ("check", "text", "example"),
    [
        ("html_in_text", "so <b>good</b>!", "so <b>good</b>!"),
        ("html_in_text", "it&#39;s fine", "it&#39;s fine"),
        ("html_in_text", "<a href='x'>mail a@b.de</a> to me", "<a href='x'>mail [email]</a> to"),
        ("broken_encoding", "a cafÃ© in town", "a cafÃ© in town"),
        ("broken_encoding", "itâ€™s fine", "itâ€™s fine"),
        ("broken_encoding", "na\ufffdve", "na\ufffdve"),
    ],
)
def test_marred_texts_are_counted_and_shown(check: str, text: str, example: str) -> None:
    what = {"html_in_text": "HTML", "broken_encoding": "letters of a wrong encoding"}[check]
    said = f"texts that hold {what}: 1 of 2 of events"
    assert found(check, written(text, "plain", None)) == ("WARN", 1, said, example)
    assert found(check, written(text, *["plain"] * 99))[:2] == ("PASS", 1)
    titled = log(items=[{"item_id": "a", "title": text, "text": text}])
    assert found(check, titled)[2] == f"texts that hold {what}: 1 of 1 of items, 1 of 1 titles"


def test_plain_texts_are_not_marred() -> None:
    plain = written(
        "I <3 it", "a < b > c", "R&D; AT&T", "x<y and z>w", "São Paulo, café, naïve, Ärger", "<name>"
    )
    assert found("html_in_text", plain)[:2] == found("broken_encoding", plain)[:2] == ("PASS", 0)


def test_personal_data_is_counted_by_kind_and_never_shown() -> None:
    checked = written(
        "write to ann@shop.example or +49 30 1234567", "my card 4111 1111 1111 1111", "19.99", None
    )
    said = "2 events hold personal data in their text: 1 email, 1 card, 1 phone"
    assert found("personal_data", checked) == ("WARN", 2, said, "e0: write to [email] or [phone]")
    inside = written(None, properties='{"note": "call (555) 123-4567"}')
    said = "1 events hold personal data in their text: 1 phone"
    assert found("personal_data", inside) == ("WARN", 1, said, 'e0: {"note": "call [phone]"}')
    assert found("personal_data", written("a lamp of 2024", properties='{"n": 4930123456789}'))[0] == "PASS"


# Real logs, every finding of which was looked at

DATA = Path(os.environ.get("ATTUNE_DATA", "/nowhere"))
SECONDS, MOMENT = pl.from_epoch(pl.col("timestamp").cast(pl.Int64)), pl.datetime("year", "month", "day")


@pytest.mark.skipif(not (DATA / "ml_100k").is_dir(), reason="ATTUNE_DATA names no folder of real data")
@pytest.mark.parametrize(
    ("path", "given_", "told"),
    [
        ("ml_100k/ratings",
         {"user_id": "user_id", "item_id": "movie_id", "value": "rating", "timestamp": SECONDS}, set()),
        # The crowd of November 2000 is there: 21,000 ratings a day where there had been 2,000.
        ("ml_1m/ratings",
         {"user_id": "user_id", "item_id": "movie_id", "value": "rating", "timestamp": SECONDS},
         {"volume_drift"}),
        # Some page views are told twice.
        ("deskdrop/users_interactions",
         {"user_id": "personId", "item_id": "contentId", "event_type": "eventType", "session_id": "sessionId",
          "timestamp": SECONDS}, {"repeated_events"}),
        # Dates, some wrong; a tag is an event and the tag itself is not mapped.
        ("lastfm/user_taggedartists", {"user_id": "userID", "item_id": "artistID", "timestamp": MOMENT},
         {"times_in_range", "dates_without_times", "repeated_events", "gaps_in_days"}),
        ("amazon_instruments/reviews",
         {"user_id": "reviewerID", "item_id": "asin", "value": "overall", "text": "reviewText",
          "timestamp": pl.from_epoch("unixReviewTime")},
         {"dates_without_times", "gaps_in_days", "html_in_text", "personal_data"}),
    ],
)  # fmt: skip
def test_real_logs_are_told_what_is_true_of_them(path: str, given_: dict[str, Any], told: set[str]) -> None:
    shaped = {name: pl.col(v) if isinstance(v, str) else v for name, v in given_.items()}
    frame = pl.read_parquet(DATA / f"{path}.parquet").select(**{"event_type": pl.lit("act")} | shaped)
    frame = frame.drop_nulls("timestamp").with_row_index("event_id")
    time = pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    events = EVENTS.conform(frame.with_columns(time))
    findings = run_checks(Log(events, ITEMS.empty(), USERS.empty(), {}, NOW))
    assert {f.check for f in findings if f.level != "PASS"} - {"texts_present"} == told
