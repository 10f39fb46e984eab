"""Vectors of texts, made once and kept, and what they say about a user at a moment."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from scipy import sparse

from profiles.schema import DAY, ContractError, Frame, column
from profiles.texts import text_hash

CHUNK = 1000  # texts encoded between two writes: what an interrupted run loses at most
ASKED = 10_000  # hashes in one question to the cache


class Encodes(Protocol):
    """Anything that turns texts into vectors and says by its name when they would be others."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Return (texts, dimension) float32 in the order given; zero where a text says nothing."""


def text_embeddings(dimension: int) -> Frame:
    """Return the frame TEXT_EMBEDDINGS for vectors of this length."""
    return Frame(
        "TEXT_EMBEDDINGS",
        {
            "text_hash": column(pl.String, "BLAKE2b-128 of the text"),
            "encoder": column(pl.String, "name of the encoder, its model's digest included"),
            "vector": column(pl.Array(pl.Float32, dimension), "of length one, or probabilities; or zero"),
        },
        key=("text_hash", "encoder"),
    )


class EmbeddingCache:
    """An append-only SQLite file of vectors, which threads and processes may read while one writes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._open() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS text_embeddings (text_hash TEXT NOT NULL, "
                    "encoder TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (text_hash, encoder))"
                )
        except sqlite3.DatabaseError as error:
            raise ContractError(f"{self.path}: not a cache of embeddings: {error}") from error

    def get(self, hashes: Iterable[str], encoder: str) -> dict[str, np.ndarray]:
        """Return the vectors that are there, by hash; they are read-only."""
        rows = iter(hashes)
        found: dict[str, np.ndarray] = {}
        with self._open() as connection:
            while asked := list(islice(rows, ASKED)):
                answer = connection.execute(
                    "SELECT text_hash, vector FROM text_embeddings "
                    "WHERE encoder = ? AND text_hash IN (SELECT value FROM json_each(?))",
                    (encoder, json.dumps(asked)),
                )
                found.update((name, np.frombuffer(blob, "<f4")) for name, blob in answer)
        return found

    def put(self, hashes: Sequence[str], encoder: str, vectors: np.ndarray) -> None:
        """Add the (hashes, d) vectors, all or none; a vector that is there already stays as it is."""
        if vectors.ndim != 2 or len(vectors) != len(hashes) or not np.isfinite(vectors).all():
            raise ContractError(
                f"{encoder}: {len(hashes)} texts want as many finite vectors, not {vectors.shape}"
            )
        blobs = (row.tobytes() for row in vectors.astype("<f4"))
        with self._open() as connection, connection:
            connection.executemany(
                "INSERT INTO text_embeddings VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                ((name, encoder, blob) for name, blob in zip(hashes, blobs, strict=True)),
            )

    def forget(self, hashes: Sequence[str]) -> None:
        """Take the vectors of these texts out, of every encoder, their bytes included."""
        if not hashes:
            return
        with self._open() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            with connection:
                connection.executemany(
                    "DELETE FROM text_embeddings WHERE text_hash = ?", ((name,) for name in hashes)
                )
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def frame(self, encoder: str, dimension: int) -> pl.DataFrame:
        """Return everything one encoder wrote as TEXT_EMBEDDINGS, ordered by hash."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT text_hash, vector FROM text_embeddings WHERE encoder = ? ORDER BY text_hash",
                (encoder,),
            ).fetchall()
        if not rows:
            return text_embeddings(dimension).empty()
        if any(len(blob) != 4 * dimension for _, blob in rows):
            raise ContractError(f"{self.path}: {encoder} has vectors of another length than {dimension}")
        vectors = np.frombuffer(b"".join(blob for _, blob in rows), "<f4").reshape(-1, dimension)
        hashes = pl.Series("text_hash", [name for name, _ in rows])
        frame = pl.DataFrame([hashes, pl.Series("vector", vectors)])
        return text_embeddings(dimension).conform(frame.with_columns(encoder=pl.lit(encoder)))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One connection a call: nothing to share between threads, nothing to lose in a fork."""
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            yield connection


def embed(
    texts: Sequence[str],
    encoder: Encodes,
    cache: EmbeddingCache,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return the (texts, d) float32 vectors, encoding each distinct text the cache lacks once.

    The cache is written after every thousand texts, so a run that stops goes on from there. `progress`
    is told how many texts each step finished, first those there was nothing to do for; in all, len(texts).
    """
    hashes = [text_hash(text) for text in texts]
    distinct = dict(zip(hashes, texts, strict=True))
    if progress:
        progress(len(texts) - len(distinct))
    vectors = by_hash(distinct, encoder, cache, progress)
    out = np.empty((len(texts), encoder.dimension), np.float32)
    for row, name in enumerate(hashes):
        out[row] = vectors[name]
    return out


