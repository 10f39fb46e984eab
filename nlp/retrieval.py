"""Texts that answer a text: found by their words (BM25), by their vectors, or by both; then read closer.

    index = Index.of(answers, encoder)
    index.search(["How is gout treated?"], k=10)
    index.search(["How is gout treated?"], k=10, reader=CrossEncoder(Path("reranker-1f…")))
    index.search(["How is it treated?"], k=10, context=user_vectors(…))

A `context` is what each asker wrote before, as one vector (`nlp.embed.user_vectors`): beside it a question
can be read that does not name what it is about.

Search is exact: every text is scored, in blocks of CELLS scores. Memory: 8 bytes for each different word of
each text, 4 bytes for each value of a vector.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat
from scipy.sparse import csr_matrix

from nlp.embed import Encodes
from profiles.schema import ContractError, Frame, column
from recsys.ranking import Ranked, listed, top_k

CELLS = 8_000_000  # scores at once
By = Literal["words", "vectors", "both"]
Scores = npt.NDArray[np.float32]


class Reads(Protocol):
    """What reads two texts together, such as a cross-encoder."""

    def scores(self, left: Sequence[str], right: Sequence[str]) -> Scores:
        """Return (pairs,): the more, the better the right text answers the left; NaN: it cannot say."""
        ...


RETRIEVED = Frame(
    "RETRIEVED",
    {
        "query": column(pl.Int64, "which query, from 0"),
        "text": column(pl.Int64, "which text, from 0"),
        "rank": column(pl.UInt32, "1, 2, … in each query"),
        "score": column(pl.Float32, "never rises with rank; comparable within a query"),
    },
    key=("query", "text"),
)


class RetrievalConfig(BaseModel):
    """How words count and rankings are fused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grams: Literal["words", "characters"] = Field(
        "words", description="words; or 1 and 2 characters, for scripts without spaces"
    )
    k1: NonNegativeFloat = Field(1.2, description="how much more a word counts that a text repeats")
    b: float = Field(0.75, ge=0, le=1, description="how much less a word counts in a long text")
    depth: int = Field(100, ge=1, description="places of each ranking that are fused")
    smoothing: NonNegativeFloat = Field(60.0, description="places added to a rank before it is fused")
    context: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of what the asker wrote before, where a search is told; 1: only it",
    )
    reread: int = Field(50, ge=1, description="first places that a reader, where there is one, puts in order")


class Bm25:
    """Okapi BM25 over some texts (Robertson and Zaragoza, 2009), with Lucene's idf, which is never below 0.

    score(q, d) = Σ_t in q  idf_t tf_td (k1 + 1) / (tf_td + k1 (1 − b + b |d| / mean |d|)),
    idf_t = ln(1 + (N − n_t + ½) / (n_t + ½)); a word that a query repeats counts each time.
    """

    def __init__(self, texts: Sequence[str], config: RetrievalConfig | None = None) -> None:
        self._config = config or RetrievalConfig()
        self._known: dict[str, int] = {}
        counts = self._counted(texts, self._known)
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        mean = lengths.mean() if lengths.any() else 1.0
        n = counts.shape[0]
        having = counts.getnnz(axis=0)
        rarity = np.log1p((n - having + 0.5) / (having + 0.5))
        k1, b = self._config.k1, self._config.b
        owner = np.repeat(np.arange(n), np.diff(counts.indptr))
        spread = k1 * (1 - b + b * lengths[owner] / mean)
        counts.data = rarity[counts.indices] * counts.data * (k1 + 1) / (counts.data + spread)
        self._by_word: csr_matrix = counts.T.tocsr().astype(np.float32)  # (words, texts)

    def scores(self, queries: Sequence[str]) -> Scores:
        """Return (queries, texts); NaN where no word is shared."""
        asked = self._counted(queries, self._known, grow=False)
        found: Scores = (asked.astype(np.float32) @ self._by_word).toarray()
        found[found == 0] = np.nan
        return found

    def _counted(self, texts: Sequence[str], known: dict[str, int], grow: bool = True) -> csr_matrix:
        """Count the words of each text, (texts, words); those not known join them, or do not count."""
        rows, columns = [0], list[int]()
        for text in texts:
            for word in grams(text, self._config.grams):
                place = known.setdefault(word, len(known)) if grow else known.get(word, -1)
                if place >= 0:
                    columns.append(place)
            rows.append(len(columns))
        shape = (len(texts), len(known))
        found = csr_matrix((np.ones(len(columns)), np.array(columns, np.int32), np.array(rows)), shape)
        found.sum_duplicates()
        return found


def grams(text: str, kind: Literal["words", "characters"]) -> list[str]:
    """Return the words of a text in lower case, or its characters alone and in pairs."""
    words = re.findall(r"\w+", text.lower())
    if kind == "words":
        return words
    pairs = [word[at : at + 2] for word in words for at in range(len(word) - 1)]
    return [*"".join(words), *pairs]


