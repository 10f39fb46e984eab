"""The columns of a user's profile that need no list, ranking or attribute, in pandas."""

import numpy as np
import pandas as pd
import polars as pl

from benchmarks.log import TYPES, Log
from benchmarks.profile_polars import PAUSE, WINDOWS
from profiles.schema import DAY, microseconds

COLUMNS = ["user_id", "item_id", "event_type", "timestamp", "value", "recommendation_id", "session_id"]


def pandas_profiles(log: Log) -> pl.DataFrame:
    """Return a row for each user with an event, by id."""
    events = pd.concat([pd.read_parquet(file, columns=COLUMNS) for file in log.events], ignore_index=True)
    events["event_type"] = events["event_type"].astype("category")
    events = events.sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)
    time = events["timestamp"].dt.as_unit("us").astype("int64")
    events["age"], events["day"] = microseconds(log.as_of) - time, time // DAY
    events["hour"] = (time - events["day"] * DAY) // (DAY // 24)
    same = events["user_id"] == events["user_id"].shift()
    events["gap"] = (time - time.shift()).where(same)
    events["opens_day"] = ~(same & (events["day"] == events["day"].shift()))
    session = events["session_id"]
    told = session.notna() & session.shift().notna()
    together = pd.Series(np.where(told, session == session.shift(), events["gap"] <= PAUSE))
    events["opens_visit"] = ~(same & together)
    found = _activity(events) | _by_type(events) | _visits(events, time) | _habits(events) | _value(events)
    named = events[events["item_id"].notna()].groupby("user_id")["item_id"]
    found["distinct_items"] = named.nunique()
    found["repeat_share"] = 1 - named.nunique() / named.size()
    profiles = pd.DataFrame(found, index=found["recency_days"].index)
    filled = [
        n for n in found if n.startswith(("count_", "events_", "value_sum", "spend", "orders", "active_"))
    ]
    filled = [n for n in filled if n not in ("spend_mean", "spend_recency_days", "spend_gap_days")]
    filled += ["sessions_30d"]
    profiles[filled] = profiles[filled].fillna(0)
    return pl.from_pandas(profiles.rename_axis("user_id").reset_index()).sort("user_id")


def _activity(events: pd.DataFrame) -> dict[str, pd.Series]:
    users = events.groupby("user_id")
    opened, span = users["opens_day"].sum(), users["day"].max() - users["day"].min()
    recent = {days: events[events["age"] < days * DAY].groupby("user_id") for days in (7, 30)}
    size = {days: of.size().reindex(opened.index, fill_value=0) for days, of in recent.items()}
    return {
        "first_event": users["timestamp"].min(),
        "last_event": users["timestamp"].max(),
        "recency_days": users["age"].min() / DAY,
        "tenure_days": users["age"].max() / DAY,
        "active_days": opened,
        "active_days_30d": recent[30]["opens_day"].sum(),
        "active_share": opened / (span + 1),
        "events_per_active_day": users.size() / opened,
        "gap_days": span / (opened - 1).where(opened > 1),
        "longest_gap_days": users["gap"].max().fillna(0) / DAY,
        "trend": np.log2((size[7] + 1) / 7) - np.log2((size[30] + 1) / 30),
        "follow_share": events["recommendation_id"].notna().groupby(events["user_id"]).mean(),
    }


def _by_type(events: pd.DataFrame) -> dict[str, pd.Series]:
    found: dict[str, pd.Series] = {}
    for short, window in WINDOWS.items():
        recent = events[events["age"] < window * DAY]
        counted = recent.groupby(["user_id", "event_type"], observed=False).size().unstack(fill_value=0)
        found[f"events_{short}"] = counted.sum(axis=1)
        found |= {f"count_{t}_{short}": counted[t] for t in TYPES}
    for t in TYPES:
        of = events[events["event_type"] == t].groupby("user_id")
        found[f"recency_days_{t}"] = of["age"].min() / DAY
        found[f"value_sum_{t}"] = of["value"].sum()
        found[f"value_mean_{t}"] = of["value"].mean()
    return found


def _visits(events: pd.DataFrame, time: pd.Series) -> dict[str, pd.Series]:
    number = events["opens_visit"].cumsum()
    users = events["user_id"]
    visits = pd.DataFrame({"user_id": users, "time": time}).groupby(number.rename("visit"))
    each = visits.agg(
        user_id=("user_id", "first"), begin=("time", "min"), end=("time", "max"), n=("time", "size")
    )
    each["minutes"], each["single"] = (each["end"] - each["begin"]) / 60e6, each["n"] == 1
    of = each.groupby("user_id")
    sessions = of.size()
    recent = events[(events["age"] < 30 * DAY) & events["opens_visit"]]
    return {
        "sessions": sessions,
        "sessions_30d": recent.groupby("user_id").size(),
        "session_events": of["n"].sum() / sessions,
        "session_minutes": of["minutes"].mean(),
        "longest_session_minutes": of["minutes"].max(),
        "session_gap_days": (of["begin"].max() - of["begin"].min())
        / DAY
        / (sessions - 1).where(sessions > 1),
        "bounce_share": of["single"].mean(),
    }


def _habits(events: pd.DataFrame) -> dict[str, pd.Series]:
    users, hour, weekday = events["user_id"], events["hour"], (events["day"] + 3) % 7
    angle = hour * (2 * np.pi / 24)
    x, y = np.cos(angle).groupby(users).mean(), np.sin(angle).groupby(users).mean()
    found = {
        "usual_hour": (np.arctan2(y, x) * (24 / (2 * np.pi)) % 24).where(np.hypot(x, y) > 1e-9),
        "hour_regularity": np.hypot(x, y),
        "usual_weekday": weekday.groupby(users)
        .value_counts()
        .unstack(fill_value=0)
        .sort_index(axis=1)
        .idxmax(axis=1),
        "weekend_share": (weekday >= 5).groupby(users).mean(),
    }
    for n, part in enumerate(("night", "morning", "afternoon", "evening")):
        found[f"{part}_share"] = (hour // 6 == n).groupby(users).mean()
    return found


def _value(events: pd.DataFrame) -> dict[str, pd.Series]:
    money = events[(events["event_type"] == "purchase") & (events["value"] > 0)]
    of = money.groupby("user_id")
    orders = of.size()
    return {
        "orders": orders,
        "spend": of["value"].sum(),
        **{
            f"spend_{n}d": money[money["age"] < n * DAY].groupby("user_id")["value"].sum()
            for n in (30, 90, 365)
        },
        "spend_mean": of["value"].mean(),
        "spend_max": of["value"].max(),
        "spend_recency_days": of["age"].min() / DAY,
        "spend_gap_days": (of["age"].max() - of["age"].min()) / DAY / (orders - 1).where(orders > 1),
    }
