"""Rows of a few events and of many are made in two ways: both must give the same rows and digests."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profiles.events import event_digest
from profiles.schema import EVENTS, ContractError
from profiles.store import rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
EVENT = st.fixed_dictionaries(
    {
        "event_id": TEXT,
        "user_id": TEXT,
        "item_id": st.none() | TEXT,
        "event_type": TEXT,
        "timestamp": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
        "value": st.none() | st.floats(),
        "text": st.none() | TEXT,
        "session_id": st.none() | TEXT,
        "recommendation_id": st.none() | TEXT,
        "properties": st.none() | TEXT,
    }
)


@settings(max_examples=100, deadline=None)
@given(events=st.lists(EVENT, min_size=1, max_size=5))
def test_few_and_many_are_stored_alike(events: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(events, schema=EVENTS.schema)
    few, many = rows.batch(frame), rows.batch(pl.concat([frame] * (rows.FEW + 1)))
    assert few.rows * (rows.FEW + 1) == many.rows
    assert few.digests * (rows.FEW + 1) == many.digests
    assert few.ids == frame["event_id"].to_list()
    plain = frame.with_columns(pl.col("value").fill_nan(None))
    assert few.digests == event_digest(plain).to_list()
    assert_frame_equal(rows.decoded(few.rows, EVENTS), plain, check_exact=True)
    assert rows.batches([frame, frame[:0], frame[1:]]) == [
        few,
        rows.Batch([], []),
        rows.Batch(few.digests[1:], few.rows[1:]),
    ]


def test_what_is_wrong_with_one_frame_is_its_own_affair() -> None:
    good = pl.DataFrame({"event_id": "a", "user_id": "u", "event_type": "view"}).with_columns(
        timestamp=datetime(2024, 1, 1, tzinfo=UTC)
    )
    bare = good.with_columns(user_id=pl.lit(None, pl.String))
    found = rows.batches(
        [good, bare, EVENTS.conform(good), good.drop("user_id"), good.cast({"event_id": pl.Binary})]
    )
    problems = [str(part) if isinstance(part, ContractError) else part for part in found]
    assert problems[0] == problems[2] == rows.batch(good)
    assert problems[1] == "EVENTS: column 'user_id' holds 1 nulls"
    assert problems[3].startswith("EVENTS: column 'user_id' is missing")
    with pytest.raises(ContractError, match="holds 1 nulls"):
        rows.batch(bare)


def test_a_batch_is_judged_in_its_order() -> None:
    ids, digests = ["a", "b", "a", "a", "c", "b"], ["1", "2", "1", "3", "4", "2"]
    statuses, new = rows.judged(ids, digests, {"c": "4", "b": "x"})
    assert statuses == ["accepted", "conflict", "duplicate", "conflict", "duplicate", "conflict"]
    assert new == [0]
    assert rows.judged([], [], {}) == ([], [])
