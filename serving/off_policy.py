"""`attune off-policy`: what releases would have earned, from answers that were explored and what followed.

An item of an answer earned 1 where the user did something of weight to it within some hours: in an event that
names the answer, or names none and follows no later answer with the same item. Each release is asked what it
would have shown then, of the log as it was then. Answers to words or with exclusions are not explored, and so
do not count.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from profiles.interactions import interactions
from profiles.schema import EVENTS, ContractError
from recsys.off_policy import Estimate, Method, estimate
from serving.engine import Engine
from serving.progress import Progress
from serving.release import load
from serving.workspace import Workspace

METHODS: tuple[Method, ...] = ("snips", "ips", "dr")
PAIR = ["answer", "item_id"]


def logged(
    workspace: Workspace, hours: float = 24.0, event_types: Sequence[str] = (), limit: int = 2000
) -> pl.DataFrame:
    """Return the newest `limit` answers, a row an item shown: EXPOSURES with `answer` and `reward`.

    Raises ContractError where none were logged.
    """
    shown = workspace.exposures.exposures().rename({"recommendation_id": "answer"})
    if shown.is_empty():
        raise ContractError("no answers were logged; `attune serve` logs what it shows to users it knows")
    newest = shown.group_by("answer").agg(pl.col("timestamp").min()).sort("timestamp", "answer").tail(limit)
    shown = shown.join(newest.select("answer"), on="answer", how="semi")
    users = shown["user_id"].unique()
    events = pl.concat([EVENTS.empty(), *workspace.store.scan()])
    events = events.filter(pl.col("user_id").is_in(users.implode()))
    if event_types:
        events = events.filter(pl.col("event_type").is_in(event_types))
    window, named = timedelta(hours=hours), pl.col("recommendation_id").is_not_null()

    def liked(part: pl.DataFrame) -> pl.DataFrame:
        found = interactions(part, workspace.settings.interactions).filter(pl.col("weight") > 0)
        return found.select("user_id", "item_id", "timestamp").sort("timestamp")

    told = liked(events.filter(named).with_columns(user_id="recommendation_id")).rename({"user_id": "answer"})
    when = shown.select(*PAIR, since="timestamp")
    told = told.join(when, on=PAIR).filter(pl.col("timestamp").is_between("since", pl.col("since") + window))
    by = ["user_id", "item_id"]
    latest = shown.select(*by, "answer", "timestamp").sort("timestamp")
    followed = liked(events.filter(~named)).join_asof(
        latest, on="timestamp", by=by, tolerance=window, check_sortedness=False
    )
    earned = pl.concat([told.select(PAIR), followed.drop_nulls("answer").select(PAIR)]).unique()
    rewarded = shown.join(earned.with_columns(reward=pl.lit(1.0)), on=PAIR, how="left")
    return rewarded.with_columns(pl.col("reward").fill_null(0.0)).sort("answer", "rank")


def earned(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what each release and source earned an answer, as it was shown, and how many were explored."""
    found = rows.group_by("release", "source").agg(
        answers=pl.col("answer").n_unique(),
        explored=pl.col("answer").filter(pl.col("propensity").is_not_null()).n_unique(),
        reward=pl.col("reward").sum() / pl.col("answer").n_unique(),
    )
    return found.sort("release", "source").to_dicts()


def judged(
    workspace: Workspace, rows: pl.DataFrame, release: str, progress: Progress, clip: float | None = None
) -> dict[str, Estimate]:
    """Return the estimates of a release by method, from the explored answers of all releases."""
    explored = rows.filter(pl.col("propensity").is_not_null().all().over("answer"))
    if explored.is_empty():
        none = rows.with_columns(target=pl.lit(0.0))
        return {method: estimate(none, method, clip=clip, actions=pl.DataFrame()) for method in METHODS}
    engine = Engine(workspace, load(workspace.releases.root / release))
    asked = explored.group_by("answer", "user_id").agg(pl.col("timestamp").min(), k=pl.col("rank").max())
    parts = []
    with progress.task(f"off-policy: ask {release}", len(asked)) as advance:
        for answer, user, at, k in asked.sort("timestamp", "answer").iter_rows():
            parts.append(_shown(engine, answer, user, at, k))
            advance(1)
    actions = pl.concat(parts)
    keyed = actions.select("answer", "rank", "item_id", target="probability")
    targeted = explored.join(keyed, on=["answer", "rank", "item_id"], how="left")
    targeted = targeted.with_columns(pl.col("target").fill_null(0.0))
    return {method: estimate(targeted, method, clip=clip, actions=actions) for method in METHODS}


def _shown(engine: Engine, answer: str, user: str, at: datetime, k: int) -> pl.DataFrame:
    """Return what a release would have shown a user at a moment, without exploring."""
    blended = engine.release.recommend(engine.queries([engine.past(user, at)]), k)
    rows = blended.ranked.rows[0][: int(blended.ranked.lengths[0])]
    told = {"answer": [answer] * len(rows), "item_id": engine.release.catalogue.items.take(rows)}
    ranks = pl.int_range(1, len(rows) + 1, dtype=pl.UInt32, eager=True)
    return pl.DataFrame({**told, "rank": ranks, "probability": [1.0] * len(rows)})
