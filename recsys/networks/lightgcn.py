"""The network of LightGCN: item vectors spread over the graph of who did what, and nothing else."""

from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recsys.networks import losses
from recsys.networks.graph import ITEMS, USERS, Graph, Mean, MeanOf
from recsys.networks.layers import taken
from recsys.sampling import Positives, Sampler

CELLS = 1 << 20  # numbers of negatives looked up at a time: few enough to stay near the processor


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
        hardest: bool = False,
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
        self.hardest = hardest
        self.positives = Positives(matrix)
        self.graph = Graph(matrix)

    def begin(self, items: np.ndarray, users: np.ndarray | None = None) -> None:
        """Go on from item vectors learned before, and from what they make of `users`; NaN of no items."""
        self.items.data = torch.from_numpy(items)
        if users is not None:
            self.users = nn.Parameter(torch.from_numpy(users).float().nan_to_num())

    def first(self) -> tuple[Tensor | None, Tensor]:
        """Return layer 0 of the users, none where it is 0 and stays so, and of the items."""
        return self.users, self.items

    def forward(self) -> Tensor:
        """Return the mean of the layers 0 to K, (users + items, d)."""
        with torch.autocast(self.items.device.type, enabled=False):  # there is no sparse product in bfloat16
            mean: Tensor = Mean.apply(self.graph, *self.first(), self.layers)  # type: ignore[no-untyped-call]
        return mean

    @torch.no_grad()
    def spread(self) -> list[Tensor]:
        """Return the layers 0 to K without their gradients, each (users + items, d)."""
        users, items = self.first()
        if users is None:
            users = items.new_zeros(self.shape[0], items.shape[1])
        found = [torch.cat([users, items])]
        for _ in range(self.layers):
            users, items = self.graph.product(USERS, items), self.graph.product(ITEMS, users)
            found.append(torch.cat([users, items]))
        return found

    def loss(self, users: np.ndarray, items: np.ndarray, random: np.random.Generator) -> Tensor:
        """Return the loss of some pairs (m,): BPR or sampled softmax, and l2 on first vectors.

        The hardest of the negatives drawn is that of Zhang et al., SIGIR 2013: what is easy teaches little.
        """
        device, count = self.items.device, self.shape[0]
        if self.kind == "bpr":
            drawn = self.positives.negatives(users, self.negatives, self.sampler, random)
        else:
            drawn = self.sampler.draw(self.negatives, random)
        mean, rows, (asking, right, wrong) = self.of(users, count + items, count + drawn)
        asked, weights = taken(mean, asking), torch.ones(len(users), device=device)
        if self.kind == "bpr":
            if self.hardest:
                best = hardest(mean.detach(), asked.detach(), wrong)
                wrong, drawn = wrong.gather(1, best), np.take_along_axis(drawn, best.cpu().numpy(), 1)
            scores = (asked[:, None] * taken(mean, wrong)).sum(2)
            lost = losses.bpr((asked * taken(mean, right)).sum(1), scores, weights)
        else:
            log_q = torch.from_numpy(self.sampler.log_q[np.maximum(rows - count, 0)]).to(device)  # of items
            lost = losses.sampled_softmax(asked, mean, right, weights, wrong, log_q)
        touched = np.concatenate([items, drawn.ravel()], dtype=np.int64)
        squares = taken(self.items, torch.from_numpy(touched).to(device)).square().sum()
        if self.users is not None:
            squares = squares + taken(self.users, torch.from_numpy(users).to(device)).square().sum()
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
            mean: Tensor = MeanOf.apply(self.graph, rows, *self.first(), self.layers)  # type: ignore[no-untyped-call]
        return mean, rows, at


def hardest(vectors: Tensor, asked: Tensor, wrong: Tensor) -> Tensor:
    """Return which of the `vectors` named by a row of `wrong` (m, k) is most like `asked` (m, d), (m, 1)."""
    rows = max(1, CELLS // (wrong.shape[1] * asked.shape[1]))
    parts = [slice(start, start + rows) for start in range(0, len(asked), rows)]
    return torch.cat([(taken(vectors, wrong[p]) @ asked[p, :, None]).argmax(1) for p in parts])
