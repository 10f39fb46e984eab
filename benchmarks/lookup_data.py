"""Ten million profiles and their events as Parquet, by user: what one user's read is measured on.

The columns are those that are registered, their values random but of the right types and lengths.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks import catalogue
from benchmarks.log import TYPES
from benchmarks.process import MB, Figures, Task
from profiles import manifest
from profiles.features import FeaturesConfig
from profiles.features.context import Context
from profiles.features.user_features import user_features
from profiles.schema import TIME

VERSION = 1  # raise it when the same numbers give other rows
PART = 250_000  # users a file
GROUP = 10_000  # rows a row group, so that readers who can skip have something to skip
EVENTS_PER_USER = 10
LONGEST = 4  # values of a list
SPREAD = 1.3  # sigma of the log-normal number of a user's events
ITEMS = 200_000
BEGUN, YEAR = 1_735_689_600_000_000, 365 * 86_400_000_000  # 2025


@dataclass(frozen=True)
class LookupConfig:
    """How many users, and the seed."""

    users: int
    seed: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """What stands in a report's `data`."""
        return {"users": self.users, "items": ITEMS, "events": self.users * EVENTS_PER_USER}

    def folder(self, root: Path, what: str) -> Path:
        """Return where the Parquet files of `profiles` or `history` lie; named by their columns too."""
        shape = [(n, str(d)) for n, d in registered().items()] if what == "profiles" else []
        return root / f"{what}-{self.users}-{manifest.content_key(self.seed, VERSION, shape)[:8]}"

    def made(self, root: Path, what: str) -> Task:
        """Return what makes those files, unless they are there."""
        makes = {"profiles": make_profiles, "history": make_history}[what]
        return Task(makes, {"folder": self.folder(root, what), **asdict(self)})


def registered() -> dict[str, pl.DataType]:
    """Return the type of every registered user column that is not text."""
    nothing = np.zeros(0)
    context = Context(
        as_of=0,
        item_ids=pl.Series([], dtype=pl.String),
        event_types=TYPES,
        events=nothing,
        since=nothing,
        price=nothing,
        attributes={},
        bands=nothing,
    )
    return {name: feature.dtype for name, feature in user_features(context, FeaturesConfig()).items()}


def files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder, by user."""
    return sorted(folder.glob("*.parquet"))


def make_profiles(folder: str | Path, users: int, seed: int) -> Figures:
    """Write USER_PROFILES, whole or not at all; nothing to do where it is there."""
    columns = registered()
    return _make(Path(folder), users, lambda names, part: _profiles(names, part, seed, columns))


def make_history(folder: str | Path, users: int, seed: int) -> Figures:
    """Write events grouped by user, oldest first, whole or not at all; nothing to do where it is there."""
    return _make(Path(folder), users, lambda names, part: _history(names, part, seed))


def _make(place: Path, users: int, rows: Callable[[pl.Series, int], pl.DataFrame]) -> Figures:
    if not place.exists():
        with manifest.building(place, {"users": users}) as folder:

            def write(part: int) -> None:
                numbers = np.arange(part * PART, min((part + 1) * PART, users))
                names = pl.Series("user_id", pl.from_arrow(catalogue.names("u", numbers)))
                frame = rows(names, part)
                frame.write_parquet(folder / f"part-{part:04}.parquet", row_group_size=GROUP)

            with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:  # two parts in memory at most
                list(pool.map(write, range(-(-users // PART))))
    return {"disk_mb": round(sum(file.stat().st_size for file in files(place)) / MB, 1)}


def _profiles(names: pl.Series, part: int, seed: int, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    rng = np.random.default_rng([seed, part])
    made = [_column(rng, len(names), dtype).alias(name) for name, dtype in columns.items()]
    return pl.DataFrame([names, *made])


def _column(rng: np.random.Generator, n: int, dtype: pl.DataType) -> pl.Series:
    """Return n random values of a type: small whole numbers, rounded fractions, times, short lists."""
    if dtype == TIME:
        return pl.Series(BEGUN + rng.integers(0, YEAR, n)).cast(TIME)
    if dtype == pl.Boolean:
        return pl.Series(rng.random(n) < 0.5)
    if dtype.is_float():
        values = pl.Series(rng.integers(0, 1000, n) / 8)
        return values.set(pl.Series(rng.random(n) < 0.1), None).cast(dtype)
    if dtype.is_integer():
        return pl.Series(np.minimum(rng.geometric(0.2, n) - 1, 100)).cast(dtype)
    if dtype == pl.String:
        return pl.Series(pl.from_arrow(catalogue.names("i", rng.integers(0, ITEMS, n))))
    if isinstance(dtype, pl.Struct):
        fields = [_column(rng, n, pl.Series([], dtype=f.dtype).dtype).alias(f.name) for f in dtype.fields]
        return pl.DataFrame(fields).to_struct()
    if isinstance(dtype, pl.List):
        offsets = np.append(0, np.cumsum(rng.integers(0, LONGEST + 1, n)))
        values = _column(rng, int(offsets[-1]), pl.Series([], dtype=dtype.inner).dtype)
        return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow())))
    raise TypeError(f"no random values are known of type {dtype}")


def _history(names: pl.Series, part: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng([seed, part, 1])
    n, weight = len(names), rng.lognormal(0.0, SPREAD, len(names))
    counts = 1 + rng.multinomial(n * (EVENTS_PER_USER - 1), weight / weight.sum())
    user = np.repeat(np.arange(n), counts)
    # Sorting user and time packed into one number is a sort by user, then time.
    packed = np.sort((user << 46) | rng.integers(0, YEAR, len(user)))
    kind = rng.choice(len(TYPES), len(user), p=(0.8, 0.1, 0.05, 0.03, 0.02)).astype(np.int8)
    valued = np.isin(kind, (2, 3))
    return pl.DataFrame(
        {
            "user_id": names.gather(user),
            "item_id": pl.Series(pl.from_arrow(catalogue.names("i", rng.integers(0, ITEMS, len(user))))),
            "event_type": pl.Series(TYPES).gather(kind),
            "timestamp": pl.Series(BEGUN + (packed & ((1 << 46) - 1))).cast(TIME),
            "value": pl.Series(np.where(valued, rng.integers(1, 6, len(user)), np.nan), nan_to_null=True),
        }
    )
