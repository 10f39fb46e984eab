"""Which columns of a user who does nothing stay as they are, and which move with time and with others."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

Row = dict[str, Any]

WITH_THE_MOMENT = {
    *("recency_days", "tenure_days", "active_days_30d", "trend", "sessions_30d", "spend_30d", "spend_90d"),
    *("spend_365d", "spend_recency_days", "explore_share", "distinct_items_30d"),
}
WITH_OTHERS = {
    *("surprise", "popularity_taste", "popularity_spread", "spending_band", "top_terms"),
    *(f"{name}_affinity" for name in ("category", "tag", "brand", "price_band")),
}
KINDS = ("events", "count_buy", "count_cart", "count_query", "count_rating", "count_view")


@pytest.fixture(scope="module")
def rows(
    lopsided_world: Callable[..., Any], built_of: Callable[..., Any], event_of: Callable[..., Row]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The users of a world who did nothing since: as they were, days later, and after others were busy."""
    world = lopsided_world(3)
    items = [item["item_id"] for item in world.items] * 9
    busy = [
        event_of(f"new{n % 4}", item, 120, "buy", value=5.0 * n, text="Tea 1 and coffee")
        for n, item in enumerate(items)
    ]
    worlds = world, replace(world, at=world.at + timedelta(days=5)), replace(world, rows=world.rows + busy)
    first, later, others = (built_of(one).users for one in worlds)
    still = first["user_id"].implode()
    return first, later.filter(pl.col("user_id").is_in(still)), others.filter(pl.col("user_id").is_in(still))


def moved(one: pl.DataFrame, other: pl.DataFrame, same_row: Callable[[Any, Any], None]) -> set[str]:
    """Return the columns that differ by more than the rounding of sums."""
    found = set()
    for name in one.columns:
        try:
            same_row(other[name].to_list(), one[name].to_list())
        except AssertionError:
            found.add(name)
    return found


def test_what_moves_with_the_moment(
    rows: tuple[pl.DataFrame, ...], same_row: Callable[[Any, Any], None]
) -> None:
    found = moved(rows[0], rows[1], same_row)
    windows = {name for name in rows[0].columns if name.startswith(KINDS) and not name.endswith("_all")}
    recencies = {name for name in rows[0].columns if name.startswith("recency_days_")}
    assert {"recency_days", "tenure_days", "events_40d"} <= found
    assert found <= WITH_THE_MOMENT | windows | recencies


def test_what_moves_with_what_others_do(
    rows: tuple[pl.DataFrame, ...], same_row: Callable[[Any, Any], None]
) -> None:
    found = moved(rows[0], rows[2], same_row)
    assert {"surprise", "popularity_taste", "popularity_spread", "category_affinity"} <= found
    assert found <= WITH_OTHERS
