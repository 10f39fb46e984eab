"""Sequential EASE: a closed-form linear model of what comes after what (SLIT; Choi et al., WWW 2021)."""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from recsys.dataset import Dataset, Histories, Queries
from recsys.order import sequences
from recsys.recommender import (
    NotApplicableError,
    Recommender,
    RecommenderConfig,
)
from recsys.space import Tuned

DENSE_ITEMS = 20_000  # above this the inverse takes gigabytes and minutes


class SequentialEASEConfig(RecommenderConfig):
    l2: Annotated[PositiveFloat, Tuned(1, 5000, log=True)] = Field(
        50.0, description="ridge penalty on every weight"
    )
    window: Annotated[PositiveInt, Tuned(1, 100, log=True)] = Field(
        20, description="latest items of a history that are looked at"
    )
    decay: Annotated[float, Tuned(0.3, 1)] = Field(
        0.8, gt=0, le=1, description="of an item's say for each place it is further back"
    )
    horizon: Annotated[PositiveInt, Tuned(1, 10, log=True)] = Field(
        3, description="items after each place that are to be foretold"
    )


class SequentialEASE(Recommender):
    """score = s B, B = (S'S + l2 I)^-1 S'T: one ridge regression of what follows on what was before (eq. 8).

    Each place t of each history is a row of S and T: s_j = x_j decay^n for the n-th item before the end
    of the past, up to `window`; t_i = decay^n for the n-th item after it, up to `horizon`. The diagonal is
    free: an item may follow itself no more, as each stands once in a history, at its newest place.

    Reads the order, not the times. Memory: items² × 20 bytes while fitting, items² × 4 kept, and
    interactions × (window + horizon) × 12. For catalogues up to 20,000 items. Cannot rank items that
    never followed another (NaN), and says nothing to a user without history.
    """

    config_class = SequentialEASEConfig
    cost = "dense"
    needs = "order"
    config: SequentialEASEConfig
    state = ("weights",)
    linear = "weights"
    weights: np.ndarray  # (items, items) float32: row j holds what j in the past adds to i

    def _fit(self, train: Dataset) -> None:
        items = len(train.items)
        if items > DENSE_ITEMS:
            raise NotApplicableError(
                f"sequential EASE inverts items²; {items:,} items are above {DENSE_ITEMS:,}"
            )
        done = sequences(train.histories, items, self.config.repeats)
        past, coming = self._behind(done, items), self._coming(done, items)
        gram = (past.T @ past).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.config.l2
        target = (past.T @ coming).toarray().astype(np.float64)
        weights = cho_solve(cho_factor(gram, overwrite_a=True), target, overwrite_b=True)
        self.weights = np.ascontiguousarray(weights, np.float32)
        self.weights[:, np.asarray(coming.getnnz(axis=0)) == 0] = np.nan

    def _behind(self, done: Histories, items: int) -> csr_matrix:
        """Return S: at each place, that place's item and those before it."""
        return _shifted(done, items, -1, range(self.config.window), self.config.decay, done.weights)

    def _coming(self, done: Histories, items: int) -> csr_matrix:
        """Return T: at each place, the items after it."""
        ones = np.ones_like(done.weights)
        leads = range(1, self.config.horizon + 1)
        return _shifted(done, items, 1, leads, self.config.decay, ones)

    def _past(self, queries: Queries) -> csr_matrix:
        """Return s of each history's end, (n, items)."""
        done = sequences(queries.histories, queries.items, self.config.repeats)
        back = done.offsets[done.rows + 1] - 1 - np.arange(len(done.items))
        weights = done.weights * (self.config.decay**back).astype(np.float32)
        near = back < self.config.window
        return csr_matrix((weights[near], (done.rows[near], done.items[near])), (len(queries), queries.items))


def _shifted(
    done: Histories, items: int, step: int, shifts: range, decay: float, weights: np.ndarray
) -> csr_matrix:
    """Return for each place the items `shifts` places away in the direction of `step`, fading."""
    place = np.arange(len(done.items))
    rows, columns, values = [], [], []
    for shift in shifts:
        other = place + step * shift
        inside = (other >= 0) & (other < len(place))
        here, there = place[inside], other[inside]
        same = done.rows[here] == done.rows[there]
        here, there = here[same], there[same]
        rows.append(here)
        columns.append(done.items[there])
        values.append(weights[there] * np.float32(decay ** (shift - shifts.start)))
    cells = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csr_matrix(cells, (len(place), items), dtype=np.float32)
