"""Item-kNN: what goes with what (Sarwar et al., WWW 2001; shrinkage as in Bell & Koren, ICDM 2007)."""

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy.sparse import csr_matrix, vstack

from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig, linear_influence, linear_scores

FIT_ROWS = 512  # item rows whose similarities are dense at once


class ItemKNNConfig(RecommenderConfig):
    neighbours: PositiveInt = Field(100, description="similar items kept for each item")
    shrinkage: NonNegativeFloat = Field(10.0, description="added to the norms' product, against chance")


class ItemKNN(Recommender):
    """score(u, i) = sum over j in u's history of x_uj s_ji, s_ji = x_j'x_i / (|x_j| |x_i| + shrinkage).

    For each item i the `neighbours` largest s_ji are kept (ties to the lower row), never i itself.
    Fit memory: FIT_ROWS × items × 8 bytes. Cannot rank an item nobody combined with another (NaN).
    """

    config_class = ItemKNNConfig
    config: ItemKNNConfig
    state = ("similarities",)
    similarities: csr_matrix  # (items, items) float32: row j holds s_ji

    def _fit(self, train: Dataset) -> None:
        x = train.matrix(self.config.repeats).tocsc()
        norms = np.sqrt(x.multiply(x).sum(axis=0)).A1
        xt = x.T.tocsr()
        blocks = [
            self._neighbours(xt[start : start + FIT_ROWS] @ x, start, norms)
            for start in range(0, x.shape[1], FIT_ROWS)
        ]
        self.similarities = vstack(blocks).T.tocsr()
        self.similarities.sort_indices()

    def _neighbours(self, products: csr_matrix, start: int, norms: np.ndarray) -> csr_matrix:
        """Keep each row's best columns of one block of x_i'x_j."""
        rows, items = products.shape
        cosine = products.toarray().astype(np.float64)
        scale = norms[start : start + rows, None] * norms[None, :] + self.config.shrinkage
        np.divide(cosine, scale, out=cosine, where=scale > 0)
        cosine[np.arange(rows), start + np.arange(rows)] = 0.0
        kept = min(self.config.neighbours, items)
        # A stable sort of the few candidates above the k-th value keeps ties in row order.
        limit = np.partition(cosine, items - kept, axis=1)[:, items - kept]
        row, column = np.nonzero((cosine >= limit[:, None]) & (cosine > 0))
        value = cosine[row, column]
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        best = place < kept
        return csr_matrix(
            (value[best].astype(np.float32), (row[best], column[best])), (rows, items), dtype=np.float32
        )

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        return linear_scores(queries.matrix(self.config.repeats), self.similarities, items)

    def influence(self, query: Queries, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return linear_influence(query.matrix(self.config.repeats), self.similarities, items)
