"""Searching settings: grid, random or Bayesian, with pruning, budgets, and a memory of its own.

    found = search(Space.of(EASEConfig), objective, TuningConfig(trials=40), folder / "ease.jsonl")

The objective takes settings and a `Report`, and returns an Outcome, larger is better. It knows what is fitted
and measured; the search knows neither. Each trial is a line of a file once it has ended, so a search that was
killed goes on, and ends as one that was not: a trial is drawn from the seed and the trials before it alone.
Where checkpoints are kept (`recsys.watch`), those of a trial lie in a folder of its settings until it has
ended, so the trial that was killed goes on too.

Bayesian is the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; multivariate, Falkner et al.,
ICML 2018) of optuna; importance is PED-ANOVA (Watanabe, Bansal & Hutter, IJCAI 2023).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from profiles import manifest
from profiles.schema import ContractError
from recsys import tries, watch
from recsys.space import Settings, Space, Value
from recsys.studies import distribution, quietly, sampler, state_of
from recsys.tries import Try, leader

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

KEEP = {"median": 1 / 2, "halving": 1 / 3, "none": 1.0}  # share of the trials at a step that goes on
STARTUP = 5  # trials that reach a step before any is pruned there
REDRAWN = 20  # draws of settings that were tried before, after which they are taken as they are known
HOPELESS = 3  # trials that fail before any succeeds, after which a search ends
FEWEST = 8  # trials that importance is read from


class TuningConfig(BaseModel):
    """How settings are searched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["bayesian", "random", "grid"] = Field("bayesian", description="bayesian, random or grid")
    trials: PositiveInt = Field(30, description="settings tried in all, those of earlier runs counted")
    minutes: PositiveFloat | None = Field(None, description="when a run stops, done or not; none: when done")
    memory_gb: PositiveFloat | None = Field(
        None, description="what the process of a trial may take in all; one that takes more is stopped"
    )
    pruning: Literal["median", "halving", "none"] = Field(
        "median",
        description="trials stopped early: below the median of the finished ones, or not in the best third",
    )
    steps: int = Field(4, ge=2, description="grid: values tried of each range")
    seed: NonNegativeInt = Field(0, description="of what is drawn")


@dataclass(frozen=True)
class Outcome:
    """What a trial reached, and settings that it found by itself, such as the best number of epochs."""

    value: float
    found: Settings = field(default_factory=dict)


class Pruned(Exception):
    """The trial is not worth going on with."""


class OutOfTime(Exception):
    """The run's time is over; the trial is taken up again by the next run."""


class Report:
    """Told how a trial goes: `report(step, value)` raises where it is to stop."""

    def __init__(self, told: Callable[[int, float], bool], until: float = math.inf) -> None:
        self._told = told  # returns whether the trial goes on
        self._until = until

    def __call__(self, step: int, value: float) -> None:
        """Tell what the trial has reached at a step, from 1; raises Pruned, or OutOfTime."""
        if not self._told(step, value):
            raise Pruned
        self.check()

    def check(self) -> None:
        """Raise OutOfTime where the run's time is over."""
        if time.monotonic() > self._until:
            raise OutOfTime


Objective = Callable[[Settings, Report], Outcome]


@dataclass(frozen=True)
class Found:
    """A search: its trials in order, and the share of each setting in how far their values spread."""

    tries: tuple[Try, ...]
    importance: Mapping[str, float]
    complete: bool  # False: its time was over

    @property
    def best(self) -> Try:
        """The best finished trial, the first of equals; raises ContractError where none was finished."""
        best = leader(self.tries)
        if best is None:
            reasons = dict.fromkeys(t.reason for t in self.tries if t.reason)
            raise ContractError("; ".join(["no trial was finished", *reasons]))
        return best


Tell = Callable[[Sequence[Try], float], None]  # the trials so far, the last just ended; seconds left


def search(
    space: Space,
    objective: Objective,
    config: TuningConfig,
    path: Path | None = None,
    first: Sequence[Settings] = (),
    tell: Tell | None = None,
) -> Found:
    """Try settings of `space`, those in `first` before others; larger outcomes are better.

    Trials are read from and kept at `path`, which stands for this objective, space and seed. A trial fails,
    with its reason, by a ContractError, a lack of memory or an outcome that is no number; the search goes on.
    A space of no more points than `trials` is tried whole, whatever the method. Raises ContractError where
    the first HOPELESS trials fail.
    """
    if not space:
        raise ContractError("there is nothing to search: no setting is declared `Tuned`")
    points = [rounded({n: s[n] for n in space.dimensions if n in s}) for s in first]
    for point in points:
        space = space.holding(point)
    until = math.inf if config.minutes is None else time.monotonic() + 60 * config.minutes
    with quietly():
        import optuna

        study = optuna.create_study(direction="maximize")
        run = _Run(space, objective, config, study, until, path, [])
        return run.go(points, tell)


