"""Caser: convolutions over the newest few items (Tang & Wang, WSDM 2018)."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, PositiveInt

from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import Sampler
from recsys.sequences import SequenceConfig, Sequential
from recsys.space import Tuned
from recsys.training import TrainingConfig

if TYPE_CHECKING:
    from recsys.networks.sequence import Network


class CaserConfig(RecommenderConfig, SequenceConfig, TrainingConfig):
    window: Annotated[PositiveInt, Tuned(2, 10)] = Field(
        5, description="L: newest items that are looked at as an image"
    )
    horizontal: PositiveInt = Field(16, description="filters of each height from 1 to `window`")
    vertical: PositiveInt = Field(4, description="filters of one column's width")


class Caser(Sequential, Recommender):
    """score(i) = [z, p]'w_i + b_i, z = relu(W [horizontal max-pooled, vertical] + b) (eqs. 3 to 8).

    The paper's p is a trained vector of the user; here it is the mean vector of their items so far, so
    that people who were not in the training are answered too. The loss is cross-entropy over the whole
    catalogue for the next item (the paper's T = 1), where the paper draws negatives. Older items than
    `window` count through p alone; weights and times by their order only (see `Tokens.of`). Items that
    nobody did before or after another, and histories without learned items, are NaN.
    Training memory: batch_size × max_length × (window × (horizontal + factors) + vertical × factors) × 12
    bytes + items × factors × 48.
    """

    config_class = CaserConfig
    config: CaserConfig
    bfloat16 = True
    factors: np.ndarray  # (items, 2 d + 1) float32, the bias last; NaN rows for what was not learned

    def _build(self, counts: np.ndarray) -> "Network":
        from recsys.networks.caser import CaserNetwork
        from recsys.networks.sequence import Criterion

        c = self.config
        criterion = Criterion("cross_entropy", Sampler.uniform(len(counts)))
        return CaserNetwork(len(counts), c.factors, c.window, c.horizontal, c.vertical, c.dropout, criterion)
