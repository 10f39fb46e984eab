"""Association rules: who did this also did that (Agrawal, Imieliński & Swami, SIGMOD 1993)."""

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy.sparse import csr_matrix

from recsys.dataset import Dataset, Queries
from recsys.neighbours import strongest
from recsys.recommender import Recommender, RecommenderConfig
from recsys.space import Tuned


class AssociationRulesConfig(RecommenderConfig):
    min_support: Annotated[PositiveInt, Tuned(1, 20, log=True)] = Field(
        2, description="users who must have done both items of a rule"
    )
    min_lift: Annotated[NonNegativeFloat, Tuned(0, 5)] = Field(
        0.0, description="how many times as often as by chance, at least, they must have done the second"
    )
    neighbours: Annotated[PositiveInt, Tuned(10, 1000, log=True)] = Field(
        100, description="most confident rules looked at for each first item"
    )


class AssociationRules(Recommender):
    """score(u, i) = max over rules j -> i with j in u's history of confidence(j -> i) = n_ji / n_j.

    n counts users, whatever `repeats` says. A rule holds where n_ji >= min_support and its lift
    n_ji users / (n_j n_i) >= min_lift. The best rule alone speaks, so a score is itself a probability.

    Fit memory: items × neighbours × 20 bytes. Cannot rank what no rule leads to (NaN).
    """

    config_class = AssociationRulesConfig
    cost = "counting"
    config: AssociationRulesConfig
    state = ("confidences",)
    confidences: csr_matrix  # (items, items) float32: row j holds the rules j -> i

    def _fit(self, train: Dataset) -> None:
        x = train.matrix("binary")
        counts = np.asarray(x.sum(axis=0), np.float64).ravel()
        rules = strongest(x.T.tocsr(), x, self.config.neighbours, left=np.maximum(counts, 1))
        first = np.repeat(np.arange(len(counts)), np.diff(rules.indptr))
        lift = rules.data * x.shape[0] / counts[rules.indices]
        # Both counts are whole numbers behind float32 quotients, hence the slack.
        holds = np.round(rules.data * counts[first]) >= self.config.min_support
        holds &= lift >= self.config.min_lift * (1 - 1e-6)
        rules.data[~holds] = 0.0
        rules.eliminate_zeros()
        self.confidences = rules

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        x = queries.matrix("binary")
        scores = np.zeros(x.shape, np.float32)
        for row in np.flatnonzero(np.diff(x.indptr)):
            fired = self.confidences[x.indices[x.indptr[row] : x.indptr[row + 1]]]
            np.maximum.at(scores[row], fired.indices, fired.data)
        scores[scores == 0] = np.nan
        return scores if items is None else scores[:, items]
