"""A file's bytes, unpacked where it is packed, and cut where a row ends."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from profiles.schema import ContractError
from profiles.sources.limits import Limits

Packing = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Packing] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
PACKED: dict[bytes, Packing] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# First bytes of files that are often given another suffix.
MAGIC = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
BOM = b"\xef\xbb\xbf"
BLOCK = 8 << 20  # bytes read at a time


@dataclass(frozen=True)
class Piece:
    """Some whole rows of a text file, and where they stand in it once it is unpacked."""

    data: bytes
    offset: int  # of the first byte
    line: int  # of the first line, from 1

    def line_at(self, position: int) -> int:
        """Return the line of a byte of `data`."""
        return self.line + self.data.count(b"\n", 0, position)


class Unpacked:
    """The bytes of a file, unpacked as they are read."""

    def __init__(
        self, path: Path, known: str, limits: Limits, consumed: Callable[[int], None] = lambda _: None
    ) -> None:
        self.path = path
        self._consumed = consumed
        self._raw = pa.OSFile(str(path))
        size = self._raw.size()
        start = self._raw.read(8)
        self._raw.seek(0)
        self.packing = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
        self._source: Any = self._raw
        if self.packing:
            self._source = pa.CompressedInputStream(self._raw, self.packing)
        self._left = limits.unpacked(size)
        self._limits = limits
        self._known = known
        self._begun = False

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        try:
            data = bytes(self._source.read(size if self._begun else max(size, 8)))
        except (OSError, pa.ArrowException) as error:
            if self.packing is None:
                raise
            reason = str(error).splitlines()[0]
            raise ContractError(
                f"{self.path} is packed with {self.packing} and not whole: {reason}; fetch or write it again"
            ) from error
        self._consumed(int(self._raw.tell()))
        self._left -= len(data)
        if self.packing and self._left < 0:
            raise ContractError(
                f"{self.path} unpacks to more than {self._limits.expansion} times its size and "
                f"{self._limits.expansion_free_mb:,} MiB; if that is right, raise limits.expansion"
            )
        if not self._begun:
            self._begun = True
            self._refuse_other(data)
        return data

    def _refuse_other(self, start: bytes) -> None:
        for magic, what in MAGIC.items():
            if start.startswith(magic):
                advice = "save it as UTF-8" if "UTF" in what else "unpack it or give the right format"
                raise ContractError(f"{self.path} is {what}, not {self._known}; {advice}")


def pieces(file: Unpacked, quoted: bool, limits: Limits) -> Iterator[Piece]:
    """Yield a text file in pieces that end where a row ends.

    Where `quoted`, a line break between double quotes ends no row. A byte order mark is left out.
    Raises ContractError for a row without end and for a NUL byte, which no text holds.
    """
    held, line, offset = b"", 1, 0
    while True:
        block = file.read(BLOCK)
        data = held + block
        if not line - 1 and not offset and data.startswith(BOM):
            data, offset = data[len(BOM) :], len(BOM)
        end = rows_end(data, quoted) if block else len(data)
        if end:
            piece = Piece(data[:end], offset, line)
            if (place := piece.data.find(b"\0")) >= 0:
                raise ContractError(
                    f"{file.path} holds a NUL byte at offset {offset + place}, line {piece.line_at(place)}; "
                    "it is no text, or it was damaged"
                )
            yield piece
            line, offset = piece.line_at(end), offset + end
        held = data[end:]
        if len(held) > limits.row:
            hint = "; if its double quotes are plain characters, give quotes = false" if quoted else ""
            raise ContractError(
                f"{file.path}, line {line}: a row longer than {limits.row >> 20} MiB, or a quote that is "
                f"never closed{hint}"
            )
        if not block:
            return


def rows_end(data: bytes, quoted: bool) -> int:
    """Return where the last whole row of `data` ends, 0 where there is none; `data` begins with a row."""
    end = data.rfind(b"\n") + 1
    if not quoted or not end:
        return end
    quotes = data.count(b'"', 0, end)
    while quotes % 2 and end:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end
