"""The network of Caser: convolutions over the last few tokens, as over an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.networks.layers import Dropout
from recsys.networks.sequence import Causal, Criterion, embedding


class CaserNetwork(Causal):
    """Every place of a row at once: the window of a place is the `window` tokens up to it, zeros before."""

    tied = False
    per_item: tuple[str, ...] = ("items.weight", "output.weight", "bias")

    def __init__(
        self,
        items: int,
        factors: int,
        window: int,
        horizontal: int,
        vertical: int,
        dropout: float,
        criterion: Criterion,
    ) -> None:
        super().__init__(criterion)
        self.window = window
        self.items = embedding(items, factors)
        self.horizontal = nn.ModuleList(
            nn.Conv1d(factors, horizontal, height) for height in range(1, window + 1)
        )
        self.vertical = nn.Linear(window, vertical, bias=False)
        self.mix = nn.Linear(horizontal * window + vertical * factors, factors)
        self.output = embedding(items, 2 * factors)
        self.bias = nn.Parameter(torch.zeros(items))
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return [z, p, 1] at each place, (b, l, 2 d + 1): eq. 8 with p, the mean so far, for the user."""
        x = self.items(tokens).to(self.bias.dtype)
        length = x.shape[1]
        before = functional.pad(x, (0, 0, self.window - 1, 0))  # (b, window - 1 + l, d)
        rows = before.transpose(1, 2)
        parts = []
        for height, convolution in enumerate(self.horizontal, 1):
            found = functional.relu(convolution(rows))  # (b, filters, window + l - height)
            # The filter's best place inside each window (eq. 4): a running maximum.
            parts.append(functional.max_pool1d(found, self.window - height + 1, 1).transpose(1, 2))
        columns = self.vertical(before.unfold(1, self.window, 1))  # (b, l, d, filters)
        z = torch.cat([*parts, columns.flatten(2)], 2)
        z = functional.relu(self.mix(self.dropout(z)))
        counts = torch.arange(1, length + 1, device=x.device, dtype=x.dtype)
        mean = x.cumsum(1) / counts[:, None]
        return torch.cat([z, mean, x.new_ones(*x.shape[:2], 1)], 2)

    def table(self) -> Tensor:
        """Return output vectors, the bias their last column, (n, 2 d + 1)."""
        return torch.cat([self.output.weight, self.bias[:, None]], 1)
