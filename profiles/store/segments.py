"""Sealed segments: closed ranges of the log as checksummed Parquet, one folder each, never changed.

    <folder>/segments/events-1-1000000-0/
        month=2024-01/part.parquet   the rows of a UTC month, zstd, in the order they were committed
        ids.npy, users.npy, …        which rows an event id or a user stands in (`sidecar`)
        manifest.json                SHA-256 of each file

A row's number counts through the months in the manifest's order. A segment counts only once a store has
registered it in its database; a folder that no store has registered was left by a kill and is swept away.
Files are hashed before they are parsed for the first time, and again when they look changed.
"""

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from profiles import manifest
from profiles.events import event_digest
from profiles.schema import EVENTS, ContractError
from profiles.store import rows, sidecar
from profiles.store.removals import Removal, kept
from profiles.store.rows import LOGS, Log
from profiles.store.sidecar import Array, Sidecar

MOST_ROWS = 1_000_000  # in a segment
MOST_BYTES = 256 << 20  # of them in memory: a segment is read whole where its months overlap
GROUP = 8_192  # rows that are decoded to read one
MOST_OPEN = 1_000  # sidecars mapped at once
MATCHED: dict[Log, tuple[str, ...]] = {  # what a removal looks at
    "events": ("user_id", "event_type", "timestamp"),
    "exposures": ("user_id", "timestamp"),
}


@dataclass(frozen=True)
class Segment:
    """What a store registers of a segment."""

    name: str
    kind: Log
    first: int  # the sequence numbers it stands for; what was taken out has left gaps
    last: int
    rows: int
    earliest: int  # microseconds since 1970
    latest: int
    seal: str  # SHA-256 of its manifest, which holds those of its files


