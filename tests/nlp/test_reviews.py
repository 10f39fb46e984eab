"""What others wrote of an item: the item's vector as of a moment, and pairs that never tell of themselves."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from nlp import reviews as module
from nlp.reviews import item_vectors, reviews, told_by_others
from profiles.schema import EVENTS

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = timedelta(days=1)


def written(rows: list[tuple[float, str, str, str]]) -> pl.DataFrame:
    columns = ["day", "item_id", "user_id", "text"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    return frame.select(
        "item_id", "user_id", "text", timestamp=START + pl.col("day") * pl.lit(DAYS)
    )  # as `reviews` returns them


def test_an_item_is_what_it_says_and_what_was_written_of_it_up_to_then() -> None:
    random = np.random.default_rng(0)
    vectors = {
        name: row / np.linalg.norm(row) for name, row in zip("pqrst", random.normal(size=(5, 3)), strict=True)
    }
    rows = [
        (0, "a", "u", "p"),
        (9, "a", "v", "q"),
        (20, "a", "w", "r"),
        (1, "b", "u", "s"),
        (30, "c", "u", "t"),
    ]
    owned = written(rows).rename({"text": "text_hash"}).drop("user_id")
    said = np.array([[1, 0, 0], [np.nan] * 3, [0, 1, 0], [0, 0, 1], [np.nan] * 3], np.float32)
    found = item_vectors(list("abcde"), said, owned, vectors, START + 10 * DAYS, 3)
    both = vectors["p"] + vectors["q"]
    both = both / np.linalg.norm(both) + said[0]
    expected = [both / np.linalg.norm(both), vectors["s"], said[2], said[3], [np.nan] * 3]
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-5, atol=1e-6)
    alone = item_vectors(list("abcde"), None, owned, vectors, START + 10 * DAYS, 3)
    np.testing.assert_allclose(alone[1], vectors["s"], rtol=1e-5)
    assert np.isnan(alone[2:]).all()


def test_reviews_are_texts_of_items_alone() -> None:
    events = [
        {"event_id": str(n), "user_id": "u", "event_type": "x", "timestamp": START - n * DAYS, **row}
        for n, row in enumerate(
            [
                {"item_id": "a", "text": "fine"},
                {"item_id": None, "text": "a search"},
                {"item_id": "b", "text": "  "},
                {"item_id": "b", "text": None},
                {"item_id": "b", "text": "broken"},
            ]
        )
    ]
    assert reviews(EVENTS.conform(pl.DataFrame(events)))["text"].to_list() == ["broken", "fine"]


def test_a_choice_is_told_by_somebody_else_each_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEWEST", 3)
    said = written(
        [(0, "a", "old", "too old")]
        + [(n, "a", user, f"by {user}") for n, user in enumerate("uvw", 1)]
        + [(5, "b", "u", "by u alone")]
    )
    asked = [("u", "a"), ("x", "a"), ("x", "a"), ("x", "a"), ("v", "a"), ("u", "b"), ("u", "c"), ("z", "b")]
    pairs = pl.DataFrame(asked, schema=["user_id", "item_id"], orient="row").with_columns(left=pl.lit("said"))
    found = told_by_others(pairs, said)
    assert found.columns == ["user_id", "item_id", "left", "right"]
    assert found.select("user_id", "right").rows() == [
        ("u", "by v"), ("x", "by v"), ("x", "by w"), ("x", "by u"), ("v", "by w"), ("z", "by u alone"),
    ]  # fmt: skip
