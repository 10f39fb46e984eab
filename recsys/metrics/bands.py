"""How popular what is recommended is: places of lists by bands of the catalogue, the most popular first."""

import polars as pl

from recsys.metrics.checks import refuse_depths
from recsys.metrics.context import Context

EDGES = (0.01, 0.05, 0.2, 0.5)  # shares of the items that somebody had, counted from the most popular
BANDS = ("top 1 %", "1 to 5 %", "5 to 20 %", "20 to 50 %", "50 to 100 %", "new")


def by_band(context: Context) -> pl.DataFrame:
    """Label items by popularity: item_id, band (one of BANDS, "new" where nobody had the item in train).

    An item lies in the first band whose edge is above the share of items that are more popular, so the most
    popular one is always in the first. Of equally popular ones the first by id comes first.
    """
    counted = context.items.unique().rename("item_id").to_frame().join(
        context.popularity, on="item_id", how="full", coalesce=True
    ).with_columns(pl.col("count").fill_null(0))  # fmt: skip
    had = counted.filter(pl.col("count") > 0).sort("count", "item_id", descending=[True, False])
    place = pl.int_range(pl.len()) / pl.len().clip(1)  # places before this one, of all
    band = pl.lit(BANDS[len(EDGES)])
    for edge, name in reversed(list(zip(EDGES, BANDS, strict=False))):
        band = pl.when(place < edge).then(pl.lit(name)).otherwise(band)
    new = counted.filter(pl.col("count") == 0).select("item_id", band=pl.lit("new"))
    return pl.concat([had.select("item_id", band=band), new])


def places_by_band(recommendations: pl.DataFrame, k: int, context: Context) -> pl.DataFrame:
    """Return source, band, places: how many places of the first k of all lists each band takes.

    Every band has a row, and an item that the catalogue lacks is new.
    """
    refuse_depths([k])
    listed = recommendations.filter(pl.col("rank") <= k).join(by_band(context), on="item_id", how="left")
    counts = listed.group_by("source", pl.col("band").fill_null("new")).len("places")
    sources = recommendations.select("source").unique()
    every = sources.join(pl.DataFrame({"band": BANDS}), how="cross")
    found = every.join(counts, on=["source", "band"], how="left", maintain_order="left")
    order = pl.col("band").cast(pl.Enum(BANDS))
    return found.with_columns(pl.col("places").fill_null(0).cast(pl.Int64)).sort("source", order)
