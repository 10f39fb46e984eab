"""LightGCN: item vectors spread over the graph of who did what (He et al., SIGIR 2020)."""

import numpy as np
from pydantic import Field

from recsys import training
from recsys.dataset import Dataset, Queries
from recsys.held_out import HoldOutConfig, Learnable
from recsys.propagation import PropagationConfig, folded, learn
from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import Sampler
from recsys.training import TrainingConfig
from recsys.warm import beginning


class LightGCNConfig(RecommenderConfig, PropagationConfig, HoldOutConfig, TrainingConfig):
    train_users: bool = Field(
        False,
        description="whether users have first vectors of their own while training, as in the paper: takes "
        "twice the time an epoch, and learns more in it",
    )


class LightGCN(Recommender):
    """score = e_u'e_i, both the mean of layers 0 to K of E_(k+1) = D^-1/2 A D^-1/2 E_k (eqs. 3 to 8).

    Users begin with 0, in training as in a query, so that layer k of a user is the normalised sum of
    layer k - 1 of their items, and who was not in the training is answered alike; `train_users` trains
    them first vectors as the paper does, and a query then gets the one that a ridge regression over the
    trained users makes of its items' layers (`recsys.propagation.lent`). The value of a pair is
    the weight of its edge. Order and times are not read; items nobody touched, and queries without
    learned items, are NaN. Memory: (users + items) × factors × 4 × 8 + pairs × 24 + batch_size × negatives
    × factors × 8 bytes.
    """

    config_class = LightGCNConfig
    cost = "gradient"
    config: LightGCNConfig
    state = ("factors", "folding", "first", "lent")
    products = "factors"
    factors: np.ndarray  # (items, d) float32: mean of the layers; NaN rows for items nobody touched
    folding: np.ndarray  # (items, d) float32: what an item adds to a user of degree 1
    first: np.ndarray  # (items, d) float32: layer 0, where an update begins; NaN rows alike
    lent: np.ndarray  # (items, d) float32, with `train_users`: what an item adds to a user's first vector

    def _fit(self, train: Dataset) -> None:
        self.fit_users(train)

    def fit_users(self, train: Dataset) -> np.ndarray:
        """Fit, and return the trained vectors of the users, (users, d) float32: papers score with them."""
        return self._train(train)

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        if self.config.train_users:
            self.lent = np.where((rows >= 0)[:, None], self.lent[rows], 0)
        self._train(train, beginning(self.first, rows, train.matrix(self.config.repeats)))

    def _train(self, train: Dataset, start: np.ndarray | None = None) -> np.ndarray:
        """Learn, from first item vectors if there are some; users then begin with what these lent them.

        Returns the users' vectors.
        """
        from recsys.networks.lightgcn import LightGCNNetwork

        c = self.config if start is None else training.of_update(self.config)
        told = Learnable.of(train.matrix(c.repeats), c)
        with training.reproducible(c.seed):
            network = LightGCNNetwork(
                told.data, c.factors, c.layers, c.train_users, c.loss, c.negatives, c.l2,
                Sampler.uniform(len(told.known)), c.hardest,
            )  # fmt: skip
        if start is not None:
            users = folded(told.data, self.lent[told.known]) if c.train_users else None
            network.begin(start[told.known], users)
        key = training.fingerprint(told.data.indptr, told.data.indices, told.data.data)
        self.factors, self.folding, lent = learn(network, told, key, c)
        self.lent = np.zeros((0, c.factors), np.float32) if lent is None else lent
        self.first = told.everywhere(network.items.detach().numpy())
        own: np.ndarray = network().detach()[: told.data.shape[0]].cpu().numpy()
        return own

    def _users(self, queries: Queries) -> np.ndarray:
        return folded(queries.matrix(self.config.repeats), self.folding, ~np.isnan(self.factors[:, 0]))
