"""Settings of texts that are searched: of fine-tuning, pretraining, and a classifier of a labelled file.

None looks at a test: fine-tuning is judged by pairs of other users, and later, that `attune finetune`
validates by too; pretraining by a tenth of the corpus; a classifier by the texts of the file it is given,
left out in turn.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from nlp import pretrain as pretraining
from nlp.classifier_config import ClassifierConfig
from nlp.crossval import CrossValidationConfig
from nlp.encoder import TextEncoder
from nlp.finetune import METRICS, FinetuneConfig, key_of, objective_of
from nlp.pretrain import FORETOLD, PretrainConfig
from nlp.validation import CorpusValidation, LabelMetric, LabelValidation, PairValidation
from profiles import manifest
from profiles.schema import ContractError
from recsys.space import Settings, Space
from recsys.tuning import Objective, TuningConfig
from serving import paste
from serving.finetune import Told, corpus
from serving.labelled import Asked, Texts, learnable, said_of
from serving.tune import lasting
from serving.workspace import Workspace

FINETUNE, PRETRAIN, CLASSIFY = NAMES = ("finetune", "pretrain", "classify")


class LabelTuneConfig(TuningConfig):
    """How settings of a classifier are searched."""

    metric: LabelMetric = Field(
        "f1_macro", description="what is to be large, over all texts left out in turn"
    )


class Finetuning:
    """The fine-tuning of a workspace's text encoder."""

    name = FINETUNE

    def __init__(self, workspace: Workspace, config: TuningConfig) -> None:
        self.workspace = workspace
        self.config = config
        self.fixed: FinetuneConfig = workspace.settings.finetune

    @cached_property
    def told(self) -> Told:
        """The pairs; ContractError where there are none to validate by."""
        told = Told.of(self.workspace, self.fixed)
        if told.validation.is_empty():
            raise ContractError(
                f"finetune: of {len(told.train)} pairs there are none to validate by: raise validation_share "
                f"(now {self.fixed.validation_share:g}), or give more texts"
            )
        return told

    @property
    def type(self) -> str:
        return self.fixed.method

    @property
    def metric(self) -> str:
        return METRICS[objective_of(self.told.train, self.fixed)]

    @property
    def space(self) -> Space:
        now = {**self.fixed.model_dump(), "objective": objective_of(self.told.train, self.fixed)}
        space = Space.of(FinetuneConfig, now)
        return space if self.told.hard is not None else space.without(["negatives"])

    def key(self, space: Space) -> str:
        """Stand for model, pairs, settings and space."""
        frames = (self.told.train, self.told.validation, self.told.chosen, self.told.hard)
        return manifest.content_key(key_of(self.fixed, *frames), space.describe(), lasting(self.config))

    def objective(self) -> Objective:
        """Return what fine-tunes and ranks the held-out pairs."""
        told = self.told
        return PairValidation(told.train, told.validation, self.fixed, told.chosen, told.hard)

    def apart(self) -> Sequence[str]:
        """Return folder and file."""
        return [self.name, str(self.workspace.folder), str(self.workspace.config or "")]

    def toml(self, settings: Settings) -> str:
        """Return what to paste into attune.toml."""
        return _toml(self.workspace, self.name, settings)

    def put(self, settings: Settings) -> Path:
        """Write settings into the workspace's attune.toml."""
        return _put(self.workspace, self.name, settings)


class Pretraining:
    """The pretraining of an encoder on a workspace's texts, or on a file's."""

    name = PRETRAIN
    type = "mlm"
    metric = FORETOLD

    def __init__(self, workspace: Workspace, config: TuningConfig, file: Path | None, column: str) -> None:
        self.workspace = workspace
        self.config = config
        self.fixed: PretrainConfig = workspace.settings.pretrain
        self.file = file
        self.column = column

    @cached_property
    def texts(self) -> list[str]:
        """The corpus."""
        return corpus(self.workspace, self.file, self.column)

    @property
    def space(self) -> Space:
        return Space.of(PretrainConfig)

    def key(self, space: Space) -> str:
        """Stand for texts, settings and space."""
        told = [self.fixed.model_dump(), space.describe(), lasting(self.config)]
        return manifest.content_key(pretraining.FORMAT, self.texts, *told)

    def objective(self) -> Objective:
        """Return what pretrains on most of the corpus and foretells the rest."""
        return CorpusValidation.of(self.texts, self.fixed)

    def apart(self) -> Sequence[str]:
        """Return folder, file of settings, and file and column of texts."""
        opened = self.workspace
        return [self.name, str(opened.folder), str(opened.config or ""), str(self.file or ""), self.column]

    def toml(self, settings: Settings) -> str:
        """Return what to paste into attune.toml."""
        return _toml(self.workspace, self.name, settings)

    def put(self, settings: Settings) -> Path:
        """Write settings into the workspace's attune.toml."""
        return _put(self.workspace, self.name, settings)


