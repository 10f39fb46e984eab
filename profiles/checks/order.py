"""Do times agree with the order in which events were committed.

The ruler is the median time of the events committed around an event. In a log that is in order it is the
event's own time, however sparse the log; a wrong clock does not move it. Where the log was loaded in
another order, by user say, the ruler means nothing, and nothing is said.
"""

import polars as pl

from profiles.checks.findings import Finding, Log, first, worth
from profiles.schema import DAY

BESIDE = 101  # events whose median time is the time it was
LATE = DAY  # a day later the daily build has gone by without the event
LOADED = 1000  # so many late events in a row are a file of older events, not stragglers
DISORDER, ALL_DISORDER = 0.2, 0.9  # shares of late events, without and with those loaded, of another order
HOUR, SLACK = 3_600_000_000, 600_000_000  # queues and retries take minutes
WIDEST_ZONE = 14  # hours
FEWEST, FEWEST_OF_TYPE = 5, 100  # events that show the same shift
SHIFT = (
    pl.col("offset").median().alias("shift"),
    (pl.col("offset").quantile(0.75) - pl.col("offset").quantile(0.25)).alias("spread"),
)


def late_events(log: Log) -> Finding:
    """Events reach the log within a day of those that happened when they did."""
    frame, total = _late(log), log.events.height
    if log.timeless or total < BESIDE:
        said = "an order, no times" if log.timeless else "too few events to tell"
        return Finding("late_events", "PASS", 0, said)
    loaded = int((frame["run"] >= LOADED).sum())
    stray = frame.filter(pl.col("run") < LOADED)
    if stray.height > DISORDER * total or frame.height > ALL_DISORDER * total:
        said = "the log is not in the order of its times: lateness cannot be told"
        return Finding("late_events", "PASS", 0, said)
    bulk = f"; {loaded:,} older events were loaded in bulk" if loaded else ""
    if stray.is_empty():
        return Finding("late_events", "PASS", 0, f"none came more than a day late{bulk}")
    days = (stray["behind"] / DAY).sort()
    message = (
        f"{stray.height:,} events came more than a day late, half of them {days[len(days) // 2]:.1f} days "
        f"and more, the latest {days[-1]:.1f}{bulk}"
    )
    example = first(stray.sort("behind", descending=True, maintain_order=True)["event_id"])
    advice = "the next snapshot takes them in and changes the days they belong to; is a queue stuck?"
    return Finding("late_events", worth(stray.height, total), stray.height, message, example, advice)


def clock_skew(log: Log) -> Finding:
    """Nobody's clock is constantly ahead of or behind the events committed beside theirs."""
    offsets = _offsets(log)
    seen = offsets["user_id"].n_unique()
    aside = offsets.filter(pl.col("offset").abs() > SLACK)
    users = offsets.join(aside, on="user_id", how="semi").group_by("user_id").agg(*SHIFT, events=pl.len())
    constant = (pl.col("events") >= FEWEST) & (pl.col("spread") <= SLACK)
    wrong = users.filter(constant & (pl.col("shift").abs() > SLACK))
    if wrong.is_empty():
        return Finding("clock_skew", "PASS", 0, "no user's clock is wrong as far as the order tells")
    ranked = wrong.sort(pl.col("shift").abs(), "user_id", descending=[True, False])
    user, shift = ranked.select("user_id", "shift").row(0)
    message = (
        f"the clocks of {wrong.height:,} users are wrong by more than {SLACK // 60_000_000} minutes; "
        f"the worst is {abs(shift) / HOUR:.1f} hours {'ahead' if shift > 0 else 'behind'}"
    )
    advice = "stamp events where they are received, or have devices send their own idea of now along"
    return Finding("clock_skew", worth(wrong.height, seen), wrong.height, message, user, advice)


def shifted_types(log: Log) -> Finding:
    """No event type is whole hours away from the events it happened with: one zone holds for all."""
    both = pl.concat([_shifts(_offsets(log)), _shifts(_session_offsets(log))])
    shifted = both.unique("event_type", keep="first").sort("events", "event_type", descending=[True, False])
    if shifted.is_empty():
        return Finding("shifted_types", "PASS", 0, "no event type lies in another zone")
    name, hours = shifted.select("event_type", "hours").row(0)
    side = "ahead of" if hours > 0 else "behind"
    count = int(shifted["events"].sum())
    message = (
        f"{shifted.height} event types lie whole hours beside the others; "
        f"{name} is {abs(hours)} hours {side} them"
    )
    advice = "is one source in local time and the rest in UTC? Write the zone into its times"
    return Finding("shifted_types", "WARN", count, message, name, advice)


def _ruler(times: pl.Series) -> pl.Series:
    """Return the median time of the events around each; null at both ends, where a side is missing."""
    return times.rolling_median(BESIDE, center=True, min_samples=BESIDE)


def _late(log: Log) -> pl.DataFrame:
    """Return (event_id, behind, run) of the events a day behind the ruler's latest so far.

    `run` counts the late events in a row that the event is one of.
    """
    events = log.events.select("event_id", behind=pl.col("timestamp").cast(pl.Int64))
    if events["behind"].is_sorted():
        return events.with_columns(run=pl.lit(0)).clear()
    events = events.with_columns(behind=_ruler(events["behind"]).cum_max().forward_fill() - events["behind"])
    late = (events["behind"] > LATE).fill_null(False)
    return events.with_columns(run=late.rle_id()).filter(late).with_columns(run=pl.len().over("run"))


def _offsets(log: Log) -> pl.DataFrame:
    """Return (user_id, event_type, offset) where the neighbours agree on the time, in microseconds.

    Nothing where all are in order: an event's neighbours then say what it says.
    """
    frame = log.events.select("user_id", "event_type", offset=pl.col("timestamp").cast(pl.Int64))
    if log.timeless or frame["offset"].is_sorted() or _late(log).height > DISORDER * frame.height:
        return frame.clear()
    offset = frame["offset"] - _ruler(frame["offset"])
    agreed = (_ruler(offset.abs().fill_null(0)) <= SLACK).fill_null(False) & offset.is_not_null()
    return frame.with_columns(offset=offset).filter(agreed)


def _session_offsets(log: Log) -> pl.DataFrame:
    """Return the same against the events of the most frequent type in the event's own session."""
    frame = log.events.select(
        "user_id", "event_type", "session_id", offset=pl.col("timestamp").cast(pl.Int64)
    )
    frame = frame.filter(pl.col("session_id").is_not_null())
    if log.timeless or frame.is_empty():
        return frame.clear().drop("session_id")
    usual = frame["event_type"].value_counts(sort=True)["event_type"][0]
    visits = (
        frame.filter(pl.col("event_type") == usual).group_by("session_id").agg(at=pl.col("offset").mean())
    )
    others = frame.filter(pl.col("event_type") != usual).join(visits, on="session_id")
    return others.select("user_id", "event_type", pl.col("offset") - pl.col("at"))


def _shifts(offsets: pl.DataFrame) -> pl.DataFrame:
    """Return (event_type, events, hours) of the types that lie whole hours aside, and closely so."""
    hours = (pl.col("shift") / HOUR).round().cast(pl.Int64)
    whole = hours.abs().is_between(1, WIDEST_ZONE) & ((pl.col("shift") - hours * HOUR).abs() <= SLACK)
    types = offsets.group_by("event_type").agg(*SHIFT, events=pl.len())
    close = (pl.col("events") >= FEWEST_OF_TYPE) & (pl.col("spread") <= 2 * SLACK)
    return types.filter(whole & close).select("event_type", "events", hours=hours)
