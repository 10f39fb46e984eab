"""What reads texts in `text_into_recommendations`: rare words, the encoder as it comes, and a tuned one."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.text_worlds import Part
from nlp.embed import EmbeddingCache, embed
from nlp.extras import need
from nlp.finetune import FinetuneConfig, finetune
from nlp.pairs import Kind, of_snapshot
from profiles import manifest
from profiles.log_frames import said
from recsys import watch
from recsys.dataset import Dataset, Queries
from serving.settings import TextConfig
from serving.words import Words

WORDS = 8192  # the most that rare words are counted of
PAIRS: dict[str, dict[Kind, timedelta]] = {
    "instruments": {"reviewed": timedelta(days=3650)},
    "films": {"co_chosen": timedelta(days=30)},
    "shop": {"queries": timedelta(minutes=30), "written": timedelta(days=30), "co_chosen": timedelta(days=2)},
}
MOST = {"instruments": 2560, "films": 1600, "shop": 1600}  # pairs learned from, drawn
LOOKED_AT = {"instruments": 2000, "films": 400, "shop": 2000}  # users whose pairs these are drawn from
LEARNED = FinetuneConfig(epochs=1, max_tokens=64, learning_rate=5e-5, validation_share=0.0)
QUICK_PAIRS, QUICK_TOKENS = 16, 16


class Tfidf:
    """(1 + log tf) idf of the WORDS most common words of the texts it is made of."""

    def __init__(self, texts: Sequence[str]) -> None:
        vectorizer = need("sklearn.feature_extraction.text", "text").TfidfVectorizer
        words = vectorizer(sublinear_tf=True, min_df=2, stop_words="english", max_features=WORDS)
        self._words = words.fit(texts)
        self.dimension = len(words.vocabulary_)
        self.name = f"tfidf-{manifest.content_key(sorted(words.vocabulary_))}"

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Return (texts, dimension) float32 of length one or zero."""
        found: np.ndarray = self._words.transform(texts).toarray().astype(np.float32)
        return found


class Nothing(EmbeddingCache):
    """A cache that keeps nothing: rare words are quickly counted, and their vectors are long."""

    def __init__(self) -> None: ...

    def get(self, hashes: Any, encoder: str) -> dict[str, np.ndarray]:
        """Know none."""
        return {}

    def put(self, hashes: Sequence[str], encoder: str, vectors: np.ndarray) -> None:
        """Forget them."""


@dataclass(frozen=True)
class Readers:
    """The three readers of one log's texts; encoders and vectors are kept under `root`."""

    name: str
    root: Path
    quick: bool

    @property
    def _reading(self) -> dict[str, Any]:
        """How much of a text is read where that is not what the settings say."""
        return {"max_tokens": QUICK_TOKENS} if self.quick else {}

    def tuned(self, part: Part) -> Path:
        """Return the folder of the encoder that learned from a part's pairs."""
        pairs, chosen = of_snapshot(part.of_some(LOOKED_AT[self.name]), PAIRS[self.name], 1)  # type: ignore[arg-type]
        most = QUICK_PAIRS if self.quick else MOST[self.name]
        drawn = pairs.sample(min(most, len(pairs)), seed=0, shuffle=True)
        texts = chosen.select("user_id", "text")
        with watch.watching(_tell, self.root / "checkpoints"):
            config = LEARNED.model_copy(update=self._reading)
            return finetune(drawn, pairs.clear(), config, self.root / "encoders", texts).folder

    def words(self, part: Part, reader: str) -> Words:
        """Return what reads a part's texts."""
        model = str(self.tuned(part)) if reader == "tuned" else None
        config = TextConfig(model=model, half_life_days=3650.0, **self._reading)
        found = Words(config, self.root / "vectors.db")
        if reader == "tfidf":
            found.encoder = Tfidf(part.frame("texts")["text"].to_list())
            found.cache = Nothing()
        return found

    def read(self, part: Part, reader: str) -> tuple[Dataset, Queries]:
        """Return what is learned from and what is asked, with the vectors of their texts."""
        by, split = self.words(part, reader), part.split
        texts = said(part.described)
        vectors = np.full((len(part.catalogue.items), by.encoder.dimension), np.nan, np.float32)
        made = embed(texts["text"].to_list(), by.encoder, by.cache)
        vectors[part.catalogue.items.rows(texts["id"])] = np.where(
            made.any(axis=1, keepdims=True), made, np.nan
        )
        items: np.ndarray | None = vectors
        if self.name == "instruments":
            items = by.items(part.catalogue.items.ids, vectors, part.reviews, split.as_of)
        own = by.users(part.queries.ids, part.own, split.at)
        return Dataset.of(split.train, part.catalogue, split.as_of, items), replace(part.queries, vectors=own)


def _tell(at: watch.Progress) -> None:
    if at.step % 10 == 0:
        print(f"step {at.step} of {at.steps}: loss {at.loss:.4f}", file=sys.stderr, flush=True)
