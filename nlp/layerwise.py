"""Which weights of an encoder learn, and how fast: all, by layer, the head alone, or low-rank additions."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from profiles.schema import ContractError
from recsys.optimizing import Group

if TYPE_CHECKING:
    import torch

    from nlp.network import TextNetwork

LAYER = re.compile(r"\.layers?\.(\d+)\.")  # of BERT, RoBERTa, DistilBERT, ModernBERT


def groups(
    module: "torch.nn.Module", layer_decay: float = 1.0, head_rate: float = 1.0, head: Sequence[str] = ()
) -> list[Group]:
    """Return the parameters that learn, by their factor of the rate; biases and scales do not decay.

    A layer learns `layer_decay` times as fast as the one over it, the embeddings slowest (Howard and Ruder,
    ACL 2018); what lies outside `body.`, or has one of `head` in its name, `head_rate` times as fast as the
    top layer.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    depths = {name: int(found[1]) for name in named if (found := LAYER.search(name))}
    top = max(depths.values(), default=-1)
    by_factors: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in named.items():
        if name.startswith("body.") and not any(part in name for part in head):
            below = "embedding" in name.lower()
            depth = depths.get(name, -1 if below else top)
            rate = layer_decay ** (top - depth)
        else:
            rate = head_rate
        by_factors.setdefault((rate, float(parameter.ndim > 1)), []).append(parameter)
    return [Group(parameters, rate, decay) for (rate, decay), parameters in by_factors.items()]


def freeze_body(network: "TextNetwork") -> None:
    """Let only the head learn."""
    if not network.head():
        raise ContractError(
            'method = "head" learns only what lies over the model, and there is nothing: set projection or '
            'pooling = "attention"'
        )
    network.body.requires_grad_(False)


def add_lora(network: "TextNetwork", rank: int) -> None:
    """Freeze the body and add to each linear layer a product of two thin matrices (Hu et al., ICLR 2022)."""
    try:
        import peft
    except ImportError:
        raise ContractError('method = "lora" needs peft: pip install "attune[text]"') from None
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    network.body = peft.get_peft_model(network.body, config)


def merge_lora(network: "TextNetwork") -> None:
    """Put what LoRA learned into the weights themselves; nothing where there is none."""
    if hasattr(network.body, "merge_and_unload"):
        network.body = network.body.merge_and_unload()
