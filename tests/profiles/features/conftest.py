"""A lopsided log with its catalogue, and profiles built from any log as a snapshot builds them."""

import math
import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from profiles.features import FeaturesConfig, history_build
from profiles.features.context import Context
from profiles.features.live import user_profile
from profiles.features.profile_build import ProfileBuild
from profiles.interactions import InteractionsConfig
from profiles.log_frames import written
from profiles.schema import EVENTS, ITEMS, USERS, microseconds

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

Row = dict[str, Any]


def event(user: str, item: str | None = None, days: float = 0, kind: str = "view", **rest: Any) -> Row:
    """Return one event so many days after START."""
    given = {"user_id": user, "item_id": item, "event_type": kind, "timestamp": START + days * DAY}
    return given | dict.fromkeys(("value", "text", "session_id", "recommendation_id")) | rest


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Return events as EVENTS."""
    named = [{"event_id": str(n), "properties": None} | row for n, row in enumerate(rows)]
    return EVENTS.conform(pl.DataFrame(named, schema=EVENTS.schema))


@dataclass(frozen=True)
class World:
    """A log as rows in the order of the log, what is known of items and users, and the settings."""

    rows: list[Row]
    items: list[Row]
    users: pl.DataFrame
    config: FeaturesConfig
    weights: InteractionsConfig
    at: datetime

    @property
    def events(self) -> list[Row]:
        """What happened at or before the moment, oldest first; of equal times in the log's order."""
        return sorted((e for e in self.rows if e["timestamp"] <= self.at), key=lambda e: e["timestamp"])

    @property
    def catalogue(self) -> pl.DataFrame:
        """The items as ITEMS."""
        schema = {n: ITEMS.schema[n] for n in self.items[0]} if self.items else ITEMS.schema
        return ITEMS.conform(pl.DataFrame(self.items, schema=schema))


@dataclass(frozen=True)
class Built:
    """The profiles of a world."""

    world: World
    users: pl.DataFrame
    items: pl.DataFrame
    context: Context
    folder: Path

    def live(self, user: str, at: datetime | None = None) -> Row:
        """Return the profile of one user from their own events."""
        own = [e for e in self.world.events if e["user_id"] == user]
        said = self.world.users.filter(pl.col("user_id") == user)
        given = self.world.config, self.world.weights
        return user_profile(user, frame(own), said, at or self.world.at, self.context, *given)


def built(world: World, folder: Path, partition: int = 10**6) -> Built:
    """Build a world's profiles in a folder, in partitions of so many events."""
    events, items = frame(world.rows), world.catalogue
    texts = written(events.filter(pl.col("timestamp") <= world.at)).rename({"id": "user_id"})

    def scan(columns: Sequence[str]) -> list[pl.DataFrame]:
        return [events[n : n + 37].select(columns) for n in range(0, len(events), 37)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_build, "PARTITION", partition)
        (folder / "history").mkdir(parents=True)
        past = history_build.build(folder / "history", scan, len(events), items["item_id"], {})
        context = ProfileBuild(
            past, items, world.users, texts.select("user_id", "text", "timestamp"), microseconds(world.at),
            world.config, world.weights,
        ).run(folder)  # fmt: skip
    users, of_items = (pl.read_ipc(folder / f"{kind}_profiles.arrow") for kind in ("user", "item"))
    return Built(world, users, of_items, context, folder)


