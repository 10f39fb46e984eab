"""CSV and TSV, piece by piece; every column is a string, so that the id 007 stays 007."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from profiles.schema import ContractError
from profiles.sources.layouts import name_header
from profiles.sources.limits import Limits
from profiles.sources.unpacking import Piece, Unpacked, pieces


def read_delimited(file: Unpacked, separator: str, quotes: bool, limits: Limits) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file with a header, first none of them; an empty line is a row of nulls."""
    header, rows = b"", 0
    for piece in pieces(file, quotes, limits):
        if not header:
            header, piece = _part_header(piece, quotes)
            if not header:
                continue
            frame = _parse(file, header, Piece(b"", piece.offset, piece.line), separator, quotes, 0)
            if frame.width > limits.columns:
                raise ContractError(
                    f"{file.path} has {frame.width:,} columns, more than limits.columns = "
                    f"{limits.columns:,}: is the separator right?"
                )
            yield name_header(frame)
        if piece.data:
            frame = _parse(file, header, piece, separator, quotes, rows)
            rows += frame.height
            yield name_header(frame)


def _part_header(piece: Piece, quotes: bool) -> tuple[bytes, Piece]:
    """Take the first line that is not empty off a piece."""
    data = piece.data.lstrip(b"\r\n")
    skipped = len(piece.data) - len(data)
    end = data.find(b"\n") + 1
    while end and quotes and data.count(b'"', 0, end) % 2:
        end = data.find(b"\n", end) + 1
    end = end or len(data)
    header = data[:end]
    rest = Piece(data[end:], piece.offset + skipped + end, piece.line_at(skipped + end))
    return header if header.endswith(b"\n") or not header else header + b"\n", rest


def _parse(
    file: Unpacked, header: bytes, piece: Piece, separator: str, quotes: bool, before: int
) -> pl.DataFrame:
    """Read one piece as a file of its own; `before` rows came before it."""
    quote = '"' if quotes else None
    try:
        frame = pl.read_csv(header + piece.data, separator=separator, quote_char=quote, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        for part in (Piece(header, 0, 1), piece):
            refuse_undecodable(file, part)
        _refuse_ragged(file, header, piece, separator, quotes, before)
        hint = "; if its double quotes are plain characters, give quotes = false" if quotes else ""
        reason = str(error).splitlines()[0]
        raise ContractError(f"{file.path} is no {separator!r}-separated file: {reason}{hint}") from error
    # Polars fills a short line with nulls without a word; only a null at the end of a row can be one.
    if frame.width > 1 and frame.to_series(-1).null_count():
        _refuse_ragged(file, header, piece, separator, quotes, before, frame.height)
    return frame


def refuse_undecodable(file: Unpacked, piece: Piece) -> None:
    """Raise ContractError naming the first byte that is no UTF-8."""
    try:
        piece.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{file.path} is not UTF-8: byte 0x{piece.data[error.start]:02x} at offset "
            f"{piece.offset + error.start}, line {piece.line_at(error.start)}; save it as UTF-8"
        ) from error


def _refuse_ragged(
    file: Unpacked, header: bytes, piece: Piece, separator: str, quotes: bool, before: int, height: int = -1
) -> None:
    """Name the first row with too few or too many fields; `height` is how many rows Polars saw."""
    widths, _ = _fields(header, separator, quotes)
    counts, ends = _fields(piece.data, separator, quotes)
    if not len(widths) or (height >= 0 and len(counts) != height):
        return  # this count and Polars see different rows: no ground to accuse one
    width = int(widths[0])
    odd = np.flatnonzero((counts != width) & (counts != 0))
    if odd.size:
        row = int(odd[0])
        line = piece.line_at(int(ends[row]) - 1)
        raise ContractError(
            f"{file.path}, row {before + row + 1} (line {line}): {counts[row]} fields where the header has "
            f"{width}"
        )


def _fields(data: bytes, separator: str, quotes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of fields of each row, 0 for an empty line, and where each row ends."""
    if data and not data.endswith(b"\n"):
        data += b"\n"
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    parts = np.flatnonzero(text == ord(separator)) if separator.isascii() else np.empty(0, np.int64)
    if quotes:
        marks = np.flatnonzero(text == ord('"'))
        ends = ends[np.searchsorted(marks, ends) % 2 == 0]
        parts = parts[np.searchsorted(marks, parts) % 2 == 0]
    counts = np.diff(np.searchsorted(parts, ends), prepend=0) + 1
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    lengths = ends - starts
    empty = (lengths == 0) | ((lengths == 1) & (text[np.minimum(starts, len(text) - 1)] == ord("\r")))
    return np.where(empty, 0, counts), ends + 1
