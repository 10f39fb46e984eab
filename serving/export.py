"""Frames as files for other programs: CSV for a spreadsheet, JSON Lines and Parquet as they are.

A spreadsheet takes a cell that begins with one of FORMULA for a formula and runs it, and the ids and texts
of a log are whatever strangers wrote. So in CSV such a cell gets an apostrophe before it (OWASP, "CSV
Injection"), which a spreadsheet does not show; lists are joined with "|", as sources can split them.
Erasure does not reach a file that has left the workspace.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from profiles.schema import ContractError
from serving.labels import profiles
from serving.workspace import Workspace

FORMULA = r"^[=+\-@＝＋－＠\t\r\n]"
FRAMES: Mapping[str, Callable[[Workspace], pl.DataFrame]] = {
    "users": lambda w: profiles(w, "user"),
    "items": lambda w: profiles(w, "item"),
    "events": lambda w: w.snapshot.frame("events"),
    "interactions": lambda w: w.snapshot.frame("interactions"),
    **{
        name: lambda w, name=name: w.read(name)  # type: ignore[misc]
        for name in ("recommendations", "contributions", "metrics", "rejected")
    },
}
WRITERS: Mapping[str, Callable[[pl.DataFrame, str], None]] = {
    ".csv": lambda frame, path: cells(frame).write_csv(path),
    ".tsv": lambda frame, path: cells(frame).write_csv(path, separator="\t"),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
    ".parquet": lambda frame, path: frame.write_parquet(path),
}


def export(workspace: Workspace, name: str, path: Path) -> int:
    """Write one of FRAMES to a file whose ending says how; returns its rows.

    The file appears whole. Memory: the frame.
    """
    if name not in FRAMES:
        raise ContractError(f"there is no frame {name!r} to export; there are {', '.join(FRAMES)}")
    if path.suffix not in WRITERS:
        raise ContractError(f"{path}: what it is to be is told by its ending: {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise ContractError(f"{path.parent}: no such folder")
    frame = FRAMES[name](workspace)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        WRITERS[path.suffix](frame, part)
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
    return len(frame)


def cells(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame for CSV: nothing nested, and no text that a spreadsheet would run."""
    safe = [_safe(_flat(frame[name])).alias(_safe(pl.Series([name]))[0]) for name in frame.columns]
    return pl.DataFrame(safe)


def _flat(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if isinstance(column.dtype, pl.List):
        column = column.cast(pl.List(pl.String)).list.join("|", ignore_nulls=True)
    return column


def _safe(column: pl.Series) -> pl.Series:
    if column.dtype != pl.String:
        return column
    runs = column.str.contains(FORMULA).fill_null(False)
    return pl.select(pl.when(runs).then("'" + column).otherwise(column)).to_series()
