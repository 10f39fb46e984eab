"""Cells held out of a user-item matrix, for early stopping where order plays no part."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy.sparse import csr_matrix

from recsys.ranking import top_k

AT = 10  # NDCG@AT is what early stopping looks at
SHARE = 0.2  # of a user's items
BLOCK = 256  # users validated at a time


class HoldOutConfig(BaseModel):
    """How much is held out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation_users: PositiveInt = Field(
        2000, description="with patience: users of whom a fifth of the items is held out to stop by"
    )


@dataclass(frozen=True)
class HeldOut:
    """What remains to learn from, and what some users did besides."""

    matrix: csr_matrix  # all users, without the held-out cells
    users: np.ndarray  # rows that were cut
    truth: csr_matrix  # (users, items): the cells taken from each

    @classmethod
    def of(cls, matrix: csr_matrix, users: int, seed: int) -> Self | None:
        """Cut at most `users` users who have at least two items; none where there are none."""
        counts = np.diff(matrix.indptr)
        able = np.flatnonzero(counts > 1)
        if not len(able):
            return None
        random = np.random.default_rng(seed)
        chosen = np.sort(random.choice(able, min(users, len(able)), replace=False))
        taken = np.zeros(matrix.nnz, bool)
        for user in chosen:
            size = max(1, int(SHARE * counts[user]))
            taken[matrix.indptr[user] + random.choice(counts[user], size, replace=False)] = True
        return cls(_part(matrix, ~taken), chosen, _part(matrix, taken)[chosen])

    def ndcg(self, score: Callable[[csr_matrix], np.ndarray]) -> float:
        """Return the mean NDCG@AT of lists by `score` (histories to (b, items)), what is known masked."""
        total = 0.0
        gains = 1 / np.log2(np.arange(2, AT + 2))
        for start in range(0, len(self.users), BLOCK):
            past = self.matrix[self.users[start : start + BLOCK]]
            truth = self.truth[start : start + BLOCK].toarray() > 0
            rows = top_k(score(past), AT, past.toarray() == 0).rows
            hits = np.take_along_axis(truth, np.maximum(rows, 0), 1) & (rows >= 0)
            ideal = np.cumsum(gains)[np.minimum(truth.sum(axis=1), AT) - 1]
            total += float((hits @ gains / ideal).sum())
        return total / len(self.users)


@dataclass(frozen=True)
class Learnable:
    """The items of a catalogue that can be learned of, and what there is to learn from."""

    items: int  # of the catalogue
    known: np.ndarray  # (known,): their rows in it
    data: csr_matrix  # (users, known), without the held-out cells
    held: HeldOut | None

    @classmethod
    def of(cls, full: csr_matrix, config: Any, told: np.ndarray | None = None) -> Self:
        """Take the items somebody touched, and those of which something else is `told` (items,).

        `config` is a HoldOutConfig and TrainingConfig in one.
        """
        touched = full.getnnz(axis=0) > 0
        known = np.flatnonzero(touched if told is None else touched | told)
        matrix = full[:, known]
        held = HeldOut.of(matrix, config.validation_users, config.seed) if config.patience else None
        return cls(full.shape[1], known, matrix if held is None else held.matrix, held)

    def everywhere(self, values: np.ndarray, unknown: float = np.nan) -> np.ndarray:
        """Return `values` (known, …) as rows of the whole catalogue, float32, `unknown` for the others."""
        found = np.full((self.items, *values.shape[1:]), unknown, np.float32)
        found[self.known] = values
        return found

    def validation(
        self,
        read: Callable[[], tuple[np.ndarray, np.ndarray]],
        users: Callable[[csr_matrix, np.ndarray], np.ndarray],
    ) -> Callable[[], float] | None:
        """Return the NDCG, as `Task.validate`, of users times items; None where nothing is held out.

        `read` gives the items' vectors and what `users` makes histories' vectors of.
        """
        held = self.held
        if held is None:
            return None

        def ndcg() -> float:
            factors, below = read()
            return held.ndcg(lambda past: (users(past, below) @ factors.T).astype(np.float32))

        return ndcg


def _part(matrix: csr_matrix, keep: np.ndarray) -> csr_matrix:
    owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return csr_matrix((matrix.data[keep], (owner[keep], matrix.indices[keep])), matrix.shape)
