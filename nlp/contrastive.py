"""Losses over vectors of pairs of texts, and a batch of any size in the memory of a small one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nlp.batching import by_length, padded

Loss = Callable[[Tensor, Tensor], Tensor]  # of (b, d) left and (m, d) right vectors, of any length


def encoded(
    network: Callable[[Tensor, Tensor], Tensor],
    tokens: Sequence[list[int]],
    pad: int,
    chunk_tokens: int,
    place: torch.device,
) -> Tensor:
    """Return the (texts, d) vectors of a batch, made in chunks of like length that hold `chunk_tokens`.

    With more than one chunk, each is run again, dropout and all, when its gradient is asked for: only one
    chunk's states are in memory at a time, and the gradient is that of the whole batch. (Gao et al., RepL4NLP
    2021, "gradient caching"; the recomputing is torch's own, Chen et al. 2016.)
    """
    chunks = list(by_length([len(text) for text in tokens], chunk_tokens, len(tokens)))
    parts = []
    for chunk in chunks:
        ids, mask = (torch.from_numpy(p).to(place) for p in padded([tokens[row] for row in chunk], pad))
        whole = len(chunks) == 1 or not torch.is_grad_enabled()
        made: Any = network(ids, mask) if whole else checkpoint(network, ids, mask, use_reentrant=False)
        parts.append(made.float())
    order = torch.from_numpy(np.argsort(np.concatenate(chunks))).to(place)
    return torch.cat(parts)[order]


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Return the (b, m) cosines of all left with all right vectors."""
    return functional.normalize(left, dim=1) @ functional.normalize(right, dim=1).T


def info_nce(left: Tensor, right: Tensor, false: Tensor, temperature: float) -> Tensor:
    """Return the mean of -log softmax(cos(l_i, r_j) / temperature)[i], both ways (van den Oord et al. 2018).

    Row i of `right` belongs to row i of `left`; rows past those are negatives of all. `false` (b, m) marks
    what is no negative of i, because it is as right as r_i; the pair itself is never left out.
    """
    b = len(left)
    own = torch.eye(b, len(right), dtype=torch.bool, device=left.device)
    logits = (cosines(left, right) / temperature).masked_fill(false & ~own, -torch.inf)
    target = torch.arange(b, device=left.device)
    across = functional.cross_entropy(logits, target)
    return (across + functional.cross_entropy(logits[:, :b].T, target)) / 2


def cosent(left: Tensor, right: Tensor, scores: Tensor, scale: float) -> Tensor:
    """Return log(1 + sum over s_i > s_j of exp(scale (cos_j - cos_i))) (Su 2022, "CoSENT").

    Only the order of the (b,) scores counts, and every pair is held against every other of the batch.
    """
    cosine = functional.cosine_similarity(left, right) * scale
    above = scores[:, None] > scores[None, :]  # i above j
    wrong = (cosine[None, :] - cosine[:, None])[above]
    return torch.logsumexp(functional.pad(wrong, (1, 0)), 0)


def regression(left: Tensor, right: Tensor, scores: Tensor) -> Tensor:
    """Return the mean squared difference of the pairs' cosines and their scores."""
    return functional.mse_loss(functional.cosine_similarity(left, right), scores)


def matryoshka(loss: Loss, left: Tensor, right: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the mean of a loss over vectors cut to each of `sizes`, and whole (Kusupati et al., 2022)."""
    cuts = [*sizes, left.shape[1]]
    return torch.stack([loss(left[:, :size], right[:, :size]) for size in cuts]).mean()
