"""What fine-tuning hands to the gradient loop: pairs, texts with themselves, and how both are judged."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from nlp.coding import Coded
from nlp.contrastive import Loss, cosent, encoded, info_nce, matryoshka, regression
from nlp.layerwise import groups
from recsys import training
from recsys.training import Task

if TYPE_CHECKING:
    from torch import Tensor

    from nlp.finetune import FinetuneConfig
    from nlp.network import TextNetwork

MEMORY = ("batch_size", "chunk_tokens", "max_tokens")


class Reader:
    """A network over texts that were tokenised before: codes of texts in, vectors out."""

    def __init__(
        self, network: "TextNetwork", tokens: Sequence[list[int]], pad: int, chunk_tokens: int
    ) -> None:
        self.network = network
        self.tokens = tokens
        self.pad = pad
        self.chunk_tokens = chunk_tokens

    def __call__(self, codes: np.ndarray) -> "Tensor":
        """Return the (codes, d) vectors, not of length one; each distinct text is read once."""
        import torch

        place = next(self.network.parameters()).device
        distinct, back = np.unique(codes, return_inverse=True)
        made = encoded(
            self.network, [self.tokens[code] for code in distinct], self.pad, self.chunk_tokens, place
        )
        return made[torch.from_numpy(back).to(place)]

    def vectors(self, codes: np.ndarray, block: int = 4096) -> np.ndarray:
        """Return their unit vectors, without gradients."""
        import torch

        with torch.no_grad():
            parts = [
                self(codes[start : start + block]).cpu().numpy() for start in range(0, len(codes), block)
            ]
        made = np.concatenate(parts)
        unit: np.ndarray = made / np.linalg.norm(made, axis=1, keepdims=True)
        return unit


def pairs(
    read: Reader,
    learned: Coded,
    objective: str,
    config: "FinetuneConfig",
    key: str,
    judge: Callable[[], float] | None,
) -> Task:
    """Return the task of pairs: each left text near its right one, or in the order of the scores."""
    import torch

    def loss(rows: np.ndarray, random: np.random.Generator) -> "Tensor":
        columns = learned.right[rows]
        if objective == "info_nce":
            columns = np.concatenate([columns, learned.hard_negatives(rows, config.negatives, random)])
        made = read(np.concatenate([learned.left[rows], columns]))
        left, right = made[: len(rows)], made[len(rows) :]
        if objective == "info_nce":
            false = torch.from_numpy(learned.false_negatives(rows, columns)).to(made.device)
            of: Loss = partial(info_nce, false=false, temperature=config.temperature)
        else:
            assert learned.scores is not None
            scores = torch.from_numpy(learned.scores[rows]).to(made.device)
            graded = partial(cosent, scale=1 / config.temperature) if objective == "cosent" else regression
            of = partial(graded, scores=scores)
        return matryoshka(of, left, right, config.sizes)

    return _task(read, training.shuffled(len(learned.left), config.batch_size), loss, key, config, judge)


def simcse(read: Reader, texts: int, config: "FinetuneConfig", key: str) -> Task:
    """Return the task of knowing a text again under another dropout (Gao et al., EMNLP 2021)."""
    import torch

    def loss(rows: np.ndarray, _: np.random.Generator) -> "Tensor":
        false = torch.zeros(len(rows), len(rows), dtype=torch.bool)
        first, second = read(rows), read(rows)
        return info_nce(first, second, false.to(first.device), config.temperature)

    return _task(read, training.shuffled(texts, config.batch_size), loss, f"simcse {key}", config, None)


def _task(
    read: Reader,
    batches: Callable[[np.random.Generator], Sequence[np.ndarray]],
    loss: Callable[[np.ndarray, np.random.Generator], Any],
    key: str,
    config: "FinetuneConfig",
    judge: Callable[[], float] | None,
) -> Task:
    from nlp.encoder import bfloat16_is_fast

    return Task(
        read.network, batches, loss, key, judge, MEMORY, bfloat16_is_fast(),
        groups=groups(read.network, config.layer_decay, config.head_rate),
    )  # fmt: skip


def judged(read: Reader, pairs: Coded) -> float:
    """Return Spearman's correlation of cosines and scores; without scores, MRR@10 among the right texts."""
    left, right = read.vectors(pairs.left), read.vectors(pairs.right)
    return mrr(left, right, pairs) if pairs.scores is None else correlation(left, right, pairs)


def correlation(left: np.ndarray, right: np.ndarray, pairs: Coded) -> float:
    """Return Spearman's correlation of the unit vectors' cosines and the scores; 0 where one is constant."""
    found = spearmanr((left * right).sum(axis=1), pairs.scores).statistic
    return float(found) if np.isfinite(found) else 0.0


def mrr(left: np.ndarray, right: np.ndarray, pairs: Coded, k: int = 10, block: int = 512) -> float:
    """Return the mean of 1 / rank of each right text among the distinct ones, 0 past `k`.

    Others that are as right (`Coded.false_negatives`) are passed over; equal cosines count against it.
    """
    columns, first = np.unique(pairs.right, return_index=True)
    ranks = []
    for start in range(0, len(left), block):
        rows = np.arange(start, min(start + block, len(left)))
        scores = left[rows] @ right[first].T
        own = (left[rows] * right[rows]).sum(axis=1, keepdims=True)
        better = (scores >= own - 1e-6) & ~pairs.false_negatives(rows, columns)
        ranks.append(1 + better.sum(axis=1))
    rank = np.concatenate(ranks)
    return float(np.where(rank <= k, 1 / rank, 0).mean())
