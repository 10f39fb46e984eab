"""Read one file in frames of bounded size, and say what is wrong with a file that cannot be read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from profiles.schema import ContractError
from profiles.sources import unpacking
from profiles.sources.columnar import read_parquet
from profiles.sources.delimited import read_delimited
from profiles.sources.jsonlines import read_jsonl
from profiles.sources.layouts import LAYOUTS, read_layout
from profiles.sources.limits import Limits
from profiles.sources.unpacking import Unpacked

Format = Literal["auto", "csv", "tsv", "parquet", "jsonl"]

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
ROWS = 250_000  # of one frame


@dataclass(frozen=True)
class Reader:
    """How a source says its files are written. Left out, CSV fields may be quoted and TSV ones not."""

    format: Format = "auto"
    separator: str = ""
    quotes: bool | None = None
    layout: str | None = None  # one of presets_layouts


def is_text(path: Path, reader: Reader) -> bool:
    """Whether a row of nothing is an empty line of the file."""
    if reader.layout is not None:
        return False
    layout = reader.format == "auto" and bare(path).name in LAYOUTS
    return layout or _format(path, reader.format) in ("csv", "tsv")


def parse(
    path: Path, reader: Reader, limits: Limits, consumed: Callable[[int], None] = lambda _: None
) -> Iterator[pl.DataFrame]:
    """Yield a file's rows in order, where it has none a frame without; `consumed` is told how far it is read.


    Raises ContractError for whatever its owner has to mend.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ContractError(f"{path} cannot be read: {error.strerror}") from error
    if not start:
        raise ContractError(f"{path} is empty")
    header, given = None, False
    for frame in _frames(path, reader, limits, start, consumed):
        header = frame if header is None else header
        for begin in range(0, frame.height, ROWS):
            part = frame[begin : begin + ROWS] if frame.height > ROWS else frame
            _refuse_large(path, part, limits)
            given = True
            yield part
    if header is not None and not given:
        yield header


def _frames(
    path: Path, reader: Reader, limits: Limits, start: bytes, consumed: Callable[[int], None]
) -> Iterator[pl.DataFrame]:
    if reader.layout is not None:
        from profiles.sources.presets_layouts import scan
        from profiles.sources.presets_read import File

        yield from scan(File(path, limits, consumed), reader.layout)
        return
    layout = LAYOUTS.get(bare(path).name) if reader.format == "auto" else None
    known = "auto" if layout else _format(path, reader.format)
    if known == "parquet":
        if start != b"PAR1":
            advice = f"; give format = {_choices()}" if reader.format == "auto" else ""
            raise ContractError(f"{path} is no Parquet file: it begins with {start!r}{advice}")
        yield from read_parquet(path, limits, consumed)
        return
    file = Unpacked(path, known, limits, consumed)
    if layout:
        yield from read_layout(file, Unpacked(path, known, limits, consumed), layout, limits)
    elif known == "jsonl":
        yield from read_jsonl(file, Unpacked(path, known, limits, consumed), limits)
    else:
        tabs = known == "tsv"
        quoted = not tabs if reader.quotes is None else reader.quotes
        yield from read_delimited(file, reader.separator or ("\t" if tabs else ","), quoted, limits)


def bare(path: Path) -> Path:
    """Return a path without the suffix of its packing."""
    return path.with_suffix("") if path.suffix.lower() in unpacking.SUFFIXES else path


def _format(path: Path, format: Format) -> Format:
    known = format if format != "auto" else SUFFIXES.get(bare(path).suffix.lower())
    if known is None:
        raise ContractError(f"the name of {path} does not tell its format; give format = {_choices()}")
    return known


def _refuse_large(path: Path, frame: pl.DataFrame, limits: Limits) -> None:
    """Refuse a value that no event, item or user can need."""
    for column in frame:
        if column.dtype == pl.String:
            sizes = column.str.len_bytes()
        elif column.dtype == pl.Binary:
            sizes = column.bin.size()
        else:
            continue
        largest = sizes.max()
        if isinstance(largest, int) and largest > limits.cell:
            raise ContractError(
                f"{path}: a value of column {column.name!r} has {largest:,} bytes, more than "
                f"limits.cell_mb = {limits.cell_mb}"
            )


def _choices() -> str:
    return ", ".join(f'"{name}"' for name in dict.fromkeys(SUFFIXES.values()))
