"""EASE: a linear item-item model with a closed form (Steck, WWW 2019)."""

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.linalg.lapack import dposv
from scipy.sparse import csr_matrix, diags

from profiles.threads import single_blas
from recsys.dataset import Dataset
from recsys.dense import regression
from recsys.recommender import Recommender, RecommenderConfig
from recsys.regression import assembled, blocks
from recsys.space import Tuned

DENSE_ITEMS = 20_000  # above this the inverse takes gigabytes and minutes


class EASEConfig(RecommenderConfig):
    l2: Annotated[PositiveFloat, Tuned(0.1, 100_000, log=True)] = Field(
        500.0, description="ridge penalty on every item-item weight"
    )
    user_power: Annotated[NonNegativeFloat, Tuned(0, 1)] = Field(
        0.0, description="a user's cells are divided by their number of items to this power"
    )
    neighbours: PositiveInt = Field(
        200, description="items each item is explained by, in catalogues of more than 20,000 items"
    )


class EASE(Recommender):
    """score = X B with B = I - P diag(P)^-1 and P = (X'X + l2 I)^-1, so diag(B) = 0 (eq. 8).

    Column i of B is the ridge regression of item i on all others. Above DENSE_ITEMS it is the same
    regression on the `neighbours` items that i meets most, exact on those, and the rest is 0. With a
    `user_power` p, X is learned from as x_u / n_u^p: long histories do not outvote the others.

    Dense: items² × 12 bytes while fitting, items² × 4 bytes kept. Sparse: 24 bytes for each pair of
    items that meet while fitting, items × neighbours × 8 bytes kept. Cannot rank items without
    interactions, and says nothing to a user without history.
    """

    config_class = EASEConfig
    cost = "dense"
    config: EASEConfig
    state = ("weights",)
    linear = "weights"
    weights: np.ndarray | csr_matrix  # (items, items) float32, zero diagonal

    def _fit(self, train: Dataset) -> None:
        x = train.matrix(self.config.repeats)
        if self.config.user_power:
            x = (diags(np.diff(x.indptr) ** -self.config.user_power) @ x).tocsr()
        self.weights = self._dense(x) if x.shape[1] <= DENSE_ITEMS else self._sparse(x)

    def _dense(self, x: csr_matrix) -> np.ndarray:
        weights = regression(x, self.config.l2)
        # An item nobody touched has no weights: NaN says so, 0 would rank it above negative scores.
        weights[:, np.asarray(x.getnnz(axis=0)) == 0] = np.nan
        return weights

    def _sparse(self, x: csr_matrix) -> csr_matrix:
        parts = []
        with single_blas():  # the systems are small: a second thread costs more than it brings
            for block in blocks(x, self.config.neighbours):
                np.einsum("nmm->nm", block.grams)[:] += self.config.l2  # a view of the diagonals
                solved = np.zeros_like(block.targets)
                for row, size in enumerate((block.chosen >= 0).sum(axis=1)):
                    if size:
                        _, solved[row, :size], _ = dposv(
                            block.grams[row, :size, :size].T, block.targets[row, :size]
                        )
                parts.append((block.chosen, solved))
        return assembled(parts, x.shape[1])
