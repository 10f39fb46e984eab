"""How well settings of texts do on what they did not learn from: the objectives of a search.

Of labels the figure is that of `attune classify validate`: folds of one labelled file, pooled. Of pairs it is
the one `attune finetune` ends with: pairs of other users, and later. Of a corpus it is how well texts that
were held out are foretold. Nothing else is read. A search hears of
every quarter of the epochs of the first fit, and of every fold, so that it can stop what is behind: a quarter
and not an epoch, as the step size falls over all epochs, however many settings ask for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Self, TypeVar

import numpy as np
import polars as pl
from pydantic import BaseModel, ValidationError

from nlp.classifier_config import ClassifierConfig
from nlp.classify import of_fold, strata
from nlp.crossval import CrossValidationConfig, folds
from nlp.finetune import FinetuneConfig, finetune
from nlp.label_metrics import Judged, figures
from nlp.label_sets import Given, LabelSet
from nlp.pretrain import FORETOLD, PretrainConfig, pretrain
from profiles import manifest
from profiles.schema import ContractError
from recsys import watch
from recsys.space import Settings, put
from recsys.tuning import Outcome, Report

LabelMetric = Literal[
    "accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro", "recall_macro", "roc_auc_macro",
    "pr_auc_macro",
]  # fmt: skip
PARTS = 4  # of all epochs, a report each
TENTH = 10

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class LabelValidation:
    """The objective over a classifier's settings: a metric of all texts that were left out in turn."""

    texts: Sequence[str]
    labels: Given
    fixed: ClassifierConfig  # what is not searched
    dealing: CrossValidationConfig
    groups: Sequence[str] | None = None  # whole ones on one side
    metric: LabelMetric = "f1_macro"

    def __call__(self, settings: Settings, report: Report) -> Outcome:
        """Train on each fold and judge; raises ContractError for settings that contradict each other."""
        config = changed(self.fixed, settings)
        known = LabelSet.of(self.labels, config.many)
        dealt = folds(strata(known, known.matrix(self.labels)), self.dealing, self.groups)
        parts: list[Judged] = []
        for number, fold in enumerate(dealt):
            first = number == 0
            with watch.trying(quarters(report, first), validates=first):
                parts.append(of_fold(self.texts, self.labels, config, known, fold, self._value))
            report(PARTS + number + 1, self._value(*parts))
        return Outcome(self._value(*parts))

    def _value(self, *parts: Judged) -> float:
        truth = np.concatenate([judged.truth for judged in parts])
        found = np.concatenate([judged.probabilities for judged in parts])
        whole = Judged(parts[0].labels, truth, found, parts[0].threshold)
        return float(figures(whole, np.ones((1, len(truth))))[self.metric, None][0])


@dataclass(frozen=True)
class PairValidation:
    """The objective over the settings of fine-tuning: how held-out pairs rank afterwards."""

    train: pl.DataFrame  # PAIRS
    validation: pl.DataFrame
    fixed: FinetuneConfig
    chosen: pl.DataFrame | None = None
    hard: pl.DataFrame | None = None

    def __call__(self, settings: Settings, report: Report) -> Outcome:
        """Fine-tune and judge; raises ContractError for settings that contradict each other."""
        config = changed(self.fixed, settings)
        with (
            TemporaryDirectory(prefix="finetune-") as scratch,
            watch.trying(quarters(report, True), validates=True),
        ):
            tuned = finetune(self.train, self.validation, config, Path(scratch), self.chosen, self.hard)
        if tuned.after is None:
            raise ContractError(
                "there are no pairs to validate by: raise validation_share, or give more texts"
            )
        return Outcome(tuned.after)


@dataclass(frozen=True)
class CorpusValidation:
    """The objective over the settings of pretraining: how held-out texts are foretold afterwards."""

    learned: Sequence[str]
    held: Sequence[str]
    fixed: PretrainConfig

    @classmethod
    def of(cls, texts: Sequence[str], fixed: PretrainConfig) -> Self:
        """Hold out a tenth of the distinct texts, drawn by the seed; ContractError where that is none."""
        distinct = list(dict.fromkeys(text for text in texts if text.strip()))
        drawn = np.random.default_rng(fixed.seed).permutation(len(distinct)).tolist()
        held = len(distinct) // TENTH
        if not held:
            raise ContractError(f"{len(distinct)} distinct texts are too few to hold out a tenth of them")
        return cls([distinct[n] for n in drawn[held:]], [distinct[n] for n in drawn[:held]], fixed)

    def __call__(self, settings: Settings, report: Report) -> Outcome:
        """Pretrain and judge; raises ContractError for settings that contradict each other."""
        config = changed(self.fixed, settings)
        with (
            TemporaryDirectory(prefix="pretrain-") as scratch,
            watch.trying(quarters(report, True), validates=True),
        ):
            place = pretrain(self.learned, config, Path(scratch), held=self.held)
            return Outcome(manifest.read(place)[FORETOLD])


def changed(fixed: Config, settings: Settings) -> Config:
    """Return a configuration with other settings; raises ContractError where they contradict each other."""
    try:
        return type(fixed).model_validate(put(fixed.model_dump(), settings))
    except ValidationError as error:
        raise ContractError(str(error.errors()[0]["msg"])) from None


def quarters(report: Report, reports: bool) -> Callable[[watch.Progress], None]:
    """Return what watches fits: they end with the time; if it `reports`, the first tells its quarters."""
    known = 0

    def told(at: watch.Progress) -> None:
        nonlocal known
        report.check()
        part = PARTS * at.epoch // at.epochs
        if reports and at.validation is not None and part > known:
            known = part
            report(part, at.validation)

    return told
