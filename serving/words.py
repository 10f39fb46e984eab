"""The words of users and requests as vectors, encoded at most once and only when something needs them."""

import warnings
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from nlp.embed import EmbeddingCache, Encodes, by_hash, user_vectors
from nlp.onnx import open_encoder
from nlp.reviews import item_vectors
from profiles.texts import text_hash
from serving.settings import TextConfig


class Words:
    """The text side of a workspace: an encoder that loads on first use, over a cache of vectors."""

    def __init__(self, config: TextConfig, cache: Path) -> None:
        self.config = config
        self.path = cache

    @cached_property
    def encoder(self) -> Encodes:
        """The encoder; building it loads no torch, encoding does, unless it runs by ONNX."""
        warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, in notebooks; we draw no such bar
        return open_encoder(self.config)

    @cached_property
    def cache(self) -> EmbeddingCache:
        """Vectors made so far."""
        return EmbeddingCache(self.path)

    def users(self, ids: Sequence[str], texts: pl.DataFrame, at: datetime) -> np.ndarray | None:
        """Return the users' vectors from `texts` (user_id, text, timestamp), (n, d); None: nobody wrote."""
        written = texts.filter(pl.col("timestamp") <= at, pl.col("text").str.strip_chars() != "")
        if not self.config.enabled or not len(written):
            return None
        owned, of = self._read(written)
        return user_vectors(ids, owned, of, at, self.config.half_life_days, self.encoder.dimension)

    def items(
        self, ids: pl.Series, said: np.ndarray | None, reviews: pl.DataFrame, at: datetime
    ) -> np.ndarray | None:
        """Return the items' vectors, (n, d): of what they say (`said`) and of reviews up to `at`.

        `reviews` holds item_id, text and timestamp; None where neither says anything.
        """
        written = reviews.filter(pl.col("timestamp") <= at)
        if not self.config.enabled or not len(written):
            return said
        owned, of = self._read(written)
        return item_vectors(ids.to_list(), said, owned, of, at, self.encoder.dimension)

    def _read(self, written: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
        """Return the texts with their hashes, and the vector of each hash."""
        hashes = pl.Series([text_hash(text) for text in written["text"]], dtype=pl.String)
        owned = written.with_columns(text_hash=hashes)
        of = by_hash(dict(owned.select("text_hash", "text").iter_rows()), self.encoder, self.cache)
        return owned, of

    def query(self, text: str) -> np.ndarray | None:
        """Return the vector of one request's words, (d,); None where they point nowhere."""
        if not self.config.enabled or not text.strip():
            return None
        vector: np.ndarray = self.encoder.encode([text])[0]
        return vector if vector.any() else None
