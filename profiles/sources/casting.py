"""From a source's column to the type a frame asks for: text, numbers, lists, moments.

What cannot be read becomes null; the caller holds it against the column as given and says so.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

import polars as pl

from profiles.schema import TIME, ContractError

TimeUnit = Literal["auto", "iso", "s", "ms", "us", "ns"]

# Microseconds as (times, divided by): whole numbers stay exact.
FACTORS: dict[TimeUnit, tuple[int, int]] = {
    "s": (1_000_000, 1),
    "ms": (1000, 1),
    "us": (1, 1),
    "ns": (1, 1000),
}
MAGNITUDES: tuple[tuple[float, TimeUnit], ...] = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
# About the year 255,000, the last that polars can print: beyond it a moment is clipped, not wrapped.
FARTHEST = 8 * 10**18

WITH_ZONE = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y%m%dT%H%M%S%.f%#z")
WITHOUT_ZONE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S%.f", "%Y%m%d")


@dataclass(frozen=True)
class Times:
    """What a column of times holds, counted part by part: its unit is that of the whole, exactly.

    `below`: for each magnitude how many numbers lie below it, the largest of them, and the smallest that
    does not.
    """

    text: bool = False
    values: int = 0  # that are not null
    numbers: int = 0  # of those, that read as numbers
    finite: int = 0
    below: tuple[tuple[int, float, float], ...] = tuple((0, -inf, inf) for _ in MAGNITUDES)

    def __add__(self, other: "Times") -> "Times":
        """Return what both hold together."""
        below = zip(self.below, other.below, strict=True)
        return Times(
            self.text or other.text,
            self.values + other.values,
            self.numbers + other.numbers,
            self.finite + other.finite,
            tuple((a[0] + b[0], max(a[1], b[1]), min(a[2], b[2])) for a, b in below),
        )

    @property
    def unit(self) -> TimeUnit:
        """The unit: iso where less than half are numbers, else by the median of the numbers' sizes."""
        if self.text and 2 * self.numbers < self.values:
            return "iso"
        for (count, under, over), (limit, unit) in zip(self.below, MAGNITUDES, strict=True):
            apart = 2 * count == self.finite > 0  # the limit parts the two middle ones: their mean decides
            if (under + over) / 2 < limit if apart else 2 * count >= self.finite:
                return unit
        return "ns"


def times_of(column: pl.Series) -> Times:
    """Return what one part of a column of times holds."""
    dtype = column.dtype
    if not (dtype == pl.String or dtype.is_numeric()):
        return Times()
    numbers = column.str.strip_chars() if dtype == pl.String else column
    real = numbers.cast(pl.Float64, strict=False)
    sizes = real.filter(real.is_finite().fill_null(False)).abs()
    below = []
    for limit, _ in MAGNITUDES:
        under, over = sizes.filter(sizes < limit), sizes.filter(sizes >= limit)
        below.append((len(under), _extreme(under.max(), -inf), _extreme(over.min(), inf)))
    return Times(dtype == pl.String, column.count(), real.count(), len(sizes), tuple(below))


def _extreme(value: object, none: float) -> float:
    return value if isinstance(value, float) else none


def cast(
    column: pl.Series, dtype: pl.DataType, unit: TimeUnit = "auto", split: str | None = None
) -> pl.Series:
    """Return `column` as `dtype`; `split` takes a string apart where lists are wanted."""
    if isinstance(dtype, pl.Datetime):
        return as_time(column, unit)
    if isinstance(dtype, pl.List):
        return as_list(column, split)
    return as_text(column) if dtype == pl.String else as_number(column)


def as_text(column: pl.Series) -> pl.Series:
    """Return strings: whole numbers without ".0", structs as JSON, an empty string as null."""
    dtype = column.dtype
    if isinstance(dtype, pl.Struct):
        return column.struct.json_encode().set(column.is_null(), None)
    if dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        frame = pl.DataFrame({"given": column, "whole": whole})
        given = pl.col("given")
        as_whole = pl.when(given == pl.col("whole")).then(pl.col("whole").cast(pl.String))
        return frame.select(as_whole.otherwise(given.fill_nan(None).cast(pl.String))).to_series()
    try:
        text = column.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"column {column.name!r} holds {dtype}, which is no text ({error})") from error
    return text.set(text == "", None)


