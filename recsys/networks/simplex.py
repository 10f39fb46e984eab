"""The network of SimpleX: a user is the mean of their items, held against items by the cosine."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional

from recsys.networks import losses
from recsys.networks.layers import taken
from recsys.sampling import Sampler


class SimpleXNetwork(nn.Module):
    """Item vectors and the map that turns a mean of them into a user."""

    def __init__(
        self,
        items: int,
        factors: int,
        negatives: int,
        margin: float,
        weight: float,
        dropout: float,
        sampler: Sampler,
    ) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.randn(items, factors) * 0.1)
        self.map = nn.Parameter(torch.eye(factors))
        self.dropout = nn.Dropout(dropout)
        self.negatives = negatives
        self.margin = margin
        self.weight = weight
        self.sampler = sampler

    def begin(self, items: np.ndarray, map: np.ndarray) -> None:
        """Go on from what was learned before."""
        self.items.data, self.map.data = torch.from_numpy(items), torch.from_numpy(map.copy())

    def pooled(self, rows: csr_matrix) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of each row's items (b, d) and the sum of its weights (b,)."""
        device = self.items.device
        indices = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
        offsets = torch.from_numpy(rows.indptr[:-1].astype(np.int64)).to(device)
        values = torch.from_numpy(rows.data.astype(np.float32)).to(device)
        found = functional.embedding_bag(indices, self.items, offsets, mode="sum", per_sample_weights=values)
        return found, torch.from_numpy(np.asarray(rows.sum(axis=1), np.float32).ravel()).to(device)

    def users(self, total: Tensor, weights: Tensor) -> Tensor:
        """Return unit vectors of users, (b, d)."""
        mean = total / weights.clamp(min=1e-12)[:, None]
        return functional.normalize(self.dropout(mean @ self.map), dim=1)

    def loss(self, rows: csr_matrix, random: np.random.Generator, pairs: np.ndarray) -> Tensor:
        """Return the loss of the pairs (m, 2) of user and item; `rows` is the users' matrix.

        A user's mean leaves the target out: with it, to find the target would be to find oneself.
        """
        device = self.items.device
        asked, place = np.unique(pairs[:, 0], return_inverse=True)
        histories = rows[asked]
        total, weights = self.pooled(histories)
        at = torch.from_numpy(place).to(device)
        right = torch.from_numpy(pairs[:, 1].astype(np.int64)).to(device)
        own = torch.from_numpy(np.asarray(rows[pairs[:, 0], pairs[:, 1]], np.float32).ravel()).to(device)
        vectors = taken(self.items, right)
        users = self.users(taken(total, at) - own[:, None] * vectors, weights[at] - own)
        drawn = self.sampler.draw(self.negatives, random)
        unit = functional.normalize(taken(self.items, torch.from_numpy(drawn).to(device)), dim=1)
        done = torch.from_numpy(had(histories, drawn)[place]).to(device)
        wrong = (users @ unit.T).masked_fill(done, -1.0)
        near = (users * functional.normalize(vectors, dim=1)).sum(1)
        return losses.cosine_contrastive(near, wrong, self.margin, self.weight)


def had(histories: csr_matrix, items: np.ndarray) -> np.ndarray:
    """Return which `items` (k,) each history has, (n, k): what few people did is marked, not looked up."""
    distinct, column = np.unique(items, return_inverse=True)
    place = np.full(histories.shape[1], -1)
    place[distinct] = np.arange(len(distinct))
    found = place[histories.indices]
    owner = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    marks = np.zeros((histories.shape[0], len(distinct)), bool)
    marks[owner[found >= 0], found[found >= 0]] = True
    return marks[:, column]
