"""One user's profile from their events: the row of the batch, also from a context read back from disk."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from profiles.features import FeaturesConfig
from profiles.features.context import load, save
from profiles.features.history import History
from profiles.features.live import coded, user_profile
from profiles.interactions import InteractionsConfig

Row = dict[str, Any]
DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(10, 14))
def test_every_user_has_the_row_of_the_batch(
    seed: int,
    tmp_path: Path,
    lopsided_world: Callable[..., Any],
    built_of: Callable[..., Any],
    same_row: Callable[[Any, Any], None],
) -> None:
    found = built_of(lopsided_world(seed), partition=200)
    save(found.context, tmp_path / "context")
    loaded = replace(found, context=load(tmp_path / "context"))
    assert len(found.users) >= 14
    for row in found.users.to_dicts():
        same_row(found.live(row["user_id"]), row)
        same_row(loaded.live(row["user_id"]), row)


def test_the_arrays_of_one_user_are_those_of_the_history(
    lopsided_world: Callable[..., Any], built_of: Callable[..., Any], frame_of: Callable[..., pl.DataFrame]
) -> None:
    world = lopsided_world(10)
    world = replace(world, at=world.at + 100 * DAY)  # nothing is cut, so codes are those of the history
    found = built_of(world, partition=200)
    history = History(found.folder / "history")
    for user in found.users["user_id"]:
        own = frame_of([e for e in world.events if e["user_id"] == user])
        stored = history.of_user(user)
        assert (stored is None) == (not len(own))
        if stored is not None:
            made = coded(own, found.context)
            for name in ("starts", "item", "kind", "time", "marks", "session"):
                assert getattr(made, name).tolist() == getattr(stored, name).tolist(), name
            assert str(made.value.tolist()) == str(stored.value.tolist())


def test_what_the_context_does_not_know_counts_as_an_event_and_no_more(
    world_of: Callable[..., Any],
    event_of: Callable[..., Row],
    frame_of: Callable[..., pl.DataFrame],
    built_of: Callable[..., Any],
) -> None:
    world = world_of([event_of("u", "i", 1), event_of("v", "i", 2)])
    found = built_of(world)
    rows = [event_of("u", "i", 1), event_of("u", "newer", 99, "novel", value=5.0)]
    row = user_profile("u", frame_of(rows), world.users, world.at, found.context, world.config, world.weights)
    assert list(row) == found.users.columns
    counts = [row[n] for n in ("events_all", "events_7d", "count_view_all", "distinct_items", "last_items")]
    assert counts == [2, 1, 1, 1, ["i"]]
    assert row["last_event"] == START + 99 * DAY
    assert row["surprise"] == 0.0


def test_a_context_that_knows_nothing(
    event_of: Callable[..., Row],
    frame_of: Callable[..., pl.DataFrame],
    world_of: Callable[..., Any],
    built_of: Callable[..., Any],
) -> None:
    world = world_of([])
    found = built_of(world)
    assert found.users.is_empty()
    assert found.items.is_empty()
    own = frame_of([event_of("u", "i", 1, "buy", value=2.0, text="tea time")])
    row = user_profile("u", own, world.users, world.at, found.context, world.config, world.weights)
    assert list(row) == found.users.columns
    assert (row["events_all"], row["distinct_items"], row["last_items"]) == (1, 0, [])
    assert (row["last_text"], row["top_terms"], row["category_affinity"]) == ("tea time", [], [])


def test_the_moment_may_stand_in_any_zone_but_must_have_one(
    lopsided_world: Callable[..., Any], built_of: Callable[..., Any]
) -> None:
    found = built_of(lopsided_world(10))
    at = found.world.at
    assert found.live("u01", at.astimezone(ZoneInfo("Asia/Tokyo"))) == found.live("u01", at)
    with pytest.raises(TypeError, match="naive"):
        found.live("u01", at.replace(tzinfo=None))


def test_a_later_moment_moves_the_windows(
    world_of: Callable[..., Any], event_of: Callable[..., Row], built_of: Callable[..., Any]
) -> None:
    found = built_of(world_of([event_of("u", "i", 98), event_of("u", "i", 100)], at=100))
    now, later = found.live("u"), found.live("u", START + 105.5 * DAY)
    assert (now["events_7d"], later["events_7d"]) == (2, 1)
    assert (now["recency_days"], later["recency_days"]) == (0.0, 5.5)


def test_rows_share_nothing(world_of: Callable[..., Any], built_of: Callable[..., Any]) -> None:
    users = pl.DataFrame({"user_id": ["silent"]})
    found = built_of(world_of([], users=users))
    found.live("silent")["last_items"].append("x")
    assert found.live("silent")["last_items"] == []
    assert found.live("silent") == found.users.row(0, named=True)
    assert found.live("nobody") == found.users.row(0, named=True) | {"user_id": "nobody"}


def test_settings_change_what_they_name(
    world_of: Callable[..., Any], event_of: Callable[..., Row], built_of: Callable[..., Any]
) -> None:
    rows = [event_of("u", "i", days, "view") for days in (1, 2, 3)]
    found = built_of(world_of(rows, weights=InteractionsConfig(weights={"view": 0.5})))
    assert found.world.config == FeaturesConfig()
    assert found.live("u")["sessions"] == 3
