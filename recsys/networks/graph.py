"""A graph of users and items, and the mean of the layers it spreads vectors over: layer k + 1 = A layer k."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional

USERS, ITEMS, BOTH = 0, 1, 2
Onto = Callable[[Tensor], Tensor]  # adds the first vectors of a side to a product, in place


class Graph:
    """A = [0 U; U' 0] with U = D^-1/2 M D^-1/2 of a matrix M of users and items."""

    def __init__(self, matrix: csr_matrix) -> None:
        degree = [np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0)]
        scale = [1 / np.sqrt(np.where(d > 0, d, np.inf)) for d in degree]
        owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        values = (matrix.data * scale[USERS][owner] * scale[ITEMS][matrix.indices]).astype(np.float32)
        up = csr_matrix((values, matrix.indices, matrix.indptr), matrix.shape)
        self.sides = up, up.T.tocsr()
        self._moved: list[Tensor] = []

    def product(self, side: int, f: Tensor) -> Tensor:
        """Return what one side gets of vectors of the other one."""
        if f.device.type == "cpu":
            return _product(self.sides[side], f)
        if not self._moved or self._moved[0].device != f.device:
            self._moved = [_sparse(cells).to(f.device) for cells in self.sides]
        return self._moved[side] @ f

    def horner(
        self, users: Tensor, items: Tensor, onto: tuple[Onto, Onto], turns: Iterable[int]
    ) -> tuple[Tensor, Tensor]:
        """Return F after F <- X + A F for each turn, of both sides or of one while the other stays."""
        for turn in turns:
            users, items = (
                users if turn == ITEMS else onto[USERS](self.product(USERS, items)),
                items if turn == USERS else onto[ITEMS](self.product(ITEMS, users)),
            )
        return users, items

    def spread(self, users: Tensor | None, items: Tensor, times: int) -> tuple[Tensor, Tensor]:
        """Return X + A X + … + A^times X; the users' X may be none, 0.

        Then every other product finds the users as they were, and the others the items: none is taken twice.
        """
        if users is not None:
            return self.horner(users, items, (_adding(users), _adding(items)), [BOTH] * times)
        none = items.new_zeros(self.sides[USERS].shape[0], items.shape[1])
        return self.horner(none, items, (_as_it_is, _adding(items)), [n % 2 for n in range(times)])

    def back(
        self, users: Tensor, items: Tensor, onto: tuple[Onto, Onto], times: int, whole: bool
    ) -> tuple[Tensor | None, Tensor]:
        """Go on from F to the gradient of X: of both sides, or unless it is `whole` of the items alone.

        Then each product is of the one side that the next one reads.
        """
        if whole:
            return self.horner(users, items, onto, [BOTH] * times)
        return None, self.horner(users, items, onto, [1 - n % 2 for n in reversed(range(times))])[ITEMS]


class Mean(torch.autograd.Function):
    """(X + A X + … + A^K X) / (K + 1): the gradient of X is the same of its own.

    Autograd would transpose A each step and keep every layer; knowing A = A' saves both.
    """

    @staticmethod
    def forward(ctx: Any, graph: Graph, users: Tensor | None, items: Tensor, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return torch.cat(graph.spread(users, items, layers)).div_(layers + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor, None]:
        """Return the gradient of both sides' X, the users' only where it is asked for."""
        graph = ctx.graph
        users, items = (grad / (ctx.layers + 1)).split(graph.sides[USERS].shape)
        onto = _adding(users), _adding(items)
        return None, *graph.back(users, items, onto, ctx.layers, ctx.needs_input_grad[1]), None


class MeanOf(torch.autograd.Function):
    """Rows of that mean, on a CPU: the last product is of these alone, and so is the gradient's first."""

    @staticmethod
    def forward(
        ctx: Any, graph: Graph, rows: np.ndarray, users: Tensor | None, items: Tensor, layers: int
    ) -> Tensor:
        people = graph.sides[USERS].shape[0]
        asked = rows[rows < people], rows[rows >= people] - people
        ctx.graph, ctx.layers, ctx.rows = graph, layers, [torch.from_numpy(part) for part in asked]
        ctx.parts = [cells[part] for cells, part in zip(graph.sides, asked, strict=True)]
        found = graph.spread(users, items, layers - 1)
        last = [_product(ctx.parts[side], found[1 - side]) for side in (USERS, ITEMS)]
        for x, part, at in zip((users, items), last, ctx.rows, strict=True):
            if x is not None:
                part += x[at]
        return torch.cat(last).div_(layers + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor | None, Tensor, None]:
        """Return the gradient of both sides' X, the users' only where it is asked for."""
        own = (grad / (ctx.layers + 1)).split([len(at) for at in ctx.rows])
        onto = tuple(_adding_rows(at, part) for at, part in zip(ctx.rows, own, strict=True))
        users, items = (
            onto[side](_product(ctx.parts[1 - side].T.tocsr(), own[1 - side])) for side in (USERS, ITEMS)
        )
        found = ctx.graph.back(users, items, onto, ctx.layers - 1, ctx.needs_input_grad[2])
        return None, None, *found, None


def _as_it_is(product: Tensor) -> Tensor:
    return product


def _adding(x: Tensor) -> Onto:
    return lambda product: product.add_(x)


def _adding_rows(rows: Tensor, x: Tensor) -> Onto:
    return lambda product: product.index_add_(0, rows, x)


def _product(cells: csr_matrix, f: Tensor) -> Tensor:
    """Return C F on a CPU, its bits the same on any number of threads.

    A sum of weighted rows is what torch's embedding bag is: in a fifth of the time of its sparse product,
    since it asks the memory for rows before it needs them.
    """
    columns, starts, values = map(torch.from_numpy, (cells.indices, cells.indptr, cells.data))
    return functional.embedding_bag(
        columns, f, starts, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def _sparse(cells: csr_matrix) -> Tensor:
    """Return a matrix as a sparse CSR tensor over its own arrays."""
    starts, columns, values = map(torch.from_numpy, (cells.indptr, cells.indices, cells.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, cells.shape, check_invariants=False)
