"""Attributes as of a moment: the newest version that holds, and no later one."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profiles.schema import TIME, ContractError
from profiles.versions import as_of, is_versioned, merged

START = datetime(2024, 1, 1, tzinfo=UTC)


def day(n: float) -> datetime:
    return START + timedelta(days=n)


def users(*rows: tuple[str, float | None, str | None]) -> pl.DataFrame:
    plain = [(user, None if since is None else day(since), plan) for user, since, plan in rows]
    return pl.DataFrame(plain, {"user_id": pl.String, "valid_from": TIME, "plan": pl.String}, orient="row")


def test_the_newest_version_that_holds_is_taken() -> None:
    frame = users(("a", 5, "paid"), ("b", None, "free"), ("a", 1, "free"), ("c", 3, "paid"), ("b", 2, None))
    for moment, wanted in (
        (0.9, {"b": "free"}),
        (1, {"a": "free", "b": "free"}),
        (4.9, {"a": "free", "b": None, "c": "paid"}),
        (5, {"a": "paid", "b": None, "c": "paid"}),
    ):
        found = as_of(frame, day(moment), "user_id")
        assert dict(found.select("user_id", "plan").rows()) == wanted
        assert found["user_id"].is_sorted()
        assert found.schema == frame.schema


row = st.tuples(
    st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 5)), st.sampled_from(["x", "y", None])
)


@given(rows=st.lists(row, max_size=12, unique_by=lambda row: row[:2]), moment=st.integers(-1, 6))
def test_versions_are_those_of_a_loop(rows: list[tuple[str, int | None, str | None]], moment: int) -> None:
    held: dict[str, tuple[float, str | None]] = {}
    for user, since, plan in rows:
        begun = -100 if since is None else since
        if begun <= moment and (user not in held or begun > held[user][0]):
            held[user] = (begun, plan)
    found = as_of(users(*rows), day(moment), "user_id")
    assert dict(found.select("user_id", "plan").rows()) == {user: plan for user, (_, plan) in held.items()}


@given(rows=st.lists(row, max_size=12, unique_by=lambda row: row[:2]), moment=st.integers(0, 5))
def test_what_begins_later_changes_nothing(
    rows: list[tuple[str, int | None, str | None]], moment: int
) -> None:
    past = [row for row in rows if row[1] is None or row[1] <= moment]
    assert_frame_equal(
        as_of(users(*rows), day(moment), "user_id"), as_of(users(*past), day(moment), "user_id")
    )


def test_attributes_without_versions_are_as_they_are() -> None:
    frame = pl.DataFrame({"user_id": ["b", "a"], "plan": ["x", "y"]})
    assert not is_versioned(frame)
    assert is_versioned(users())
    assert as_of(frame, START, "user_id")["user_id"].to_list() == ["a", "b"]
    with pytest.raises(ContractError, match="a moment needs its time zone"):
        as_of(frame, datetime(2024, 1, 1), "user_id")


# Several sources of one kind


def test_sources_without_versions_are_joined_by_id_and_the_first_wins() -> None:
    first = pl.DataFrame({"user_id": ["b", "a"], "plan": ["x", None]})
    second = pl.DataFrame({"user_id": ["a", "c"], "plan": ["y", "z"], "age": [1, 2]})
    found = merged([first, second], "user_id")
    assert found.rows() == [("a", "y", 1), ("b", "x", None), ("c", "z", 2)]


@pytest.mark.parametrize("versioned_first", [True, False])
def test_what_has_no_versions_holds_for_every_version(versioned_first: bool) -> None:
    versions = users(("a", 1, "free"), ("a", 5, "paid"), ("b", None, "free"))
    plain = pl.DataFrame({"user_id": ["a", "c"], "age": [1, 2]})
    found = merged([versions, plain] if versioned_first else [plain, versions], "user_id")
    assert found.select("user_id", "valid_from", "plan", "age").rows() == [
        ("a", day(1), "free", 1),
        ("a", day(5), "paid", 1),
        ("b", None, "free", None),
        ("c", None, None, 2),
    ]


def test_each_source_says_at_every_moment_what_it_last_said() -> None:
    plans = users(("a", 1, "free"), ("a", 4, None), ("b", None, "paid"))
    ages = users(("a", 0, None), ("a", 2, None), ("a", 9, None), ("b", None, None), ("c", 3, None))
    ages = ages.with_columns(age=pl.Series([1, 2, 3, 4, 5])).drop("plan")
    found = merged([plans, ages], "user_id")
    assert found.select("user_id", "valid_from", "plan", "age").rows() == [
        ("a", day(0), None, 1),
        ("a", day(1), "free", 1),
        ("a", day(2), "free", 2),
        ("a", day(4), None, 2),
        ("a", day(9), None, 3),
        ("b", None, "paid", 4),
        ("c", day(3), None, 5),
    ]


version = st.tuples(
    st.sampled_from("ab"), st.one_of(st.none(), st.integers(0, 4)), st.sampled_from(["x", "y"])
)
source = st.lists(version, max_size=5, unique_by=lambda row: row[:2])


@given(first=source, second=source, moment=st.integers(-1, 5))
def test_joining_versions_and_looking_at_a_moment_is_looking_and_then_joining(
    first: list[tuple[str, int | None, str]], second: list[tuple[str, int | None, str]], moment: int
) -> None:
    left, right = users(*first), users(*second).rename({"plan": "city"})
    joined = as_of(merged([left, right], "user_id"), day(moment), "user_id")
    parts = [as_of(frame, day(moment), "user_id").drop("valid_from") for frame in (left, right)]
    wanted = merged(parts, "user_id")
    assert_frame_equal(joined.select("user_id", "plan", "city"), wanted.select("user_id", "plan", "city"))


def test_lists_and_times_are_joined_too() -> None:
    first = pl.DataFrame({"item_id": ["1", "2"], "tags": [["a"], None]})
    second = pl.DataFrame({"item_id": ["2", "1"], "tags": [["b"], ["c"]], "from": [day(1), None]})
    assert merged([first, second], "item_id").rows() == [("1", ["a"], None), ("2", ["b"], day(1))]
