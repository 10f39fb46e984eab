"""Files of a behaviour log, read through a column mapping into EVENTS, ITEMS or USERS.

Nothing is lost silently: every row read is in the frame, among the rejected with its reason, or an
exact duplicate of an event with its own id, which is counted.
"""

import glob
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from profiles.casting import TimeUnit
from profiles.events import assign_ids
from profiles.files import Format, load
from profiles.mapping import Columns, Name, complete
from profiles.schema import AHEAD, EVENTS, ITEMS, REJECTED, USERS, ContractError, Frame
from profiles.screening import (
    FILE,
    ROW,
    Screened,
    convert,
    note,
    refuse_repeated_events,
    refuse_repeated_ids,
    rejected,
    screen_events,
    screen_rows,
)

Kind = Literal["events", "items", "users"]
FRAMES: dict[Kind, Frame] = {"events": EVENTS, "items": ITEMS, "users": USERS}
VARIABLE = re.compile(r"\$\{(\w+)\}")


class SourceConfig(BaseModel):
    """One table `[[events]]`, `[[items]]` or `[[users]]` of attune.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(
        None,
        description="part of event ids, so a moved file adds nothing twice; default: stem of the first path",
        min_length=1,
        max_length=200,
    )
    path: Name | Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)] = Field(
        description="a file, or alternatives of which the first that exists is read; may be a glob, ${VAR} "
        "is expanded, relative paths start at the configuration's folder",
    )
    format: Format = Field("auto", description="auto: by the file's name")
    separator: str = Field("", description="in CSV, where it is neither comma nor tab", max_length=1)
    quotes: bool | None = Field(
        None, description="whether double quotes enclose CSV fields; default: yes in csv, no in tsv"
    )
    optional: bool = Field(False, description="whether a missing file is skipped with a note")
    time_unit: TimeUnit = Field(
        "auto",
        description="of times; auto: strings are ISO 8601, numbers are s, ms, us or ns by their median",
    )
    columns: Columns = Field(
        default_factory=dict,
        description="what fills each column of the frame; one left out takes the source's of the same name",
    )
    attributes: tuple[Name, ...] = Field(
        (),
        description="further columns of items or users, kept under their own names and types",
        max_length=1000,
    )

    @property
    def label(self) -> str:
        """The name, given or taken from the first path."""
        return self.name or Path(self.paths[0]).stem

    @property
    def paths(self) -> tuple[str, ...]:
        """The alternatives, as written."""
        return (self.path,) if isinstance(self.path, str) else self.path


@dataclass(frozen=True)
class Batch:
    """What one source gave. `rows` read = frame + rejected + `duplicates`."""

    frame: pl.DataFrame
    rejected: pl.DataFrame
    notes: list[str] = field(default_factory=list)
    timeless: bool = False
    files: list[Path] = field(default_factory=list)
    rows: int = 0
    duplicates: int = 0


def read(source: SourceConfig, kind: Kind, root: Path, now: datetime) -> Batch:
    """Read a source's files, map and check every row.

    `now` is aware; events later than a day after it are rejected. Raises ContractError for what the
    user has to mend, naming the source and the file.
    """
    try:
        files, notes = locate(source, root)
        return _read(source, kind, files, notes, now)
    except ContractError as error:
        raise ContractError(f"[[{kind}]] {source.label!r}: {error}") from error


def fingerprint(source: SourceConfig, root: Path) -> str:
    """Return a SHA-256 of the source's settings, its files' names and their content."""
    files, _ = locate(source, root)
    digest = sha256(source.model_dump_json().encode())
    for file in files:
        with file.open("rb") as content:
            digest.update(f"\n{file.name}\n{file_digest(content, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def locate(source: SourceConfig, root: Path) -> tuple[list[Path], list[str]]:
    """Return the files of the first path that exists, and a note where an optional one does not."""
    tried: list[str] = []
    missing: set[str] = set()
    for path in source.paths:
        unset = [name for name in VARIABLE.findall(path) if name not in os.environ]
        if unset:
            if unset[0] not in missing:  # told once for all alternatives
                missing.add(unset[0])
                tried.append(
                    f"{path} names ${{{unset[0]}}}, which is not set; set it to the folder or file meant"
                )
            continue
        file = root / Path(VARIABLE.sub(lambda found: os.environ[found[1]], path)).expanduser()
        if file.is_dir():
            raise ContractError(f"{file} is a directory; name its files, for example {file}/*.parquet")
        if file.exists():
            return [file], []
        pattern = VARIABLE.sub(lambda found: glob.escape(os.environ[found[1]]), path)
        matches = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207 (it may be absolute)
        if files := sorted(root / match for match in matches if (root / match).is_file()):
            return files, []
        tried.append(f"there is no file {file}")
    if source.optional:
        return [], [f"{source.label} is skipped: {'; '.join(tried)}"]
    raise ContractError("; ".join(tried))


def _read(source: SourceConfig, kind: Kind, files: list[Path], notes: list[str], now: datetime) -> Batch:
    frame = FRAMES[kind]
    if source.attributes and kind == "events":
        raise ContractError("attributes are for items and users; what else an event has goes into properties")
    names = [str(file) for file in files]
    timeless = kind == "events" and "order" in source.columns
    raws: list[pl.DataFrame] = []
    parts: list[Screened] = []
    count = 0
    for place, file in enumerate(files):
        raw, blank = load(file, source.format, source.separator, source.quotes)
        try:
            work = convert(
                raw, complete(source.columns, source.attributes, frame, raw), frame, source.time_unit
            )
        except ContractError as error:
            raise ContractError(f"{file}: {error}") from error
        work = work.with_columns(
            pl.lit(place, pl.Int32).alias(FILE), pl.int_range(1, pl.len() + 1).alias(ROW)
        )
        if blank.any():
            notes.append(
                f"{file}, row {blank.arg_true()[0] + 1}: an empty line ({blank.sum():,} in all); skipped"
            )
            work = work.filter(~blank)
        count += work.height
        raws.append(raw)
        parts.append(
            screen_events(work, now + AHEAD, timeless)
            if kind == "events"
            else screen_rows(work, frame.key[0])
        )
    if not parts:
        return Batch(frame.empty(), REJECTED.empty(), notes)
    if not count:
        raise ContractError(f"{', '.join(names[:3])}: no rows")

    kept = pl.concat([part.rows for part in parts], how="diagonal_relaxed")
    if kind == "events":
        last = refuse_repeated_events(kept)
        kept = assign_ids(last.rows, source.label)
    else:
        last = refuse_repeated_ids(kept, [key for key in (frame.key[0], "valid_from") if key in kept.columns])
        kept = last.rows
    refused = [found for part in (*parts, last) for found in part.refused]
    mended = [found for part in parts for found in part.mended]
    notes += [note(names, found, "left out") for found in refused]
    notes += [note(names, found, "kept without it") for found in mended]
    if last.repeated:
        notes.append(
            f"{source.label}: rows that repeat an event_id and its content: {last.repeated:,}; kept once"
        )
    return Batch(
        frame.conform(kept.drop(FILE, ROW)),
        rejected(source.label, names, raws, refused),
        notes,
        timeless,
        files,
        count,
        last.repeated,
    )
