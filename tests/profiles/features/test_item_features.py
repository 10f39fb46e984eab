"""Every item column against a loop over a lopsided log, whatever the partitions; and cases with an edge."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from profiles.features.item_features import PRIOR, item_features
from profiles.features.totals import Totals

Row = dict[str, Any]
DAY = timedelta(days=1)


class Slow:
    """The columns of items by loops over what users did."""

    def __init__(self, oracle: Any) -> None:
        self.o = oracle
        self.own = {user: oracle.own(user) for user in oracle.users}
        self.visits = {user: oracle.visits(own) for user, own in self.own.items()}
        self.openers = [visit[0] for visits in self.visits.values() for visit in visits]

    def of(self, item: str) -> list[Row]:
        return [e for e in self.o.events if e["item_id"] == item]

    def smoothed(self, item: str, above: Callable[[str], int], below: Callable[[str], int]) -> float | None:
        whole = sum(map(below, self.o.items))
        if not whole:
            return None
        return (above(item) + PRIOR * sum(map(above, self.o.items)) / whole) / (below(item) + PRIOR)

    def repeats(self, item: str) -> int:
        return len(self.of(item)) - len({e["user_id"] for e in self.of(item)})

    def young(self, item: str) -> int:
        fresh = timedelta(days=self.o.config.new_user_days)
        return sum(e["timestamp"] - self.own[e["user_id"]][0]["timestamp"] < fresh for e in self.of(item))

    def opened(self, item: str) -> int:
        return sum(e["item_id"] == item for e in self.openers)

    def counted(self, kind: str) -> Callable[[str], int]:
        return lambda item: sum(e["event_type"] == kind for e in self.of(item))

    def audience(self, item: str) -> list[Row]:
        towns = {
            u: " ".join((town or "").split()).lower()
            for u, town in self.o.world.users["user_id", "town"].rows()
        }
        found = Counter(towns[u] for u in {e["user_id"] for e in self.of(item)} if towns.get(u))
        ordered = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
        return [{"value": town, "share": n / found.total()} for town, n in ordered]

    def co_items(self, item: str) -> list[Row]:
        found: Counter[str] = Counter()
        for visit in (visit for visits in self.visits.values() for visit in visits):
            recent = self.o.within([e for e in visit if e["item_id"]], self.o.config.co_items_days)
            for a, b in pairwise(recent):
                pair = {a["item_id"], b["item_id"]}
                if len(pair) == 2 and item in pair:
                    found[(pair - {item}).pop()] += 1
        ordered = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[: self.o.config.affinities]
        return [{"value": other, "share": n / found.total()} for other, n in ordered]

    def popularity(self, item: str) -> Row:
        own, said = self.of(item), self.o.known.get(item, {})
        since = said.get("available_from") or (own[0]["timestamp"] if own else None)
        price = said.get("price")
        return {
            "first_event": own[0]["timestamp"] if own else None,
            "last_event": own[-1]["timestamp"] if own else None,
            "recency_days": self.o.days_old(own[-1]) if own else None,
            "age_days": (self.o.at - since) / DAY if since and since <= self.o.at else None,
            "distinct_users": len({e["user_id"] for e in own}),
            "popularity": self.o.percentile.get(item),
            "trend": self.o.trend(own),
            "repeat_share": self.smoothed(item, self.repeats, lambda i: self.o.item_events[i]),
            "price_band": 0 if price is None else self.o.band(price, self.o.price_edges),
        }

    def by_type(self, item: str) -> Row:
        own, found = self.of(item), {}
        for name, kind in [("events", None), *((f"count_{kind}", kind) for kind in self.o.types)]:
            chosen = [e for e in own if kind is None or e["event_type"] == kind]
            for days in self.o.config.windows_days:
                found[f"{name}_{days}d"] = len(self.o.within(chosen, days))
            found[f"{name}_all"] = len(chosen)
        for kind in self.o.types:
            values = [self.o.value(e) for e in own if e["event_type"] == kind and self.o.value(e) is not None]
            found[f"value_mean_{kind}"] = sum(values) / len(values) if values else None
        for first, second in self.o.config.conversions:
            if first in self.o.types and second in self.o.types:
                rate = self.smoothed(item, self.counted(second), self.counted(first))
                found[f"{first}_to_{second}"] = None if rate is None else min(1.0, rate)
        return found

    def row(self, item: str) -> Row:
        users = {e["user_id"] for e in self.of(item)}
        return (
            {"item_id": item}
            | self.popularity(item)
            | self.by_type(item)
            | {
                "user_events": sum(len(self.own[u]) for u in users) / len(users) if users else None,
                "new_user_share": self.smoothed(item, self.young, lambda i: self.o.item_events[i]),
                "entry_share": self.smoothed(item, self.opened, lambda i: self.o.item_events[i]),
                "town_audience": self.audience(item),
                "co_items": self.co_items(item),
            }
        )


SETTINGS: dict[str, tuple[int, float, Row, Row]] = {  # seed, as of, settings, sizes
    "many small partitions": (1, 120, {}, {"partition": 60}),
    "an earlier moment": (2, 60.5, {"co_items_days": 3, "session_minutes": 150}, {"partition": 300}),
    "after everything": (
        3,
        500,
        {"co_items_days": 1000, "affinities": 99, "price_bands": 1},
        {"partition": 50},
    ),
    "some types are not there": (4, 0.9, {"price_bands": 7, "new_user_days": 0.5}, {"partition": 100}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_item_column_is_what_a_loop_finds(
    name: str,
    lopsided_world: Callable[..., Any],
    oracle_of: Callable[..., Any],
    built_of: Callable[..., Any],
    same_row: Callable[[Any, Any], None],
) -> None:
    seed, days, settings, sizes = SETTINGS[name]
    world = lopsided_world(seed, **settings)
    world = replace(world, at=world.at + (days - 120) * DAY)
    found, oracle = built_of(world, **sizes), oracle_of(world)
    slow = Slow(oracle)
    assert found.items["item_id"].to_list() == oracle.items
    for row in found.items.to_dicts():
        same_row(row, slow.row(row["item_id"]))


# What no random log shows


@pytest.fixture
def profiles(world_of: Callable[..., Any], built_of: Callable[..., Any]) -> Callable[..., dict[str, Row]]:
    """`profiles(rows, items, **settings)` is the row of every item, by its id."""

    def make(rows: list[Row], items: Any = (), **settings: Any) -> dict[str, Row]:
        found = built_of(world_of(rows, items, **settings))
        return {row["item_id"]: row for row in found.items.to_dicts()}

    return make


def test_every_column_says_what_it_is_and_has_its_type(
    lopsided_world: Callable[..., Any], world_of: Callable[..., Any], built_of: Callable[..., Any]
) -> None:
    for world in (lopsided_world(1), world_of([]), world_of([], [{"item_id": "i"}])):
        found = built_of(world)
        towns = pl.Series(["oslo"])
        span = np.zeros((2, len(found.context.item_ids)), np.int64)
        totals = Totals(found.context, world.config, *span, dict.fromkeys(world.config.audience, towns))
        features = item_features(totals)
        assert len(features) == len(set(features))
        for name, feature in features.items():
            for said in (feature.unit, feature.meaning, feature.source, feature.window):
                assert said.strip(), name
            assert pl.Series([feature.fill], dtype=feature.dtype, strict=True).to_list() == [feature.fill]
        dtypes = {"item_id": pl.String()} | {n: f.dtype for n, f in features.items()}
        assert dict(found.items.schema) == dtypes
        assert len(found.items) == len(set(found.context.item_ids))


def test_an_item_nobody_touched(
    profiles: Callable[..., dict[str, Row]], event_of: Callable[..., Row]
) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    items = [
        {"item_id": "there", "price": 3.0, "available_from": start},
        {"item_id": "soon", "price": None, "available_from": start + 101 * DAY},
    ]
    found = profiles([event_of("u", "other", 1)], items)
    there, soon = found["there"], found["soon"]
    assert (there["age_days"], soon["age_days"]) == (100.0, None)
    assert (there["price_band"], soon["price_band"], found["other"]["price_band"]) == (1, 0, 0)
    assert (there["popularity"], found["other"]["popularity"]) == (None, 0.0)
    names = (
        "events_all",
        "count_view_30d",
        "distinct_users",
        "trend",
        "co_items",
        "user_events",
        "last_event",
    )
    assert [there[n] for n in names] == [0, 0, 0, 0.0, [], None, None]


def test_a_rate_rests_on_the_log_where_it_rests_on_little(
    profiles: Callable[..., dict[str, Row]], event_of: Callable[..., Row]
) -> None:
    seen = [event_of(f"u{n}", "much", 1, "view") for n in range(980)]
    bought = [event_of(f"u{n}", "much", 2, "purchase") for n in range(490)]
    little = [event_of("v", "little", 1, "view") for _ in range(20)]
    found = profiles(seen + bought + little, [{"item_id": "none"}])
    overall = 490 / 1000
    assert found["much"]["view_to_purchase"] == pytest.approx((490 + PRIOR * overall) / (980 + PRIOR))
    assert found["little"]["view_to_purchase"] == pytest.approx(PRIOR * overall / (20 + PRIOR))
    assert found["none"]["view_to_purchase"] == pytest.approx(overall)
    assert "view_to_cart" not in found["much"]  # the log has no carts
    # More purchases than views are a log that misses views; no views at all say nothing.
    assert profiles([*bought, event_of("u", "much", 1)])["much"]["view_to_purchase"] == 1.0
    assert profiles([*bought, event_of("u", None, 1)])["much"]["view_to_purchase"] is None


def test_co_items_follow_each_other_in_a_visit(
    profiles: Callable[..., dict[str, Row]], event_of: Callable[..., Row]
) -> None:
    minute = 1 / 1440
    visit = [event_of("u", item, 99 + n * minute) for n, item in enumerate(["a", "b", "b", None, "c", "a"])]
    apart = [event_of("u", "d", 99.5), event_of("v", "a", 99.5), event_of("v", "d", 99.6)]
    early = [event_of("w", item, 60 + n * minute) for n, item in enumerate("ad")]
    found = profiles([*visit, *apart, *early])
    assert found["a"]["co_items"] == [{"value": "b", "share": 0.5}, {"value": "c", "share": 0.5}]
    assert found["b"]["co_items"] == [{"value": "a", "share": 0.5}, {"value": "c", "share": 0.5}]
    assert found["d"]["co_items"] == []
    assert profiles([*visit, *early], co_items_days=41)["d"]["co_items"] == [{"value": "a", "share": 1.0}]
    assert profiles([*visit], affinities=1)["a"]["co_items"] == [{"value": "b", "share": 0.5}]


def test_an_audience_is_counted_by_users_not_events(
    profiles: Callable[..., dict[str, Row]], event_of: Callable[..., Row]
) -> None:
    users = pl.DataFrame({"user_id": ["a", "b", "c", "d"], "town": ["Oslo", " oslo ", "Rome", None]})
    rows = [event_of(user, "i", n) for n, user in enumerate("aaabccccccd?")]
    found = profiles(rows, users=users, audience=("town",))
    shares = [(pair["value"], pair["share"]) for pair in found["i"]["town_audience"]]
    assert shares == [("oslo", pytest.approx(2 / 3)), ("rome", pytest.approx(1 / 3))]
