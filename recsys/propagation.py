"""Item vectors spread over a graph: how `lightgcn` and `graph_content` learn them and make users of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt
from scipy.sparse import csr_matrix

from recsys import training
from recsys.held_out import Learnable
from recsys.space import Tuned
from recsys.vectors import summed

if TYPE_CHECKING:
    from recsys.networks.lightgcn import LightGCNNetwork


class PropagationConfig(BaseModel):
    """Hyperparameters of every recommender that spreads vectors over a graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: Annotated[PositiveInt, Tuned(among=(32, 64, 128))] = Field(
        64, description="length of an item's vector"
    )
    layers: Annotated[PositiveInt, Tuned(1, 4)] = Field(3, description="K: steps along the graph")
    loss: Literal["bpr", "sampled_softmax"] = Field(
        "bpr", description="bpr as in the paper; sampled_softmax needs fewer epochs"
    )
    negatives: PositiveInt = Field(1, description="items drawn: a pair for bpr, a batch for sampled_softmax")
    l2: Annotated[NonNegativeFloat, Tuned(1e-6, 1e-2, log=True)] = Field(
        1e-4, description="ridge penalty on the first vectors of a batch"
    )
    batch_size: PositiveInt = Field(2048, description="pairs a step")


def learn(
    network: "LightGCNNetwork", told: Learnable, key: str, config: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Train a network on pairs of user and item; returns what `folding` does, for the whole catalogue.

    NaN and 0 where an item was not learned. `key` stands for the data, as in `Task.key`; `config` is a
    PropagationConfig, HoldOutConfig and TrainingConfig in one.
    """
    data = told.data
    owner = np.repeat(np.arange(data.shape[0]), np.diff(data.indptr))

    def read() -> tuple[np.ndarray, np.ndarray]:
        layers = [layer[network.shape[0] :].cpu().numpy() for layer in network.spread()]
        return folding(layers, network.degree)

    training.train(
        training.Task(
            network,
            training.shuffled(data.nnz, config.batch_size),
            lambda rows, random: network.loss(owner[rows], data.indices[rows], random),
            key,
            told.validation(read, folded),
            ("factors", "layers", "batch_size"),
        ),
        config,
    )
    factors, below = read()
    return told.everywhere(factors), told.everywhere(below, 0.0)


def folding(layers: Sequence[np.ndarray], degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the items' layers 0 to K, and what an item adds to a user of degree 1."""
    scale = 1 / np.sqrt(np.where(degree > 0, degree, np.inf))
    below = sum(layers[:-1]) * scale[:, None] / len(layers)
    return np.mean(layers, axis=0), below.astype(np.float32)


def folded(x: csr_matrix, folding: np.ndarray, learned: np.ndarray | None = None) -> np.ndarray:
    """Return sum_j x_j folding_j / sqrt(sum_j x_j) over `learned` items, (n, d) float64; NaN of none."""
    if learned is not None:
        x = csr_matrix((x.data * learned[x.indices], x.indices, x.indptr), x.shape)
    degree = np.asarray(x.sum(axis=1), np.float64).ravel()
    return summed(x, folding) / np.sqrt(np.where(degree > 0, degree, np.nan))[:, None]
