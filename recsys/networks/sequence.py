"""What the sequence networks share: the batch they read and how their loss over positions is taken."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from recsys.networks import losses
from recsys.networks.layers import taken
from recsys.sampling import Sampler


@dataclass(frozen=True)
class Batch:
    """Rows of tokens, right-padded with 0; what lies at or past `lengths` means nothing."""

    tokens: Tensor  # (b, l) int64
    lengths: Tensor  # (b,) int64
    values: Tensor  # (b, l) float32: what a token weighs as a target

    @property
    def real(self) -> Tensor:
        """Which places hold tokens, (b, l) bool."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]


class Network(Protocol):
    """A sequence network: item table, loss of a batch, hidden state of whole histories."""

    items: nn.Embedding
    tied: bool  # whether the rows of `items` are the output table too
    per_item: tuple[str, ...]  # parameters with a row for each token

    def table(self) -> Tensor:
        """Return the output table, (n, d); with a bias its last column, matched by a 1 in `query`."""

    def query(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return what (b, l) histories ask for next, (b, d)."""

    def loss(self, batch: Batch, random: np.random.Generator) -> Tensor:
        """Return the mean loss of a batch."""


class Criterion:
    """How a hidden state is held against its target: full or sampled, as the configuration says.

    With `in_batch` the negatives are targets of the batch itself, and `sampler` gives their log q.
    """

    def __init__(
        self,
        kind: str,
        sampler: Sampler,
        negatives: int = 0,
        calibration: float = 0.0,
        in_batch: bool = False,
    ) -> None:
        self.kind = kind
        self.sampler = sampler
        self.negatives = negatives
        self.calibration = calibration
        self.in_batch = in_batch

    def __call__(
        self, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, random: np.random.Generator
    ) -> Tensor:
        """Return the mean over (m,) targets, weighted."""
        if self.kind == "cross_entropy":
            return losses.cross_entropy(hidden, table, targets, weights)
        drawn = self.drawn(targets, random)
        if self.kind == "gbce":
            return losses.gbce(hidden, table, targets, weights, drawn, self.calibration)
        log_q = torch.from_numpy(self.sampler.log_q).to(hidden.device)
        return losses.sampled_softmax(hidden, table, targets, weights, drawn, log_q)

    def drawn(self, targets: Tensor, random: np.random.Generator) -> Tensor:
        """Return the negatives of a batch, (k,)."""
        if self.in_batch:
            return targets[
                torch.from_numpy(random.integers(0, len(targets), self.negatives)).to(targets.device)
            ]
        return torch.from_numpy(self.sampler.draw(self.negatives, random)).to(targets.device)


class Causal(nn.Module):
    """A network that foretells each token from those before it.

    Its `forward` takes tokens (b, l) and lengths (b,), and gives the state after each token, (b, l, d).
    """

    def __init__(self, criterion: Criterion) -> None:
        super().__init__()
        self.criterion = criterion

    @abstractmethod
    def table(self) -> Tensor:
        """Return the output table, (n, d)."""

    def query(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the state after the newest token, (b, d)."""
        return last(self(tokens, lengths), lengths)

    def loss(self, batch: Batch, random: np.random.Generator) -> Tensor:
        """Return the loss of predicting every token from those before it."""
        inputs, real, targets, weights = shifted(batch)
        hidden = taken(self(inputs.tokens, inputs.lengths).flatten(0, 1), real.flatten().nonzero()[:, 0])
        return self.criterion(hidden, self.table(), targets, weights, random)


def shifted(batch: Batch) -> tuple[Batch, Tensor, Tensor, Tensor]:
    """Split a batch for causal training: the inputs, which places are real, their targets and weights."""
    inputs = Batch(batch.tokens[:, :-1], batch.lengths - 1, batch.values[:, :-1])
    real = inputs.real
    return inputs, real, batch.tokens[:, 1:][real], batch.values[:, 1:][real]


def last(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return the hidden state of each row's last token, (b, d)."""
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]


def embedding(rows: int, factors: int) -> nn.Embedding:
    """Return an item table that begins small, as in BERT: logits begin near 0."""
    table = nn.Embedding(rows, factors)
    nn.init.normal_(table.weight, std=0.02)
    return table
