"""Item-kNN: what goes with what (Sarwar et al., WWW 2001), with the weightings that grew around it."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, diags

from recsys.dataset import Dataset, Queries
from recsys.decay import FadingConfig, decayed, refuse_timeless
from recsys.neighbours import strongest
from recsys.recommender import Recommender, RecommenderConfig
from recsys.space import Tuned


class ItemKNNConfig(RecommenderConfig, FadingConfig):
    neighbours: Annotated[PositiveInt, Tuned(10, 1000, log=True)] = Field(
        100, description="similar items kept for each item"
    )
    shrinkage: Annotated[NonNegativeFloat, Tuned(0.1, 1000, log=True)] = Field(
        10.0, description="added to the norms' product, against chance"
    )
    weighting: Annotated[Literal["none", "tf_idf", "bm25"], Tuned()] = Field(
        "none", description="of the cells before similarities: users of many items count less"
    )
    bm25_k1: PositiveFloat = Field(1.2, description="bm25: how soon a larger value stops to count more")
    bm25_b: float = Field(
        0.75, ge=0, le=1, description="bm25: how much an item's popularity counts against it"
    )
    user_power: Annotated[NonNegativeFloat, Tuned(0, 1)] = Field(
        0.0, description="a user's cells are divided by their number of items to this power"
    )
    asymmetry: Annotated[float, Tuned(0, 1)] = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the norm on the side of the item in the history: 0.5 is the cosine, "
        "more ranks popular items higher",
    )


class ItemKNN(Recommender):
    """score(u, i) = sum over j in u's history of x_uj s_ji, s_ji = y_j'y_i / (|y_j|^2a |y_i|^2(1-a) + h).

    h is the shrinkage (Bell & Koren, ICDM 2007), a the asymmetry (Aiolli, RecSys 2013), the history fades
    as in Ding & Li (CIKM 2005) with its age at the moment of asking. y is x / n_u^power, and with
    idf_u = ln(items / (1 + n_u)), for tf_idf sqrt(y) idf_u, for bm25
    y (k1 + 1) / (k1 (1 - b + b |y_i|_1 / mean) + y) idf_u: users are the terms, items the documents.
    For each item j the `neighbours` largest s_ji are kept (ties to the lower row), never j itself.

    Fit memory: items × neighbours × 20 bytes. Cannot rank an item nobody combined with another (NaN).
    """

    config_class = ItemKNNConfig
    cost = "sparse"
    config: ItemKNNConfig
    state = ("similarities",)
    linear = "similarities"
    similarities: csr_matrix  # (items, items) float32: row j holds s_ji

    def _fit(self, train: Dataset) -> None:
        refuse_timeless(train, self.config.half_life_days)
        y = self._weighted(train.matrix(self.config.repeats).astype(np.float64))
        norms = np.asarray(y.multiply(y).sum(axis=0)).ravel()
        share = self.config.asymmetry
        self.similarities = strongest(
            y.T.tocsr(), y, self.config.neighbours, norms**share, norms ** (1 - share), self.config.shrinkage
        )

    def _weighted(self, x: csr_matrix) -> csr_matrix:
        """Return y, (users, items) with cells above 0 only."""
        config, counts = self.config, np.diff(x.indptr)
        y = (diags(np.maximum(counts, 1.0) ** -config.user_power) @ x).tocsr()
        if config.weighting == "none":
            return y
        # A user of nearly everything in a tiny catalogue would weigh 0 or less: they weigh very little.
        idf = np.maximum(np.log(x.shape[1]) - np.log1p(counts), 1e-3)
        if config.weighting == "tf_idf":
            y.data = np.sqrt(y.data)
        else:
            lengths = np.asarray(y.sum(axis=0)).ravel()
            longer = 1 - config.bm25_b + config.bm25_b * lengths / lengths.mean()
            y.data = y.data * (config.bm25_k1 + 1) / (config.bm25_k1 * longer[y.indices] + y.data)
        return (diags(idf) @ y).tocsr()

    def _past(self, queries: Queries) -> csr_matrix:
        return decayed(queries, self.config.repeats, self.config.half_life_days)
