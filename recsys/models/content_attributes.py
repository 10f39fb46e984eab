"""Content by attributes: items of the brands, prices and whatever else those chosen have (TF-IDF)."""

from typing import Annotated

from pydantic import Field, PositiveInt

from recsys.dataset import Dataset
from recsys.decay import FadingConfig, refuse_timeless
from recsys.labels import Labelled, able, incidence, labels
from recsys.recommender import NotApplicableError, Recommender, RecommenderConfig
from recsys.space import Tuned


class ContentAttributesConfig(RecommenderConfig, FadingConfig):
    attributes: tuple[str, ...] = Field(
        (), description="names of the attributes that are read; none: all but ids, titles, texts and times"
    )
    bands: Annotated[PositiveInt, Tuned(2, 20, log=True)] = Field(
        5, description="parts of equally many items that the values of a number fall into"
    )


class ContentAttributes(Labelled, Recommender):
    """score(u, i) = cos(q_u, v_i), q_u = sum over j in u's history of x_uj 0.5^(age_uj / half-life) v_j.

    v_i is the unit TF-IDF of i's labels: a value of an attribute, each of a list's, the band of a number
    (Salton & Buckley, IP&M 1988; idf = ln((1 + items) / (1 + items with it)) + 1). New items rank from
    their attributes alone; nothing is learned from who else liked them, and bands next to each other are
    as strange as any. Items without attributes, or without one in common with the history, are NaN.
    Memory: labels of all items × 16 bytes.
    """

    config_class = ContentAttributesConfig
    needs = "attributes"
    config: ContentAttributesConfig

    def _fit(self, train: Dataset) -> None:
        refuse_timeless(train, self.config.half_life_days)
        asked = self.config.attributes or able(train.catalogue)
        found = labels(train.catalogue, asked, self.config.bands)
        if not len(found):
            raise NotApplicableError(
                "no item has an attribute; map `brand`, `price` or `attributes` of the items"
            )
        self._describe(incidence(found, len(train.items)))
