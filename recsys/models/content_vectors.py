"""Content by vectors a user brings: items whose images, sounds or anything else lie near one's choices."""

import numpy as np
from pydantic import Field

from profiles.schema import ContractError
from recsys.dataset import Dataset, Queries
from recsys.decay import FadingConfig, decayed, refuse_timeless
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig
from recsys.vectors import history_vectors


class ContentVectorsConfig(RecommenderConfig, FadingConfig):
    vectors: str | None = Field(None, description="name of the [[vectors]] file; none: the only one there is")


class ContentVectors(Recommender):
    """score(u, i) = cos(q_u, v_i), q_u = sum over j in u's history of x_uj 0.5^(age_uj / half-life) v_j.

    v are the vectors of a file, scaled to norm 1: the mean of a history is a Rocchio profile (Pazzani &
    Billsus 2007). New items rank from their vector alone; nothing is learned from who else liked them.
    Items without a vector, and queries without an item that has one, are NaN. Memory: items × d × 4 bytes.
    """

    config_class = ContentVectorsConfig
    cost = "counting"
    needs = "vectors"
    config: ContentVectorsConfig
    state = ("vectors",)
    products = "vectors"
    vectors: np.ndarray  # (items, d) float32, unit norm; NaN rows where an item has none

    def _fit(self, train: Dataset) -> None:
        if not train.brought:
            raise NotApplicableError(
                'nobody brought vectors; name their file: [[vectors]] path = "….parquet"'
            )
        refuse_timeless(train, self.config.half_life_days)
        names = sorted(train.brought)
        name = self.config.vectors or names[0]
        if name not in names or (self.config.vectors is None and len(names) > 1):
            known = ", ".join(names)
            raise ContractError(f"vectors = {self.config.vectors!r} names none of the files brought: {known}")
        self.vectors = train.brought[name]
        if np.isnan(self.vectors).all():
            raise NotApplicableError(f"no item of the catalogue has a vector in {name!r}; compare their ids")

    def _users(self, queries: Queries) -> np.ndarray:
        x = decayed(queries, self.config.repeats, self.config.half_life_days)
        return history_vectors(x, self.vectors)

    def influence(self, query: Queries, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each past item's vector adds to the cosine; the parts sum to the score."""
        x = decayed(query, self.config.repeats, self.config.half_life_days)
        known = ~np.isnan(self.vectors[x.indices, 0])
        rows = x.indices[known]
        parts = x.data[known, None].astype(np.float64) * self.vectors[rows]
        norm = np.linalg.norm(parts.sum(axis=0))
        return rows, (parts / (norm if norm > 0 else np.nan)) @ self.vectors[items].T.astype(np.float64)
