"""JSON Lines, piece by piece; a column's type is that of the whole file."""

import json
from collections.abc import Iterator

import numpy as np
import polars as pl

from profiles.schema import ContractError
from profiles.sources.delimited import refuse_undecodable
from profiles.sources.limits import Limits
from profiles.sources.unpacking import Piece, Unpacked, pieces

LINES = 4096  # whose columns are looked at together


def read_jsonl(file: Unpacked, again: Unpacked, limits: Limits) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file, first none of them.

    The types of the columns are known only at its end, so the file is read twice (`again`).
    """
    merged = pl.DataFrame()
    for piece in pieces(file, False, limits):
        for part in _parts(piece):
            try:
                merged = pl.concat([merged, _parse(file, part, None).clear()], how="diagonal_relaxed")
            except pl.exceptions.PolarsError as error:
                reason = str(error).splitlines()[0]
                raise ContractError(
                    f"{file.path}, from line {part.line}: a value of another kind than before: {reason}"
                ) from error
            if merged.width > limits.columns:
                raise ContractError(
                    f"{file.path} has more than limits.columns = {limits.columns:,} columns by line "
                    f"{part.line_at(len(part.data))}"
                )
    yield merged
    if merged.width:
        for piece in pieces(again, False, limits):
            yield _parse(again, piece, merged.schema)


def _parts(piece: Piece) -> Iterator[Piece]:
    """Cut a piece so that names that differ from line to line cannot make a frame of millions of columns."""
    ends = np.flatnonzero(np.frombuffer(piece.data, np.uint8) == ord("\n")) + 1
    start = 0
    for end in (*ends[LINES - 1 : -1 : LINES].tolist(), len(piece.data)):
        yield Piece(piece.data[start:end], piece.offset + start, piece.line_at(start))
        start = end


def _parse(file: Unpacked, piece: Piece, schema: pl.Schema | None) -> pl.DataFrame:
    if not piece.data.strip():
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_ndjson(piece.data, schema=schema, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        refuse_undecodable(file, piece)
        for number, line in enumerate(piece.data.decode().split("\n"), piece.line):
            try:
                value = json.loads(line) if line.strip() else {}
            except (json.JSONDecodeError, RecursionError) as wrong:
                raise ContractError(f"{file.path}, line {number} is no JSON: {wrong}") from error
            if not isinstance(value, dict):
                what = "an array" if isinstance(value, list) else type(value).__name__
                raise ContractError(
                    f"{file.path}, line {number} is {what}: each line must be one object"
                ) from error
        reason = str(error).splitlines()[0]
        raise ContractError(f"{file.path} is no JSON Lines file: {reason}") from error
