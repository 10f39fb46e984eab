"""What a profile column is, and the settings all of them share.

A feature is a function of the past of some users (`past.Past`) or of the totals of all items
(`totals.Totals`) as arrays, one value an id. Batch and one live user go through the same function, so
the live value is the batch's value by construction. The columns stand in explicit dictionaries:
`user_features.user_features` and `item_features.item_features`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from profiles.schema import EPOCH, TIME


class FeaturesConfig(BaseModel):
    """Moment, windows, decays and list lengths of the profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: AwareDatetime | None = Field(
        None, description="moment the profiles are built for, as 2026-01-31T00:00:00Z; none: the last event"
    )
    windows_days: tuple[PositiveInt, ...] = Field(
        (1, 7, 30, 90, 365), min_length=1, max_length=20, description="windows of the counts, in days"
    )
    session_minutes: PositiveFloat = Field(
        30.0,
        description="a visit ends where session_id changes; without ids, after this long without an event",
    )
    timezone: str = Field("UTC", description="zone of hours and weekdays, as Europe/Berlin")
    half_life_days: PositiveFloat = Field(30.0, description="an event counts half in affinities after this")
    smoothing: NonNegativeFloat = Field(
        5.0, description="how many weighted events the log's own shares count for in an affinity"
    )
    affinities: PositiveInt = Field(5, description="strongest values kept of each affinity")
    last_items: PositiveInt = Field(20, description="most recent distinct items kept")
    price_bands: PositiveInt = Field(5, le=100, description="bands of price and of spending, equally filled")
    spend_types: tuple[str, ...] = Field(
        ("purchase", "order", "buy", "transaction"), description="event types whose value is money spent"
    )
    conversions: tuple[tuple[str, str], ...] = Field(
        (("view", "purchase"), ("view", "cart"), ("cart", "purchase")),
        description="pairs of event types: events of the second to one of the first, where the log has both",
    )
    new_item_days: PositiveFloat = Field(30.0, description="an item is new for this long")
    new_user_days: PositiveFloat = Field(7.0, description="a user is new for this long")
    co_items_days: PositiveInt = Field(30, description="how far back items seen in one visit are paired")
    consents: tuple[str, ...] = Field(
        (), description="user attributes that say yes or no; a user who has not said yes has said no"
    )
    audience: tuple[str, ...] = Field(
        (), description="user attributes whose mix among an item's users becomes a column"
    )

    @field_validator("windows_days")
    @classmethod
    def _rising(cls, days: tuple[int, ...]) -> tuple[int, ...]:
        if list(days) != sorted(set(days)):
            raise ValueError(f"give rising numbers of days, each once: {tuple(sorted(set(days)))}")
        return days

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{name!r} is no time zone; give one as UTC or Europe/Berlin") from None
        return name


Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Lists:
    """One list a row: row r holds values[offsets[r]:offsets[r + 1]], with shares as {value, share}.

    With `names`, values are places of strings among these.
    """

    offsets: np.ndarray
    values: pl.Series
    shares: np.ndarray | None = None
    names: pl.Series | None = None

    @classmethod
    def of(cls, column: pl.Series, names: pl.Series) -> "Lists":
        """Return what `series` made a column of, its nulls empty."""
        values, shares = column.explode(empty_as_null=False, keep_nulls=False), None
        if isinstance(values.dtype, pl.Struct):
            values, shares = values.struct.field("value"), values.struct.field("share").to_numpy()
        lengths = column.list.len().fill_null(0).to_numpy()
        return cls(np.append(0, np.cumsum(lengths, dtype=np.int64)), values, shares, names)

    @property
    def named(self) -> "Lists":
        """The same without `names`."""
        return (
            self if self.names is None else replace(self, values=self.names.gather(self.values), names=None)
        )

    def series(self) -> pl.Series:
        """Return the rows as a Polars list column."""
        values = self.values
        if self.shares is not None:
            values = pl.DataFrame({"value": values, "share": self.shares}).to_struct()
        offsets = pa.array(self.offsets.astype(np.int64))
        whole = values.to_arrow(compat_level=pl.CompatLevel.newest())  # strings stay where they are
        return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(offsets, whole)))

    def only(self) -> list[Any]:
        """Return the one row there is."""
        values = self.named.values.to_list()
        if self.shares is None:
            return values
        pairs = zip(values, self.shares.tolist(), strict=True)
        return [{"value": value, "share": share} for value, share in pairs]


