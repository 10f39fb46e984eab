"""What `attune build` does for a whole log, and for one day more of it on top of the snapshot before.

The log is read from its files; what a store would do between is not measured. Both have built a snapshot
before the clock starts, so that neither pays for loading what the other has loaded.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow.parquet as pq

from benchmarks.log import Log
from benchmarks.process import Figures, scratch
from benchmarks.profile_polars import WEIGHTS
from profiles.features import FeaturesConfig
from profiles.interactions import InteractionsConfig
from profiles.snapshot import build
from profiles.store import EventStore, Kind

FEW = 1000  # events of the build that loads what is needed


class Store:
    """The first `end` events of a log, as far as a build asks for them."""

    def __init__(self, log: Log, end: int) -> None:
        self._log, self._end = log, end

    def scan(self, first: int, last: int, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Yield the events numbered in (first, last], by row groups."""
        begin = 0
        for file in self._log.events:
            before = begin
            for rows in groups(file):
                low, high = max(first, begin), min(last, self._end, begin + rows)
                if low < high:
                    part = pl.scan_parquet(file).slice(low - before, high - low)
                    yield (part if columns is None else part.select(columns)).collect()
                begin += rows

    def watermark(self) -> int:
        """Return the number of events."""
        return self._end

    def revision(self) -> int:
        """Nothing was taken out."""
        return 0

    def marks(self) -> Mapping[str, str]:
        """Return the log's name."""
        return {"log": self._log.folder.name}

    def catalogue(self, kind: Kind) -> pl.DataFrame:
        """Return ITEMS or USERS."""
        return pl.read_parquet(self._log.items if kind == "items" else self._log.users)


def snapshot(folder: str) -> Figures:
    """Time a build of the whole log."""
    log = Log(Path(folder))
    with scratch(log.folder.parent) as place:
        _built(log, FEW, place / "few")
        events = _rows(log)
        return {"seconds": _built(log, events, place / "whole"), "new_events": events}


def day(folder: str) -> Figures:
    """Time a build of the last day's events on top of the snapshot of those before."""
    log = Log(Path(folder))
    begins = log.as_of - timedelta(days=1)
    new = pl.scan_parquet(log.events[-1]).filter(pl.col("timestamp") >= begins).select(pl.len())
    events, new_events = _rows(log), new.collect().item()
    with scratch(log.folder.parent) as place:
        _built(log, events - new_events, place)
        return {"seconds": _built(log, events, place), "new_events": new_events}


def groups(file: Path) -> list[int]:
    """Return the rows of each row group."""
    metadata = pq.ParquetFile(file).metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def _rows(log: Log) -> int:
    return sum(sum(groups(file)) for file in log.events)


def _built(log: Log, events: int, root: Path) -> float:
    store = cast(EventStore, Store(log, events))
    begun = time.perf_counter()
    build(store, root, InteractionsConfig(weights=WEIGHTS), FeaturesConfig())
    return time.perf_counter() - begun