def lopsided(seed: int, **settings: Any) -> World:
    """900 events in no order of time, over 120 days, with ties to the microsecond.

    14 users of very unequal length, 19 items of 21 known; a quarter of the events close behind another
    of the same user, so that visits have more than one event. Visits are named for some.
    """
    rng = random.Random(seed)
    users = [f"u{n:02}" for n in range(12)] + ["nul\0🎬 '", "ünï"]
    items = [f"i{n:02}" for n in range(20)] + ["🎬\0item"]
    rows: list[Row] = []
    for n in range(900):
        user = users[min(int(rng.expovariate(0.4)), 13)]
        item = None if rng.random() < 0.1 else items[min(int(rng.expovariate(0.25)), 20)]
        days = rng.choice([rng.uniform(0, 120), rng.randrange(120), rng.randrange(240) / 2])
        if rows and rng.random() < 0.4:
            near = rng.choice(rows[-30:])
            user = near["user_id"]
            days = (near["timestamp"] - START) / DAY + rng.choice([0, 1e-4, 0.01, 1 / 48, 0.1])
        kind = rng.choice(["query", "view"] if item is None else ["buy", "rating", "view", "view", "cart"])
        more = {
            "value": rng.choice([None, float("nan"), -3.0, 0.0, 1.0, 2.5, 3.0, 4.75, 19.9]),
            "text": rng.choice([None, None, None, "", " \n", f"Tea {n % 5} and tea cups", "grüner TEE 茶"]),
            "session_id": rng.choice([None, None, "s1", "s2", f"s{n}"]),
            "recommendation_id": rng.choice([None, None, "r"]),
        }
        rows.append(event(user, item, days, kind, **more))
    rows += [event("early", "i03", 1.25, "buy", value=7.0), event("late", "only later", 130, "gift")]
    words = ["ant", "bee", "cat", "dog", "eel"]
    known = [
        {
            "item_id": item,
            "categories": rng.choice([None, [], rng.sample(words, 1), rng.sample(words, 3), ["ant", "ant"]]),
            "tags": rng.choice([None, rng.sample(words, 2), rng.sample(words, 5), ["bee", None]]),
            "brand": rng.choice([None, "Ö", "x", "x", "y"]),
            "price": rng.choice([None, 0.0, 5.0, rng.uniform(1, 100), rng.uniform(1, 100)]),
            "available_from": rng.choice([None, START + rng.uniform(0, 100) * DAY]),
        }
        for item in [*items[:17], "untouched", "🎬\0item"]
    ]
    town = [rng.choice([None, " Rome", "rome ", "Oslo", ""]) for _ in range(8)]
    said = pl.DataFrame(
        {
            "user_id": ["nobody", *users[:6], "ünï"],
            "town": town,
            "age": pl.Series([31, None, 20, 41, 5, 6, 7, 8], dtype=pl.Int64),
            "mail": ["yes", "no", None, " YES ", "1", "false", "maybe", "granted"],
        }
    )
    config = {
        "windows_days": (2, 9, 40), "half_life_days": 9.5, "affinities": 3, "last_items": 4, "smoothing": 2.5,
        "session_minutes": 25, "timezone": "Europe/Berlin", "spend_types": ("buy", "cart"), "price_bands": 3,
        "conversions": (("view", "buy"), ("view", "nothing"), ("query", "buy"), ("rating", "view")),
        "new_item_days": 20, "new_user_days": 11.5, "co_items_days": 60, "consents": ("mail",),
        "audience": ("town",),
    }  # fmt: skip
    weights = InteractionsConfig(
        weights={"view": 1, "buy": 3.25, "rating": 2, "cart": 0}, minimum_value={"rating": 3}
    )
    return World(
        rows, known, USERS.conform(said), FeaturesConfig.model_validate(config | settings), weights,
        START + 120 * DAY,
    )  # fmt: skip


class Oracle:
    """What a world's profiles rest on, found by loops; nothing here is fast or clever."""

    def __init__(self, world: World) -> None:
        self.world, self.events, self.config, self.at = world, world.events, world.config, world.at
        self.types = sorted({e["event_type"] for e in self.events})
        self.users = sorted({e["user_id"] for e in self.events} | set(world.users["user_id"]))
        self.known = {item["item_id"]: item for item in world.items}
        self.items = sorted({e["item_id"] for e in self.events if e["item_id"]} | set(self.known))
        self.item_events = Counter(e["item_id"] for e in self.events if e["item_id"])

    def own(self, user: str) -> list[Row]:
        """The events of a user, oldest first."""
        return [e for e in self.events if e["user_id"] == user]

    def days_old(self, e: Row) -> float:
        """The age of an event at the moment."""
        return (self.at - e["timestamp"]) / DAY

    def since(self, item: str) -> datetime:
        """When an item with events began to be there."""
        first = min(e["timestamp"] for e in self.events if e["item_id"] == item)
        return self.known.get(item, {}).get("available_from") or first

    def within(self, events: Sequence[Row], days: float) -> list[Row]:
        """The events younger than so many days."""
        return [e for e in events if self.at - e["timestamp"] < timedelta(days=days)]

    def local(self, e: Row) -> datetime:
        """The time of an event on the wall of the configured zone."""
        moment: datetime = e["timestamp"]
        return moment.astimezone(ZoneInfo(self.config.timezone))

    def visits(self, events: Sequence[Row]) -> list[list[Row]]:
        """The visits of one user."""
        found: list[list[Row]] = []
        for e in events:
            if found:
                before, name = found[-1][-1], e["session_id"]
                names = [v["session_id"] for v in found[-1] if v["session_id"]]
                if name and before["session_id"]:
                    new = name != before["session_id"]
                else:
                    pause = e["timestamp"] - before["timestamp"]
                    renamed = bool(name and names and name != names[-1])
                    new = renamed or pause > timedelta(minutes=self.config.session_minutes)
            else:
                new = True
            if new:
                found.append([])
            found[-1].append(e)
        return found

    def value(self, e: Row) -> float | None:
        """The value of an event, where it has one."""
        return None if e["value"] is None or math.isnan(e["value"]) else e["value"]

    def spent(self, e: Row) -> float:
        """What an event spent."""
        return max(0.0, self.value(e) or 0.0) if e["event_type"] in self.config.spend_types else 0.0

    def weight(self, e: Row) -> float:
        """How much an event says for its item."""
        weights, least = self.world.weights.weights, self.world.weights.minimum_value
        value = self.value(e)
        if e["event_type"] in least and (value is None or value < least[e["event_type"]]):
            return 0.0
        return weights.get(e["event_type"], 0.0) if weights else 1.0

    def values(self, name: str, item: str) -> list[str]:
        """The values of an attribute of an item, sorted."""
        row = self.known.get(item, {})
        if name == "price_band":
            return [str(self.band(row["price"], self.price_edges))] if row.get("price") is not None else []
        if name == "brand":
            return [row["brand"]] if row.get("brand") is not None else []
        return sorted(set(row.get({"category": "categories", "tag": "tags"}[name]) or []) - {None})

    def edges(self, amounts: Iterable[float | None]) -> list[float]:
        """The inner edges of bands with equal numbers of the amounts above 0."""
        sizes, bands = sorted(a for a in amounts if a is not None and a > 0), self.config.price_bands
        found = set()
        for n in range(1, bands) if sizes else ():
            place = (len(sizes) - 1) * n / bands
            low = int(place)
            high = min(low + 1, len(sizes) - 1)
            found.add(sizes[low] + (sizes[high] - sizes[low]) * (place - low))
        return sorted(edge for edge in found if edge > sizes[0])

    def band(self, amount: float, edges: list[float]) -> int:
        """The band of an amount, from 1; an amount on an edge is in the higher."""
        return bisect_right([edge * (1 - 1e-12) for edge in edges], amount) + 1

    @cached_property
    def price_edges(self) -> list[float]:
        """The edges of the price bands."""
        return self.edges(item.get("price") for item in self.world.items)

    @cached_property
    def spend_edges(self) -> list[float]:
        """The edges of the spending bands."""
        return self.edges(sum(self.spent(e) for e in self.own(user)) for user in self.users)

    @cached_property
    def percentile(self) -> dict[str, float]:
        """The standing of each item among those with events."""
        counts = self.item_events.values()
        return {
            item: (sum(c < n for c in counts) + (sum(c == n for c in counts) - 1) / 2)
            / max(1, len(counts) - 1)
            for item, n in self.item_events.items()
        }

    @cached_property
    def log_shares(self) -> dict[str, dict[str, float]]:
        """The share of each value of each attribute in everything weighted."""
        found = {}
        for name in ("category", "tag", "brand", "price_band"):
            sums: dict[str, float] = defaultdict(float)
            for e in self.events:
                for value in self.values(name, e["item_id"]) if e["item_id"] else ():
                    sums[value] += self.weight(e)
            whole = sum(sums.values())
            found[name] = {value: s / whole if whole else 0.0 for value, s in sums.items()}
        return found

    def trend(self, events: Sequence[Row]) -> float:
        """How much faster events came lately."""
        week, month = len(self.within(events, 7)), len(self.within(events, 30))
        return math.log2((week + 7 / 30) / 7) - math.log2((month + 1) / 30)


