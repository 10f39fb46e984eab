"""Lists and truth as integers: checked, coded and searched once, read by every metric."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.metrics.checks import refuse_lists, refuse_places, refuse_strangers, refuse_truth
from recsys.metrics.codes import changed, coded
from recsys.metrics.context import Context
from recsys.metrics.search import search
from recsys.schema import METRICS

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Near(NamedTuple):
    """The first places of some lists: one row a place."""

    cell: Counts  # whose list; -1 of a user without truth
    source: Counts
    rank: Counts  # from 1
    item: npt.NDArray[np.uint32]  # code


@dataclass(frozen=True)
class Rankings:
    """Lists beside the truth. A cell is one source and one user with truth, sources first, both sorted.

    Items are codes, dense from 0, in the order they were met; hits come by cell's list, then rank.
    """

    sources: list[str]
    users: pl.Series  # with truth, sorted
    truth_starts: Counts  # (users + 1,) into truth_items and gain
    truth_items: npt.NDArray[np.uint32]
    gain: Array  # (pairs,) how right each true item is: `weight` of the truth, 1 without
    starts: Counts  # (lists + 1,) into items
    items: npt.NDArray[np.uint32]
    list_cell: Counts  # (lists,) -1 of a user without truth
    list_source: Counts
    cell: Counts  # (hits,)
    rank: Counts  # (hits,) place in the list, from 1
    pair: Counts  # (hits,) row of the truth
    nth: Counts  # (hits,) how many hits the list has up to and including this one
    context: Context
    coded: pl.Series  # none: polars forgets the codes with the last column that has them

    @classmethod
    def of(cls, recommendations: pl.DataFrame, truth: pl.DataFrame, context: Context) -> "Rankings":
        """Check, code and search. Raises ContractError where measuring would mean nothing.

        Refused: a truth that is empty, repeats a pair, shares no user with the lists or has a weight that
        is not above 0; lists with an unknown id, a NaN score, ranks other than 1..n, or an item twice.
        """
        refuse_truth(truth)
        refuse_lists(recommendations)
        truth, truth_starts = _in_order(truth, ["user_id"])
        lists, starts = _in_order(recommendations, ["source", "user_id"], "rank")
        users = truth["user_id"].gather(truth_starts[:-1])
        heads = lists.select("source", "user_id").gather(starts[:-1])
        sources = heads["source"].unique().sort().to_list()
        known = pl.DataFrame({"user_id": users}).with_row_index("user")
        owner = heads.join(known, on="user_id", how="left", maintain_order="left")["user"]
        owner_rows = owner.cast(pl.Int64).fill_null(-1).to_numpy(writable=True)
        if not (owner_rows >= 0).any():
            refuse_strangers(lists, truth)
        numbers = {name: n for n, name in enumerate(sources)}
        source = heads["source"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
        kind = pl.Categorical(pl.Categories.random())
        held = pl.Series([], dtype=kind)
        true, items = (coded(frame["item_id"], kind) for frame in (truth, lists))
        size = 1 + int(max(true.max(), items.max()))
        ranks = lists["rank"].to_numpy(writable=True)  # loops are compiled anew for arrays that are not
        found, rank, pair, wrong = search(starts, owner_rows, items, ranks, truth_starts, true, size)
        if wrong >= 0:
            refuse_places(lists.slice(starts[wrong], starts[wrong + 1] - starts[wrong]))
        cell = np.where(owner_rows >= 0, source * len(users) + owner_rows, -1)
        if "weight" in truth.columns:
            gain = truth["weight"].cast(pl.Float64).to_numpy()
        else:
            gain = np.ones(len(truth))
        return cls(
            sources, users, truth_starts, true, gain, starts, items, cell, source,
            cell[found], rank, pair, _counted(found), context, held,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.sources) * len(self.users)

    @cached_property
    def truth(self) -> Counts:
        """How many true items each cell has, at least 1: (cells,)."""
        return np.tile(np.diff(self.truth_starts), len(self.sources))

    def hits(self, k: int, gain: Array | None = None) -> Array:
        """Sum `gain` (one number a hit; 1 if absent) over each cell's hits within `k`: (cells,)."""
        near = self.rank <= k
        weights = None if gain is None else gain[near]
        return np.bincount(self.cell[near], weights, minlength=len(self)).astype(np.float64)

    def listed(self, k: int) -> Array:
        """Count the first `k` places of each cell's list: (cells,)."""
        judged, lengths = self.list_cell >= 0, np.minimum(np.diff(self.starts), k)
        return np.bincount(self.list_cell[judged], lengths[judged], minlength=len(self)).astype(np.float64)

    @cached_property
    def falling(self) -> tuple[Counts, Counts, Array]:
        """The truth by user, then falling gain: whose a pair is, its place from 1, its gain."""
        user = np.repeat(np.arange(len(self.users)), np.diff(self.truth_starts))
        order = np.lexsort((-self.gain, user))
        return user, np.arange(1, len(user) + 1) - self.truth_starts[user], self.gain[order]

    def near(self, k: int) -> Near:
        """Return the first `k` places of every list, those of users without truth too."""
        lengths = np.minimum(np.diff(self.starts), k)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        items = self.items[self.starts[owner] + place]
        return Near(self.list_cell[owner], self.list_source[owner], place + 1, items)

    def judged(self, k: int) -> Near:
        """Return the first `k` places of the lists of users with truth."""
        near = self.near(k)
        kept = near.cell >= 0
        return Near(near.cell[kept], near.source[kept], near.rank[kept], near.item[kept])

    def total(self, near: Near, values: Array | None = None) -> Array:
        """Sum one value a place (1 if absent) over each cell: (cells,)."""
        return np.bincount(near.cell, values, minlength=len(self)).astype(np.float64)

    def mean(self, near: Near, values: Array) -> Array:
        """Average one value a place over each cell's list, 0 for no list: (cells,)."""
        return self.total(near, values) / np.maximum(self.total(near), 1)

    def codes(self, items: pl.Series) -> npt.NDArray[np.uint32]:
        """Return the codes of item ids; those not met so far get new ones."""
        return items.cast(self.coded.dtype).to_physical().to_numpy()

    def by_code(self, items: pl.Series, values: npt.NDArray[Any], default: Any) -> npt.NDArray[Any]:
        """Lay one value an item out by code, `default` where there is none."""
        codes = self.codes(items)
        size = 1 + max(int(part.max()) for part in (codes, self.items, self.truth_items) if len(part))
        laid = np.full(size, default, dtype=np.result_type(values, type(default)))
        laid[codes] = values
        return laid


