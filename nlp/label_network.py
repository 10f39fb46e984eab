"""Labels over a text encoder: logit of a label = scale × cosine(text, label) + bias.

A label is a direction among the texts, so it can begin where its texts are (as in Snell et al., NeurIPS
2017, prototypes) and a few steps do; scaled cosines keep easy texts from drowning the rest (Wang et al.,
CVPR 2018). On unit vectors that is a linear map, which is what is saved.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nlp.light_learners import Linear
from nlp.network import TextNetwork


class LabelNetwork(nn.Module):
    """A text encoder, a direction for each label and, where a text may have several, a bias."""

    def __init__(self, text: TextNetwork, width: int, labels: int, scale: float, many: bool) -> None:
        super().__init__()
        self.text = text
        self.scale = scale
        self.many = many
        self.weight = nn.Parameter(torch.zeros(labels, width))
        self.bias = nn.Parameter(torch.zeros(labels), requires_grad=many)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the unit vectors of (texts, tokens) ids: (texts, d) float32."""
        return functional.normalize(self.text(ids, mask).float(), dim=1)

    def logits(self, vectors: Tensor) -> Tensor:
        """Return (texts, labels) of unit vectors, or of mixed ones, whose length is made 1 again."""
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = functional.normalize(vectors, dim=1) @ functional.normalize(self.weight, dim=1).T
            return self.scale * cosines + self.bias

    @torch.no_grad()
    def begin_at(self, vectors: Tensor, truth: Tensor) -> None:
        """Put each label where its texts are, and its bias where it is as frequent as they are."""
        self.weight.copy_(functional.normalize(truth.T @ vectors, dim=1))
        if self.many:
            share = truth.mean(0).clamp(1e-3, 1 - 1e-3)
            self.bias.copy_(share.logit() - (self.scale * vectors @ self.weight.T).mean(0))

    def linear(self) -> Linear:
        """Return the labels as a linear map of unit vectors."""
        with torch.no_grad():
            weights = self.scale * functional.normalize(self.weight, dim=1)
        return Linear(weights.cpu().numpy(), self.bias.detach().cpu().numpy().astype(np.float32))


def cross_entropy(logits: Tensor, truth: Tensor, many: bool, smoothing: float) -> Tensor:
    """Return the loss of each text against (texts, labels) truth, which may be mixed: (texts,).

    Smoothing gives its share of the truth to all labels alike (Szegedy et al., CVPR 2016). Of several
    labels each is told apart on its own, and the mean is over them.
    """
    if many:
        aim = truth * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, aim, reduction="none").mean(1)
    aim = truth * (1 - smoothing) + smoothing / truth.shape[1]
    return -(aim * functional.log_softmax(logits, 1)).sum(1)


def contrastive(vectors: Tensor, truth: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss of unit vectors (Khosla et al., NeurIPS 2020, eq. 2): a mean.

    Texts attract those that share a label; one that shares none with any other has no say.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    with torch.autocast(vectors.device.type, enabled=False):
        cosines = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf)
        together = (truth @ truth.T > 0) & ~itself
        shares = functional.log_softmax(cosines, 1).masked_fill(~together, 0)
        partners = together.sum(1)
        mean = -shares.sum(1) / partners.clamp(min=1)
        return mean.sum() / (partners > 0).sum().clamp(min=1)


def divergence(one: Tensor, other: Tensor, many: bool) -> Tensor:
    """R-Drop (Liang et al., NeurIPS 2021): half the two KL divergences of two passes' logits, a mean."""
    if many:
        one, other = (torch.stack([x, torch.zeros_like(x)], -1).flatten(0, 1) for x in (one, other))
    p, q = functional.log_softmax(one, -1), functional.log_softmax(other, -1)
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()
