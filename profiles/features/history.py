"""The log turned by user: coded, partitioned, each user's events in a row, oldest first.

    history/facts.json          partitions, watermark, revision, counts, versions
            items.arrow         item_id, in code order: sorted, behind them those of each later build
            users-07.arrow      user_id, key (64-bit hash), start; sorted by key
            events-07.arrow     item, kind, time, value, marks, session; user by user, oldest first

Two passes make it: the first codes each batch of the log and deals its events out to partitions by a
hash of the user; the second puts one partition at a time in order. Profiles are computed a partition at
a time from here, one user's past is a slice of it, and the next day's history is this one with the new
events merged in: the log before its watermark is not read again, codes stay what they are, and a partition
without new events is the same file.

Memory: BUFFER bytes of coded events (what exceeds it is written beside), about 150 bytes an event of
two partitions, and the ids of users and items. Disk: about 30 bytes an event. Two user ids or
two item ids whose 64-bit hashes are equal would be taken for one: 3 in 10^8 for a million of them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from profiles import threads
from profiles.features.merging import merged
from profiles.features.numbering import Numbering, hashed
from profiles.features.ordering import by_user_and_time, gathered
from profiles.features.past import Events, marks
from profiles.features.spill import Spill
from profiles.schema import EVENTS, TIME, ContractError

FACTS = "facts.json"
FORMAT = 2  # raise it when the files or the codes of the same log change
PARTITION = 1_500_000  # events a partition is meant to hold
BUFFER = 2_500_000_000  # bytes of coded events held before they are written out
TYPES = 1000  # event types at most: a profile has columns for each
PAST = ("item_id", "event_type", "timestamp", "value")
READ = ("user_id", "item_id", "event_type", "timestamp", "value", "text", "session_id", "recommendation_id")
CHANGED = "events were taken out of the log while it was read; build the snapshot again"
CODED: dict[str, np.generic] = {  # each array's type, and its value where the log says nothing
    "item": np.int32(-1),
    "kind": np.uint16(0),
    "time": np.int64(0),
    "value": np.float64(np.nan),
    "marks": np.uint8(0),
    "session": np.uint64(0),
}
DEALT = CODED | {"key": np.uint64(0), "row": np.int64(0)}  # of the user, and of the event in the log
ALWAYS = ("item", "kind", "time", "marks", "key", "row")  # the arrays every batch has

Scan = Callable[[Sequence[str]], Iterable[pl.DataFrame]]  # the log's new events, in order, twice the same
Link = Callable[[str], None]


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
        return pl.read_ipc(self.folder / _files(partition)[1])

    def events(self, partition: int) -> Events:
        """Return the events of one partition, user by user."""
        starts = self.users(partition)["start"].to_numpy()
        return Events(starts, *_mapped(self.folder / _files(partition)[0]))

    def of_user(self, user_id: str) -> Events | None:
        """Return one user's events; None where there are none."""
        key = int(hashed(pl.Series([user_id]))[0])
        users, arrays = self._opened(int(_partition(np.array([key], np.uint64), self.partitions)[0]))
        place = int(np.searchsorted(users["key"], np.uint64(key)))
        if place == len(users["key"]) or int(users["key"][place]) != key:
            return None
        starts = users["start"]
        first = int(starts[place])
        last = int(starts[place + 1]) if place + 1 < len(starts) else len(arrays["time"])
        own = {name: array[first:last] for name, array in arrays.items()}
        return Events(
            np.zeros(1, np.int64),
            *(own[n] if n in own else np.full(last - first, blank) for n, blank in CODED.items()),
        )

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

    def _opened(self, partition: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return a partition's users (key, start) and events, memory-mapped."""
        if partition not in self._open:
            events, users = _files(partition)
            known = _stored(self.folder / users, ("key", "start"))
            self._open[partition] = known, _stored(self.folder / events)
        return self._open[partition]

    @cached_property
    def _open(self) -> dict[int, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        return {}


def build(
    folder: Path,
    scan: Scan,
    expected: int,
    catalogue: pl.Series,
    about: Mapping[str, Any],
    before: History | None = None,
    link: Link | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> History:
    """Write the history of `before` and the events of `scan` into an empty folder.

    `expected` is how many events there will be in all; it sets the number of partitions, which never falls.
    Items of the `catalogue` get a code too, with events or not. `about` joins the facts. `link` puts a
    file of `before` into the folder as it is.
    """
    partitions = 1 << max(0, (expected - 1) // PARTITION).bit_length()
    partitions = max(partitions, before.partitions if before else 1)
    items, types = Numbering(), Numbering()
    with Spill(folder, partitions, BUFFER, DEALT) as spill, ThreadPoolExecutor(threads.available()) as pool:
        rows = 0
        for coded in threads.ahead(pool, partial(_code, partitions, items, types), scan(READ)):
            coded.arrays["row"] += rows
            spill.add(coded.arrays, coded.bounds)
            rows += coded.rows
            progress(coded.rows)
        merge = _Merge(folder, spill, before, items.names(), types.names(), catalogue, link)
        pl.DataFrame({"item_id": merge.items}).write_ipc(folder / "items.arrow")
        users = list(pool.map(merge.partition, range(partitions)))
    _name_users(folder, users, rows, scan(("user_id",)) if rows else (), before)
    facts = dict(about) | {
        "format": FORMAT,
        "partitions": partitions,
        "polars": pl.__version__,
        "event_types": merge.types.to_list(),
        "events": rows + (int(before.facts["events"]) if before else 0),
        "users": sum(map(len, users)),
        "items": len(merge.items),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    return History(folder)


@dataclass(frozen=True)
class Coded:
    """One batch, dealt out: arrays ordered by partition, and where each partition's begin."""

    arrays: dict[str, np.ndarray]
    bounds: np.ndarray

    @property
    def rows(self) -> int:
        """Events of the batch."""
        return int(self.bounds[-1])


def _code(partitions: int, items: Numbering, types: Numbering, batch: pl.DataFrame) -> Coded:
    """Turn a batch into numbers and deal it out; items and types not met before get the next code."""
    key = hashed(batch["user_id"])
    part = _partition(key, partitions)
    order = np.argsort(part, kind="stable")  # a radix sort: these are 16-bit numbers
    kind = types(batch["event_type"])
    _refuse_many(int(kind.max(initial=0)) + 1, batch["event_type"])
    arrays = {
        "key": key,
        "item": items(batch["item_id"]),
        "kind": kind.astype(np.uint16),
        "time": batch["timestamp"].to_physical().to_numpy(),
        "marks": marks(batch).to_numpy(),
    }
    if batch["value"].count():
        arrays["value"] = batch["value"].fill_null(float("nan")).to_numpy()
    if batch["session_id"].count():
        arrays["session"] = session_keys(batch["session_id"])
    dealt = {name: gathered(array, order) for name, array in arrays.items()}
    bounds = np.append(0, np.cumsum(np.bincount(part, minlength=partitions)))
    return Coded(dealt | {"row": order}, bounds)


def _refuse_many(count: int, types: pl.Series) -> None:
    if count > TYPES:
        raise ContractError(
            f"the log has more than {TYPES:,} event types, such as {types[0]!r} and {types[-1]!r}; map "
            "event_type to a column that says what kind of event it was"
        )


class _Merge:
    """Puts one partition after the other in order: what is new among what was there before.

    Codes stay what they were: items and types not met before get the next ones, sorted.
    """

    def __init__(
        self,
        folder: Path,
        spill: Spill,
        before: History | None,
        items: pl.Series,
        types: pl.Series,
        catalogue: pl.Series,
        link: Link | None,
    ) -> None:
        self.folder, self.spill, self.before, self.partitions = folder, spill, before, spill.partitions
        self.link = link
        old_types = pl.Series(before.event_types if before else [], dtype=pl.String)
        self.items = _numbered_on(before.item_ids if before else items[:0], pl.concat([items, catalogue]))
        self.types = _numbered_on(old_types, types)
        _refuse_many(len(self.types), self.types)
        # Number in the spill -> code; the last entry is for -1, no item.
        self.item, self.kind = _places(items, self.items), _places(types, self.types)

    def partition(self, number: int) -> pl.DataFrame:
        """Write a partition's events; returns key and start of its users, and the source of their ids.

        The source is a row of the new events, or -1 - the user's place before. Without new events the
        files of before are linked where partitions are the same, its users' among them.
        """
        new = self.spill.take(number)
        before = self.before
        if before and not new and before.partitions == self.partitions and self.link:
            for name in _files(number):
                self.link(name)
            return before.users(number).select("key", "start", source=-1 - pl.int_range(pl.len()))
        new = new or {name: np.zeros(0, DEALT[name].dtype) for name in ALWAYS}
        new["item"], new["kind"] = gathered(self.item, new["item"]), gathered(self.kind, new["kind"])
        order, starts = by_user_and_time(new["key"], new["time"])
        source = np.minimum.reduceat(gathered(new["row"], order), starts) if len(starts) else starts
        keys = new["key"][order[starts]]
        found = {
            name: gathered(new[name], order).astype(blank.dtype, copy=False)
            for name, blank in CODED.items()
            if name in new
        }
        if before:
            old, known, first = self._old(before, number)
            fresh = np.isin(keys, known["key"], invert=True)
            found, starts = merged(old, (known["key"], known["start"]), found, (keys, starts), CODED)
            # Someone known before keeps the id of then, wherever the oldest event stands now.
            source = np.concatenate([-1 - first - np.arange(len(known["key"])), source[fresh]])
            keys = np.concatenate([known["key"], keys[fresh]])
            by_key = np.argsort(keys)
            keys, source = keys[by_key], source[by_key]
        events, _ = _files(number)
        pl.DataFrame(found).write_ipc(self.folder / events, record_batch_size=max(1, len(found["time"])))
        return pl.DataFrame({"key": keys, "start": starts, "source": source})

    def _old(self, before: History, number: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
        """Return what is known of a partition's users: events, keys and starts, and the first one's place."""
        events, users = _files(_whole(number, self.partitions, before))
        known, stored = _stored(before.folder / users, ("key", "start")), _stored(before.folder / events)
        # Users stand in the order of their keys: those of a part of the old partition are neighbours.
        part = _partition(known["key"], self.partitions)
        first, last = np.searchsorted(part, [number, number + 1])
        starts = np.append(known["start"], len(stored["time"]))
        begin, end = starts[first], starts[last]
        own = {"key": known["key"][first:last], "start": starts[first:last] - begin}
        return {name: array[begin:end] for name, array in stored.items()}, own, int(first)


def _numbered_on(old: pl.Series, more: pl.Series) -> pl.Series:
    """Return the strings of `old`, then those of `more` that are not there, sorted."""
    fresh = more.unique().sort()
    return pl.concat([old, fresh.filter(~fresh.is_in(old.implode()))], rechunk=True)


def _name_users(
    folder: Path,
    found: Sequence[pl.DataFrame],
    events: int,
    ids: Iterable[pl.DataFrame],
    before: History | None,
) -> None:
    """Write the users of every partition with their ids: those of the log's new events, or of before."""
    sources = np.concatenate([users["source"].to_numpy() for users in found])
    rows = np.sort(sources[sources >= 0])
    names, first = [pl.Series(dtype=pl.String)], 0
    for batch in ids:
        here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(batch))] - first
        names.append(batch["user_id"].gather(here))
        first += len(batch)
    if first != events:
        raise ContractError(CHANGED)
    new = pl.concat(names, rechunk=True)
    for number, users in enumerate(found):
        path = folder / _files(number)[1]
        if path.exists():
            continue  # linked
        source, known = users["source"].to_numpy(), new[:0]
        if before:
            known = before.users(_whole(number, len(found), before))["user_id"]
        place = np.where(source < 0, -1 - source, len(known) + np.searchsorted(rows, source))
        user_id = pl.concat([known, new]).gather(place).alias("user_id")
        pl.DataFrame([user_id, users["key"], users["start"]]).write_ipc(path)


def _files(number: int) -> tuple[str, str]:
    """Return the names of a partition's events and users."""
    return f"events-{number:04}.arrow", f"users-{number:04}.arrow"


def _whole(number: int, partitions: int, before: History) -> int:
    """Return the partition that one of more `partitions` was a part of before."""
    return number * before.partitions // partitions


def session_keys(sessions: pl.Series) -> np.ndarray:
    """Return a number for each session id, 0 where there is none."""
    if sessions.null_count() == len(sessions):
        return np.zeros(len(sessions), np.uint64)
    return np.where(sessions.is_null(), np.uint64(0), hashed(sessions))


def _partition(key: np.ndarray, partitions: int) -> np.ndarray:
    bits = partitions.bit_length() - 1
    return (key >> np.uint64(64 - bits)).astype(np.uint16) if bits else np.zeros(len(key), np.uint16)


def _stored(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return arrays of a file, memory-mapped; all of them, or those named."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    arrays = ((name, table.column(name)) for name in names or table.column_names)
    return {n: (a.chunk(0) if a.num_chunks == 1 else a.combine_chunks()).to_numpy() for n, a in arrays}


def _mapped(path: Path) -> list[np.ndarray]:
    """Return the arrays of CODED from a file, those it leaves out made."""
    found = _stored(path)
    return [
        found[name] if name in found else np.full(len(found["time"]), blank) for name, blank in CODED.items()
    ]


def _places(ids: pl.Series, among: pl.Series) -> np.ndarray:
    """Return where each id stands among sorted ids, and behind them -1 for no id."""
    found = ids.cast(pl.Enum(among)).to_physical().cast(pl.Int32).to_numpy()
    return np.append(found, np.int32(-1))
