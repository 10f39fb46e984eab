"""From the columns of public data sets to columns a source can map: pure functions over a batch.

Nothing that sums up the whole log is kept (average stars, review counts): it would tell of the future.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from profiles.sources.presets_read import Frames, clean, words

AMOUNT = re.compile(r"(?:from\s+)?\$?\s*(\d+(?:\.\d+)?)(?![\d.])", re.IGNORECASE)


def numbered(frames: Frames, start: int = 0) -> Frames:
    """Add the place of each row in the file as `order`: what a log without times has of time."""
    for frame in frames:
        yield frame.with_columns(order=pl.int_range(start, start + pl.len(), dtype=pl.Int64))
        start += frame.height


def distinct(frames: Frames, key: str) -> Frames:
    """Keep the first row of each key over all batches; rows without one are dropped."""
    seen: pl.DataFrame | None = None
    for frame in frames:
        fresh = frame.filter(pl.col(key).is_not_null()).unique(key, keep="first", maintain_order=True)
        if seen is not None:
            fresh = fresh.join(seen, on=key, how="anti", maintain_order="left")
        keys = fresh.select(key)
        seen = keys if seen is None else pl.concat([seen, keys])
        yield fresh


def films(frame: pl.DataFrame) -> pl.DataFrame:
    """Take `(no genres listed)` for what it says."""
    return frame.with_columns(genres=pl.col("genres").replace("(no genres listed)", None))


def amazon_2014(product: dict[str, Any]) -> Mapping[str, Any]:
    """Return a product of meta_X.json.gz of 2014."""
    return {
        "item": clean(product.get("asin")),
        "title": clean(product.get("title")),
        "text": clean(product.get("description")),
        "categories": words(product.get("categories")),
        "brand": clean(product.get("brand")),
        "price": price(product.get("price")),
    }


def amazon_2018(product: dict[str, Any]) -> Mapping[str, Any]:
    """Return a product of meta_X.json.gz of 2018, without the scraped scripts in some of its fields."""
    title = clean(product.get("title"))
    return {
        "item": clean(product.get("asin")),
        "title": None if title and "getTime" in title else title,
        "text": " ".join(words([product.get("description"), product.get("feature")])) or None,
        "categories": [name for name in words(product.get("category")) if not name.startswith("<")],
        "brand": clean(product.get("brand")),
        "price": price(product.get("price")),
    }


def amazon_2023(product: dict[str, Any]) -> Mapping[str, Any]:
    """Return a product of meta_X.jsonl.gz of 2023."""
    return {
        "item": clean(product.get("parent_asin")),
        "title": clean(product.get("title")),
        "text": " ".join(words([product.get("description"), product.get("features")])) or None,
        "categories": words([product.get("main_category"), product.get("categories")]),
        "brand": clean(product.get("store")),
        "price": price(product.get("price")),
    }


def price(value: Any) -> str | None:
    """Return the number of `12.5`, `$1,299.00`, `from 3.99` or, of `$3 - $5`, the lower."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = AMOUNT.match(str(value).replace(",", "").strip())
    return found[1] if found else None


def business(found: dict[str, Any]) -> Mapping[str, Any]:
    """Return a business of Yelp; its categories are one text, in the oldest editions a list."""
    names = found.get("categories")
    place = {name: found.get(name) for name in ("latitude", "longitude")}
    return {
        **{name: clean(found.get(name)) for name in ("business_id", "name", "city", "state")},
        "categories": words(names.split(",") if isinstance(names, str) else names),
        **{name: None if degrees is None else str(degrees) for name, degrees in place.items()},
    }


def articles(frame: pl.DataFrame) -> pl.DataFrame:
    """Collect what H&M says of an article: its place in the shop, from wide to narrow, and its look."""
    place = ("index_group_name", "index_name", "section_name", "product_group_name", "product_type_name")
    look = ("garment_group_name", "colour_group_name", "graphical_appearance_name")
    return frame.with_columns(
        pl.concat_list(names).list.drop_nulls().list.unique(maintain_order=True).alias(column)
        for column, names in (("categories", place), ("tags", look))
    )


