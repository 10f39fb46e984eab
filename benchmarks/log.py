"""A simulated shop log of any size on disk: time-ordered zstd Parquet, one file a month.

Made for its shape, not its truth (`profiles.simulate` has that): visits in bursts, heavy-tailed users,
power-law items, favourite categories. The same configuration gives the same rows.

    python -m benchmarks.log --events 100_000_000
"""

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import catalogue
from benchmarks.process import MB, Figures, Task, scratch
from benchmarks.report import Benchmark, Plan, Row, count
from profiles import manifest
from profiles.schema import DAY, microseconds

VERSION = 1  # raise it when the same configuration gives other rows
YEAR = 2025
GROUP = 1_000_000  # rows a row group
SHARES = {"view": 0.80, "cart": 0.10, "purchase": 0.05, "rating": 0.03, "search": 0.02}
TYPES = tuple(SHARES)
VISIT = 5.0  # events of a visit, on average
PAUSE = 40.0  # seconds between two events of a visit, on average
HOURS = (8, 13, 20)  # visits gather around these, UTC
USER_SPREAD = 1.3  # sigma of the log-normal number of visits
POPULARITY = 0.9  # exponent of the power law of items
AT_HOME = 0.5  # share of events in one of the user's favourite categories
FAVOURITES = 3
WITH_SESSION_ID, RECOMMENDED, WITH_DEVICE = 0.1, 0.05, 0.1
RATINGS = (0.06, 0.07, 0.15, 0.32, 0.40)

SCHEMA = pa.schema(
    {
        **dict.fromkeys(("event_id", "user_id", "item_id", "event_type"), pa.string()),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "value": pa.float64(),
        **dict.fromkeys(("text", "session_id", "recommendation_id", "properties"), pa.string()),
    }
)


