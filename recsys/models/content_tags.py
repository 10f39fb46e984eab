"""Content by labels: items whose categories and tags are those of what was chosen (TF-IDF; Salton 1988)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from recsys.dataset import Dataset
from recsys.decay import FadingConfig, refuse_timeless
from recsys.labels import Labelled, incidence, labels
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig
from recsys.space import Tuned


class ContentTagsConfig(RecommenderConfig, FadingConfig):
    tags_share: Annotated[float, Tuned(0, 1)] = Field(
        0.5, ge=0, le=1, description="weight of an item's tags against its categories, where it has both"
    )


class ContentTags(Labelled, Recommender):
    """score(u, i) = cos(q_u, v_i), q_u = sum over j in u's history of x_uj 0.5^(age_uj / half-life) v_j.

    v_i is the unit TF-IDF of i's labels: each weighs share * idf, idf = ln((1 + items) / (1 + items with
    it)) + 1; the same word as category and as tag is two labels. New items rank from their labels alone;
    nothing is learned from who else liked them. Memory: labels of all items × 16 bytes. Cannot say of items
    without labels, or without one in common with the history (NaN).
    """

    config_class = ContentTagsConfig
    needs = "labels"
    config: ContentTagsConfig

    def _fit(self, train: Dataset) -> None:
        refuse_timeless(train, self.config.half_life_days)
        found = labels(train.catalogue, ("categories", "tags"))
        if not len(found):
            raise NotApplicableError("no item has a category or tag; map `categories` or `tags` of the items")
        share = np.where(found["kind"] == "tags", self.config.tags_share, 1 - self.config.tags_share)
        self._describe(incidence(found, len(train.items), share))