def artists(frame: pl.DataFrame) -> pl.DataFrame:
    """Give an artist without a MusicBrainz id the name as one."""
    return frame.with_columns(artist=pl.coalesce("artid", "artname"))


def tracks(frame: pl.DataFrame) -> pl.DataFrame:
    """Give songs and artists without a MusicBrainz id their names as one."""
    by_name = pl.concat_str("artname", "traname", separator=" / ")
    return artists(frame).with_columns(track=pl.coalesce("traid", by_name))


def named(frame: pl.DataFrame) -> pl.DataFrame:
    """Give the column `#id` our name."""
    return frame.rename({"#id": "user_id"})


def tagged(frame: pl.DataFrame, tags: pl.DataFrame) -> pl.DataFrame:
    """Write the word of each tag for its number, and one `timestamp` in ms: given, or of year, month, day."""
    if "timestamp" not in frame.columns:
        iso = pl.concat_str(
            pl.col(part).cast(pl.String).str.zfill(width)
            for part, width in (("year", 4), ("month", 2), ("day", 2))
        )
        at = iso.str.to_date("%Y%m%d", strict=False).dt.epoch("ms").cast(pl.String)
        frame = frame.with_columns(timestamp=pl.coalesce(at, "no day " + iso))
    number = pl.col("tagID").cast(pl.String)
    meaning = tags.select(number, tag="tagValue").unique("tagID", keep="first")
    return frame.with_columns(number).join(meaning, on="tagID", how="left", maintain_order="left")


def pairs(frames: Frames) -> Frames:
    """Turn each `line`, "user item item …", into rows of user and item."""
    for frame in frames:
        parts = frame.select(part=pl.col("line").str.strip_chars().str.split(" "))
        pair = parts.select(user=pl.col("part").list.first(), item=pl.col("part").list.slice(1))
        yield pair.explode("item").filter(pl.col("item") != "")


def category_paths(tree: Mapping[str, str | None]) -> Iterator[tuple[str, list[str]]]:
    """Yield each category of RetailRocket with the way to it from its root; a circle ends where it closes."""
    for category in tree:
        way = [category]
        while (parent := tree.get(way[-1])) and parent not in way:
            way.append(parent)
        yield category, way[::-1]


def versions(properties: pl.DataFrame, paths: Mapping[str, list[str]]) -> pl.DataFrame:
    """Turn dated properties (timestamp in ms, itemid, property, value) into item versions.

    A version stands from its `valid_from` on and keeps what was said before it; one that changes nothing
    is left out. A category unknown to the tree is its own path.
    """
    said = properties.select(
        item="itemid",
        valid_from=pl.col("timestamp").cast(pl.Int64, strict=False),
        category=pl.when(pl.col("property") == "categoryid").then("value"),
        available=pl.when(pl.col("property") == "available").then("value"),
    )
    ordered = said.sort("item", "valid_from", maintain_order=True)
    filled = ordered.with_columns(pl.col("category", "available").forward_fill().over("item"))
    moment = pl.struct("item", "valid_from")
    state = filled.filter(moment.ne_missing(moment.shift(-1)))  # all that is said at one moment
    told = pl.struct("item", "category", "available")
    way = pl.DataFrame(
        {"category": list(paths), "categories": list(paths.values())},
        {"category": pl.String, "categories": pl.List(pl.String)},
    )
    own = pl.when(pl.col("category").is_not_null()).then(pl.concat_list("category"))
    return (
        state.filter(told.ne_missing(told.shift()))
        .join(way, on="category", how="left", maintain_order="left")
        .select("item", "valid_from", pl.coalesce("categories", own).alias("categories"), "available")
    )
