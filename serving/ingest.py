"""The first stage: sources into the log and the catalogue, what cannot be used set aside with its reason.

Every source is read, mapped and screened on disk before anything is stored, so a file that cannot be read
leaves the log as it was. Then events are appended group by group. What is done stands in `.ingest`, by the
fingerprint of each source: an interrupted run goes on there, and ends in the log it would have ended in.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from profiles import manifest
from profiles.schema import REJECTED, ContractError
from profiles.sources import (
    Batch,
    Limits,
    Reading,
    Sandbox,
    SourceConfig,
    Tally,
    fingerprint,
    prepare,
    steps,
)
from profiles.sources import Kind as SourceKind
from profiles.sources.presets import exposures
from profiles.sources.privacy import apply as masked
from profiles.sources.privacy import mask_json
from profiles.store import Acks, Kind
from profiles.versions import merged
from serving.erased import erased
from serving.progress import Progress
from serving.settings import where
from serving.workspace import Workspace

FOLDER = ".ingest"
APPENDED = 50_000  # events, at least, that are appended and remembered together
SEALED, KEPT = 4_000_000, 1_000_000  # events between two sealings, and those that stay unsealed


def sources(workspace: Workspace) -> list[tuple[SourceKind, int, SourceConfig]]:
    """Return every source with its kind and its number among those of its kind; the catalogue first."""
    s = workspace.settings
    kinds: list[tuple[SourceKind, tuple[SourceConfig, ...]]]
    kinds = [("items", s.items), ("users", s.users), ("events", s.events)]
    return [(kind, number, source) for kind, found in kinds for number, source in enumerate(found)]


def key(workspace: Workspace) -> str:
    """Hash the sources' settings and content; a file that is not there is told with its line."""
    return manifest.content_key(_prints(workspace), workspace.settings.privacy.model_dump())


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Read every source into the store; returns what was counted.

    Memory holds some parts of a source (profiles.sources.stream) and the catalogue, whatever the size of
    the log; disk holds the sources once more, compressed, until all is stored.
    """
    _refuse_mixed_times(workspace)
    works = _prepared(workspace, progress, workspace.settings.limits)
    counts = {"accepted": 0, "duplicates": 0, "exposures": 0, "items": 0, "users": 0}
    catalogues: dict[Kind, list[pl.DataFrame]] = {"items": [], "users": []}
    for work in works:
        if work.reading.kind != "events":
            batch = work.reading.rows()
            frame = batch.frame
            if work.reading.kind == "users":
                frame = frame.filter(~erased(workspace.folder, frame))
            catalogues[work.reading.kind].append(frame)
            work.keep(0, batch.rejected)
            notes = batch.notes
        else:
            state = _append(work, workspace, progress)
            counts["accepted"] += state.accepted
            counts["duplicates"] += state.duplicates
            notes = work.reading.notes(Tally(state.repeats), state.repeated)
        for line in notes:
            progress.say(f"  {line}")
    for kind, frames in catalogues.items():
        if frames:
            counts[kind] = workspace.store.put(kind, merged(frames, f"{kind[:-1]}_id"))
    counts["exposures"] = _store_exposures(workspace, progress)
    refused = _write_rejected(workspace.folder, works)
    shutil.rmtree(workspace.folder / FOLDER, ignore_errors=True)
    aside = f"; {refused:,} rows set aside in rejected.parquet" if refused else ""
    progress.say(
        f"ingest: {counts['accepted']:,} new events, {counts['duplicates']:,} known already, "
        f"{counts['items']:,} items and {counts['users']:,} users new or changed{aside}"
    )
    return counts | {"rejected": refused}


def _store_exposures(workspace: Workspace, progress: Progress) -> int:
    """Store what the data sets say was shown, each data set once; returns how many.

    A batch and the count of batches are stored together: a run that was killed goes on behind it.
    """
    stored = 0
    for dataset in workspace.settings.dataset:
        name = f"shown {dataset.preset} {dataset.path}"
        done = int(workspace.exposures.marks().get(name, 0))
        for number, frame in enumerate(exposures(dataset.preset, dataset.path, workspace.root)):
            if number >= done:
                workspace.exposures.append_exposures(frame, {name: str(number + 1)})
                stored += len(frame)
    if stored:
        progress.say(f"ingest: {stored:,} exposures")
    return stored


@dataclass
class _State:
    """How far the events of a source are stored, and what has come of them."""

    next: int = 0  # the part to go on with
    accepted: int = 0
    duplicates: int = 0  # that the log had already
    repeated: int = 0  # that the source has more than once
    repeats: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class _Work:
    """A source that is mapped and screened, and the folder where what is done with it is remembered."""

    reading: Reading
    folder: Path

    def keep(self, number: int, rejected: pl.DataFrame) -> None:
        """Keep the rejected rows of the parts from `number`, for the file that is written at the end."""
        path = self.folder / f"aside-{number:06}.arrow"
        with path.open("wb") as file:
            rejected.write_ipc(file, compression="lz4")

    def kept(self) -> Iterable[pl.DataFrame]:
        """Yield what was kept, in order."""
        for path in sorted(self.folder.glob("aside-*.arrow")):
            yield pl.read_ipc(path.read_bytes())

    def state(self) -> _State:
        """Return how far it is."""
        try:
            return _State(**json.loads((self.folder / "state.json").read_bytes()))
        except FileNotFoundError:
            return _State()

    def remember(self, state: _State) -> None:
        """Remember how far it is."""
        manifest.write_atomically(self.folder / "state.json", json.dumps(asdict(state)).encode())


def _prepared(workspace: Workspace, progress: Progress, limits: Limits) -> list[_Work]:
    """Read, map and screen every source that is not yet; what is left of other sources is swept away."""
    now, folder = datetime.now(UTC), workspace.folder / FOLDER
    asked = sources(workspace)
    names = [
        manifest.content_key(kind, print, limits.model_dump())
        for (kind, _, _), print in zip(asked, _prints(workspace), strict=True)
    ]
    for left in folder.glob("*"):
        if left.name not in names:
            shutil.rmtree(left)
    works = []
    with Sandbox(limits) as sandbox:
        for (kind, _, source), name in zip(asked, names, strict=True):
            with progress.task(f"ingest: read {source.label}", steps(source, workspace.root)) as advance:
                place = folder / name
                reading = prepare(source, kind, workspace.root, now, place / "spool", sandbox, advance)
            works.append(_Work(reading, place))
    return works


def _append(work: _Work, workspace: Workspace, progress: Progress) -> _State:
    """Append the events of a source from where it stopped last time.

    What was before its user's erasure stays out, and personal data is masked where that is asked for. Ids
    are those of the rows as they stand in the source: masking later makes conflicts, never doubles.
    """
    reading, state, store = work.reading, work.state(), workspace.store
    if reading.about.timeless:
        store.mark("timeless", "yes")
    rows = [part.rows for part in reading.about.parts]
    unsealed = 0
    with progress.task(f"ingest: store {reading.source.label}", sum(rows)) as advance:
        advance(sum(rows[: state.next]))
        while state.next < reading.parts:
            first, group = state.next, list[Batch]()
            while state.next < reading.parts and sum(len(batch.frame) for batch in group) < APPENDED:
                group.append(reading.events(state.next))
                state.next += 1
            events = pl.concat([batch.frame for batch in group], rechunk=True)
            origin = pl.concat([batch.origin for batch in group])
            here = ~erased(workspace.folder, events)
            events, origin = masked(events.filter(here), workspace.settings.privacy), origin.filter(here)
            acks = store.append(events)
            lost = _conflicts(reading.source.label, events, origin, acks)
            aside = pl.concat([*(batch.rejected for batch in group), lost])
            if workspace.settings.privacy.mask:
                content = mask_json(aside["content"], workspace.settings.privacy.kinds)
                aside = aside.with_columns(content.alias("content"))
            work.keep(first, aside)
            repeats = Tally(state.repeats)
            for batch in group:
                repeats.merge(batch.repeats)
            state.repeats = repeats.plain()
            state.repeated += sum(batch.duplicates for batch in group)
            state.accepted += acks.count("accepted")
            state.duplicates += acks.count("duplicate")
            work.remember(state)
            for number in range(first, state.next):
                reading.drop(number)
            advance(sum(rows[first : state.next]))
            unsealed += acks.count("accepted")
            if unsealed >= SEALED:
                store.seal(keep=KEPT)
                unsealed = 0
    return state


def _prints(workspace: Workspace) -> list[str]:
    prints = []
    for kind, number, source in sources(workspace):
        try:
            prints.append(fingerprint(source, workspace.root))
        except ContractError as error:
            place = where(workspace.config, (kind, number, "path" if source.url is None else "url"))
            raise ContractError(f"{place}[[{kind}]] {source.label!r}: {error}") from None
    return prints


def _refuse_mixed_times(workspace: Workspace) -> None:
    """Refuse a log whose times are partly moments and partly only an order."""
    orders = [(n, "order" in s.columns) for kind, n, s in sources(workspace) if kind == "events"]
    marks, held = workspace.store.marks(), workspace.store.watermark() > 0
    before = marks.get("timeless") == "yes" if held else orders[0][1]
    for number, order in orders:
        if order != before:
            place = where(workspace.config, ("events", number))
            here, there = ("an order", "times") if order else ("times", "an order")
            raise ContractError(
                f"{place}this source has {here} and the rest of the log has {there}; "
                "one log is one or the other: use another workspace"
            )


def _conflicts(source: str, events: pl.DataFrame, origin: pl.DataFrame, acks: Acks) -> pl.DataFrame:
    """Return as REJECTED the events whose id the store holds with other content."""
    conflict = pl.Series([status == "conflict" for status in acks.statuses], dtype=pl.Boolean)
    lost = events.filter(conflict)
    return REJECTED.conform(
        origin.filter(conflict).select(
            pl.lit(source).alias("source"),
            "file",
            "row",
            ("event_id " + lost["event_id"] + " is in the log with other content").alias("problem"),
            pl.Series("content", [json.dumps(r, default=str) for r in lost.to_dicts()], dtype=pl.String),
        )
    )


def _write_rejected(folder: Path, works: Iterable[_Work]) -> int:
    """Replace rejected.parquet by what all sources have set aside, a part at a time; return how much."""
    place, count = folder / "rejected.parquet", 0
    handle, name = tempfile.mkstemp(prefix=f".{place.name}-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            with pq.ParquetWriter(file, REJECTED.empty().to_arrow().schema, compression="zstd") as writer:
                for rejected in (part for work in works for part in work.kept() if part.height):
                    writer.write_table(rejected.to_arrow())
                    count += rejected.height
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(place)
    finally:
        Path(name).unlink(missing_ok=True)
    return count
