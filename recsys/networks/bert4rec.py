"""The network of BERT4Rec: attention in both directions, taught to fill in what was masked."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.networks.layers import Dropout, attended
from recsys.networks.sequence import Batch, Criterion, embedding, last


class Block(nn.Module):
    """norm(x + drop(attention x)), then norm(x + drop(ffn x)) with GELU: section 3.3 of the paper."""

    def __init__(self, factors: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(factors, 3 * factors)
        self.mix = nn.Linear(factors, factors)
        self.norm = nn.LayerNorm(factors)
        self.widen = nn.Linear(factors, 4 * factors)
        self.narrow = nn.Linear(4 * factors, factors)
        self.norm2 = nn.LayerNorm(factors)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.norm(x + self.dropout(attended(x, self.qkv, self.mix, self.heads, real)))
        wide = functional.gelu(self.widen(x))
        mixed: Tensor = self.norm2(x + self.dropout(self.narrow(wide)))
        return mixed


class BERT4RecNetwork(nn.Module):
    """Positions count from the end, so that the mask after the newest token is always at the same place."""

    tied = True
    per_item: tuple[str, ...] = ("items.weight", "bias")

    def __init__(
        self,
        items: int,
        factors: int,
        max_length: int,
        blocks: int,
        heads: int,
        masked: float,
        dropout: float,
        criterion: Criterion,
    ) -> None:
        super().__init__()
        self.items = embedding(items, factors)
        self.mask = nn.Parameter(torch.randn(factors) * 0.02)
        self.positions = embedding(max_length + 1, factors)
        self.norm = nn.LayerNorm(factors)
        self.blocks = nn.ModuleList(Block(factors, heads, dropout) for _ in range(blocks))
        self.project = nn.Linear(factors, factors)
        self.norm2 = nn.LayerNorm(factors)
        self.bias = nn.Parameter(torch.zeros(items))
        self.masked = masked
        self.dropout = Dropout(dropout)
        self.criterion = criterion

    def forward(self, batch: Batch, hidden: Tensor) -> Tensor:
        """Return the output state of each place with a 1 for the bias, (b, l, d + 1); `hidden` are masked."""
        most = self.positions.num_embeddings
        width = batch.tokens.shape[1]
        place = most - batch.lengths[:, None] + torch.arange(width, device=batch.tokens.device)
        x = torch.where(hidden[:, :, None], self.mask, self.items(batch.tokens).to(self.mask.dtype))
        x = self.dropout(self.norm(x + self.positions(place.clamp(max=most - 1))))
        for block in self.blocks:
            x = block(x, batch.real)
        x = self.norm2(functional.gelu(self.project(x)))
        return torch.cat([x, x.new_ones(*x.shape[:2], 1)], 2)

    def table(self) -> Tensor:
        """Return item vectors, the bias their last column, (n, d + 1)."""
        return torch.cat([self.items.weight, self.bias[:, None]], 1)

    def query(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the state of a mask put after the newest token, (b, d + 1)."""
        wider = functional.pad(tokens, (0, 1))
        batch = Batch(wider, lengths + 1, wider)
        hidden = torch.arange(wider.shape[1], device=tokens.device) == lengths[:, None]
        return last(self(batch, hidden), batch.lengths)

    def loss(self, batch: Batch, random: np.random.Generator) -> Tensor:
        """Return the loss of filling in the masked places; in a tenth of the rows, the newest alone.

        Without the last, training never sees the question it is asked: nothing after the mask.
        """
        shape = tuple(batch.tokens.shape)
        chosen = torch.from_numpy(random.random(shape) < self.masked).to(batch.tokens.device)
        newest = torch.arange(shape[1], device=chosen.device) == batch.lengths[:, None] - 1
        only = torch.from_numpy(random.random(shape[0]) < 0.1).to(chosen.device)
        only |= ~(chosen & batch.real).any(1)  # a row without a mask would teach nothing
        hidden = torch.where(only[:, None], newest, chosen) & batch.real
        found = self(batch, hidden)[hidden]
        return self.criterion(found, self.table(), batch.tokens[hidden], batch.values[hidden], random)
