"""Prototypes against loops, against scikit-learn, and on texts worded as none that was learned from."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from nlp.light_learners import SURE, probabilities
from nlp.prototypes import fit_prototypes, whitening, words_of

COUNTS = (9, 40, 23)


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors of three labels, unlike in number, that differ most in one direction; and three names."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.eye(3, dtype=bool), COUNTS, axis=0)
    vectors = truth @ random.normal(size=(3, 6)) + random.normal(size=(72, 6)) * [3, 1, 0.5, 0.5, 0.2, 0.1]
    named = random.normal(size=(3, 6))
    return *(unit(part).astype(np.float32) for part in (vectors, named)), truth


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_label_that_may_not_move_stands_at_its_mean_and_its_name():
    vectors, named, truth = world()
    scatter = np.zeros((6, 6))
    for label in range(3):
        of_it = vectors[truth[:, label]].astype(float)
        for vector in of_it:
            apart = vector - of_it.mean(axis=0)
            scatter += np.outer(apart, apart) / 72
    inverse = np.linalg.inv(np.eye(6) + scatter / (0.7 * np.trace(scatter) / 6))
    found = whitening(vectors, truth, 0.7)
    ratio = found @ found / inverse  # B is its root, up to one factor
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    np.testing.assert_allclose(np.mean([np.linalg.norm(found @ v) for v in vectors]), 1, rtol=1e-5)

    head = fit_prototypes(vectors, truth, named, 0.7, 0.3, 16.0, 1e9, False)
    asked = unit(np.random.default_rng(5).normal(size=(20, 6)))
    for text, logits in zip(asked, head.logits(asked), strict=True):
        for label in range(3):
            mean = np.mean([found @ v / np.linalg.norm(found @ v) for v in vectors[truth[:, label]]], axis=0)
            name = found @ named[label]
            stand = mean / np.linalg.norm(mean) + 0.3 * name / np.linalg.norm(name)
            expected = 16 * (found @ text) @ stand / np.linalg.norm(stand)
            np.testing.assert_allclose(logits[label], expected, atol=1e-4)


@pytest.mark.parametrize("balanced", [False, True])
def test_drawn_to_nothing_it_is_scikit_learns_logistic_regression(balanced: bool):
    vectors, named, truth = world()
    head = fit_prototypes(vectors, truth, named, 1e9, 0.3, 1e-9, 0.5, balanced)
    weight = "balanced" if balanced else None
    logistic = LogisticRegression(C=2, class_weight=weight, fit_intercept=False, max_iter=1000)
    logistic.fit(vectors, truth.argmax(axis=1))
    got = probabilities(head.logits(vectors), many=False)
    np.testing.assert_allclose(got, logistic.predict_proba(vectors), atol=1e-3)


def test_other_words_are_known_by_what_they_mean_and_not_by_what_they_are_about():
    """Of a text, coordinates 0-2 say its meaning, 3-5 the one pattern learned from, the rest its subject."""
    random = np.random.default_rng(1)

    def texts(each: int, pattern: float) -> tuple[np.ndarray, np.ndarray]:
        truth = np.repeat(np.eye(3, dtype=bool), each, axis=0)
        subject = random.normal(size=(3 * each, 2)) * [5, 1]
        meaning = truth + random.normal(size=(3 * each, 3)) * 0.1
        return unit(np.hstack([meaning, pattern * truth, subject])).astype(np.float32), truth

    known, truth = texts(20, pattern=1)
    asked, expected = texts(200, pattern=0)
    named = np.eye(3, 8, dtype=np.float32)

    def right(head) -> float:
        return (head.logits(asked).argmax(axis=1) == expected.argmax(axis=1)).mean()

    whitened = fit_prototypes(known, truth, named, 1.0, 0.0, 16.0, 10.0, False)
    plain = fit_prototypes(known, truth, named, 1e9, 0.0, 16.0, 10.0, False)
    assert right(whitened) > right(plain) + 0.05


def test_a_label_without_texts_is_not_given_and_one_text_each_is_enough():
    vectors, named, truth = world()
    one = np.flatnonzero(np.diff(np.append(-1, truth.argmax(axis=1))))
    head = fit_prototypes(vectors[one], truth[one], named, 1.0, 0.0, 16.0, 1.0, False)
    assert (head.logits(vectors[one]).argmax(axis=1) == [0, 1, 2]).all()
    two = truth[:, :2].any(axis=1)
    head = fit_prototypes(vectors[two], truth[two], named, 1.0, 0.25, 16.0, 1.0, True)
    assert head.bias.tolist() == [0, 0, -SURE]
    assert np.isfinite(head.logits(vectors)).all()


def test_names_are_read_as_words():
    assert words_of(["card_arrival", "side effects"]) == ["card arrival", "side effects"]
