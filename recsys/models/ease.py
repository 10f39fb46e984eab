"""EASE: a linear item-item model with a closed form (Steck, WWW 2019)."""

import numpy as np
from pydantic import Field, PositiveFloat
from scipy.linalg import cho_factor, cho_solve

from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig, linear_influence, linear_scores


class EASEConfig(RecommenderConfig):
    l2: PositiveFloat = Field(500.0, description="ridge penalty on every item-item weight")


class EASE(Recommender):
    """score = X B with B = I - P diag(P)^-1 and P = (X'X + l2 I)^-1, so diag(B) = 0 (eq. 8).

    Dense: items² × 12 bytes while fitting, items² × 4 bytes kept. Cannot rank items without
    interactions, and says nothing to a user without history.
    """

    config_class = EASEConfig
    config: EASEConfig
    state = ("weights",)
    weights: np.ndarray  # (items, items) float32, zero diagonal

    def _fit(self, train: Dataset) -> None:
        x = train.matrix(self.config.repeats)
        gram = (x.T @ x).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.config.l2
        p = cho_solve(cho_factor(gram, overwrite_a=True), np.eye(len(gram)), overwrite_b=True)
        p /= -np.diag(p)
        np.fill_diagonal(p, 0.0)
        self.weights = np.ascontiguousarray(p, np.float32)
        # An item nobody touched has no weights: NaN says so, 0 would rank it above negative scores.
        self.weights[:, np.asarray(x.getnnz(axis=0)) == 0] = np.nan

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        return linear_scores(queries.matrix(self.config.repeats), self.weights, items)

    def influence(self, query: Queries, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return linear_influence(query.matrix(self.config.repeats), self.weights, items)
