"""Writing a history: the new events of the log put among those of the history before.

Two passes make it: the first codes each batch of the log and deals its events out to partitions by a hash
of the user; the second puts one partition at a time in order. The next day's history is the one before with
the new events merged in: the log before its watermark is not read again, codes stay what they are, and a
partition without new events is the same file.

Memory: twice BUFFER bytes of coded events at most (what exceeds it is written beside), about 100 bytes an
event of two partitions, and the ids of users and items. Disk: 15 bytes an event, and 24 more where it says
a value or a session. Two user ids or two item ids whose 64-bit hashes are equal would be taken for one:
3 in 10^8 for a million of them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from profiles import memory, threads
from profiles.features.coding import DEALT, READ, SAID, Coding, refuse_many
from profiles.features.history import (
    CODED,
    FACTS,
    FORMAT,
    Arrays,
    History,
    files_of,
    partition_of,
    stored,
    written,
)
from profiles.features.merging import merged
from profiles.features.numbering import hashed
from profiles.features.ordering import by_user_and_time, gathered, rising, scattered
from profiles.features.spill import Spill
from profiles.jit import compiled

PARTITION = 1_500_000  # events a partition is meant to hold
BUFFER = 2_000_000_000  # bytes of coded events, and of what some of them say, held before they are written

Scan = Callable[[Sequence[str]], Iterable[pl.DataFrame]]  # the log's new events, in order
Link = Callable[[str], None]


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
    coding, rows = Coding(partitions), np.zeros(partitions, np.int64)
    with ExitStack() as opened:
        opened.enter_context(memory.kept())
        events = opened.enter_context(Spill(folder, "events", partitions, BUFFER, DEALT))
        said = opened.enter_context(Spill(folder, "said", partitions, BUFFER, SAID))
        pool = opened.enter_context(ThreadPoolExecutor(threads.available()))
        for coded in threads.ahead(pool, coding, scan(READ)):
            coded.said["at"] += np.repeat(rows, np.diff(coded.said_bounds))
            events.add(coded.events, coded.bounds)
            said.add(coded.said, coded.said_bounds)
            rows += np.diff(coded.bounds)
            progress(coded.rows)
        merge = _Merge(folder, (events, said), before, coding, catalogue, link)
        pl.DataFrame({"item_id": merge.items}).write_ipc(folder / "items.arrow")
        users = list(pool.map(merge.partition, range(partitions)))
    _name_users(folder, users, coding.users.names(), before)
    facts = dict(about) | {
        "format": FORMAT,
        "partitions": partitions,
        "polars": pl.__version__,
        "event_types": merge.types.to_list(),
        "events": int(rows.sum()) + (int(before.facts["events"]) if before else 0),
        "users": sum(map(len, users)),
        "items": len(merge.items),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    return History(folder)


class _Merge:
    """Puts one partition after the other in order: what is new among what was there before.

    Codes stay what they were: items and types not met before get the next ones, sorted.
    """

    def __init__(
        self,
        folder: Path,
        spills: tuple[Spill, Spill],
        before: History | None,
        coding: Coding,
        catalogue: pl.Series,
        link: Link | None,
    ) -> None:
        self.folder, self.before, self.link, self.partitions = folder, before, link, coding.partitions
        self.events, self.said = spills
        old_types = pl.Series(before.event_types if before else [], dtype=pl.String)
        new_items, new_types = coding.items.names(), coding.types.names()
        self.items = _numbered_on(
            before.item_ids if before else new_items[:0], pl.concat([new_items, catalogue])
        )
        self.types = _numbered_on(old_types, new_types)
        refuse_many(len(self.types), self.types)
        # Number in the coding -> code; the last entry is for -1, no item.
        self.item, self.kind = _places(new_items, self.items), _places(new_types, self.types)
        # Users in the order of their keys stand partition by partition.
        key = hashed(coding.users.names())
        self.user = np.argsort(key)
        self.key = gathered(key, self.user)
        self.place = scattered(np.arange(len(key), dtype=np.int32), self.user)  # of each number in that order
        self.first = np.searchsorted(partition_of(self.key, self.partitions), np.arange(self.partitions + 1))

    def partition(self, number: int) -> pl.DataFrame:
        """Write a partition's events; returns key and start of its users, and the source of their ids.

        The source is a user's number in the coding, or -1 - the place before. Without new events the
        files of before are linked where partitions are the same, its users' among them.
        """
        before = self.before
        source = self.user[self.first[number] : self.first[number + 1]]
        keys = self.key[self.first[number] : self.first[number + 1]]
        if before and not len(keys) and before.partitions == self.partitions and self.link:
            for name in files_of(number):
                self.link(name)
            return before.users(number).select("key", "start", source=-1 - pl.int_range(pl.len()))
        found, said, starts = self._new(number)
        if before:
            old, known, first = self._old(before, number)
            fresh = np.isin(keys, known["key"], invert=True)
            found, said, starts = merged(old, (known["key"], known["start"]), (found, said), (keys, starts))
            # Someone known before keeps the id of then.
            source = np.concatenate([-1 - first - np.arange(len(known["key"])), source[fresh]])
            keys = np.concatenate([known["key"], keys[fresh]])
            by_key = np.argsort(keys)
            keys, source = keys[by_key], source[by_key]
        for name, arrays in zip(files_of(number), (found, said), strict=False):
            written(arrays, self.folder / name)
        return pl.DataFrame({"key": keys, "start": starts, "source": source})

    def _new(self, number: int) -> tuple[Arrays, Arrays, np.ndarray]:
        """Return a partition's new events in order, what they say, and where each user's begin."""
        new, said = self.events.take(number), self.said.take(number)
        first, last = self.first[number : number + 2]
        to, starts = by_user_and_time(gathered(self.place, new["user"]) - first, new["time"], last - first)
        found = {name: np.empty(len(to), dtype) for name, dtype in CODED.items()}
        _put(to, new, self.item, self.kind, *found.values())
        said["at"] = gathered(to, said["at"])
        order = rising(said["at"], len(to))
        return found, {name: gathered(said[name], order) for name in SAID.fields or ()}, starts

    def _old(self, before: History, number: int) -> tuple[tuple[Arrays, Arrays], Arrays, int]:
        """Return what is known of a partition's users: events and what they say, keys and starts, and the
        first one's place.
        """
        events, said, users = (before.folder / n for n in files_of(_whole(number, self.partitions, before)))
        known, of_all, all_said = stored(users, ("key", "start")), stored(events), stored(said)
        # Users stand in the order of their keys: those of a part of the old partition are neighbours.
        part = partition_of(known["key"], self.partitions)
        first, last = np.searchsorted(part, [number, number + 1])
        starts = np.append(known["start"], len(of_all["time"]))
        begin, end = starts[first], starts[last]
        own = {"key": known["key"][first:last], "start": starts[first:last] - begin}
        some = slice(*np.searchsorted(all_said["at"], [begin, end]))
        own_said = {name: array[some] for name, array in all_said.items()}
        own_said["at"] = own_said["at"] - begin
        return ({name: array[begin:end] for name, array in of_all.items()}, own_said), own, int(first)


def _numbered_on(old: pl.Series, more: pl.Series) -> pl.Series:
    """Return the strings of `old`, then those of `more` that are not there, sorted."""
    fresh = more.unique().sort()
    return pl.concat([old, fresh.filter(~fresh.is_in(old.implode()))], rechunk=True)


def _name_users(folder: Path, found: Sequence[pl.DataFrame], new: pl.Series, before: History | None) -> None:
    """Write the users of every partition with their ids: those of the coding, or of before."""
    for number, users in enumerate(found):
        path = folder / files_of(number)[2]
        if path.exists():
            continue  # linked
        source, known = users["source"].to_numpy(), new[:0]
        if before:
            known = before.users(_whole(number, len(found), before))["user_id"]
        place = np.where(source < 0, -1 - source, len(known) + source)
        user_id = pl.concat([known, new]).gather(place).alias("user_id")
        pl.DataFrame([user_id, users["key"], users["start"]]).write_ipc(path)


def _whole(number: int, partitions: int, before: History) -> int:
    """Return the partition that one of more `partitions` was a part of before."""
    return number * before.partitions // partitions


def _places(ids: pl.Series, among: pl.Series) -> np.ndarray:
    """Return where each id stands among others, and behind them -1 for no id."""
    found = ids.cast(pl.Enum(among)).to_physical().cast(pl.Int32).to_numpy()
    return np.append(found, np.int32(-1))


@compiled
def _put(
    to: np.ndarray,
    new: np.ndarray,
    items: np.ndarray,
    kinds: np.ndarray,
    item: np.ndarray,
    kind: np.ndarray,
    time: np.ndarray,
    marks: np.ndarray,
) -> None:
    """Put events, DEALT, where `to` says, with the codes of their items and types."""
    for at in range(len(to)):
        own, place = new[at], to[at]
        item[place], kind[place] = items[own.item], kinds[own.kind]
        time[place], marks[place] = own.time, own.marks
