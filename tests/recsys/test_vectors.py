"""Vector files: what is read, what is left out, what is refused, and the name of the row at fault."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from profiles import manifest
from profiles.schema import ContractError
from recsys.dataset import Vocabulary
from recsys.vectors import VectorsConfig, content, derive, matrices, read_vectors

ITEMS = Vocabulary(pl.Series(["a", "b", "c", "d", "7"]))


@pytest.fixture
def write(tmp_path):
    def written(rows, dtype=pl.List(pl.Float64), ids=pl.String) -> Path:
        path = tmp_path / "vectors.parquet"
        pl.DataFrame(rows, {"item_id": ids, "vector": dtype}, orient="row").write_parquet(path)
        return path

    return written


@pytest.mark.parametrize(
    "dtype", [pl.List(pl.Float64), pl.List(pl.Float32), pl.List(pl.Int16), pl.Array(pl.Float32, 2)], ids=str
)
def test_vectors_come_in_row_order_with_norm_one(write, dtype):
    found, left = read_vectors(write([("c", [3, 4]), ("x", [1, 1]), ("a", [0, -9])], dtype), ITEMS)
    assert found.schema == {"item_id": pl.String, "vector": pl.Array(pl.Float32, 2)}
    assert found["item_id"].to_list() == ["a", "c"]
    np.testing.assert_allclose(found["vector"].to_numpy(), [[0, -1], [0.6, 0.8]], rtol=1e-6)
    assert left == {"unknown": 1, "empty": 0}


def test_ids_may_be_numbers_and_lengths_extreme(write):
    found, _ = read_vectors(write([(7, [3e30, 4e30]), (8, [1.0, 0.0])], ids=pl.Int64), ITEMS)
    np.testing.assert_allclose(found["vector"].to_numpy(), [[0.6, 0.8]], rtol=1e-6)
    found, _ = read_vectors(write([("a", [3e-30, 4e-30])]), ITEMS)
    np.testing.assert_allclose(found["vector"].to_numpy(), [[0.6, 0.8]], rtol=1e-6)


def test_what_points_nowhere_is_left_out_and_counted(write):
    found, left = read_vectors(write([("a", None), ("b", [0.0, 0.0]), ("c", [1.0, 0.0]), ("x", None)]), ITEMS)
    assert found["item_id"].to_list() == ["c"]
    assert left == {"unknown": 0, "empty": 3}
    nothing, left = read_vectors(write([]), ITEMS)
    assert nothing.is_empty()
    assert left == {"unknown": 0, "empty": 0}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", [1.0, 2.0]), ("b", None), ("c", [1.0])], r"row 3 \(item 'c'\): 1 numbers.* first has 2"),
        ([("a", []), ("b", [])], r"row 1 \(item 'a'\)"),
        ([("x", [1.0]), ("b", [float("nan")])], r"row 2 \(item 'b'\): .*NaN"),
        ([("a", [1.0, 1e300])], r"row 1 \(item 'a'\): .*beyond 32 bits"),
        ([("a", [1.0, None])], r"row 1 \(item 'a'\): .*null"),
        ([("a", [1.0]), ("b", [1.0]), ("a", [2.0])], r"row 3 \(item 'a'\): the item has a vector already"),
        ([("a", [1.0]), (None, [1.0])], r"row 2 \(item None\): without an item_id"),
    ],
    ids=["ragged", "no numbers", "nan", "infinite", "null", "twice", "no id"],
)
def test_a_row_at_fault_is_named(write, rows, said):
    with pytest.raises(ContractError, match=rf"vectors\.parquet: {said}"):
        read_vectors(write(rows), ITEMS)


def test_another_file_is_refused(write, tmp_path):
    with pytest.raises(ContractError, match="there is no file"):
        read_vectors(tmp_path / "none.parquet", ITEMS)
    (tmp_path / "text.parquet").write_text("item_id,vector\n")
    with pytest.raises(
        ContractError, match=r"text\.parquet: not Parquet with the columns item_id and vector"
    ):
        read_vectors(tmp_path / "text.parquet", ITEMS)
    pl.DataFrame({"item_id": ["a"], "v": [[1.0]]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(ContractError, match="columns item_id and vector"):
        read_vectors(tmp_path / "other.parquet", ITEMS)
    with pytest.raises(ContractError, match=r"column vector is String; it would be a list of numbers"):
        read_vectors(write([("a", "1 2")], pl.String), ITEMS)


def test_frames_lie_beside_a_snapshot_and_come_back_by_row(write, tmp_path):
    path = write([("d", [0.0, 2.0]), ("b", [2.0, 0.0]), ("x", [1.0, 1.0])])
    place = derive({"images": path}, ITEMS, tmp_path / "derived")
    manifest.verify(place)
    assert manifest.read(place)["counts"] == {"images": {"items": 2, "unknown": 1, "empty": 0}}
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(matrices(place, ITEMS)["images"], [nan, [1, 0], nan, [0, 1], nan])
    assert derive({"images": path}, ITEMS, tmp_path / "derived") == place
    first = content({"images": path})
    assert content({"sounds": path}) != first
    write([("d", [0.0, 2.0])])
    assert content({"images": path}) != first


def test_a_file_is_called_by_its_name_unless_it_has_another():
    assert VectorsConfig(path="deep/images.parquet").label == "images"
    assert VectorsConfig(path="deep/images.parquet", name="photos").label == "photos"
    with pytest.raises(ValueError, match="pattern"):
        VectorsConfig(path="x.parquet", name="../x")
