"""The torch module behind a text encoder: a BERT-like body, pooled (Reimers and Gurevych, EMNLP 2019)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.utils import logging as loud

from nlp.folder import HEAD, RECIPE, WEIGHTS, Recipe, recipe_of
from profiles.schema import ContractError

SAFE = {"local_files_only": True, "trust_remote_code": False}


class TextNetwork(nn.Module):
    """One vector of a text: the states of its tokens pooled, then perhaps mapped to another length."""

    def __init__(self, body: Any, recipe: Recipe) -> None:
        super().__init__()
        self.body = body
        self.recipe = recipe
        width = int(self.body.config.hidden_size)
        if recipe.pooling == "attention":
            self.attention = nn.Linear(width, 1, bias=False)
            nn.init.zeros_(self.attention.weight)  # begins as the mean
        if recipe.projection is not None:
            self.projection = nn.Linear(width, recipe.projection, bias=False)
            nn.init.orthogonal_(self.projection.weight)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (texts, d) vectors, not of length one yet, of (texts, tokens) ids; `mask`: 1 where real."""
        full = bool(mask.all())  # attention without a mask is faster
        states = self.body(input_ids=ids, attention_mask=None if full else mask).last_hidden_state
        return self.pool(states, mask)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the (texts, d) vectors of (texts, tokens, width) states."""
        pooled = self._pooled(states, mask)
        return self.projection(pooled) if self.recipe.projection else pooled

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.recipe.pooling == "cls":
            return states[:, 0]
        weights = mask.float()  # (texts, tokens); a mean of bfloat16 is taken in float32
        if self.recipe.pooling == "attention":
            logits = self.attention(states).squeeze(-1).float()
            weights = logits.masked_fill(mask == 0, -torch.inf).softmax(1)
        mean = (states.float() * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
        return mean.to(states.dtype) if self.recipe.projection else mean

    def head(self) -> dict[str, Tensor]:
        """Return the weights over the body by name."""
        return {n: v for n, v in self.state_dict().items() if not n.startswith("body.")}

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write what `load` reads into an open folder."""
        with quiet():
            self.body.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        if head := self.head():
            save_file({name: value.contiguous() for name, value in head.items()}, folder / HEAD)
        (folder / RECIPE).write_text(self.recipe.model_dump_json(indent=2) + "\n", "utf-8")


def load(folder: Path, recipe: Recipe, dtype: torch.dtype = torch.float32) -> tuple[Any, TextNetwork]:
    """Return tokenizer and network of a folder, in eval mode; raises ContractError naming what fails."""
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **SAFE)
            body, report = AutoModel.from_pretrained(
                folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **SAFE
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise ContractError(f"{folder}: the text encoder does not load: {error}") from error
    # A layer that is not in the file starts at random: other vectors each run. The pooler is not used.
    if absent := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
        raise ContractError(f"{folder}/{WEIGHTS}: {len(absent)} weights are missing, {absent[0]} for one")
    network = TextNetwork(body, recipe)
    if wanted := network.head():
        try:
            found = load_file(folder / HEAD)
            network.load_state_dict({name: found[name] for name in wanted}, strict=False)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise ContractError(f"{folder}/{HEAD}: the weights over the model do not load: {error}") from None
    return tokenizer, network.to(dtype).eval()


def begin(folder: Path, recipe: Recipe) -> tuple[Any, TextNetwork]:
    """Return tokenizer and network to go on learning from; what of the head the folder lacks begins anew."""
    kept = recipe_of(folder)
    tokenizer, loaded = load(folder, kept)
    network = TextNetwork(loaded.body, recipe)
    known = {
        n: v for n, v in loaded.head().items() if n in network.head() and v.shape == network.head()[n].shape
    }
    network.load_state_dict(known, strict=False)
    for name, parameter in network.body.named_parameters():
        if name.startswith("pooler."):  # BERT's own, which is not used
            parameter.requires_grad_(False)
    return tokenizer, network


def eager(network: TextNetwork) -> TextNetwork:
    """Let the body attend by plain products, which ONNX has; changes the network given."""
    network.body.set_attn_implementation("eager")
    return network


@contextmanager
def masks_without_lookups() -> Iterator[None]:
    """Let eager attention's masks be made without indices, as a graph that is traced to ONNX wants them.

    transformers looks the padding up by index, of which ONNX makes a Gather that is wrong for negative ones.
    """
    ALL_MASK_ATTENTION_FUNCTIONS["eager"] = _additive
    try:
        yield
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS.pop("eager")  # what was put over that of the library


def _additive(
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., Tensor],
    attention_mask: Tensor,
    dtype: torch.dtype,
    device: torch.device,
    **_: Any,
) -> Tensor:
    """Return 0 where a token sees another, the least there is where not: (texts, 1, 1 or tokens, tokens)."""
    first = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=device)
    seeing = torch.arange(q_length, device=device)[None, None, :, None]
    seen = torch.arange(kv_length, device=device)[None, None, None, :]
    sees = mask_function(first, first, seeing, seen) & attention_mask[:, None, None, :].bool()
    return torch.where(sees, torch.zeros((), dtype=dtype, device=device), torch.finfo(dtype).min)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing bars and reports while a model is loaded or saved."""
    logging: Any = loud  # parts of it are not typed
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
