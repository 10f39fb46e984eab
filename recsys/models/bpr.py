"""BPR: factors that put what was done before what was not (Rendle et al., UAI 2009), trained by implicit."""

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from profiles.schema import ContractError
from profiles.threads import single_blas
from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig
from recsys.space import Tuned
from recsys.warm import beginning


class BPRConfig(RecommenderConfig):
    factors: Annotated[PositiveInt, Tuned(among=(16, 32, 64, 128))] = Field(
        64, description="length of a user's and an item's vector"
    )
    learning_rate: Annotated[PositiveFloat, Tuned(0.005, 0.3, log=True)] = Field(
        0.05, description="step size of the descent"
    )
    l2: Annotated[NonNegativeFloat, Tuned(1e-4, 0.1, log=True)] = Field(
        0.01, description="ridge penalty on both vectors"
    )
    iterations: Annotated[PositiveInt, Tuned(20, 300, log=True)] = Field(
        100, description="passes over as many drawn pairs as there are"
    )
    update_iterations: PositiveInt = Field(10, description="passes of an update")
    map_l2: Annotated[PositiveFloat, Tuned(0.1, 100, log=True)] = Field(
        1.0, description="ridge penalty of the map from history to vector"
    )
    seed: NonNegativeInt = Field(0, description="of the starting vectors and the drawn pairs")


class BPR(Recommender):
    """score = x_u'y_i + b_i; the vector of a query is x_u = M'f(h), learned by ridge regression at the fit.

    f(h) = [sum / sqrt(n), sum / n, 1] of the vectors of a history's items, sums weighted, n the sum of
    weights; M = (F'F + l2 I)^-1 F'X maps the histories of the training to their trained vectors X, which
    are then dropped. One thread, so that two fits are the same. implicit takes any value above 0 for a
    pair done; values count in f. Items nobody touched, and queries without learned items, are NaN.
    """

    config_class = BPRConfig
    cost = "factors"
    config: BPRConfig
    state = ("factors", "map")
    products = "factors"
    factors: np.ndarray  # (items, d + 1) float32, the bias last; NaN rows for items nobody touched
    map: np.ndarray  # (2 d + 1, d) float64

    def _fit(self, train: Dataset) -> None:
        self.fit_users(train)

    def fit_users(self, train: Dataset) -> np.ndarray:
        """Fit, and return the trained vectors of the users, (users, d + 1)): papers score with them."""
        return self._descend(train.matrix(self.config.repeats))

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        matrix = train.matrix(self.config.repeats)
        self._descend(matrix, beginning(self.factors, rows, matrix))

    def _descend(self, matrix: csr_matrix, start: np.ndarray | None = None) -> np.ndarray:
        """Learn from (users, items), from first item vectors and the users they map to, if there are some.

        Returns the users' vectors.
        """
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from implicit.recommender_base import ModelFitError

        c = self.config
        with single_blas():
            model = BayesianPersonalizedRanking(
                factors=c.factors,
                learning_rate=c.learning_rate,
                regularization=c.l2,
                iterations=c.iterations if start is None else c.update_iterations,
                num_threads=1,
                random_state=c.seed,
            )
            if start is not None:
                users = _features(matrix, start) @ self.map
                users = np.nan_to_num(np.column_stack([users, np.ones(len(users))]))
                model.item_factors, model.user_factors = start, users.astype(np.float32)
            try:
                model.fit(matrix, show_progress=False)
            except ModelFitError:
                raise ContractError(f"bpr diverged: lower learning_rate (now {c.learning_rate:g})") from None
            factors = np.array(model.item_factors, np.float32)
            factors[np.asarray(matrix.getnnz(axis=0)) == 0] = np.nan
            f = _features(matrix, factors)
            gram = f.T @ f + c.map_l2 * np.eye(f.shape[1])
            users = np.asarray(model.user_factors[:, : c.factors], np.float64)
            self.map = np.ascontiguousarray(cho_solve(cho_factor(gram), f.T @ users))
        self.factors = factors
        return np.asarray(model.user_factors, np.float32)

    def _users(self, queries: Queries) -> np.ndarray:
        users = _features(queries.matrix(self.config.repeats), self.factors) @ self.map
        return np.column_stack([users, np.ones(len(users))])


def _features(x: csr_matrix, factors: np.ndarray) -> np.ndarray:
    """Return f of histories, (n, 2 d + 1) float64; NaN rows without a learned item."""
    touched = np.unique(x.indices)
    learned = touched[~np.isnan(factors[touched, 0])]
    past = x[:, learned].astype(np.float64)
    count = np.asarray(past.sum(axis=1)).ravel()
    count = np.where(count > 0, count, np.nan)[:, None]
    total = past @ factors[learned, :-1].astype(np.float64)
    return np.hstack([total / np.sqrt(count), total / count, np.ones_like(count)])
