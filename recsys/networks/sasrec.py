"""The network of SASRec: blocks of causal self-attention over a history."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.networks.layers import Dropout, attended
from recsys.networks.sequence import Causal, Criterion, embedding


class Block(nn.Module):
    """x + drop(attention(norm x)), then x + drop(ffn(norm x)): section 3.2.3 of the paper."""

    def __init__(self, factors: int, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(factors)
        self.qkv = nn.Linear(factors, 3 * factors)
        self.mix = nn.Linear(factors, factors)
        self.norm2 = nn.LayerNorm(factors)
        self.widen = nn.Linear(factors, width)
        self.narrow = nn.Linear(width, factors)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(attended(self.norm(x), self.qkv, self.mix, self.heads))
        mixed: Tensor = x + self.dropout(self.narrow(functional.relu(self.widen(self.norm2(x)))))
        return mixed


class GatedBlock(Block):
    """x + s(A x) * drop(attention(norm x)), then x + s(B x) * drop(ffn(norm x)), s the sigmoid.

    LiGR's block (Borisyuk et al., 2025) with the network of SwiGLU: ffn(x) = narrow(silu(widen x) * lift x).
    """

    def __init__(self, factors: int, heads: int, width: int, dropout: float) -> None:
        super().__init__(factors, heads, width, dropout)
        self.lift = nn.Linear(factors, width)
        self.gate = nn.Linear(factors, factors)
        self.gate2 = nn.Linear(factors, factors)

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.sigmoid(self.gate(x)) * self.dropout(
            attended(self.norm(x), self.qkv, self.mix, self.heads)
        )
        y = self.norm2(x)
        wide = self.dropout(functional.silu(self.widen(y)) * self.lift(y))
        mixed: Tensor = x + torch.sigmoid(self.gate2(x)) * self.dropout(self.narrow(wide))
        return mixed


BLOCKS = {"pre_norm": Block, "ligr": GatedBlock}


class SASRecNetwork(Causal):
    """Right-padded rows under a causal mask: a real token never sees padding, so no other mask is needed."""

    per_item: tuple[str, ...] = ("items.weight",)

    def __init__(
        self,
        items: int,
        factors: int,
        max_length: int,
        blocks: int,
        heads: int,
        width: int,
        dropout: float,
        criterion: Criterion,
        temperature: float | None = None,
        block: str = "pre_norm",
    ) -> None:
        super().__init__(criterion)
        self.temperature = temperature
        self.tied = temperature is None
        self.items = embedding(items, factors)
        self.positions = embedding(max_length, factors)
        self.blocks = nn.ModuleList(BLOCKS[block](factors, heads, width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(factors)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the state after each token, (b, l, d). Positions count from the end, the newest alike."""
        most = self.positions.num_embeddings
        place = most - lengths[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        x = self.items(tokens).to(self.norm.weight.dtype) * self.items.embedding_dim**0.5
        x = self.dropout(x + self.positions(place.clamp(max=most - 1)))
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed if self.temperature is None else functional.normalize(normed, dim=-1) / self.temperature

    def table(self) -> Tensor:
        """Return the item table, (n, d); of unit length where scores are cosines."""
        table = self.items.weight
        return table if self.temperature is None else functional.normalize(table, dim=-1)
