"""What `attune tune NAME…` names: sources of a workspace, its fine-tuning, pretraining, or a classifier."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp.crossval import CrossValidationConfig
from profiles.schema import ContractError
from recsys.tuning import TuningConfig
from serving.labelled import Asked
from serving.mistakes import chosen
from serving.pipeline import Pipeline
from serving.progress import Progress
from serving.tune import Subject
from serving.tune_sources import Source, Tuner
from serving.tune_texts import (
    CLASSIFY,
    FINETUNE,
    NAMES,
    PRETRAIN,
    Classifying,
    Finetuning,
    LabelTuneConfig,
    Pretraining,
)
from serving.workspace import Workspace, settings_file

LISTS = ("metric", "k")  # how lists are judged, which says nothing of pairs


def subjects(
    names: Sequence[str],
    folder: Path,
    config: Path | None,
    asked: Mapping[str, Any],
    labelled: Mapping[str, Any],
    dealing: Mapping[str, Any],
    progress: Progress,
) -> list[Subject]:
    """Return what is named, in that order, searched as `[tune]` says but for what is `asked`.

    A classifier needs no workspace: its `labelled` file, and how it is dealt out, are all it is judged by.
    """
    found: dict[str, Subject] = {}
    opened = None
    if any(name != CLASSIFY for name in names):
        opened = Workspace(folder, settings_file(folder, config))
    sources = [name for name in names if name not in NAMES]
    if opened is not None and sources:
        pipeline = Pipeline(opened, progress)
        tuner = Tuner(pipeline, chosen("tune", opened.settings.tune, asked))
        pipeline.run(("build",))
        found |= {name: Source(tuner, name) for name in tuner.names(sources)}
    if opened is not None and FINETUNE in names:
        plain = {name: value for name, value in asked.items() if name not in LISTS}
        found[FINETUNE] = Finetuning(opened, chosen("tune", _budget(opened), plain))
    if opened is not None and PRETRAIN in names:
        plain = {name: value for name, value in asked.items() if name not in LISTS}
        budget = chosen("tune", _budget(opened), plain)
        found[PRETRAIN] = Pretraining(opened, budget, labelled["file"], labelled["text"])
    if CLASSIFY in names:
        if labelled["file"] is None:
            raise ContractError("classify: name the file of labelled texts by --file")
        budget = TuningConfig() if opened is None else _budget(opened)
        plain = {name: value for name, value in asked.items() if name != "k"}
        wanted = chosen("tune", LabelTuneConfig(**budget.model_dump()), plain)
        found[CLASSIFY] = Classifying(Asked(**labelled), CrossValidationConfig(**dealing), wanted)
    return [found[name] for name in dict.fromkeys([*names, *found]) if name in found]


def _budget(opened: Workspace) -> TuningConfig:
    return TuningConfig(**opened.settings.tune.model_dump(include=set(TuningConfig.model_fields)))
