"""Figures of labels against scikit-learn, with texts drawn twice or not at all among them."""

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as oracle

from nlp.label_metrics import Judged, figures, gain, measure, reliability
from nlp.label_sets import LabelSet
from profiles.schema import ContractError
from recsys.significance import interval

NAMES = ("cat", "dog", "eel", "fox")


def judged(many: bool, texts: int = 150, seed: int = 4) -> Judged:
    """Lopsided labels, tied scores, a label that is rare."""
    random = np.random.default_rng(seed)
    scores = np.round(random.gamma(0.6, size=(texts, 4)) * [4, 2, 1, 0.5], 1) + 0.05
    if many:
        scores = np.clip(scores / 5, 0, 1)
        truth = random.random((texts, 4)) < np.clip(scores * [0.9, 0.5, 1.2, 0.3], 0, 1)
    else:
        scores /= scores.sum(axis=1, keepdims=True)
        noisy = scores + 0.3 * random.random((texts, 4))
        truth = noisy == noisy.max(axis=1, keepdims=True)
    return Judged(LabelSet(NAMES, many), truth, scores.astype(np.float32), 0.3)


@pytest.mark.parametrize("many", [False, True])
def test_every_figure_is_that_of_scikit_learn_under_any_weights(many: bool):
    of = judged(many)
    weights = np.random.default_rng(1).integers(0, 4, size=(3, 150)).astype(float)
    found = figures(of, weights)
    for row, w in enumerate(weights):
        one, two = (of.truth, of.predicted) if many else (of.truth.argmax(1), of.predicted.argmax(1))
        told = {"sample_weight": w, "zero_division": 0}
        assert found["accuracy", None][row] == pytest.approx(oracle.accuracy_score(one, two, sample_weight=w))
        for average in ("macro", "micro", "weighted"):
            expected = oracle.precision_recall_fscore_support(one, two, average=average, **told)[:3]
            got = [found[f"{name}_{average}", None][row] for name in ("precision", "recall", "f1")]
            np.testing.assert_allclose(got, expected)
        each = oracle.precision_recall_fscore_support(one, two, **told)[:3]
        for name, values in zip(("precision", "recall", "f1"), each, strict=True):
            np.testing.assert_allclose([found[name, label][row] for label in NAMES], values)
        p = of.probabilities
        for average in ("macro", "weighted"):
            roc = oracle.roc_auc_score(of.truth, p, average=average, sample_weight=w)
            area = oracle.average_precision_score(of.truth, p, average=average, sample_weight=w)
            assert found[f"roc_auc_{average}", None][row] == pytest.approx(roc)
            assert found[f"pr_auc_{average}", None][row] == pytest.approx(area)
        if not many:
            loss = oracle.log_loss(one, p / p.sum(1, keepdims=True), sample_weight=w)
            assert found["log_loss", None][row] == pytest.approx(loss, rel=1e-5)


def test_the_confusion_matrix_has_the_truth_in_its_rows():
    of = judged(many=False)
    expected = oracle.confusion_matrix(of.truth.argmax(1), of.predicted.argmax(1))
    np.testing.assert_array_equal(of.confusion(), expected)
    assert (of.confusion() != of.confusion().T).any()
    with pytest.raises(ContractError, match="no confusion matrix"):
        judged(many=True).confusion()


def test_shares_of_finer_labels_add_up_to_those_of_wider_ones():
    fine = judged(False)
    wide = fine.merged(lambda name: {"cat": "pet", "dog": "pet"}.get(name, name))
    assert wide.labels.names == ("eel", "fox", "pet")
    for row, (shares, truth) in enumerate(zip(fine.probabilities, fine.truth, strict=True)):
        assert wide.probabilities[row] == pytest.approx([shares[2], shares[3], shares[0] + shares[1]])
        assert wide.truth[row].tolist() == [truth[2], truth[3], truth[0] or truth[1]]
    assert (wide.predicted != wide.truth).any()
    same = fine.merged(str)
    assert np.array_equal(same.probabilities, fine.probabilities)
    assert np.array_equal(same.truth, fine.truth)
    with pytest.raises(ContractError, match="several labels"):
        judged(True).merged(str)


def test_the_calibration_error_by_hand():
    """Three texts at .9 of which two are right, two at .6 of which none is."""
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]], np.float32)
    truth = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], bool)
    of = Judged(LabelSet(("a", "b")), truth, p)
    error = figures(of, np.ones((1, 5)))["calibration_error", None]
    assert error[0] == pytest.approx((abs(3 * 0.9 - 2) + 2 * 0.6) / 5)
    bins = reliability(of)
    assert bins["count"].to_list() == [2, 3]
    np.testing.assert_allclose(bins["right"].to_list(), [0, 2 / 3])


