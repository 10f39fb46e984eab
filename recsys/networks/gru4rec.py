"""The network of GRU4Rec: a recurrent state carried along a history."""

import numpy as np
import torch
from torch import Tensor, nn

from recsys.networks.layers import Dropout
from recsys.networks.sequence import Batch, Criterion, embedding, last, shifted


class GRU4RecNetwork(nn.Module):
    """Right-padded rows: a recurrent state never sees what comes after, so padding does not reach it."""

    tied = True
    per_item: tuple[str, ...] = ("items.weight", "bias")

    def __init__(self, items: int, factors: int, layers: int, dropout: float, criterion: Criterion) -> None:
        super().__init__()
        self.items = embedding(items, factors)
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(factors, factors, layers, batch_first=True, dropout=between)
        self.dropout = Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(items))
        self.criterion = criterion

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the state after each token with a 1 for the bias, (b, l, d + 1)."""
        hidden, _ = self.gru(self.dropout(self.items(tokens).to(self.bias.dtype)))
        return torch.cat([self.dropout(hidden), hidden.new_ones(*hidden.shape[:2], 1)], 2)

    def table(self) -> Tensor:
        """Return item vectors, the bias their last column, (n, d + 1)."""
        return torch.cat([self.items.weight, self.bias[:, None]], 1)

    def query(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the state after the newest token, (b, d + 1)."""
        return last(self(tokens), lengths)

    def loss(self, batch: Batch, random: np.random.Generator) -> Tensor:
        """Return the loss of predicting every token from those before it."""
        inputs, real, targets, weights = shifted(batch)
        return self.criterion(self(inputs.tokens)[real], self.table(), targets, weights, random)
