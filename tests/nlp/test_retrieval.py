"""Search by words, by vectors and by both, against slow and plain versions."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import log

import numpy as np
import pytest

from nlp import retrieval
from nlp.retrieval import Bm25, Index, RetrievalConfig, fused, grams
from profiles.schema import ContractError
from recsys.ranking import Ranked

TEXTS = [
    "Gout is treated with colchicine. Colchicine, colchicine!",
    "The causes of gout: too much uric acid",
    "",
    "Rest and water help against a cold; a cold needs no antibiotics",
    "gout",
]
QUERIES = ["how is gout treated", "Gout gout", "a cold", "nothing of this kind", "", "🙂 مرحبا"]


def slow_bm25(texts: Sequence[str], query: str, k1: float, b: float) -> list[float]:
    """The formula, word by word."""
    bags = [Counter(grams(text, "words")) for text in texts]
    mean = sum(map(Counter.total, bags)) / len(bags)
    scores = []
    for bag in bags:
        score = 0.0
        for word in grams(query, "words"):
            having = sum(word in other for other in bags)
            rarity = log(1 + (len(bags) - having + 0.5) / (having + 0.5))
            if not (often := bag[word]):
                continue
            score += rarity * often * (k1 + 1) / (often + k1 * (1 - b + b * bag.total() / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 1.0), (0.0, 0.0)])
def test_bm25_is_its_formula(k1: float, b: float) -> None:
    found = Bm25(TEXTS, RetrievalConfig(k1=k1, b=b)).scores(QUERIES)
    slow = np.array([slow_bm25(TEXTS, query, k1, b) for query in QUERIES])
    np.testing.assert_allclose(np.nan_to_num(found), slow, rtol=1e-5)
    assert np.isnan(found[slow == 0]).all()  # a text without a shared word is not found


def test_characters_serve_scripts_without_spaces() -> None:
    assert grams("高血压 BP", "characters") == ["高", "血", "压", "b", "p", "高血", "血压", "bp"]
    index = Index.of(["高血压怎么办", "感冒吃什么药"], config=RetrievalConfig(grams="characters"))
    assert index.search(["血压高"], k=1)["text"].to_list() == [0]


class Planes:
    """An encoder that counts two letters: near texts have like shares of them."""

    name, dimension = "planes", 2

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        counts = np.array([[text.count("a"), text.count("o")] for text in texts], np.float32).reshape(-1, 2)
        norms = np.linalg.norm(counts, axis=1, keepdims=True)
        return np.divide(counts, norms, out=np.zeros_like(counts), where=norms > 0)


def test_vectors_rank_by_cosine_and_texts_that_say_nothing_are_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieval, "CELLS", 10)  # several blocks
    texts = ["aaa", "ooo", "ao", "xyz", "aao"]
    found = Index.of(texts, Planes()).search(["aaaa", "o", "zzz"], k=4, by="vectors")
    assert [found.filter(query=n)["text"].to_list() for n in range(3)] == [[0, 4, 2, 1], [1, 2, 4, 0], []]
    assert found.filter(query=0)["score"][1] == pytest.approx(2 / 5**0.5, rel=1e-4)


def test_both_rankings_are_fused_by_reciprocal_ranks() -> None:
    one = Ranked(np.array([[0, 1, 2]], np.int32), np.array([[9.0, 8, 7]], np.float32))
    other = Ranked(np.array([[2, 0, -1]], np.int32), np.array([[0.3, 0.2, np.nan]], np.float32))
    found = fused([one, other], 3, smoothing=60)
    assert found.rows.tolist() == [[0, 2, 1]]
    assert found.scores[0] == pytest.approx([1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62], rel=1e-4)


def test_fused_search_finds_what_either_finds() -> None:
    texts = ["aaa banana", "ooo", "gout", "aa", "xyz"]
    both = Index.of(texts, Planes()).search(["gout aaa"], k=5)
    assert set(both["text"]) == {0, 1, 2, 3}  # xyz shares no word and points nowhere
    assert both["rank"].to_list() == [1, 2, 3, 4]


def test_without_an_encoder_both_is_by_words() -> None:
    index = Index.of(TEXTS)
    assert index.search(QUERIES).equals(index.search(QUERIES, by="words"))
    with pytest.raises(ContractError, match="no encoder"):
        index.search(QUERIES, by="vectors")


def test_bad_input_is_refused() -> None:
    with pytest.raises(ContractError, match="no texts"):
        Index.of([])
    with pytest.raises(ContractError, match="k = 0"):
        Index.of(TEXTS).search(QUERIES, k=0)
    with pytest.raises(ContractError, match="5 texts want as many vectors, not 2"):
        Index.of(TEXTS, Planes(), vectors=np.ones((2, 2), np.float32))


def test_texts_without_words_are_never_found() -> None:
    assert len(Index.of(["", "  ", "…"]).search(["anything"])) == 0
    assert len(Index.of(TEXTS).search([])) == 0


def test_a_context_turns_a_query_towards_what_was_asked_before() -> None:
    texts = ["aaa", "aao", "ao", "ooo"]
    search = Index.of(texts, Planes(), RetrievalConfig(context=0.5)).search
    context = np.array([[0, 3.0], [0, 7.0], [np.nan, np.nan], [0, 0], [0, 1]], np.float32)
    found = search(["a", "o", "a", "a", "xyz"], k=4, by="vectors", context=context)
    # Half of either: (1, 0) beside (0, 1) points where "ao" does, however long the context was.
    assert [found.filter(query=n)["text"].to_list() for n in range(5)] == [
        [2, 1, 0, 3], [3, 2, 1, 0], [0, 1, 2, 3], [0, 1, 2, 3], [],
    ]  # fmt: skip
    alone = search(["a", "o", "a", "a", "xyz"], k=4, by="vectors")
    assert found.filter(query=2).equals(alone.filter(query=2))


@pytest.mark.parametrize(("share", "order"), [(0.0, [0, 1, 2]), (1.0, [2, 1, 0])])
def test_the_share_of_a_context_is_a_setting(
    share: float, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "CELLS", 3)  # a block a query
    index = Index.of(["a", "ao", "o"], Planes(), RetrievalConfig(context=share))
    context = np.array([[0, 1], [1, 0]], np.float32)
    found = index.search(["a", "o"], k=3, by="vectors", context=context)
    assert found["text"].to_list() == [*order, *reversed(order)]


def test_blended_is_its_formula_row_by_row() -> None:
    random = np.random.default_rng(0)
    asked, context = random.normal(size=(2, 6, 4)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    found = retrieval.blended(asked, context, 0.3)
    for row in range(6):
        slow = 0.7 * asked[row] + 0.3 * context[row] / np.sqrt(sum(float(x) ** 2 for x in context[row]))
        np.testing.assert_allclose(found[row], slow / np.sqrt(float(slow @ slow)), rtol=1e-5)


def test_both_reads_words_of_the_query_and_vectors_with_the_context() -> None:
    index = Index.of(["a gout", "o gout"], Planes(), RetrievalConfig(context=0.9))
    towards = np.array([[0, 1]], np.float32)
    assert index.search(["a"], k=2)["text"].to_list() == [0, 1]
    # First by words, second by vectors, and the other the second way round: ties go to the lower row.
    assert index.search(["a"], k=2, context=towards)["score"].n_unique() > 1
    assert index.search(["gout a"], k=1, by="vectors", context=towards)["text"].to_list() == [1]


def test_a_context_that_cannot_be_read_is_refused() -> None:
    context = np.ones((1, 2), np.float32)
    for index, by in ((Index.of(TEXTS, Planes()), "words"), (Index.of(TEXTS), "both")):
        with pytest.raises(ContractError, match="a context is a vector"):
            index.search(["a"], by=by, context=context)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=r"context is \(1, 2\); 2 queries want \(2, 2\)"):
        Index.of(TEXTS, Planes()).search(["a", "b"], by="vectors", context=context)
