"""SLIM: a sparse linear item-item model (Ning & Karypis, ICDM 2011)."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix

from recsys.dataset import Dataset
from recsys.recommender import Recommender, RecommenderConfig
from recsys.regression import assembled, blocks
from recsys.space import Tuned

TOLERANCE = 1e-4  # largest move of a weight at which a descent has arrived


class SLIMConfig(RecommenderConfig):
    l1: Annotated[NonNegativeFloat, Tuned(0.01, 30, log=True)] = Field(
        1.0, description="penalty on the sum of weights: larger keeps fewer"
    )
    l2: Annotated[PositiveFloat, Tuned(0.1, 300, log=True)] = Field(
        10.0, description="penalty on half the sum of squared weights"
    )
    neighbours: Annotated[PositiveInt, Tuned(20, 500, log=True)] = Field(
        100, description="items each item may be explained by"
    )
    rounds: PositiveInt = Field(50, description="visits to every weight, where it has not settled before")


class SLIM(Recommender):
    """score = X W, w_i = argmin |x_i - X w|² / 2 + l2 |w|² / 2 + l1 |w|_1, w >= 0, w_ii = 0 (eq. 4).

    Coordinate descent on X'X (Friedman, Hastie & Tibshirani 2010). Of each item only the `neighbours`
    it meets most may get a weight (the paper's fsSLIM); one it meets l1 times or less gets none anyway.

    Memory: 24 bytes for each pair of items that meet while fitting, items × neighbours × 8 bytes kept.
    Cannot rank an item whose weights are all 0 (NaN), and says nothing to a user without history.
    """

    config_class = SLIMConfig
    cost = "sparse"
    config: SLIMConfig
    state = ("weights",)
    linear = "weights"
    weights: csr_matrix  # (items, items) float32, row j holds w_ji

    def _fit(self, train: Dataset) -> None:
        from recsys.kernels import descend

        config, x = self.config, train.matrix(self.config.repeats)
        parts = [
            (b.chosen, descend(b.grams, b.targets, config.l1, config.l2, config.rounds, TOLERANCE))
            for b in blocks(x, config.neighbours)
        ]
        self.weights = assembled(parts, x.shape[1])
