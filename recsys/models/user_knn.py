"""User-kNN: what like-minded users did (Resnick et al., CSCW 1994; its cosines as in Aiolli, RecSys 2013)."""

import itertools
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, diags

from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig, linear_scores
from recsys.space import Tuned


class UserKNNConfig(RecommenderConfig):
    neighbours: Annotated[PositiveInt, Tuned(10, 2000, log=True)] = Field(
        200, description="similar users asked for each query"
    )
    shrinkage: Annotated[NonNegativeFloat, Tuned(0, 50)] = Field(
        0.0, description="added to the norms' product, against chance"
    )
    item_power: Annotated[NonNegativeFloat, Tuned(0, 1)] = Field(
        0.0, description="an item's cells are divided by its number of users to this power in similarities"
    )
    asymmetry: Annotated[float, Tuned(0, 1)] = Field(
        0.5, ge=0, le=1, description="share of the norm on the side of the query: 0.5 is the cosine"
    )
    sharpness: Annotated[PositiveFloat, Tuned(0.5, 5, log=True)] = Field(
        1.0, description="power of a similarity: larger trusts the nearest more"
    )


class UserKNN(Recommender):
    """score(q, i) = sum over v in N(q) of s_qv^p x_vi, s_qv = y_q'y_v / (|y_q|^2a |y_v|^2(1-a) + shrinkage).

    y_i = x_i / d_i^power. N(q) are the `neighbours` users with the largest s_qv (ties to the lower row)
    among all that were trained on: a query of such a user meets its own past there as one of them.

    It is its users: their rows are kept without ids, and erasure needs a rebuild. Memory: the
    interactions twice, 16 bytes each; a query meets the users of its items. Cannot rank what no
    neighbour did (NaN).
    """

    config_class = UserKNNConfig
    cost = "sparse"
    config: UserKNNConfig
    state = ("histories", "scale", "norms")
    holds_users = True
    histories: csr_matrix  # (users, items) float32: x
    scale: np.ndarray  # (items,) float32: d^-power, 0 for items nobody touched
    norms: np.ndarray  # (users,) float64: |y_v|^2

    def _fit(self, train: Dataset) -> None:
        self.histories = train.matrix(self.config.repeats)
        degrees = self.histories.getnnz(axis=0)
        self.scale = np.where(degrees > 0, np.maximum(degrees, 1.0) ** -self.config.item_power, 0)
        self.scale = self.scale.astype(np.float32)
        y = (self.histories @ diags(self.scale)).tocsr()
        self.norms = np.asarray(y.multiply(y).sum(axis=1), np.float64).ravel()
        self.__dict__.pop("_by_item", None)

    @cached_property
    def _by_item(self) -> csr_matrix:
        """y with items as rows, (items, users)."""
        return (self.histories @ diags(self.scale)).T.tocsr()

    def _neighbours(self, x: csr_matrix) -> csr_matrix:
        """Return s^p of each query's nearest users, (n, users)."""
        y = (x @ diags(self.scale)).tocsr()
        products = (y @ self._by_item).tocsr()
        own = np.asarray(y.multiply(y).sum(axis=1), np.float64).ravel()
        query = np.repeat(np.arange(x.shape[0]), np.diff(products.indptr))
        share = self.config.asymmetry
        norms = own[query] ** share * self.norms[products.indices] ** (1 - share)
        near = products.data / (norms + self.config.shrinkage)
        kept = np.concatenate(
            [
                start + _largest(near[start:stop], products.indices[start:stop], self.config.neighbours)
                for start, stop in itertools.pairwise(products.indptr)
            ]
        )
        weights = (near[kept] ** self.config.sharpness).astype(np.float32)
        return csr_matrix((weights, (query[kept], products.indices[kept])), products.shape)

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        near = self._neighbours(queries.matrix(self.config.repeats))
        return linear_scores(near, self.histories, items)


def _largest(values: np.ndarray, columns: np.ndarray, keep: int) -> np.ndarray:
    """Return the places of the `keep` largest values above 0, of equals those of the lower columns."""
    usable = np.flatnonzero(values > 0)
    if len(usable) <= keep:
        return usable
    limit = np.partition(values[usable], len(usable) - keep)[len(usable) - keep]
    above, equal = np.flatnonzero(values > limit), np.flatnonzero(values == limit)
    first = equal[np.argsort(columns[equal], kind="stable")][: keep - len(above)]
    return np.concatenate([above, first])
