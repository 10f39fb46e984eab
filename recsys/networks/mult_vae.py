"""The network of Mult-VAE: a history squeezed into a Gaussian and spread out over the catalogue again."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional


class MultVAENetwork(nn.Module):
    """Encoder n - hidden - (mean, log variance), decoder latent - hidden - n, tanh between."""

    step: Tensor

    def __init__(
        self, items: int, hidden: int, latent: int, dropout: float, beta: float, anneal_steps: int
    ) -> None:
        super().__init__()
        self.read = nn.EmbeddingBag(items, hidden, mode="sum")  # the first layer, for sparse rows
        self.read_bias = nn.Parameter(torch.zeros(hidden))
        self.encode = nn.Linear(hidden, 2 * latent)
        self.decode = nn.Linear(latent, hidden)
        self.output = nn.Linear(hidden, items)
        for weight in (self.read.weight, self.encode.weight, self.decode.weight, self.output.weight):
            nn.init.xavier_normal_(weight)
        self.dropout = nn.Dropout(dropout)
        self.beta = beta
        self.anneal_steps = anneal_steps
        self.register_buffer("step", torch.zeros(()))  # in the state, so that a resumed fit goes on from it

    def begin(
        self, output: np.ndarray, bias: np.ndarray, read: np.ndarray, others: Mapping[str, np.ndarray]
    ) -> None:
        """Go on from what was learned before: a row for each item, and the other weights by name."""
        items = {"output.weight": output, "output.bias": bias.ravel(), "read.weight": read}
        own = self.state_dict()
        self.load_state_dict(
            {n: torch.from_numpy(np.array(v)).reshape(own[n].shape) for n, v in {**others, **items}.items()}
        )

    def hidden(self, rows: csr_matrix) -> tuple[Tensor, Tensor, Tensor]:
        """Return the decoder's hidden layer (b, hidden), mean and log variance (b, latent) of raw rows."""
        device = self.read_bias.device
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        scaled = rows.data / np.maximum(np.repeat(lengths, np.diff(rows.indptr)), 1e-12)
        values = self.dropout(torch.from_numpy(scaled.astype(np.float32)).to(device))
        indices = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
        offsets = torch.from_numpy(rows.indptr[:-1].astype(np.int64)).to(device)
        h = torch.tanh(self.read(indices, offsets, per_sample_weights=values) + self.read_bias)
        mean, spread = self.encode(h).chunk(2, 1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * spread) if self.training else mean
        return torch.tanh(self.decode(z)), mean, spread

    def forward(self, rows: csr_matrix) -> Tensor:
        """Return logits over the catalogue, (b, n)."""
        scores: Tensor = self.output(self.hidden(rows)[0])
        return scores

    def loss(self, rows: csr_matrix) -> Tensor:
        """Return the negative bound: multinomial log-likelihood and beta times the divergence (eq. 7)."""
        h, mean, spread = self.hidden(rows)
        log_p = functional.log_softmax(self.output(h).float(), 1)
        owner = torch.from_numpy(np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))).to(h.device)
        indices = torch.from_numpy(rows.indices.astype(np.int64)).to(h.device)
        values = torch.from_numpy(rows.data.astype(np.float32)).to(h.device)
        likelihood = (log_p[owner, indices] * values).sum() / rows.shape[0]
        divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).sum(1).mean()
        self.step += 1
        beta = self.beta * (self.step / max(1, self.anneal_steps)).clamp(max=1.0)
        bound: Tensor = beta * divergence - likelihood
        return bound
