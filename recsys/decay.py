"""Histories that fade: what was done long before the moment of asking counts less."""

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from scipy.sparse import csr_matrix

from profiles.schema import DAY
from recsys.dataset import Dataset, Histories, Queries, Repeats
from recsys.recommender import NotApplicableError
from recsys.space import Tuned

DAYS = Tuned(among=(None, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0))  # half-lives and windows worth a try


class FadingConfig(BaseModel):
    """How fast a history fades."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: Annotated[PositiveFloat | None, DAYS] = Field(
        None, description="a history's interaction counts half after this many days; none: all count alike"
    )


def refuse_timeless(train: Dataset, half_life_days: float | None) -> None:
    """Raise where a half-life in days meets a log that has only an order."""
    if train.timeless and half_life_days is not None:
        raise NotApplicableError("half_life_days needs times, and this log has only an order")


def decayed(queries: Queries, repeats: Repeats, half_life_days: float | None) -> csr_matrix:
    """Return the histories as `Queries.matrix` does, each cell times 0.5 ** (age / half-life).

    The age is that of the pair's newest interaction at the moment of asking. None: no decay.
    """
    x = queries.matrix(repeats)
    if half_life_days is None:
        return x
    done = queries.histories
    ages = (queries.at[done.rows] - done.times) / DAY
    # Not below the smallest normal float32: a cell of 0 would be no history.
    fading = np.maximum(0.5 ** (ages / half_life_days), np.finfo(np.float32).tiny).astype(np.float32)
    newest = Histories(done.offsets, done.items, fading, done.times).matrix(queries.items, "last")
    x.data *= newest.data  # both hold each pair once, sorted
    return x
