"""Popularity: what everybody does, all-time or lately."""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat

from profiles.schema import DAY
from recsys.dataset import Dataset, Queries
from recsys.decay import DAYS
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig


class PopularityConfig(RecommenderConfig):
    half_life_days: Annotated[PositiveFloat | None, DAYS] = Field(
        None, description="an interaction counts half after this many days; none: all count alike"
    )
    window_days: Annotated[PositiveFloat | None, DAYS] = Field(
        None, description="only interactions of this many days before the fit count; none: all do"
    )


class Popularity(Recommender):
    """score(i) = sum over i's interactions within the window of weight * 0.5 ** (age / half-life).

    Ages are as of the fit. Counts interactions, not distinct users, whatever `repeats` says; cannot
    personalise. An item nobody touched scores 0, so it is listed last rather than never.
    """

    config_class = PopularityConfig
    cost = "counting"
    config: PopularityConfig
    state = ("scores",)
    reads_history = False
    scores: np.ndarray  # (items,) float32

    def _fit(self, train: Dataset) -> None:
        weights = train.histories.weights.astype(np.float64)
        for name in ("half_life_days", "window_days"):
            if train.timeless and getattr(self.config, name) is not None:
                raise NotApplicableError(f"{name} needs times, and this log has only an order")
        ages = (train.as_of - train.histories.times) / DAY
        if self.config.half_life_days is not None:
            weights *= 0.5 ** (ages / self.config.half_life_days)
        if self.config.window_days is not None:
            weights[ages > self.config.window_days] = 0.0
        counts = np.bincount(train.histories.items, weights, minlength=len(train.items))
        self.scores = counts.astype(np.float32)

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        scores = self.scores if items is None else self.scores[items]
        return np.broadcast_to(scores, (len(queries), len(scores)))
