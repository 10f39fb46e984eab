"""Classifiers of texts: trained into a sealed folder, read from it, asked for probabilities.

    classifier = train(texts, labels, ClassifierConfig(), Path("intents"))
    probabilities = load(Path("intents")).predict(texts)

A folder holds `members`, each an encoder's body or words with arrays over them, whose probabilities are
averaged. Its manifest names the SHA-256 of every file and is checked before anything is parsed.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from nlp import scorers
from nlp.augment import augmented, near_words
from nlp.classifier_config import ClassifierConfig
from nlp.crossval import CrossValidationConfig, Fold, Rows, cut, folds
from nlp.encoder import TextEncoder
from nlp.label_metrics import Judged
from nlp.label_sets import Given, LabelSet, Matrix, Probabilities
from nlp.light_learners import Floats, Linear, fit_logistic, fit_trees, probabilities
from nlp.prototypes import fit_prototypes, words_of
from nlp.scorers import Scorer, Words
from profiles import manifest
from profiles.schema import ContractError
from recsys.training import Trained

PRODUCER, FORMAT = "classifier", 1


@dataclass(frozen=True)
class Classifier:
    """A trained classifier; safe to share between threads."""

    labels: LabelSet
    config: ClassifierConfig
    prior: Floats  # share of each label in the texts it learned from
    members: Sequence[Scorer]
    about: dict[str, Any]  # its manifest

    def predict(self, texts: Sequence[str]) -> Probabilities:
        """Return (texts, labels): the mean over the members; the prior where a text says nothing."""
        found = self.heard(texts)
        filled: Probabilities = np.where(np.isnan(found), self.prior, found)
        return filled

    def heard(self, texts: Sequence[str]) -> Probabilities:
        """Return what `predict` does, but NaN where a text holds nothing that any member knows."""
        texts = checked(texts)
        total = np.zeros((len(texts), len(self.labels.names)), np.float32)
        if not len(texts):
            return total
        silent = np.ones(total.shape, np.bool_)
        for member in self.members:
            found = probabilities(member.logits(texts), self.labels.many)
            total += np.where(np.isnan(found), self.prior, found)
            silent &= np.isnan(found)
        total[silent] = np.nan
        return total / np.float32(len(self.members))

    def judged(self, texts: Sequence[str], labels: Given) -> Judged:
        """Return predictions beside the truth; a label it never learned is one it never gives."""
        wider = self.labels.extended(labels)
        found = wider.padded(self.predict(texts))
        return Judged(wider, wider.matrix(labels), found, self.config.threshold)

    def frame(self, found: Probabilities) -> pl.DataFrame:
        """Return predicted and probability of each text, or lists of both where it may have several."""
        names = np.array(self.labels.names)
        if not self.labels.many:
            best = found.argmax(axis=1)
            likeliest = found[np.arange(len(found)), best]
            return pl.DataFrame({"predicted": names[best].tolist(), "probability": likeliest})
        chosen = self.labels.chosen(found, self.config.threshold)
        columns = {
            "predicted": [names[row].tolist() for row in chosen],
            "probability": [p[row].tolist() for p, row in zip(found, chosen, strict=True)],
        }
        return pl.DataFrame(columns, {"predicted": pl.List(pl.String), "probability": pl.List(pl.Float32)})


def checked(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list; raises ContractError naming the first that is none."""
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise ContractError(f"row {number}: a text is expected, not {text!r}")
    return list(texts)


def load(folder: Path) -> Classifier:
    """Read a classifier; raises ContractError where it is none, or a file is missing or changed."""
    about, config = described(folder)
    labels = LabelSet(tuple(about["labels"]), config.many)
    places = [folder / name for name in about["members"]]
    members = [scorers.read(place, config) for place in places]
    return Classifier(labels, config, np.array(about["prior"], np.float32), members, about)


def described(folder: Path) -> tuple[dict[str, Any], ClassifierConfig]:
    """Return manifest and settings of a classifier without reading its members; raises as `load` does."""
    about = manifest.verify(folder)
    if about.get("producer") != PRODUCER or about.get("format") != FORMAT:
        raise ContractError(f"{folder}: not a classifier of this version; `attune classify train` makes one")
    try:
        return about, ClassifierConfig.model_validate(about["config"])
    except ValidationError as error:
        raise ContractError(f"{folder}: its settings are of another version: {error}") from None


