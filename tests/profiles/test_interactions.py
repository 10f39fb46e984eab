"""Events to interactions, held against a loop; a log and its users one by one give the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from profiles.interactions import InteractionsConfig, interactions
from profiles.schema import EVENTS, INTERACTIONS

START = datetime(2024, 1, 1, tzinfo=UTC)
Row = tuple[str, str | None, str, float | None]


def log(*rows: Row) -> pl.DataFrame:
    """Events of (user, item, type, value), one a minute."""
    events: list[dict[str, Any]] = [
        {"event_id": str(n), "user_id": user, "item_id": item, "event_type": kind, "value": value,
         "timestamp": START + timedelta(minutes=n)}
        for n, (user, item, kind, value) in enumerate(rows)
    ]  # fmt: skip
    schema = {name: EVENTS.schema[name] for name in (*events[0],)} if events else EVENTS.schema
    return EVENTS.conform(pl.DataFrame(events, schema=schema))


def found(config: InteractionsConfig, *rows: Row) -> list[tuple[str, str, str, float]]:
    return interactions(log(*rows), config).drop("timestamp").rows()


def test_without_settings_every_event_of_an_item_weighs_one() -> None:
    rows: list[Row] = [("u", "b", "view", None), ("u", None, "query", 3.0), ("v", "a", "buy", -1.0)]
    made = interactions(log(*rows), InteractionsConfig())
    expected = {
        "user_id": ["u", "v"],
        "item_id": ["b", "a"],
        "event_type": ["view", "buy"],
        "weight": [1.0, 1.0],
        "timestamp": [START, START + timedelta(minutes=2)],
    }
    assert_frame_equal(made, pl.DataFrame(expected, schema=INTERACTIONS.schema))


def test_weights_are_by_type_and_other_types_are_ignored() -> None:
    config = InteractionsConfig(weights={"view": 1, "buy": 5.5, "seen": 0})
    rows: list[Row] = [
        (f"u{n}", "i", kind, None) for n, kind in enumerate(["buy", "odd", "view", "seen", ""])
    ]
    assert found(config, *rows) == [
        ("u0", "i", "buy", 5.5),
        ("u2", "i", "view", 1.0),
        ("u3", "i", "seen", 0.0),
    ]


def test_below_its_minimum_an_event_weighs_nothing() -> None:
    config = InteractionsConfig(minimum_value={"rating": 4, "watch": 0.5})
    values: list[tuple[str, float | None]] = [("rating", 4.0), ("rating", 3.999), ("rating", None)]
    values += [("watch", 0.5), ("watch", 0.49), ("view", None), ("view", -1.0)]
    rows: list[Row] = [("u", "i", kind, value) for kind, value in values]
    assert [weight for *_, weight in found(config, *rows)] == [1, 0, 0, 1, 0, 1, 1]


def test_a_minimum_gives_no_weight_to_a_type_without_one() -> None:
    config = InteractionsConfig(weights={"view": 2}, minimum_value={"rating": 4, "view": 1})
    rows: list[Row] = [("u", "i", "rating", 5.0), ("u", "i", "view", 1.0), ("u", "i", "view", 0.0)]
    assert found(config, *rows) == [("u", "i", "view", 2.0), ("u", "i", "view", 0.0)]


def test_order_is_the_log_s_and_repeats_stay() -> None:
    events = log(("v", "b", "view", None), ("u", "a", "view", None), ("v", "b", "view", None))
    made = interactions(events[::-1], InteractionsConfig())  # not sorted by time: kept as it comes
    assert made["timestamp"].to_list() == events["timestamp"].to_list()[::-1]
    same = pl.concat([events[:1]] * 3)
    assert len(interactions(same, InteractionsConfig())) == 3


@pytest.mark.parametrize(
    "config",
    [InteractionsConfig(), InteractionsConfig(weights={"a": 1}), InteractionsConfig(minimum_value={"a": 1})],
)
def test_no_events_no_interactions(config: InteractionsConfig) -> None:
    assert_frame_equal(interactions(EVENTS.empty(), config), INTERACTIONS.empty())


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        InteractionsConfig(weights={"view": -1})
    with pytest.raises(ValidationError, match="less than or equal to"):
        InteractionsConfig(weights={"view": float("inf")})
    with pytest.raises(ValidationError, match="Extra inputs"):
        InteractionsConfig.model_validate({"weight": {}})


TYPES = st.sampled_from(["view", "buy", "rating", "odd"])
NUMBER = st.floats(-8, 8, width=32)
EVENT = st.tuples(st.sampled_from("uvw"), st.none() | st.sampled_from("ab"), TYPES, st.none() | NUMBER)
CONFIG = st.builds(
    InteractionsConfig,
    weights=st.dictionaries(TYPES, NUMBER.map(abs), max_size=3),
    minimum_value=st.dictionaries(TYPES, NUMBER, max_size=3),
)


def slow(rows: list[Row], config: InteractionsConfig) -> list[tuple[str, str, str, float]]:
    kept = []
    for user, item, kind, value in rows:
        if item is None or (config.weights and kind not in config.weights):
            continue
        weight = config.weights[kind] if config.weights else 1.0
        least = config.minimum_value.get(kind)
        if least is not None and (value is None or value < least):
            weight = 0.0
        kept.append((user, item, kind, weight))
    return kept


@settings(max_examples=150)
@given(rows=st.lists(EVENT, max_size=15), config=CONFIG)
def test_a_log_and_each_user_alone_give_what_a_loop_gives(
    rows: list[Row], config: InteractionsConfig
) -> None:
    events = log(*rows)
    whole = interactions(events, config)
    assert whole.drop("timestamp").rows() == slow(rows, config)
    for user in "uvw":
        alone = interactions(events.filter(pl.col("user_id") == user), config)
        assert_frame_equal(alone, whole.filter(pl.col("user_id") == user))
