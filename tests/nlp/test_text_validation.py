"""What a search of text settings looks at: held-out texts and pairs only, told by quarters and folds."""

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nlp.classifier_config import ClassifierConfig
from nlp.classify import of_fold, out_of_fold, strata
from nlp.crossval import CrossValidationConfig, folds
from nlp.encoder import EncoderConfig
from nlp.finetune import FinetuneConfig, finetune
from nlp.label_metrics import Judged
from nlp.label_sets import LabelSet
from nlp.pairs import PAIRS
from nlp.validation import LabelValidation, PairValidation
from profiles import manifest
from profiles.schema import ContractError
from recsys import watch
from recsys.space import Choice, Space
from recsys.tuning import Pruned, Report, TuningConfig, search

metrics = pytest.importorskip("sklearn.metrics")

WORDS = {"pay": "bill money card", "fly": "plane seat bag", "eat": "bread tea soup"}
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.choice(list(WORDS), size=60, p=[0.5, 0.3, 0.2]).tolist()
SAID = [label if RANDOM.random() < 0.8 else "eat" for label in LABELS]
TEXTS = [f"{RANDOM.choice(WORDS[said].split())} number {n}" for n, said in enumerate(SAID)]
THREE = CrossValidationConfig(folds=3)
LIGHT = ClassifierConfig(method="tfidf")


def nothing(step: int, value: float) -> bool:
    return True


@pytest.fixture
def bert(tiny: Path) -> ClassifierConfig:
    """A classifier that learns by gradients, in seconds."""
    encoder = EncoderConfig(model=str(tiny), max_tokens=8, precision="float32")
    return ClassifierConfig(encoder=encoder, epochs=4, batch_size=16, precision="float32", learning_rate=1e-3)


@pytest.mark.parametrize("metric", ["f1_macro", "accuracy"])
def test_the_value_is_that_of_all_texts_left_out_in_turn(metric: str) -> None:
    found = LabelValidation(TEXTS, LABELS, LIGHT, THREE, metric=metric)({"penalty": 0.02}, Report(nothing))
    parts = out_of_fold(TEXTS, LABELS, LIGHT.model_copy(update={"penalty": 0.02}), THREE)
    names = np.array(parts[0][1].labels.names)
    said = np.concatenate([names[judged.probabilities.argmax(1)] for _, judged in parts])
    true = np.array(LABELS)[np.concatenate([rows for rows, _ in parts])]
    right = {"f1_macro": metrics.f1_score(true, said, average="macro"), "accuracy": np.mean(true == said)}
    assert found.value == pytest.approx(right[metric], abs=1e-12)
    assert 0.5 < found.value < 1


def test_whole_groups_are_left_out() -> None:
    """Texts that name their group, whose label is the group's: only a group seen in training can be told."""
    groups = [f"g{n // 4}" for n in range(48)]
    labels = [("a", "b")[int(g[1:]) % 2] for g in groups]
    value = lambda told: LabelValidation(groups, labels, LIGHT, THREE, told)({}, Report(nothing)).value  # noqa: E731
    assert value(None) == 1
    assert value(groups) < 0.6


def test_labels_of_a_fold_teach_nothing(bert: ClassifierConfig) -> None:
    known = LabelSet.of(LABELS, many=False)
    fold = folds(strata(known, known.matrix(LABELS)), THREE)[0]
    wrong = list(LABELS)
    for row in fold.test:
        wrong[row] = {"pay": "fly", "fly": "eat", "eat": "pay"}[wrong[row]]
    for config in (LIGHT, bert):
        looks: list[Judged] = []

        def look(judged: Judged, looks: list[Judged] = looks) -> float:
            looks.append(judged)
            return 1.0

        with watch.watching(validates=True):
            found = [of_fold(TEXTS, labels, config, known, fold, look) for labels in (LABELS, wrong)]
        found.append(of_fold(TEXTS, LABELS, config, known, fold))  # nor does it matter that somebody looked
        assert all(np.array_equal(f.probabilities, found[0].probabilities) for f in found)
        assert not np.array_equal(found[0].truth, found[1].truth)
        assert len(looks) == (0 if config is LIGHT else 8)


