"""Is what happens as much, as often and as steady as people make it."""

import polars as pl

from profiles.checks.findings import Finding, Log
from profiles.schema import DAY

HEAVY_SHARE, HEAVY_EVENTS = 0.05, 1000
HEAVY_ITEM_SHARE, HEAVY_ITEM_TIMES = 0.1, 10  # of all events, and in times of an even share
# What nobody does: two events a second for a minute; one every six seconds for eight hours; a rhythm
# kept within a tenth in four gaps of five; no hour without an event on three days. In MovieLens 1M, where
# whole pages of ratings are sent at once, the most are 33, 1,439, 53 of 100 gaps, and one such day.
IN_MINUTE, IN_DAY = 120, 5000
RHYTHM_GAPS, RHYTHM_WIDTH, RHYTHM_SHARE = 100, 0.1, 0.8
SLEEPLESS_DAYS = 3
COARSE = DAY // 96
ROBOT_KINDS = {
    "minute": f"more than {IN_MINUTE} events in a minute",
    "day": f"more than {IN_DAY:,} in a day",
    "rhythm": "a machine's rhythm",
    "sleepless": f"every hour of {SLEEPLESS_DAYS} days",
}


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


def heavy_items(log: Log) -> Finding:
    """No single item makes a large part of the log."""
    counts = log.events["item_id"].drop_nulls().value_counts(sort=True)
    named = int(counts["count"].sum())
    share = max(HEAVY_ITEM_SHARE, HEAVY_ITEM_TIMES / max(counts.height, 1))
    heavy = counts.filter((pl.col("count") > HEAVY_EVENTS) & (pl.col("count") > share * named))
    if heavy.is_empty():
        return Finding(
            "heavy_items", "PASS", 0, f"none has more than {HEAVY_EVENTS:,} events and {share:.0%}"
        )
    item, events = heavy.row(0)
    message = (
        f"{heavy.height} items hold more than {share:.0%} of the events each; the largest has {events:,}"
    )
    advice = "a home page, a shipping fee or a default value? Nobody chose it; leave it out"
    return Finding("heavy_items", "WARN", heavy.height, message, item, advice)


def robots(log: Log) -> Finding:
    """Nobody acts faster, steadier or longer than a person can."""
    seen = "no user acts as no person can"
    if log.timeless or log.events.is_empty():
        return Finding("robots", "PASS", 0, "an order, no times" if log.timeless else seen)
    found = {kind: users for kind, users in _robots(log.events).items() if users.len()}
    if not found:
        return Finding("robots", "PASS", 0, seen)
    users = pl.concat(found.values()).unique().sort()
    kinds = ", ".join(f"{found[kind].len():,} with {ROBOT_KINDS[kind]}" for kind in found)
    made = log.events["user_id"].is_in(users.implode()).sum()
    message = f"{users.len():,} users with {made:,} events act as no person can: {kinds}"
    advice = "leave robots, monitors and test accounts out; they teach what nobody wants"
    example = f"{next(iter(found.values()))[0]}"
    return Finding("robots", "WARN", users.len(), message, example, advice)


def _robots(events: pl.DataFrame) -> dict[str, pl.Series]:
    """Return the users of each kind, those with most of it first.

    Where most times are cut to quarters of an hour or coarser, only the day can be judged.
    """
    times = events.select(
        user=pl.col("user_id").cast(pl.Categorical), time=pl.col("timestamp").cast(pl.Int64)
    )
    counts = times.group_by("user").agg(events=pl.len())
    times = times.join(counts.filter(pl.col("events") >= RHYTHM_GAPS), on="user", how="semi")
    found = {"day": _bursts(times, DAY, IN_DAY)}
    fine = times.select((pl.col("time") % COARSE != 0).sum()).item()
    if 2 * fine > times.height:
        found = {"minute": _bursts(times, DAY // 1440, IN_MINUTE)} | found
        found |= {"rhythm": _rhythms(times), "sleepless": _sleepless(times)}
    return {kind: users.cast(pl.String) for kind, users in found.items()}


def _bursts(times: pl.DataFrame, span: int, most: int) -> pl.Series:
    """Return the users with more events than `most` in a span of the clock."""
    spans = (
        times.group_by("user", pl.col("time") // span).agg(events=pl.len()).filter(pl.col("events") > most)
    )
    ranked = (
        spans.group_by("user").agg(pl.col("events").max()).sort("events", "user", descending=[True, False])
    )
    return ranked["user"]


def _rhythms(times: pl.DataFrame) -> pl.Series:
    """Return the users most of whose gaps are as long as their median gap."""
    time = pl.col("time").sort().diff()
    gap = time.filter(time > 0)
    near = (gap - gap.median()).abs() <= RHYTHM_WIDTH * gap.median()
    users = times.group_by("user").agg(gaps=gap.len(), near=near.mean())
    steady = users.filter((pl.col("gaps") >= RHYTHM_GAPS) & (pl.col("near") >= RHYTHM_SHARE))
    return steady.sort("near", "user", descending=[True, False])["user"]


def _sleepless(times: pl.DataFrame) -> pl.Series:
    """Return the users with an event in every hour of several days."""
    hours = times.select("user", hour=pl.col("time") // (DAY // 24)).unique()
    days = hours.group_by("user", pl.col("hour") // 24).agg(hours=pl.len()).filter(pl.col("hours") == 24)
    users = days.group_by("user").agg(days=pl.len()).filter(pl.col("days") >= SLEEPLESS_DAYS)
    return users.sort("days", "user", descending=[True, False])["user"]
