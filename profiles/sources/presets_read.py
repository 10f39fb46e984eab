"""Read the original files of public data sets in bounded batches: delimited text, CSV, JSON lines, Parquet.

Every reader yields frames of the columns asked for, in the order of the file. Text stays text; a missing
or empty field is null. What the owner of a file has to mend is a ContractError with file and line.
"""

import json
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from profiles.schema import ContractError
from profiles.sources.columnar import read_parquet
from profiles.sources.delimited import read_delimited
from profiles.sources.limits import Limits
from profiles.sources.unpacking import Piece, Unpacked, pieces

Frames = Iterator[pl.DataFrame]
Objects = Callable[[dict[str, Any]], Mapping[str, Any]]

ENCODINGS = ("utf-8", "latin-1")  # the first that fits a block; the oldest files are latin-1
UNREADABLE = "unreadable_line"
LIST = pl.List(pl.String())


@dataclass(frozen=True)
class File:
    """A file, what it may ask of the machine, and who is told how many of its bytes are read."""

    path: Path
    limits: Limits = field(default_factory=Limits)
    consumed: Callable[[int], None] = lambda _: None

    def opened(self, known: str) -> Unpacked:
        """Return its bytes, unpacked where they are packed."""
        return Unpacked(self.path, known, self.limits, self.consumed)

    def beside(self, *names: str) -> "File":
        """Return the first of these files in the same folder; raises ContractError naming them."""
        for name in names:
            if (found := self.path.with_name(name)).exists():
                return File(found, self.limits)
        raise ContractError(f"{self.path} is read together with {' or '.join(names)}, which is not beside it")

    def is_parquet(self) -> bool:
        """Whether it begins as Parquet does."""
        try:
            with self.path.open("rb") as file:
                return file.read(4) == b"PAR1"
        except OSError as error:
            raise ContractError(f"{self.path} cannot be read: {error.strerror}") from error


def delimited(
    file: File, columns: Sequence[str], separator: str = "\t", header: bool = False, tolerant: bool = False
) -> Frames:
    """Read lines of plain fields, nothing quoted; with `header`, the first line must name the columns.

    A line with another number of fields is an error. If `tolerant`, only where most first lines are like
    it: otherwise it becomes a row of nulls that the checks of rows refuse, its text in UNREADABLE.
    """
    for piece in pieces(file.opened("text"), False, file.limits):
        lines = pl.Series(_decode(piece.data).split("\n"), dtype=pl.String).str.strip_suffix("\r")
        numbers = pl.int_range(piece.line, piece.line + lines.len(), eager=True)
        frame = pl.DataFrame({"line": lines, "number": numbers})
        if header and piece.line == 1:
            _expect_header(file, (lines[0] or "").split(separator), columns, separator)
            frame = frame[1:]
        frame = frame.filter(pl.col("line") != "").with_columns(fields=pl.col("line").str.split(separator))
        odd = frame.filter(pl.col("fields").list.len() != len(columns))
        few = tolerant and (piece.line > 1 or 2 * odd.height <= frame.height)
        if odd.height and not few:
            raise ContractError(
                f"{file.path}, line {odd['number'][0]}: {odd['fields'][0].len()} fields separated by "
                f"{separator!r} where this file has {len(columns)}: {', '.join(columns)}"
            )
        right = pl.col("fields").list.len() == len(columns)
        fields = [pl.col("fields").list.get(n, null_on_oob=True) for n in range(len(columns))]
        yield frame.select(
            *(
                pl.when(right & (field != "")).then(field).alias(name)
                for name, field in zip(columns, fields, strict=True)
            ),
            *([pl.when(~right).then("line").alias(UNREADABLE)] if tolerant else []),
        )


def table(file: File, columns: Sequence[str]) -> Frames:
    """Read the named columns of a CSV whose fields may be quoted."""
    for frame in read_delimited(file.opened("csv"), ",", True, file.limits):
        _expect(file, frame.columns, columns)
        yield frame.select(columns)


