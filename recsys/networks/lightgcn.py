"""The network of LightGCN: item vectors spread over the graph of who did what, and nothing else."""

import warnings
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recsys.networks import losses
from recsys.sampling import Positives, Sampler


class _Mean(torch.autograd.Function):
    """(X + A X + … + A^K X) / (K + 1) for a symmetric sparse A: the gradient of X is the same of its own.

    Autograd would transpose A each step and keep every layer; knowing A = A' saves both.
    """

    @staticmethod
    def forward(ctx: Any, graph: Tensor, x: Tensor, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return _horner(graph, x, x, layers) / (layers + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, _Mean.forward(ctx, ctx.graph, grad, ctx.layers), None


class _MeanOf(torch.autograd.Function):
    """Rows of that mean: the last product is of these rows alone, and so is the first one of its gradient."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, rows: np.ndarray, x: Tensor, layers: int) -> Tensor:
        ctx.graph, ctx.rows, ctx.layers = graph, torch.from_numpy(rows), layers
        ctx.part = _rows_of(graph, rows)
        found = _horner(graph, x, x, layers - 1)
        return (_sparse(ctx.part) @ found).add_(x[ctx.rows]) / (layers + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, None]:
        own = torch.zeros(ctx.graph.shape[0], grad.shape[1]).index_copy_(0, ctx.rows, grad)
        found = (_sparse(ctx.part.T.tocsr()) @ grad).add_(own)
        return None, None, _horner(ctx.graph, found, own, ctx.layers - 1) / (ctx.layers + 1), None


def _horner(graph: Tensor, found: Tensor, x: Tensor, times: int) -> Tensor:
    """Return X + A (X + A (X + … A F)), `times` products."""
    for _ in range(times):
        found = (graph @ found).add_(x)
    return found


def _rows_of(graph: Tensor, rows: np.ndarray) -> csr_matrix:
    parts = graph.values(), graph.col_indices(), graph.crow_indices()
    return csr_matrix(tuple(part.numpy() for part in parts), graph.shape)[rows]


def _sparse(matrix: csr_matrix) -> Tensor:
    """Return a matrix as a sparse CSR tensor over its own arrays."""
    crow, column, value = map(torch.from_numpy, (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, column, value, matrix.shape, check_invariants=False)


def symmetric(matrix: csr_matrix) -> Tensor:
    """Return D^-1/2 A D^-1/2 of the graph of users and then items, a sparse CSR tensor of int32 rows."""
    users, items = matrix.shape
    degree = [np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0)]
    scale = [1 / np.sqrt(np.where(d > 0, d, np.inf)) for d in degree]
    owner = np.repeat(np.arange(users), np.diff(matrix.indptr))
    values = (matrix.data * scale[0][owner] * scale[1][matrix.indices]).astype(np.float32)
    upper = csr_matrix((values, matrix.indices, matrix.indptr), (users, items))
    lower = upper.T.tocsr()
    indptr = np.concatenate([upper.indptr, upper.indptr[-1] + lower.indptr[1:]]).astype(np.int32)
    indices = np.concatenate([upper.indices + users, lower.indices]).astype(np.int32)
    data = np.concatenate([upper.data, lower.data])
    return _sparse(csr_matrix((data, indices, indptr), (users + items, users + items)))


class LightGCNNetwork(nn.Module):
    """Layer k + 1 = A layer k; a node is the mean of its layers 0 to K. Users begin with 0, or as trained."""

    def __init__(
        self,
        matrix: csr_matrix,
        factors: int,
        layers: int,
        train_users: bool,
        loss: Literal["bpr", "sampled_softmax"],
        negatives: int,
        l2: float,
        sampler: Sampler,
    ) -> None:
        super().__init__()
        users, items = matrix.shape
        self.items = nn.Parameter(torch.randn(items, factors) * 0.1)
        self.users = nn.Parameter(torch.randn(users, factors) * 0.1) if train_users else None
        self.shape = (users, items)
        self.degree = np.asarray(matrix.sum(axis=0)).ravel()  # of the items
        self.layers = layers
        self.kind = loss
        self.negatives = negatives
        self.l2 = l2
        self.sampler = sampler
        self.positives = Positives(matrix)
        self._graph = symmetric(matrix)

    def begin(self, items: np.ndarray) -> None:
        """Go on from item vectors learned before, users from 0."""
        self.items.data = torch.from_numpy(items)
        if self.users is not None:
            self.users.data.zero_()

    def graph(self) -> Tensor:
        """Return the normalised graph on the device of the vectors."""
        if self._graph.device != self.items.device:
            self._graph = self._graph.to(self.items.device)
        return self._graph

    def first(self) -> Tensor:
        """Return layer 0, (users + items, d)."""
        none = self.items.new_zeros(self.shape[0], self.items.shape[1])
        return torch.cat([none if self.users is None else self.users, self.items])

    def forward(self) -> Tensor:
        """Return the mean of the layers 0 to K, (users + items, d)."""
        with torch.autocast(self.items.device.type, enabled=False):  # there is no sparse product in bfloat16
            mean: Tensor = _Mean.apply(self.graph(), self.first(), self.layers)  # type: ignore[no-untyped-call]
        return mean

    def spread(self) -> list[Tensor]:
        """Return the layers 0 to K without their gradients, each (users + items, d)."""
        found = [self.first().detach()]
        for _ in range(self.layers):
            found.append(self.graph() @ found[-1])
        return found

    def loss(self, users: np.ndarray, items: np.ndarray, random: np.random.Generator) -> Tensor:
        """Return the loss of some pairs (m,): BPR or sampled softmax, and l2 on first vectors."""
        device, count = self.items.device, self.shape[0]
        if self.kind == "bpr":
            drawn = self.positives.negatives(users, self.negatives, self.sampler, random)
        else:
            drawn = self.sampler.draw(self.negatives, random)
        mean, rows, (asking, right, wrong) = self.of(users, count + items, count + drawn)
        asked, weights = mean[asking], torch.ones(len(users), device=device)
        if self.kind == "bpr":
            scores = (asked[:, None] * mean[wrong]).sum(2)
            lost = losses.bpr((asked * mean[right]).sum(1), scores, weights)
        else:
            log_q = torch.from_numpy(self.sampler.log_q[np.maximum(rows - count, 0)]).to(device)  # of items
            lost = losses.sampled_softmax(asked, mean, right, weights, wrong, log_q)
        own = (
            self.items[torch.from_numpy(touched).to(device)] for touched in (items.astype(np.int64), drawn)
        )
        squares = sum((vectors.square().sum() for vectors in own), start=torch.zeros((), device=device))
        if self.users is not None:
            squares = squares + self.users[torch.from_numpy(users).to(device)].square().sum()
        return lost + 0.5 * self.l2 * squares / len(users)

    def of(self, *nodes: np.ndarray) -> tuple[Tensor, np.ndarray, list[Tensor]]:
        """Return the mean of the layers at some nodes, which nodes these are, and where each asked for is."""
        rows, places = np.unique(np.concatenate([part.ravel() for part in nodes]), return_inverse=True)
        cuts = np.cumsum([part.size for part in nodes])[:-1]
        at = [
            torch.from_numpy(place.reshape(part.shape)).to(self.items.device)
            for place, part in zip(np.split(places, cuts), nodes, strict=True)
        ]
        if self.items.device.type != "cpu":
            return self()[torch.from_numpy(rows).to(self.items.device)], rows, at
        with torch.autocast("cpu", enabled=False):
            mean: Tensor = _MeanOf.apply(self.graph(), rows, self.first(), self.layers)  # type: ignore[no-untyped-call]
        return mean, rows, at
