"""`attune tune`: settings of the sources, searched on what `attune evaluate` chooses weights on.

The truth of the test is never read: a cut of train is asked, or users who are not in the test. Trials are
kept in tuning/<source>-<key>.jsonl; the key stands for log, split, space and settings, so that anything that
would make other figures begins a new search.
"""

import json
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from profiles import manifest
from profiles.schema import ContractError
from recsys.apart import Apart
from recsys.models import RECOMMENDERS
from recsys.space import Space, Value
from recsys.split import SplitConfig, validations
from recsys.tries import Try
from recsys.tuning import Found, Objective, Tell, rounded, search
from recsys.validation import NINTHS, Cut, Validation
from serving import paste
from serving.mistakes import nearest, say
from serving.pipeline import Pipeline
from serving.settings import DEFAULT_RECOMMENDERS, SourceChoice, TuneConfig
from serving.workspace import Workspace

BUDGETS = ("trials", "minutes", "memory_gb")  # they change how many trials there are, not what they say


@dataclass(frozen=True)
class TunedSource:
    """What was found for one source."""

    source: str
    type: str
    metric: str  # as ndcg@10
    before: dict[str, Value]  # the settings now, of what was searched
    found: Found

    @property
    def settings(self) -> dict[str, Value]:
        """The best settings, what the trial found by itself among them."""
        best = self.found.best
        return {**best.settings, **best.found}

    @property
    def current(self) -> Try | None:
        """The trial of the settings as they are now."""
        return next((t for t in self.found.tries if t.settings == self.before), None)


def chosen(config: TuneConfig, asked: dict[str, Any]) -> TuneConfig:
    """Return the configuration with what was asked for instead; raises ContractError for what cannot be."""
    try:
        return TuneConfig.model_validate({**config.model_dump(), **asked})
    except ValidationError as error:
        wrong = [f"{found['loc'][0]}: {say(found)}" for found in error.errors()]
        raise ContractError("tune: " + "; ".join(wrong)) from None