def headless(file: File, columns: Sequence[str]) -> Frames:
    """Read a CSV without a header, whose columns are these, the last never empty."""
    names = ",".join(columns).encode() + b"\n"
    for piece in pieces(file.opened("csv"), True, file.limits):
        wrong = f"{file.path}, from line {piece.line}: not every row has the fields {', '.join(columns)}"
        try:
            frame = pl.read_csv(names + piece.data, infer_schema=False)
        except pl.exceptions.PolarsError as error:
            raise ContractError(f"{wrong}: {str(error).splitlines()[0]}") from error
        if frame.to_series(-1).null_count():  # how Polars fills a short row
            raise ContractError(wrong)
        yield frame


def objects(file: File, columns: Sequence[str], take: Objects | None = None) -> Frames:
    """Read one object a line, JSON or a Python literal as some older files have.

    The columns are text as they stand; with `take`, what it makes of each object.
    """
    for piece in pieces(file.opened("jsonl"), False, file.limits):
        if take is None:
            yield _tidy(_texts(file, piece, dict.fromkeys(columns, pl.String())))
        else:
            yield from_objects(map(take, _objects(file, piece)), take)


def from_objects(rows: Iterable[Mapping[str, Any]], take: Objects) -> pl.DataFrame:
    """Return rows that `take` made; what it makes of nothing tells lists from texts."""
    types = {name: LIST if isinstance(value, list) else pl.String() for name, value in take({}).items()}
    return pl.DataFrame(list(rows), types)


def parquet(file: File, columns: Sequence[str] = ()) -> Frames:
    """Read the named columns of a Parquet file, or all, with their types."""
    for frame in read_parquet(file.path, file.limits, file.consumed):
        _expect(file, frame.columns, columns)
        yield frame.select(columns) if columns else frame


def words(value: Any) -> list[str]:
    """Return the texts in a value, however deeply lists nest them, each once."""
    found: dict[str, None] = {}
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list | tuple):
            waiting += reversed(part)
        elif isinstance(part, str) and (text := clean(part)):
            found[text] = None
    return list(found)


def clean(value: Any) -> str | None:
    """Return text without HTML entities and with single blanks; nothing for what is no text or empty."""
    if not isinstance(value, str):
        return None
    text = " ".join((unescape(value) if "&" in value else value).split())
    return _whole(text) or None


def _texts(file: File, piece: Piece, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    try:
        return pl.read_ndjson(piece.data, schema=schema)
    except pl.exceptions.PolarsError:  # line by line: Python literals, or the line to name
        rows = list(_objects(file, piece))
        return pl.DataFrame({name: [_text(row.get(name)) for row in rows] for name in schema}, schema)


def _tidy(texts: pl.DataFrame) -> pl.DataFrame:
    """Make empty texts null, and replace NUL, which polars makes of half a character and no store takes."""
    whole = texts.with_columns(pl.all().str.replace_all("\x00", "\ufffd", literal=True))
    return whole.select(pl.when(pl.all() != "").then(pl.all()))


def _objects(file: File, piece: Piece) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(piece.data.split(b"\n"), piece.line):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as wrong:
            value = _literal(file, number, line, wrong)
        if not isinstance(value, dict):
            raise ContractError(
                f"{file.path}, line {number} is {type(value).__name__}: each line must be one object"
            )
        yield value


def _literal(file: File, number: int, line: bytes, wrong: Exception) -> Any:
    try:
        text = line.decode().strip()
        with suppress(json.JSONDecodeError):
            return json.loads(text)  # which takes NaN and half a surrogate pair, as orjson does not
        return literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ContractError(
            f"{file.path}, line {number} is neither JSON nor a Python literal: {wrong}"
        ) from None


def _text(value: Any) -> str | None:
    """Return a field as polars writes it: whole numbers without a fraction, lists as JSON."""
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else json.dumps(value)


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 cannot hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _decode(block: bytes) -> str:
    for encoding in ENCODINGS:
        try:
            return block.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 fits anything")


def _expect_header(file: File, found: list[str], columns: Sequence[str], separator: str) -> None:
    if found != list(columns):
        raise ContractError(
            f"{file.path}, line 1: the header of this file is {separator.join(columns)!r}, "
            f"not {separator.join(found)[:200]!r}"
        )


def _expect(file: File, found: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in found]
    if missing:
        raise ContractError(f"{file.path} has no column {missing[0]!r}; it has {', '.join(found)[:500]}")
