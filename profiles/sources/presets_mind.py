"""MIND, the news log of Microsoft: impressions become exposures, clicks and a history.

Format: https://github.com/msnews/msnews.github.io/blob/master/assets/doc/introduction.md
"""

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl

from profiles.schema import EXPOSURES, TIME
from profiles.sources.presets_read import Frames

BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
NEWS = (
    *("news_id", "category", "subcategory", "title", "abstract", "url"),
    *("title_entities", "abstract_entities"),
)
CLICKED = r"^(\S+?)(?:-([01]))?$"  # the test set has no labels
PART = re.compile(r"(train|dev|test)$")


def timed(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the `moment` of impressions; `time` itself stays, for the message where it cannot be read."""
    moment = pl.col("time").str.strip_chars().str.to_datetime("%m/%d/%Y %I:%M:%S %p", strict=False)
    return frame.with_columns(moment=moment.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def shown(frame: pl.DataFrame, part: str = "") -> pl.DataFrame:
    """Return one row an item shown: impression, user, item, its rank from 1, clicked or not.

    Impressions are numbered anew in each part of the data (train, dev, test); `part` tells them apart.
    """
    number = pl.col("impression_id")
    rows = timed(frame).select(
        impression=pl.concat_str(pl.lit(part + "-"), number) if part else number,
        user="user_id",
        time="time",
        moment="moment",
        place=pl.col("impressions").str.strip_chars().str.split(" "),
    )
    rows = rows.with_columns(rank=pl.int_ranges(1, pl.col("place").list.len() + 1, dtype=pl.UInt32))
    rows = rows.explode("place", "rank").filter(pl.col("place") != "")
    return rows.with_columns(
        item=pl.col("place").str.extract(CLICKED, 1), clicked=pl.col("place").str.extract(CLICKED, 2) == "1"
    ).drop("place")


def clicks(frame: pl.DataFrame, part: str = "") -> pl.DataFrame:
    """Return what was clicked of what was shown; `timestamp` is ISO 8601, or as given where unreadable."""
    chosen = shown(frame, part).filter(pl.col("clicked"))
    iso = pl.col("moment").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return chosen.select("impression", "user", "item", timestamp=pl.coalesce(iso, "time"))


def exposures(frame: pl.DataFrame, part: str = "") -> pl.DataFrame:
    """Return EXPOSURES of everything shown; an impression whose time cannot be read is left out."""
    rows = shown(frame, part).filter(pl.col("moment").is_not_null() & pl.col("item").is_not_null())
    logged = pl.lit("logged")
    return EXPOSURES.conform(
        rows.select(
            recommendation_id="impression",
            user_id="user",
            item_id="item",
            rank="rank",
            propensity=pl.lit(None, pl.Float64),
            source=logged,
            release=logged,
            blend=logged,
            timestamp=pl.col("moment").cast(TIME),
        )
    )


def histories(reading: Callable[[], Frames]) -> Frames:
    """Yield the clicks each user brought along, once a user, oldest first; the log is read twice.

    The log gives them no times. What is known is that they came before the user's first impression, so
    they stand there, a microsecond apart: at the last moment they can have happened, never earlier.
    """
    kept = _first_places(reading())
    for frame in _placed(reading()):
        users = frame.join(kept, on="place", how="semi", maintain_order="left")
        items = users.select(
            user="user_id", moment="moment", item=pl.col("history").str.strip_chars().str.split(" ")
        )
        items = items.with_columns(back=pl.int_ranges(pl.col("item").list.len(), 0, -1))
        rows = items.explode("item", "back").filter(pl.col("item") != "")
        yield rows.select("user", "item", timestamp=pl.col("moment") - pl.duration(microseconds="back"))


def _placed(frames: Frames) -> Frames:
    """Number the impressions, and leave out those that tell of no history or no time."""
    done = 0
    for frame in frames:
        rows = timed(frame).select("user_id", "moment", "history", place=pl.int_range(done, done + pl.len()))
        done += frame.height
        yield rows.drop_nulls()


def _first_places(frames: Frames) -> pl.DataFrame:
    """Return the `place` of each user's first impression."""
    first = pl.DataFrame(schema={"user_id": pl.String, "moment": TIME, "place": pl.Int64})
    for rows in _placed(frames):
        held = pl.concat([first, rows.select(first.columns)]).sort("moment", maintain_order=True)
        first = held.unique("user_id", keep="first", maintain_order=True)
    return first.select("place")


def news(frame: pl.DataFrame) -> pl.DataFrame:
    """Put the category and the subcategory into one list."""
    both = pl.concat_list("category", "subcategory").list.drop_nulls()
    return frame.select("news_id", "title", "abstract", categories=both)


def part_of(path: Path) -> str:
    """Return train, dev or test where a folder's name ends so (MINDsmall_train), else nothing."""
    found = PART.search(path.parent.name.lower())
    return found[1] if found else ""
