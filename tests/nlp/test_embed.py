"""Vectors are made once and kept; a user's vector is held against a loop."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nlp.embed import EmbeddingCache, Encodes, embed, text_embeddings, user_vectors
from nlp.encoder import TextEncoder
from profiles.schema import TIME, ContractError
from profiles.texts import text_hash

TEXTS = [
    "a red kettle",
    "boots for rain",
    "",
    "a red kettle",
    "grüner Tee 🍵",
    "jazz on vinyl",
    "a tin of tea",
]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder()


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache" / "embeddings.sqlite")


class Counting:
    """Another encoder, which notes what it was asked and may stop at its nth call."""

    def __init__(self, encoder: Encodes, stop_at: int | None = None) -> None:
        self.encoder, self.stop_at = encoder, stop_at
        self.name, self.dimension = encoder.name, encoder.dimension
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        self.asked.append(list(texts))
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        return self.encoder.encode(texts, progress)


def test_text_hash() -> None:
    assert text_hash("") == "cae66941d9efbd404e4d88758ea67670"  # the published BLAKE2b-128 of nothing
    assert text_hash("tea") != text_hash("Tea")
    assert len(text_hash("\ud83d")) == 32


def test_embed_gives_what_the_encoder_gives(encoder: TextEncoder, cache: EmbeddingCache) -> None:
    expected = encoder.encode(TEXTS)
    first = embed(TEXTS, encoder, cache)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, expected, atol=1e-5)
    np.testing.assert_array_equal(embed(TEXTS, encoder, cache), first)  # from the cache: the same bits
    assert embed([], encoder, cache).shape == (0, 384)


def test_only_new_texts_are_encoded_once(encoder: TextEncoder, cache: EmbeddingCache) -> None:
    counting = Counting(encoder)
    told: list[int] = []
    embed(TEXTS, counting, cache, told.append)
    assert counting.asked == [list(dict.fromkeys(TEXTS))]
    assert sum(told) == len(TEXTS)
    embed([*TEXTS, "new", "new"], counting, cache)
    assert counting.asked[1:] == [["new"]]
    embed(TEXTS, counting, cache)
    assert len(counting.asked) == 2


def test_all_cached_needs_no_torch(encoder: TextEncoder, cache: EmbeddingCache) -> None:
    embed(TEXTS, encoder, cache)
    program = f"""
import sys
from nlp.embed import EmbeddingCache, embed
from nlp.encoder import TextEncoder
assert embed({TEXTS!r}, TextEncoder(), EmbeddingCache({str(cache.path)!r})).any()
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_interrupted_run_goes_on(
    encoder: TextEncoder, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp.embed.CHUNK", 2)
    with pytest.raises(KeyboardInterrupt):
        embed(TEXTS, Counting(encoder, stop_at=2), cache)
    again = Counting(encoder)
    vectors = embed(TEXTS, again, cache)
    assert again.asked == [["", "grüner Tee 🍵"], ["jazz on vinyl", "a tin of tea"]]
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS), atol=1e-5)


