"""Checks: each has a log that keeps its promise and one that breaks it, in words and in number."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from profiles.checks import CHECKS, Finding, Log, run_checks
from profiles.schema import EVENTS, ITEMS, USERS

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
