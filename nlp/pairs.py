"""Pairs of texts that belong together, from what people did: the data of fine-tuning.

    written    what a user wrote of an item  and what it and the next items they chose say
    queries    what a user wrote of none     and what the item says that they clicked then
    co_chosen  what an item says             and what the next item says that the same user chose
    reviewed   what a user wrote of an item  and what somebody else wrote of the next items they chose

or any two texts of a file, perhaps with a score.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from nlp.reviews import reviews, told_by_others
from nlp.text_files import numbers_of, table, texts_of
from profiles.schema import TIME, ContractError, Frame, column
from profiles.snapshot import Snapshot

Kind = Literal["written", "queries", "co_chosen", "reviewed"]

PAIRS = Frame(
    "PAIRS",
    {
        "left": column(pl.String, "the text asked with"),
        "right": column(pl.String, "the text that answers it"),
        "score": column(pl.Float32, "how near they should be, 0 to 1; null: they belong together", True),
        "user_id": column(pl.String, "whose choice made the pair", True),
        "item_id": column(pl.String, "the item the right text is of", True),
        "timestamp": column(TIME, "when the choice was made", True),
    },
    key=(),
)


class PairsFile(BaseModel):
    """A file of pairs: Parquet, CSV, TSV or JSON Lines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1, description="the file: .parquet, .csv, .tsv or .jsonl")
    left: str = Field("left", description="column of one text")
    right: str = Field("right", description="column of the other")
    score: str | None = Field(None, description="column of how near they are; null: they belong together")
    lowest: float = Field(0.0, description="score of texts that have nothing in common")
    highest: float = Field(1.0, description="score of texts that say the same")


class PairsConfig(BaseModel):
    """Where fine-tuning finds texts that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Kind, ...] = Field(
        ("written", "queries", "co_chosen"),
        min_length=1,
        description="written (text, next choice), queries (search, click), co_chosen (item, next item), "
        "reviewed (text, another's text of the next choice)",
    )
    within_days: float = Field(30.0, gt=0, description="a choice counts this long after a text or an item")
    query_minutes: float = Field(30.0, gt=0, description="a click counts this long after a search")
    each: PositiveInt = Field(3, description="choices that count for one text, the first ones")
    until: datetime | None = Field(None, description="only what was before this moment, in UTC; null: all")
    file: PairsFile | None = Field(None, description="a file of pairs, in place of what is in the log")
    hard: str | None = Field(
        None,
        description="Parquet of lists (user_id, item_id): negatives, where the user did not choose them",
    )

    @field_validator("until")
    @classmethod
    def _in_utc(cls, until: datetime | None) -> datetime | None:
        return until if until is None or until.tzinfo else until.replace(tzinfo=UTC)

    def within(self) -> dict[Kind, timedelta]:
        """Return how long after a text a choice belongs to it, by kind."""
        days, minutes = timedelta(days=self.within_days), timedelta(minutes=self.query_minutes)
        return {kind: minutes if kind == "queries" else days for kind in self.kinds}


def from_file(config: PairsFile, root: Path = Path()) -> pl.DataFrame:
    """Return PAIRS of a file, scores brought to 0 to 1; a pair with an empty side is left out."""
    path = root / config.path
    frame = table(path)
    left, right = (texts_of(frame, name, path).fill_null("") for name in (config.left, config.right))
    pairs = pl.DataFrame({"left": left, "right": right})
    if config.score:
        if not config.highest > config.lowest:
            raise ContractError(f"{path}: highest = {config.highest} must be above lowest = {config.lowest}")
        said = numbers_of(frame, config.score, path)
        pairs = pairs.with_columns(score=(said - config.lowest) / (config.highest - config.lowest))
    pairs = PAIRS.conform(pairs)
    if config.score and not pairs["score"].is_between(-1e-6, 1 + 1e-6).all():
        raise ContractError(f"{path}: {config.score} goes beyond {config.lowest} to {config.highest}")
    return _with_words(pairs)


def of_snapshot(
    snapshot: Snapshot, within: Mapping[Kind, timedelta], each: int, until: datetime | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return PAIRS of what happened before `until`, and everybody's choices as user_id, item_id and text.

    To each text belong the next `each` choices `within` its kind's time. A choice is an interaction of a
    weight above 0.
    """
    said = snapshot.frame("texts").filter(pl.col("owner") == "item")
    items = said.unique("id", keep="first", maintain_order=True).select("text", item_id="id")
    chosen = snapshot.frame("interactions").filter(pl.col("weight") > 0)
    events = snapshot.frame("events").filter(pl.col("text").is_not_null())
    if until is not None:
        chosen, events = (frame.filter(pl.col("timestamp") < until) for frame in (chosen, events))
    described = chosen.join(items, on="item_id").select("user_id", "item_id", "timestamp", right="text")
    asked = {
        "written": events.filter(pl.col("item_id").is_not_null()),
        "queries": events.filter(pl.col("item_id").is_null()),
    }
    parts, choices = [PAIRS.empty()], [described.select("user_id", "item_id", text="right")]
    for kind, time in within.items():
        if kind == "reviewed":
            made, told = _reviewed(chosen, reviews(events), time, each)
            parts.append(made)
            choices.append(told)
            continue
        if kind == "co_chosen":
            left = described.select("user_id", "timestamp", "item_id", left="right")
        else:
            left = asked[kind].select("user_id", "timestamp", item_id=pl.lit(None, pl.String), left="text")
        parts.append(_next(left, described, time, each))
    return _with_words(pl.concat(parts)), pl.concat(choices).unique(maintain_order=True)


