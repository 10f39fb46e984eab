"""The network of GRU4Rec: a recurrent state carried along a history."""

import torch
from torch import Tensor, nn

from recsys.networks.layers import Dropout
from recsys.networks.sequence import Causal, Criterion, embedding


class GRU4RecNetwork(Causal):
    """Right-padded rows: a recurrent state never sees what comes after, so padding does not reach it."""

    tied = True
    per_item: tuple[str, ...] = ("items.weight", "bias")

    def __init__(self, items: int, factors: int, layers: int, dropout: float, criterion: Criterion) -> None:
        super().__init__(criterion)
        self.items = embedding(items, factors)
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(factors, factors, layers, batch_first=True, dropout=between)
        self.dropout = Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(items))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the state after each token with a 1 for the bias, (b, l, d + 1)."""
        hidden, _ = self.gru(self.dropout(self.items(tokens).to(self.bias.dtype)))
        return torch.cat([self.dropout(hidden), hidden.new_ones(*hidden.shape[:2], 1)], 2)

    def table(self) -> Tensor:
        """Return item vectors, the bias their last column, (n, d + 1)."""
        return torch.cat([self.items.weight, self.bias[:, None]], 1)
