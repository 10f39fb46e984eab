"""EASE foretold from text: what goes with an item nobody touched, told by its words.

A map from attributes to what collaborative filtering learned (Gantner et al., ICDM 2010), learned for the
columns of EASE (Steck, WWW 2019) in place of factors.
"""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat

from recsys.dataset import Dataset, Queries
from recsys.models.ease import EASE, EASEConfig
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig
from recsys.space import Tuned
from recsys.vectors import mixed, summed, unit


class ContentEASEConfig(RecommenderConfig):
    l2: Annotated[PositiveFloat, Tuned(0.1, 100_000, log=True)] = Field(
        500.0, description="ridge penalty of the EASE that is foretold"
    )
    ridge: Annotated[PositiveFloat, Tuned(0.03, 100, log=True)] = Field(
        1.0, description="ridge penalty on the map from texts to columns"
    )
    own_words: Annotated[float, Tuned(0, 1)] = Field(
        0.5, ge=0, le=1, description="share of the user's own texts against what they chose"
    )


class ContentEASE(Recommender):
    """score = (x C) z_i with C = B_T Z_T (Z_T'Z_T + ridge I)^-1: EASE's B, its columns foretold from text.

    z_i = [v_i - mean, 1], v the unit vectors of texts, T the items that have one and were touched, `mean` is
    theirs: each row of B_T is regressed on Z_T, so that z says of any item what B would. An item nobody
    touched is so ranked by its words, and an item of the history that nobody else touched, or what the user
    wrote, counts as the row of C that its words foretell. Histories and words are mixed as in `content_text`.
    Items without a text, and queries without anything known, are NaN. Memory: that of `ease` while fitting,
    items × d × 8 bytes kept.
    """

    config_class = ContentEASEConfig
    cost = "dense"
    needs = "texts"
    config: ContentEASEConfig
    state = ("table", "rows", "map", "mean")
    products = "table"
    reads_text = True
    table: np.ndarray  # (items, d + 1) float32: z; NaN rows where an item has no text
    rows: np.ndarray  # (items, d + 1) float32: C; NaN rows where an item has neither text nor interactions
    map: np.ndarray  # (d + 1, d + 1) float32: from z to a row of C
    mean: np.ndarray  # (d,) float32

    def _fit(self, train: Dataset) -> None:
        if train.vectors is None or np.isnan(train.vectors).all():
            raise NotApplicableError("no item has a text; map `text` or `title` of the items")
        vectors = unit(train.vectors.astype(np.float32))
        touched = train.matrix(self.config.repeats).getnnz(axis=0) > 0
        taught = touched & ~np.isnan(vectors[:, 0])
        self.mean = vectors[taught].sum(axis=0) / max(1, taught.sum())
        self.table = self._read(vectors)
        z = self.table[taught].astype(np.float64)
        solve = np.linalg.solve(z.T @ z + self.config.ridge * np.eye(z.shape[1]), z.T)  # (d + 1, taught)
        ease = EASE(EASEConfig(l2=self.config.l2, repeats=self.config.repeats)).fit(train)
        rows = np.asarray(ease.weights[:, taught] @ solve.T)
        self.map = (solve @ rows[taught]).astype(np.float32)
        self.rows = np.where(touched[:, None], rows, self.table @ self.map).astype(np.float32)

    def _read(self, vectors: np.ndarray) -> np.ndarray:
        """Return z of the unit vectors of texts."""
        known = np.where(np.isnan(vectors[:, :1]), np.nan, 1.0)
        return np.hstack([vectors - self.mean, known]).astype(np.float32)

    def _users(self, queries: Queries) -> np.ndarray:
        chosen = unit(summed(queries.matrix(self.config.repeats), self.rows))
        if queries.vectors is None:
            return chosen
        words = self._read(unit(queries.vectors.astype(np.float32))).astype(np.float64)
        return mixed(chosen, unit(words @ self.map), self.config.own_words)
