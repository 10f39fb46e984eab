"""What is built for a moment is what would have been built at it: no column reads what came after."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

Row = dict[str, Any]
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)

ITEMS: list[Row] = [
    {
        "item_id": "a",
        "categories": ["x", "y"],
        "tags": None,
        "brand": "m",
        "price": 3.0,
        "available_from": None,
    },
    {"item_id": "b", "categories": ["y"], "tags": ["t"], "brand": None, "price": 9.0, "available_from": None},
    {"item_id": "quiet", "categories": [], "tags": [], "brand": "m", "price": None, "available_from": None},
]
SETTINGS: Row = {
    "windows_days": (1, 3), "half_life_days": 2, "spend_types": ("buy",), "conversions": (("view", "buy"),),
    "new_item_days": 1, "new_user_days": 1, "co_items_days": 4, "audience": ("town",), "price_bands": 2,
    "last_items": 2, "affinities": 2, "timezone": "Asia/Tokyo",
}  # fmt: skip

HALF_DAYS, AN_EVENT = st.integers(0, 16), st.fixed_dictionaries(
    {
        "user": st.sampled_from(["u", "v", "w\0"]),
        "item": st.sampled_from(["a", "a", "b", "new", None]),
        "days": st.integers(0, 16).map(lambda n: n / 2),
        "ticks": st.sampled_from([-1, 0, 0, 1]),
        "kind": st.sampled_from(["view", "buy", "rare"]),
        "value": st.sampled_from([None, 1.0, 2.5, -1.0]),
        "text": st.sampled_from([None, None, "red tea", "tea", " "]),
        "session_id": st.sampled_from([None, "s", "r"]),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def compared(
    event_of: Callable[..., Row],
    world_of: Callable[..., Any],
    built_of: Callable[..., Any],
    same_row: Callable[[Any, Any], None],
) -> Callable[[list[Row], float, int], None]:
    """Builds a log as of a moment, and the log cut at it, and compares all there is."""

    def compare(log: list[Row], days: float, ticks: int) -> None:
        rows = [
            event_of(e["user"], e["item"], e["days"], e["kind"],
                     **{n: e[n] for n in ("value", "text", "session_id")})
            for e in log
        ]  # fmt: skip
        rows = [
            row | {"timestamp": row["timestamp"] + e["ticks"] * TICK}
            for row, e in zip(rows, log, strict=True)
        ]
        users = pl.DataFrame({"user_id": ["u", "silent"], "town": ["Rome", "Oslo"]})
        world = world_of(rows, ITEMS, users, **SETTINGS)
        world = replace(world, at=world.at + (days - 100) * DAY + ticks * TICK)
        cut = replace(world, rows=[row for row in rows if row["timestamp"] <= world.at])
        whole, before = built_of(world, partition=4), built_of(cut, partition=10)
        for name in ("users", "items"):
            found, expected = getattr(whole, name), getattr(before, name)
            assert found.schema == expected.schema
            same_row(found.to_dicts(), expected.to_dicts())
        same_row(known(whole.context), known(before.context))
        for user in before.users["user_id"]:
            same_row(whole.live(user), before.live(user))

    return compare


def known(context: Any) -> Row:
    """Return a context as plain values."""
    found = {n: getattr(context, n) for n in ("as_of", "event_types")}
    found |= {n: getattr(context, n).tolist() for n in ("events", "since", "bands", "percentile", "surprise")}
    found |= {"item_ids": context.item_ids.to_list(), "telling": context.telling.rows()}
    for name, attribute in context.attributes.items():
        items = attribute.items.toarray().tolist()
        found |= {name: [attribute.values.to_list(), items, attribute.share.tolist()]}
    return {name: none_for_nan(value) for name, value in found.items()}


def none_for_nan(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [none_for_nan(v) for v in value]
    return None if value != value else value


@settings(max_examples=60)
@given(st.lists(AN_EVENT, max_size=14), HALF_DAYS, st.sampled_from([-1, 0, 1]))
@example([], 3, 0)
def test_as_of_a_moment_is_the_log_cut_at_it(
    compared: Callable[[list[Row], float, int], None], log: list[Row], half_days: int, ticks: int
) -> None:
    compared(log, half_days / 2, ticks)


def test_as_of_any_moment_of_a_lopsided_log(
    lopsided_world: Callable[..., Any],
    built_of: Callable[..., Any],
    same_row: Callable[[Any, Any], None],
) -> None:
    world = lopsided_world(8)
    for days in (0.5, 33, 95.25):
        early = replace(world, at=world.at + (days - 120) * DAY)
        cut = replace(early, rows=[row for row in world.rows if row["timestamp"] <= early.at])
        whole, before = built_of(early, partition=100), built_of(cut)
        same_row(whole.users.to_dicts(), before.users.to_dicts())
        same_row(whole.items.to_dicts(), before.items.to_dicts())
        same_row(known(whole.context), known(before.context))
