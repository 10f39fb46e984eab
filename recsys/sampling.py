"""Negative sampling, vectorised: what a user did not do, drawn for a whole batch at once."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy.sparse import csr_matrix

Negatives = Literal["uniform", "popularity"]
ROUNDS = 8  # of drawing again what hit a positive; who has nearly everything keeps the last draw


@dataclass(frozen=True)
class Sampler:
    """Draws items with replacement, item i with probability exp(log_q[i])."""

    log_q: np.ndarray  # (items,) float32
    cumulative: np.ndarray | None = None  # (items,) float64, ends with 1; none: uniform

    @classmethod
    def uniform(cls, items: int) -> Self:
        """Every item alike."""
        return cls(np.full(items, -np.log(items), np.float32))

    @classmethod
    def popularity(cls, counts: np.ndarray, power: float = 1.0) -> Self:
        """Item i in proportion to counts[i] ** power; an item nobody touched is never drawn.

        With power 1 its log_q is also that of the targets of a batch (Yi et al., RecSys 2019), so it is
        the logQ correction of in-batch negatives.
        """
        weights = np.where(counts > 0, counts.astype(np.float64), 0.0)
        weights[counts > 0] **= power
        share = weights / weights.sum()
        with np.errstate(divide="ignore"):
            log_q = np.log(share).astype(np.float32)
        cumulative = np.cumsum(share)
        cumulative[np.flatnonzero(share)[-1] :] = 1.0  # rounding must not leave a gap at the end
        return cls(log_q, cumulative)

    def draw(self, size: int | tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        """Return item rows of the given shape, int64."""
        if self.cumulative is None:
            return random.integers(0, len(self.log_q), size)
        return np.searchsorted(self.cumulative, random.random(size), side="right").astype(np.int64)


def sampler(kind: Negatives, counts: np.ndarray, power: float = 1.0) -> Sampler:
    """Return the sampler called `kind` over the items counted in `counts`."""
    return Sampler.uniform(len(counts)) if kind == "uniform" else Sampler.popularity(counts, power)


class Positives:
    """Which (user row, item) pairs happened, to be asked about in bulk."""

    def __init__(self, matrix: csr_matrix) -> None:
        self._items = matrix.shape[1]
        rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
        self._keys = np.sort(rows * self._items + matrix.indices)

    def __contains__(self, pair: tuple[int, int]) -> bool:
        return bool(self.hit(np.array([pair[0]]), np.array([pair[1]]))[0])

    def hit(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return which pairs happened; `users` and `items` broadcast."""
        keys = users.astype(np.int64) * self._items + items
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: np.ndarray = self._keys[place] == keys
        return found

    def negatives(
        self, users: np.ndarray, count: int, sampler: Sampler, random: np.random.Generator
    ) -> np.ndarray:
        """Draw (users, count) items, those a user did drawn again up to ROUNDS times."""
        drawn = sampler.draw((len(users), count), random)
        owners = np.broadcast_to(users[:, None], drawn.shape)
        wrong = np.nonzero(self.hit(owners, drawn))
        for _ in range(ROUNDS):
            if not len(wrong[0]):
                break
            drawn[wrong] = sampler.draw(len(wrong[0]), random)
            still = self.hit(owners[wrong], drawn[wrong])
            wrong = (wrong[0][still], wrong[1][still])
        return drawn
