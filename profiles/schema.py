"""The frames this package owns, each column with its type and meaning.

Between packages only these travel. A frame is checked once, where it enters: `Frame.conform` orders
and casts the columns and refuses what is missing; nothing downstream checks again.

External ids are strings, times are UTC with microseconds. A frame marked `open` (ITEMS, USERS) may
carry further attributes of any type behind the named ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

TIME = pl.Datetime("us", "UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # an event before this has its time in another unit
AHEAD = timedelta(days=1)  # clocks and zones differ; an event later than this after now is an error
DAY = 86_400_000_000  # microseconds


def microseconds(moment: datetime) -> int:
    """Return a moment as whole microseconds since 1970 UTC, exactly: TIME's own representation."""
    return (moment - EPOCH) // timedelta(microseconds=1)


class ContractError(ValueError):
    """A frame, file or setting breaks its contract; the message says where and what would be right."""


@dataclass(frozen=True)
class Column:
    """One column of a frame: its type, what it means, and whether it may be absent or null."""

    dtype: pl.DataType
    meaning: str
    optional: bool = False


def column(dtype: type[pl.DataType] | pl.DataType, meaning: str, optional: bool = False) -> Column:
    """Declare a column; the type may be a class where it needs no parameters."""
    return Column(dtype() if isinstance(dtype, type) else dtype, meaning, optional)


@dataclass(frozen=True)
class Frame:
    """A fixed schema: named columns, the columns that identify a row, and whether more may follow."""

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    open: bool = False
    schema: pl.Schema = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", pl.Schema({n: c.dtype for n, c in self.columns.items()}))

    def empty(self) -> pl.DataFrame:
        """Return the frame without rows."""
        return pl.DataFrame(schema=self.schema)

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return `frame` with this schema: columns ordered, cast, optional ones filled with null.

        Raises ContractError for a column that is missing, unknown, of another type, or null where it
        must not be. Uniqueness of the key is the business of whoever makes the frame.
        """
        missing = [n for n, c in self.columns.items() if not c.optional and n not in frame.columns]
        if missing:
            raise ContractError(f"{self.name}: column {missing[0]!r} is missing; it has {frame.columns}")
        extra = [n for n in frame.columns if n not in self.columns]
        if extra and not self.open:
            raise ContractError(f"{self.name}: column {extra[0]!r} is not one of {list(self.columns)}")
        if frame.schema == self.schema:
            return self._without_nulls(frame)
        try:
            ready = frame.select(
                *(
                    pl.col(n).cast(c.dtype) if n in frame.columns else pl.lit(None, c.dtype).alias(n)
                    for n, c in self.columns.items()
                ),
                *(pl.col(n) for n in extra),
            )
        except pl.exceptions.PolarsError as error:
            raise ContractError(f"{self.name}: {error}") from error
        return self._without_nulls(ready)

    def _without_nulls(self, frame: pl.DataFrame) -> pl.DataFrame:
        for name, column in self.columns.items():
            if not column.optional and frame[name].null_count():
                raise ContractError(f"{self.name}: column {name!r} holds {frame[name].null_count()} nulls")
        return frame


EVENTS = Frame(
    "EVENTS",
    {
        "event_id": column(pl.String, "unique; from files a hash of source, content and its nth occurrence"),
        "user_id": column(pl.String, "who did it"),
        "item_id": column(pl.String, "what it was done to; null for a query or a log-in", optional=True),
        "event_type": column(pl.String, "view, purchase, rating, review, query, …"),
        "timestamp": column(TIME, "when; for a timeless source the order in microseconds since 1970"),
        "value": column(pl.Float64, "a rating, an amount, a duration", optional=True),
        "text": column(pl.String, "what the user wrote", optional=True),
        "session_id": column(pl.String, "visit the event belongs to", optional=True),
        "recommendation_id": column(pl.String, "the answer that led to the event", optional=True),
        "properties": column(pl.String, "a JSON object of anything else", optional=True),
    },
    key=("event_id",),
)

EXPOSURES = Frame(
    "EXPOSURES",
    {
        "recommendation_id": column(pl.String, "the answer"),
        "user_id": column(pl.String, "who saw it"),
        "item_id": column(pl.String, "what was shown"),
        "rank": column(pl.UInt32, "where it stood, from 1"),
        "propensity": column(pl.Float64, "probability of the item at this rank, where randomised", True),
        "source": column(pl.String, "blend, or the one recommender that answered"),
        "release": column(pl.String, "release that answered"),
        "blend": column(pl.String, "name of the blend"),
        "timestamp": column(TIME, "when it was shown"),
    },
    key=("recommendation_id", "rank"),
)

ITEMS = Frame(
    "ITEMS",
    {
        "item_id": column(pl.String, "unique"),
        "title": column(pl.String, "shown to people", optional=True),
        "text": column(pl.String, "description, for search and vectors", optional=True),
        "categories": column(pl.List(pl.String), "where it belongs", optional=True),
        "tags": column(pl.List(pl.String), "what describes it", optional=True),
        "brand": column(pl.String, "maker, author or publisher", optional=True),
        "price": column(pl.Float64, "in the shop's one currency", optional=True),
        "available_from": column(TIME, "first moment it may be shown; null: its first event", optional=True),
        "available_to": column(TIME, "first moment it may no longer be shown", optional=True),
    },
    key=("item_id",),
    open=True,
)

USERS = Frame("USERS", {"user_id": column(pl.String, "unique")}, key=("user_id",), open=True)

INTERACTIONS = Frame(
    "INTERACTIONS",
    {
        "user_id": column(pl.String, "who"),
        "item_id": column(pl.String, "what"),
        "event_type": column(pl.String, "how"),
        "weight": column(pl.Float32, "how much it says, from the event's type"),
        "timestamp": column(TIME, "when"),
    },
    key=(),
)

TEXTS = Frame(
    "TEXTS",
    {
        "text_hash": column(pl.String, "BLAKE2b-128 of the text, key of its embedding"),
        "owner": column(pl.String, "user or item"),
        "id": column(pl.String, "the user's or the item's id"),
        "text": column(pl.String, "as it was written"),
        "timestamp": column(TIME, "when it was written; null for an item's description", optional=True),
    },
    key=("owner", "id", "text_hash", "timestamp"),
)

REJECTED = Frame(
    "REJECTED",
    {
        "source": column(pl.String, "name of the source in the configuration"),
        "file": column(pl.String, "the file the row stands in"),
        "row": column(pl.Int64, "its number there, from 1, the header not counted"),
        "problem": column(pl.String, "what is wrong"),
        "content": column(pl.String, "the row as JSON"),
    },
    key=("source", "row"),
)
