"""Mult-VAE: a variational autoencoder with a multinomial likelihood (Liang et al., WWW 2018)."""

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix

from recsys import training
from recsys.dataset import Dataset, Queries
from recsys.held_out import HoldOutConfig, Learnable
from recsys.recommender import Recommender, RecommenderConfig
from recsys.space import Tuned
from recsys.training import TrainingConfig
from recsys.warm import beginning


class MultVAEConfig(RecommenderConfig, HoldOutConfig, TrainingConfig):
    hidden: Annotated[PositiveInt, Tuned(among=(200, 400, 600))] = Field(
        600, description="values of the layer between items and the Gaussian"
    )
    latent: Annotated[PositiveInt, Tuned(among=(50, 100, 200))] = Field(
        200, description="dimensions of the Gaussian"
    )
    dropout: Annotated[float, Tuned(0.1, 0.7)] = Field(
        0.5, ge=0, lt=1, description="share of a history hidden while training"
    )
    beta: Annotated[NonNegativeFloat, Tuned(0.05, 1, log=True)] = Field(
        0.2, description="weight of the divergence, once it has risen"
    )
    anneal_steps: NonNegativeInt = Field(5000, description="steps over which it rises from 0")
    batch_size: PositiveInt = Field(256, description="users a step")
    clip: PositiveFloat | None = Field(None, description="gradients of a larger norm are scaled down to it")


class MultVAE(Recommender):
    """score = W tanh(V mu + c) + b, mu the mean of q(z | x / |x|), itself two layers with tanh (section 2).

    Trained on the bound of eq. 7: sum_i x_i log softmax_i - beta KL(q(z | x) | N(0, I)). Order and times
    are not read. Items nobody touched and queries without learned items are NaN.
    Training memory: items × (hidden × 32 + batch_size × 12) bytes; kept: items × hidden × 8.
    """

    config_class = MultVAEConfig
    cost = "gradient"
    config: MultVAEConfig
    state = ("factors", "reading", "weights")
    products = "factors"
    factors: np.ndarray  # (items, hidden + 1) float32: output weights, the bias last; NaN rows if untouched
    reading: np.ndarray  # (items, hidden) float32: weights of the first layer; 0 if untouched
    weights: dict[str, np.ndarray]  # of the small layers between, and the steps taken

    def _fit(self, train: Dataset) -> None:
        self._train(train)

    def _update(self, train: Dataset, rows: np.ndarray) -> None:
        both = np.hstack([self.factors, self.reading])
        self._train(train, beginning(both, rows, train.matrix(self.config.repeats)))

    def _train(self, train: Dataset, start: np.ndarray | None = None) -> None:
        """Learn, from first rows of `factors` and `reading` side by side and `weights`, if there are some."""
        from recsys.networks.mult_vae import MultVAENetwork

        c = self.config if start is None else training.of_update(self.config)
        told = Learnable.of(train.matrix(c.repeats), c)
        data, held = told.data[np.diff(told.data.indptr) > 0], told.held
        with training.reproducible(c.seed):
            network = MultVAENetwork(len(told.known), c.hidden, c.latent, c.dropout, c.beta, c.anneal_steps)
        if start is not None:
            output, bias, read = np.split(start[told.known], [c.hidden, c.hidden + 1], 1)
            network.begin(output, bias, read, self.weights)
        training.train(
            training.Task(
                network,
                training.shuffled(data.shape[0], c.batch_size),
                lambda rows, random: network.loss(data[rows]),
                training.fingerprint(data.indptr, data.indices, data.data),
                None if held is None else lambda: held.ndcg(lambda past: network(past).cpu().numpy()),
                ("batch_size", "hidden"),
            ),
            c,
        )
        state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
        output = np.column_stack([state.pop("output.weight"), state.pop("output.bias")])
        self.factors = told.everywhere(output)
        self.reading = told.everywhere(state.pop("read.weight"), 0.0)
        self.weights = state

    def _users(self, queries: Queries) -> np.ndarray:
        return self._hidden(queries.matrix(self.config.repeats))

    def _hidden(self, x: csr_matrix) -> np.ndarray:
        """Return the decoder's hidden layer and a 1 for the bias, (n, hidden + 1) float64, NaN without x."""
        w = {name: value.astype(np.float64) for name, value in self.weights.items()}
        touched = np.unique(x.indices)
        learned = touched[~np.isnan(self.factors[touched, 0])]
        past = x[:, learned].astype(np.float64)
        norm = np.sqrt(np.asarray(past.multiply(past).sum(axis=1)).ravel())
        read = past @ self.reading[learned].astype(np.float64)
        h = np.tanh(read / np.where(norm > 0, norm, np.nan)[:, None] + w["read_bias"])
        mean = (h @ w["encode.weight"].T + w["encode.bias"])[:, : self.config.latent]
        h = np.tanh(mean @ w["decode.weight"].T + w["decode.bias"])
        return np.column_stack([h, np.ones(len(h))])
