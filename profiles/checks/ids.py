"""Do ids name who and what they should."""

import polars as pl

from profiles.checks.findings import Finding, Log, first

# What programs write where they have no id, and the accounts many people share.
WORDS = [
    "null", "none", "nil", "nan", "undefined", "n/a", "na", "#n/a", "(null)", "(none)", "<null>",
    "unknown", "unspecified", "missing", "empty", "-", "--", "?", ".", "anonymous", "anon", "guest",
    "nobody", "not_set", "(not set)", "[object object]", "00000000-0000-0000-0000-000000000000",
]  # fmt: skip
NAMES = {"Nan", "Na"}  # of people
NOBODY = sorted(
    {form for w in WORDS for form in (w, w.upper(), w.capitalize())} - NAMES | {"NaN", "[object Object]"}
)
NUMBERS = ["0", "-1", "9999", "99999", "999999", "9999999", "99999999", "999999999"]
NUMBER_SHARE, NUMBER_TIMES = 0.01, 10  # a number is a placeholder where it holds far more than an id does


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
    return Finding("unknown_items", "WARN", unknown.len(), message, first(unknown), advice)


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
    return Finding("silent_users", "WARN", silent.len(), "no listed user has an event", first(silent), advice)


def lookalike_ids(log: Log) -> Finding:
    """Ids and event types differ by more than case or blanks."""
    pairs = pl.concat(
        [_lookalikes(log.events[name].drop_nulls().unique()) for name in ("user_id", "item_id", "event_type")]
    )
    if pairs.is_empty():
        return Finding("lookalike_ids", "PASS", 0, "no two ids look alike")
    advice = "if they are one, write them alike in the source: here they are two"
    message = f"{pairs.height:,} ids differ from another only by case or blanks"
    own, other = pairs.row(0)
    return Finding("lookalike_ids", "WARN", pairs.height, message, f"{other!r} and {own!r}", advice)


def placeholder_ids(log: Log) -> Finding:
    """No id stands for "there is none"."""
    found = pl.concat([_placeholders(log.events, name) for name in ("user_id", "item_id")])
    if found.is_empty():
        return Finding("placeholder_ids", "PASS", 0, "no id stands for none")
    column, name, events = found.row(0)
    count = int(found["events"].sum())
    message = f"{count:,} events have an id that stands for none; {column} {name!r} has {events:,}"
    advice = "all of them become one user or item; leave them out, or give visitors an id of their own"
    return Finding("placeholder_ids", "WARN", count, message, name, advice)


def personal_ids(log: Log) -> Finding:
    """Users go by ids, not by their e-mail addresses."""
    users = log.events["user_id"].unique().sort()
    mailed = users.filter(users.str.contains(r"^[^@\s]+@[^@\s]+\.[^@\s]+$"))
    if mailed.is_empty():
        return Finding("personal_ids", "PASS", 0, "no user id is an e-mail address")
    domain = mailed.head(1).str.replace(r"^[^@]*", "[…]")
    message = f"{mailed.len():,} of {users.len():,} user ids are e-mail addresses"
    advice = "ids stand in every list, log and address: give users another in the source; masking spares ids"
    return Finding("personal_ids", "WARN", mailed.len(), message, first(domain), advice)


def _lookalikes(ids: pl.Series) -> pl.DataFrame:
    """Return each id that equals an earlier one once case and blanks are gone, beside that one."""
    folded = pl.col("id").str.replace_all(r"\s", "").str.to_lowercase()
    frame = pl.DataFrame({"id": ids.sort()}).with_columns(first=pl.col("id").first().over(folded))
    return frame.filter(pl.col("id") != pl.col("first"))


def _placeholders(events: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return (column, id, events) of a column's placeholders, the one with most events first.

    A word is one always; a number only where it is a real id's peer no more.
    """
    counts = events.select(id=column).drop_nulls().group_by("id").agg(events=pl.len())
    named, ids = int(counts["events"].sum()), max(counts.height, 1)
    word = pl.col("id").str.strip_chars().is_in([*NOBODY, ""])
    many = max(NUMBER_SHARE * named, NUMBER_TIMES * named / ids)
    number = pl.col("id").is_in(NUMBERS) & (pl.col("events") > many)
    found = counts.filter(word | number).sort("events", "id", descending=[True, False])
    return found.select(pl.lit(column).alias("column"), "id", "events")