def as_number(column: pl.Series) -> pl.Series:
    """Return float64, null where a string is no number."""
    if column.dtype == pl.String:
        return column.str.strip_chars().cast(pl.Float64, strict=False)
    try:
        return column.cast(pl.Float64)
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"column {column.name!r} holds {column.dtype}, which is no number") from error


def as_list(column: pl.Series, split: str | None = None) -> pl.Series:
    """Return lists of strings: a string is split, its parts stripped, empty parts dropped."""
    if isinstance(column.dtype, pl.List | pl.Array):
        return column.cast(pl.List(pl.String))
    text = as_text(column)
    if split is None:
        whole = pl.when(pl.col("text").is_not_null()).then(pl.concat_list("text"))
        return text.to_frame("text").select(whole).to_series()
    part = pl.element().str.strip_chars()
    return text.str.split(split).list.eval(part.filter(part != ""))


def as_time(column: pl.Series, unit: TimeUnit) -> pl.Series:
    """Return UTC microseconds: dates and times as they are, strings as ISO 8601, numbers by `unit`.

    Naive times are UTC. With unit "auto" a column of digits counts as numbers, and their median says
    what they count.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.replace_time_zone("UTC") if dtype.time_zone is None else column.cast(TIME)
        return utc.dt.cast_time_unit("us").cast(pl.Int64).clip(-FARTHEST, FARTHEST).cast(TIME)
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if dtype == pl.Null:
        return column.cast(TIME)
    if not (dtype == pl.String or dtype.is_numeric()):
        raise ContractError(f"column {column.name!r} holds {dtype}, which is no time")
    if unit == "auto":
        unit = times_of(column).unit
    if unit == "iso":
        return _from_text(as_text(column))
    return _from_numbers(column.str.strip_chars() if dtype == pl.String else column, unit)


def as_order(column: pl.Series) -> pl.Series:
    """Return a place in an order as microseconds since 1970, null where it is no whole number."""
    if not (column.dtype in (pl.String, pl.Null) or column.dtype.is_numeric()):
        raise ContractError(f"column {column.name!r} holds {column.dtype}, which is no order")
    real = as_number(column)
    whole = (
        column.cast(pl.Int64, strict=False)
        if column.dtype != pl.String
        else real.cast(pl.Int64, strict=False)
    )
    fits = (real == whole) & (whole.abs() <= FARTHEST)
    return whole.set(~fits.fill_null(False), None).cast(TIME)


def _from_numbers(column: pl.Series, unit: TimeUnit) -> pl.Series:
    real = column.cast(pl.Float64, strict=False)
    real = real.set(~real.is_finite(), None)
    times, divisor = FACTORS[unit]
    reach = FARTHEST * divisor // times
    exact = pl.col("exact").clip(-min(reach, 2**63 - 1), min(reach, 2**63 - 1)) * times // divisor
    rounded = (pl.col("real") * (times / divisor)).clip(-FARTHEST, FARTHEST).round().cast(pl.Int64)
    whole = column.cast(pl.Int64, strict=False) if not column.dtype.is_float() else None
    frame = pl.DataFrame({"real": real, "exact": whole}, schema_overrides={"exact": pl.Int64})
    return frame.select(pl.coalesce(exact, rounded).cast(TIME)).to_series()


def _from_text(texts: pl.Series) -> pl.Series:
    tidy = (
        texts.str.strip_chars()
        .str.replace(r"^(\d{4}-\d{2}-\d{2}) +(\d)", "${1}T$2")
        .str.replace(r"(?i) *(UTC|GMT|Z)$", "Z")
        .str.replace(r" +([+-]\d{2}:?\d{2})$", "$1")
    )
    found = pl.Series([None], dtype=TIME).new_from_index(0, tidy.len())
    for pattern in (*WITHOUT_ZONE, *WITH_ZONE):
        if found.null_count() == tidy.null_count():
            break
        zone = None if pattern in WITH_ZONE else "UTC"
        parsed = tidy.str.to_datetime(pattern, time_unit="us", time_zone=zone, strict=False)
        found = found.to_frame("found").select(pl.coalesce("found", parsed.cast(TIME))).to_series()
    return found
