"""Losses over a catalogue: what a hidden state (m, d) says of items (n, d), against the true ones."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recsys.networks.layers import taken

CHUNK = 1 << 20  # logits held at a time: few enough to stay near the processor
CUDA_CHUNK = 1 << 27


class _CrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy with its gradient, chunk by chunk, so that (m, n) logits never exist whole.

    The gradient is p - y, known as soon as the softmax is: taking it in the forward pass saves a second
    pass over the logits, as in Hsu et al. 2024 (Liger) and Wijmans et al. 2025.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, targets: Tensor, weights: Tensor, half: bool
    ) -> Tensor:
        m, n = len(hidden), len(table)
        kind = torch.bfloat16 if half else torch.float32
        h, t = hidden.detach().to(kind), table.detach().to(kind)
        grad_hidden = torch.empty_like(h)
        grad_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        grad_bias = torch.zeros(n, dtype=torch.float32, device=table.device)
        loss = torch.zeros((), dtype=torch.float32, device=table.device)
        rows = max(1, (CUDA_CHUNK if hidden.is_cuda else CHUNK) // n)
        for start in range(0, m, rows):
            part = slice(start, min(start + rows, m))
            logits = (h[part] @ t.T).float()
            logits += bias.detach()
            right = targets[part, None]
            share = torch.softmax(logits, 1)
            # log sum exp from the most likely item, whose share is never too small for a logarithm.
            total = logits.amax(1) - share.amax(1).log()
            loss += (total - logits.gather(1, right).squeeze(1)) @ weights[part]
            share *= weights[part, None]
            share.scatter_add_(1, right, -weights[part, None])
            grad_bias += share.sum(0)
            error = share.to(kind)
            torch.mm(error, t, out=grad_hidden[part])
            grad_table += error.T @ h[part]
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_table.to(table.dtype), grad_bias)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_table, grad_bias = ctx.saved_tensors
        return grad_hidden * grad, grad_table * grad, grad_bias * grad, None, None, None


def cross_entropy(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, bias: Tensor | None = None
) -> Tensor:
    """sum_m w_m (log sum_i exp(h_m'e_i + b_i) - h_m'e_y - b_y) / sum_m w_m, over the whole catalogue."""
    half = torch.is_autocast_enabled(hidden.device.type)
    shift = torch.zeros(len(table), device=table.device) if bias is None else bias
    shares = (weights / weights.sum()).float()
    with torch.autocast(hidden.device.type, enabled=False):
        loss: Tensor = _CrossEntropy.apply(hidden, table, shift, targets, shares, half)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, negatives: Tensor, log_q: Tensor
) -> Tensor:
    """Cross-entropy over the target and `negatives` (k,), shared by the batch, logits less log q.

    Subtracting how likely an item is to be drawn makes it estimate the full softmax (Jean et al. 2015;
    Yi et al. 2019). A negative that is the target of a row is not held against that row.
    """
    right = (hidden * taken(table, targets)).sum(1, keepdim=True).float() - log_q[targets, None]
    wrong = (hidden @ taken(table, negatives).T).float() - log_q[negatives]
    wrong = wrong.masked_fill(negatives == targets[:, None], -torch.inf)
    lost = torch.cat([right, wrong], 1).logsumexp(1) - right.squeeze(1)
    return lost @ (weights / weights.sum()).float()


def gbce(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    weights: Tensor,
    negatives: Tensor,
    calibration: float,
) -> Tensor:
    """-(beta log s(y+) + sum over k negatives of log(1 - s(y-))), s the logistic function.

    beta = a (t (1 - 1/a) + 1/a) with a = k / (n - 1) the sampling rate and t the calibration: t = 0 is
    plain binary cross-entropy, t = 1 makes s(y+) estimate the true probability (Petrov & Macdonald,
    RecSys 2023, eq. 11). The negatives (k,) are shared by the batch.
    """
    rate = len(negatives) / max(1, len(table) - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    right = (hidden * taken(table, targets)).sum(1).float()
    wrong = (hidden @ taken(table, negatives).T).float()
    lost = functional.softplus(wrong).masked_fill(negatives == targets[:, None], 0.0).sum(1)
    lost = lost + beta * functional.softplus(-right)
    return lost @ (weights / weights.sum()).float()


def bpr(right: Tensor, wrong: Tensor, weights: Tensor) -> Tensor:
    """-log s(y+ - y-), mean over rows and negatives (Rendle et al., UAI 2009); wrong is (m, k)."""
    lost = functional.softplus(wrong - right[:, None]).mean(1)
    return lost @ (weights / weights.sum())


def cosine_contrastive(right: Tensor, wrong: Tensor, margin: float, weight: float) -> Tensor:
    """(1 - y+) + weight / k * sum over k negatives of max(0, y- - margin) (Mao et al., CIKM 2021, eq. 5)."""
    return ((1 - right) + weight * functional.relu(wrong - margin).mean(1)).mean()
