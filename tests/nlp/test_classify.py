"""Classifiers of every method: they learn, come back from their folder, and refuse what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from nlp.classifier_config import ClassifierConfig
from nlp.classify import Classifier, load, out_of_fold, train
from nlp.crossval import CrossValidationConfig
from nlp.encoder import EncoderConfig
from nlp.explain import label_reasons
from profiles.schema import ContractError

FILLERS = ["please", "tell", "me", "now", "about", "the", "thing", "you", "said", "to"]
WORDS = {"card": ["card", "visa"], "money": ["cash", "euro"], "travel": ["train", "hotel"]}


def corpus(texts: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts whose label is told by one word of two; the labels are unlike in number."""
    random = np.random.default_rng(seed)
    labels = random.choice(list(WORDS), size=texts, p=[0.5, 0.3, 0.2]).tolist()
    said = []
    for label in labels:
        words = [str(w) for w in random.choice(FILLERS, size=random.integers(2, 9))]
        words.insert(int(random.integers(len(words))), str(random.choice(WORDS[label])))
        said.append(" ".join(words))
    return said, labels


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    """A BERT of two layers that knows nothing yet but how to cut words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*FILLERS, *(word for each in WORDS.values() for word in each)]
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    made = tmp_path_factory.mktemp("models") / "tiny"
    made.mkdir()
    (made / "vocab.txt").write_text("\n".join([*marks, *words]))
    BertTokenizerFast(str(made / "vocab.txt")).save_pretrained(made)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=200, max_position_embeddings=64, **shape)).save_pretrained(made)
    return EncoderConfig(model=str(made), max_tokens=32, precision="float32")


def config(tiny: EncoderConfig, **settings: object) -> ClassifierConfig:
    quick = {"encoder": tiny, "learning_rate": 5e-3, "epochs": 15, "batch_size": 16, "precision": "float32"}
    return ClassifierConfig.model_validate(quick | settings)


def right(classifier: Classifier, texts: list[str], labels: list[str]) -> float:
    judged = classifier.judged(texts, labels)
    return float((judged.truth == judged.predicted).all(axis=1).mean())


METHODS = {
    "finetune": {},
    "everything": {
        "mixup": 0.3, "r_drop": 0.5, "contrastive": 0.5, "l1": 1e-5, "dropout": 0.05,
        "class_weights": "balanced", "average_epochs": 2, "epochs": 12,
    },
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1, "epochs": 20, "augment": {"copies": 1, "synonym": 0}},
    "fewshot": {"method": "fewshot"},
    "tfidf": {"method": "tfidf"},
    "characters": {"method": "tfidf", "grams": "characters"},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_and_comes_back_the_same(name: str, tiny: EncoderConfig, tmp_path: Path):
    texts, labels = corpus()
    classifier = train(texts, labels, config(tiny, **METHODS[name]), tmp_path / "made")
    fresh = corpus(60, seed=1)
    assert right(classifier, *fresh) > 0.9
    p = classifier.predict(fresh[0])
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(load(tmp_path / "made").predict(fresh[0]), p)
    assert not [path for path in (tmp_path / "made").rglob("*") if path.suffix in (".pkl", ".bin", ".pt")]


@pytest.mark.parametrize("method", ["frozen", "prototypes", "boosting"])
def test_on_the_vectors_of_a_trained_encoder(method: str, tmp_path: Path):
    texts, labels = corpus(90)
    classifier = train(
        texts, labels, ClassifierConfig(method=method, trees=15, penalty=0.01), tmp_path / "made"
    )
    assert right(classifier, *corpus(60, seed=1)) > 0.85
    assert load(tmp_path / "made").members[0].encoder.name.startswith("body-")
    linear = method != "boosting"
    reasons = label_reasons(classifier, texts[0], labels[0])
    assert reasons.method == ("integrated gradients" if linear else "leave one word out")


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tiny: EncoderConfig, tmp_path: Path):
    texts, labels = corpus(40)
    made = [
        train(texts, labels, config(tiny, epochs=2, seed=seed), tmp_path / name).predict(texts)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


@pytest.mark.parametrize("method", ["finetune", "tfidf"])
def test_several_labels_or_none(method: str, tiny: EncoderConfig, tmp_path: Path):
    random = np.random.default_rng(0)
    texts, labels = [], []
    for _ in range(90):
        chosen = [name for name in WORDS if random.random() < 0.4]
        words = [str(random.choice(WORDS[name])) for name in chosen] + ["please", "now"]
        texts.append(" ".join(random.permutation(words)))
        labels.append(chosen)
    made = config(tiny, method=method, many=True, epochs=30, label_smoothing=0.0)
    classifier = train(texts, labels, made, tmp_path / "made")
    judged = classifier.judged(texts, labels)
    assert (judged.predicted == judged.truth).mean() > 0.95
    frame = classifier.frame(judged.probabilities)
    assert frame["predicted"].list.len().to_list() == judged.predicted.sum(axis=1).tolist()
    assert frame["predicted"].list.len().equals(frame["probability"].list.len())
    assert frame["probability"].explode().drop_nulls().min() >= 0.5


@pytest.mark.parametrize("bagging", ["seeds", "folds"])
def test_an_ensemble_is_the_mean_of_its_members(bagging: str, tiny: EncoderConfig, tmp_path: Path):
    texts, labels = corpus(45)
    settings = {"members": 3, "bagging": bagging, "epochs": 3, "patience": 1}
    classifier = train(texts, labels, config(tiny, **settings), tmp_path / "made")
    alone = [
        Classifier(classifier.labels, classifier.config, classifier.prior, [member], {}).predict(texts)
        for member in classifier.members
    ]
    assert not np.allclose(alone[0], alone[1])
    np.testing.assert_allclose(classifier.predict(texts), np.mean(alone, axis=0), atol=1e-6)
    assert all(trained["validations"] for trained in classifier.about["history"])


def test_folds_judge_every_text_once_by_a_classifier_that_has_not_seen_it(tiny: EncoderConfig):
    texts, labels = corpus(60)
    texts[7], labels[7] = "visa cash visa", "odd"  # one text alone has this label
    done = []
    dealing = CrossValidationConfig(folds=3, repeats=2)
    found = out_of_fold(texts, labels, config(tiny, method="tfidf"), dealing, told=lambda *n: done.append(n))
    assert done == [(n, 6) for n in range(1, 7)]
    for repeat in (found[:3], found[3:]):
        np.testing.assert_array_equal(np.sort(np.concatenate([rows for rows, _ in repeat])), np.arange(60))
    for rows, judged in found:
        assert judged.labels.names == ("card", "money", "odd", "travel")
        if 7 in rows:
            at = int(np.flatnonzero(rows == 7)[0])
            assert judged.truth[at, 2]
            assert judged.probabilities[at, 2] == 0  # never learned


STRANGE = [
    "",
    " \n",
    "\u200b",
    "visa " * 20_000,
    "x" * 100_000,
    "🎉👩‍👩‍👧‍👦",
    "مرحبا بالعالم",
    "кассa 現金 visa",
    "half \ud83d",
]


@pytest.mark.parametrize("method", ["finetune", "tfidf"])
def test_strange_texts_have_an_answer(method: str, tiny: EncoderConfig, tmp_path: Path):
    texts, labels = corpus(40)
    strange = [*texts, *STRANGE]
    classifier = train(
        strange, [*labels, *["card"] * len(STRANGE)], config(tiny, method=method, epochs=1), tmp_path / "made"
    )
    assert classifier.about["left_out"] == 2
    p = classifier.predict(STRANGE)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(p[0], classifier.prior)
    np.testing.assert_allclose(p[1], classifier.prior)
    assert classifier.predict([]).shape == (0, 3)


def test_a_label_with_one_text_is_learned_from(tiny: EncoderConfig, tmp_path: Path):
    texts, labels = [*corpus(40)[0], "unheard"], [*corpus(40)[1], "odd"]
    for method in ("finetune", "fewshot", "tfidf"):
        settings = {"method": method, "epochs": 20, "penalty": 0.01, "patience": 20}
        classifier = train(texts, labels, config(tiny, **settings), tmp_path / method)
        assert classifier.predict(["unheard"]).argmax() == classifier.labels.names.index("odd")


def test_a_text_in_another_script_says_nothing(tiny: EncoderConfig, tmp_path: Path):
    """Half of the tokens known is enough; a lone mark for what is not in the vocabulary is no reading."""
    texts = ["card please", "cash please", "visa now", "euro now", "card 头 头", "card 头"]
    made = train(texts[:4], ["card", "money", "card", "money"], config(tiny, method="frozen"), tmp_path / "m")
    heard = made.heard([*texts[4:], "我的头很痛", "", "🎉"])
    assert np.isnan(heard).all(axis=1).tolist() == [True, False, True, True, True]
    np.testing.assert_array_equal(made.predict(["我的头很痛"])[0], made.prior)
    np.testing.assert_array_equal(made.predict(["card 头"])[0], heard[1])


def test_a_label_it_never_learned_counts_as_wrong(tiny: EncoderConfig, tmp_path: Path):
    classifier = train(*corpus(), config(tiny, method="tfidf"), tmp_path / "made")
    judged = classifier.judged(["a card", "a visa"], ["card", "unknown"])
    assert judged.labels.names == ("card", "money", "travel", "unknown")
    assert (judged.truth == judged.predicted).all(axis=1).tolist() == [True, False]


def test_what_cannot_be_learned_is_refused_and_leaves_nothing(tiny: EncoderConfig, tmp_path: Path):
    place, plain = tmp_path / "made", config(tiny, method="tfidf")
    refused = [
        (["a", "b"], ["x", "x"], plain, "two labels or more to tell apart; there is only one, 'x'"),
        (["a", "b"], ["x"], plain, "2 texts cannot have 1 labels"),
        ([], [], plain, "there is none"),
        (["", " "], ["x", "y"], plain, "all 2 texts are empty"),
        (["a", None], ["x", "y"], plain, "row 2: a text is expected, not None"),
        (["a", "b"], ["x", None], plain, "row 2: one label is expected, not None"),
        (["🎉", "!"], ["x", "y"], plain, "the texts hold no words"),
        (["a", "b"], [[], []], config(tiny, method="tfidf", many=True), "there is none"),
    ]
    for texts, labels, settings, message in refused:
        with pytest.raises(ContractError, match=message):
            train(texts, labels, settings, place)
        assert not list(tmp_path.iterdir())
    place.mkdir()
    with pytest.raises(ContractError, match="is there already"):
        train(*corpus(), plain, place)


def test_settings_that_contradict_each_other_are_refused():
    for settings, message in (
        ({"average_epochs": 2, "patience": 1}, "needs patience = 0"),
        ({"average_epochs": 9, "epochs": 3}, "average_epochs = 9 of epochs = 3"),
        ({"method": "fewshot", "train_body": False}, "use frozen"),
        ({"method": "prototypes", "many": True}, "use frozen or finetune"),
        ({"encoder": {"dimension": 64}}, "learns from whole vectors"),
    ):
        with pytest.raises(ValidationError, match=message):
            ClassifierConfig.model_validate(settings)


def test_a_folder_that_changed_is_refused_before_it_is_parsed(tiny: EncoderConfig, tmp_path: Path):
    train(*corpus(30), config(tiny, epochs=1), tmp_path / "made")
    whole = tmp_path / "made"

    def spoiled(change: object) -> str:
        place = tmp_path / "spoiled"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        change(place)  # type: ignore[operator]
        with pytest.raises(ContractError) as refused:
            load(place)
        return str(refused.value)

    def changed(place: Path) -> None:
        path = place / "member-0" / "linear.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    def other(place: Path) -> None:
        about = json.loads((place / "manifest.json").read_text())
        about["prior"] = [1.0, 0.0, 0.0]
        (place / "manifest.json").write_text(json.dumps(about))

    assert "model.safetensors: missing" in spoiled(lambda p: (p / "member-0/body/model.safetensors").unlink())
    assert "SHA-256 differs" in spoiled(changed)
    assert "seal differs" in spoiled(other)
    assert "not named in the manifest" in spoiled(lambda p: (p / "weights.pkl").write_bytes(b"\x80\x04."))
    assert "there is no manifest.json" in spoiled(lambda p: (p / "manifest.json").unlink())
    with pytest.raises(ContractError, match=r"manifest\.json"):
        load(tmp_path / "nowhere")
