"""Graph filters against dense linear algebra, on a lopsided world and on a random matrix."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recsys.models.graph_filter import GraphFilter, GraphFilterConfig
from recsys.spectrum import largest

REPEATS = ("binary", "sum", "log", "last")


def polynomial(p: np.ndarray, order: int, flatness: float) -> np.ndarray:
    """Return the published filter of I - 2P by the recurrence T_k = 2 L T_k-1 - T_k-2, nothing shortened."""
    extrema = [round(float(np.cos((order - k) / order * np.pi)), 3) for k in range(order + 1)]
    plateau = [
        round(0.5 + 0.5 * abs(z) ** flatness if z < 0 else 0.5 - 0.5 * z**flatness, 3) for z in extrema
    ]
    nodes = [np.cos((order + 1 + 0.5 - k) / (order + 1) * np.pi) for k in range(1, order + 2)]
    shifted = np.eye(len(p)) - 2 * p
    terms, at_nodes = [np.eye(len(p)), shifted], [np.ones(order + 1), np.array(nodes)]
    for _ in range(2, order + 1):
        terms.append(2 * shifted @ terms[-1] - terms[-2])
        at_nodes.append(2 * np.array(nodes) * at_nodes[-1] - at_nodes[-2])
    total = np.zeros_like(p)
    for k in range(order + 1):
        share = (1 if k == 0 else 2) / (order + 1)
        total += share * sum(f * t for f, t in zip(plateau, at_nodes[k], strict=True)) * terms[k]
    return total


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize(("order", "flatness", "power"), [(8, 1.5, 0.4), (3, 1.0, 0.0), (1, 2.0, 0.5)])
def test_graph_filter_is_the_papers_polynomial(order, flatness, power, repeats, lopsided):
    x = lopsided.train.matrix(repeats).toarray().astype(float)[:, :11]
    degrees = x.sum(axis=0)
    r = x / np.sqrt(np.outer(x.sum(axis=1), degrees))
    values, vectors = np.linalg.eigh(r.T @ r)
    filtered = polynomial(r.T @ r, order, flatness) + 0.3 * vectors @ vectors.T
    expected = filtered * degrees**power / degrees[:, None] ** power
    np.fill_diagonal(expected, 0)  # what is in a history has no say in its own score
    config = GraphFilterConfig(
        order=order, flatness=flatness, degree_power=power, low_pass=0.3, factors=11, repeats=repeats
    )
    model = GraphFilter(config).fit(lopsided.train)
    np.testing.assert_allclose(model.weights.toarray()[:11, :11], expected, rtol=1e-3, atol=1e-5)
    found = model.response(values)
    exact = polynomial(r.T @ r, order, flatness)
    np.testing.assert_allclose(vectors @ np.diag(found) @ vectors.T, exact, atol=1e-9)
    assert np.isnan(model.score(lopsided.queries())[:, 11:]).all()


def test_graph_filter_keeps_the_strongest_of_each_row(crowd, monkeypatch):
    whole = GraphFilter(GraphFilterConfig(neighbours=100)).fit(crowd.train).weights.toarray()
    monkeypatch.setattr("recsys.models.graph_filter.FIT_ROWS", 7)
    some = GraphFilter(GraphFilterConfig(neighbours=5)).fit(crowd.train).weights.toarray()
    for row in range(43):
        best = np.argsort(-whole[row] + 1e9 * (np.arange(45) == row), kind="stable")[:5]
        assert set(np.flatnonzero(some[row])) <= set(best)
        np.testing.assert_allclose(some[row][best], whole[row][best], rtol=1e-5, atol=1e-8)


def test_graph_filter_beyond_its_frequencies_follows_the_line(monkeypatch, crowd):
    """With few exact frequencies the scores stay near those of the whole filter."""
    whole = GraphFilter(GraphFilterConfig(low_pass=0, degree_power=0)).fit(crowd.train).weights.toarray()
    monkeypatch.setattr("recsys.spectrum.SPARE", 4)
    short = GraphFilter(GraphFilterConfig(factors=20, low_pass=0, degree_power=0)).fit(crowd.train)
    assert np.abs(short.weights.toarray() - whole).max() < 0.1 * np.abs(whole).max()


def test_leading_frequencies_are_those_of_the_dense_decomposition():
    random = np.random.default_rng(0)
    r = csr_matrix(random.random((90, 200)) * (random.random((90, 200)) < 0.2), dtype=np.float32)
    r.data *= 10 ** random.uniform(-1, 0, len(r.data)).astype(np.float32)
    singular = np.linalg.svd(r.toarray(), compute_uv=False) ** 2
    for count in (8, 200):
        values, vectors = largest(r, count, seed=0)
        kept = min(count, 90)
        assert vectors.shape == (200, kept)
        np.testing.assert_allclose(values, singular[:kept], rtol=2e-3)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(kept), atol=1e-4)
        gram = (r.T @ r).toarray()
        leading = vectors[:, :3]
        np.testing.assert_allclose(gram @ leading, leading * values[:3], atol=2e-3 * values[0])
