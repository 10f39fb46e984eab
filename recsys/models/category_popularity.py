"""Popularity by category: what everybody does within the categories of one's own history."""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat
from scipy.sparse import csr_matrix, diags

from profiles.schema import DAY
from recsys.dataset import Dataset, Queries
from recsys.decay import DAYS, refuse_timeless
from recsys.labels import incidence, labels
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig, linear_scores


class CategoryPopularityConfig(RecommenderConfig):
    half_life_days: Annotated[PositiveFloat | None, DAYS] = Field(
        None, description="an interaction counts half after this many days; none: all count alike"
    )


class CategoryPopularity(Recommender):
    """score(u, i) = sum over categories c of p(c | u) p(i | c).

    p(c | u) is the share of c in u's history, an item of several categories parted among them; p(i | c)
    is i's share of the weight of all interactions with items of c, each halved per half-life of its age
    as of the fit. Memory: categories of all items × 24 bytes. Cannot say of items without categories, of
    those nobody touched, or of other categories than the history's (NaN).
    """

    config_class = CategoryPopularityConfig
    cost = "counting"
    needs = "labels"
    config: CategoryPopularityConfig
    state = ("categories", "popular")
    categories: csr_matrix  # (items, categories) float32, rows that sum to 1 or are empty
    popular: csr_matrix  # (categories, items) float32, rows that sum to 1 or are empty

    def _fit(self, train: Dataset) -> None:
        found = labels(train.catalogue, ("categories",))
        if not len(found):
            raise NotApplicableError("no item has a category; map `categories` of the items")
        belongs = incidence(found, len(train.items))
        weights = train.histories.weights.astype(np.float64)
        refuse_timeless(train, self.config.half_life_days)
        if self.config.half_life_days is not None:
            weights *= 0.5 ** ((train.as_of - train.histories.times) / DAY / self.config.half_life_days)
        counts = np.bincount(train.histories.items, weights, minlength=len(train.items))
        self.categories = _shares(belongs).astype(np.float32)
        self.popular = _shares((belongs.T @ diags(counts)).tocsr()).astype(np.float32)

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        liked = _shares((queries.matrix(self.config.repeats) @ self.categories).tocsr())
        return linear_scores(liked, self.popular, items)


def _shares(matrix: csr_matrix) -> csr_matrix:
    """Scale rows to sum to 1; a row of nothing stays one. Cells of 0 go."""
    total = np.asarray(matrix.sum(axis=1), np.float64).ravel()
    scaled = (diags(np.divide(1, total, out=np.zeros_like(total), where=total > 0)) @ matrix).tocsr()
    scaled.eliminate_zeros()
    return scaled
