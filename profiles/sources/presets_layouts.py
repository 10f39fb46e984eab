"""Layouts of public data files that a column mapping alone cannot express, in one explicit dictionary.

A source names one with `layout = "mind-clicks"`. It yields bounded batches whose columns the
source maps as it maps those of any file. Every layout also reads Parquet of the original columns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import polars as pl

from profiles.schema import ContractError
from profiles.sources import presets_convert as convert
from profiles.sources import presets_mind as mind
from profiles.sources.presets_read import (
    File,
    Frames,
    Objects,
    delimited,
    from_objects,
    headless,
    objects,
    parquet,
    table,
)

Reading = Callable[[File], Frames]
Open = Callable[[File, Sequence[str]], Frames]  # of an original file, given the names of its columns


@dataclass(frozen=True)
class PresetLayout:
    """How to read one kind of file, and which files beside it are part of what is read."""

    of: str  # the data set, for messages
    read: Reading
    beside: tuple[str, ...] = ()  # names or patterns in the same folder


def scan(file: File, layout: str) -> Frames:
    """Yield the rows of a file by a layout of this name, first a frame without any.

    Raises ContractError for an unknown layout and for what the file's owner has to mend.
    """
    begun = False
    for frame in _layout(layout).read(file):
        if not begun:
            yield frame.clear()
        begun = True
        yield frame
    if not begun:
        raise ContractError(f"{file.path} is empty")


def companions(path: Path, layout: str) -> list[Path]:
    """Return the other files whose content a layout reads with this one: part of its fingerprint."""
    return sorted({file for pattern in _layout(layout).beside for file in path.parent.glob(pattern)})


def _layout(layout: str) -> PresetLayout:
    if layout not in PRESET_LAYOUTS:
        close = get_close_matches(layout, PRESET_LAYOUTS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(PRESET_LAYOUTS)}"
        raise ContractError(f"no layout is called {layout!r}; {hint}")
    return PRESET_LAYOUTS[layout]


def plain(names: Sequence[str], original: Open = delimited, keep: Sequence[str] = ()) -> Reading:
    """Read a file of these columns; `keep` are those wanted and those that Parquet must have."""

    def read(file: File) -> Frames:
        if file.is_parquet():
            yield from parquet(file, keep or names)
            return
        for frame in original(file, names):
            yield frame.select(keep) if keep else frame

    return read


def each(change: Callable[[pl.DataFrame], pl.DataFrame], reading: Reading) -> Reading:
    """Change every batch by itself."""
    return lambda file: map(change, reading(file))


def whole(change: Callable[[Frames], Frames], reading: Reading) -> Reading:
    """Change the batches as one stream."""
    return lambda file: change(reading(file))


def made(take: Objects) -> Reading:
    """Make rows of objects, one a line, or of the rows of Parquet."""

    def read(file: File) -> Frames:
        names = tuple(take({}))
        if not file.is_parquet():
            yield from objects(file, names, take)
            return
        for frame in parquet(file):
            yield from_objects((take(row) for row in frame.iter_rows(named=True)), take)

    return read


def _clicks(file: File) -> Frames:
    part = mind.part_of(file.path)
    return (mind.clicks(frame, part) for frame in BEHAVIORS(file))


def _histories(file: File) -> Frames:
    return mind.histories(lambda: BEHAVIORS(file))


def _tags(file: File) -> Frames:
    times = ("timestamp",) if "timestamps" in file.path.name else ("day", "month", "year")
    tags = pl.concat(plain(("tagID", "tagValue"), HEADED)(file.beside("tags.dat", "tags.parquet")))
    return each(lambda frame: convert.tagged(frame, tags), plain((*TAGGED, *times), HEADED))(file)


def _versions(file: File) -> Frames:
    suffix = file.path.suffix
    parts = [file]
    if file.path.stem.endswith("part1"):
        parts.append(file.beside(f"item_properties_part2{suffix}"))
    named = pl.col("property").is_in(["categoryid", "available"])  # every other value is hashed
    read = plain(("timestamp", "itemid", "property", "value"), table)
    said = [frame.filter(named) for part in parts for frame in read(part)]
    tree = plain(("categoryid", "parentid"), table)(file.beside(f"category_tree{suffix}"))
    parents = {str(row[0]): row[1] and str(row[1]) for frame in tree for row in frame.iter_rows()}
    yield convert.versions(pl.concat(said), dict(convert.category_paths(parents)))


def _steam_games(file: File) -> Frames:
    if file.is_parquet():
        frames = parquet(file, ("item", "name"))
        return (frame.filter(pl.col("item") != "Game_ID") for frame in frames)  # a header kept as a row
    names = (frame.select("item", name="item") for frame in PURCHASES(file))
    return convert.distinct(names, "item")


def _pairs(start: int) -> Reading:
    def read(file: File) -> Frames:
        whole_lines = plain(("line",), LINES)
        found = plain(PAIR)(file) if file.is_parquet() else convert.pairs(whole_lines(file))
        return convert.numbered(found, start)

    return read


HEADED: Open = partial(delimited, header=True)
TOLERANT: Open = partial(delimited, tolerant=True)
SPACED: Open = partial(delimited, separator=" ", header=True)
LINES: Open = partial(delimited, separator="\n")  # which no line holds: one field, the line itself
COLONS: Open = partial(delimited, separator="::")

AMAZON = ("reviewerID", "asin", "overall", "summary", "reviewText", "unixReviewTime")
AMAZON_2023 = ("user_id", "parent_asin", "rating", "title", "text", "timestamp")
ARTICLES = (
    *("article_id", "prod_name", "product_type_name", "product_group_name", "graphical_appearance_name"),
    *("colour_group_name", "department_name", "index_name", "index_group_name", "section_name"),
    *("garment_group_name", "detail_desc"),
)
PAIR = ("user", "item")
AFTER_TRAIN = 1_000_000_000  # the order of test begins where no train ends
TAGGED = ("userID", "artistID", "tagID")
LASTFM_USER = ("user_id", "gender", "age", "country", "registered")

BEHAVIORS = plain(mind.BEHAVIORS)
SONGS = each(convert.tracks, plain(("userid", "timestamp", "artid", "artname", "traid", "traname"), TOLERANT))
PLAYS = each(convert.artists, plain(("user", "artid", "artname", "plays"), TOLERANT))
CHECKINS = plain(("user", "timestamp", "latitude", "longitude", "location"))
PURCHASES = plain(("user", "item", "event", "value", "zero"), headless, ("user", "item", "event", "value"))


PRESET_LAYOUTS: Mapping[str, PresetLayout] = {
    "movielens-movies": PresetLayout(
        "MovieLens 20M, 25M, 32M", each(convert.films, plain(("movieId", "title", "genres"), table))
    ),
    "movielens-10m-tags": PresetLayout(
        "MovieLens 10M", plain(("user_id", "movie_id", "tag", "timestamp"), COLONS)
    ),
    "amazon-reviews": PresetLayout("Amazon reviews 2014 and 2018", plain(AMAZON, objects)),
    "amazon-2014-products": PresetLayout("Amazon reviews 2014", made(convert.amazon_2014)),
    "amazon-2018-products": PresetLayout("Amazon reviews 2018", made(convert.amazon_2018)),
    "amazon-2023-reviews": PresetLayout("Amazon reviews 2023", plain(AMAZON_2023, objects)),
    "amazon-2023-products": PresetLayout("Amazon reviews 2023", made(convert.amazon_2023)),
    "mind-clicks": PresetLayout("MIND", _clicks),
    "mind-history": PresetLayout("MIND", _histories),
    "mind-news": PresetLayout("MIND", each(mind.news, plain(mind.NEWS))),
    "retailrocket-items": PresetLayout(
        "RetailRocket", _versions, ("item_properties_part2.*", "category_tree.*")
    ),
    "lastfm-2k-listens": PresetLayout(
        "Last.fm 2K", whole(convert.numbered, plain(("userID", "artistID", "weight"), HEADED))
    ),
    "lastfm-2k-tags": PresetLayout("Last.fm 2K", _tags, ("tags.dat", "tags.parquet")),
    "lastfm-2k-artists": PresetLayout("Last.fm 2K", plain(("id", "name", "url", "pictureURL"), HEADED)),
    "lastfm-1k-listens": PresetLayout("Last.fm 1K", SONGS),
    "lastfm-1k-tracks": PresetLayout("Last.fm 1K", whole(partial(convert.distinct, key="track"), SONGS)),
    "lastfm-1k-artists": PresetLayout("Last.fm 1K", whole(partial(convert.distinct, key="artist"), SONGS)),
    "lastfm-1k-users": PresetLayout(
        "Last.fm 1K", each(convert.named, plain(("#id", *LASTFM_USER[1:]), HEADED))
    ),
    "lastfm-360k-plays": PresetLayout("Last.fm 360K", whole(convert.numbered, PLAYS)),
    "lastfm-360k-artists": PresetLayout(
        "Last.fm 360K", whole(partial(convert.distinct, key="artist"), PLAYS)
    ),
    "lastfm-360k-users": PresetLayout("Last.fm 360K", plain(LASTFM_USER, TOLERANT)),
    "gowalla-checkins": PresetLayout("Gowalla", CHECKINS),
    "gowalla-places": PresetLayout("Gowalla", whole(partial(convert.distinct, key="location"), CHECKINS)),
    "lightgcn-train": PresetLayout("LightGCN's Gowalla", _pairs(0)),
    "lightgcn-test": PresetLayout("LightGCN's Gowalla", _pairs(AFTER_TRAIN)),
    "lightgcn-items": PresetLayout("LightGCN's Gowalla", plain(("org_id", "remap_id"), SPACED)),
    "yelp-reviews": PresetLayout(
        "Yelp", plain(("review_id", "user_id", "business_id", "stars", "text", "date"), objects)
    ),
    "yelp-tips": PresetLayout("Yelp", plain(("user_id", "business_id", "text", "date"), objects)),
    "yelp-businesses": PresetLayout("Yelp", made(convert.business)),
    "yelp-users": PresetLayout("Yelp", plain(("user_id", "yelping_since"), objects)),
    "steam-events": PresetLayout("Steam 200k", whole(convert.numbered, PURCHASES)),
    "steam-games": PresetLayout("Steam 200k", _steam_games),
    "hm-articles": PresetLayout("H&M", each(convert.articles, plain(ARTICLES, table))),
}