@dataclass(frozen=True)
class _Run:
    space: Space
    objective: Objective
    config: TuningConfig
    study: "Study"
    until: float
    path: Path | None
    tries: list[Try]

    def go(self, first: list[dict[str, Value]], tell: Tell | None) -> Found:
        points, wanted = self._points(first)
        if self.path is not None:
            self._read(self.path)
        done, begun = self.tries, len(self.tries)
        while len(done) < wanted and time.monotonic() < self.until:
            known = [t.settings for t in done]
            try:
                self._try(next((p for p in points if p not in known), None))
            except OutOfTime:
                break
            if all(t.state == "failed" for t in done) and len(done) >= min(HOPELESS, wanted):
                raise ContractError(f"the first {len(done)} trials failed: {done[-1].reason}")
            if tell is not None:
                each = float(np.mean([t.seconds for t in done[begun:]]))
                tell(done, min(each * (wanted - len(done)), max(0.0, self.until - time.monotonic())))
        return Found(tuple(done), self._importance(), len(done) >= wanted)

    def _points(self, first: list[dict[str, Value]]) -> tuple[list[dict[str, Value]], int]:
        """Return points to try before any is drawn, and how many trials there are to be."""
        points = list(first)
        grid = self.config.method == "grid"
        if not grid and self.space.size > self.config.trials:
            return points, self.config.trials
        whole = [rounded(p) for p in self.space.grid(self.config.steps if grid else self.config.trials)]
        drawn = np.random.default_rng(self.config.seed).permutation(len(whole))
        points += [whole[n] for n in drawn if whole[n] not in points]
        return points, min(self.config.trials, len(points))

    def _try(self, point: Settings | None) -> None:
        """Draw settings, or take a point, try them, and keep what came of it."""
        trial, settings = self._draw(point)
        with watch.undertaking(f"trial-{manifest.content_key(settings)}"):
            self._end(trial, settings)

    def _end(self, trial: "Trial", settings: dict[str, Value]) -> None:
        """Try settings to their end, and keep what came of it."""
        begun = time.monotonic()
        outcome, reason = self._outcome(trial, settings)
        steps = self.study.trials[-1].intermediate_values
        value = steps[max(steps)] if steps else None
        state: Literal["done", "pruned", "failed"] = "failed" if reason else "pruned"
        if outcome is not None and not reason:
            state, value = "done", outcome.value
        found = outcome.found if outcome else {}
        seconds = time.monotonic() - begun
        ended = Try(settings, state, value, reason, found, seconds, trial.params, steps)
        self.study.tell(
            trial, value if state == "done" else None, None if state == "done" else state_of(ended)
        )
        self.tries.append(ended)
        if self.path is not None:
            tries.append(self.path, ended)

    def _draw(self, point: Settings | None) -> tuple["Trial", dict[str, Value]]:
        """Begin a trial of a point, or of settings that were not tried yet, if they are found soon."""
        from optuna.trial import TrialState

        known = [t.settings for t in self.tries]
        distributions = {name: distribution(d) for name, d in self.space.dimensions.items()}
        if point is not None:
            self.study.enqueue_trial(dict(point))
            return self.study.ask(distributions), dict(point)
        for draw in range(REDRAWN):
            self.study.sampler = sampler(self.config.method, [self.config.seed, len(self.tries), draw])
            trial = self.study.ask(distributions)
            settings = rounded(trial.params)
            if settings not in known or draw == REDRAWN - 1:
                break
            self.study.tell(trial, state=TrialState.FAIL)  # which no sampler counts
        return trial, settings

    def _outcome(self, trial: "Trial", settings: dict[str, Value]) -> tuple[Outcome | None, str]:
        """Return what the objective says, none of a trial that is pruned; and why it failed, if so."""

        def told(step: int, value: float) -> bool:
            trial.report(value, step)
            return not self._hopeless(step, value)

        for t in self.tries:
            if t.settings == settings and t.state == "done" and t.value is not None:
                return Outcome(t.value, t.found), ""  # drawn again
        try:
            outcome = self.objective(settings, Report(told, self.until))
        except Pruned:
            return None, ""
        except (ContractError, MemoryError, ArithmeticError, np.linalg.LinAlgError) as error:
            return None, str(error) or type(error).__name__
        return outcome, "" if math.isfinite(outcome.value) else f"the outcome is {outcome.value}"

    def _hopeless(self, step: int, value: float) -> bool:
        """Whether too many others had more at this step.

        Median: of the finished trials (Golovin et al., KDD 2017). Halving: of all that came so far, the
        asynchronous successive halving of Li et al. (MLSys 2020).
        """
        counted = ("done",) if self.config.pruning == "median" else ("done", "pruned")
        others = [t.steps[step] for t in self.tries if t.state in counted and step in t.steps]
        above = sum(other > value for other in others)
        return len(others) >= STARTUP and above > KEEP[self.config.pruning] * len(others)

    def _importance(self) -> dict[str, float]:
        from optuna.importance import get_param_importances

        if len({t.value for t in self.tries if t.state == "done"}) < FEWEST:
            return {}
        return {name: float(share) for name, share in get_param_importances(self.study).items()}

    def _read(self, path: Path) -> None:
        """Take up the trials kept at `path`."""
        from optuna.trial import create_trial

        distributions = {name: distribution(d) for name, d in self.space.dimensions.items()}
        for ended in tries.read(path):
            value = ended.value if ended.state == "done" else None
            state, steps = state_of(ended), dict(ended.steps)
            made = create_trial(
                state=state, value=value, params=dict(ended.drawn), distributions=distributions,
                intermediate_values=steps,
            )  # fmt: skip
            self.study.add_trial(made)
            self.tries.append(ended)


def rounded(settings: Settings) -> dict[str, Value]:
    """Return settings as they are tried and written: four digits say as much as seventeen."""
    return {n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in settings.items()}
