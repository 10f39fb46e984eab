"""Exact top-k: rounding, ties, masks, against a full sort."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from recsys.ranking import Barred, rounded, top_k, top_k_of_cells, top_k_of_many

NORMAL = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)
magnitudes = st.floats(NORMAL, LARGEST, width=32)
finite = st.one_of(magnitudes, magnitudes.map(lambda x: -x), st.just(0.0))
FEW = [0.0, -0.0, 1.0, 1.0000001, 1.00001, -1.0, -1.0000001, 0.5, -2.5, 3e-39, float("nan")]


def as_float32(value: float) -> np.ndarray:
    return np.array([value], np.float32)


@given(finite)
def test_rounding_stays_within_a_hundred_thousandth(value):
    exact, near = as_float32(value), rounded(as_float32(value))
    assert near.dtype == np.float32
    assert np.isfinite(near).all()
    assert abs(float(near[0]) - float(exact[0])) <= 1e-5 * abs(float(exact[0]))


@given(arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_rounding_keeps_the_order(values):
    assert (np.diff(rounded(np.sort(values))) >= 0).all()


@given(finite)
def test_rounding_twice_is_rounding_once_and_knows_no_sign(value):
    once = rounded(as_float32(value))
    assert np.array_equal(rounded(once), once)
    assert np.array_equal(rounded(as_float32(-value)), -once)


def test_rounding_of_what_is_no_number():
    given_ = np.array([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45], np.float32)
    given_ = np.append(given_, np.array([0x7FFFFFFF, -1], np.int32).view(np.float32))  # every bit of a NaN
    near = rounded(given_)
    assert np.isnan(near[[0, 1, 8, 9]]).all()
    assert (near[[2, 3, 6, 7]] == 0).all()
    assert not np.signbit(near[3])
    assert near[4] == np.inf
    assert near[5] == -np.inf


def test_rounding_is_to_sixteen_bits_half_away_from_zero():
    step = np.float32(2.0**-16)
    exact = np.array([1, 1 + step * 0.25, 1 + step * 0.5, 1 + step * 0.75, 1 + step], np.float32)
    assert rounded(exact).tolist() == [1, 1, 1 + step, 1 + step, 1 + step]
    assert rounded(-exact).tolist() == [-1, -1, -1 - step, -1 - step, -1 - step]


def test_the_largest_numbers_are_listed():
    scores = np.array([[1.0, LARGEST, -LARGEST, np.nan]], np.float32)
    assert top_k(scores, 4).rows.tolist() == [[1, 0, 2, -1]]


def test_scores_of_another_precision_are_ranked_alike():
    scores = np.random.default_rng(0).normal(size=(3, 20))
    assert np.array_equal(top_k(scores, 5).rows, top_k(scores.astype(np.float32), 5).rows)
    assert rounded(scores).dtype == np.float32


def slow(scores: np.ndarray, k: int, allowed: np.ndarray | None) -> list[list[tuple[int, float]]]:
    """Sort everything: best score first, then lower row; what cannot be said or may not be is left out."""
    lists = []
    for n, row in enumerate(rounded(scores)):
        usable = [
            (-score, item)
            for item, score in enumerate(row.tolist())
            if score == score and (allowed is None or allowed[n, item])
        ]
        lists.append([(item, -score) for score, item in sorted(usable)[:k]])
    return lists


@settings(max_examples=300)
@given(data=st.data(), n=st.integers(0, 4), items=st.integers(0, 12), k=st.integers(1, 14), few=st.booleans())
def test_top_k_is_a_full_sort(data, n, items, k, few):
    elements = st.sampled_from(FEW) if few else st.floats(-1e3, 1e3, width=32)
    scores = data.draw(arrays(np.float32, (n, items), elements=elements.map(lambda x: float(np.float32(x)))))
    allowed = data.draw(st.none() | arrays(np.bool_, (n, items)))
    ranked = top_k(scores, k, allowed)
    check(ranked, scores, k, allowed)
    open_ = np.ones(scores.shape, bool) if allowed is None else allowed
    everybody = ~open_.any(axis=0)
    query, rows = np.nonzero(~open_ & ~everybody)
    offsets = np.searchsorted(query, np.arange(n + 1))
    check(top_k_of_many(scores, k, Barred(everybody, offsets, rows.astype(np.int32))), scores, k, allowed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 20, 300])
def test_one_pass_over_many_is_a_full_sort(seed, k):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(9, 64 * 7 + seed)).astype(np.float32)
    scores[random.random(scores.shape) < 0.5] = [np.nan, 0.25, -np.inf, 1.0 + 2e-6][seed]
    scores[1], scores[2], scores[3] = np.nan, -1e-45, np.sort(scores[3])
    rows = random.integers(0, scores.shape[1], 90).astype(np.int32)  # repeats allowed
    barred = Barred(random.random(scores.shape[1]) < 0.1, np.arange(10) * 10, rows)
    before = scores.copy()
    found, wanted = top_k_of_many(scores, k, barred), top_k(scores, k, barred.allowed)
    assert np.array_equal(scores, before, equal_nan=True)
    assert np.array_equal(found.rows, wanted.rows)
    assert np.array_equal(found.scores, wanted.scores, equal_nan=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 7, 60])
def test_sparse_scores_are_listed_as_dense_ones(seed, k):
    random = np.random.default_rng(seed)
    dense = random.normal(size=(9, 50)).astype(np.float32).round(1)
    dense[random.random(dense.shape) < 0.5] = 0
    dense[2], dense[3, 5], dense[3, 6] = 0, np.inf, np.nan
    cells = csr_matrix(dense)
    order = np.concatenate([random.permutation(np.arange(*at)) for at in itertools.pairwise(cells.indptr)])
    loose = csr_matrix((cells.data[order], cells.indices[order], cells.indptr), dense.shape)
    loose.data[0] = 0.0  # a cell may hold nothing
    barred = Barred(random.random(50) < 0.1, np.arange(10) * 4, random.integers(0, 50, 36).astype(np.int32))
    scores = loose.toarray()
    scores[scores == 0] = np.nan
    found, wanted = top_k_of_cells(loose, k, barred), top_k(scores, k, barred.allowed)
    assert np.array_equal(found.rows, wanted.rows)
    assert np.array_equal(found.scores, wanted.scores, equal_nan=True)


def check(ranked, scores, k, allowed):
    n = len(scores)
    assert ranked.rows.shape == ranked.scores.shape == (n, k)
    assert ranked.rows.dtype == np.int32
    assert ranked.scores.dtype == np.float32
    expected = slow(scores, k, allowed)
    assert ranked.lengths.tolist() == [len(row) for row in expected]
    for rows, best, row in zip(ranked.rows, ranked.scores, expected, strict=True):
        assert list(zip(rows[: len(row)].tolist(), best[: len(row)].tolist(), strict=True)) == row
        assert (rows[len(row) :] == -1).all()
        assert np.isnan(best[len(row) :]).all()


def test_ties_go_to_the_lower_row():
    scores = np.zeros((2, 1000), np.float32)
    scores[0, 700:] = 1.0
    scores[1, ::2] = -0.0
    assert top_k(scores, 3).rows.tolist() == [[700, 701, 702], [0, 1, 2]]


def test_scores_that_round_alike_tie():
    scores = np.array([[1.0, 1.0 + 2e-6, 1.0 + 1e-6, 1.0 + 4e-5]], np.float32)
    assert top_k(scores, 4).rows.tolist() == [[3, 0, 1, 2]]


def test_nothing_is_changed_in_place():
    scores = np.array([[0.3, np.nan, 0.1]], np.float32)
    allowed = np.array([[True, True, False]])
    top_k(scores, 2, allowed)
    assert np.array_equal(scores, np.array([[0.3, np.nan, 0.1]], np.float32), equal_nan=True)
    assert allowed.tolist() == [[True, True, False]]
