"""Co-visitation: what is done near what in time (Davidson et al., RecSys 2010, with a gap)."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, identity

from profiles.schema import DAY
from recsys.dataset import Dataset, Queries
from recsys.neighbours import strongest
from recsys.order import sequences
from recsys.recommender import (
    NotApplicableError,
    Recommender,
    RecommenderConfig,
)
from recsys.space import Tuned


class CovisitationConfig(RecommenderConfig):
    gap_days: Annotated[PositiveFloat, Tuned(0.04, 365, log=True)] = Field(
        30.0, description="interactions further apart are not a visit together"
    )
    window: Annotated[PositiveInt, Tuned(1, 100, log=True)] = Field(
        20, description="items after each one that may be paired with it"
    )
    direction: Annotated[Literal["both", "forward"], Tuned()] = Field(
        "both", description="forward: only what came after counts; both: also what came before"
    )
    recency: Annotated[float, Tuned(0.3, 1)] = Field(
        0.9, gt=0, le=1, description="of an item's say for each place back in a history"
    )
    neighbours: Annotated[PositiveInt, Tuned(10, 1000, log=True)] = Field(
        100, description="items kept for each item"
    )


class Covisitation(Recommender):
    """score(u, i) = sum over j in u's history of recency^place(j) x_uj c_ji / sqrt(d_j d_i).

    c_ji sums (1 - gap / gap_days) x_vi over the users v who did i at most `window` items and `gap_days`
    after j (or before it); d counts the users of an item; place 0 is the newest of a history. For each
    item j the `neighbours` largest are kept (ties to the lower row).

    Needs times. Memory: interactions × window × 40 bytes while fitting, items × neighbours × 8 kept.
    Cannot rank an item nobody did near another (NaN).
    """

    config_class = CovisitationConfig
    cost = "counting"
    config: CovisitationConfig
    state = ("weights",)
    linear = "weights"
    weights: csr_matrix  # (items, items) float32: row j holds what j in a history adds to i

    def _fit(self, train: Dataset) -> None:
        if train.timeless:
            raise NotApplicableError("gap_days needs times, and this log has only an order")
        config, items = self.config, len(train.items)
        done = sequences(train.histories, items, config.repeats)
        place, gap = np.arange(len(done.items)), config.gap_days * DAY
        together = csr_matrix((items, items), dtype=np.float64)
        for lead in range(1, config.window + 1):
            first, then = place[:-lead], place[lead:]
            apart = (done.times[then] - done.times[first]) / gap
            near = (done.rows[first] == done.rows[then]) & (apart < 1)
            if not near.any():
                continue
            first, then, share = first[near], then[near], 1 - apart[near]
            pairs = (share * done.weights[then], (done.items[first], done.items[then]))
            together += csr_matrix(pairs, (items, items))
            if config.direction == "both":
                pairs = (share * done.weights[first], (done.items[then], done.items[first]))
                together += csr_matrix(pairs, (items, items))
        counts = np.bincount(done.items, minlength=items).astype(np.float64)
        together.eliminate_zeros()
        one = identity(items, format="csr")  # times it, so that the cells are those of a product
        self.weights = strongest(one, together.tocsr(), config.neighbours, counts**0.5, counts**0.5)

    def _past(self, queries: Queries) -> csr_matrix:
        done = sequences(queries.histories, queries.items, self.config.repeats)
        back = done.offsets[done.rows + 1] - 1 - np.arange(len(done.items))
        # Not below the smallest normal float32: a cell of 0 would be no history.
        fading = np.maximum(self.config.recency**back, np.finfo(np.float32).tiny)
        weights = (done.weights * fading).astype(np.float32)
        return csr_matrix((weights, (done.rows, done.items)), (len(queries), queries.items))
