"""Random: the order nothing was learned for, the floor of every table."""

import numpy as np
from pydantic import Field, NonNegativeInt

from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig


class RandomConfig(RecommenderConfig):
    seed: NonNegativeInt = Field(0, description="of the order")


class Random(Recommender):
    """score(i) is drawn evenly from [0, 1) at the fit, by the item's row and the seed.

    The same order for everybody: a user is what they did, and here that says nothing. Memory: items × 4.
    """

    config_class = RandomConfig
    cost = "counting"
    config: RandomConfig
    untuned = "whatever its seed, its order is drawn"
    state = ("scores",)
    reads_history = False
    scores: np.ndarray  # (items,) float32

    def _fit(self, train: Dataset) -> None:
        self.scores = np.random.default_rng(self.config.seed).random(len(train.items), np.float32)

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        scores = self.scores if items is None else self.scores[items]
        return np.broadcast_to(scores, (len(queries), len(scores)))
