"""Files of texts that commands name: CSV, TSV, Parquet or JSON Lines, read as the log's own files are."""

from pathlib import Path

import polars as pl

from profiles.schema import ContractError
from profiles.sources.files import SUFFIXES, Reader, bare, parse
from profiles.sources.limits import Limits

TEXT = (pl.String, pl.Categorical, pl.Enum)


def table(path: Path) -> pl.DataFrame:
    """Return a file's rows; of CSV and TSV every column is text, and an empty cell is null.

    Raises ContractError naming the file and, where one can be blamed, its line.
    """
    kind = SUFFIXES.get(bare(path).suffix.lower())
    if kind is None:
        raise ContractError(f"{path}: a file is expected whose name ends with one of {', '.join(SUFFIXES)}")
    parts = list(parse(path, Reader(kind, quotes=True), Limits()))
    if not parts or not parts[0].width:
        raise ContractError(f"{path}: there is nothing but empty lines")
    return pl.concat(parts, how="vertical_relaxed")


def column_of(frame: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """Return a column of a file's rows; raises ContractError where it has none of that name."""
    if name not in frame.columns:
        raise ContractError(f"{path}: there is no column {name!r}; it has {', '.join(frame.columns)}")
    return frame[name]


def texts_of(frame: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """Return a column of texts, null where there is none; raises ContractError where it holds no texts."""
    column = column_of(frame, name, path)
    if column.dtype not in TEXT:
        raise ContractError(f"{path}: column {name!r} holds {column.dtype}, not text")
    return column.cast(pl.String)


def numbers_of(frame: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """Return a column of numbers, null where there is none; raises ContractError naming what is no number."""
    column = column_of(frame, name, path)
    numbers = column.cast(pl.Float64, strict=False)
    wrong = (numbers.is_null() & column.is_not_null()).arg_true()
    if len(wrong):
        row = wrong[0]
        raise ContractError(f"{path}: row {row + 1} of column {name!r} is no number: {column[row]!r}")
    return numbers
