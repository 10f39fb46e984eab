"""The losses against slow ones by the book, and gradients of chunks against those of the whole batch."""

import numpy as np
import pytest
import torch
from torch import nn

from nlp.contrastive import cosent, encoded, info_nce, matryoshka, regression

RANDOM = np.random.default_rng(5)
LEFT, RIGHT = RANDOM.normal(size=(4, 6)), RANDOM.normal(size=(7, 6))  # three hard negatives at the end
FALSE = RANDOM.random((4, 7)) < 0.3
FALSE[1, 1] = True  # of the pair itself, which counts all the same
SCORES = np.array([0.2, 0.9, 0.2, 0.6])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def test_info_nce_is_its_definition() -> None:
    def share(own: int, others: list[tuple[int, int]]) -> float:
        powers = [np.exp(cosine(LEFT[i], RIGHT[j]) / 0.2) for i, j in others]
        return -np.log(np.exp(cosine(LEFT[own], RIGHT[own]) / 0.2) / sum(powers))

    total = 0.0
    for own in range(4):
        total += share(own, [(own, j) for j in range(7) if j == own or not FALSE[own, j]])
        total += share(own, [(i, own) for i in range(4) if i == own or not FALSE[i, own]])
    found = info_nce(*tensors(LEFT, RIGHT, FALSE), temperature=0.2)
    np.testing.assert_allclose(found.item(), total / 8, rtol=1e-9)


def test_cosent_is_its_definition() -> None:
    right = RIGHT[:4]
    found = cosent(*tensors(LEFT, right, SCORES), scale=5.0)
    terms = [
        np.exp(5 * (cosine(LEFT[j], right[j]) - cosine(LEFT[i], right[i])))
        for i in range(4)
        for j in range(4)
        if SCORES[i] > SCORES[j]
    ]
    assert len(terms) == 5
    np.testing.assert_allclose(found.item(), np.log(1 + sum(terms)), rtol=1e-9)
    same = torch.full((4,), 0.5, dtype=torch.float64)
    assert cosent(*tensors(LEFT, right), same, scale=5.0).item() == 0  # no order, nothing to learn


def test_regression_and_matryoshka_are_their_definitions() -> None:
    left, right, scores = tensors(LEFT, RIGHT[:4], SCORES)

    def expected(size: int) -> float:
        off = [cosine(LEFT[i, :size], RIGHT[i, :size]) - SCORES[i] for i in range(4)]
        return float(np.mean(np.square(off)))

    np.testing.assert_allclose(regression(left, right, scores).item(), expected(6), rtol=1e-9)
    found = matryoshka(lambda a, b: regression(a, b, scores), left, right, (2, 5))
    np.testing.assert_allclose(found.item(), np.mean([expected(2), expected(5), expected(6)]), rtol=1e-9)


class Small(nn.Module):
    """An embedding of tokens, mixed by a layer with dropout and averaged over the real ones."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.layer = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 5))
        self.most = 0

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, ids.numel())
        weights = mask[..., None].float()
        return (self.layer(self.table(ids)) * weights).sum(1) / weights.sum(1)


def gradients(module: Small, tokens: list[list[int]], chunk_tokens: int) -> list[torch.Tensor]:
    module.zero_grad()
    torch.manual_seed(3)
    made = encoded(module, tokens, 0, chunk_tokens, torch.device("cpu"))
    half = len(tokens) // 2
    false = torch.zeros(half, len(tokens) - half, dtype=torch.bool)
    info_nce(made[:half], made[half:], false, 0.1).backward()
    return [p.grad.clone() for p in module.parameters()]


def test_chunks_have_the_gradient_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    tokens = [list(random.integers(1, 50, size)) for size in random.integers(1, 12, 21)]
    module = Small(dropout=0.0)
    whole = gradients(module, tokens, 10_000)
    assert module.most > 24
    module.most = 0
    for found, expected in zip(gradients(module, tokens, 24), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert module.most <= 24


def test_the_second_run_of_a_chunk_drops_what_the_first_dropped() -> None:
    """Nudging one weight changes the loss as the gradient says, for the same dropout."""
    torch.manual_seed(0)
    random = np.random.default_rng(1)
    tokens = [list(random.integers(1, 50, size)) for size in random.integers(1, 12, 20)]
    module = Small(dropout=0.4).double()

    def loss() -> float:
        torch.manual_seed(3)
        with torch.no_grad():
            chunks = [encoded(module, tokens, 0, 24, torch.device("cpu")).double()]
        made = chunks[0]
        false = torch.zeros(10, 10, dtype=torch.bool)
        return info_nce(made[:10], made[10:], false, 0.1).item()

    slope = gradients(module, tokens, 24)[1][0, 0].item()
    weight = module.layer[0].weight
    found = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            weight[0, 0] += step
        found.append(loss())
        with torch.no_grad():
            weight[0, 0] -= step
    assert slope == pytest.approx((found[0] - found[1]) / 2e-3, rel=2e-2, abs=1e-4)