def test_quarters_of_the_first_fold_and_folds_are_told(bert: ClassifierConfig) -> None:
    def steps(config: ClassifierConfig, settings: dict) -> dict[int, float]:
        told: dict[int, float] = {}
        report = Report(lambda step, value: bool(told.setdefault(step, value) or True))
        found = LabelValidation(TEXTS, LABELS, config, THREE, metric="accuracy")(settings, report)
        assert told[max(told)] == found.value
        return told

    assert list(steps(LIGHT, {})) == [5, 6, 7]
    told = steps(bert, {"epochs": 4})
    assert list(told) == [1, 2, 3, 4, 5, 6, 7]
    assert told[4] == told[5]  # after the last epoch it is what the fold gives
    assert list(steps(bert, {"epochs": 2})) == [2, 4, 5, 6, 7]
    assert list(steps(bert, {"epochs": 1})) == [4, 5, 6, 7]
    patient = bert.model_copy(update={"patience": 9, "validation_share": 0.3})
    assert list(steps(patient, {})) == [1, 2, 3, 4, 5, 6, 7]  # by what it holds out itself

    several = bert.model_copy(update={"members": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as optuna gives where a step is told twice
        space = Space.of(ClassifierConfig, bert.model_dump()).only(["head_rate"])
        found = search(space, LabelValidation(TEXTS, LABELS, several, THREE), TuningConfig(trials=1))
    assert list(found.tries[0].steps) == [1, 2, 3, 4, 5, 6, 7]

    seen = []
    with pytest.raises(Pruned):
        LabelValidation(TEXTS, LABELS, bert, THREE)({}, Report(lambda s, v: bool(seen.append(s)) or s < 2))
    assert seen == [1, 2]


def test_settings_that_contradict_each_other_are_named(bert: ClassifierConfig) -> None:
    fixed = bert.model_copy(update={"average_epochs": 3})
    with pytest.raises(ContractError, match="average_epochs = 3 of epochs = 2"):
        LabelValidation(TEXTS, LABELS, fixed, THREE)({"epochs": 2}, Report(nothing))


def test_a_killed_search_ends_as_one_that_was_not(tmp_path: Path) -> None:
    objective = LabelValidation(TEXTS, LABELS, LIGHT, THREE)
    space = Space.of(ClassifierConfig, LIGHT.model_dump())
    config = TuningConfig(trials=9)
    first = [{name: getattr(LIGHT, name) for name in space.dimensions}]
    whole = search(space, objective, config, first=first)
    calls: list[int] = []

    def killed(settings, report):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return objective(settings, report)

    path = tmp_path / "kept.jsonl"
    with pytest.raises(KeyboardInterrupt):
        search(space, killed, config, path, first)
    found = search(space, killed, config, path, first)
    told = [[(t.settings, t.state, t.value, t.steps) for t in f.tries] for f in (whole, found)]
    assert told[0] == told[1]
    assert whole.best.value >= whole.tries[0].value


# Spaces


@pytest.mark.parametrize("method", ["finetune", "fewshot", "frozen", "prototypes", "boosting", "tfidf"])
def test_a_method_is_searched_where_it_reads(method: str) -> None:
    fixed = ClassifierConfig(method=method)
    space = Space.of(ClassifierConfig, fixed.model_dump())
    names = set(space.dimensions)
    assert ("learning_rate" in names) == (method in ("finetune", "fewshot"))
    assert ("penalty" in names) == (method in ("fewshot", "frozen", "prototypes", "tfidf"))
    assert ("within" in names) == (method == "prototypes")
    assert ("trees" in names) == (method == "boosting")
    assert ("grams" in names) == (method == "tfidf")
    assert "threshold" not in names
    assert "threshold" in Space.of(ClassifierConfig, {**fixed.model_dump(), "many": True}).dimensions
    _every_point_is_valid(fixed, space)


@pytest.mark.parametrize("method", ["full", "head", "lora"])
def test_fine_tuning_is_searched_where_it_reads(method: str) -> None:
    fixed = FinetuneConfig(method=method)
    space = Space.of(FinetuneConfig, fixed.model_dump())
    assert ("lora_rank" in space.dimensions) == (method == "lora")
    assert ("layer_decay" in space.dimensions) == (method == "full")
    regression = {**fixed.model_dump(), "objective": "regression"}
    assert not {"temperature", "negatives"} & set(Space.of(FinetuneConfig, regression).dimensions)
    _every_point_is_valid(fixed, space)


def _every_point_is_valid(fixed, space: Space) -> None:
    defaults = {name: getattr(fixed, name) for name in space.dimensions}
    assert space.holding(defaults) == space
    random = np.random.default_rng(0)
    for draw in range(40):
        point = {
            name: values[(0, -1)[draw] if draw < 2 else random.integers(len(values))]
            for name, d in space.dimensions.items()
            for values in [list(d.values) if isinstance(d, Choice) else d.steps(7)]
        }
        config = type(fixed).model_validate({**fixed.model_dump(), **point}).model_dump()
        assert {name: config[name] for name in point} == point


# Pairs


def pairs(times: int, first: int = 0) -> pl.DataFrame:
    opposite = [("hot", "cold"), ("big", "small"), ("day", "night"), ("red", "green"), ("up", "down")]
    rows = [(f"{a} {n}", f"{b} thing") for n in range(first, first + times) for a, b in opposite]
    return PAIRS.conform(pl.DataFrame(rows, schema=["left", "right"], orient="row"))


def test_pairs_are_judged_as_fine_tuning_ends(tiny: Path, tmp_path: Path) -> None:
    fixed = FinetuneConfig(
        model=str(tiny), epochs=4, batch_size=16, max_tokens=8, learning_rate=5e-3, precision="float32"
    )
    told: dict[int, float] = {}
    report = Report(lambda step, value: bool(told.setdefault(step, value) or True))
    train, held = pairs(6), pairs(2, 6)
    found = PairValidation(train, held, fixed)({"learning_rate": 8e-3, "epochs": 3}, report)
    config = fixed.model_copy(update={"learning_rate": 8e-3, "epochs": 3})
    expected = finetune(train, held, config, tmp_path / "made")
    assert found.value == expected.after > expected.before
    assert list(told) == [1, 2, 4]
    assert told[4] == found.value
    # That somebody looks changes nothing: what is held out teaches nothing.
    with watch.watching(validates=True):
        watched = finetune(train, pairs(2, 9), config, tmp_path / "watched")
    weights = [manifest.verify(t.folder)["files"]["model.safetensors"] for t in (expected, watched)]
    assert weights[0] == weights[1]
    with pytest.raises(ContractError, match="no pairs to validate by: raise validation_share"):
        PairValidation(train, held.clear(), fixed)({"epochs": 1}, report)
