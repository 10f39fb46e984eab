"""Which words drove a score: known answers, completeness, and spans that lie on words."""

from pathlib import Path

import numpy as np
import pytest

from nlp.classifier_config import ClassifierConfig
from nlp.classify import Classifier, train
from nlp.encoder import TextEncoder
from nlp.explain import Explanation, each_left_out, label_reasons, left_out, match_reasons

SAID = ["i like {} a lot", "we saw {} yesterday", "{} is near my house", "tell me about {}"]
KINDS = {"animal": ["dogs", "a cat", "horses"], "money": ["cash", "my salary", "a bank loan"]}


def words(text: str, explanation: Explanation) -> dict[str, float]:
    return {text[span.start : span.end]: span.weight for span in explanation.spans}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    texts = [form.format(name) for form in SAID for names in KINDS.values() for name in names]
    labels = [kind for _ in SAID for kind, names in KINDS.items() for _ in names]
    made = tmp_path_factory.mktemp("explained") / "made"
    return train(texts, labels, ClassifierConfig(method="frozen", penalty=0.01), made)


def test_leaving_out_a_word_of_a_sum_is_exact():
    worth = {"red": 2.0, "blue": -1.0, "sky": 0.5}

    def score(texts: list[str]) -> np.ndarray:
        return np.array([sum(worth.get(word, 0.0) for word in text.split()) for text in texts])

    found = left_out("the red, sky blue", lambda texts: score([t.replace(",", " ") for t in texts]))
    assert words("the red, sky blue", found) == {"the": 0, "red": 2, "sky": 0.5, "blue": -1}
    assert (found.score, found.baseline, found.error) == (1.5, 0, 0)
    both = left_out("red blue", lambda texts: np.array([float("red" in t and "blue" in t) for t in texts]))
    assert both.error == 1  # each of two words that count only together is worth all of it
    assert left_out("", score).spans == ()


def test_the_word_that_tells_the_label_weighs_most_and_nothing_is_lost(frozen: Classifier):
    text = "tell me about the horses, please"
    found = label_reasons(frozen, text, "animal")
    assert found.method == "integrated gradients"
    weights = words(text, found)
    assert max(weights, key=lambda word: weights[word]) == "horses"
    assert list(weights) == ["tell", "me", "about", "the", "horses", ",", "please"]
    p = frozen.predict([text])[0, frozen.labels.names.index("animal")]
    assert found.score == pytest.approx(np.log(p), abs=0.02)  # predicted in half precision
    assert found.error < 0.05 * abs(found.score - found.baseline) + 0.01
    assert words(text, label_reasons(frozen, text, "money"))["horses"] < 0


def test_any_classifier_is_explained_by_leaving_out(tmp_path: Path):
    texts = ["pay cash now", "cash please", "dogs bark now", "dogs please"]
    made = train(texts, ["m", "m", "a", "a"], ClassifierConfig(method="tfidf"), tmp_path / "made")
    found = label_reasons(made, "now dogs", "a")
    assert found.method == "leave one word out"
    weights = words("now dogs", found)
    assert weights["dogs"] > abs(weights["now"])


def test_what_only_encodes_is_explained_by_leaving_out():
    """A match of word counts: a word's weight is the cosine with it less the cosine without."""

    class Counts:
        name, dimension = "counts", 3

        def encode(self, texts, progress=None):
            counts = np.array([[t.count("red"), t.count("blue"), 1] for t in texts], np.float32)
            return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    found = match_reasons(Counts(), "red sky, blue", "red red")
    assert found.method == "leave one word out"
    other = np.array([2, 0, 1]) / np.sqrt(5)

    def cosine(*counts: int) -> float:
        return float(np.array(counts) @ other / np.linalg.norm(counts))

    whole = cosine(1, 1, 1)
    expected = {"red": whole - cosine(0, 1, 1), "sky": 0, "blue": whole - cosine(1, 0, 1)}
    assert words("red sky, blue", found) == pytest.approx(expected, abs=1e-6)
    assert (found.score, found.baseline) == pytest.approx((whole, cosine(0, 0, 1)))
    assert found.error == pytest.approx(abs(sum(expected.values()) - whole + cosine(0, 0, 1)), abs=1e-6)


def test_several_scores_are_explained_at_once():
    def scores(texts):
        return np.array([[text.count("a"), 10 * text.count("b")] for text in texts])

    one, other = each_left_out("aa b aab c", scores, most=3)
    assert [span.weight for span in one.spans] == [2, 0, 2]  # the fourth word is not left out
    assert [span.weight for span in other.spans] == [0, 10, 10]
    assert (other.score, other.baseline, other.error) == (20, 0, 0)
    assert [found.spans for found in each_left_out("", scores)] == [(), ()]


def test_a_match_is_explained_by_the_words_they_share():
    encoder = TextEncoder()
    text = "the café sells unbelievable strawberries 🎉"
    found = match_reasons(encoder, text, "where to buy strawberries")
    weights = words(text, found)
    assert max(weights, key=lambda word: weights[word]) == "strawberries"
    assert "unbelievable" in weights  # many tokens, one word
    expected = encoder.encode([text, "where to buy strawberries"])
    assert found.score == pytest.approx(float(expected[0] @ expected[1]), abs=0.01)
    assert found.error < 0.1 * abs(found.score - found.baseline) + 0.01
    assert match_reasons(encoder, "", "anything").spans == ()
