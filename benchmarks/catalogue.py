"""The items and users of the simulated log."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from profiles.schema import ITEMS, TIME, USERS, microseconds

CATEGORIES, TAGS, BRANDS = 200, 2_000, 5_000
COUNTRIES, AGE_BANDS = 40, ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
SECOND_CATEGORY, CONSENT = 0.3, 0.85
OPENED = datetime(2025, 1, 1, tzinfo=UTC)  # before the first event every item is there


def names(letter: str, numbers: np.ndarray) -> pa.StringArray:
    """Return ids such as u0001234 and i000123."""
    width = 7 if letter == "u" else 6
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(letter, digits, "")


def write_items(path: Path, ids: pa.StringArray, price: np.ndarray, seed: int) -> None:
    """Write ITEMS: one or two of 200 categories, two to four of 2,000 tags, a brand, a price, a date."""
    rng = np.random.default_rng([seed, 100])
    n = len(ids)
    first = np.arange(n) % CATEGORIES  # so that the log can keep an item's rank in another category
    second = np.where(
        rng.random(n) < SECOND_CATEGORY, (first + rng.integers(1, CATEGORIES, n)) % CATEGORIES, -1
    )
    # A tag belongs to a category: its number is ten times the category's and one of ten, as step by step.
    steps = (rng.integers(0, 10, n)[:, None] + np.arange(4) * 3) % 10
    tags = np.where(np.arange(4) < rng.integers(2, 5, n)[:, None], first[:, None] * 10 + steps, -1)
    age = rng.exponential(200.0, n) * 86_400e6
    frame = pl.DataFrame(
        {
            "item_id": pl.Series(pl.from_arrow(ids)),
            "categories": _labels("category", np.stack([first, second], axis=1)),
            "tags": _labels("tag", tags),
            "brand": _label("brand", (rng.pareto(1.2, n) * 20).astype(np.int64) % BRANDS),
            "price": price,
            "available_from": pl.Series(microseconds(OPENED) - age.astype(np.int64)).cast(TIME),
        }
    )
    ITEMS.conform(frame).write_parquet(path)


def write_users(path: Path, ids: pa.StringArray, seed: int) -> None:
    """Write USERS: a country, an age band, and whether they agreed to personalization."""
    rng = np.random.default_rng([seed, 101])
    n = len(ids)
    bands = pl.Series(AGE_BANDS)
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(pl.from_arrow(ids)),
            "country": _label("country", (rng.pareto(1.0, n) * 3).astype(np.int64) % COUNTRIES),
            "age_band": bands.gather(rng.choice(len(bands), n, p=(0.15, 0.3, 0.25, 0.15, 0.1, 0.05))),
            "consent": rng.random(n) < CONSENT,
        }
    )
    USERS.conform(frame).write_parquet(path)


def _label(what: str, numbers: np.ndarray) -> pl.Series:
    return pl.select(_named(what, pl.lit(pl.Series(numbers)))).to_series()


def _labels(what: str, numbers: np.ndarray) -> pl.Series:
    """Return a list of labels for each row of numbers; -1 is none."""
    wide = pl.DataFrame({"row": np.arange(len(numbers)).repeat(numbers.shape[1]), "n": numbers.ravel()})
    kept = wide.filter(pl.col("n") >= 0).select("row", label=_named(what, pl.col("n")))
    return kept.group_by("row", maintain_order=True).agg("label")["label"]


def _named(what: str, number: pl.Expr) -> pl.Expr:
    return pl.format(f"{what}-{{}}", number.cast(pl.String).str.zfill(4))