class Tuner:
    """Searches settings of the sources of one workspace."""

    def __init__(self, pipeline: Pipeline, config: TuneConfig | None = None) -> None:
        self.pipeline = pipeline
        self.workspace: Workspace = pipeline.workspace
        self.config = config or self.workspace.settings.tune
        self._cuts: list[Cut] | None = None

    def names(self, asked: Sequence[str]) -> list[str]:
        """Return the sources asked for; `all` are those that have something to search.

        A recommender that is no source is one of its own name. Raises ContractError for an unknown name.
        """
        sources = self.workspace.settings.sources()
        if list(asked) == ["all"]:
            return [name for name, choice in sources.items() if self.space(choice)]
        for name in asked:
            if name not in sources and name not in RECOMMENDERS:
                raise ContractError(f"no source or recommender is called {name!r}{nearest(name, [*sources])}")
            self.space(self.choice(name), needed=name)
        return list(dict.fromkeys(asked))

    def choice(self, name: str) -> SourceChoice:
        """Return the type and settings of a source, or of a recommender that is none yet."""
        known = self.workspace.settings.sources().get(name)
        return known or SourceChoice(type=name, config=RECOMMENDERS[name].config_class())

    def space(self, choice: SourceChoice, needed: str = "") -> Space:
        """Return what is searched; a log without times has no use for days.

        Raises ContractError where there is nothing, but something is `needed`, for a source of that name.
        """
        kind = RECOMMENDERS[choice.type]
        space = Space.of(kind.config_class)
        if self.pipeline.laboratory.timeless:
            space = space.without(name for name in space.dimensions if name.endswith("_days"))
        if needed and not space:
            why = kind.untuned or "what could be needs times, and this log has only an order"
            raise ContractError(f"{needed}: there is nothing to search: {why}")
        return space

    def tune(self, name: str, only: Sequence[str] = (), tell: Tell | None = None) -> TunedSource:
        """Search the settings of one source, those of now first; a search that was begun goes on."""
        choice, config = self.choice(name), self.config
        space = self.space(choice, needed=name)
        space = space.only(only) if only else space
        values = choice.config.model_dump()
        before = {setting: values[setting] for setting in space.dimensions}
        path = self.workspace.folder / "tuning" / f"{name}-{self._key(choice, space)}.jsonl"
        with self._objective(name) as objective:
            found = search(space, objective, config, path, [before], tell)
        return TunedSource(name, choice.type, f"{config.metric}@{config.k}", rounded(before), found)

    def toml(self, tuned: TunedSource) -> str:
        """Return what to paste into attune.toml for the settings that were found."""
        settings = self._said(tuned)
        raw = self._raw()
        if "recommenders" in raw:
            return paste.table(tuned.source, {**raw["recommenders"].get(tuned.source, {}), **settings})
        return paste.whole(tuned.source, settings, DEFAULT_RECOMMENDERS)

    def put(self, tuned: TunedSource) -> Path:
        """Write the settings that were found into the workspace's attune.toml, and return its path.

        Raises ContractError where there is no such file, or it cannot be edited line by line.
        """
        path = self.workspace.config
        if path is None:
            raise ContractError("the workspace was opened without an attune.toml: name it by --config")
        text = path.read_text("utf-8")
        try:
            changed = paste.written(text, tuned.source, self._said(tuned), DEFAULT_RECOMMENDERS)
        except ContractError as error:
            raise ContractError(f"{path}: {error}\n{self.toml(tuned)}") from None
        manifest.write_atomically(path, changed.encode())
        return path

    def _said(self, tuned: TunedSource) -> dict[str, Value]:
        known = tuned.source in self.workspace.settings.recommenders
        return {**({} if known or tuned.type == tuned.source else {"type": tuned.type}), **tuned.settings}

    def _raw(self) -> dict[str, Any]:
        path = self.workspace.config
        return (
            {"recommenders": self.workspace.settings.recommenders}
            if path is None
            else tomllib.loads(path.read_text("utf-8"))
        )

    def objective(self, name: str) -> Objective:
        """Return what tries settings of a source."""
        choice = self.choice(name)
        if self._cuts is None:
            self._cuts = self._prepare()
        kind, fixed = RECOMMENDERS[choice.type], choice.config.model_dump()
        return Validation(kind, fixed, self._cuts, self.config.metric, self.config.k)

    def _prepare(self) -> list[Cut]:
        laboratory = self.pipeline.laboratory
        splits = [split for split in self.pipeline.cuts(validations) if split.users]
        if not splits:
            raise ContractError(
                "tune: no user has a past before the validation's cut and something new after it; the log is "
                "too short or too small to choose settings on"
            )
        with self.pipeline.progress.task("tune: prepare", len(splits)) as advance:
            cuts = []
            for number, split in enumerate(splits):
                train = laboratory.dataset(split.train, split.as_of)
                ninths = NINTHS if number == 0 else NINTHS[-1:]
                asked = lambda users, split=split: laboratory.queries(split, users)  # noqa: E731
                cuts.append(Cut.of(split, train, laboratory.catalogue, asked, ninths))
                advance(1)
        return cuts

    def _key(self, choice: SourceChoice, space: Space) -> str:
        """Stand for all that a trial depends on; budgets are none of it."""
        settings = self.workspace.settings
        config = self.config.model_dump(exclude=set(BUDGETS))
        protocol = settings.evaluation.model_dump(include=set(SplitConfig.model_fields))
        read = [protocol, settings.recommend.history_limit, self.pipeline.files()]
        return manifest.content_key(
            self.pipeline.laboratory.key, read, choice.describe(), space.describe(), config
        )

    @contextmanager
    def _objective(self, name: str) -> Iterator[Objective]:
        """Yield the objective, in a process of its own where its memory is limited."""
        w, config = self.workspace, self.config
        if config.memory_gb is None:
            yield self.objective(name)
            return
        told = [str(w.folder), str(w.config or ""), name, json.dumps(config.model_dump())]
        apart = Apart([sys.executable, "-m", "serving.tune_apart", *told], config.memory_gb)
        try:
            yield apart
        finally:
            apart.close()
