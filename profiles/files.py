"""Read one file into a frame, and say what is wrong with a file that cannot be read."""

import csv
import json
from pathlib import Path
from typing import Literal

import polars as pl

from profiles.layouts import LAYOUTS, name_header, read_layout
from profiles.schema import ContractError

Format = Literal["auto", "csv", "tsv", "parquet", "jsonl"]

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
# First bytes of files that are often given another suffix.
MAGIC = {b"PAR1": "a Parquet file", b"\x1f\x8b": "packed with gzip", b"PK\x03\x04": "a zip archive"}


def load(
    path: Path, format: Format = "auto", separator: str = "", quotes: bool | None = None
) -> tuple[pl.DataFrame, pl.Series]:
    """Read a file; return it and which of its rows are empty lines (text only).

    In CSV and TSV every column is a string, so that the id 007 stays 007.
    `separator` and `quotes` are for CSV and TSV; left out, CSV fields may be quoted and TSV ones not.
    Raises ContractError for whatever its owner has to mend.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ContractError(f"{path} cannot be read: {error.strerror}") from error
    if not start:
        raise ContractError(f"{path} is empty")
    if format == "auto" and path.name in LAYOUTS:
        return _with_blanks(read_layout(path, LAYOUTS[path.name]))
    known = format if format != "auto" else SUFFIXES.get(path.suffix.lower())
    if known is None:
        raise ContractError(f"the name of {path} does not tell its format; give format = {_choices()}")
    if known == "parquet":
        return _without_blanks(_read_parquet(path, start))
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            raise ContractError(f"{path} is {what}, not {known}; unpack it or give the right format")
    if known == "jsonl":
        return _without_blanks(_read_jsonl(path))
    tabs = known == "tsv"
    quoted = not tabs if quotes is None else quotes
    return _with_blanks(_read_csv(path, separator or ("\t" if tabs else ","), quoted))


def _read_parquet(path: Path, start: bytes) -> pl.DataFrame:
    if start != b"PAR1":
        raise ContractError(
            f"{path} is no Parquet file: it begins with {start!r}; give format = {_choices()}"
        )
    try:
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ContractError(f"{path} is no whole Parquet file: {reason}; fetch or write it again") from error


def _read_csv(path: Path, separator: str, quotes: bool) -> pl.DataFrame:
    quote = '"' if quotes else None
    try:
        frame = pl.read_csv(path, separator=separator, quote_char=quote, infer_schema=False, glob=False)
    except pl.exceptions.PolarsError as error:
        _refuse_undecodable(path)
        _refuse_ragged(path, separator, quotes, None)
        hint = "; if its double quotes are plain characters, give quotes = false" if quotes else ""
        raise ContractError(f"{path} is no {separator!r}-separated file: {_first(error)}{hint}") from error
    # Polars fills a short line with nulls without a word; only a null at the end of a row can be one.
    if frame.width > 1 and frame.to_series(-1).null_count():
        _refuse_ragged(path, separator, quotes, frame)
    return name_header(frame)


def _read_jsonl(path: Path) -> pl.DataFrame:
    try:
        # Its bytes, because polars takes a path with `*` or `[` in it for a pattern.
        return pl.read_ndjson(path.read_bytes(), infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        _refuse_undecodable(path)
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    value = json.loads(line) if line.strip() else {}
                except json.JSONDecodeError as wrong:
                    raise ContractError(f"{path}, line {number} is no JSON: {wrong}") from error
                if not isinstance(value, dict):
                    what = "an array" if isinstance(value, list) else type(value).__name__
                    raise ContractError(
                        f"{path}, line {number} is {what}: each line must be one object"
                    ) from error
        raise ContractError(f"{path} is no JSON Lines file: {_first(error)}") from error


def _refuse_undecodable(path: Path) -> None:
    raw = path.read_bytes()
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ContractError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}, line {line}; "
            "save it as UTF-8"
        ) from error


def _refuse_ragged(path: Path, separator: str, quotes: bool, frame: pl.DataFrame | None) -> None:
    """Find a row with too few or too many fields; with `frame`, one that Polars filled with null."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(
            lines, delimiter=separator, quotechar='"' if quotes else None, quoting=0 if quotes else 3
        )
        try:
            width = len(next(reader))
            for number, fields in enumerate(reader, 1):
                if len(fields) in (0, width) or (
                    frame is not None and frame.to_series(-1)[number - 1] is not None
                ):
                    continue
                where = f"{path}, row {number} (line {reader.line_num})"
                raise ContractError(f"{where}: {len(fields)} fields where the header has {width}")
        except (csv.Error, StopIteration, IndexError):
            return  # this reader and Polars see different rows: no ground to accuse one


def _with_blanks(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    return frame, frame.select(pl.all_horizontal(pl.all().is_null())).to_series()


def _without_blanks(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    return frame, pl.Series([False], dtype=pl.Boolean).new_from_index(0, frame.height)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]


def _choices() -> str:
    return ", ".join(f'"{name}"' for name in dict.fromkeys(SUFFIXES.values()))