@dataclass(frozen=True)
class Feature(Generic[Seen]):
    """One profile column: its function of what was seen, and what a reader must know of it."""

    of: Callable[[Seen], np.ndarray | Lists | pl.Series]
    dtype: pl.DataType
    unit: str
    meaning: str
    source: str = "all events"
    window: str = "all time"
    fill: object = None  # the value of an id without events; None: unknown

    def value(self, seen: Seen) -> Any:
        """Return what stands in the column's only row, filled: `column` at a tenth of the price."""
        found = self.of(seen)
        if isinstance(found, Lists):
            return found.only()
        if not isinstance(found, np.ndarray):
            raise TypeError("a column of one row is an array or lists")
        value = found[0].item()
        if self.dtype == TIME:
            return EPOCH + timedelta(microseconds=value)
        value = float(value) if self.dtype == pl.Float64 else value
        return self.fill if value != value else value

    def column(self, name: str, seen: Seen, names: dict[str, pl.Series] | None = None) -> pl.Series:
        """Compute the column; NaN becomes null.

        With `names` a list of strings that has codes stays one of codes, a quarter of the bytes; what they
        stand for is left there by the column's name. `Lists.of` takes it up.
        """
        found = self.of(seen)
        if isinstance(found, np.ndarray):
            column = pl.Series(name, pa.array(found, from_pandas=True))  # the array itself, not a copy
        elif isinstance(found, Lists):
            if names is not None and found.names is not None:
                names[name] = found.names
                return found.series().alias(name)
            column = found.named.series().alias(name)
        else:
            column = found.alias(name)
        return column if column.dtype == self.dtype else column.cast(self.dtype)


def counts_by_type(
    types: Sequence[str],
    windows_days: Sequence[int],
    of: Callable[[int | None, int | None], Callable[[Seen], np.ndarray]],
) -> dict[str, Feature[Seen]]:
    """Return a column for all events and for each type, in each window and all time.

    `of` gives the function of a type's number and a window's days; None is all of them.
    """
    kinds = [("events", None, "all events"), *((f"count_{t}", n, t) for n, t in enumerate(types))]
    spans = [*((d, f"{d}d", f"{d} days") for d in windows_days), (None, "all", "all time")]
    return {
        f"{name}_{short}": Feature(of(kind, days), pl.UInt32(), "events", "how many", source, long, 0)
        for name, kind, source in kinds
        for days, short, long in spans
    }


VALUE_SHARES = pl.List(pl.Struct({"value": pl.String(), "share": pl.Float64()}))


def places(values: pl.Series, among: pl.Series) -> np.ndarray:
    """Return where each string stands among sorted, different ones: int32, -1 for null and what is not there.

    Few are searched for: a join or a cast to an Enum reads all of `among` first, each time.
    """
    if not len(among):
        return np.full(len(values), -1, np.int32)
    if len(values) * 20 < len(among) or len(values) < 1000:
        place = np.minimum(among.search_sorted(values).to_numpy(), len(among) - 1).astype(np.int32)
        there = [one == other for one, other in zip(among[place], values, strict=True)]
        return np.where(there, place, np.int32(-1))
    numbered = among.alias("value").to_frame().with_row_index("place")
    found = values.alias("value").to_frame().join(numbered, on="value", how="left", maintain_order="left")
    return found["place"].cast(pl.Int32).fill_null(-1).to_numpy()


def filled(column: pl.Series, fill: object) -> pl.Series:
    """Fill what a column does not know of an id."""
    if fill is None or not column.null_count():
        return column
    return column.to_frame().select(pl.all().fill_null(pl.lit(fill, column.dtype))).to_series()