class Segments:
    """The sealed segments in a folder; the store knows which of them count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "segments"
        self._checked: dict[Path, tuple[int, int, int]] = {}
        self._manifests: dict[str, dict[str, Any]] = {}
        self._sidecars: dict[str, Sidecar] = {}

    def write(self, kind: Log, frame: pl.DataFrame, revision: int, span: tuple[int, int]) -> Segment:
        """Write rows with their `seq`, ascending, as the segment of a range of sequence numbers; durable.

        The store's revision in the name tells this content from what the same range held before.
        """
        name = f"{kind}-{span[0]}-{span[1]}-{revision}"
        frame = frame.select(*LOGS[kind].columns, "seq")
        months = frame.with_columns(pl.col("timestamp").dt.strftime("%Y-%m").alias("month")).partition_by(
            "month", maintain_order=True, include_key=False, as_dict=True
        )
        parts = {str(month): part for (month,), part in sorted(months.items())}
        about = {"kind": kind, "span": span, "months": {month: len(part) for month, part in parts.items()}}
        with manifest.building(self.folder / name, about) as folder:
            for month, part in parts.items():
                path = folder / _part(month)
                path.parent.mkdir()
                part.write_parquet(path, compression="zstd", row_group_size=GROUP)
            sidecar.indexed(pl.concat(parts.values()), kind).write(folder)
        times = frame["timestamp"].to_physical().to_numpy()
        seal = manifest.sha256(self.folder / name / manifest.MANIFEST)
        return Segment(name, kind, *span, len(frame), int(times.min()), int(times.max()), seal)

    def read(
        self,
        segment: Segment,
        from_seq: int = 0,
        to_seq: int | None = None,
        columns: Sequence[str] | None = None,
        removals: Sequence[Removal] = (),
    ) -> Iterator[pl.DataFrame]:
        """Yield the columns and `seq` of the rows in (from_seq, to_seq] that no removal names, in order.

        Raises FileNotFoundError where the segment has been replaced meanwhile.
        """
        wanted = list(dict.fromkeys([*(LOGS[segment.kind].columns if columns is None else columns), "seq"]))
        needed = list(dict.fromkeys([*wanted, *(MATCHED[segment.kind] if removals else ())]))
        files = [self._file(segment, _part(month)) for month in self._manifest(segment)["months"]]
        lazy = pl.scan_parquet(files, hive_partitioning=False, glob=False)
        if from_seq >= segment.first:
            lazy = lazy.filter(pl.col("seq") > from_seq)
        if to_seq is not None and to_seq < segment.last:
            lazy = lazy.filter(pl.col("seq") <= to_seq)
        frame = kept(lazy.select(needed).collect(), segment.kind, removals).select(wanted)
        yield from (frame.sort("seq") if len(files) > 1 else frame).iter_slices(rows.CHUNK)

    def find(
        self,
        segments: Sequence[Segment],
        ids: Sequence[str],
        digests: Sequence[str],
        removals: Sequence[Removal] = (),
    ) -> dict[str, str]:
        """Return the digest of each of these event ids that a segment of events holds.

        `digests` are those of the events that came with the ids: where the segment holds that very event,
        which is what a retry finds, its row is not read.
        """
        if not segments or not len(ids):
            return {}
        asked, hashes = list(ids), np.unique(sidecar.hashed(ids))
        twins = {sidecar.twin(*pair): pair for pair in zip(ids, digests, strict=True)}
        found: dict[str, str] = {}
        for segment in segments:
            index = self._sidecar(segment)
            places = index.places_of_ids(hashes)
            if not removals:  # else a row must say whether it is hidden
                same = [twins.get(bytes(index.twins[place])) for place in places]
                found.update(pair for pair in same if pair)
                places = places[[pair is None for pair in same]]
            if len(places):
                held = kept(self._rows(segment, index.id_rows[places]), "events", removals)
                held = held.filter(pl.col("event_id").is_in(asked))  # not another id of the same hash
                found.update(zip(held["event_id"], event_digest(held), strict=True))
        return found

    def latest(
        self,
        segments: Sequence[Segment],
        user_id: str,
        n: int,
        until: int,
        after: int = 0,
        removals: Sequence[Removal] = (),
    ) -> pl.DataFrame:
        """Return a user's latest n events at or before `until` with `seq` above `after`, oldest first.

        Events of one moment are in the order they were committed.
        """
        asked = n
        while True:
            places, cut_off = self._newest(segments, user_id, asked, until, after)
            found = pl.concat(
                [
                    pl.DataFrame(schema={**EVENTS.schema, "seq": pl.Int64}),
                    *(kept(self._rows(s, at), "events", removals) for s, at in places),
                ]
            )
            found = found.filter(pl.col("user_id") == user_id, pl.col("seq") > after)
            if len(found) >= n or not cut_off:
                return found.sort("timestamp", "seq").tail(n)
            asked *= 4  # some of the newest were hidden, or another user's of the same hash

    def without(
        self, segment: Segment, removals: Sequence[Removal], revision: int
    ) -> tuple[Segment | None, list[int]]:
        """Return the segment of what is left, None for nothing, and how many rows each removal took.

        Where none took any it is the same segment; the one before stays until it is swept away.
        """
        none = [0] * len(removals)
        if not any(self._may_touch(segment, removal) for removal in removals):
            return segment, none
        frame = pl.concat(self.read(segment))
        first = [pl.when(r.matches(segment.kind)).then(pl.lit(n)) for n, r in enumerate(removals)]
        taken = frame.select(pl.coalesce(first)).to_series()
        counts = dict(taken.drop_nulls().value_counts().rows())
        rest = frame.filter(taken.is_null())
        if not counts:
            return segment, none
        removed = [counts.get(n, 0) for n in range(len(removals))]
        if not len(rest):
            return None, removed
        return self.write(segment.kind, rest, revision, (segment.first, segment.last)), removed

    def copy(self, segment: Segment, source: "Segments") -> None:
        """Copy a segment from another folder; every file is checked, and durable when this returns."""
        origin = source.folder / segment.name
        about = {k: v for k, v in manifest.verify(origin).items() if k not in ("files", manifest.SEAL)}
        with manifest.building(self.folder / segment.name, about) as folder:
            shutil.copytree(
                origin, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(manifest.MANIFEST)
            )
        self._manifest(segment)  # the same bytes have the same seal

    def sweep(self, registered: Collection[str]) -> None:
        """Remove every folder that is not registered: a store calls it where no other can be writing one."""
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if path.name not in registered:
                shutil.rmtree(path)
        self._manifests = {n: m for n, m in self._manifests.items() if n in registered}
        self._sidecars = {n: s for n, s in self._sidecars.items() if n in registered}
        self._checked = {
            p: s for p, s in self._checked.items() if p.relative_to(self.folder).parts[0] in registered
        }

    def _newest(
        self, segments: Sequence[Segment], user_id: str, n: int, until: int, after: int
    ) -> tuple[list[tuple[Segment, Array]], bool]:
        """Return where the n newest rows of a user may stand, and whether there may be more."""
        key = sidecar.hashed([user_id])[0]
        numbers, times, places = [], [], []
        total = 0
        for number, segment in enumerate(segments):
            if segment.last <= after or segment.earliest > until:
                continue
            index = self._sidecar(segment)
            found = index.rows_of_user(key, until)
            total += found.stop - found.start
            newest = slice(max(found.start, found.stop - n), found.stop)
            times.append(index.user_times[newest])
            places.append(index.user_rows[newest])
            numbers.append(np.full(len(times[-1]), number))
        if not total:
            return [], False
        moments = np.concatenate(times)
        chosen = np.argsort(moments, kind="stable")[max(0, len(moments) - n) :]
        owners, rows_ = np.concatenate(numbers)[chosen], np.concatenate(places)[chosen]
        return [(segments[k], rows_[owners == k]) for k in np.unique(owners)], total > n

    def _may_touch(self, segment: Segment, removal: Removal) -> bool:
        if removal.users is not None:
            return self._sidecar(segment).may_hold(sidecar.hashed(removal.users))
        return removal.cut is not None and segment.earliest < removal.cut

    def _rows(self, segment: Segment, places: Array) -> pl.DataFrame:
        """Return the rows with these numbers, with `seq`, decoding only the row groups that hold them."""
        runs: list[tuple[pl.LazyFrame, Array]] = []
        start = 0
        for month, size in self._manifest(segment)["months"].items():
            wanted = np.sort(places[(places >= start) & (places < start + size)]) - start
            start += size
            if not len(wanted):
                continue
            lazy = pl.scan_parquet(self._file(segment, _part(month)), hive_partitioning=False, glob=False)
            near = np.split(wanted, np.flatnonzero(np.diff(wanted // GROUP) > 1) + 1)
            runs += [(lazy.slice(int(run[0]), int(run[-1] - run[0]) + 1), run - run[0]) for run in near]
        found = pl.collect_all([lazy for lazy, _ in runs])
        return pl.concat([frame[inside] for frame, (_, inside) in zip(found, runs, strict=True)])

    def _sidecar(self, segment: Segment) -> Sidecar:
        known = self._sidecars.get(segment.name)
        if known is None:
            known = sidecar.opened(self._file(segment, f"{name}.npy") for name in Sidecar._fields)
            if len(self._sidecars) == MOST_OPEN:  # those of segments that were replaced are among them
                self._sidecars.clear()
            self._sidecars[segment.name] = known
        return known

    def _manifest(self, segment: Segment) -> dict[str, Any]:
        known = self._manifests.get(segment.name)
        if known is None:
            path = self.folder / segment.name / manifest.MANIFEST
            if manifest.sha256(path) != segment.seal:
                raise ContractError(f"{path}: its content is not what was sealed (SHA-256 differs)")
            known = self._manifests[segment.name] = manifest.read(path.parent)
        return known

    def _file(self, segment: Segment, name: str) -> Path:
        """Return the path of a file whose content is what was sealed."""
        path = self.folder / segment.name / name
        stat = path.stat()
        looks = stat.st_mtime_ns, stat.st_size, stat.st_ino
        if self._checked.get(path) != looks:
            if manifest.sha256(path) != self._manifest(segment)["files"].get(name):
                raise ContractError(f"{path}: its content is not what was sealed (SHA-256 differs)")
            self._checked[path] = looks
        return path


def batched(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Join consecutive frames into as few as a segment's bounds allow."""
    parts: list[pl.DataFrame] = []
    size = bytes_ = 0
    for frame in frames:
        parts.append(frame)
        size += len(frame)
        bytes_ += int(frame.estimated_size())
        if size + rows.CHUNK > MOST_ROWS or bytes_ >= MOST_BYTES:
            yield pl.concat(parts)
            parts, size, bytes_ = [], 0, 0
    if size:
        yield pl.concat(parts)


def lost(error: FileNotFoundError) -> ContractError:
    """Say what it means that a file of a segment which counts is not there."""
    return ContractError(f"{error.filename or error}: missing, though the log needs it; restore a backup")


def _part(month: str) -> str:
    return f"month={month}/part.parquet"
