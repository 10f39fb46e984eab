"""The optimiser of a fit, and parameters with factors of their own for learning rate and weight decay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from recsys.training import TrainingConfig

MOMENTUM = 0.9
BETAS = (MOMENTUM, 0.98)  # of AdamW, as in Kang & McAuley 2018 and after


@dataclass(frozen=True)
class Group:
    """Parameters that share their factors: layers near the text learn slower, a fresh head faster."""

    parameters: "Sequence[torch.nn.Parameter]"
    rate: float = 1.0  # times the learning rate
    decay: float = 1.0  # times the weight decay; 0 for biases and the scales of a LayerNorm


def optimizer(
    module: "torch.nn.Module", groups: Sequence[Group], config: "TrainingConfig"
) -> "torch.optim.Optimizer":
    """Return the optimiser of what learns in `module`; each group of it keeps its `factor` of the rate.

    Without groups all is one. Raises ValueError unless each parameter that learns is in just one.
    """
    import torch

    learning = [p for p in module.parameters() if p.requires_grad]
    grouped = [id(p) for group in groups for p in group.parameters]
    if groups and sorted(grouped) != sorted(map(id, learning)):
        raise ValueError(f"the groups hold {len(grouped)} parameters, not the {len(learning)} that learn")
    rate, decay = config.learning_rate, config.weight_decay
    settings = [
        {"params": list(g.parameters), "lr": rate * g.rate, "weight_decay": decay * g.decay, "factor": g.rate}
        for g in groups or [Group(learning)]
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(settings, rate, BETAS, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, rate, config.momentum)
    return torch.optim.Adagrad(settings, rate)
