"""Exact top-k of products of vectors: a rough product says who may be listed, float64 who is.

Nearly all the work of a list of q'v over all items v is the product itself, so it is taken roughly: in
float32; for many queries in bfloat16 where the processor multiplies those; and for one query over a large
table in whole numbers of 8 bits, since what takes the time there is to read the table. With q~ and v~ the
vectors as rounded for it, and p the rough product, by Cauchy and Schwarz

    |q'v - p| <= |q - q~| |v~| + |q| |v - v~| + 2 d u |q~| |v~| =: e,

where u = 2^-24: a sum of d products in float32 errs, in whatever order, by less than 2 d u times the sum
of their magnitudes (Higham 2002, eq. 3.5). The largest |v~| and |v - v~| of all items make e one number
for each query. Let L be the k-th largest p. Then k items have q'v >= L - e, so whatever is among the k
best has q'v >= L - e too, and p >= L - 2 e. Only such items, some 50 of 40,000 for lists of 20 in
bfloat16, are scored in float64, rounded once, and sorted. Where the bound separates nothing (a query of
zeros) all of them are: slower, and as right.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from threading import local
from typing import TYPE_CHECKING

import numpy as np

from profiles import threads
from recsys import watch
from recsys.ranking import Barred, Ranked, candidates, listed

if TYPE_CHECKING:
    import torch

UNIT = 2.0**-24  # of float32: half the distance from 1 to the next number
TINY = 2.0**-125  # products below this may be flushed to 0
CELLS = 1 << 20  # numbers widened to float64 at a time
FEW = 32  # queries multiplied at a time in float32
LARGE = 1 << 22  # numbers of a table that repays loading a compiler, where a query comes alone
BYTE, WORD, SUM = 2**7 - 1, 2**15 - 1, 2**31 - 1  # the largest whole number of items, queries and sums
MANY, MOST = 256, 1 << 25  # and in bfloat16, and how many products they may have together
WORTH = 4e9  # multiplications from which bfloat16 repays loading what it needs


@dataclass(frozen=True)
class Table:
    """Item vectors, and what the bound needs of them. The array must not be changed in place."""

    items: np.ndarray  # (m, d) float32; NaN rows are never listed

    @cached_property
    def known(self) -> np.ndarray:
        """Which items have a vector, (m,) bool."""
        known: np.ndarray = ~np.isnan(self.items[:, 0])
        return known

    @cached_property
    def longest(self) -> float:
        """The largest norm."""
        return _longest(self.items)

    @cached_property
    def half(self) -> tuple["torch.Tensor", float, float]:
        """The vectors in bfloat16, 0 where unknown; their largest norm and distance from `items`."""
        import torch

        half = torch.from_numpy(np.where(self.known[:, None], self.items, np.float32(0))).bfloat16()
        wide = half.float().numpy()
        return half, _longest(wide), _longest(self.items, wide)

    @cached_property
    def whole(self) -> tuple[np.ndarray, np.ndarray, float, float]:
        """The vectors as whole numbers (m, d) int8 of a step each (m,), NaN where unknown.

        With the largest norm of these and distance from `items`.
        """
        codes = np.zeros(self.items.shape, np.int8)
        steps = np.full(len(self.items), np.nan)
        longest = furthest = 0.0
        part = max(1, CELLS // max(self.items.shape[1], 1))
        for start in range(0, len(steps), part):
            rows = start + np.flatnonzero(np.isfinite(self.items[start : start + part]).all(axis=1))
            vectors = self.items[rows].astype(np.float64)
            codes[rows], steps[rows] = _coded(vectors, BYTE)
            near = codes[rows] * steps[rows, None]
            longest, furthest = max(longest, _longest(near)), max(furthest, _longest(vectors, near))
        return codes, steps, longest, furthest

    def block(self, queries: int) -> int:
        """Return how many of so many queries to give `best` at a time: the size tells it the way."""
        if queries * self.items.size < WORTH or not watch.multiplies_bfloat16():
            return FEW
        return max(FEW + 1, min(MANY, MOST // len(self.items)))

    def best(self, blocks: Iterable[tuple[np.ndarray, Barred]], k: int) -> Iterator[Ranked]:
        """Yield the k best items of each block of queries (n, d) float64; a NaN row lists nothing.

        Memory: FEW × items × 16 bytes; for larger blocks MANY × items × 2 a thread, and a copy of the items
        in half; for one query over a LARGE table a copy of it in bytes.
        """
        for few, alike in groupby(blocks, lambda block: len(block[0]) <= FEW):
            if few:
                yield from (self._of_few(users, k, barred) for users, barred in alike)
            else:
                yield from self._side_by_side(alike, k)

    def _side_by_side(self, blocks: Iterable[tuple[np.ndarray, Barred]], k: int) -> Iterator[Ranked]:
        """Rank large blocks, one a thread: a block on all threads waits for each of its steps."""
        self.half  # noqa: B018  # once, before threads ask for it
        room = local()
        with ThreadPoolExecutor(threads.available(), initializer=_alone) as pool:
            yield from threads.ahead(pool, lambda block: self._of_many(*block, k, room), blocks)

    def _of_few(self, users: np.ndarray, k: int, barred: Barred) -> Ranked:
        """Rank by float32 products, or by whole ones."""
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is not listed
            if len(users) == 1 and self.items.size >= LARGE:
                products, margins = self._whole_products(users)
            else:
                rough = users.astype(np.float32)
                products, margins = rough @ self.items.T, 2 * _error(users, rough, self.longest, 0.0)
            query, column = candidates(products, k, barred.allowed, margins)
            scores = np.empty(len(query), np.float32)
            step = max(1, CELLS // users.shape[1])
            for start in range(0, len(query), step):
                part = slice(start, start + step)
                scores[part] = (users[query[part]] * self.items[column[part]]).sum(axis=1)
        return listed(query, column, scores, len(users), k)

    def _whole_products(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rough products of one query (1, d), and twice their error."""
        from recsys.list_kernels import whole_products

        codes, steps, longest, furthest = self.whole
        # A query without a vector goes the whole way, too: asking for nobody makes all that answers need.
        asked = users if np.isfinite(users).all() else np.zeros_like(users)
        whole, step = _coded(asked, min(WORD, SUM // (BYTE * users.shape[1])))
        near = whole * step[:, None]
        products = np.empty((1, len(codes)), np.float32)
        whole_products(codes, steps, whole[0].astype(np.int16), float(step[0]), products[0])
        if asked is not users:
            products[:] = np.nan
        return products, 2 * _error(asked, near, longest, furthest)

    def _of_many(self, users: np.ndarray, barred: Barred, k: int, room: local) -> Ranked:
        """Rank by bfloat16 products, put into this thread's `room`."""
        import torch

        from recsys.list_kernels import GROUP, pick

        half, longest, furthest = self.half
        asked = np.isfinite(users).all(axis=1)
        users = np.where(asked[:, None], users, 0.0)
        rough = torch.from_numpy(users.astype(np.float32)).bfloat16()
        margins = 2 * _error(users, rough.float().numpy(), longest, furthest)
        if len(getattr(room, "products", ())) < len(users):
            room.products = np.empty((len(users), -(-len(half) // GROUP) * GROUP), np.int16)
        bits = room.products[: len(users)]
        torch.mm(rough, half.T, out=torch.from_numpy(bits).view(torch.bfloat16)[:, : len(half)])
        closed = np.flatnonzero(~self.known | barred.everybody)
        columns, values = np.full((len(users), k), -1, np.int32), np.full((len(users), k), np.nan)
        pick(bits, margins, asked, closed, barred.offsets, barred.rows, users, self.items, columns, values)
        order = np.lexsort((columns, -values), axis=1)
        rows, scores = (np.take_along_axis(found, order, axis=1) for found in (columns, values))
        return Ranked(rows, scores.astype(np.float32))


def _alone() -> None:
    """Hold the calling thread's products to itself, for good: its fellows work beside it."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # which sets what a thread begins with, and would do so later
    threadpool_limits(1, "openmp")  # OpenMP keeps this number for each thread


def _coded(vectors: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 vectors (n, d) as whole numbers up to `most` of a step each (n,)."""
    steps = np.abs(vectors).max(axis=1, initial=0.0) / most
    return np.rint(vectors / np.where(steps > 0, steps, 1.0)[:, None]), steps


def _error(users: np.ndarray, rough: np.ndarray, longest: float, furthest: float) -> np.ndarray:
    """Return e of each query, (n,) float64, a little more than it is for the rounding of its own terms."""
    own, apart = np.linalg.norm(users, axis=1), np.linalg.norm(users - rough, axis=1)
    near = np.linalg.norm(rough.astype(np.float64), axis=1)
    summed = 2 * users.shape[1] * (UNIT * near * longest + TINY)
    error: np.ndarray = (apart * longest + own * furthest + summed) * (1 + 2.0**-20)
    return error


def _longest(items: np.ndarray, origin: np.ndarray | None = None) -> float:
    """Return the largest norm of the rows, or their largest distance from those of `origin`; NaN apart."""
    step, most = max(1, CELLS // max(items.shape[1], 1)), 0.0
    for start in range(0, len(items), step):
        part = items[start : start + step].astype(np.float64)
        if origin is not None:
            part -= origin[start : start + step]
        most = max(most, float(np.nan_to_num(np.linalg.norm(part, axis=1)).max(initial=0.0)))
    return most