def train(
    texts: Sequence[str],
    labels: Given,
    config: ClassifierConfig,
    folder: Path,
    judge: Callable[[Classifier], float] | None = None,
) -> Classifier:
    """Learn labels from texts and seal the classifier in `folder`; texts without words are left out.

    Where epochs are validated (`recsys.watch`) and nothing is held out to stop by, the `judge` is asked what
    each member is worth then. Raises ContractError where `folder` is there already, or there are fewer than
    two labels to tell apart.
    """
    if folder.exists():
        raise ContractError(f"{folder}: is there already; a classifier is never changed, give another folder")
    texts = checked(texts)
    if len(texts) != len(labels):
        raise ContractError(f"{len(texts)} texts cannot have {len(labels)} labels, one entry each")
    known = LabelSet.of(labels, config.many)
    if len(known.names) < 2 - config.many:
        only = f"only one, {known.names[0]!r}" if known.names else "none"
        raise ContractError(f"there must be two labels or more to tell apart; there is {only}")
    rows = np.array([row for row, text in enumerate(texts) if text.strip()], np.intp)
    if not len(rows):
        raise ContractError(f"all {len(texts)} texts are empty: there is nothing to learn from")
    truth = known.matrix(labels)[rows]
    told = [texts[row] for row in rows]
    prior = truth.mean(axis=0)
    about: dict[str, Any] = {
        "producer": PRODUCER,
        "format": FORMAT,
        "config": config.model_copy(update={"encoder": config.encoder.model_copy(update={"model": None})}),
        "encoder": None if config.method == "tfidf" else TextEncoder(config.encoder).name,
        "labels": known.names,
        "prior": prior.tolist(),
        "texts": len(told),
        "left_out": len(texts) - len(told),
        "history": [],
    }
    about["config"] = about["config"].model_dump(mode="json")
    with manifest.building(folder, about) as made:
        parts = _parts(known, truth, config)
        about["members"] = [f"member-{number}" for number in range(len(parts))]
        for number, (learned, held) in enumerate(parts):
            place = made / about["members"][number]
            place.mkdir()
            # A member is a fit like any other: one that was made alone before is gone on from.
            own = config.model_copy(update={"seed": config.seed + number, "members": 1})
            asked = None if judge is None else lambda m: judge(Classifier(known, config, prior, (m,), about))
            trained = _member(told, known, truth, learned, held, own, place, asked)
            about["history"].append(asdict(trained))
    return load(folder)


def out_of_fold(
    texts: Sequence[str],
    labels: Given,
    config: ClassifierConfig,
    dealing: CrossValidationConfig,
    groups: Sequence[str] | None = None,
    told: Callable[[int, int], None] | None = None,
) -> list[tuple[Rows, Judged]]:
    """Train and judge once a fold; returns the rows each fold tested and what was said of them.

    `told` hears how many folds are done, of how many.
    """
    known = LabelSet.of(labels, config.many)
    dealt = folds(strata(known, known.matrix(labels)), dealing, groups)
    found = []
    for number, fold in enumerate(dealt):
        found.append((fold.test, of_fold(texts, labels, config, known, fold)))
        if told:
            told(number + 1, len(dealt))
    return found


def of_fold(
    texts: Sequence[str],
    labels: Given,
    config: ClassifierConfig,
    known: LabelSet,
    fold: Fold,
    value: Callable[[Judged], float] | None = None,
) -> Judged:
    """Train on a fold and judge by what it left out, in the columns of all labels, whatever it lacked.

    `value` says what an epoch's predictions are worth, where epochs are validated.
    """
    learned, tested = (_pick(labels, rows) for rows in (fold.train, fold.test))
    asked = [texts[row] for row in fold.test]

    def wide(classifier: Classifier) -> Judged:
        judged = classifier.judged(asked, tested)
        found = np.zeros((len(asked), len(known.names)), np.float32)
        found[:, [known.names.index(name) for name in judged.labels.names]] = judged.probabilities
        return Judged(known, known.matrix(tested), found, config.threshold)

    judge = None if value is None else lambda classifier: value(wide(classifier))
    with tempfile.TemporaryDirectory(prefix="classifier-") as scratch:
        told = [texts[row] for row in fold.train]
        return wide(train(told, learned, config, Path(scratch) / "fold", judge))


def strata(labels: LabelSet, truth: Matrix) -> list[str]:
    """Return one name a text to stratify by: its label, or all of them together."""
    names = np.array(labels.names)
    return ["\x1f".join(names[row]) for row in truth]


