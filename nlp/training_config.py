"""Settings of the gradient loop as a BERT learns by them, whatever it learns."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat


class BertDefaults(BaseModel):
    """Hyperparameters of the loop, mixed in before its own: their defaults are those of a BERT."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="how the step size falls")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of all steps over which the rate rises")
    weight_decay: float = Field(0.01, ge=0, description="pull of matrices towards 0 a step; biases have none")
    clip: PositiveFloat | None = Field(1.0, description="gradients of a larger norm are scaled down to it")
