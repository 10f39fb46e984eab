"""Content by text: items whose words lie near the user's words and choices."""

from typing import Annotated

import numpy as np
from pydantic import Field

from recsys.dataset import Dataset, Queries
from recsys.decay import FadingConfig, decayed, refuse_timeless
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig
from recsys.space import Tuned
from recsys.vectors import history_vectors, mixed, unit


class ContentTextConfig(RecommenderConfig, FadingConfig):
    own_words: Annotated[float, Tuned(0, 1)] = Field(
        0.5, ge=0, le=1, description="share of the user's own texts against the texts of what they chose"
    )
    centred: Annotated[bool, Tuned()] = Field(
        False, description="whether what all items' texts have in common is taken away first, their mean"
    )


class ContentText(Recommender):
    """score(u, i) = cos(q_u, v_i), q_u = (1 - a) mean of v over u's history + a u's own text vector.

    In the mean a choice weighs x_uj 0.5^(age_uj / half-life); the own text vector is taken as it comes.
    Both parts have unit norm before they mix; where one is missing the other stands alone, and where
    both are missing it cannot say (NaN), as for an item without text. Vectors come with the dataset.
    New items rank from their text alone; nothing is learned from who else liked them. `centred`: v and the
    own text are unit vectors less the mean of the items', scaled anew: texts of one kind lie near their
    mean, and a long history nearer still, so that everybody gets what is near it (Mu & Viswanath, ICLR 2018).
    """

    config_class = ContentTextConfig
    cost = "counting"
    needs = "texts"
    config: ContentTextConfig
    state = ("vectors", "mean")
    products = "vectors"
    reads_text = True
    vectors: np.ndarray  # (items, d) float32, unit norm; NaN rows where an item has no text
    mean: np.ndarray  # (d,) float32: what is taken away; zeros where not `centred`

    def _fit(self, train: Dataset) -> None:
        refuse_timeless(train, self.config.half_life_days)
        if train.vectors is None or np.isnan(train.vectors).all():
            raise NotApplicableError("no item has a text; map `text` or `title` of the items")
        vectors = unit(train.vectors.astype(np.float32))
        self.mean = np.nanmean(vectors, axis=0) if self.config.centred else np.zeros_like(vectors[0])
        self.vectors = self._turned(vectors)

    def _turned(self, vectors: np.ndarray) -> np.ndarray:
        return unit(vectors - self.mean) if self.config.centred else vectors

    def _users(self, queries: Queries) -> np.ndarray:
        past = decayed(queries, self.config.repeats, self.config.half_life_days)
        chosen = history_vectors(past, self.vectors)
        written = np.full_like(chosen, np.nan)
        if queries.vectors is not None:
            written = self._turned(unit(queries.vectors.astype(np.float32)))
        return mixed(chosen, written, self.config.own_words)
