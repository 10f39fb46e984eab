"""What users wrote of an item is part of what recommenders read of it, as far as it was written by then."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from profiles.schema import INTERACTIONS, ITEMS
from recsys.dataset import Catalogue
from serving.settings import Settings, TextConfig
from serving.trial import Fits, Laboratory
from serving.words import Words

START = datetime(2026, 1, 1, tzinfo=UTC)


class Letters:
    """An encoder of the words loud, soft and warm."""

    name = "letters"
    dimension = 3

    def encode(self, texts, progress=None):
        return np.array([[word in text for word in ("loud", "soft", "warm")] for text in texts], np.float32)


@pytest.fixture
def words(tmp_path: Path) -> Words:
    found = Words(TextConfig(reviews=True), tmp_path / "cache.db")
    found.encoder = Letters()
    return found


REVIEWS = pl.DataFrame(
    {
        "item_id": ["a", "a", "b"],
        "user_id": ["u", "v", "v"],  # who wrote it plays no part
        "text": ["loud", "soft", "warm"],
        "timestamp": [START, START + timedelta(days=9), START + timedelta(days=9)],
    }
)
SAID = np.array([[np.nan] * 3, [1, 0, 0], [0, 0, 1]], np.float32)


def test_a_dataset_reads_reviews_up_to_its_moment(words: Words, tmp_path: Path) -> None:
    log = INTERACTIONS.conform(
        pl.DataFrame(
            [
                {"user_id": "u", "item_id": i, "event_type": "x", "weight": 1.0, "timestamp": START}
                for i in "abc"
            ]
        )
    )
    catalogue = Catalogue.of(ITEMS.conform(pl.DataFrame({"item_id": list("abc")})), log, START)
    settings = Settings.model_validate({"events": [{"path": "x.csv"}]})
    given = (catalogue, SAID, {}, REVIEWS.clear(), words, settings, Fits(tmp_path), "key", False)
    laboratory = Laboratory(*given, reviews=REVIEWS)
    early = laboratory.dataset(log, START + timedelta(days=1)).vectors
    late = laboratory.dataset(log, START + timedelta(days=9)).vectors
    half = np.sqrt(0.5)
    np.testing.assert_allclose(early, [[1, 0, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(late, [[half, half, 0], [half, 0, half], [0, 0, 1]], atol=1e-6)
    assert Laboratory(*given).dataset(log, START).vectors is SAID


def test_without_reviews_items_are_what_they_say(words: Words) -> None:
    ids = pl.Series(["a", "b", "c"])
    assert words.items(ids, SAID, REVIEWS, START - timedelta(days=1)) is SAID
    assert words.items(ids, None, REVIEWS, START - timedelta(days=1)) is None
    found = words.items(ids, None, REVIEWS, START)
    assert found is not None
    assert np.isnan(found[1:]).all()
