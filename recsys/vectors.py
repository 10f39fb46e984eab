"""Vectors of items: of their texts, or brought by a user for images, audio or anything else.

A file that is brought is Parquet with the columns item_id and vector. It is checked once; what holds of
it beside a snapshot lies in a derived folder with a manifest of its own.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_matrix

from profiles import manifest
from profiles.schema import ContractError
from recsys.dataset import Vocabulary

FORMAT = 1  # raise it when the frames of the same file change


class VectorsConfig(BaseModel):
    """One file of vectors, `[[vectors]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        description="Parquet file of item_id and vector, relative to this file; ${VAR} is expanded",
        min_length=1,
    )
    name: str | None = Field(
        None,
        description="what recommenders call it; none: the file's name without its ending",
        pattern=r"^[A-Za-z0-9_-]+$",
    )

    @property
    def label(self) -> str:
        """What recommenders call these vectors."""
        return self.name or Path(self.path).stem


def read_vectors(path: Path, items: Vocabulary) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return (item_id, vector) of the known `items`, in their order and of norm 1, and what was left out.

    Unknown items and vectors of zeros or null are left out and counted. Raises ContractError naming the
    first row that is ragged, not finite or there twice. Memory: rows × d × 12 bytes.
    """
    frame = _columns(path)
    filled = frame.filter(pl.col("vector").is_not_null())
    lengths = filled["vector"].list.len()
    width = int(lengths[0]) if len(lengths) else 1
    for row in filled.filter(lengths != max(width, 1)).head(1).iter_rows(named=True):
        raise ContractError(f"{_row(path, row)}: {len(row['vector'])} numbers, where the first has {width}")
    vectors = filled["vector"].explode().to_numpy().reshape(-1, max(width, 1))
    for n in np.flatnonzero(~np.isfinite(vectors).all(axis=1))[:1]:
        raise ContractError(
            f"{_row(path, filled.row(n, named=True))}: a number that is null, NaN or beyond 32 bits"
        )
    peaks = np.abs(vectors).max(axis=1, keepdims=True)
    pointing = peaks[:, 0] > 0
    rows = items.rows(filled["item_id"])
    kept = np.flatnonzero(pointing & (rows >= 0))
    kept = kept[np.argsort(rows[kept])]
    found = unit(vectors[kept] / peaks[kept])  # scaled first, so that no square is too large or too small
    left = {
        "unknown": int((rows < 0).sum()),
        "empty": len(frame) - len(filled) + int((~pointing & (rows >= 0)).sum()),
    }
    dtype = pl.Array(pl.Float32, vectors.shape[1])
    return pl.DataFrame({"item_id": filled["item_id"][kept], "vector": pl.Series(found, dtype=dtype)}), left


def derive(files: Mapping[str, Path], items: Vocabulary, root: Path) -> Path:
    """Write the vectors of each file, by its label, for the `items` of a snapshot; returns the folder.

    `root/vectors-<key>` has its own manifest, with what was kept and left out; it is returned unchanged
    when it is there already.
    """
    place = root / f"vectors-{content(files)}"
    if place.exists():
        return place
    kept: dict[str, dict[str, int]] = {}
    with manifest.building(place, {"producer": "vectors", "counts": kept}) as folder:
        for label, path in files.items():
            frame, left = read_vectors(path, items)
            frame.write_parquet(folder / f"{label}.parquet")
            kept[label] = {"items": len(frame), **left}
    return place


def content(files: Mapping[str, Path]) -> str:
    """Hash the files' labels and bytes."""
    return manifest.content_key(FORMAT, {label: manifest.sha256(path) for label, path in files.items()})


def counts(folder: Path) -> dict[str, dict[str, int]]:
    """Return by label how many items were kept in what `derive` wrote, and how many left out."""
    kept: dict[str, dict[str, int]] = manifest.read(folder)["counts"]
    return kept


def matrices(folder: Path, items: Vocabulary) -> dict[str, np.ndarray]:
    """Return what `derive` wrote by label, (items, d) float32 in the order of `items`; NaN rows without."""
    found = {}
    for label in counts(folder):
        frame = pl.read_parquet(folder / f"{label}.parquet")
        values = frame["vector"].to_numpy().reshape(len(frame), -1)
        found[label] = np.full((len(items), frame.schema["vector"].shape[0]), np.nan, np.float32)  # type: ignore[attr-defined]
        found[label][items.rows(frame["item_id"])] = values
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to norm 1; a zero row has no direction and becomes NaN."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = np.divide(vectors, norms, out=np.full_like(vectors, np.nan), where=norms > 0)
    return scaled


def mixed(chosen: np.ndarray, written: np.ndarray, share: float) -> np.ndarray:
    """Return (1 - share) chosen + share written, rows scaled to norm 1; where one is NaN the other."""
    both = (1 - share) * chosen + share * written
    return unit(np.where(np.isnan(both), np.where(np.isnan(chosen), written, chosen), both))


def history_vectors(x: csr_matrix, vectors: np.ndarray) -> np.ndarray:
    """Return sum_j x_j v_j of each history (n, items), scaled to norm 1, (n, d) float64; NaN without a v."""
    return unit(summed(x, vectors))


def summed(x: csr_matrix, vectors: np.ndarray) -> np.ndarray:
    """Return sum_j x_j v_j of each history (n, items), (n, d) float64; NaN counts as 0."""
    touched, place = np.unique(x.indices, return_inverse=True)
    past = csr_matrix((x.data.astype(np.float64), place, x.indptr), (x.shape[0], len(touched)))
    total: np.ndarray = past @ np.nan_to_num(vectors[touched]).astype(np.float64)
    return total


def _columns(path: Path) -> pl.DataFrame:
    """Return row (from 1), item_id and vector (a list of float32) of a file."""
    try:
        frame = pl.read_parquet(path, columns=["item_id", "vector"])
    except FileNotFoundError:
        raise ContractError(f"there is no file {path}") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        why = str(error).splitlines()[0]
        raise ContractError(f"{path}: not Parquet with the columns item_id and vector: {why}") from None
    kind = frame.schema["vector"]
    if not isinstance(kind, pl.List | pl.Array) or not (kind.inner.is_numeric() or kind.inner == pl.Null):
        raise ContractError(f"{path}: column vector is {kind}; it would be a list of numbers")
    ready = frame.with_row_index("row", 1).with_columns(
        pl.col("item_id").cast(pl.String), pl.col("vector").cast(pl.List(pl.Float32))
    )
    for row in ready.filter(pl.col("item_id").is_null()).head(1).iter_rows(named=True):
        raise ContractError(f"{_row(path, row)}: without an item_id")
    for row in ready.filter(~pl.col("item_id").is_first_distinct()).head(1).iter_rows(named=True):
        raise ContractError(f"{_row(path, row)}: the item has a vector already")
    return ready


def _row(path: Path, row: Mapping[str, object]) -> str:
    return f"{path}: row {row['row']} (item {row['item_id']!r})"
