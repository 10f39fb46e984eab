"""Text vectors beside a snapshot: by id, as of its moment, made once, and the snapshot left as it was."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nlp.derive import derive, item_matrix
from nlp.embed import EmbeddingCache
from profiles import manifest
from profiles.schema import EVENTS, ContractError
from profiles.snapshot import Snapshot
from profiles.store.sqlite import SQLiteStore

START = datetime(2024, 1, 1, tzinfo=UTC)
HALF_LIFE = 10.0


class Letters:
    """A text's vector counts its a, b and c, scaled to length one; nothing of them, no direction."""

    def __init__(self, name: str = "letters") -> None:
        self.name, self.dimension = name, 3
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        self.asked += texts
        if progress:
            progress(len(texts))
        return np.array([vector(text) for text in texts], np.float32).reshape(-1, 3)


def vector(text: str) -> np.ndarray:
    found = np.array([text.count(letter) for letter in "abc"], np.float64)
    length = np.linalg.norm(found)
    return found / length if length else found


ITEMS_SAY = {"i3": "aab", "i1": "c", "i2": None, "i4": "xyz", "i5": "c"}
WRITTEN = [  # user, days, text
    ("ute", 1, "ab"),
    ("bob", 2, "c"),
    ("ute", 11, "bbc"),
    ("ann", 3, "zzz"),
    ("eve", 4, None),
    ("ute", 5, "ab"),
    ("bob", 30, "a"),
]


def vectors(folder: Path, kind: str, column: str = "text_vector") -> dict[str, list[float]]:
    frame = pl.read_parquet(folder / f"{kind}_profiles.parquet")
    names = ["text_vector", "taste_vector"] if kind == "user" else ["text_vector"]
    assert frame.schema == {f"{kind}_id": pl.String} | dict.fromkeys(names, pl.Array(pl.Float32, 3))
    assert frame[f"{kind}_id"].to_list() == sorted(frame[f"{kind}_id"])
    told = frame.select(f"{kind}_id", column).drop_nulls()
    return {name: list(found) for name, found in told.rows()}


def decayed(user: str, at_days: float) -> np.ndarray:
    said = [(days, text) for who, days, text in WRITTEN if who == user and text and days <= at_days]
    whole = sum(vector(text) * 0.5 ** ((at_days - days) / HALF_LIFE) for days, text in said)
    return whole / np.linalg.norm(whole)


def test_items_and_users_have_their_vectors(snapshot: Snapshot, cache: EmbeddingCache, root: Path) -> None:
    folder = derive(snapshot, Letters(), cache, HALF_LIFE, root)
    items = vectors(folder, "item")
    assert list(items) == ["i1", "i3", "i4", "i5"]  # i2 says nothing
    for name, found in items.items():
        np.testing.assert_allclose(found, vector(ITEMS_SAY[name] or ""), atol=1e-6)
    users = vectors(folder, "user")
    assert list(users) == ["ann", "bob", "ute"]  # eve wrote nothing
    assert np.isnan(users["ann"]).all()  # nothing that points anywhere
    for name in ("bob", "ute"):
        np.testing.assert_allclose(users[name], decayed(name, 30), atol=1e-6)


def test_a_taste_is_the_decayed_mean_of_what_touched_items_say(
    store: SQLiteStore, snapshot_of: Callable[..., Snapshot], cache: EmbeddingCache, root: Path
) -> None:
    kept = HALF_LIFE
    rows = [("eve", "i3", 31), ("eve", "i2", 32), ("eve", "i5", 31 + kept), ("may", "i4", 31)]
    more = [
        {"event_id": f"more{n}", "user_id": user, "item_id": item, "event_type": "view",
         "timestamp": START + timedelta(days=days)}
        for n, (user, item, days) in enumerate(rows)
    ]  # fmt: skip
    store.append(EVENTS.conform(pl.DataFrame(more)))
    tastes = vectors(derive(snapshot_of(store), Letters(), cache, HALF_LIFE, root), "user", "taste_vector")
    assert set(tastes) == {"ann", "bob", "eve", "may", "ute"}
    np.testing.assert_allclose(tastes["bob"], vector("c"), atol=1e-6)  # all of theirs touched i1
    first = 0.5 ** ((31 + kept - 4) / kept)  # eve touched i1 on day 4
    whole = first * vector("c") + 0.5 * vector("aab") + vector("c")
    np.testing.assert_allclose(tastes["eve"], whole / np.linalg.norm(whole), atol=1e-6)
    assert np.isnan(tastes["may"]).all()  # what they touched points nowhere


def test_only_what_was_written_by_then_counts(
    store: SQLiteStore, snapshot_of: Callable[..., Snapshot], cache: EmbeddingCache, root: Path
) -> None:
    encoder = Letters()
    users = vectors(derive(snapshot_of(store, 5), encoder, cache, HALF_LIFE, root), "user")
    np.testing.assert_allclose(users["bob"], [0, 0, 1], atol=1e-6)  # its "a" comes later
    np.testing.assert_allclose(users["ute"], decayed("ute", 5), atol=1e-6)
    assert sorted(encoder.asked) == ["aab", "ab", "c", "xyz", "zzz"]
    users = vectors(derive(snapshot_of(store, 2), encoder, cache, HALF_LIFE, root), "user")
    assert list(users) == ["bob", "ute"]


