"""RP3beta: a random walk of three steps, popularity discounted (Paudel et al., TiiS 2016)."""

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, diags

from recsys.dataset import Dataset
from recsys.neighbours import strongest
from recsys.recommender import Recommender, RecommenderConfig
from recsys.space import Tuned


class RP3BetaConfig(RecommenderConfig):
    alpha: Annotated[PositiveFloat, Tuned(0.3, 2)] = Field(
        1.0, description="power of every step's probability"
    )
    beta: Annotated[NonNegativeFloat, Tuned(0, 1)] = Field(
        0.5, description="power of an item's popularity its score is divided by"
    )
    neighbours: Annotated[PositiveInt, Tuned(10, 1000, log=True)] = Field(
        100, description="items kept for each item"
    )


class RP3Beta(Recommender):
    """score(u, i) = sum over j in u's history of x_uj w_ji, w_ji = sum over v of p_jv^a p_vi^a / d_i^b.

    p_jv = x_vj / d_j and p_vi = x_vi / d_v are a walk's steps from item to user and back, d the sums of
    a row or column; the first step, from u, is the same for all items. For each item j the `neighbours`
    largest w_ji are kept (ties to the lower row), never j itself.

    Fit memory: items × neighbours × 20 bytes. Cannot rank an item no walk reaches (NaN).
    """

    config_class = RP3BetaConfig
    cost = "sparse"
    config: RP3BetaConfig
    state = ("weights",)
    linear = "weights"
    weights: csr_matrix  # (items, items) float32: row j holds w_ji

    def _fit(self, train: Dataset) -> None:
        x = train.matrix(self.config.repeats).astype(np.float64)
        users, items = np.asarray(x.sum(axis=1)).ravel(), np.asarray(x.sum(axis=0)).ravel()
        back = diags(1 / users) @ x
        there = (x @ diags(1 / np.maximum(items, np.finfo(float).tiny))).T.tocsr()
        back.data **= self.config.alpha
        there.data **= self.config.alpha
        self.weights = strongest(
            there, back, self.config.neighbours, right=np.where(items > 0, items, 1) ** self.config.beta
        )
