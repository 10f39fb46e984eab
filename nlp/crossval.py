"""Which texts to learn from and which to be judged by: holdout, k-fold, whole groups, repeated.

Splits are stratified: each label has its share on both sides. A group (a user, an entity) is never on
both: what is said of one entity is alike, and a model that has seen half of it is not being tested.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from nlp.extras import need
from profiles.schema import ContractError

Rows = npt.NDArray[np.intp]


class CrossValidationConfig(BaseModel):
    """How rows are dealt out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["holdout", "kfold"] = Field(
        "kfold", description="holdout: one share is the test; kfold: every row is tested once"
    )
    share: float = Field(0.2, gt=0, lt=1, description="of the rows that a holdout tests on")
    folds: int = Field(5, ge=2, description="of kfold")
    repeats: PositiveInt = Field(1, description="times over, each dealt anew")
    seed: NonNegativeInt = Field(0, description="of the dealing")


@dataclass(frozen=True)
class Fold:
    """Rows to learn from and rows to be judged by, each ascending; no row is in both."""

    train: Rows
    test: Rows
    repeat: int  # from 0


def folds(
    labels: Sequence[str], config: CrossValidationConfig, groups: Sequence[str] | None = None
) -> list[Fold]:
    """Return the folds of every repeat; whole groups stay together where `groups` names each row's.

    Raises ContractError where there are fewer rows, or groups, than folds.
    """
    strata = _numbered(labels)
    several = None if groups is None else _numbered(groups)
    if several is not None and len(several) != len(strata):
        raise ContractError(f"{len(strata)} labels cannot lie in {len(several)} groups, one each")
    wanted = config.folds if config.method == "kfold" else 2
    there = len(strata) if several is None else len(np.unique(several))
    if there < wanted:
        what = "groups" if groups is not None else "texts"
        raise ContractError(f"{wanted} folds need as many {what}; there are {there}")
    found = []
    for repeat in range(config.repeats):
        seed = config.seed + repeat
        if config.method == "holdout":
            tests = [cut(labels, config.share, seed, groups)]
        else:
            tests = _kfold(strata, several, config.folds, seed)
        every = np.arange(len(strata))
        found += [Fold(np.setdiff1d(every, test), test, repeat) for test in tests]
    return found


def cut(labels: Sequence[str], share: float, seed: int, groups: Sequence[str] | None = None) -> Rows:
    """Return the rows of a stratified cut, ascending: about `share` of each label, never its last row.

    A label with one row stays whole in what is left. With `groups` whole groups are cut, so the shares
    of labels come as near as the groups allow.
    """
    strata = _numbered(labels)
    random = np.random.default_rng(seed)
    if groups is not None:
        several = _numbered(groups)
        pieces = min(max(2, round(1 / share)), len(np.unique(several)))
        # The nearest to the share that a whole number of folds gives.
        wanted = max(1, min(pieces - 1, round(share * pieces)))
        return np.sort(np.concatenate(_kfold(strata, several, pieces, seed)[:wanted]))
    taken = []
    for stratum in range(strata.max(initial=-1) + 1):
        rows = random.permutation(np.flatnonzero(strata == stratum))
        size = share * len(rows)
        # The fraction that is left over is a chance, so that many small labels are cut by `share` as well.
        size = int(size) + int(random.random() < size - int(size))
        taken.append(rows[: min(size, len(rows) - 1)])
    return np.sort(np.concatenate(taken)) if taken else np.zeros(0, np.intp)


def _numbered(names: Sequence[str]) -> Rows:
    return np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)[1].astype(np.intp)


def _kfold(strata: Rows, groups: Rows | None, count: int, seed: int) -> list[Rows]:
    selection = need("sklearn.model_selection", "text")
    rows = np.arange(len(strata))
    kind = selection.StratifiedKFold if groups is None else selection.StratifiedGroupKFold
    if groups is None and max(Counter(strata.tolist()).values()) < count:
        kind = selection.KFold  # every label is rarer than the folds: there is nothing to stratify
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label rarer than the folds is missing in some
        splits = kind(count, shuffle=True, random_state=seed).split(rows, strata, groups)
        return [np.asarray(test, np.intp) for _, test in splits]
