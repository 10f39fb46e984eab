"""Text vectors as profile columns: derived frames beside a sealed snapshot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from nlp.embed import EmbeddingCache, Encodes, by_hash, user_vectors
from profiles import manifest
from profiles.snapshot import Snapshot

FORMAT = 2  # raise it when the frames of the same snapshot change


def derive(
    snapshot: Snapshot,
    encoder: Encodes,
    cache: EmbeddingCache,
    half_life_days: float,
    root: Path,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write user_profiles and item_profiles with vectors as columns, as of the snapshot's moment.

    `text_vector` is what an item says or, decayed, what a user wrote; `taste_vector`, of a user, is the
    decayed mean of what the items say that they touched. Null where there is none. The folder
    `root/<snapshot>/text-<key>` has its own manifest; what it holds is returned unchanged when it is
    there already.
    """
    key = manifest.content_key(FORMAT, encoder.name, half_life_days)
    place = root / snapshot.name / f"text-{key}"
    if place.exists():
        return place
    texts = snapshot.frame("texts")
    of = by_hash(dict(texts.select("text_hash", "text").iter_rows()), encoder, cache, progress)
    items = texts.filter(pl.col("owner") == "item")
    written = texts.filter(pl.col("owner") == "user").rename({"id": "user_id"})
    touched = snapshot.frame("interactions").select("user_id", "item_id", "timestamp")
    met = touched.join(items.select("text_hash", item_id="id"), on="item_id")
    width = encoder.dimension

    def decayed(texts: pl.DataFrame) -> tuple[pl.Series, np.ndarray]:
        users = texts["user_id"].unique().sort()
        return users, user_vectors(users.to_list(), texts, of, snapshot.as_of, half_life_days, width)

    (writers, wrote), (takers, taste) = decayed(written), decayed(met)

    about = {"producer": "text", "snapshot": snapshot.name, "encoder": encoder.name, "dimension": width}
    with manifest.building(place, about) as folder:
        said = np.array([of[h] for h in items["text_hash"]], np.float32).reshape(-1, width)
        _frame("item_id", items["id"], "text_vector", said).write_parquet(folder / "item_profiles.parquet")
        own = _frame("user_id", writers, "text_vector", wrote)
        tastes = _frame("user_id", takers, "taste_vector", taste)
        profiles = own.join(tastes, on="user_id", how="full", coalesce=True)
        profiles.sort("user_id").write_parquet(folder / "user_profiles.parquet")
    return place


def item_matrix(folder: Path, item_ids: pl.Series) -> np.ndarray:
    """Return the items' vectors in the order of `item_ids`, (items, d) float32; NaN rows without text."""
    frame = pl.read_parquet(folder / "item_profiles.parquet")
    return _aligned(frame, "item_id", item_ids, manifest.read(folder)["dimension"])


def _aligned(frame: pl.DataFrame, key: str, ids: pl.Series, width: int) -> np.ndarray:
    vectors = np.full((len(ids), width), np.nan, np.float32)
    places = pl.DataFrame({key: ids}).with_row_index("place").join(frame, on=key, how="inner")
    if len(places):
        vectors[places["place"].to_numpy()] = places["text_vector"].to_numpy()
    vectors[(vectors == 0).all(axis=1)] = np.nan  # a text without words points nowhere
    return vectors


def _frame(key: str, ids: pl.Series, name: str, vectors: np.ndarray) -> pl.DataFrame:
    dtype = pl.Array(pl.Float32, vectors.shape[1])
    return pl.DataFrame({key: ids, name: pl.Series(vectors, dtype=dtype)}).sort(key)
