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
        found = x
        for _ in range(layers):
            found = (graph @ found).add_(x)  # Horner's rule: X + A (X + A (X + …))
        return found / (layers + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, _Mean.forward(ctx, ctx.graph, grad, ctx.layers), None


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
    nodes = users + items
    crow, column, value = torch.from_numpy(indptr), torch.from_numpy(indices), torch.from_numpy(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, column, value, (nodes, nodes), check_invariants=False)


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
        device, mean, count = self.items.device, self(), self.shape[0]
        asked = mean[torch.from_numpy(users).to(device)]
        right = torch.from_numpy(items.astype(np.int64)).to(device)
        weights = torch.ones(len(users), device=device)
        if self.kind == "bpr":
            drawn = self.positives.negatives(users, self.negatives, self.sampler, random)
            wrong = torch.from_numpy(drawn).to(device)
            scores = (asked[:, None] * mean[count + wrong]).sum(2)
            lost = losses.bpr((asked * mean[count + right]).sum(1), scores, weights)
        else:
            wrong = torch.from_numpy(self.sampler.draw(self.negatives, random)).to(device)
            log_q = torch.from_numpy(self.sampler.log_q).to(device)
            lost = losses.sampled_softmax(asked, mean[count:], right, weights, wrong, log_q)
        touched = self.items[right].square().sum() + self.items[wrong].square().sum()
        if self.users is not None:
            touched = touched + self.users[torch.from_numpy(users).to(device)].square().sum()
        return lost + 0.5 * self.l2 * touched / len(users)
