"""BERT4Rec: attention in both directions over a history (Sun et al., CIKM 2019)."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from recsys import sequences
from recsys.dataset import Dataset, Queries
from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import Sampler
from recsys.sequences import SequenceConfig
from recsys.training import TrainingConfig

if TYPE_CHECKING:
    from recsys.networks.sequence import Network


class BERT4RecConfig(RecommenderConfig, SequenceConfig, TrainingConfig):
    blocks: PositiveInt = Field(2, description="layers of attention")
    heads: PositiveInt = Field(2, description="attentions side by side; they divide `factors`")
    masked: float = Field(0.2, gt=0, lt=1, description="share of the places to fill in while training")
    epochs: PositiveInt = Field(200, description="passes over the examples, at most: it learns slowly")

    @model_validator(mode="after")
    def _heads_divide(self) -> "BERT4RecConfig":
        if self.factors % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide factors = {self.factors}")
        return self


class BERT4Rec(Recommender):
    """score(i) = norm(gelu(W h + b))'e_i + b_i, h the last layer's state of a mask after the newest item.

    Trained to fill in masked places from both sides (eqs. 7 and 8), so it needs many more epochs than
    what learns from every place at once. A tenth of the rows mask their newest item alone, as the
    question does. Weights and times count by their order only (see `Tokens.of`). Items that nobody did
    before or after another, and histories without learned items, are NaN.
    Training memory: batch_size × max_length × factors × blocks × 90 bytes + items × factors × 16.
    """

    config_class = BERT4RecConfig
    cost = "gradient"
    needs = "order"
    config: BERT4RecConfig
    state = ("factors", "weights")
    factors: np.ndarray  # (items, d + 1) float32, the bias last; NaN rows for items that were not learned
    weights: dict[str, np.ndarray]

    def _build(self, counts: np.ndarray) -> "Network":
        from recsys.networks.bert4rec import BERT4RecNetwork
        from recsys.networks.sequence import Criterion

        c = self.config
        criterion = Criterion("cross_entropy", Sampler.uniform(len(counts)))
        return BERT4RecNetwork(
            len(counts), c.factors, c.max_length, c.blocks, c.heads, c.masked, c.dropout, criterion
        )

    @cached_property
    def _network(self) -> "Network":
        return sequences.network_of(self.factors, self.weights, self._build)

    def _fit(self, train: Dataset) -> None:
        self.__dict__.pop("_network", None)
        c = self.config
        fitted = sequences.fit(train, c.repeats, c, c, self._build, bfloat16=True)
        self.factors, self.weights = fitted.factors, fitted.weights

    def _score(self, queries: Queries, items: np.ndarray | None) -> np.ndarray:
        c = self.config
        return sequences.score(queries, items, c.repeats, self.factors, lambda: self._network, c.max_length)