Formula = Callable[[Rankings, int], Array]


@dataclass(frozen=True)
class Metric:
    """A formula from rankings to one number a cell, or a source (`whole`), under a name."""

    name: str
    formula: Formula
    whole: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.formula.__doc__)

    def __call__(
        self, recommendations: pl.DataFrame, truth: pl.DataFrame, k: int, context: Context
    ) -> pl.DataFrame:
        """Return this metric alone as METRICS."""
        return rows(Rankings.of(recommendations, truth, context), [(self, k)])


def per_user(name: str) -> Callable[[Formula], Metric]:
    """Make a formula for every cell the Metric called `name`; where it is NaN there is no row."""
    return lambda formula: Metric(name, formula)


def per_source(name: str) -> Callable[[Formula], Metric]:
    """Make a formula for every source the Metric called `name`."""
    return lambda formula: Metric(name, formula, whole=True)


def rows(rankings: Rankings, wanted: list[tuple[Metric, int]]) -> pl.DataFrame:
    """Return METRICS by source, then in the order asked for, then by user."""
    values = [metric.formula(rankings, k) for metric, k in wanted]
    nobody = pl.Series("user_id", [None], dtype=pl.String)
    frames = [METRICS.empty()]
    for number, source in enumerate(rankings.sources):
        for (metric, k), of in zip(wanted, values, strict=True):
            users = nobody if metric.whole else rankings.users
            own = of.reshape(len(rankings.sources), -1)[number]
            frame = pl.DataFrame({"user_id": users, "value": own}).select(
                pl.lit(source).alias("source"),
                pl.lit(metric.name).alias("metric"),
                pl.lit(k, pl.Int64).alias("k"),
                "user_id",
                "value",
            )
            frames.append(frame.filter(~pl.Series(np.isnan(own))) if np.isnan(own).any() else frame)
    return pl.concat(frames)


def _in_order(frame: pl.DataFrame, key: list[str], rank: str | None = None) -> tuple[pl.DataFrame, Counts]:
    """Return the frame with each key's rows together, in order, and where each begins and the last ends.

    What is in order already, as every recommender writes it, is not sorted again.
    """
    changes, starts = _starts(frame, key)
    heads = frame.select(key).gather(starts[:-1])
    together = heads.n_unique() == len(heads)
    if together and rank is not None:
        ranks = frame[rank].to_numpy()
        together = bool((changes[1:] | (ranks[1:] > ranks[:-1])).all())
    if together and (rank is not None or heads[key[0]].is_sorted()):
        return frame, starts
    frame = frame.sort(key if rank is None else [*key, rank], maintain_order=True)
    return frame, _starts(frame, key)[1]


def _starts(frame: pl.DataFrame, key: list[str]) -> tuple[npt.NDArray[np.bool_], Counts]:
    """Return which rows have another key than the one before, and where these are, with the end."""
    changes = changed(frame[key[0]])
    for name in key[1:]:
        changes |= changed(frame[name])
    return changes, np.append(np.flatnonzero(changes), len(frame))


def _counted(groups: Counts) -> Counts:
    """Number the members of each group from 1; equal groups stand together."""
    changes = np.flatnonzero(np.diff(groups, prepend=-1))
    sizes = np.diff(np.append(changes, len(groups)))
    return np.arange(1, len(groups) + 1) - np.repeat(changes, sizes)
