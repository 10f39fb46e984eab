"""BERT4Rec: attention in both directions over a history (Sun et al., CIKM 2019)."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, PositiveInt

from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import Sampler
from recsys.sequences import AttentionConfig, SequenceConfig, Sequential
from recsys.space import Tuned
from recsys.training import TrainingConfig

if TYPE_CHECKING:
    from recsys.networks.sequence import Network


class BERT4RecConfig(RecommenderConfig, SequenceConfig, AttentionConfig, TrainingConfig):
    heads: PositiveInt = Field(2, description="attentions side by side; they divide `factors`")
    masked: Annotated[float, Tuned(0.1, 0.6)] = Field(
        0.2, gt=0, lt=1, description="share of the places to fill in while training"
    )
    epochs: PositiveInt = Field(200, description="passes over the examples, at most: it learns slowly")


class BERT4Rec(Sequential, Recommender):
    """score(i) = norm(gelu(W h + b))'e_i + b_i, h the last layer's state of a mask after the newest item.

    Trained to fill in masked places from both sides (eqs. 7 and 8), so it needs many more epochs than
    what learns from every place at once. A tenth of the rows mask their newest item alone, as the
    question does. Weights and times count by their order only (see `Tokens.of`). Items that nobody did
    before or after another, and histories without learned items, are NaN.
    Training memory: batch_size × max_length × factors × blocks × 90 bytes + items × factors × 16.
    """

    config_class = BERT4RecConfig
    config: BERT4RecConfig
    bfloat16 = True
    factors: np.ndarray  # (items, d + 1) float32, the bias last; NaN rows for items that were not learned

    def _build(self, counts: np.ndarray) -> "Network":
        from recsys.networks.bert4rec import BERT4RecNetwork
        from recsys.networks.sequence import Criterion

        c = self.config
        criterion = Criterion("cross_entropy", Sampler.uniform(len(counts)))
        return BERT4RecNetwork(
            len(counts), c.factors, c.max_length, c.blocks, c.heads, c.masked, c.dropout, criterion
        )
