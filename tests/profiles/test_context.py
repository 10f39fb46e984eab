"""What profiles compare with is read back as it was written."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal
from scipy import sparse

from profiles.features.context import ATTRIBUTES, NEVER, Attribute, Context, load, save
from profiles.features.terms import TELLING

ARRAYS = ("events", "since", "price", "bands", "percentile", "surprise")


Cells = Sequence[tuple[int, int]]  # row and column of each


def attribute(items: int, values: Sequence[str], cells: Cells, share: Sequence[float]) -> Attribute:
    shape, ones = (items, len(values)), np.ones(len(cells))
    rows, columns = ([c[n] for c in cells] for n in (0, 1))
    matrix = sparse.csr_matrix((ones, (rows, columns)), shape=shape)
    return Attribute(pl.Series("value", list(values), dtype=pl.String), matrix, np.array(share, np.float64))


def context(**other: Any) -> Context:
    """Return one that is not even: 4 items with unequal numbers of values, one without any."""
    ids = ["", "a\0", "kettle", "🎬"]
    categories = [(0, 2), (0, 0), (2, 1), (3, 0)]
    given: dict[str, Any] = {
        "as_of": 1_700_000_000_000_001,
        "item_ids": pl.Series("item_id", ids),
        "event_types": ("buy", "view", "Ärger"),
        "events": np.array([3, 0, 7, 7]),
        "since": np.array([5, NEVER, -1, 4]),
        "price": np.array([0.1 + 0.2, np.nan, 0.0, 1e300]),
        "attributes": {
            "category": attribute(4, ["x", "y", "ÿ\0"], categories, [0.5, 1 / 3, 1 / 6]),
            "tag": attribute(4, [], [], []),
            "brand": attribute(4, ["m"], [(3, 0)], [0.0]),
            "price_band": attribute(4, ["1", "2"], [(2, 0), (0, 1)], [0.75, 0.25]),
        },
        "bands": np.array([0.1, 1 / 3, 7.0]),
        "telling": pl.DataFrame({"term": ["tea", "茶"], "telling": [0.1, 2 / 3]}, schema=TELLING),
    }
    return Context(**(given | other))


def nothing() -> Context:
    """Return the context of a log without items."""
    empty = {name: attribute(0, [], [], []) for name in ATTRIBUTES}
    return context(
        item_ids=pl.Series("item_id", [], dtype=pl.String), event_types=(), events=np.zeros(0, np.int64),
        since=np.zeros(0, np.int64), price=np.zeros(0), attributes=empty, bands=np.zeros(0),
        telling=pl.DataFrame(schema=TELLING),
    )  # fmt: skip


@pytest.mark.parametrize("make", [context, nothing])
def test_it_comes_back_as_it_was(make: Callable[[], Context], tmp_path: Path) -> None:
    given = make()
    save(given, tmp_path / "context")
    found = load(tmp_path / "context")
    assert (found.as_of, found.event_types) == (given.as_of, given.event_types)
    assert_series_equal(found.item_ids, given.item_ids)
    assert_frame_equal(found.telling, given.telling)
    for name in ARRAYS:
        one, other = getattr(found, name), getattr(given, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert [*found.attributes] == [*given.attributes]
    for name, expected in given.attributes.items():
        one = found.attributes[name]
        assert_series_equal(one.values, expected.values)
        assert one.items.shape == expected.items.shape
        for part in ("indptr", "indices", "data"):  # the order within a row too: ties fall by it
            np.testing.assert_array_equal(getattr(one.items, part), getattr(expected.items, part))
        np.testing.assert_array_equal(one.share, expected.share)


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path) -> None:
    save(context(), tmp_path / "one")
    save(load(tmp_path / "one"), tmp_path / "two")
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == ["facts.json", "items.arrow", "terms.arrow", "values.arrow"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_it_outlives_its_folder(tmp_path: Path) -> None:
    """Files may be memory-mapped: a release that is deleted still answers whoever holds it."""
    save(context(), tmp_path / "context")
    found = load(tmp_path / "context")
    for path in (tmp_path / "context").iterdir():
        path.unlink()
    np.testing.assert_array_equal(found.surprise, context().surprise)
    assert found.item_ids.to_list() == context().item_ids.to_list()


def test_what_it_knows_of_ids_and_types() -> None:
    given = context()
    asked = pl.Series(["🎬", None, "", "ket", "kettle", "zz", "a"])
    assert given.rows(asked).tolist() == [3, -1, 0, -1, 2, -1, -1]
    assert nothing().rows(asked).tolist() == [-1] * 7
    assert given.kinds(pl.Series(["view", "gift", "Ärger", ""])).tolist() == [1, 3, 2, 3]
    assert nothing().kinds(pl.Series(["view"])).tolist() == [0]


def test_standing_among_items_with_events() -> None:
    given = context()
    np.testing.assert_array_equal(given.percentile, [0.0, np.nan, 0.75, 0.75])
    np.testing.assert_allclose(given.surprise, -np.log2([3 / 17, np.nan, 7 / 17, 7 / 17]))
