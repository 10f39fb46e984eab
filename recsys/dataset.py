"""What recommenders learn from and are asked about: ids as rows, histories, queries, the catalogue.

External ids stop here. Inside `recsys` a user or item is an int32 row, a moment is int64 microseconds
since 1970 UTC, and a user is what they did: a query carries a history, never an identity (`ids` only
label the answers).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from profiles.schema import INTERACTIONS, ITEMS, TIME, ContractError, microseconds
from recsys.ranking import Barred

Repeats = Literal["binary", "sum", "log", "last"]
ALWAYS = np.iinfo(np.int64).max


class Vocabulary:
    """Ids in a fixed order and the row of each. Rows are int32, -1 is unknown."""

    def __init__(self, ids: pl.Series) -> None:
        self.ids = ids.cast(pl.String).rename("id")
        if self.ids.n_unique() != len(self.ids):
            raise ContractError(f"a vocabulary needs unique ids; {self.ids.is_duplicated().sum()} repeat")

    @classmethod
    def of(cls, *columns: pl.Series) -> "Vocabulary":
        """Collect the distinct ids of some columns, sorted, so that row order is no accident."""
        ids = pl.concat([c.cast(pl.String).rename("id") for c in columns]).drop_nulls()
        return cls(ids.unique().sort())

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids.to_list())}

    def row(self, name: str) -> int:
        """Return the row of one id, -1 if it is unknown."""
        return self._row_of.get(name, -1)

    def rows(self, ids: pl.Series | Sequence[str]) -> np.ndarray:
        """Return the rows of many ids, (n,) int32."""
        if not isinstance(ids, pl.Series) or len(ids) < 1000:
            names = ids.to_list() if isinstance(ids, pl.Series) else ids
            return np.fromiter((self._row_of.get(name, -1) for name in names), np.int32, len(names))
        index = pl.DataFrame({"id": self.ids}).with_row_index("row")
        found = (
            ids.cast(pl.String)
            .rename("id")
            .to_frame()
            .join(index, on="id", how="left", maintain_order="left")
        )
        return found["row"].cast(pl.Int32).fill_null(-1).to_numpy()

    def take(self, rows: np.ndarray) -> pl.Series:
        """Return the ids of rows."""
        return self.ids.gather(pl.Series(rows, dtype=pl.UInt32))


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _columns(interactions: pl.DataFrame, users: Vocabulary, items: Vocabulary) -> _Columns:
    """Return the user row, item row, weight and moment of INTERACTIONS.

    Column by column, without a Polars query: a live request is a dozen rows, and a query costs more.
    """
    times = interactions["timestamp"].cast(TIME).to_numpy()
    return (
        users.rows(interactions["user_id"]),
        items.rows(interactions["item_id"]),
        interactions["weight"].to_numpy(),
        times.astype("datetime64[us]", copy=False).view(np.int64),
    )


@dataclass(frozen=True)
class Histories:
    """Ragged rows of interactions, oldest first; equal moments keep the order of the log."""

    offsets: np.ndarray  # (n + 1,) int64: row r is [offsets[r], offsets[r + 1])
    items: np.ndarray  # (interactions,) int32
    weights: np.ndarray  # (interactions,) float32
    times: np.ndarray  # (interactions,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(
        cls, interactions: pl.DataFrame, users: Vocabulary, items: Vocabulary, limit: int | None = None
    ) -> "Histories":
        """Group interactions by user row; unknown users and items are left out.

        `limit` keeps each user's latest interactions only.
        """
        return cls._grouped(_columns(interactions, users, items), len(users), limit)

    @classmethod
    def _grouped(cls, columns: "_Columns", users: int, limit: int | None, liked: bool = False) -> "Histories":
        """Group rows by user; `liked` leaves those out whose weight is not above 0."""
        user, item, weight, time = columns
        known = np.flatnonzero((user >= 0) & (item >= 0) & ((weight > 0) | (not liked)))
        order = known[np.lexsort((time[known], user[known]))]  # stable: equal moments stay as logged
        counts = np.bincount(user[order], minlength=users)
        if limit is not None:
            from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(order))
            order = order[from_end <= limit]
            counts = np.minimum(counts, limit)
        return cls(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            item[order],
            weight[order].astype(np.float32),
            time[order],
        )

    @classmethod
    def empty(cls, rows: int) -> "Histories":
        """Return histories in which nothing happened."""
        none = np.zeros(0)
        return cls(
            np.zeros(rows + 1, np.int64),
            none.astype(np.int32),
            none.astype(np.float32),
            none.astype(np.int64),
        )

    @cached_property
    def rows(self) -> np.ndarray:
        """The row each interaction belongs to, (interactions,) int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def part(self, start: int, stop: int) -> "Histories":
        """Return rows start..stop-1."""
        first, last = self.offsets[start], self.offsets[stop]
        offsets = self.offsets[start : stop + 1] - first
        return Histories(offsets, self.items[first:last], self.weights[first:last], self.times[first:last])

    def matrix(self, items: int, repeats: Repeats) -> csr_matrix:
        """Return (rows, items) float32 with one cell per pair, its value by `repeats`.

        binary: 1 · sum: the weights' sum · log: log(1 + sum) · last: the newest weight.
        """
        weights = np.ones_like(self.weights) if repeats == "binary" else self.weights
        matrix = csr_matrix((weights, self.items, self.offsets), (len(self), items), copy=True)
        if repeats == "last":
            keys = self.rows * items + self.items
            newest = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
            keep = np.zeros(len(keys), bool)
            keep[newest] = True
            matrix = csr_matrix(
                (self.weights[keep], (self.rows[keep], self.items[keep])),
                (len(self), items),
                dtype=np.float32,
            )
        elif repeats == "binary" and matrix.nnz > items:
            matrix = matrix.T.tocsr().T.tocsr()  # counting sorts rows, in a tenth of the time
        matrix.sum_duplicates()
        if repeats == "binary":
            matrix.data[:] = 1.0
        elif repeats == "log":
            matrix.data = np.log1p(matrix.data)
        return matrix