def fused(rankings: Sequence[Ranked], k: int, smoothing: float = 60.0) -> Ranked:
    """Fuse rankings of the same queries by reciprocal ranks (Cormack et al., SIGIR 2009).

    score(d) = Σ over the rankings that list d of 1 / (smoothing + rank); where none does, d is not listed.
    """
    width = 1 + max(int(ranked.rows.max(initial=-1)) for ranked in rankings)
    n = len(rankings[0].rows)
    scores = np.zeros((n, width), np.float32)
    for ranked in rankings:
        query, place = np.nonzero(ranked.rows >= 0)
        scores[query, ranked.rows[query, place]] += 1 / np.float32(smoothing + 1 + place)
    scores[scores == 0] = np.nan
    return top_k(scores, k)


def reread(ranked: Ranked, queries: Sequence[str], texts: Sequence[str], reader: Reads, k: int) -> Ranked:
    """Put the texts of each ranking in the order of a reader's scores; what it cannot score is not listed."""
    query, place = np.nonzero(ranked.rows >= 0)
    rows = ranked.rows[query, place]
    scores = reader.scores([queries[n] for n in query.tolist()], [texts[row] for row in rows.tolist()])
    return listed(query, rows, scores, len(queries), k)


@dataclass(frozen=True)
class Index:
    """Texts that can be searched."""

    texts: Sequence[str]
    words: Bm25
    config: RetrievalConfig
    encoder: Encodes | None = None
    vectors: npt.NDArray[np.float32] | None = None  # (texts, d), of length one or zero

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        encoder: Encodes | None = None,
        config: RetrievalConfig | None = None,
        vectors: npt.NDArray[np.float32] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> "Index":
        """Index texts; `vectors` are those the encoder gives them, where they are known already."""
        if not len(texts):
            raise ContractError("there are no texts to search")
        config = config or RetrievalConfig()
        if encoder is not None and vectors is None:
            vectors = encoder.encode(texts, progress)
        if vectors is not None and len(vectors) != len(texts):
            raise ContractError(f"{len(texts)} texts want as many vectors, not {len(vectors)}")
        return cls(texts, Bm25(texts, config), config, encoder, vectors)

    def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        by: By = "both",
        reader: Reads | None = None,
        context: Scores | None = None,
    ) -> pl.DataFrame:
        """Return RETRIEVED: the k best texts of each query; none for one that says nothing.

        `both` fuses the two rankings by reciprocal ranks, and is by words where there is no encoder. A
        `reader` orders the first `reread` places, or k if that is more, anew by its own scores. `context`
        (queries, d) joins the query's vector by the share `config.context`; a row of NaN or zeros: none.
        """
        if k < 1:
            raise ContractError(f"k = {k}: ask for at least one text")
        if by == "vectors" and self.encoder is None:
            raise ContractError("this index has no encoder: search by words, or give it one")
        if context is not None:
            self._check(context, len(queries), by)
        ways: list[Callable[[Sequence[str], Scores | None], Scores]] = []
        if by != "vectors":
            ways.append(lambda asked, _: self.words.scores(asked))
        if by != "words" and self.encoder is not None:
            ways.append(self._near)
        first = k if reader is None else max(k, self.config.reread)
        depth = first if len(ways) == 1 else max(first, self.config.depth)
        step, parts = max(1, CELLS // len(self.texts)), list[Ranked]()
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            before = None if context is None else context[start : start + step]
            found = [top_k(way(block, before), depth) for way in ways]
            ranked = found[0] if len(found) == 1 else fused(found, first, self.config.smoothing)
            parts.append(ranked if reader is None else reread(ranked, block, self.texts, reader, k))
        return _frame(Ranked.joined(parts, k))

    def _near(self, queries: Sequence[str], context: Scores | None) -> Scores:
        """Return cosines, (queries, texts); NaN where either says nothing."""
        assert self.encoder is not None
        assert self.vectors is not None
        asked = self.encoder.encode(queries)
        if context is not None:
            asked = blended(asked, context, self.config.context)
        found: Scores = asked @ self.vectors.T
        found[~asked.any(axis=1)] = np.nan
        found[:, ~self.vectors.any(axis=1)] = np.nan
        return found

    def _check(self, context: Scores, queries: int, by: By) -> None:
        if self.encoder is None or by == "words":
            raise ContractError(
                "a context is a vector: search by vectors or both, in an index with an encoder"
            )
        if context.shape != (queries, self.encoder.dimension):
            wanted = (queries, self.encoder.dimension)
            raise ContractError(f"context is {context.shape}; {queries} queries want {wanted}")


def blended(asked: Scores, context: Scores, share: float) -> Scores:
    """Return (1 − share) asked + share context, of length one; asked itself where either is zero or NaN."""
    lengths = np.linalg.norm(context, axis=1, keepdims=True)
    both = asked.any(axis=1, keepdims=True) & (lengths > 0)
    unit = np.divide(context, lengths, out=np.zeros_like(asked), where=both)
    mixed = np.where(both, (1 - share) * asked + share * unit, asked)
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    found: Scores = np.divide(mixed, lengths, out=np.zeros_like(asked), where=lengths > 0)
    return found


def _frame(ranked: Ranked) -> pl.DataFrame:
    query, place = np.nonzero(ranked.rows >= 0)
    return RETRIEVED.conform(
        pl.DataFrame(
            {
                "query": query.astype(np.int64),
                "text": ranked.rows[query, place].astype(np.int64),
                "rank": (place + 1).astype(np.uint32),
                "score": ranked.scores[query, place],
            }
        )
    )
