"""SimpleX: cosines of mean histories and items under a contrastive loss (Mao et al., CIKM 2021)."""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix

from recsys import training
from recsys.dataset import Dataset, Queries
from recsys.held_out import HoldOutConfig, Learnable
from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import Negatives, sampler
from recsys.space import Tuned
from recsys.training import TrainingConfig
from recsys.vectors import summed, unit
from recsys.warm import beginning


class SimpleXConfig(RecommenderConfig, HoldOutConfig, TrainingConfig):
    factors: Annotated[PositiveInt, Tuned(among=(32, 64, 128))] = Field(
        64, description="length of an item's vector"
    )
    negatives: PositiveInt = Field(512, description="items drawn a batch, shared by its pairs")
    negatives_from: Negatives = Field("uniform", description="uniform, or popularity")
    margin: Annotated[float, Tuned(0, 0.9)] = Field(
        0.4, ge=-1, lt=1, description="cosine above which a negative is pushed away"
    )
    weight: Annotated[PositiveFloat, Tuned(5, 1000, log=True)] = Field(
        150.0, description="of all negatives of a pair together"
    )
    dropout: Annotated[float, Tuned(0, 0.5)] = Field(
        0.1, ge=0, lt=1, description="share of a user's values set to 0 while training"
    )
    weight_decay: float = Field(1e-6, ge=0, description="pull of every weight towards 0 a step")
    batch_size: PositiveInt = Field(1024, description="pairs a step")


class SimpleX(Recommender):
    """score = cos(V' mean_j x_j e_j, e_i) over the items j of a history (eqs. 8 and 9 with g = 0).

    The paper adds a trained vector of the user with a share g; here g = 0, so that people who were not
    in the training are answered too. While training, a target is left out of its user's mean. The loss
    (1 - y+) + weight × mean of max(0, y- - margin) draws one set of negatives a batch, and never holds a
    user's own items against them. Order and times are not read; items nobody touched, and queries without
    learned items, are NaN. Training memory: items × factors × 20 + batch_size × (negatives + the pairs of
    their users) × 16 bytes.
    """

    config_class = SimpleXConfig
    cost = "gradient"
    config: SimpleXConfig
    state = ("factors", "pooling", "norms", "map")
    products = "factors"
    factors: np.ndarray  # (items, d) float32, unit norm; NaN rows for items nobody touched
    pooling: np.ndarray  # (items, d) float32: e_j'V, what an item adds to a user
    norms: np.ndarray  # (items,) float32 of e before it is scaled, where an update begins
    map: np.ndarray  # (d, d) float32: V

    def _fit(self, train: Dataset) -> None:
        self._train(train)

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        items = self.factors * self.norms[:, None]
        self._train(train, beginning(items, rows, train.matrix(self.config.repeats)))

    def _train(self, train: Dataset, start: np.ndarray | None = None) -> None:
        """Learn, from first item vectors, and the map there is, if there are some."""
        from recsys.networks.simplex import SimpleXNetwork

        c = self.config if start is None else training.of_update(self.config)
        told = Learnable.of(train.matrix(c.repeats), c)
        data = told.data
        counts = np.diff(data.indptr)
        pairs = np.column_stack([np.repeat(np.arange(data.shape[0]), counts), data.indices])
        pairs = pairs[np.repeat(counts > 1, counts)]  # alone, an item has no mean of others
        drawn_from = sampler(c.negatives_from, data.getnnz(axis=0))
        with training.reproducible(c.seed):
            network = SimpleXNetwork(
                data.shape[1], c.factors, c.negatives, c.margin, c.weight, c.dropout, drawn_from
            )
        if start is not None:
            network.begin(start[told.known], self.map)

        def read() -> tuple[np.ndarray, np.ndarray]:
            items = network.items.detach().cpu().numpy()
            return unit(items), items @ network.map.detach().cpu().numpy()

        training.train(
            training.Task(
                network,
                training.shuffled(len(pairs), c.batch_size),
                lambda rows, random: network.loss(data, random, pairs[rows]),
                training.fingerprint(data.indptr, data.indices, data.data),
                told.validation(read, _users),
                ("batch_size", "negatives", "factors"),
            ),
            c,
        )
        factors, pooling = read()
        self.map = network.map.detach().numpy()
        self.norms = told.everywhere(np.linalg.norm(network.items.detach().numpy(), axis=1), 0.0)
        self.factors, self.pooling = told.everywhere(factors), told.everywhere(pooling, 0.0)

    def _users(self, queries: Queries) -> np.ndarray:
        return _users(queries.matrix(self.config.repeats), self.pooling)


def _users(x: csr_matrix, pooling: np.ndarray) -> np.ndarray:
    """Return the direction of sum_j x_j pooling_j, (n, d) float64; NaN where there is none."""
    return unit(summed(x, pooling))
