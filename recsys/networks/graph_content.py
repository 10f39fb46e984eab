"""LightGCN on a graph that also joins items to their labels: what nobody touched has a place in it."""

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor, nn

from recsys.networks.lightgcn import LightGCNNetwork


class GraphContentNetwork(LightGCNNetwork):
    """A label is a node beside the users, with a first vector of its own; users begin with 0.

    An item begins with its own vector, if somebody touched it, plus a linear map of its text's vector.
    While training, a share of the own vectors is hidden each step (Volkovs et al., NeurIPS 2017), so that
    labels and texts learn to stand in for them.
    """

    touched: Tensor

    def __init__(
        self,
        matrix: csr_matrix,
        labels: csr_matrix,
        texts: np.ndarray | None,
        factors: int,
        hidden: float,
        **settings: object,
    ) -> None:
        edges = vstack([matrix, labels.T]).tocsr()
        super().__init__(edges, factors, train_users=False, **settings)  # type: ignore[arg-type]
        self.people = matrix.shape[0]
        self.hidden = hidden
        self.labels = nn.Parameter(torch.randn(labels.shape[1], factors) * 0.1)
        touched = torch.from_numpy(matrix.getnnz(axis=0) > 0)[:, None]
        self.register_buffer("touched", touched.float(), persistent=False)
        self.register_buffer(
            "texts", None if texts is None else torch.from_numpy(texts).float(), persistent=False
        )
        self.map = None if texts is None else nn.Linear(texts.shape[1], factors, bias=False)

    def begin(
        self, items: np.ndarray, labels: np.ndarray | None = None, map: np.ndarray | None = None
    ) -> None:
        """Go on from vectors of items and labels and the map of texts learned before; None: as it is."""
        super().begin(items)
        if labels is not None:
            self.labels.data = torch.from_numpy(labels)
        if self.map is not None and map is not None and map.shape == self.map.weight.shape:
            self.map.weight.data = torch.from_numpy(map.copy())

    def first(self) -> tuple[Tensor, Tensor]:
        """Return layer 0 of users and then labels, and of items."""
        own = self.items * self.touched
        if self.training:
            own = own * (torch.rand_like(own[:, :1]) >= self.hidden)
        if self.map is not None:
            own = own + self.map(self.texts)
        return torch.cat([own.new_zeros(self.people, own.shape[1]), self.labels]), own
