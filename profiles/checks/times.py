"""Are the times moments: in range, not ahead, finer than a day, and each event's own."""

from datetime import timedelta

import polars as pl

from profiles.checks.findings import TOLERATED, Finding, Log, first
from profiles.schema import AHEAD, DAY, EARLIEST, TIME

LONGEST_SILENCE = 7  # days without an event, within the log
QUARTER = DAY // 96  # zones differ by whole quarters of an hour
FEWEST_SHARP = 100  # events at one time of day
STANDS_OUT = 3  # a time of day holds this many times what the third most frequent one holds
CROWD, CROWD_TIMES = 100, 100  # users at one moment, and events in times of what a moment has on average


def times_in_range(log: Log) -> Finding:
    """Events happened since 1990, and not all at one moment."""
    times = log.events["timestamp"]
    early = times.filter(times < EARLIEST)
    if log.timeless or times.is_empty():
        return Finding("times_in_range", "PASS", 0, "an order, no times" if log.timeless else "no times")
    if early.len():
        message = f"{early.len():,} events lie before 1990"
        return Finding("times_in_range", "WARN", early.len(), message, first(early), "look at time_unit")
    if times.len() > 1 and times.n_unique() == 1:
        advice = "without times or an order nothing can be split in time"
        return Finding(
            "times_in_range", "WARN", times.len(), "all events have one time", first(times), advice
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
        "future_times", "WARN", late.len(), message, first(late), "look at time_unit and at the zone"
    )


def dates_without_times(log: Log) -> Finding:
    """Times are moments, not dates: they do not heap up at midnight, here or in another zone."""
    seen, total = Finding("dates_without_times", "PASS", 0, "no time of day stands out"), log.events.height
    clock = pl.col("timestamp").cast(pl.Int64) % DAY
    sharp = log.events.select(clock=clock).filter(pl.col("clock") % QUARTER == 0)
    heaps = sharp.group_by("clock").agg(events=pl.len()).sort("events", "clock", descending=[True, False])
    # Midnight in a zone with summer time falls on two times of day here.
    two, third = int(heaps["events"].head(2).sum()), int(heaps["events"].slice(2, 1).sum())
    if log.timeless or two < max(FEWEST_SHARP, TOLERATED * total) or two <= 2 * STANDS_OUT * third:
        return seen
    heap = heaps.row(0)[0]
    days = log.events.filter(clock == heap).select(pl.col("timestamp").dt.date().n_unique()).item()
    if days < 2:  # one moment, not a time of day
        return seen
    at = (timedelta(microseconds=heap) + EARLIEST).strftime("%H:%M")
    message = f"{two:,} of {total:,} events are stamped at {at} sharp: dates without times"
    advice = (
        "within a day their order is not known, nor are visits and habits; map the full time if there is one"
    )
    return Finding("dates_without_times", "WARN", two, message, at, advice)


def shared_moments(log: Log) -> Finding:
    """No crowd acts at one moment, as when the time of a load is written in place of the event's."""
    seen = "no moment is shared by a crowd"
    moments = log.events.group_by("timestamp").agg(events=pl.len())
    usual = log.events.height / max(moments.height, 1)
    big = moments.filter(pl.col("events") > max(CROWD, CROWD_TIMES * usual))
    if log.timeless or big.is_empty() or dates_without_times(log).level != "PASS":
        return Finding("shared_moments", "PASS", 0, seen)
    inside = log.events.join(big, on="timestamp", how="semi").group_by("timestamp")
    users = inside.agg(users=pl.col("user_id").n_unique(), events=pl.len())
    crowds = users.filter(pl.col("users") > CROWD).sort("events", "timestamp", descending=[True, False])
    if crowds.is_empty():
        return Finding("shared_moments", "PASS", 0, seen)
    when, most, events = crowds.row(0)
    count = int(crowds["events"].sum())
    message = f"{count:,} events share {crowds.height} moments; at the fullest {most:,} users have {events:,}"
    advice = "is it the time of a load or a migration? Their own times are lost, and decays go by this one"
    return Finding("shared_moments", "WARN", count, message, str(when), advice)


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


def _day(moment: object) -> str:
    return str(pl.Series([moment], dtype=TIME).dt.strftime("%Y-%m-%d")[0])
