"""Layers that torch's own are slow at on a CPU: attention over short rows, dropout, and rows of a table."""

import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = 1 << 16  # a share to drop is rounded to one of so many


def attention(q: Tensor, k: Tensor, v: Tensor, real: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(d)) v over (b, heads, l, d): causal, or over all `real` (b, l) places.

    Training on a CPU the (l, l) weights are held: up to some hundred places two products and a softmax take
    a third of the time of the kernel that holds none.
    """
    if q.is_cuda or not torch.is_grad_enabled():
        mask = None if real is None else real[:, None, None]
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=real is None)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if real is None:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        hidden = torch.zeros(seen.shape, dtype=scores.dtype).masked_fill_(~seen, -torch.inf)
    else:
        hidden = torch.zeros(real.shape, dtype=scores.dtype).masked_fill_(~real, -torch.inf)[:, None, None]
    return torch.softmax(scores + hidden, -1) @ v


def attended(x: Tensor, qkv: nn.Linear, mix: nn.Linear, heads: int, real: Tensor | None = None) -> Tensor:
    """Return what each place of x (b, l, d) takes from itself and those before it, or from all `real` ones.

    `qkv` (d to 3 d) makes queries, keys and values, parted among `heads`; `mix` (d to d) joins their finds.
    """
    b, length, d = x.shape
    q, k, v = qkv(x).view(b, length, 3, heads, d // heads).permute(2, 0, 3, 1, 4)  # (b, heads, l, d / heads)
    mixed: Tensor = mix(attention(q, k, v, real).transpose(1, 2).reshape(b, length, d))
    return mixed


def taken(table: Tensor, index: Tensor) -> Tensor:
    """Return table[index], a row for each entry, and the same bits of gradient.

    `table[index]` itself finds and adds each number apart, and takes up to three times as long.
    """
    return table.index_select(0, index.reshape(-1)).reshape(*index.shape, *table.shape[1:])


class Dropout(nn.Module):
    """Set a share of the values to 0 while training and scale the others so that the mean stays.

    Of one random 64-bit number on a CPU come four decisions: a tenth of the time of torch's own.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.dropped = round(share * STEPS)  # of STEPS

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return x
        if x.is_cuda:
            return functional.dropout(x, self.share)
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= self.dropped - STEPS // 2
        return x * (kept * (STEPS / (STEPS - self.dropped))).to(x.dtype)
