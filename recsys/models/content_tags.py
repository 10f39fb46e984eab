"""Content by labels: items whose categories and tags are those of what was chosen (TF-IDF; Salton 1988)."""

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from recsys.dataset import Dataset, Queries
from recsys.labels import cosine_parts, cosines, incidence, labels, tf_idf
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig


class ContentTagsConfig(RecommenderConfig):
    tags_share: float = Field(
        0.5, ge=0, le=1, description="weight of an item's tags against its categories, where it has both"
    )


class ContentTags(Recommender):
    """score(u, i) = cos(q_u, v_i), q_u = sum over j in u's history of x_uj v_j, v_i the labels' unit TF-IDF.

    A label weighs share * idf, idf = ln((1 + items) / (1 + items with it)) + 1; the same word as category
    and as tag is two labels. New items rank from their labels alone; nothing is learned from who else
    liked them. Memory: labels of all items × 16 bytes. Cannot say of items without labels, or
    without one in common with the history (NaN).
    """

    config_class = ContentTagsConfig
    cost = "counting"
    needs = "labels"
    config: ContentTagsConfig
    state = ("vectors", "by_label")
    vectors: csr_matrix  # (items, labels) float32, rows of norm 1 or 0
    by_label: csr_matrix  # the same by labels, so that no query has to turn it over

    def _fit(self, train: Dataset) -> None:
        found = labels(train.catalogue, ("categories", "tags"))
        if not len(found):
            raise NotApplicableError("no item has a category or tag; map `categories` or `tags` of the items")
        share = np.where(found["kind"] == "tags", self.config.tags_share, 1 - self.config.tags_share)
        self.vectors = tf_idf(incidence(found, len(train.items), share))
        self.by_label = self.vectors.T.tocsr()

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        return cosines(queries.matrix(self.config.repeats), self.vectors, self.by_label, items)

    def influence(self, query: Queries, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each past item's labels add to the cosine; the parts sum to the score."""
        return cosine_parts(query.matrix(self.config.repeats), self.vectors, items)
