"""The torch module of a cross-encoder: a BERT that reads two texts at once and says one number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from nlp.batching import padded
from nlp.folder import WEIGHTS
from nlp.network import SAFE, quiet
from profiles.schema import ContractError

NEW = ("classifier.", "pooler.")  # what lies over the body, and begins at random where a model has none


class CrossNetwork(nn.Module):
    """A sequence classifier of one output."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, ids: Tensor, mask: Tensor, kinds: Tensor | None) -> Tensor:
        """Return (pairs,) float32 of (pairs, tokens); `kinds` says which text a token is of."""
        told = {} if kinds is None else {"token_type_ids": kinds}
        logits: Tensor = self.body(input_ids=ids, attention_mask=mask, **told).logits
        return logits[:, 0].float()

    def read(self, pairs: "Sequence[Pair]", pad: int) -> Tensor:
        """Return (pairs,) of tokenised pairs, on the module's device."""
        place = next(self.parameters()).device
        ids, mask = padded([pair[0] for pair in pairs], pad)
        kinds = None if pairs[0][1] is None else padded([pair[1] or [] for pair in pairs], 0)[0]
        parts = [None if part is None else torch.from_numpy(part).to(place) for part in (ids, mask, kinds)]
        found: Tensor = self(*parts)
        return found

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write what `load` reads into an open folder."""
        with quiet():
            self.body.save_pretrained(folder)
            tokenizer.save_pretrained(folder)


Pair = tuple[list[int], list[int] | None]  # token ids, and the text each is of where the model is told


def tokenize(tokenizer: Any, left: Sequence[str], right: Sequence[str], max_tokens: int) -> list[Pair]:
    """Return the tokens of each pair, at most `max_tokens`: the longer text is cut."""
    if not left:
        return []
    clean = [[text.encode("utf-8", "replace").decode() for text in side] for side in (left, right)]
    read = tokenizer(*clean, truncation="longest_first", max_length=max_tokens, verbose=False)
    kinds = read.get("token_type_ids") or [None] * len(left)
    return list(zip(read["input_ids"], kinds, strict=True))


def load(folder: Path, dtype: torch.dtype = torch.float32, begin: bool = False) -> tuple[Any, CrossNetwork]:
    """Return tokenizer and network of a folder, in eval mode; raises ContractError naming what fails.

    With `begin` the folder may be of any encoder: what lies over the body then begins at random.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **SAFE)
            body, report = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=1, use_safetensors=True, dtype=dtype, output_loading_info=True,
                ignore_mismatched_sizes=True, **SAFE,
            )  # fmt: skip
    except (OSError, ValueError, SafetensorError) as error:
        raise ContractError(f"{folder}: the cross-encoder does not load: {error}") from error
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    if begin:
        absent = {name for name in absent if not any(part in name for part in NEW)}
    if absent:
        raise ContractError(
            f"{folder}/{WEIGHTS}: {len(absent)} weights are missing or of another shape, {min(absent)} for "
            "one: this is no cross-encoder of one output; `attune rerank` makes one"
        )
    return tokenizer, CrossNetwork(body).to(dtype).eval()
