"""The first stage: sources into the log and the catalogue, what cannot be used set aside with its reason."""

import json
from datetime import UTC, datetime
from typing import Any

import polars as pl

from profiles import manifest
from profiles.schema import REJECTED, ContractError
from profiles.sources import Kind as SourceKind
from profiles.sources import SourceConfig, fingerprint, read
from profiles.store import Acks, Kind
from serving.progress import Progress
from serving.settings import where
from serving.workspace import Workspace

APPENDED = 50_000  # events between two moves of the progress bar


def sources(workspace: Workspace) -> list[tuple[SourceKind, int, SourceConfig]]:
    """Return every source with its kind and its number among those of its kind; the catalogue first."""
    s = workspace.settings
    kinds: list[tuple[SourceKind, tuple[SourceConfig, ...]]]
    kinds = [("items", s.items), ("users", s.users), ("events", s.events)]
    return [(kind, number, source) for kind, found in kinds for number, source in enumerate(found)]


def key(workspace: Workspace) -> str:
    """Hash the sources' settings and content; a file that is not there is told with its line."""
    prints = []
    for kind, number, source in sources(workspace):
        try:
            prints.append(fingerprint(source, workspace.root))
        except ContractError as error:
            place = where(workspace.config, (kind, number, "path"))
            raise ContractError(f"{place}[[{kind}]] {source.label!r}: {error}") from None
    return manifest.content_key(prints)


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Read every source into the store; returns what was counted."""
    store, now = workspace.store, datetime.now(UTC)
    _refuse_mixed_times(workspace)
    rejected, counts = [REJECTED.empty()], {"accepted": 0, "duplicates": 0, "items": 0, "users": 0}
    catalogues: dict[Kind, list[pl.DataFrame]] = {"items": [], "users": []}
    for kind, _, source in sources(workspace):
        with progress.task(f"ingest: read {source.label}"):
            found = read(source, kind, workspace.root, now)
        for line in found.notes:
            progress.say(f"  {line}")
        rejected.append(found.rejected)
        if kind != "events":
            catalogues[kind].append(found.frame)
            continue
        if found.timeless:
            store.mark("timeless", "yes")
        with progress.task(f"ingest: store {source.label}", len(found.frame)) as advance:
            for start in range(0, len(found.frame), APPENDED):
                part = found.frame[start : start + APPENDED]
                acks = store.append(part)
                counts["accepted"] += acks.count("accepted")
                counts["duplicates"] += acks.count("duplicate")
                rejected.append(_conflicts(source.label, part, acks, start))
                advance(len(part))
    for kind, frames in catalogues.items():
        if frames:
            counts[kind] = store.put(kind, _merged(frames, f"{kind[:-1]}_id"))
    refused = pl.concat(rejected)
    workspace.write("rejected", refused)
    aside = f"; {len(refused):,} rows set aside in rejected.parquet" if len(refused) else ""
    progress.say(
        f"ingest: {counts['accepted']:,} new events, {counts['duplicates']:,} known already, "
        f"{counts['items']:,} items and {counts['users']:,} users new or changed{aside}"
    )
    return counts | {"rejected": len(refused)}


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


def _conflicts(source: str, events: pl.DataFrame, acks: Acks, before: int) -> pl.DataFrame:
    """Return as REJECTED the events whose id the store holds with other content.

    `row` counts the source's events that were not rejected, of which `before` were stored already.
    """
    conflict = pl.Series([status == "conflict" for status in acks.statuses], dtype=pl.Boolean)
    lost = events.filter(conflict)
    return REJECTED.conform(
        pl.DataFrame(
            {
                "source": pl.repeat(source, len(lost), dtype=pl.String, eager=True),
                "file": pl.repeat("", len(lost), dtype=pl.String, eager=True),
                "row": conflict.arg_true().cast(pl.Int64) + before + 1,
                "problem": "event_id " + lost["event_id"] + " is in the log with other content",
                "content": pl.Series([json.dumps(r, default=str) for r in lost.to_dicts()], dtype=pl.String),
            }
        )
    )


def _merged(frames: list[pl.DataFrame], key: str) -> pl.DataFrame:
    """Join the rows of several sources by id; where two fill the same attribute, the first wins."""
    merged = frames[0]
    for frame in frames[1:]:
        shared = [c for c in frame.columns if c in merged.columns and c != key]
        merged = merged.join(frame, on=key, how="full", coalesce=True, suffix=" of the next")
        merged = merged.with_columns(pl.coalesce(c, f"{c} of the next").alias(c) for c in shared)
        merged = merged.drop(f"{c} of the next" for c in shared)
    return merged
