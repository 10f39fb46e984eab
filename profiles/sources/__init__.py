"""Sources of a behaviour log, read through a column mapping into EVENTS, ITEMS or USERS.

Nothing is lost silently: every row read is in the frame, among the rejected with its reason, or an
exact duplicate of an event with its own id, which is counted.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from profiles.schema import REJECTED
from profiles.sources.limits import Limits
from profiles.sources.locating import fingerprint, locate
from profiles.sources.preparing import prepare, steps
from profiles.sources.reading import Batch, Reading
from profiles.sources.sandbox import Sandbox
from profiles.sources.source_config import FRAMES, Kind, SourceConfig
from profiles.sources.tally import Tally

__all__ = [
    "FRAMES",
    "Batch",
    "Kind",
    "Limits",
    "Reading",
    "Sandbox",
    "SourceConfig",
    "Tally",
    "fingerprint",
    "locate",
    "prepare",
    "read",
    "steps",
    "stream",
]


def stream(
    source: SourceConfig, kind: Kind, root: Path, now: datetime, sandbox: Sandbox | None = None
) -> Iterator[Batch]:
    """Read a source's files, map and check every row, and yield what is found part by part.

    The first part is given only when all files are found sound; the notes come with the last. ITEMS and
    USERS are one part. `now` is aware; events later than a day after it are rejected. Raises ContractError
    for what the user has to mend, naming the source and the file.

    Memory holds a part (about 32 MiB of the file, at most 250,000 rows) and what is made of it, whatever
    the size of the source; disk holds the source once more, compressed, under the system's temporary
    folder.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="attune-source-"))
        apart = sandbox or stack.enter_context(Sandbox())
        reading = prepare(source, kind, root, now, Path(folder) / "spool", apart)
        if kind != "events":
            yield reading.rows()
            return
        repeats, duplicates = Tally(), 0
        for number in range(reading.parts):
            batch = reading.events(number)
            repeats.merge(batch.repeats)
            duplicates += batch.duplicates
            notes = reading.notes(repeats, duplicates) if number == reading.parts - 1 else []
            yield replace(batch, notes=notes)
            reading.drop(number)
        if not reading.parts:
            yield Batch(FRAMES[kind].empty(), REJECTED.empty(), reading.notes(repeats, 0))


def read(
    source: SourceConfig, kind: Kind, root: Path, now: datetime, sandbox: Sandbox | None = None
) -> Batch:
    """Return everything `stream` gives as one Batch, in memory."""
    parts = list(stream(source, kind, root, now, sandbox))
    return replace(
        parts[-1],
        frame=pl.concat([part.frame for part in parts]),
        rejected=pl.concat([part.rejected for part in parts]),
        origin=pl.concat([part.origin for part in parts]),
        rows=sum(part.rows for part in parts),
        duplicates=sum(part.duplicates for part in parts),
    )
