"""A search as optuna knows it: its words for spaces, samplers and trials; imported when a search begins."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from profiles.schema import ContractError
from recsys.space import Choice, Range
from recsys.tries import Try

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import TrialState


def sampler(method: str, seed: Sequence[int]) -> "BaseSampler":
    """Return a sampler for one trial, of its own seed: what another process drew before does not count."""
    from optuna.samplers import RandomSampler, TPESampler

    drawn = int(np.random.default_rng(seed).integers(2**31))
    return TPESampler(seed=drawn) if method == "bayesian" else RandomSampler(seed=drawn)


def state_of(ended: Try) -> "TrialState":
    """Return optuna's word for how a trial ended."""
    from optuna.trial import TrialState

    return {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[ended.state]


def distribution(dimension: Range | Choice) -> "BaseDistribution":
    """Return optuna's word for where a setting is searched."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


@contextmanager
def quietly() -> Iterator[None]:
    """Let optuna log nothing meanwhile; raises ContractError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ContractError("a search needs optuna: pip install 'attune[tune]'") from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
