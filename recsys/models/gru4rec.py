"""GRU4Rec: a recurrent state along a history (Hidasi et al., ICLR 2016; Hidasi & Karatzoglou, CIKM 2018)."""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import Sampler
from recsys.sequences import SequenceConfig, Sequential
from recsys.training import TrainingConfig

if TYPE_CHECKING:
    from recsys.networks.sequence import Network


class GRU4RecConfig(RecommenderConfig, SequenceConfig, TrainingConfig):
    layers: PositiveInt = Field(1, description="recurrent layers, one on the other")
    clip: PositiveFloat | None = Field(1.0, description="gradients of a larger norm are scaled down to it")


class GRU4Rec(Sequential, Recommender):
    """score(i) = h_t'e_i + b_i, h_t = GRU(h_(t-1), e of the t-th token): the state after the newest.

    Item vectors serve as input and output (the papers' constrained embedding) and the loss is
    cross-entropy over the whole catalogue at every place, where the papers sample. Whole histories of
    users are read rather than sessions; weights and times count by their order only (see `Tokens.of`).
    Items that nobody did before or after another, and histories without learned items, are NaN.
    Training memory: batch_size × max_length × factors × layers × 40 bytes + items × factors × 16.
    """

    config_class = GRU4RecConfig
    config: GRU4RecConfig
    bfloat16 = True
    factors: np.ndarray  # (items, d + 1) float32, the bias last; NaN rows for items that were not learned

    def _build(self, counts: np.ndarray) -> "Network":
        from recsys.networks.gru4rec import GRU4RecNetwork
        from recsys.networks.sequence import Criterion

        c = self.config
        criterion = Criterion("cross_entropy", Sampler.uniform(len(counts)))
        return GRU4RecNetwork(len(counts), c.factors, c.layers, c.dropout, criterion)
