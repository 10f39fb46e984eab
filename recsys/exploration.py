"""Exploring at the end of a list, with the probability of what is shown written down.

The first items stand as they are ranked. With probability epsilon the last `tail` places are filled from the
next `pool` candidates, drawn evenly and without repetition; else they too stand as ranked. So item i is at a
place j of the tail with probability

    (1 - epsilon) [i is ranked there] + epsilon / pool [i is in the pool]

and at a place before it with probability 1 (why it has to be known: Langford, Strehl & Wortman, ICML 2008).
"""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class ExplorationConfig(BaseModel):
    """How much is explored; nothing as long as epsilon is 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon: float = Field(0.0, ge=0, le=1, description="share of the answers whose tail is drawn; 0: none")
    tail: PositiveInt = Field(3, description="last places of a list that may be drawn")
    pool: PositiveInt = Field(20, le=500, description="candidates they are drawn from, their own the first")

    def depth(self, k: int) -> int:
        """Return how many candidates a list of k is made from."""
        return max(k, k - min(self.tail, k) + self.pool) if self.epsilon else k


def explore(
    candidates: int, k: int, config: ExplorationConfig, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the ranked candidates are shown, places from 0, and the probability of each there.

    There are at most `config.depth(k)` candidates to draw from; of fewer than k the list is shorter.
    """
    head, pool, length = _shape(candidates, k, config)
    places = np.arange(length)
    if pool and random.random() < config.epsilon:
        places[head:] = head + random.permutation(pool)[: length - head]
    propensities = np.ones(length)
    if pool:
        as_ranked = places[head:] == np.arange(head, length)
        propensities[head:] = (1 - config.epsilon) * as_ranked + config.epsilon / pool
    return places, propensities


def probabilities(candidates: int, k: int, config: ExplorationConfig) -> np.ndarray:
    """Return the probability of each candidate at each place, (places, candidates)."""
    head, pool, length = _shape(candidates, k, config)
    found = np.eye(length, candidates)
    if pool:
        found[head:] *= 1 - config.epsilon
        found[head:, head : head + pool] += config.epsilon / pool
    return found


def _shape(candidates: int, k: int, config: ExplorationConfig) -> tuple[int, int, int]:
    """Return how many places stand fast, how many candidates the others are drawn from, and all places."""
    length = min(k, candidates)
    head = max(0, k - config.tail)
    pool = min(config.pool, candidates - head)
    if not config.epsilon or pool < length - head or length <= head:
        return length, 0, length
    return head, pool, length
