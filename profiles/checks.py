"""One function per promise a behaviour log must keep; each returns one finding.

FAIL: nothing good can be built on this log. WARN: it can, but look at it first. A PASS says what was seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from profiles.schema import AHEAD, EARLIEST, TIME

Level = Literal["PASS", "WARN", "FAIL"]
HEAVY_SHARE, HEAVY_EVENTS = 0.05, 1000
LONGEST_SILENCE = 7  # days without an event, within the log
ONE_CLICK = ["user_id", "item_id", "event_type", "timestamp"]


@dataclass(frozen=True)
class Log:
    """What is checked: EVENTS, ITEMS, USERS, the weight of each event type (empty: not said), and the moment.

    Of a timeless log, whose times are only an order, the clock is not asked.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    weights: Mapping[str, float]
    now: datetime
    timeless: bool = False


@dataclass(frozen=True)
class Finding:
    """What one check saw: how many rows or ids break the promise, one of them, and what to do."""

    check: str
    level: Level
    count: int
    message: str
    example: str | None = None
    advice: str = ""


def has_events(log: Log) -> Finding:
    """A log holds events."""
    if log.events.height:
        return Finding("has_events", "PASS", 0, f"{log.events.height:,} events")
    return Finding(
        "has_events", "FAIL", 1, "no events", None, "look at the rejected rows and the column mapping"
    )


def has_several_users(log: Log) -> Finding:
    """More than one user acted."""
    count = log.events["user_id"].n_unique()
    if count > 1:
        return Finding("has_several_users", "PASS", 0, f"{count:,} users")
    message = "one user: nothing can be learned from others" if count else "no users"
    advice = "look at what user_id is mapped to"
    return Finding("has_several_users", "FAIL", 1, message, _first(log.events["user_id"]), advice)


def has_several_items(log: Log) -> Finding:
    """Events name more than one item."""
    items = log.events["item_id"].drop_nulls()
    count = items.n_unique()
    if count > 1:
        return Finding("has_several_items", "PASS", 0, f"{count:,} items")
    message = "one item: there is nothing to choose from" if count else "no event names an item"
    return Finding(
        "has_several_items", "FAIL", 1, message, _first(items), "look at what item_id is mapped to"
    )


def times_in_range(log: Log) -> Finding:
    """Events happened since 1990, and not all at one moment."""
    times = log.events["timestamp"]
    early = times.filter(times < EARLIEST)
    if log.timeless or times.is_empty():
        return Finding("times_in_range", "PASS", 0, "an order, no times" if log.timeless else "no times")
    if early.len():
        message = f"{early.len():,} events lie before 1990"
        return Finding("times_in_range", "WARN", early.len(), message, _first(early), "look at time_unit")
    if times.len() > 1 and times.n_unique() == 1:
        advice = "without times or an order nothing can be split in time"
        return Finding(
            "times_in_range", "WARN", times.len(), "all events have one time", _first(times), advice
        )
    return Finding("times_in_range", "PASS", 0, f"from {_day(times.min())} to {_day(times.max())}")


def future_times(log: Log) -> Finding:
    """No event lies more than a day ahead."""
    times = log.events["timestamp"]
    late = times.filter(times > log.now + AHEAD)
    if log.timeless or late.is_empty():
        return Finding("future_times", "PASS", 0, "none lies in the future")
    message = f"{late.len():,} events lie in the future"
    return Finding(
        "future_times", "WARN", late.len(), message, _first(late), "look at time_unit and at the zone"
    )


def unknown_items(log: Log) -> Finding:
    """What events name is in the catalogue, where there is one."""
    named = log.events.select(pl.col("item_id").drop_nulls().unique(maintain_order=True))
    unknown = named.join(log.items.select("item_id"), on="item_id", how="anti", maintain_order="left")[
        "item_id"
    ]
    if log.items.is_empty() or unknown.is_empty():
        seen = "there is no catalogue" if log.items.is_empty() else "every item is in the catalogue"
        return Finding("unknown_items", "PASS", 0, seen)
    message = f"{unknown.len():,} of {named.height:,} items that events name are not in the catalogue"
    advice = "they have no title or text; add them to the items, or look at how both sides write ids"
    return Finding("unknown_items", "WARN", unknown.len(), message, _first(unknown), advice)


def silent_users(log: Log) -> Finding:
    """Users that the user list names have acted."""
    silent = log.users.join(log.events, on="user_id", how="anti", maintain_order="left")["user_id"]
    if not silent.len():
        return Finding("silent_users", "PASS", 0, "every listed user has events")
    if silent.len() < log.users.height:
        return Finding(
            "silent_users", "PASS", silent.len(), f"{silent.len():,} listed users have no events yet"
        )
    advice = "look at how both sides write ids"
    return Finding(
        "silent_users", "WARN", silent.len(), "no listed user has an event", _first(silent), advice
    )


def unweighted_types(log: Log) -> Finding:
    """Every event type has a weight, once weights are given."""
    types = log.events["event_type"].value_counts(sort=True)
    bare = types.filter(~pl.col("event_type").is_in(list(log.weights)))
    if not log.weights or bare.is_empty():
        return Finding("unweighted_types", "PASS", 0, f"{types.height} event types")
    names, events = ", ".join(bare["event_type"]), int(bare["count"].sum())
    advice = "give each a weight; 0 says that it counts for nothing"
    message = f"{events:,} events are of types without a weight: {names}"
    return Finding("unweighted_types", "WARN", events, message, _first(bare["event_type"]), advice)


