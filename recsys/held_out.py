"""Cells held out of a user-item matrix, for early stopping where order plays no part."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

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


def learnable(
    full: csr_matrix, users: int | None, seed: int
) -> tuple[np.ndarray, csr_matrix, HeldOut | None]:
    """Return the items somebody touched, the matrix of these to learn from, and what `users` were cut of.

    Of no users (None): nothing is held out.
    """
    known = np.flatnonzero(full.getnnz(axis=0))
    matrix = full[:, known]
    held = None if users is None else HeldOut.of(matrix, users, seed)
    return known, matrix if held is None else held.matrix, held


def _part(matrix: csr_matrix, keep: np.ndarray) -> csr_matrix:
    owner = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return csr_matrix((matrix.data[keep], (owner[keep], matrix.indices[keep])), matrix.shape)