@dataclass(frozen=True)
class LogConfig:
    """How many events, and the seed; users and items follow from the number of events."""

    events: int
    seed: int = 0

    @property
    def users(self) -> int:
        """One for a hundred events."""
        return max(self.events // 100, 1)

    @property
    def items(self) -> int:
        """200,000 from ten million events on."""
        return min(max(self.events // 50, 100), 200_000)

    @property
    def counts(self) -> dict[str, int]:
        """What stands in a report's `data`."""
        return {"users": self.users, "items": self.items, "events": self.events}

    def folder(self, root: Path) -> Path:
        """Return where under `root` this log lies."""
        return root / f"log-{self.events}-{self.seed}-v{VERSION}"

    def made(self, root: Path) -> Task:
        """Return what makes this log, unless it is there."""
        return Task(make, {"folder": self.folder(root), **asdict(self)})


@dataclass(frozen=True)
class Log:
    """The files of a log."""

    folder: Path

    @property
    def events(self) -> list[Path]:
        """EVENTS, oldest first, a file a month."""
        return sorted(self.folder.glob("events-*.parquet"))

    @property
    def items(self) -> Path:
        """ITEMS."""
        return self.folder / "items.parquet"

    @property
    def users(self) -> Path:
        """USERS with country, age_band and consent."""
        return self.folder / "users.parquet"

    @property
    def as_of(self) -> datetime:
        """The end of the year: later than every event."""
        return datetime(YEAR + 1, 1, 1, tzinfo=UTC)


def make(folder: str | Path, events: int, seed: int) -> Figures:
    """Write the log to `folder`, whole or not at all; nothing to do where it is there."""
    place, config, begun = Path(folder), LogConfig(events, seed), time.perf_counter()
    if not place.exists():
        with manifest.building(place, {"counts": config.counts, "seed": seed}) as made:
            shop = _Shop.of(config)
            catalogue.write_items(made / "items.parquet", shop.items, shop.price, seed)
            catalogue.write_users(made / "users.parquet", shop.users, seed)
            with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:  # two months in memory at most
                list(pool.map(lambda month: _write_month(made, config, shop, month), range(12)))
    size = sum(file.stat().st_size for file in place.glob("events-*.parquet"))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "events_per_s": events / seconds, "disk_mb": round(size / MB, 1)}


@dataclass(frozen=True)
class _Shop:
    """What the months share."""

    users: pa.StringArray  # names, by row
    items: pa.StringArray
    price: np.ndarray
    visitors: np.ndarray  # cumulated probability of each user to be the one who visits
    popularity: np.ndarray  # cumulated probability of each item

    @classmethod
    def of(cls, config: LogConfig) -> "_Shop":
        rng = np.random.default_rng([config.seed, 99])
        # The names say nothing of how popular an item or how busy a user is.
        users = catalogue.names("u", rng.permutation(config.users))
        items = catalogue.names("i", rng.permutation(config.items))
        visitors = np.cumsum(rng.lognormal(0.0, USER_SPREAD, config.users))
        popularity = np.cumsum(np.arange(1, config.items + 1) ** -POPULARITY)
        price = np.round(rng.lognormal(3.0, 0.8, config.items), 2)
        return cls(users, items, price, visitors / visitors[-1], popularity / popularity[-1])


@dataclass(frozen=True)
class _Month:
    """One month's events by visit, before they are put in order of time; a row each."""

    time: np.ndarray  # microseconds since 1970
    user: np.ndarray
    item: np.ndarray  # -1: none
    kind: np.ndarray  # row of TYPES
    value: np.ndarray  # NaN: none
    visit: np.ndarray


def _write_month(folder: Path, config: LogConfig, shop: _Shop, month: int) -> None:
    ends = [microseconds(datetime(YEAR + m // 12, m % 12 + 1, 1, tzinfo=UTC)) for m in range(13)]
    bounds = [round(config.events * (end - ends[0]) / (ends[-1] - ends[0])) for end in ends]
    if bounds[month] == bounds[month + 1]:
        return
    rng = np.random.default_rng([config.seed, month])
    due = np.arange(month, config.users, 12)  # everybody comes at least once in the year
    events = _draw(rng, shop, bounds[month + 1] - bounds[month], due, (ends[month], ends[month + 1]))
    path = folder / f"events-{YEAR}-{month + 1:02}.parquet"
    coded = ["user_id", "item_id", "event_type", "properties"]
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=coded) as file:
        for batch in _batches(rng, shop, events, bounds[month], month):
            file.write_table(batch, row_group_size=GROUP)


def _draw(
    rng: np.random.Generator, shop: _Shop, number: int, due: np.ndarray, span: tuple[int, int]
) -> _Month:
    """Draw exactly `number` events of one month, by visit."""
    size = np.empty(0, np.int64)
    while size.sum() < number:
        size = np.append(size, rng.geometric(1 / VISIT, number // int(VISIT) + 100))
    last = int(np.searchsorted(np.cumsum(size), number))
    size = size[: last + 1]
    size[last] -= size.sum() - number
    visitor = np.searchsorted(shop.visitors, rng.random(len(size))).astype(np.int32)
    visitor[rng.permutation(len(size))[: len(due)]] = due[: len(size)]
    visit = np.repeat(np.arange(len(size), dtype=np.int32), size)
    user = visitor[visit]
    first = np.diff(visit, prepend=-1) > 0

    kind = np.searchsorted(np.cumsum(list(SHARES.values()))[:-1], rng.random(number), side="right")
    kind = kind.astype(np.int8)
    item = _items(rng, shop, user)
    # What is put into the cart, bought or rated is mostly what was looked at just before.
    follows = (kind >= TYPES.index("cart")) & ~first
    item = np.where(follows, np.roll(item, 1), item)
    item[kind == TYPES.index("search")] = -1
    return _Month(_times(rng, size, visit, span), user, item, kind, _values(rng, shop, kind, item), visit)


def _items(rng: np.random.Generator, shop: _Shop, user: np.ndarray) -> np.ndarray:
    """Draw an item by popularity; half of them then move to a favourite category, their rank kept."""
    item = np.searchsorted(shop.popularity, rng.random(len(user))).astype(np.int32)
    favourite = user.astype(np.uint64) * np.uint64(FAVOURITES)
    favourite += rng.integers(0, FAVOURITES, len(user), dtype=np.uint8)
    wide = np.uint64(catalogue.CATEGORIES)
    moved = item - item % catalogue.CATEGORIES + (_scatter(favourite) % wide).astype(np.int32)
    home = (rng.random(len(user), dtype=np.float32) < AT_HOME) & (moved < len(shop.items))
    return np.where(home, moved, item)


def _times(
    rng: np.random.Generator, size: np.ndarray, visit: np.ndarray, span: tuple[int, int]
) -> np.ndarray:
    """Return when each event happened: visits gather around some hours, events follow in bursts."""
    pause = rng.exponential(PAUSE * 1e6, len(visit)).astype(np.int64) + 1_000_000
    passed = np.cumsum(pause)
    within = passed - (passed - pause)[np.cumsum(size) - size][visit]
    length = within[np.cumsum(size) - 1]
    days = (span[1] - span[0]) // DAY
    hour = rng.normal(rng.choice(HOURS, len(size)), 2.5) % 24.0
    start = rng.integers(0, days, len(size)) * DAY + (hour * 3.6e9).astype(np.int64)
    late = np.maximum(start + length - days * DAY, -1) // DAY + 1  # a visit ends in its month
    found: np.ndarray = span[0] + np.maximum(start - late * DAY, 0)[visit] + within
    np.minimum(found, span[1] - 1, out=found)
    return found


def _values(rng: np.random.Generator, shop: _Shop, kind: np.ndarray, item: np.ndarray) -> np.ndarray:
    value = np.full(len(kind), np.nan)
    bought = np.flatnonzero(kind == TYPES.index("purchase"))
    value[bought] = np.round(shop.price[item[bought]] * np.minimum(rng.geometric(0.8, len(bought)), 9), 2)
    rated = np.flatnonzero(kind == TYPES.index("rating"))
    value[rated] = rng.choice(5, len(rated), p=RATINGS) + 1.0
    return value


def _batches(
    rng: np.random.Generator, shop: _Shop, events: _Month, before: int, month: int
) -> Iterator[pa.Table]:
    """Yield EVENTS in order of time, a row group at a time; `before` events stand in earlier months."""
    order = np.argsort(events.time, kind="stable")
    types = pa.array(TYPES)
    devices = pa.array([f'{{"device":"{name}"}}' for name in ("desktop", "mobile", "tablet")])
    for start in range(0, len(order), GROUP):
        rows = order[start : start + GROUP]
        n, item, visit = len(rows), events.item[rows], events.visit[rows].astype(np.uint64)
        number = np.arange(before + start, before + start + n, dtype=np.uint64)
        told = _scatter(visit + np.uint64(month << 40)) % np.uint64(1000) < WITH_SESSION_ID * 1000
        advised = (events.kind[rows] == 0) & (rng.random(n, dtype=np.float32) < RECOMMENDED)
        device = rng.integers(0, 3, n, dtype=np.int32)
        yield pa.table(
            [
                _hexadecimal(_scatter(number)),
                shop.users.take(pa.array(events.user[rows])),
                shop.items.take(pa.array(item, mask=item < 0)),
                types.take(pa.array(events.kind[rows])),
                pa.array(events.time[rows]).cast(SCHEMA.field("timestamp").type),
                pa.array(events.value[rows], from_pandas=True),
                pa.nulls(n, pa.string()),
                _some(_hexadecimal(_scatter(visit + np.uint64((month + 100) << 40))), told),
                _some(_hexadecimal(_scatter(number + np.uint64(1 << 60))), advised),
                devices.take(pa.array(device, mask=rng.random(n, dtype=np.float32) >= WITH_DEVICE)),
            ],
            schema=SCHEMA,
        )


def _scatter(number: np.ndarray) -> np.ndarray:
    """Map 64-bit numbers one to one to others that look random (the end of SplitMix64)."""
    z = number + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scattered: np.ndarray = z ^ (z >> np.uint64(31))
    return scattered


_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), dtype=np.uint16)


def _hexadecimal(number: np.ndarray) -> pa.StringArray:
    """Write 64-bit numbers as 16 hexadecimal digits."""
    digits = _HEX[number.astype(">u8").view(np.uint8)]
    offsets = np.arange(len(number) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(number), pa.py_buffer(offsets), pa.py_buffer(digits))


def _some(values: pa.StringArray, kept: np.ndarray) -> pa.StringArray:
    return values.take(pa.array(np.arange(len(values)), mask=~kept))


def write(data: str, events: int, seed: int) -> Figures:
    """Time the making of a log, and delete it."""
    with scratch(Path(data)) as place:
        return make(place / "log", events, seed)


def options(parser: argparse.ArgumentParser) -> None:
    """Add --events."""
    parser.add_argument("--events", type=count, help="events of the log; default: 100 million")


def config(args: argparse.Namespace, events: int = 100_000_000, quick: int = 20_000) -> LogConfig:
    """Return the log a command line asks for."""
    return LogConfig(args.events or (quick if args.quick else events), args.seed)


def plan(args: argparse.Namespace) -> Plan:
    """Measure how long the log takes to make."""
    asked = config(args)
    task = Task(write, {"data": args.data, **asdict(asked)})
    row = Row("write", task, ("seconds", "events_per_s", "disk_mb"), ("benchmarks/catalogue.py",))
    return Plan(asked.counts, [row])


if __name__ == "__main__":
    Benchmark("log", "Make a simulated log.", plan, options).main()