def _pick(labels: Given, rows: Rows) -> Given:
    picked: Any = [labels[row] for row in rows]
    return picked  # type: ignore[no-any-return]


def _parts(labels: LabelSet, truth: Matrix, config: ClassifierConfig) -> list[tuple[Rows, Rows]]:
    """Return, of each member, the rows it learns from and those it may stop by."""
    every, nothing = np.arange(len(truth)), np.zeros(0, np.intp)
    named = strata(labels, truth)
    if config.bagging == "folds" and config.members > 1:
        dealing = CrossValidationConfig(folds=config.members, seed=config.seed)
        return [(fold.train, fold.test) for fold in folds(named, dealing)]
    if config.method != "finetune" or not config.patience:
        return [(every, nothing)] * config.members
    seeds = range(config.seed, config.seed + config.members)
    held = [cut(named, config.validation_share, seed) for seed in seeds]
    return [(np.setdiff1d(every, rows), rows) for rows in held]


def _member(
    texts: list[str],
    labels: LabelSet,
    truth: Matrix,
    learned: Rows,
    held: Rows,
    config: ClassifierConfig,
    place: Path,
    judge: Callable[[Scorer], float] | None,
) -> Trained:
    """Train one member into an open folder; returns how its gradient loop went, if it had one."""
    if config.augment.copies:
        near = {}
        if config.augment.synonym:
            near = near_words(texts, TextEncoder(config.encoder), config.augment.nearness)
        made, origin = augmented([texts[row] for row in learned], config.augment, config.seed, near)
        more = np.arange(len(texts), len(texts) + len(made))
        texts, truth = [*texts, *made], np.concatenate([truth, truth[learned[origin]]])
        learned = np.concatenate([learned, more])
    if config.method in ("finetune", "fewshot"):
        return _tuned(texts, truth, learned, held, config, place, judge)
    told, aims = [texts[row] for row in learned], truth[learned]
    balanced = config.class_weights == "balanced"
    if config.method == "tfidf":
        words = Words.of(told, config.grams)
        scorers.write_words(words, place)
        scorers.write_head(
            fit_logistic(words.features(told), aims, config.many, config.penalty, balanced), place
        )
        return Trained()
    encoder = TextEncoder(config.encoder)
    _write_body(encoder, place)
    vectors = encoder.encode(told)
    if config.method == "frozen":
        scorers.write_head(fit_logistic(vectors, aims, config.many, config.penalty, balanced), place)
    elif config.method == "prototypes":
        named = encoder.encode(words_of(labels.names))
        shape = (config.within, config.names, config.scale, config.penalty, balanced)
        scorers.write_head(fit_prototypes(vectors, aims, named, *shape), place)
    else:
        settings = (config.trees, config.leaves, balanced, config.seed)
        scorers.write_head(fit_trees(vectors, aims, config.many, *settings), place)
    return Trained()


def _tuned(
    texts: list[str],
    truth: Matrix,
    learned: Rows,
    held: Rows,
    config: ClassifierConfig,
    place: Path,
    judge: Callable[[Scorer], float] | None,
) -> Trained:
    from nlp.encoder import tokenize
    from nlp.label_network import LabelNetwork
    from nlp.label_training import Examples, Learning, fit
    from nlp.network import load as load_network

    encoder = TextEncoder(config.encoder)
    tokenizer, text = load_network(encoder.folder, encoder.recipe)
    read = partial(tokenize, tokenizer, max_tokens=encoder.max_tokens)
    width = encoder.recipe.projection or text.body.config.hidden_size
    network = LabelNetwork(text, width, truth.shape[1], config.scale, config.many)
    pad = tokenizer.pad_token_id or 0
    examples = Examples(network, read(texts), truth, pad)
    asked = None if judge is None else lambda: judge(Learning(network, read, pad))
    trained = fit(examples, config, learned, held, asked)
    (place / scorers.BODY).mkdir()
    network.text.save(place / scorers.BODY, tokenizer)
    head: Linear = network.linear()
    if config.method == "fewshot":
        vectors = examples.encoded(learned).numpy()
        balanced = config.class_weights == "balanced"
        head = fit_logistic(vectors, truth[learned], config.many, config.penalty, balanced)
    scorers.write_head(head, place)
    return trained


def _write_body(encoder: TextEncoder, place: Path) -> None:
    from nlp.network import load as load_network

    tokenizer, text = load_network(encoder.folder, encoder.recipe)
    (place / scorers.BODY).mkdir()
    text.save(place / scorers.BODY, tokenizer)
