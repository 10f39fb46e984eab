"""Is there something to learn from: events, users, items, types with a weight, values."""

import polars as pl

from profiles.checks.findings import Finding, Log, first

ONE_CLICK = ["user_id", "item_id", "event_type", "timestamp"]
ALWAYS = 100  # events of a type with one and the same value: it is no coincidence


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
    return Finding("has_several_users", "FAIL", 1, message, first(log.events["user_id"]), advice)


def has_several_items(log: Log) -> Finding:
    """Events name more than one item."""
    items = log.events["item_id"].drop_nulls()
    count = items.n_unique()
    if count > 1:
        return Finding("has_several_items", "PASS", 0, f"{count:,} items")
    message = "one item: there is nothing to choose from" if count else "no event names an item"
    return Finding("has_several_items", "FAIL", 1, message, first(items), "look at what item_id is mapped to")


def unweighted_types(log: Log) -> Finding:
    """Every event type has a weight, once weights are given."""
    types = log.events["event_type"].value_counts(sort=True)
    bare = types.filter(~pl.col("event_type").is_in(list(log.weights)))
    if not log.weights or bare.is_empty():
        return Finding("unweighted_types", "PASS", 0, f"{types.height} event types")
    names, events = ", ".join(bare["event_type"]), int(bare["count"].sum())
    advice = "give each a weight; 0 says that it counts for nothing"
    message = f"{events:,} events are of types without a weight: {names}"
    return Finding("unweighted_types", "WARN", events, message, first(bare["event_type"]), advice)


def repeated_events(log: Log) -> Finding:
    """The same user, item, type and time come once."""
    same = log.events.group_by(ONE_CLICK).agg(events=pl.len()).filter(pl.col("events") > 1)
    if same.is_empty():
        return Finding("repeated_events", "PASS", 0, "none is there twice")
    count = int((same["events"] - 1).sum())
    top = same.sort(["events", *ONE_CLICK], descending=[True, *[False] * len(ONE_CLICK)]).select(ONE_CLICK)
    example = ", ".join(str(value) for value in top.row(0))
    message = f"{count:,} events have the user, item, type and time of another"
    advice = "harmless where repeats are real; a log joined or exported twice looks like this"
    return Finding("repeated_events", "WARN", count, message, example, advice)


def missing_values(log: Log) -> Finding:
    """A type whose events have a value has one in each."""
    types = log.events.group_by("event_type").agg(
        events=pl.len(), bare=pl.col("value").null_count().cast(pl.Int64)
    )
    gaps = types.filter((pl.col("bare") > 0) & (pl.col("bare") * 2 < pl.col("events")))
    if gaps.is_empty():
        return Finding("missing_values", "PASS", 0, "every type has a value always or hardly ever")
    name, events, bare = gaps.sort("bare", "event_type", descending=[True, False]).row(0)
    missing = int(gaps["bare"].sum())
    message = (
        f"{missing:,} events have no value where most of their type have one; "
        f"of {name} {bare:,} of {events:,}"
    )
    advice = "a minimum_value takes them for poor; look at how the source writes numbers"
    return Finding("missing_values", "WARN", missing, message, name, advice)


def constant_values(log: Log) -> Finding:
    """Values differ: one that is always the same says nothing."""
    types = log.events.group_by("event_type").agg(
        held=pl.col("value").count(), least=pl.col("value").min(), most=pl.col("value").max()
    )
    same = types.filter((pl.col("held") >= ALWAYS) & (pl.col("least") == pl.col("most")))
    if same.is_empty():
        return Finding("constant_values", "PASS", 0, "no type has one value for all its events")
    name, held, value, _ = same.sort("held", "event_type", descending=[True, False]).row(0)
    message = (
        f"{same.height} event types have one value for all their events; {name} has {value:g} in {held:,}"
    )
    advice = "leave value out of the mapping of this source, or look at what it is mapped to"
    return Finding("constant_values", "WARN", same.height, message, name, advice)