class Classifying:
    """A classifier of the texts of a file."""

    name = CLASSIFY

    def __init__(self, asked: Asked, dealing: CrossValidationConfig, config: LabelTuneConfig) -> None:
        self.asked = asked
        self.dealing = dealing
        self.config = config

    @cached_property
    def read(self) -> tuple[Texts, ClassifierConfig]:
        """The file's texts and labels, and the settings as they are."""
        return learnable(self.asked)

    @property
    def fixed(self) -> ClassifierConfig:
        return self.read[1]

    @property
    def type(self) -> str:
        return self.fixed.method

    @property
    def metric(self) -> str:
        return self.config.metric

    @property
    def space(self) -> Space:
        return Space.of(ClassifierConfig, self.fixed.model_dump())

    def key(self, space: Space) -> str:
        """Stand for texts, labels, groups, folds, settings, encoder and space."""
        said, fixed = self.read
        encoder = None if self.type == "tfidf" else TextEncoder(fixed.encoder).name
        unnamed = fixed.model_copy(update={"encoder": fixed.encoder.model_copy(update={"model": None})})
        read = [said.texts, said.labels, said.groups, encoder]
        told = [unnamed.model_dump(), self.dealing.model_dump(), space.describe(), lasting(self.config)]
        return manifest.content_key(read, *told)

    def objective(self) -> Objective:
        """Return what trains on folds and judges by what each left out."""
        said, fixed = self.read
        metric = self.config.metric
        return LabelValidation(said.texts, said.labels, fixed, self.dealing, said.groups, metric)

    def apart(self) -> Sequence[str]:
        """Return what was asked for."""
        told = (self.asked, self.dealing, self.config)
        return [self.name, *(config.model_dump_json() for config in told)]

    def toml(self, settings: Settings) -> str:
        """Return the lines of a file for `--settings`."""
        return paste.table((), {**_flat(said_of(self.asked.settings, self.asked.given)), **settings})

    def put(self, settings: Settings) -> Path:
        """Write settings, those of `--set` too, into the file of `--settings`."""
        if self.asked.settings is None:
            raise ContractError(f"name a TOML file by --settings to write to:\n{self.toml(settings)}")
        told = {**said_of(None, self.asked.given), **settings}
        return paste.put(self.asked.settings, lambda text: paste.written(text, (), told), self.toml(settings))


def of_words(kind: str, told: Sequence[str]) -> Finetuning | Pretraining | Classifying:
    """Return the subject that `apart` names by its words."""
    if kind == CLASSIFY:
        asked, dealing, config = map(json.loads, told)
        return Classifying(Asked(**asked), CrossValidationConfig(**dealing), LabelTuneConfig(**config))
    folder, config, *corpus_of = told
    opened = Workspace(folder, config or None)
    if kind == PRETRAIN:
        file, column = corpus_of
        return Pretraining(opened, TuningConfig(), Path(file) if file else None, column)
    return Finetuning(opened, TuningConfig())


def _toml(workspace: Workspace, section: str, settings: Settings) -> str:
    """Return a section of the workspace's attune.toml with other settings."""
    path = workspace.config
    raw = {} if path is None else tomllib.loads(path.read_text("utf-8"))
    return paste.table((section,), {**_flat(raw.get(section, {})), **settings})


def _put(workspace: Workspace, section: str, settings: Settings) -> Path:
    """Write settings into a section of the workspace's attune.toml."""
    write = lambda text: paste.written(text, (section,), settings)  # noqa: E731
    return paste.put(workspace.config, write, _toml(workspace, section, settings))


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested tables as dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return flat
