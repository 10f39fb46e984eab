"""The log turned by user: coded, partitioned, each user's events in a row, oldest first.

    history/facts.json          partitions, watermark, revision, counts, versions
            items.arrow         item_id, in code order: sorted, behind them those of each later build
            users-07.arrow      user_id, key (64-bit hash), start; sorted by key
            events-07.arrow     item, kind, time, marks; user by user, oldest first
            said-07.arrow       at, value, session of the events that say one of both; at: their place

Users are dealt out to partitions by the highest bits of their keys. Profiles are computed a partition at a
time from here, and one user's past is a slice of it. `history_build` writes it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from profiles.features.numbering import hashed
from profiles.features.ordering import scattered
from profiles.features.past import Events
from profiles.pieces import PieceFile
from profiles.schema import EVENTS, TIME

Types = dict[str, type[np.generic]]

FACTS = "facts.json"
FORMAT = 3  # raise it when the files or the codes of the same log change
PAST = ("item_id", "event_type", "timestamp", "value")
CODED: Types = {"item": np.int32, "kind": np.uint16, "time": np.int64, "marks": np.uint8}
BLANK: dict[str, np.generic] = {
    "value": np.float64(np.nan),
    "session": np.uint64(0),
}  # where an event says nothing

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class History:
    """A history on disk; its arrays are memory-mapped."""

    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What it was made from."""
        found: dict[str, Any] = json.loads((self.folder / FACTS).read_bytes())
        return found

    @property
    def partitions(self) -> int:
        """How many partitions there are: a power of two."""
        return int(self.facts["partitions"])

    @cached_property
    def item_ids(self) -> pl.Series:
        """Items in code order."""
        return pl.read_ipc(self.folder / "items.arrow")["item_id"]

    @property
    def event_types(self) -> tuple[str, ...]:
        """Event types in code order."""
        return tuple(self.facts["event_types"])

    @property
    def readable(self) -> bool:
        """Whether this program hashes and numbers as the one that wrote it did."""
        return (self.facts.get("format"), self.facts.get("polars")) == (FORMAT, pl.__version__)

    def users(self, partition: int) -> pl.DataFrame:
        """Return user_id, key and start of one partition, sorted by key."""
        return pl.read_ipc(self.folder / files_of(partition)[2])

    def events(self, partition: int) -> Events:
        """Return the events of one partition, user by user."""
        starts = self.users(partition)["start"].to_numpy()
        events, said, _ = (self.folder / name for name in files_of(partition))
        return _events(starts, stored(events), stored(said))

    def of_user(self, user_id: str) -> Events | None:
        """Return one user's events; None where there are none."""
        key = int(hashed(pl.Series([user_id]))[0])
        users, arrays, said = self._opened(int(partition_of(np.array([key], np.uint64), self.partitions)[0]))
        place = int(np.searchsorted(users["key"], np.uint64(key)))
        if place == len(users["key"]) or int(users["key"][place]) != key:
            return None
        starts = users["start"]
        first = int(starts[place])
        last = int(starts[place + 1]) if place + 1 < len(starts) else len(arrays["time"])
        own = {name: array[first:last] for name, array in arrays.items()}
        begin, end = np.searchsorted(said["at"], [first, last])
        own_said = {name: array[begin:end] for name, array in said.items()}
        return _events(np.zeros(1, np.int64), own, own_said | {"at": own_said["at"] - first})

    def past(self, user_id: str) -> pl.DataFrame:
        """Return item_id, event_type, timestamp and value of one user's events, oldest first."""
        found = self.of_user(user_id)
        if found is None:
            return pl.DataFrame(schema={name: EVENTS.schema[name] for name in PAST})
        items = self.item_ids.gather(pl.Series(found.item).set(pl.Series(found.item < 0), None))
        return pl.DataFrame(
            {
                "item_id": items,
                "event_type": pl.Series(self.event_types).gather(found.kind),
                "timestamp": pl.Series(found.time).cast(TIME),
                "value": pl.Series(found.value, nan_to_null=True),
            }
        )

    def _opened(self, partition: int) -> tuple[Arrays, Arrays, Arrays]:
        """Return a partition's users (key, start), events and what these say, memory-mapped."""
        if partition not in self._open:
            events, said, users = (self.folder / name for name in files_of(partition))
            self._open[partition] = stored(users, ("key", "start")), stored(events), stored(said)
        return self._open[partition]

    @cached_property
    def _open(self) -> dict[int, tuple[Arrays, Arrays, Arrays]]:
        return {}


def files_of(partition: int) -> tuple[str, str, str]:
    """Return the names of a partition's events, of what these say, and of its users."""
    return f"events-{partition:04}.arrow", f"said-{partition:04}.arrow", f"users-{partition:04}.arrow"


def partition_of(key: np.ndarray, partitions: int) -> np.ndarray:
    """Return the partition of each key, uint16; there is a power of two of them."""
    bits = partitions.bit_length() - 1
    return (key >> np.uint64(64 - bits)).astype(np.uint16) if bits else np.zeros(len(key), np.uint16)


def stored(path: Path, names: Sequence[str] | None = None) -> Arrays:
    """Return arrays of a file, memory-mapped; all of them, or those named."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    arrays = ((name, table.column(name)) for name in names or table.column_names)
    return {n: (a.chunk(0) if a.num_chunks == 1 else a.combine_chunks()).to_numpy() for n, a in arrays}


def written(arrays: Arrays, path: Path) -> None:
    """Write arrays that `stored` reads, from where they lie."""
    batch = pa.record_batch({name: pa.array(array) for name, array in arrays.items()})
    with PieceFile(path, "w") as pieces, pa.ipc.new_file(pieces, batch.schema) as file:
        file.write_batch(batch)


def _events(starts: np.ndarray, coded: Arrays, said: Arrays) -> Events:
    """Put what some events say beside what all have."""
    rows = len(coded["time"])
    full = {n: scattered(said[n], said["at"], np.full(rows, blank)) for n, blank in BLANK.items()}
    return Events(starts, **coded, **full)
