"""Content by attributes: items of the brands, prices and whatever else those chosen have (TF-IDF)."""

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix

from recsys.dataset import Dataset, Queries
from recsys.decay import decayed, refuse_timeless
from recsys.labels import able, cosine_parts, cosines, incidence, labels, tf_idf
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig


class ContentAttributesConfig(RecommenderConfig):
    attributes: tuple[str, ...] = Field(
        (), description="names of the attributes that are read; none: all but ids, titles, texts and times"
    )
    bands: PositiveInt = Field(
        5, description="parts of equally many items that the values of a number fall into"
    )
    half_life_days: PositiveFloat | None = Field(
        None, description="a choice counts half after this many days; none: all the same"
    )


class ContentAttributes(Recommender):
    """score(u, i) = cos(q_u, v_i), q_u = sum over j in u's history of x_uj 0.5^(age_uj / half-life) v_j.

    v_i is the unit TF-IDF of i's labels: a value of an attribute, each of a list's, the band of a number
    (Salton & Buckley, IP&M 1988; idf = ln((1 + items) / (1 + items with it)) + 1). New items rank from
    their attributes alone; nothing is learned from who else liked them, and bands next to each other are
    as strange as any. Items without attributes, or without one in common with the history, are NaN.
    Memory: labels of all items × 16 bytes.
    """

    config_class = ContentAttributesConfig
    cost = "counting"
    needs = "attributes"
    config: ContentAttributesConfig
    state = ("vectors", "by_label")
    vectors: csr_matrix  # (items, labels) float32, rows of norm 1 or 0
    by_label: csr_matrix  # the same by labels, so that no query has to turn it over

    def _fit(self, train: Dataset) -> None:
        if self.config.half_life_days is not None:
            refuse_timeless(train)
        asked = self.config.attributes or able(train.catalogue)
        found = labels(train.catalogue, asked, self.config.bands)
        if not len(found):
            raise NotApplicableError(
                "no item has an attribute; map `brand`, `price` or `attributes` of the items"
            )
        self.vectors = tf_idf(incidence(found, len(train.items)))
        self.by_label = self.vectors.T.tocsr()

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        return cosines(self._history(queries), self.vectors, self.by_label, items)

    def influence(self, query: Queries, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each past item's labels add to the cosine; the parts sum to the score."""
        return cosine_parts(self._history(query), self.vectors, items)

    def _history(self, queries: Queries) -> csr_matrix:
        return decayed(queries, self.config.repeats, self.config.half_life_days)
