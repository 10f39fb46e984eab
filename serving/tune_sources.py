"""Settings of the sources, searched on what `attune evaluate` chooses weights on.

The truth of the test is never read: a cut of train is asked, or users who are not in the test.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiles import manifest
from profiles.schema import ContractError
from recsys.models import RECOMMENDERS
from recsys.recommender import RecommenderConfig
from recsys.space import Settings, Space
from recsys.split import SplitConfig, validations
from recsys.tuning import Objective, Tell
from recsys.validation import NINTHS, Cut, Validation
from serving import paste
from serving.mistakes import nearest
from serving.pipeline import Pipeline
from serving.settings import DEFAULT_RECOMMENDERS, SourceChoice, TuneConfig
from serving.tune import TunedSource, lasting, tune
from serving.tune_texts import NAMES
from serving.workspace import Workspace


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
                known = nearest(name, [*sources, *NAMES])
                raise ContractError(f"no source or recommender is called {name!r}{known}")
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
        return tune(Source(self, name), self.workspace.folder, only, tell)

    @property
    def cuts(self) -> list[Cut]:
        """What trials learn from, and who is asked; prepared once."""
        if self._cuts is None:
            self._cuts = self._prepare()
        return self._cuts

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


@dataclass(frozen=True)
class Source:
    """A source of the blend, or a recommender that is none yet, whose settings are searched."""

    tuner: Tuner
    name: str

    @property
    def choice(self) -> SourceChoice:
        return self.tuner.choice(self.name)

    @property
    def type(self) -> str:
        return self.choice.type

    @property
    def metric(self) -> str:
        return f"{self.config.metric}@{self.config.k}"

    @property
    def config(self) -> TuneConfig:
        return self.tuner.config

    @property
    def space(self) -> Space:
        return self.tuner.space(self.choice, needed=self.name)

    @property
    def fixed(self) -> RecommenderConfig:
        config: RecommenderConfig = self.choice.config
        return config

    def key(self, space: Space) -> str:
        """Stand for log, split, space and settings."""
        pipeline, settings = self.tuner.pipeline, self.tuner.workspace.settings
        protocol = settings.evaluation.model_dump(include=set(SplitConfig.model_fields))
        read = [protocol, settings.recommend.history_limit, pipeline.files()]
        told = [self.choice.describe(), space.describe(), lasting(self.config)]
        return manifest.content_key(pipeline.laboratory.key, read, *told)

    def objective(self) -> Objective:
        """Return what fits on the cuts and asks."""
        kind = RECOMMENDERS[self.type]
        return Validation(kind, self.fixed.model_dump(), self.tuner.cuts, self.config.metric, self.config.k)

    def apart(self) -> Sequence[str]:
        """Return folder, file, name and how it is searched."""
        workspace = self.tuner.workspace
        config = json.dumps(self.config.model_dump())
        return ["source", str(workspace.folder), str(workspace.config or ""), self.name, config]

    def toml(self, settings: Settings) -> str:
        """Return what to paste into attune.toml."""
        told, raw = self._said(settings), self._raw()
        if "recommenders" in raw:
            return paste.source(self.name, {**raw["recommenders"].get(self.name, {}), **told})
        return paste.sources(self.name, told, DEFAULT_RECOMMENDERS)

    def put(self, settings: Settings) -> Path:
        """Write settings into the workspace's attune.toml."""
        told = self._said(settings)
        return paste.put(
            self.tuner.workspace.config,
            lambda text: paste.with_source(text, self.name, told, DEFAULT_RECOMMENDERS),
            self.toml(settings),
        )

    def _said(self, settings: Settings) -> Settings:
        known = self.name in self.tuner.workspace.settings.recommenders
        return {**({} if known or self.type == self.name else {"type": self.type}), **settings}

    def _raw(self) -> dict[str, Any]:
        path = self.tuner.workspace.config
        if path is None:
            return {"recommenders": self.tuner.workspace.settings.recommenders}
        return tomllib.loads(path.read_text("utf-8"))
