"""Frames: conform orders, casts, fills and refuses; the contracts themselves are well formed."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles import schema
from profiles.schema import EVENTS, ITEMS, TIME, USERS, ContractError, Frame, column, microseconds

THING = Frame(
    "THING",
    {
        "id": column(pl.String, "unique"),
        "size": column(pl.Float32, "in metres", optional=True),
        "tags": column(pl.List(pl.String), "words", optional=True),
        "at": column(TIME, "when"),
    },
    key=("id",),
)
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
FRAMES = [value for value in vars(schema).values() if isinstance(value, Frame)]


def thing(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"id": ["a"], "at": [NOON]} | columns)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_every_frame_is_declared_in_full(frame: Frame) -> None:
    assert getattr(schema, frame.name) is frame
    assert set(frame.key) <= set(frame.columns)
    assert all(c.meaning for c in frame.columns.values())
    empty = frame.empty()
    assert (len(empty), empty.schema) == (0, frame.schema)
    assert_frame_equal(frame.conform(empty), empty)


def test_columns_are_ordered_cast_and_filled() -> None:
    given = pl.DataFrame({"at": [NOON.replace(tzinfo=None)], "size": [3], "id": [7]})
    expected = pl.DataFrame(
        {"id": ["7"], "size": [3.0], "tags": [None], "at": [NOON]}, schema=dict(THING.schema)
    )
    found = THING.conform(given)
    assert_frame_equal(found, expected)
    assert THING.conform(found) is found  # already right: not copied


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        (pl.Series([NOON]).dt.convert_time_zone("Asia/Tokyo"), NOON),
        (pl.Series([NOON]).dt.cast_time_unit("ms"), NOON),
        (pl.Series([NOON + timedelta(microseconds=1)]).dt.cast_time_unit("ns"),
         NOON + timedelta(microseconds=1)),
        (pl.Series([datetime(2024, 1, 1, 12)]), NOON),
        (pl.Series([date(2024, 1, 1)]), NOON - timedelta(hours=12)),
    ],
    ids=["zone", "ms", "ns", "naive is UTC", "date is midnight"],
)  # fmt: skip
def test_times_become_utc_microseconds(given: pl.Series, moment: datetime) -> None:
    found = THING.conform(thing(at=given))["at"]
    assert found.dtype == TIME
    assert found.to_list() == [moment]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (thing().drop("id"), "THING: column 'id' is missing; it has ['at']"),
        (thing().drop("at"), "THING: column 'at' is missing; it has ['id']"),
        (thing(colour=["red"]), "THING: column 'colour' is not one of ['id', 'size', 'tags', 'at']"),
        (thing(id=pl.Series([None], dtype=pl.String)), "THING: column 'id' holds 1 nulls"),
        (thing(at=pl.Series([None])), "THING: column 'at' holds 1 nulls"),
        (THING.conform(thing()).with_columns(id=pl.lit(None, pl.String)), "THING: column 'id' holds 1 nulls"),
        (thing(size=["tall"]), "THING: conversion from `str` to `f32` failed in column 'size'"),
        (thing(id=[["a"]]), "THING: cannot cast List type"),
        (thing(at=["2024-01-01"]), "THING: casting from string to datetime is not supported"),
    ],
)
def test_what_breaks_the_contract_is_named(given: pl.DataFrame, message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)):
        THING.conform(given)


def test_nulls_are_counted() -> None:
    given = pl.DataFrame({"id": ["a", None, None], "at": [NOON] * 3})
    with pytest.raises(ContractError, match="column 'id' holds 2 nulls"):
        THING.conform(given)


def test_an_open_frame_carries_other_columns_behind_its_own() -> None:
    given = pl.DataFrame({"colour": ["red"], "price": [3], "item_id": [1], "depth": [None]})
    found = ITEMS.conform(given)
    assert found.columns == [*ITEMS.columns, "colour", "depth"]
    assert found.drop("colour", "depth").schema == ITEMS.schema
    assert found.select("item_id", "price", "colour", "depth").row(0) == ("1", 3.0, "red", None)
    assert_frame_equal(ITEMS.conform(found), found)
    with pytest.raises(ContractError, match="USERS: column 'user_id' is missing"):
        USERS.conform(given)


def test_optional_columns_of_events() -> None:
    assert [n for n, c in EVENTS.columns.items() if not c.optional] == [
        *("event_id", "user_id", "event_type", "timestamp")
    ]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), -1),
        (datetime(2024, 1, 1, 0, 0, 0, 1, UTC), 1_704_067_200_000_001),
        (datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1_704_067_200_000_000),
        (datetime(2024, 1, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), 1_704_067_200_000_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), 253_402_300_799_999_999),
    ],
)
def test_microseconds_are_what_the_frames_hold(moment: datetime, expected: int) -> None:
    assert microseconds(moment) == expected
    assert pl.Series([moment.astimezone(UTC)], dtype=TIME).to_physical().item() == expected
