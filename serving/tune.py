"""`attune tune`: settings of sources, of texts and of classifiers, searched and never on a test.

A subject is whatever has settings to search. Trials are kept in tuning/<name>-<key>.jsonl; the key stands
for all that a trial depends on, so that anything that would make other figures begins a new search. While a
trial runs its checkpoints lie in cache/training: one that was killed goes on.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from profiles.schema import ContractError
from recsys import watch
from recsys.apart import Apart
from recsys.edges import Edge, edges, taken_by
from recsys.space import Range, Settings, Space, Value, at, settable
from recsys.tries import Try
from recsys.tuning import Found, Objective, Tell, TuningConfig, rounded, search
from serving.training import KEPT

BUDGETS = ("trials", "minutes", "memory_gb")  # they change how many trials there are, not what they say


class Subject(Protocol):
    """Something with settings to search."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    @property
    def type(self) -> str:
        """Which of the registry it is, or by which method it learns."""

    @property
    def metric(self) -> str:
        """What is to be large, as ndcg@10."""

    @property
    def config(self) -> TuningConfig:
        """How it is searched."""

    @property
    def space(self) -> Space:
        """What is searched."""

    @property
    def fixed(self) -> BaseModel:
        """Its settings as they are."""

    def key(self, space: Space) -> str:
        """Stand for all that a trial depends on."""
        ...

    def objective(self) -> Objective:
        """Return what tries settings."""
        ...

    def apart(self) -> Sequence[str]:
        """Return the words by which `serving.tune_apart` makes the same objective in another process."""
        ...

    def toml(self, settings: Settings) -> str:
        """Return what to paste for settings that were found."""
        ...

    def put(self, settings: Settings) -> Path:
        """Write settings that were found to the file they are read from, and return its path.

        Raises ContractError where there is no such file, or it cannot be edited line by line.
        """
        ...


@dataclass(frozen=True)
class TunedSource:
    """What was found for one subject."""

    source: str
    type: str
    metric: str  # as ndcg@10
    space: Space  # what was searched
    before: dict[str, Value]  # the settings now, of what was searched
    found: Found
    edges: tuple[Edge, ...]  # where the best is the last that was searched

    @property
    def settings(self) -> dict[str, Value]:
        """The best settings, what the trial found by itself among them."""
        best = self.found.best
        return {**best.settings, **best.found}

    @property
    def current(self) -> Try | None:
        """The trial of the settings as they are now."""
        return next((t for t in self.found.tries if t.settings == self.before), None)


def tune(
    subject: Subject,
    folder: Path,
    only: Sequence[str] = (),
    tell: Tell | None = None,
    ranges: Mapping[str, str] | None = None,
) -> TunedSource:
    """Search the settings of a subject, those of now first; a search that was begun goes on.

    `ranges` are searched in place of those declared, or of settings that have none, `outer.inner` for one
    inside another. Raises ContractError for one that is not to be.
    """
    space, takes = subject.space, taken_by(subject.fixed)
    values = subject.fixed.model_dump()
    for name, told in (ranges or {}).items():
        space = space.within(name, told, settable(type(subject.fixed)))
        dimension = space.dimensions[name]
        for value in dimension.steps(2):
            if not takes(name, value):
                raise ContractError(f"{subject.name}: {name} cannot be {value}")
        if isinstance(dimension, Range) and at(values, name) is None:
            raise ContractError(f"{subject.name}: {name} is none now: name values, as {name}=none,A,B")
    space = space.only(only) if only else space
    before = {name: at(values, name) for name in space.dimensions}
    path = folder / "tuning" / f"{subject.name}-{subject.key(space)}.jsonl"
    unended = folder / KEPT / path.stem
    with _objective(subject) as objective, watch.watching(checkpoints=unended):
        found = search(space, objective, subject.config, path, [before], tell)
    if found.complete:
        shutil.rmtree(unended, ignore_errors=True)
    done = sum(t.state == "done" for t in found.tries)
    ends = edges(space, found.best.settings, takes) if done > 1 else ()
    return TunedSource(subject.name, subject.type, subject.metric, space, rounded(before), found, ends)


def pair(told: str) -> tuple[str, str]:
    """Return both sides of NAME=VALUE."""
    name, sign, value = told.partition("=")
    if not (name and sign and value):
        raise ContractError(f"--range {told}: NAME=LOW:HIGH or NAME=A,B,C is expected")
    return name.strip(), value.strip()


def lasting(config: TuningConfig) -> dict[str, Any]:
    """Return what of a search's settings changes its trials."""
    return config.model_dump(exclude=set(BUDGETS))


@contextmanager
def _objective(subject: Subject) -> Iterator[Objective]:
    """Yield the objective, in a process of its own where its memory is limited."""
    memory = subject.config.memory_gb
    if memory is None:
        yield subject.objective()
        return
    apart = Apart([sys.executable, "-m", "serving.tune_apart", *subject.apart()], memory)
    try:
        yield apart
    finally:
        apart.close()