def by_hash(
    texts: Mapping[str, str],
    encoder: Encodes,
    cache: EmbeddingCache,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Return the vectors of `texts`, which stand under their hashes, encoding those the cache lacks."""
    vectors = cache.get(texts, encoder.name)
    lacking = [name for name in texts if name not in vectors]
    if progress:
        progress(len(texts) - len(lacking))
    for start in range(0, len(lacking), CHUNK):
        chunk = lacking[start : start + CHUNK]
        made = encoder.encode([texts[name] for name in chunk], progress)
        cache.put(chunk, encoder.name, made)
        vectors.update(zip(chunk, made, strict=True))
    return vectors


def user_vectors(
    user_ids: Sequence[str],
    texts: pl.DataFrame,
    vectors: Mapping[str, np.ndarray],
    at: datetime,
    half_life_days: float,
    dimension: int,
) -> np.ndarray:
    """Return (users, dimension) float32: the decayed mean of what each user wrote up to `at`, of length one.

    NaN where a user wrote nothing that has a direction; all else as `decayed_sums` says.
    """
    sums, _ = decayed_sums(user_ids, texts, vectors, at, half_life_days, dimension)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit: np.ndarray = np.where(lengths > 0, sums / lengths, np.float32(np.nan))
    return unit


def decayed_sums(
    user_ids: Sequence[str],
    texts: pl.DataFrame,
    vectors: Mapping[str, np.ndarray],
    at: datetime,
    half_life_days: float,
    dimension: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ w v and Σ w over what each user wrote up to `at`: (users, dimension) and (users, 1) float32.

    `texts` holds user_id, text_hash and timestamp; one without a timestamp counts as not yet written, one
    whose vector is zero does not count. w halves every `half_life_days` before the user's newest text. Each
    row is summed oldest first, so a user alone gets the same bits as among others.
    """
    if at.tzinfo is None:
        raise ContractError(f"at = {at}: a moment needs its time zone")
    if not half_life_days > 0:
        raise ContractError(f"half_life_days = {half_life_days}: must be above 0")
    users = pl.DataFrame({"user_id": pl.Series(user_ids, dtype=pl.String)}).with_row_index("row")
    owned = texts.filter(pl.col("timestamp") <= at.astimezone(UTC)).join(users, on="user_id")
    names = owned["text_hash"].unique(maintain_order=True)
    if unknown := [name for name in names if name not in vectors]:
        raise ContractError(f"{len(unknown)} texts have no vector, {unknown[0]} for one: embed them first")
    said = np.array([vectors[name] for name in names], np.float32).reshape(-1, dimension)
    distinct = pl.DataFrame({"text_hash": names, "directed": said.any(axis=1)}).with_row_index("column")
    owned = (
        owned.join(distinct, on="text_hash")
        .filter("directed")
        .sort("row", "timestamp", "text_hash")
        # Age counts from the user's newest text: the same direction, and no sum of weights sinks to zero.
        .with_columns(
            age=(pl.col("timestamp").max().over("row") - pl.col("timestamp")).dt.total_microseconds()
        )
    )
    weights = np.exp2(-owned["age"].to_numpy() / (DAY * half_life_days)).astype(np.float32)
    ends = np.searchsorted(owned["row"].to_numpy(), np.arange(len(users) + 1))
    summed = sparse.csr_array((weights, owned["column"].to_numpy(), ends), (len(users), len(distinct)))
    return summed @ said, summed @ np.ones((len(distinct), 1), np.float32)