def repeated_events(log: Log) -> Finding:
    """The same user, item, type and time come once."""
    again = log.events.filter(~pl.struct(ONE_CLICK).is_first_distinct())
    if again.is_empty():
        return Finding("repeated_events", "PASS", 0, "none is there twice")
    example = ", ".join(str(value) for value in again.select(ONE_CLICK).row(0))
    message = f"{again.height:,} events have the user, item, type and time of another"
    advice = "harmless where repeats are real; a log joined or exported twice looks like this"
    return Finding("repeated_events", "WARN", again.height, message, example, advice)


def lookalike_ids(log: Log) -> Finding:
    """Ids differ by more than case or blanks."""
    groups = [
        pair
        for name in ("user_id", "item_id")
        for pair in _lookalikes(log.events[name].drop_nulls().unique())
    ]
    if not groups:
        return Finding("lookalike_ids", "PASS", 0, "no two ids look alike")
    advice = "if they are one, write them alike in the source: here they are two"
    message = f"{len(groups):,} ids differ from another only by case or blanks"
    return Finding("lookalike_ids", "WARN", len(groups), message, groups[0], advice)


def heavy_users(log: Log) -> Finding:
    """No single user makes a large part of the log."""
    counts = log.events["user_id"].value_counts(sort=True)
    heavy = counts.filter(
        (pl.col("count") > HEAVY_EVENTS) & (pl.col("count") > HEAVY_SHARE * log.events.height)
    )
    if heavy.is_empty():
        return Finding(
            "heavy_users", "PASS", 0, f"none has more than {HEAVY_EVENTS:,} events and {HEAVY_SHARE:.0%}"
        )
    user, events = heavy.row(0)
    message = f"{heavy.height} users make more than {HEAVY_SHARE:.0%} each; the largest has {events:,} events"
    return Finding(
        "heavy_users", "WARN", heavy.height, message, user, "a robot, a test account or a shared one?"
    )


def gaps_in_days(log: Log) -> Finding:
    """A log has no silence of more than a week inside."""
    days = log.events.select(pl.col("timestamp").dt.date().unique().sort().alias("day"))
    gaps = days.with_columns(silent=pl.col("day").diff().dt.total_days() - 1).filter(
        pl.col("silent") > LONGEST_SILENCE
    )
    if log.timeless or gaps.is_empty():
        return Finding("gaps_in_days", "PASS", 0, f"no silence of more than {LONGEST_SILENCE} days")
    day, silent = gaps.sort("silent", descending=True, maintain_order=True).row(0)
    message = f"{gaps.height} silences of more than {LONGEST_SILENCE} days; the longest has {silent} days"
    advice = "is a file missing? Splits and decays in time take silence for rest"
    return Finding("gaps_in_days", "WARN", gaps.height, message, f"until {day}", advice)


def items_without_title(log: Log) -> Finding:
    """Items have a title to show."""
    bare = log.items.filter(pl.col("title").is_null())["item_id"]
    if bare.is_empty():
        return Finding("items_without_title", "PASS", 0, f"{log.items.height:,} items, all with a title")
    message = f"{bare.len():,} of {log.items.height:,} items have no title"
    return Finding(
        "items_without_title", "WARN", bare.len(), message, _first(bare), "people will see their ids"
    )


def texts_present(log: Log) -> Finding:
    """There is text to learn from, written by users or about items."""
    written, described = (int(frame["text"].count()) for frame in (log.events, log.items))
    titled = int(log.items["title"].count())
    if written or described or titled:
        message = f"text of {written:,} events and {described:,} items, {titled:,} titles"
        return Finding("texts_present", "PASS", 0, message)
    message = "no event and no item has text or title"
    return Finding(
        "texts_present", "WARN", 1, message, None, "map text or title where there is any to use text"
    )


CHECKS: dict[str, Callable[[Log], Finding]] = {
    "has_events": has_events,
    "has_several_users": has_several_users,
    "has_several_items": has_several_items,
    "times_in_range": times_in_range,
    "future_times": future_times,
    "unknown_items": unknown_items,
    "silent_users": silent_users,
    "unweighted_types": unweighted_types,
    "repeated_events": repeated_events,
    "lookalike_ids": lookalike_ids,
    "heavy_users": heavy_users,
    "gaps_in_days": gaps_in_days,
    "items_without_title": items_without_title,
    "texts_present": texts_present,
}


def run_checks(log: Log) -> list[Finding]:
    """Run every check, in the order of CHECKS."""
    return [check(log) for check in CHECKS.values()]


def _lookalikes(ids: pl.Series) -> list[str]:
    """Show each id that equals an earlier one once case and blanks are gone, beside that one."""
    folded = pl.col("id").str.replace_all(r"\s", "").str.to_lowercase()
    frame = pl.DataFrame({"id": ids.sort()}).with_columns(first=pl.col("id").first().over(folded))
    pairs = frame.filter(pl.col("id") != pl.col("first"))
    return [f"{first!r} and {own!r}" for own, first in pairs.rows()]


def _first(values: pl.Series) -> str | None:
    """Show the first value."""
    return str(values[0]) if values.len() else None


def _day(moment: object) -> str:
    return str(pl.Series([moment], dtype=TIME).dt.strftime("%Y-%m-%d")[0])
