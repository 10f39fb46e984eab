"""Folds: every row tested once, labels in their shares, groups never on both sides."""

from collections import Counter

import numpy as np
import pytest

from nlp.crossval import CrossValidationConfig, cut, folds
from profiles.schema import ContractError

LABELS = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
GROUPS = [f"g{row // 5}" for row in range(100)]


def config(**settings: object) -> CrossValidationConfig:
    return CrossValidationConfig.model_validate(settings)


def test_every_row_is_tested_once_with_its_labels_share():
    found = folds(LABELS, config(folds=5))
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in found])), np.arange(100))
    for fold in found:
        assert Counter(LABELS[row] for row in fold.test) == {"a": 12, "b": 6, "c": 2}
        np.testing.assert_array_equal(np.union1d(fold.train, fold.test), np.arange(100))
        assert not np.intersect1d(fold.train, fold.test).size


def test_groups_are_never_on_both_sides():
    for method in ("kfold", "holdout"):
        for fold in folds(LABELS, config(method=method, repeats=3), GROUPS):
            assert not {GROUPS[r] for r in fold.train} & {GROUPS[r] for r in fold.test}
            assert len(fold.test) == 20


def test_a_holdout_cuts_each_label_by_its_share_and_leaves_one():
    rows = cut([*LABELS, "only"], 0.2, seed=3)
    assert Counter(LABELS[row] for row in rows) == {"a": 12, "b": 6, "c": 2}
    assert 100 not in rows


def test_rare_labels_are_cut_by_the_share_on_the_whole():
    labels = [f"l{row // 2}" for row in range(2000)]  # two rows each: a rounded share would cut none or half
    assert 150 < len(cut(labels, 0.1, seed=0)) < 250


def test_repeats_are_dealt_anew_and_seeds_repeat():
    found = folds(LABELS, config(folds=4, repeats=2, seed=9))
    assert [fold.repeat for fold in found] == [0] * 4 + [1] * 4
    assert not np.array_equal(found[0].test, found[4].test)
    again = folds(LABELS, config(folds=4, repeats=2, seed=9))
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.test, other.test)


def test_a_label_rarer_than_the_folds_is_dealt_out_without_a_warning(recwarn):
    found = folds([*LABELS, "only"], config(folds=5))
    assert sum(100 in fold.test for fold in found) == 1
    assert len(folds([f"l{row}" for row in range(10)], config(folds=5))) == 5  # no label twice
    assert not recwarn.list


def test_too_few_rows_or_groups_are_refused():
    with pytest.raises(ContractError, match="5 folds need as many texts; there are 3"):
        folds(["a", "b", "a"], config())
    with pytest.raises(ContractError, match="5 folds need as many groups; there are 2"):
        folds(LABELS, config(), ["x", "y"] * 50)
    with pytest.raises(ContractError, match="100 labels cannot lie in 2 groups"):
        folds(LABELS, config(), ["x", "y"])
