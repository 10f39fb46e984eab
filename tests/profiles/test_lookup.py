"""One row of a profile frame: every id is found, no other is, and the row is the frame's."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profiles.features import VALUE_SHARES, FeaturesConfig, history_build
from profiles.features.lookup import ProfileRows
from profiles.features.profile_build import ProfileBuild
from profiles.interactions import InteractionsConfig
from profiles.schema import EVENTS, ITEMS, TIME, USERS, microseconds

SCHEMA = {
    "user_id": pl.String(), "events": pl.UInt32(), "share": pl.Float64(), "band": pl.UInt8(), "first": TIME,
    "last_items": pl.List(pl.String), "affinity": VALUE_SHARES, "consent": pl.Boolean(), "age": pl.Int64(),
}  # fmt: skip
LETTERS = st.sampled_from(["", "a", "b", "B", "é", "\0", "~", "\U0010ffff", "\uffff", "🎬"])
IDS = st.lists(LETTERS, max_size=4).map("".join)


def frame(ids: Sequence[str]) -> pl.DataFrame:
    """Return profiles of these ids, sorted by Polars, each row unlike the others."""
    rows = [
        {
            "user_id": user,
            "events": n,
            "share": None if n % 3 == 0 else n / 7,
            "band": n % 200,
            "first": None if n % 5 == 0 else datetime(2024, 1, 1, 12, 30, 0, n, tzinfo=UTC),
            "last_items": None if n % 7 == 3 else [f"i{m}" for m in range(n % 4)],
            "affinity": [{"value": "ü\0", "share": n / 3}] * (n % 3),
            "consent": (None, True, False)[n % 3],
            "age": -n,
        }
        for n, user in enumerate(sorted({*ids}))
    ]
    return pl.DataFrame(rows, schema=SCHEMA).sort("user_id")


def written(found: pl.DataFrame, path: Path, batch: int) -> ProfileRows:
    """Write a frame in record batches of so many rows: Polars makes them of some 100,000."""
    found.write_ipc(path, record_batch_size=batch)
    with pa.memory_map(str(path)) as file:
        assert pa.ipc.open_file(file).num_record_batches >= len(found) / batch
    return ProfileRows(path)


@given(st.sets(IDS, max_size=40), st.sets(IDS, max_size=20), st.integers(1, 50))
@example(set(), {"", "a"}, 1)
@example({""}, {"a", "\0"}, 1)
@example({"\U0010ffff", "\uffff"}, {"🎬"}, 1)  # in UTF-16 these would stand the other way round
def test_each_is_found_and_no_other(ids: set[str], asked: set[str], batch: int) -> None:
    with TemporaryDirectory() as folder:
        found = frame([*ids])
        rows = written(found, Path(folder) / "p.arrow", batch)
        assert len(rows) == len(ids)
        for row in found.iter_rows(named=True):
            assert rows.get(row["user_id"]) == row
        for user in asked - ids:
            assert rows.get(user) is None


def test_many_batches(tmp_path: Path) -> None:
    ids = [f"u{n:05}" for n in range(1, 4000, 2)]
    rows = written(frame(ids), tmp_path / "p.arrow", 7)
    for n in range(4001):
        assert (rows.get(f"u{n:05}") is not None) == (f"u{n:05}" in ids)
    for absent in ("", "t", "u", "u0000", "u00001\0", "u03999 ", "v", "\udc80"):
        assert rows.get(absent) is None
    found = rows.get("u03999")
    assert found is not None
    assert [*found] == [*SCHEMA]


def test_a_file_without_rows(tmp_path: Path) -> None:
    pl.DataFrame(schema=SCHEMA).write_ipc(tmp_path / "p.arrow")
    rows = ProfileRows(tmp_path / "p.arrow")
    assert len(rows) == 0
    assert rows.get("a") is None


def test_it_reads_what_a_snapshot_writes_and_outlives_the_name(tmp_path: Path) -> None:
    found = frame([f"u{n}" for n in range(500)])
    rows = written(found, tmp_path / "p.arrow", 100)
    (tmp_path / "p.arrow").unlink()  # a snapshot may be removed while somebody reads
    assert rows.get("u77") == found.row(by_predicate=pl.col("user_id") == "u77", named=True)


def test_threads_may_share_it(tmp_path: Path) -> None:
    ids = [f"u{n:04}" for n in range(3000)]
    rows, wrong = written(frame(ids), tmp_path / "p.arrow", 50), []

    def read(step: int) -> None:
        wrong.extend(i for i in ids[::step] if (rows.get(i) or {}).get("user_id") != i)

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("kind", ["users", "items"])
def test_profiles_of_a_world(
    kind: str, tmp_path: Path, small_world: Callable[[Path], tuple[pl.DataFrame, pl.DataFrame]]
) -> None:
    frames = dict(zip(("users", "items"), small_world(tmp_path), strict=True))
    rows = ProfileRows(tmp_path / f"{kind[:-1]}_profiles.arrow")
    for row in frames[kind].iter_rows(named=True):
        assert rows.get(row[f"{kind[:-1]}_id"]) == row


@pytest.fixture
def small_world() -> Callable[[Path], tuple[pl.DataFrame, pl.DataFrame]]:
    """Writes the profiles of some hundred users into a folder."""

    def build(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
        at = datetime(2024, 5, 1, tzinfo=UTC)
        rows: list[dict[str, Any]] = [
            {
                "event_id": str(n),
                "user_id": f"user {n * n % 397}",
                "item_id": f"item {n % 31}",
                "event_type": ("view", "buy")[n % 2],
                "timestamp": datetime(2024, 1 + n % 4, 1 + n % 28, n % 24, tzinfo=UTC),
                "value": n / 7,
            }
            for n in range(3000)
        ]
        events = EVENTS.conform(pl.DataFrame(rows))
        (folder / "history").mkdir()
        none = ITEMS.empty()["item_id"]
        past = history_build.build(
            folder / "history", lambda columns: [events.select(columns)], len(events), none, {}
        )
        texts = events.select("user_id", "text", "timestamp").head(0)
        given = ITEMS.empty(), USERS.conform(pl.DataFrame({"user_id": ["silent"], "age": [3]})), texts
        ProfileBuild(past, *given, microseconds(at), FeaturesConfig(), InteractionsConfig()).run(folder)
        users, items = (pl.read_ipc(folder / f"{kind}_profiles.arrow") for kind in ("user", "item"))
        return users, items

    return build