def test_the_manifest_names_snapshot_and_encoder(
    snapshot: Snapshot, cache: EmbeddingCache, root: Path
) -> None:
    folder = derive(snapshot, Letters(), cache, HALF_LIFE, root)
    about = manifest.verify(folder)
    assert {n: about[n] for n in about if n not in ("files", "seal")} == {
        **{"producer": "text", "snapshot": snapshot.name, "encoder": "letters", "dimension": 3}
    }
    assert set(about["files"]) == {"item_profiles.parquet", "user_profiles.parquet"}
    assert folder.parent == root / snapshot.name
    assert re.fullmatch("text-[0-9a-f]{16}", folder.name)


def test_nothing_is_encoded_twice(
    store: SQLiteStore,
    snapshot: Snapshot,
    snapshot_of: Callable[..., Snapshot],
    cache: EmbeddingCache,
    root: Path,
) -> None:
    encoder, told = Letters(), []
    folder = derive(snapshot, encoder, cache, HALF_LIFE, root, told.append)
    first = list(encoder.asked)
    assert sorted(first) == ["a", "aab", "ab", "bbc", "c", "xyz", "zzz"]  # each distinct text once
    assert sum(told) == 7
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert derive(snapshot, encoder, cache, HALF_LIFE, root, told.append) == folder
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert sum(told) == 7

    slower = derive(snapshot, encoder, cache, 2 * HALF_LIFE, root)  # another decay, the same vectors
    assert slower != folder
    assert vectors(slower, "item") == vectors(folder, "item")
    assert vectors(slower, "user")["bob"] != vectors(folder, "user")["bob"]
    assert encoder.asked == first

    row = {"event_id": "new", "user_id": "eve", "item_id": "i1", "event_type": "view", "text": "cab"}
    store.append(EVENTS.conform(pl.DataFrame([row | {"timestamp": START + timedelta(days=31)}])))
    derive(snapshot_of(store), encoder, cache, HALF_LIFE, root)
    assert encoder.asked == [*first, "cab"]

    other = Letters("another")
    assert derive(snapshot, other, cache, HALF_LIFE, root) not in (folder, slower)
    assert sorted(other.asked) == sorted(first)


def test_the_snapshot_is_not_touched(snapshot: Snapshot, cache: EmbeddingCache, root: Path) -> None:
    around = snapshot.folder.parent
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in [around, *around.rglob("*")]}
    derive(snapshot, Letters(), cache, HALF_LIFE, root)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in [around, *around.rglob("*")]} == before
    manifest.verify(snapshot.folder)


def test_an_error_leaves_no_folder_and_keeps_the_vectors(
    snapshot: Snapshot, cache: EmbeddingCache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    encoder = Letters()
    monkeypatch.setattr("nlp.derive._frame", stop)
    with pytest.raises(KeyboardInterrupt):
        derive(snapshot, encoder, cache, HALF_LIFE, root)
    assert list((root / snapshot.name).iterdir()) == []
    monkeypatch.undo()
    manifest.verify(derive(snapshot, encoder, cache, HALF_LIFE, root))
    assert len(encoder.asked) == 7


def test_item_matrix_follows_the_ids_given(snapshot: Snapshot, cache: EmbeddingCache, root: Path) -> None:
    folder = derive(snapshot, Letters(), cache, HALF_LIFE, root)
    ids = ["i2", "i5", "unknown", "i3", "i4", "i1", "i3"]
    found = item_matrix(folder, pl.Series(ids))
    assert (found.shape, found.dtype) == ((7, 3), np.dtype(np.float32))
    for name, row in zip(ids, found, strict=True):
        if name in ("i2", "unknown", "i4"):  # no text, no such item, no direction
            assert np.isnan(row).all()
        else:
            np.testing.assert_allclose(row, vector(ITEMS_SAY[name] or ""), atol=1e-6)
    assert item_matrix(folder, pl.Series([], dtype=pl.String)).shape == (0, 3)
    assert np.isnan(item_matrix(folder, pl.Series(["unknown"]))).all()


def test_a_log_without_any_text(
    snapshot_of: Callable[..., Snapshot], cache: EmbeddingCache, root: Path, tmp_path: Path
) -> None:
    store = SQLiteStore(tmp_path / "silent" / "events.db")
    row = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "view", "timestamp": START}
    store.append(EVENTS.conform(pl.DataFrame([row])))
    encoder = Letters()
    folder = derive(snapshot_of(store), encoder, cache, HALF_LIFE, root)
    assert encoder.asked == []
    assert vectors(folder, "item") == vectors(folder, "user") == {}
    assert np.isnan(item_matrix(folder, pl.Series(["i"]))).all()


def test_a_half_life_must_last(snapshot: Snapshot, cache: EmbeddingCache, root: Path) -> None:
    with pytest.raises(ContractError, match="half_life_days = 0: must be above 0"):
        derive(snapshot, Letters(), cache, 0, root)
    assert not root.exists()