@dataclass(frozen=True)
class Queries:
    """A batch of questions: what was done, what may not be shown again, and the moment of asking."""

    items: int  # size of the catalogue the rows refer to
    ids: Sequence[str]  # labels of the answers, never scored
    histories: Histories
    seen: Histories  # masked when seen items are excluded; may hold more than the histories
    at: np.ndarray  # (n,) int64 microseconds
    vectors: np.ndarray | None = None  # (n, d) float32 of the user's own words; NaN rows where none

    def __len__(self) -> int:
        return len(self.ids)

    def matrix(self, repeats: Repeats) -> csr_matrix:
        """Return the histories as (n, items) float32, the same function fit used."""
        return self.histories.matrix(self.items, repeats)

    def part(self, start: int, stop: int) -> "Queries":
        """Return queries start..stop-1."""
        return Queries(
            self.items,
            self.ids[start:stop],
            self.histories.part(start, stop),
            self.seen.part(start, stop),
            self.at[start:stop],
            None if self.vectors is None else self.vectors[start:stop],
        )

    def blocks(self, size: int) -> Iterator[tuple[slice, "Queries"]]:
        """Yield the batch as queries of at most `size`, with the place of each block's answers."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield slice(start, stop), self.part(start, stop)


@dataclass(frozen=True)
class Catalogue:
    """The items a ranking may hold, and when each may be shown. Row = position in `items`."""

    items: Vocabulary
    attributes: pl.DataFrame  # ITEMS, one row per item, in row order
    available_from: np.ndarray  # (items,) int64 microseconds
    available_to: np.ndarray  # (items,) int64, exclusive

    @classmethod
    def of(cls, items: pl.DataFrame, events: pl.DataFrame, as_of: datetime) -> "Catalogue":
        """Collect ITEMS and what events name (their item_id and timestamp).

        An item without a date starts with its first event; one without either is known at `as_of`, the
        moment of the catalogue itself, and not before.
        """
        vocabulary = Vocabulary.of(items["item_id"], events["item_id"])
        ids = vocabulary.ids.rename("item_id").to_frame()
        first = events.group_by("item_id").agg(pl.col("timestamp").min()).drop_nulls("item_id")
        first_event = ids.join(first, on="item_id", how="left", maintain_order="left")["timestamp"]
        attributes = ITEMS.conform(
            ids.join(items, on="item_id", how="left", maintain_order="left").with_columns(
                pl.coalesce("available_from", first_event).alias("available_from")
            )
        )
        start = attributes["available_from"].to_physical().fill_null(microseconds(as_of))
        stop = attributes["available_to"].to_physical().fill_null(ALWAYS)
        return cls(vocabulary, attributes, start.to_numpy(), stop.to_numpy())

    def candidates(self, at: np.ndarray) -> np.ndarray:
        """Return which items exist at each moment, (n, items) bool."""
        moments = at[:, None]
        return (self.available_from[None, :] <= moments) & (moments < self.available_to[None, :])

    def barred(
        self, queries: Queries, exclude_seen: bool = True, excluded: np.ndarray | None = None
    ) -> Barred:
        """Collect what may not be listed: what is not on offer, the rows `excluded`, what was seen."""
        at, seen = queries.at, queries.seen if exclude_seen else Histories.empty(len(queries))
        first, last = (at.min(), at.max()) if len(at) else (0, 0)
        never = (self.available_from > last) | (self.available_to <= first)
        if excluded is not None:
            never[excluded] = True
        sometimes = np.flatnonzero(~never & ((self.available_from > first) | (self.available_to <= last)))
        if not len(sometimes):
            return Barred(never, seen.offsets, seen.items)
        start, stop = self.available_from[sometimes], self.available_to[sometimes]
        query, place = np.nonzero((start > at[:, None]) | (stop <= at[:, None]))
        owner = np.concatenate([seen.rows, query])
        rows = np.concatenate([seen.items, sometimes[place]])[np.argsort(owner, kind="stable")]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(at)))])
        return Barred(never, offsets, rows)

    def queries(
        self,
        ids: Sequence[str],
        interactions: pl.DataFrame,
        at: np.ndarray | datetime,
        seen: pl.DataFrame | None = None,
        vectors: np.ndarray | None = None,
        limit: int | None = None,
    ) -> Queries:
        """Ask about `ids` with these INTERACTIONS as their past.

        Rows of weight 0 or below say nothing for their item, so they are no history; they are still seen.
        Unknown items are left out. `seen` may give another frame of what must not be shown again. Raises
        ContractError for a weight that is no finite number.
        """
        labels = Vocabulary(pl.Series("id", list(ids), dtype=pl.String))
        moments = np.full(len(ids), microseconds(at), np.int64) if isinstance(at, datetime) else at
        _refuse_no_number(interactions)
        done = _columns(interactions, labels, self.items)
        shown = done if seen is None else _columns(seen, labels, self.items)
        return Queries(
            len(self.items),
            list(ids),
            Histories._grouped(done, len(labels), limit, liked=True),
            Histories._grouped(shown, len(labels), None),
            moments,
            vectors,
        )


@dataclass(frozen=True)
class Dataset:
    """What a recommender is fitted on: histories up to one moment, the catalogue and its vectors."""

    users: Vocabulary
    catalogue: Catalogue
    histories: Histories  # one row per user row, weights above 0 only
    as_of: int  # microseconds: nothing later is in here
    vectors: np.ndarray | None = None  # (items, d) float32 of the items' texts; NaN rows where none
    timeless: bool = False  # times are only an order; decays and temporal splits refuse
    brought: Mapping[str, np.ndarray] = field(default_factory=dict)  # by name, as `vectors`, of norm 1

    @property
    def items(self) -> Vocabulary:
        """The catalogue's items."""
        return self.catalogue.items

    @classmethod
    def of(
        cls,
        interactions: pl.DataFrame,
        catalogue: Catalogue,
        as_of: datetime,
        vectors: np.ndarray | None = None,
        timeless: bool = False,
        brought: Mapping[str, np.ndarray] | None = None,
    ) -> "Dataset":
        """Take the INTERACTIONS at or before `as_of` of weight above 0, with items the catalogue holds.

        A user with none of these is no row. Raises ContractError for a weight that is no finite number.
        """
        past = _liked(INTERACTIONS.conform(interactions)).filter(pl.col("timestamp") <= as_of)
        users = Vocabulary.of(past["user_id"])
        histories = Histories.of(past, users, catalogue.items)
        held = np.diff(histories.offsets) > 0
        if not held.all():
            users = Vocabulary(users.ids.filter(pl.Series(held)))
            histories = replace(histories, offsets=np.concatenate([[0], histories.offsets[1:][held]]))
        return cls(users, catalogue, histories, microseconds(as_of), vectors, timeless, brought or {})

    def matrix(self, repeats: Repeats) -> csr_matrix:
        """Return (users, items) float32, one cell per pair."""
        return self.histories.matrix(len(self.items), repeats)


def _liked(interactions: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that speak for their item."""
    _refuse_no_number(interactions)
    return interactions.filter(pl.col("weight") > 0)


def _refuse_no_number(interactions: pl.DataFrame) -> None:
    """Refuse weights that are not finite by name: NaN is above 0 to polars."""
    weights = interactions["weight"]
    if np.isfinite(weights.to_numpy()).all():  # as in `_columns`: a Polars query costs a live request more
        return
    bad = interactions.filter(~weights.is_finite())
    if not len(bad):  # null is no weight, not a wrong one
        return
    user, item, weight = bad.select("user_id", "item_id", "weight").row(0)
    raise ContractError(
        f"{len(bad)} interactions have a weight that is no finite number, such as {weight} of user "
        f"{user!r} and item {item!r}; leave them out, or give them weight 0"
    )
