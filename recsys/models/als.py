"""ALS: implicit-feedback matrix factorisation (Hu, Koren & Volinsky, ICDM 2008), trained by implicit."""

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from profiles.threads import single_blas
from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig
from recsys.warm import beginning


class ALSConfig(RecommenderConfig):
    factors: PositiveInt = Field(64, description="length of a user's and an item's vector")
    l2: PositiveFloat = Field(0.05, description="ridge penalty on both")
    alpha: PositiveFloat = Field(1.0, description="confidence of an interaction is alpha times its weight")
    iterations: PositiveInt = Field(15, description="alternations")
    update_iterations: PositiveInt = Field(3, description="alternations of an update")
    seed: NonNegativeInt = Field(0, description="of the starting vectors")


class ALS(Recommender):
    """score = x_u'y_i; a query's x_u = (Y'Y + Y_h'(C - I)Y_h + l2 I)^-1 Y_h'c solves ALS's own step (eq. 4)
    for the history h with confidences c = alpha * weight, so users of the training are not needed.

    Items nobody touched keep a meaningless vector, so they are NaN; so is a query without history.
    """

    config_class = ALSConfig
    cost = "factors"
    config: ALSConfig
    state = ("factors", "gram")
    products = "factors"
    factors: np.ndarray  # (items, d) float32; NaN rows for items nobody touched
    gram: np.ndarray  # (d, d) float64: Y'Y

    def _fit(self, train: Dataset) -> None:
        self.fit_users(train)

    def fit_users(self, train: Dataset) -> np.ndarray:
        """Fit, and return the trained vectors of the users, (users, d) float32: papers score with them."""
        return self._alternate(train.matrix(self.config.repeats))

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        matrix = train.matrix(self.config.repeats)
        self._alternate(matrix, beginning(self.factors, rows, matrix))

    def _alternate(self, matrix: csr_matrix, start: np.ndarray | None = None) -> np.ndarray:
        """Learn from (users, items), from first item vectors if there are some; returns the users'."""
        from implicit.cpu.als import AlternatingLeastSquares

        config = self.config
        with single_blas():
            model = AlternatingLeastSquares(
                factors=config.factors,
                regularization=config.l2,
                alpha=config.alpha,
                iterations=config.iterations if start is None else config.update_iterations,
                random_state=config.seed,
            )
            if start is not None:  # users are solved for first, so that they need no beginning of theirs
                model.item_factors = start
                model.user_factors = np.zeros((matrix.shape[0], config.factors), np.float32)
            model.fit(matrix, show_progress=False)
        factors = np.asarray(model.item_factors, np.float32)
        self.gram = factors.T.astype(np.float64) @ factors.astype(np.float64)
        factors[np.asarray(matrix.getnnz(axis=0)) == 0] = np.nan
        self.factors = factors
        return np.asarray(model.user_factors, np.float32)

    def _user(self, items: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Solve the normal equations of one history, (d,) float64."""
        known = ~np.isnan(self.factors[items, 0])
        y = self.factors[items[known]].astype(np.float64)
        confidence = self.config.alpha * weights[known].astype(np.float64)
        system = self.gram + (y.T * (confidence - 1.0)) @ y + self.config.l2 * np.eye(len(self.gram))
        solved: np.ndarray = cho_solve(cho_factor(system), y.T @ confidence)
        return solved if len(y) else np.full(len(self.gram), np.nan)

    def _users(self, queries: Queries) -> np.ndarray:
        x = queries.matrix(self.config.repeats)
        users = np.full((len(queries), self.factors.shape[1]), np.nan, np.float32)
        for row in np.flatnonzero(np.diff(x.indptr)):
            at = slice(x.indptr[row], x.indptr[row + 1])
            users[row] = self._user(x.indices[at], x.data[at])
        return users