def same(found: Any, expected: Any) -> None:
    """Floats to 1e-9, everything else exactly, the order of columns and of lists included."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            try:
                same(found[name], value)
            except AssertionError as error:
                raise AssertionError(f"{name}: {found[name]!r}, expected {value!r}") from error
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert isinstance(found, float)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    else:
        assert found == expected
        assert type(found) is type(expected)


@pytest.fixture(scope="session")
def oracle_of() -> Callable[[World], Oracle]:
    """`oracle_of(world)` finds the same by loops."""
    return Oracle


@pytest.fixture(scope="session")
def same_row() -> Callable[[Any, Any], None]:
    """`same_row(found, expected)` compares rows, floats to 1e-9."""
    return same


@pytest.fixture(scope="session")
def event_of() -> Callable[..., Row]:
    """`event_of(user, item, days, type, value=…)` is one event, so many days after START."""
    return event


@pytest.fixture(scope="session")
def frame_of() -> Callable[[Sequence[Row]], pl.DataFrame]:
    """`frame_of(rows)` is EVENTS."""
    return frame


@pytest.fixture(scope="session")
def lopsided_world() -> Callable[..., World]:
    """`lopsided_world(seed, half_life_days=…)` is a log nothing of which is even."""
    return lopsided


@pytest.fixture(scope="session")
def world_of() -> Callable[..., World]:
    """`world_of(rows, items, users, at=days, **settings)` is a small world."""

    def world(
        rows: Sequence[Row],
        items: Sequence[Row] = (),
        users: pl.DataFrame | None = None,
        at: float = 100,
        weights: InteractionsConfig | None = None,
        **settings: Any,
    ) -> World:
        said = USERS.empty() if users is None else users
        config = FeaturesConfig.model_validate(settings)
        return World(list(rows), list(items), said, config, weights or InteractionsConfig(), START + at * DAY)

    return world


@pytest.fixture(scope="session")
def built_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """`built_of(world, partition=…)` builds its profiles."""

    def build(world: World, **sizes: int) -> Built:
        return built(world, tmp_path_factory.mktemp("profiles"), **sizes)

    return build


@pytest.fixture(scope="session")
def profile(world_of: Callable[..., World], built_of: Callable[..., Built]) -> Callable[..., Row]:
    """`profile(rows, items, at=days, **settings)` is the row of the user u: the batch's and the live one."""

    def make(rows: Sequence[Row], items: Sequence[Row] = (), **settings: Any) -> Row:
        found = built_of(world_of(rows, items, **settings))
        row = found.users.filter(pl.col("user_id") == "u").row(0, named=True)
        assert found.live("u") == row
        return row

    return make
