"""SASRec: self-attention over the order of a history (Kang & McAuley, ICDM 2018)."""

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from recsys.recommender import Recommender, RecommenderConfig
from recsys.sampling import Negatives, sampler
from recsys.sequences import AttentionConfig, SequenceConfig, Sequential
from recsys.space import Tuned
from recsys.training import TrainingConfig

if TYPE_CHECKING:
    from recsys.networks.sequence import Network


class SASRecConfig(RecommenderConfig, SequenceConfig, AttentionConfig, TrainingConfig):
    width: PositiveInt | None = Field(
        None, description="hidden values between the two layers of a block's network; none: `factors`"
    )
    block: Literal["pre_norm", "ligr"] = Field(
        "pre_norm",
        description="of SASRec, or eSASRec's: LiGR's gates and a SwiGLU network, `width` 4 x factors",
    )
    loss: Literal["cross_entropy", "sampled_softmax", "gbce"] = Field(
        "cross_entropy", description="over the whole catalogue, or over the target and drawn negatives"
    )
    negatives: PositiveInt = Field(256, description="items drawn a batch, for the two sampled losses")
    negatives_from: Negatives | Literal["batch"] = Field(
        "uniform", description="uniform, popularity, or batch: the targets of other places"
    )
    calibration: float = Field(0.75, ge=0, le=1, description="t of gBCE; 0: plain binary cross-entropy")
    temperature: Annotated[PositiveFloat | None, Tuned(among=(None, 0.05, 0.07, 0.1, 0.15))] = Field(
        None, description="scores are cosines over this, as 0.07; none: plain products, not bound in length"
    )


class SASRec(Sequential, Recommender):
    """score(i) = h_t'e_i, h_t the last state of `blocks` causal attention layers over the newest tokens.

    Trained with cross-entropy over the whole catalogue at every position, which is what makes it strong
    (Klenitskiy & Vasilev, RecSys 2023, "SASRec+"); gBCE is gSASRec (Petrov & Macdonald, RecSys 2023);
    sampled softmax over LiGR's blocks is eSASRec (Tikhonovich et al., RecSys 2025).
    With a `temperature` h_t and e_i are of unit length and the logits cosines over it, which learns sparse
    catalogues in fewer epochs (Wu et al., TOIS 2024, on the softmax loss).
    Attention itself has no dropout: a kernel that stores no weights, as on a GPU, allows none.
    Weights and times are not read but through their order (see `Tokens.of` for repeats); an item that
    nobody did before or after another, and a history without learned items, are NaN.
    Training memory: batch_size × max_length × (factors × 60 + max_length × heads × 8) × blocks bytes
    + items × factors × 16.
    """

    config_class = SASRecConfig
    config: SASRecConfig
    bfloat16 = True
    factors: np.ndarray  # (items, d) float32; NaN rows for items that were not learned

    def _build(self, counts: np.ndarray) -> "Network":
        from recsys.networks.sasrec import SASRecNetwork
        from recsys.networks.sequence import Criterion

        c = self.config
        in_batch = c.negatives_from == "batch"
        drawn_from = sampler("uniform" if c.negatives_from == "uniform" else "popularity", counts)
        criterion = Criterion(c.loss, drawn_from, c.negatives, c.calibration, in_batch)
        width = c.width or c.factors
        return SASRecNetwork(
            len(counts),
            c.factors,
            c.max_length,
            c.blocks,
            c.heads,
            width,
            c.dropout,
            criterion,
            c.temperature,
            c.block,
        )