def test_cache_round_trip(cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp.embed.ASKED", 7)
    vectors = np.random.default_rng(1).normal(size=(30, 5)).astype(np.float32)
    hashes = [text_hash(str(n)) for n in range(30)]
    cache.put(hashes, "one", vectors)
    cache.put(hashes[:3], "one", np.zeros((3, 5), np.float32))  # append-only: the first stays
    cache.put(hashes[:3], "two", np.ones((3, 4), np.float32))
    found = EmbeddingCache(cache.path).get([*hashes, "unknown"], "one")
    assert set(found) == set(hashes)
    np.testing.assert_array_equal(np.array([found[name] for name in hashes]), vectors)
    assert cache.get(hashes, "three") == {}

    frame = cache.frame("one", 5)
    assert frame.schema == text_embeddings(5).schema
    assert frame["text_hash"].to_list() == sorted(hashes)
    assert frame["encoder"].unique().to_list() == ["one"]
    np.testing.assert_array_equal(
        frame["vector"].to_numpy(), np.array([found[name] for name in sorted(hashes)])
    )
    assert cache.frame("three", 5).equals(text_embeddings(5).empty())
    with pytest.raises(ContractError, match="another length than 5"):
        cache.frame("two", 5)


def test_cache_is_read_while_another_writes(cache: EmbeddingCache) -> None:
    cache.put(["a"], "one", np.ones((1, 2), np.float32))
    writer = sqlite3.connect(cache.path)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO text_embeddings VALUES ('b', 'one', x'00')")
    assert set(cache.get(["a", "b"], "one")) == {"a"}  # not committed, not there, not waited for
    writer.rollback()
    writer.close()


def test_cache_is_shared_by_threads(cache: EmbeddingCache) -> None:
    def write(n: int) -> None:
        cache.put([f"own {n}", "shared"], "one", np.full((2, 3), n, np.float32))
        assert cache.get([f"own {n}"], "one")[f"own {n}"].tolist() == [n] * 3

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert len(cache.frame("one", 3)) == 41


def test_cache_refuses_what_is_no_vector(cache: EmbeddingCache, tmp_path: Path) -> None:
    for wrong in (np.ones((1, 2)), np.full((2, 2), np.nan), np.ones(2)):
        with pytest.raises(ContractError, match="2 texts want as many finite vectors"):
            cache.put(["a", "b"], "one", wrong)
    assert cache.get(["a", "b"], "one") == {}
    (tmp_path / "other.txt").write_text("not a database, but long enough to be taken for one" * 9)
    with pytest.raises(ContractError, match=r"other\.txt: not a cache of embeddings"):
        EmbeddingCache(tmp_path / "other.txt")


def world(
    seed: int, users: int = 40, texts: int = 60, d: int = 7
) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Texts with equal moments, repeats, one without words and some without a moment."""
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(texts, d)).astype(np.float32)
    said /= np.linalg.norm(said, axis=1, keepdims=True)
    said[0] = 0
    rows = rng.zipf(1.5, 500) % users
    frame = pl.DataFrame(
        {
            "user_id": [f"u{row}" for row in rows],
            "text_hash": [f"t{n}" for n in rng.integers(0, texts, 500)],
            "timestamp": [
                None if hours > 2300 else NOW - timedelta(hours=float(hours))
                for hours in rng.integers(-300, 2400, 500)
            ],
        },
        schema={"user_id": pl.String, "text_hash": pl.String, "timestamp": TIME},
    )
    return frame, {f"t{n}": vector for n, vector in enumerate(said)}


def loop(
    user: str, texts: pl.DataFrame, vectors: dict[str, np.ndarray], at: datetime, half_life: float
) -> np.ndarray:
    total = np.zeros(7)
    for user_id, name, moment in texts.iter_rows():
        if user_id == user and moment is not None and moment <= at:
            total += 0.5 ** ((at - moment) / timedelta(days=1) / half_life) * vectors[name].astype(np.float64)
    return total / np.linalg.norm(total) if total.any() else np.full(7, np.nan)


@pytest.mark.parametrize("half_life", [0.5, 30.0, float("inf")])
def test_user_vectors_against_a_loop(half_life: float) -> None:
    texts, vectors = world(3)
    users = [f"u{n}" for n in range(39, -1, -1)] + ["stranger"]
    for at in (NOW, NOW - timedelta(days=60), NOW - timedelta(days=200)):
        got = user_vectors(users, texts, vectors, at, half_life, 7)
        expected = np.array([loop(user, texts, vectors, at, half_life) for user in users])
        np.testing.assert_allclose(got, expected, atol=2e-6)
        assert got.dtype == np.float32
        assert np.isnan(got[-1]).all()


def test_a_user_alone_gets_the_same_bits() -> None:
    texts, vectors = world(4)
    users = sorted(set(texts["user_id"]))
    batch = user_vectors(users, texts, vectors, NOW, 20, 7)
    shuffled = texts.sample(fraction=1, shuffle=True, seed=5)
    for user, row in zip(users, batch, strict=True):
        own = shuffled.filter(user_id=user)
        seen = {name: vectors[name] for name in own["text_hash"]}
        assert user_vectors([user], own, seen, NOW, 20, 7).tobytes() == row.tobytes()


def test_texts_after_the_moment_do_not_count() -> None:
    vectors = {"old": np.array([1, 0], np.float32), "new": np.array([0, 1], np.float32)}
    texts = pl.DataFrame(
        {"user_id": ["u", "u"], "text_hash": ["old", "new"], "timestamp": [NOW, NOW + timedelta(days=10)]},
        schema_overrides={"timestamp": TIME},
    )
    at = NOW.astimezone(timezone(timedelta(hours=9)))  # the same moment, elsewhere
    assert user_vectors(["u"], texts, vectors, at, 10, 2).tolist() == [[1, 0]]
    assert user_vectors(["u"], texts, {"old": vectors["old"]}, at, 10, 2).tolist() == [[1, 0]]
    both = user_vectors(["u"], texts, vectors, NOW + timedelta(days=10), 10, 2)
    np.testing.assert_allclose(both, np.array([[0.5, 1]]) / np.sqrt(1.25), atol=1e-6)
    assert np.isnan(user_vectors(["u"], texts, vectors, NOW - timedelta(seconds=1), 10, 2)).all()


def test_old_texts_do_not_fade_to_nothing() -> None:
    texts = pl.DataFrame(
        {"user_id": ["u", "u"], "text_hash": ["t", "blank"], "timestamp": [NOW - timedelta(days=9000), NOW]},
        schema_overrides={"timestamp": TIME},
    )
    vectors = {"t": np.array([0, 1], np.float32), "blank": np.zeros(2, np.float32)}
    assert user_vectors(["u"], texts, vectors, NOW, 1, 2).tolist() == [[0, 1]]


def test_user_vectors_refuses() -> None:
    texts, vectors = world(6)
    assert user_vectors([], texts, vectors, NOW, 1, 7).shape == (0, 7)
    with pytest.raises(ContractError, match="time zone"):
        user_vectors(["u1"], texts, vectors, NOW.replace(tzinfo=None), 1, 7)
    with pytest.raises(ContractError, match="half_life_days = 0"):
        user_vectors(["u1"], texts, vectors, NOW, 0, 7)
    with pytest.raises(ContractError, match="have no vector"):
        user_vectors(["u1"], texts, {}, NOW, 1, 7)