def _reviewed(
    chosen: pl.DataFrame, written: pl.DataFrame, within: timedelta, each: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what users wrote beside reviews of their next choices, and whose choices each review is of."""
    left = written.select("user_id", "timestamp", "item_id", left="text")
    choices = chosen.select("user_id", "item_id", "timestamp", right=pl.lit(""))
    pairs = told_by_others(_next(left, choices, within, each).drop("right"), written)
    told = pairs.select("item_id", text="right").unique(maintain_order=True)
    met = chosen.select("user_id", "item_id").unique(maintain_order=True)
    return PAIRS.conform(pairs), met.join(told, on="item_id", maintain_order="left")


def _next(left: pl.DataFrame, chosen: pl.DataFrame, within: timedelta, each: int) -> pl.DataFrame:
    """Return each left text with the first `each` other items its user chose at or after it."""
    later = left.rename({"timestamp": "asked", "item_id": "from"}).with_row_index("place")
    met = later.join(chosen, on="user_id").filter(
        pl.col("timestamp") >= pl.col("asked"),
        pl.col("timestamp") - pl.col("asked") <= within,
        pl.col("from").is_null() | (pl.col("from") != pl.col("item_id")),
    )
    first = met.unique(["place", "item_id"], keep="first", maintain_order=True)
    first = (
        first.sort("place", "timestamp", maintain_order=True)
        .group_by("place", maintain_order=True)
        .head(each)
    )
    return PAIRS.conform(first.select("left", "right", "user_id", "item_id", "timestamp"))


def _with_words(pairs: pl.DataFrame) -> pl.DataFrame:
    written = [pl.col(side).str.strip_chars() != "" for side in ("left", "right")]
    return pairs.filter(*written, pl.col("left") != pl.col("right")).unique(maintain_order=True)


def divided(pairs: pl.DataFrame, share: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return pairs to learn from and pairs to validate by: other users, at a later time.

    About `share` of the users are held out, and of time the last `share`; what is only one of the two is
    in neither. Where no user is known, the left texts are drawn; where no time is, only the users.
    """
    if not len(pairs) or not share:
        return pairs, pairs.clear()
    who = pl.col("user_id").fill_null(pl.col("left"))
    ids = pairs.select(who.unique().sort()).to_series()
    drawn = np.random.default_rng(seed).random(len(ids)) < share
    held = who.is_in(ids.filter(pl.Series(drawn)).implode())
    times = pairs["timestamp"].drop_nulls()
    if not len(times):
        return pairs.filter(~held), pairs.filter(held)
    cut = times.sort()[int((1 - share) * (len(times) - 1))]
    late = (pl.col("timestamp") > cut).fill_null(True)
    early = (pl.col("timestamp") <= cut).fill_null(True)
    return pairs.filter(~held, early), pairs.filter(held, late)
