"""The simulated log keeps what it promises at any size."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from benchmarks import catalogue, log
from benchmarks.log import Log, LogConfig
from profiles import manifest
from profiles.schema import DAY, EVENTS, ITEMS, USERS

NUMBER = 200_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = LogConfig(NUMBER).folder(tmp_path_factory.mktemp("logs"))
    log.make(folder, NUMBER, 0)
    return Log(folder)


@pytest.fixture(scope="module")
def events(made: Log) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(file) for file in made.events)


def test_frames_keep_their_schemas(made: Log, events: pl.DataFrame) -> None:
    assert events.schema == EVENTS.schema
    EVENTS.conform(events)
    assert_frame_equal(ITEMS.conform(pl.read_parquet(made.items)), pl.read_parquet(made.items))
    USERS.conform(pl.read_parquet(made.users))
    assert manifest.verify(made.folder)["counts"] == {"users": 2_000, "items": 4_000, "events": NUMBER}


def test_counts_are_exact_and_ids_unique(made: Log, events: pl.DataFrame) -> None:
    items, users = pl.read_parquet(made.items), pl.read_parquet(made.users)
    assert len(events) == NUMBER
    assert events["event_id"].n_unique() == NUMBER
    assert events["event_id"].str.contains("^[0-9a-f]{16}$").all()
    assert items["item_id"].n_unique() == len(items) == 4_000
    assert set(events["user_id"]) == set(users["user_id"])  # everybody comes at least once
    assert len(users) == 2_000
    assert set(events["item_id"].drop_nulls()) <= set(items["item_id"])


def test_the_largest_log_has_a_million_users() -> None:
    assert LogConfig(100_000_000).counts == {"users": 1_000_000, "items": 200_000, "events": 100_000_000}
    assert LogConfig(10_000_000).counts == {"users": 100_000, "items": 200_000, "events": 10_000_000}


def test_it_is_in_order_of_time_one_file_a_month(made: Log, events: pl.DataFrame) -> None:
    assert events["timestamp"].is_sorted()
    assert events["timestamp"].dt.year().unique().to_list() == [log.YEAR]
    for month, file in enumerate(made.events, 1):
        assert pl.read_parquet(file)["timestamp"].dt.month().unique().to_list() == [month]
        assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert len(made.events) == 12
    assert events["timestamp"].max() < made.as_of


def test_events_are_of_five_types(events: pl.DataFrame) -> None:
    shares = dict(events["event_type"].value_counts(normalize=True).iter_rows())
    assert shares == pytest.approx(log.SHARES, abs=0.005)
    of = {name: events.filter(event_type=name) for name in log.TYPES}
    assert of["search"]["item_id"].null_count() == len(of["search"])
    assert events["item_id"].null_count() == len(of["search"])
    assert of["purchase"]["value"].min() > 0
    assert of["purchase"]["value"].null_count() == 0
    assert set(of["rating"]["value"]) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert pl.concat([of["view"], of["cart"], of["search"]])["value"].null_count() == len(events) - len(
        of["purchase"]
    ) - len(of["rating"])


def test_amounts_are_prices_of_what_was_bought(made: Log, events: pl.DataFrame) -> None:
    bought = events.filter(event_type="purchase").join(pl.read_parquet(made.items), on="item_id")
    times = (bought["value"] / bought["price"]).round(3)
    assert (times - times.round()).abs().max() < 0.01
    assert times.median() == 1.0


def test_carts_and_purchases_follow_views(events: pl.DataFrame) -> None:
    """Most of what is put into a cart was just looked at: chance would be far below."""
    past = events.sort("user_id", "timestamp", maintain_order=True).with_columns(
        before=pl.col("item_id").shift().over("user_id")
    )
    share = (past.filter(event_type="cart").select(pl.col("item_id") == pl.col("before"))).to_series().mean()
    assert share > 0.6


def test_activity_and_popularity_have_long_tails(events: pl.DataFrame) -> None:
    users = events["user_id"].value_counts()["count"].sort(descending=True)
    items = events["item_id"].drop_nulls().value_counts()["count"].sort(descending=True)
    assert users.head(len(users) // 10).sum() / users.sum() > 0.35
    assert items.head(len(items) // 10).sum() / items.sum() > 0.4
    assert users.min() < 20


def test_visits_are_bursts(events: pl.DataFrame) -> None:
    gap = events.sort("user_id", "timestamp").select(
        pl.col("timestamp").diff().over("user_id").dt.total_seconds()
    )["timestamp"]
    assert 0.7 < (gap < 1800).sum() / gap.count() < 0.9  # of five events of a visit, four follow another
    named = events.filter(pl.col("session_id").is_not_null())
    assert 0.05 < len(named) / len(events) < 0.15
    owners = named.group_by("session_id").agg(
        pl.col("user_id").n_unique(), pl.col("timestamp").max() - pl.col("timestamp").min()
    )
    assert owners["user_id"].max() == 1
    assert owners["timestamp"].dt.total_hours().max() < 6


def test_a_visit_ends_in_its_month() -> None:
    visit = np.repeat(np.arange(2_000, dtype=np.int32), 200)  # of more than two hours each
    span = (5 * DAY, 8 * DAY)
    times = log._times(np.random.default_rng(0), np.full(2_000, 200), visit, span)
    assert span[0] <= times.min() < times.max() < span[1] - 1
    assert (np.diff(times.reshape(2_000, 200), axis=1) >= 1_000_000).all()  # none is cut off at the end


def test_recommendations_led_to_views_only(events: pl.DataFrame) -> None:
    led = events.filter(pl.col("recommendation_id").is_not_null())
    assert led["event_type"].unique().to_list() == ["view"]
    assert 0.02 < len(led) / len(events) < 0.06
    assert events["properties"].drop_nulls().str.json_path_match("$.device").null_count() == 0


def test_users_have_favourite_categories(made: Log, events: pl.DataFrame) -> None:
    category = pl.read_parquet(made.items).select("item_id", pl.col("categories").list.first())
    seen = events.join(category, on="item_id").group_by("user_id", "categories").len()
    top = seen.group_by("user_id").agg(
        share=pl.col("len").top_k(3).sum() / pl.col("len").sum(), n=pl.col("len").sum()
    )
    assert top.filter(pl.col("n") > 100)["share"].mean() > 0.4  # three of 200 categories


def test_attributes_have_their_cardinalities(made: Log) -> None:
    items, users = pl.read_parquet(made.items), pl.read_parquet(made.users)
    assert items["categories"].list.len().is_between(1, 2).all()
    assert items["tags"].list.len().is_between(2, 4).all()
    assert items["categories"].explode().n_unique() == catalogue.CATEGORIES
    assert items["tags"].explode().n_unique() <= catalogue.TAGS
    assert (items["tags"].list.n_unique() == items["tags"].list.len()).all()
    assert (items["categories"].list.n_unique() == items["categories"].list.len()).all()
    assert items["available_from"].max() < catalogue.OPENED
    assert users.columns == ["user_id", "country", "age_band", "consent"]
    assert users["consent"].dtype == pl.Boolean


def test_the_same_configuration_gives_the_same_files(made: Log, tmp_path: Path) -> None:
    log.make(tmp_path / "again", NUMBER, 0)
    log.make(tmp_path / "other", NUMBER, 1)
    again, other = manifest.read(tmp_path / "again"), manifest.read(tmp_path / "other")
    assert again["files"] == manifest.read(made.folder)["files"]
    assert not set(other["files"].values()) & set(again["files"].values())


def test_a_log_that_is_there_is_left_alone(made: Log) -> None:
    before = [file.stat().st_mtime_ns for file in made.events]
    assert log.make(made.folder, NUMBER, 0)["disk_mb"] > 1
    assert [file.stat().st_mtime_ns for file in made.events] == before


def test_a_failed_log_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(log, "_write_month", fail)
    with pytest.raises(OSError, match="the disk is full"):
        log.make(tmp_path / "log", 1000, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [1, 7, 100, 1_234])
def test_any_number_of_events_can_be_made(tmp_path: Path, number: int) -> None:
    log.make(tmp_path / "log", number, 3)
    events = pl.concat(pl.read_parquet(file) for file in Log(tmp_path / "log").events)
    assert len(EVENTS.conform(events)) == number
    assert events["timestamp"].is_sorted()
    assert events["event_id"].n_unique() == number
