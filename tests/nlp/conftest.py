"""Short names for the encoders of all tests, and a small log of what people wrote."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from nlp.embed import EmbeddingCache
from profiles.features import FeaturesConfig
from profiles.interactions import InteractionsConfig
from profiles.schema import EVENTS, ITEMS
from profiles.snapshot import Snapshot, build
from profiles.store.sqlite import SQLiteStore

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def folder(bert_folder: Path) -> Path:
    """The folder of the installed default model."""
    return bert_folder


@pytest.fixture
def tiny(tiny_bert: Path) -> Path:
    """A BERT of 16 dimensions and 40 positions."""
    return tiny_bert


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., SQLiteStore]:
    """`store_of(written, say)` holds (user, days after START, text) of item i1, and what items say."""

    def of(written: Sequence[tuple[str, float, str | None]], say: Mapping[str, str | None]) -> SQLiteStore:
        rows = [
            {"event_id": str(n), "user_id": user, "item_id": "i1", "event_type": "view", "text": text,
             "timestamp": START + timedelta(days=days)}
            for n, (user, days, text) in enumerate(written)
        ]  # fmt: skip
        store = SQLiteStore(tmp_path / "events.db")
        store.append(EVENTS.conform(pl.DataFrame(rows, infer_schema_length=None)))
        items = {"item_id": list(say), "text": list(say.values())}
        store.put("items", pl.DataFrame(items, schema={n: ITEMS.schema[n] for n in items}))
        return store

    return of


@pytest.fixture
def snapshot_of(tmp_path: Path) -> Callable[..., Snapshot]:
    """`snapshot_of(store, days)` is as of so many days after START; without, as of the last event."""

    def of(store: SQLiteStore, days: float | None = None) -> Snapshot:
        at = None if days is None else START + timedelta(days=days)
        return build(store, tmp_path / "snapshots", InteractionsConfig(), FeaturesConfig(), at)

    return of


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings.sqlite")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "derived"


@pytest.fixture
def store(request: pytest.FixtureRequest, store_of: Callable[..., SQLiteStore]) -> SQLiteStore:
    """The WRITTEN and ITEMS_SAY of the module."""
    return store_of(request.module.WRITTEN, request.module.ITEMS_SAY)


@pytest.fixture
def snapshot(store: SQLiteStore, snapshot_of: Callable[..., Snapshot]) -> Snapshot:
    return snapshot_of(store)
