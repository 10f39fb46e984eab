"""Masked language modelling: foretell hidden tokens from those around them (Devlin et al., NAACL 2019)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nlp.batching import by_length, padded
from nlp.layerwise import groups
from recsys.training import Task

HIDDEN = 0.15  # of the tokens by which a module is judged
POOL = 64  # batches that are drawn together and sorted by length


class MaskedLanguage(nn.Module):
    """A body with BERT's head over it: a layer, then the scores of all tokens by their own embeddings."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        width = int(body.config.hidden_size)
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(int(body.config.vocab_size)))

    def forward(self, ids: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        """Return the (m, vocabulary) logits at the (texts, tokens) places that are `hidden`, m of them."""
        states = self.body(input_ids=ids, attention_mask=mask).last_hidden_state[hidden]
        states = self.norm(functional.gelu(self.dense(states)))
        return functional.linear(states, self.body.get_input_embeddings().weight, self.bias)


def hide(
    ids: np.ndarray, may: np.ndarray, share: float, mask: int, vocabulary: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids with `share` of the places that `may` be hidden, and which they are, at least one a text.

    Of those, 80 % become the mask, 10 % another token, 10 % stay.
    """
    drawn = np.where(may, random.random(ids.shape), 2)
    hidden = drawn < share
    least = drawn.argmin(axis=1)
    some = np.arange(len(ids)), least
    hidden[some] |= drawn[some] < 1
    how = random.random(ids.shape)
    changed = np.where(hidden & (how < 0.8), mask, ids)
    others = random.integers(0, vocabulary, ids.shape)
    return np.where(hidden & (how >= 0.8) & (how < 0.9), others, changed), hidden


def bits_saved(
    module: MaskedLanguage, tokenizer: Any, texts: Sequence[str], max_tokens: int, alphabet: int
) -> float:
    """Return by how many bits a character hidden tokens are foretold better than by spelling them evenly.

    Of each text the same HIDDEN share is hidden every time. Evenly spelled, a character of `alphabet` takes
    log2 of it, and so it does in a word that the tokenizer has no pieces for: figures of different
    vocabularies compare. Larger is better.
    """
    plain = math.log2(max(alphabet, 2))
    random, place = np.random.default_rng(0), module.bias.device
    read = tokenizer(list(texts), truncation=True, max_length=max_tokens, return_offsets_mapping=True)
    special, unknown = sorted(tokenizer.all_special_ids), tokenizer.unk_token_id
    saved = characters = 0.0
    lengths = np.array([len(ids) for ids in read["input_ids"]])
    with torch.no_grad():
        for rows in by_length(lengths, 4096, 64):
            ids, real = padded([read["input_ids"][row] for row in rows], tokenizer.pad_token_id)
            spans = [[end - start for start, end in read["offset_mapping"][row]] for row in rows]
            may = real.astype(bool) & (~np.isin(ids, special) | (ids == unknown))
            hidden = may & (random.random(ids.shape) < HIDDEN)
            if not hidden.any():
                continue
            changed = np.where(hidden, tokenizer.mask_token_id, ids)
            logits = module(*(torch.from_numpy(part).to(place) for part in (changed, real, hidden)))
            truth, spelled = ids[hidden], padded(spans, 0)[0][hidden] * plain
            foretold = torch.from_numpy(truth).to(place)
            nats = functional.cross_entropy(logits.float(), foretold, reduction="none").cpu().numpy()
            saved += float(np.where(truth == unknown, 0, spelled - nats / math.log(2)).sum())
            characters += float(spelled.sum()) / plain
    return saved / characters if characters else 0.0


def mlm(
    module: MaskedLanguage,
    tokens: Sequence[list[int]],
    tokenizer: Any,
    batch_size: int,
    share: float,
    key: str,
    bfloat16: bool,
    layer_decay: float = 1.0,
    head_rate: float = 1.0,
) -> Task:
    """Return the task over texts of tokens; a batch holds texts of like length, so little is padding."""
    pad, mask, special = tokenizer.pad_token_id, tokenizer.mask_token_id, sorted(tokenizer.all_special_ids)
    lengths = np.array([len(text) for text in tokens])

    def batches(random: np.random.Generator) -> Sequence[np.ndarray]:
        order = random.permutation(len(tokens))
        pools = [
            order[start : start + POOL * batch_size] for start in range(0, len(order), POOL * batch_size)
        ]
        made = [p[rows] for p in pools for rows in by_length(lengths[p], 2**62, batch_size)]
        return [made[place] for place in random.permutation(len(made))]

    def loss(rows: np.ndarray, random: np.random.Generator) -> Tensor:
        ids, real = padded([tokens[row] for row in rows], pad)
        changed, hidden = hide(ids, ~np.isin(ids, special), share, mask, module.bias.numel(), random)
        place = module.bias.device
        inputs = (torch.from_numpy(part).to(place) for part in (changed, real, hidden))
        logits = module(*inputs)
        return functional.cross_entropy(logits.float(), torch.from_numpy(ids[hidden]).to(place))

    weight: Callable[[np.ndarray], float] = lambda rows: float(lengths[rows].sum())  # noqa: E731
    return Task(
        module, batches, loss, f"mlm {key}", None, ("batch_size", "max_tokens"), bfloat16, weight,
        groups(module, layer_decay, head_rate),
    )  # fmt: skip
