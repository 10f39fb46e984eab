"""ALS: implicit-feedback matrix factorisation (Hu, Koren & Volinsky, ICDM 2008), trained by implicit."""

from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from profiles.threads import single_blas
from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig
from recsys.space import Tuned
from recsys.warm import beginning

if TYPE_CHECKING:
    from implicit.cpu.als import AlternatingLeastSquares

SHORT = 0.5  # of as many items as factors: a history of fewer is solved by its items
STEP = 0.02  # between the logarithms of two penalties


class ALSConfig(RecommenderConfig):
    factors: Annotated[PositiveInt, Tuned(among=(16, 32, 64, 128, 256))] = Field(
        64, description="length of a user's and an item's vector"
    )
    l2: Annotated[PositiveFloat, Tuned(1e-4, 100, log=True)] = Field(
        0.05, description="ridge penalty on both"
    )
    l2_power: Annotated[float, Tuned(0, 1)] = Field(
        0.0, ge=0, le=1, description="nu: l2 times (n + others / alpha)^nu, n the cells of a row; iALS has 1"
    )
    alpha: Annotated[PositiveFloat, Tuned(0.1, 40, log=True)] = Field(
        1.0, description="confidence of an interaction is alpha times its weight"
    )
    iterations: PositiveInt = Field(15, description="alternations")
    update_iterations: PositiveInt = Field(3, description="alternations of an update")
    seed: NonNegativeInt = Field(0, description="of the starting vectors")


class ALS(Recommender):
    """score = x_u'y_i; a query's x_u = (Y'Y + Y_h'(C - I)Y_h + l2 I)^-1 Y_h'c solves ALS's own step (eq. 4)
    for the history h with confidences c = alpha * weight, so users of the training are not needed.

    With `l2_power` a row's penalty grows with what it holds, as in iALS revisited (Rendle et al., RecSys
    2022), whose alpha_0 is 1 / alpha and whose lambda is l2 / alpha here.
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
            if config.l2_power:
                self._scaled(model, matrix)
            else:
                model.fit(matrix, show_progress=False)
        factors = np.asarray(model.item_factors, np.float32)
        self.__dict__.pop("_inverse", None)
        self.gram = factors.T.astype(np.float64) @ factors.astype(np.float64)
        factors[np.asarray(matrix.getnnz(axis=0)) == 0] = np.nan
        self.factors = factors
        return np.asarray(model.user_factors, np.float32)

    def _scaled(self, model: "AlternatingLeastSquares", matrix: csr_matrix) -> None:
        """Set the model's vectors as its own fit does, each row with a penalty of its own."""
        c, random = self.config, np.random.default_rng(self.config.seed)
        cells = (c.alpha * matrix).tocsr()
        if model.item_factors is None:
            drawn = [random.random((n, c.factors), np.float32) * 0.01 for n in matrix.shape]
            model.user_factors, model.item_factors = drawn
        first = (model.user_factors, model.item_factors)
        turned = (cells, cells.T.tocsr())
        for _ in range(model.iterations):
            for x, own, other in zip(turned, first, first[::-1], strict=True):
                penalties = self._penalties(np.diff(x.indptr), x.shape[1])
                for penalty in np.unique(penalties):  # rows of one penalty are solved together
                    rows = np.flatnonzero(penalties == penalty)
                    solved = own[rows]
                    model.solver(x[rows], solved, other, float(penalty), num_threads=model.num_threads)
                    own[rows] = solved

    def _penalties(self, counts: np.ndarray, others: int) -> np.ndarray:
        """Return the ridge penalties of rows of so many cells; if scaled, of few kinds within 1 %."""
        c = self.config
        if not c.l2_power:
            return np.full(len(counts), c.l2)
        scaled = np.log(c.l2) + c.l2_power * np.log(counts + others / c.alpha)
        penalties: np.ndarray = np.exp(np.round(scaled / STEP) * STEP)
        return penalties

    @cached_property
    def _inverse(self) -> np.ndarray:
        """Return A^-1 where all have one penalty, (d, d) float64."""
        size = len(self.gram)
        inverse: np.ndarray = cho_solve(cho_factor(self.gram + self.config.l2 * np.eye(size)), np.eye(size))
        return inverse

    def _user(self, items: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Solve the normal equations of a history, (d,) float64: (A + Y'DY) x = Y'c, A = Y_all'Y_all + l2 I.

        One of few items solves n equations, not d: x = A^-1 Y' (I + D Y A^-1 Y')^-1 c.
        """
        known = ~np.isnan(self.factors[items, 0])
        y = self.factors[items[known]].astype(np.float64)
        if not len(y):
            return np.full(len(self.gram), np.nan)
        confidence = self.config.alpha * weights[known].astype(np.float64)
        solved: np.ndarray
        if not self.config.l2_power and len(y) < SHORT * len(self.gram):
            share = self._inverse @ y.T
            inner = np.eye(len(y)) + (confidence - 1.0)[:, None] * (y @ share)
            solved = share @ np.linalg.solve(inner, confidence)
            return solved
        (l2,) = self._penalties(np.array([len(y)]), len(self.factors))
        system = self.gram + (y.T * (confidence - 1.0)) @ y + l2 * np.eye(len(self.gram))
        solved = cho_solve(cho_factor(system), y.T @ confidence)
        return solved

    def _users(self, queries: Queries) -> np.ndarray:
        x = queries.matrix(self.config.repeats)
        users = np.full((len(queries), self.factors.shape[1]), np.nan, np.float32)
        # The systems are small: a second thread costs more than it brings, for one user telling BLAS so does.
        with single_blas() if len(users) > 1 else nullcontext():
            for row in np.flatnonzero(np.diff(x.indptr)):
                at = slice(x.indptr[row], x.indptr[row + 1])
                users[row] = self._user(x.indices[at], x.data[at])
        return users
