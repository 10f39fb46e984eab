"""Bands of popularity against a loop over lists, and what becomes of items at their edges."""

import polars as pl
import pytest

from profiles.schema import ContractError
from recsys.metrics import Context
from recsys.metrics.bands import BANDS, EDGES, by_band, places_by_band
from recsys.metrics.slices import parts, without_rare

ITEMS = [f"i{n:03}" for n in range(130)]


@pytest.fixture
def context() -> Context:
    """120 items of which the n-th was had by 200 - n // 2 users (ties), and ten that nobody had."""
    counts = pl.DataFrame({"item_id": ITEMS[:120], "count": [200 - n // 2 for n in range(120)]})
    return Context(pl.Series(ITEMS), counts.sample(fraction=1, shuffle=True, seed=1), 500)


def expected(item: str) -> str:
    n = ITEMS.index(item)
    if n >= 120:
        return "new"
    return next((name for edge, name in zip(EDGES, BANDS, strict=False) if n < edge * 120), BANDS[4])


def test_every_item_is_in_the_band_of_its_place(context):
    found = dict(by_band(context).select("item_id", "band").iter_rows())
    assert found == {item: expected(item) for item in ITEMS}
    assert [list(found.values()).count(band) for band in BANDS] == [2, 4, 18, 36, 60, 10]


def test_places_are_counted_up_to_k_and_strangers_are_new(context):
    lists = {"a": {"u": ITEMS[:12], "v": ITEMS[20:32]}, "b": {"u": [ITEMS[125], "stranger", ITEMS[119]]}}
    frame = pl.DataFrame(
        [
            {"source": s, "user_id": u, "item_id": i, "rank": n + 1}
            for s, of in lists.items()
            for u, items in of.items()
            for n, i in enumerate(items)
        ]
    )
    found = places_by_band(frame, 10, context)
    assert found.columns == ["source", "band", "places"]
    assert found["band"].to_list() == [*BANDS, *BANDS]
    for source, of in lists.items():
        shown = [i for items in of.values() for i in items[:10]]
        told = ["new" if i == "stranger" else expected(i) for i in shown]
        assert found.filter(source=source)["places"].to_list() == [told.count(band) for band in BANDS]
    with pytest.raises(ContractError, match="at least 1"):
        places_by_band(frame, 0, context)


def test_a_catalogue_nobody_touched_is_all_new():
    nothing = pl.DataFrame(schema={"item_id": pl.String, "count": pl.Int64})
    assert set(by_band(Context(pl.Series(["a", "b"]), nothing, 0))["band"]) == {"new"}


def test_rare_slices_are_one():
    sizes = {"a": 30, "b": 12, "c": 11, "d": 9, "e": 1}
    names = [name for name, size in sizes.items() for _ in range(size)]
    labels = pl.DataFrame({"user_id": [f"u{n}" for n in range(len(names))], "slice": names})
    found = without_rare(labels, most=2, least=10)
    assert dict(found["slice"].value_counts().iter_rows()) == {"a": 30, "b": 12, "other": 21}
    assert found["user_id"].equals(labels["user_id"])


def test_parts_are_the_rows_with_a_label():
    frame = pl.DataFrame({"who": ["u", "v", "w", "u"], "value": [1, 2, 3, 4]})
    labels = pl.DataFrame({"user_id": ["u", "v", "x"], "slice": ["z", "a", "a"]})
    found = parts(frame, labels, "who")
    assert list(found) == ["a", "z"]
    assert found["z"]["value"].to_list() == [1, 4]
    assert parts(frame.clear(), labels, "who") == {}
