"""Rows of the tables only: recommenders that score with the trained vectors of their users, as papers do.

What is released folds everybody in by their history. Published figures are for users of the training
itself, whose rows are looked up by name; a query of another name is not answered (NaN).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recsys.dataset import Dataset, Queries, Vocabulary
from recsys.models import RECOMMENDERS
from recsys.models.als import ALS
from recsys.models.bpr import BPR
from recsys.models.lightgcn import LightGCN
from recsys.recommender import Recommender

TRANSDUCTIVE = "_transductive"  # what the names of these rows end with
MORE: dict[str, dict[str, Any]] = {
    "als": {},
    "bpr": {},
    "lightgcn": {"train_users": True},  # as in the paper; without, a trained user is the folded-in one
}


class _Transductive:
    """score = x_u'y_i, x_u the trained vector of the user a query is named after."""

    def _fit(self, train: Dataset) -> None:
        self.users: np.ndarray = self.fit_users(train)  # type: ignore[attr-defined]
        self.names: Vocabulary = train.users

    def _users(self, queries: Queries) -> np.ndarray:
        rows = self.names.rows(queries.ids)
        users: np.ndarray = np.where((rows >= 0)[:, None], self.users[rows], np.nan)
        return users


class ALSTransductive(_Transductive, ALS):
    """ALS as Hu, Koren & Volinsky score it."""


class BPRTransductive(_Transductive, BPR):
    """BPR as Rendle et al. score it."""


class LightGCNTransductive(_Transductive, LightGCN):
    """LightGCN as He et al. score it: the mean of a user's own layers."""


KINDS: dict[str, type[Recommender]] = {
    **RECOMMENDERS,
    "als_transductive": ALSTransductive,
    "bpr_transductive": BPRTransductive,
    "lightgcn_transductive": LightGCNTransductive,
}


def transductive(grids: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the grids of the transductive rows: those of the recommenders they are rows of."""
    return {
        name + TRANSDUCTIVE: [{**settings, **MORE[name]} for settings in grid]
        for name, grid in grids.items()
        if name in MORE
    }
