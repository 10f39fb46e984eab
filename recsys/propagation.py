"""Item vectors spread over a graph: how `lightgcn` and `graph_content` learn them and make users of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from recsys import training
from recsys.held_out import Learnable
from recsys.space import Tuned
from recsys.vectors import summed

if TYPE_CHECKING:
    from recsys.networks.lightgcn import LightGCNNetwork

RIDGE = 0.1  # penalty of the map from histories to first vectors; from 0 to 1 it hardly counts
BLOCK = 8192  # users whose histories are summed at a time


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
    hardest: bool = Field(
        False,
        description="whether of a pair's negatives only the one that scores highest counts, for bpr: with 8 "
        "it needs a third of the epochs",
    )
    l2: Annotated[NonNegativeFloat, Tuned(1e-6, 1e-2, log=True)] = Field(
        1e-4, description="ridge penalty on the first vectors of a batch"
    )
    batch_size: PositiveInt = Field(2048, description="pairs a step")


def learn(
    network: "LightGCNNetwork", told: Learnable, key: str, config: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Train a network on pairs of user and item; returns what `folding` does, for the whole catalogue.

    NaN and 0 where an item was not learned. Where users have first vectors, what an item adds to a user's
    mean holds their `lent` ones, which are returned, too. `key` stands for the data, as in `Task.key`;
    `config` is a PropagationConfig, HoldOutConfig and TrainingConfig in one.
    """
    data = told.data
    owner = np.repeat(np.arange(data.shape[0]), np.diff(data.indptr))

    def read() -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        layers = [layer[network.shape[0] :].cpu().numpy() for layer in network.spread()]
        factors, below = folding(layers, network.degree)
        if network.users is None:
            return factors, below, None
        first = lent(data, layers[:-1], network.degree, network.users.detach().cpu().numpy())
        return factors, below + first / len(layers), first

    training.train(
        training.Task(
            network,
            training.shuffled(data.nnz, config.batch_size),
            lambda rows, random: network.loss(owner[rows], data.indices[rows], random),
            key,
            told.validation(lambda: read()[:2], folded),
            ("factors", "layers", "batch_size"),
        ),
        config,
    )
    factors, below, first = read()
    return (
        told.everywhere(factors),
        told.everywhere(below, 0.0),
        None if first is None else told.everywhere(first, 0.0),
    )


def folding(layers: Sequence[np.ndarray], degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the items' layers 0 to K, and what an item adds to a user of degree 1."""
    scale = 1 / np.sqrt(np.where(degree > 0, degree, np.inf))
    below = sum(layers[:-1]) * scale[:, None] / len(layers)
    return np.mean(layers, axis=0), below.astype(np.float32)


def lent(x: csr_matrix, layers: Sequence[np.ndarray], degree: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Return what an item adds to the first vector of a user of degree 1, (items, d) float32.

    A user's sums of their items' `layers` explain their trained first vector (users, d) by ridge regression:
    so who was not in the training has one, too. Memory: BLOCK × layers × d × 8 bytes.
    """
    scale = 1 / np.sqrt(np.where(degree > 0, degree, np.inf))
    features = np.hstack(layers) * scale[:, None]
    gram = RIDGE * np.eye(features.shape[1])
    met = np.zeros((features.shape[1], users.shape[1]))
    for start in range(0, x.shape[0], BLOCK):
        sums = np.nan_to_num(folded(x[start : start + BLOCK], features))
        gram += sums.T @ sums
        met += sums.T @ users[start : start + BLOCK]
    found: np.ndarray = features @ cho_solve(cho_factor(gram), met)
    return found.astype(np.float32)


def folded(x: csr_matrix, folding: np.ndarray, learned: np.ndarray | None = None) -> np.ndarray:
    """Return sum_j x_j folding_j / sqrt(sum_j x_j) over `learned` items, (n, d) float64; NaN of none."""
    if learned is not None:
        x = csr_matrix((x.data * learned[x.indices], x.indices, x.indptr), x.shape)
    degree = np.asarray(x.sum(axis=1), np.float64).ravel()
    return summed(x, folding) / np.sqrt(np.where(degree > 0, degree, np.nan))[:, None]