def test_intervals_hold_the_figure_and_widen_with_groups():
    of = judged(many=False, texts=400)
    alone = measure(of, resamples=300)
    # The same texts, each ten times: as rows they pass for ten times the evidence, as groups they do not.
    ten = Judged(of.labels, np.repeat(of.truth, 10, 0), np.repeat(of.probabilities, 10, 0), of.threshold)
    grouped = measure(ten, resamples=300, groups=[f"g{row // 10:03}" for row in range(4000)])

    def accuracy(frame: pl.DataFrame) -> tuple[float, float, float]:
        return frame.filter(pl.col("metric") == "accuracy").select("value", "low", "high").row(0)

    value, low, high = accuracy(alone)
    assert low < value < high
    assert accuracy(grouped) == pytest.approx((value, low, high))
    _, low_rows, high_rows = accuracy(measure(ten, resamples=300))
    assert high_rows - low_rows < 0.5 * (high - low)
    spread = 2 * 1.96 * np.sqrt(value * (1 - value) / 400)
    assert high - low == pytest.approx(spread, rel=0.15)


def test_what_is_not_defined_is_null():
    p = np.array([[0.7, 0.3, 0.0], [0.6, 0.4, 0.0]], np.float32)
    truth = np.array([[1, 0, 0], [0, 1, 0]], bool)
    frame = measure(Judged(LabelSet(("a", "b", "never")), truth, p), resamples=50)
    of = {(row["metric"], row["label"]): row for row in frame.iter_rows(named=True)}
    assert of["f1", "never"]["value"] is None
    assert of["roc_auc", "never"]["value"] is None
    assert of["recall", "b"]["value"] == 0
    assert of["recall_macro", None]["value"] == 0.5
    one = measure(Judged(LabelSet(("a", "b", "never")), truth[:1], p[:1]))
    assert one["low"].null_count() == len(one)
    with pytest.raises(ContractError, match="no text to measure"):
        measure(Judged(LabelSet(("a",)), truth[:0, :1], p[:0, :1]))
    with pytest.raises(ContractError, match="2 texts cannot lie in 1 groups"):
        measure(Judged(LabelSet(("a", "b", "never")), truth, p), groups=["x"])


def test_label_sets_read_one_label_or_several():
    labels = LabelSet.of(["b", "a", "b"], many=False)
    assert labels.names == ("a", "b")
    assert labels.matrix(["b", "a"]).tolist() == [[False, True], [True, False]]
    several = LabelSet.of([["b"], [], ["a", "c"]], many=True)
    assert several.matrix([[], ["c", "a"]]).tolist() == [[False] * 3, [True, False, True]]
    assert labels.extended(["z", "a"]).names == ("a", "b", "z")
    with pytest.raises(ContractError, match="row 2: label 'z' is not one of the 2 known"):
        labels.matrix(["a", "z"])
    for given, many in ((["a", None], False), (["a", ""], False), (["a"], True), ([["a", None]], True)):
        with pytest.raises(ContractError, match=f"row {len(given)}: "):
            LabelSet.of(given, many)


def test_a_gain_is_drawn_with_both_sides_alike():
    one = judged(many=False)
    random = np.random.default_rng(2)
    worse = Judged(one.labels, one.truth, random.permuted(one.probabilities, axis=1))
    groups = [str(n // 3) for n in range(150)]
    found = {(r["metric"], r["label"]): r for r in gain(one, worse, 5, 300, groups=groups).to_dicts()}
    left, right = (measure(of, 5, 300, groups=groups) for of in (one, worse))
    for a, b in zip(left.to_dicts(), right.to_dicts(), strict=True):
        row = found[a["metric"], a["label"]]
        assert row["value"] == pytest.approx(a["value"] - b["value"])
        assert row["support"] == a["support"]
    right_by_both = (one.truth == one.predicted).all(1) - 1.0 * (worse.truth == worse.predicted).all(1)
    paired_by_hand = interval(right_by_both, 5, 300, clusters=np.array(groups))
    assert found["accuracy", None]["low"] == pytest.approx(paired_by_hand.low)
    assert found["accuracy", None]["high"] == pytest.approx(paired_by_hand.high)
    assert found["accuracy", None]["low"] > 0
    same = gain(one, one, 5, 300)
    assert same["value"].drop_nulls().to_list() == same["low"].drop_nulls().to_list()
    assert (same["high"].drop_nulls() == 0).all()
    with pytest.raises(ContractError, match="same texts"):
        gain(one, judged(many=False, seed=5))
