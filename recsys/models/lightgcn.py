"""LightGCN: item vectors spread over the graph of who did what (He et al., SIGIR 2020)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy.sparse import csr_matrix

from recsys import training
from recsys.dataset import Dataset, Queries
from recsys.held_out import HoldOutConfig, learnable
from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import sampler
from recsys.training import TrainingConfig
from recsys.warm import beginning


class LightGCNConfig(RecommenderConfig, HoldOutConfig, TrainingConfig):
    factors: PositiveInt = Field(64, description="length of an item's vector")
    layers: PositiveInt = Field(3, description="K: steps along the graph")
    train_users: bool = Field(
        False, description="whether users have first vectors of their own while training, as in the paper"
    )
    loss: Literal["bpr", "sampled_softmax"] = Field(
        "bpr", description="bpr as in the paper; sampled_softmax needs fewer epochs"
    )
    negatives: PositiveInt = Field(1, description="items drawn: a pair for bpr, a batch for sampled_softmax")
    l2: NonNegativeFloat = Field(1e-4, description="ridge penalty on the first vectors of a batch")
    batch_size: PositiveInt = Field(2048, description="pairs a step")


class LightGCN(Recommender):
    """score = e_u'e_i, both the mean of layers 0 to K of E_(k+1) = D^-1/2 A D^-1/2 E_k (eqs. 3 to 8).

    Users begin with 0, in training as in a query, so that layer k of a user is the normalised sum of
    layer k - 1 of their items, and who was not in the training is answered alike; `train_users` trains
    them first vectors as the paper does, and a query then lacks that part only. The value of a pair is
    the weight of its edge. Order and times are not read; items nobody touched, and queries without
    learned items, are NaN. Memory: (users + items) × factors × 4 × 8 + pairs × 24 bytes.
    """

    config_class = LightGCNConfig
    cost = "gradient"
    config: LightGCNConfig
    state = ("factors", "folding", "first")
    products = "factors"
    factors: np.ndarray  # (items, d) float32: mean of the layers; NaN rows for items nobody touched
    folding: np.ndarray  # (items, d) float32: what an item adds to a user of degree 1
    first: np.ndarray  # (items, d) float32: layer 0, where an update begins; NaN rows alike

    def _fit(self, train: Dataset) -> None:
        self.fit_users(train)

    def fit_users(self, train: Dataset) -> np.ndarray:
        """Fit, and return the trained vectors of the users, (users, d) float32: papers score with them."""
        return self._train(train, self.config)

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        start = beginning(self.first, rows, train.matrix(self.config.repeats))
        self._train(train, self.config if start is None else training.of_update(self.config), start)

    def _train(self, train: Dataset, c: LightGCNConfig, start: np.ndarray | None = None) -> np.ndarray:
        """Learn, from first item vectors if there are some; users then begin with 0, as in a query.

        Returns the users' vectors.
        """
        from recsys.networks.lightgcn import LightGCNNetwork

        cut = c.validation_users if c.patience else None
        known, data, held = learnable(train.matrix(c.repeats), cut, c.seed)
        owner = np.repeat(np.arange(data.shape[0]), np.diff(data.indptr))
        drawn_from = sampler("uniform", np.ones(len(known)))
        with training.reproducible(c.seed):
            network = LightGCNNetwork(
                data, c.factors, c.layers, c.train_users, c.loss, c.negatives, c.l2, drawn_from
            )
        if start is not None:
            network.begin(start[known])

        def read() -> tuple[np.ndarray, np.ndarray]:
            layers = [layer[data.shape[0] :].cpu().numpy() for layer in network.spread()]
            return folding(layers, np.asarray(data.sum(axis=0)).ravel())

        def validate() -> float:
            factors, below = read()
            assert held is not None
            return held.ndcg(lambda past: (folded(past, below) @ factors.T).astype(np.float32))

        training.train(
            training.Task(
                network,
                training.shuffled(data.nnz, c.batch_size),
                lambda rows, random: network.loss(owner[rows], data.indices[rows], random),
                training.fingerprint(data.indptr, data.indices, data.data),
                None if held is None else validate,
                ("factors", "layers", "batch_size"),
            ),
            c,
        )
        self.factors = np.full((len(train.items), c.factors), np.nan, np.float32)
        self.folding = np.zeros((len(train.items), c.factors), np.float32)
        self.first = np.full((len(train.items), c.factors), np.nan, np.float32)
        self.factors[known], self.folding[known] = read()
        self.first[known] = network.items.detach().numpy()
        users: np.ndarray = network().detach()[: data.shape[0]].cpu().numpy()
        return users

    def _users(self, queries: Queries) -> np.ndarray:
        return folded(queries.matrix(self.config.repeats), self.folding, ~np.isnan(self.factors[:, 0]))


def folding(layers: Sequence[np.ndarray], degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the items' layers 0 to K, and what an item adds to a user of degree 1."""
    scale = 1 / np.sqrt(np.where(degree > 0, degree, np.inf))
    below = sum(layers[:-1]) * scale[:, None] / len(layers)
    return np.mean(layers, axis=0), below.astype(np.float32)


def folded(x: csr_matrix, folding: np.ndarray, learned: np.ndarray | None = None) -> np.ndarray:
    """Return sum_j x_j folding_j / sqrt(sum_j x_j) over `learned` items, (n, d) float64; NaN of none."""
    if learned is not None:
        x = csr_matrix((x.data * learned[x.indices], x.indices, x.indptr), x.shape)
    touched = np.unique(x.indices)
    degree = np.asarray(x.sum(axis=1), np.float64).ravel()
    total: np.ndarray = x[:, touched].astype(np.float64) @ folding[touched].astype(np.float64)
    return total / np.sqrt(np.where(degree > 0, degree, np.nan))[:, None]
