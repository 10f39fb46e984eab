"""Does the log stay what it was: its volume from day to day, its mix of types from week to week.

Measured against the four weeks before, by medians: every weekday is in them equally often, a feast day
moves nothing, and slow growth passes.
"""

import math
from datetime import timedelta

import polars as pl

from profiles.checks.findings import Finding, Log

BEFORE, AFTER = 28, 7  # days
FACTOR, FEWEST_A_DAY = 2.0, 20  # a level that doubles or halves, of at least so many events a day
SPREADS = 3.0  # and is farther than three times what days differ anyway (MAD, scaled as a standard deviation)
MAD = 1.4826
TYPE_FACTOR, FEWEST_A_WEEK = 3.0, 100
MOST_TYPES = 100  # an id mapped to event_type makes millions


def volume_drift(log: Log) -> Finding:
    """The number of events a day keeps its level from one week to the next."""
    days = _days(log)
    if days.height < BEFORE + AFTER:
        return Finding(
            "volume_drift", "PASS", 0, "an order, no times" if log.timeless else "less than five weeks"
        )
    count = pl.col("events").replace(0, None)  # silence is for gaps_in_days
    level, logs = pl.col("before"), count.log()
    days = days.with_columns(
        before=count.rolling_median(BEFORE, min_samples=BEFORE // 2).shift(1),
        after=count.rolling_median(AFTER, min_samples=AFTER // 2 + 1).shift(1 - AFTER),
        spread=MAD * _middle((logs - _middle(logs)).abs()).shift(1),
        step=logs - logs.shift(AFTER),  # against the same day of the week before
    )[BEFORE:]
    days = days.with_columns(change=(pl.col("after") / level).log())
    big = pl.max_horizontal("before", "after") >= FEWEST_A_DAY
    far = pl.col("change").abs() >= pl.max_horizontal(math.log(FACTOR), SPREADS * pl.col("spread"))
    runs = days.with_columns(moved=(big & far).fill_null(False)).with_columns(run=pl.col("moved").rle_id())
    size = pl.col("change").abs()
    # The median of a week moves up to three days ahead of the days; the day is the first on the new level.
    there = (pl.col("step") - pl.col("change")).abs() < pl.col("step").abs()
    shifts = (
        runs.filter("moved")
        .group_by("run")
        .agg(
            pl.col("before", "after").get(size.arg_max()),
            since=pl.coalesce(pl.col("day").filter(there).first(), pl.col("day").first()),
            size=size.max(),
        )
        .sort("size", "since", descending=[True, False])
    )
    if shifts.is_empty():
        return Finding("volume_drift", "PASS", 0, "the volume of a day keeps its level")
    before, after, since = shifts.select("before", "after", "since").row(0)
    message = (
        f"the level of a day's events changes {shifts.height} times; most from {before:,.0f} to {after:,.0f}"
    )
    advice = "a source added or lost, or the world? What was learned before it may not hold after"
    return Finding("volume_drift", "WARN", shifts.height, message, f"from {since}", advice)


def type_drift(log: Log) -> Finding:
    """Each event type keeps its share of the log from one week to the next."""
    days = _days(log)
    weeks = days.height // AFTER
    if weeks < BEFORE // AFTER + 1:
        return Finding(
            "type_drift", "PASS", 0, "an order, no times" if log.timeless else "less than five weeks"
        )
    first = days["day"][0]
    week = (pl.col("timestamp").dt.date() - pl.lit(first)).dt.total_days() // AFTER
    counts = log.events.group_by("event_type", week.alias("week")).agg(events=pl.len())
    types = log.events["event_type"].value_counts(sort=True).head(MOST_TYPES).select("event_type")
    grid = pl.DataFrame({"week": range(weeks)}, schema={"week": pl.Int64}).join(types, how="cross")
    table = grid.join(counts, on=["week", "event_type"], how="left").with_columns(
        pl.col("events").fill_null(0)
    )
    total = pl.col("events").sum().over("week")
    table = table.sort("event_type", "week").with_columns(
        total=total, share=pl.when(total > 0).then(pl.col("events") / total)
    )
    usual = pl.col("share").rolling_median(BEFORE // AFTER).shift(1).over("event_type")
    table = table.with_columns(usual=usual).with_columns(due=pl.col("usual") * pl.col("total"))
    fewer = (pl.col("due") >= FEWEST_A_WEEK) & (pl.col("share") * TYPE_FACTOR <= pl.col("usual"))
    more = (pl.col("events") >= FEWEST_A_WEEK) & (pl.col("share") >= TYPE_FACTOR * pl.col("usual"))
    moved = table.filter((pl.col("total") > 0) & (fewer | more))
    if moved.is_empty():
        return Finding("type_drift", "PASS", 0, "every event type keeps its share")
    gap = (pl.col("share") - pl.col("usual")).abs()
    top = moved.sort(gap, "event_type", descending=[True, False], maintain_order=True)
    name, number, share, before = top.select("event_type", "week", "share", "usual").row(0)
    names = moved["event_type"].n_unique()
    message = (
        f"{names} event types change their share of the log abruptly; {name} from {before:.1%} to {share:.1%}"
    )
    advice = "has a type been renamed, or does a tracker no longer send it?"
    since = first + timedelta(days=number * AFTER)
    return Finding("type_drift", "WARN", names, message, f"{name} in the week of {since}", advice)


def _middle(values: pl.Expr) -> pl.Expr:
    return values.rolling_median(BEFORE, min_samples=AFTER)


def _days(log: Log) -> pl.DataFrame:
    """Return (day, events) for every whole day of the log, silent ones too; the first and last are cut."""
    counts = (
        log.events.group_by(day=pl.col("timestamp").dt.date()).agg(events=pl.len().cast(pl.Int64)).sort("day")
    )
    if log.timeless or counts.height < 2:
        return counts.clear()
    span = pl.date_range(counts["day"][0], counts["day"][-1], eager=True).alias("day").to_frame()
    return span.join(counts, on="day", how="left", maintain_order="left").fill_null(0)[1:-1]
