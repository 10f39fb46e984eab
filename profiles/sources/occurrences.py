"""Which rows of a source came before, told exactly for any number of them in bounded memory.

Rows are known by 128-bit hashes. Records of them are parted by their first bits into files, so that all
records of one hash are in one file, in the order of the parts they come from; each file is then gone
through by itself. On disk: 28 bytes for each content of a part and 36 for each explicit id, until the
source is done; in memory: `HELD` records, then the distinct hashes of one of `FILES` files.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

FILES = 256
HELD = 1 << 20  # records kept in memory before they are written, and read at a time

KEY = ["high", "low"]
RECORD = [("high", "<u8"), ("low", "<u8"), ("part", "<u4")]
# Of each content: how often it is in its part; then, how often it is in the parts before.
COUNT = np.dtype([*RECORD, ("count", "<u8")])
# Of each explicit id: the content of its first row in its part; then, of its first row at all.
CONTENT = np.dtype([*RECORD, ("digest_high", "<u8"), ("digest_low", "<u8")])

Known = pl.DataFrame
Resolve = Callable[[pl.DataFrame, Known], tuple[pl.DataFrame, Known]]


def halves(hashed: str) -> list[pl.Expr]:
    """Return a 16-byte column as the two numbers of KEY."""
    return [
        pl.col(hashed).bin.slice(8 * half, 8).bin.reinterpret(dtype=pl.UInt64).alias(name)
        for half, name in enumerate(KEY)
    ]


def whole(high: pl.Series, low: pl.Series) -> pl.Series:
    """Return the 16 bytes that `halves` took apart."""
    content = np.stack([high.to_numpy(), low.to_numpy()], axis=1).astype("<u8").tobytes()
    return pl.Series([content[at : at + 16] for at in range(0, len(content), 16)], dtype=pl.Binary)


class Spill:
    """Records of one kind, parted by hash, and what comes of them, parted by `part`."""

    def __init__(self, folder: Path, kind: np.dtype, resolve: Resolve) -> None:
        self._folder, self._kind, self._resolve = folder, kind, resolve
        self._held: list[np.ndarray] = []
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, records: pl.DataFrame) -> None:
        """Take the records of the next part, each hash once."""
        taken = np.empty(records.height, self._kind)
        for name in self._kind.names or ():
            taken[name] = records[name].to_numpy()
        self._held.append(taken)
        self._count += len(taken)
        if self._count > HELD:
            self._write()

    def finish(self) -> None:
        """Compare all records, and leave for each part what came before it."""
        if self._count:
            few = not any(self._folder.glob("*.records"))
            self._write(1 if few else None)
        for file in sorted(self._folder.glob("*.records")):
            known = pl.DataFrame()
            for records in self._chunks(file):
                found, known = self._resolve(records, known)
                self._leave(found)
            file.unlink()

    def of(self, part: int) -> pl.DataFrame:
        """Return what came before of a part's hashes, once finished."""
        path = self._place(part)
        return self._frame(np.fromfile(path, self._kind) if path.exists() else np.empty(0, self._kind))

    def _write(self, parted: int | None = None) -> None:
        parted = parted or FILES
        records = np.concatenate(self._held)
        self._held, self._count = [], 0
        files = records["high"] % np.uint64(parted)
        order = np.argsort(files, kind="stable")
        starts = np.searchsorted(files[order], np.arange(parted + 1))
        for number in np.flatnonzero(np.diff(starts)):
            with (self._folder / f"{number:03}.records").open("ab") as file:
                records[order[starts[number] : starts[number + 1]]].tofile(file)

    def _chunks(self, file: Path) -> Iterator[pl.DataFrame]:
        with file.open("rb") as content:
            while len(records := np.fromfile(content, self._kind, HELD)):
                yield self._frame(records)

    def _leave(self, found: pl.DataFrame) -> None:
        for (part,), rows in found.sort("part").group_by("part", maintain_order=True):
            records = np.empty(rows.height, self._kind)
            for name in self._kind.names or ():
                records[name] = rows[name].to_numpy()
            with self._place(int(str(part))).open("ab") as file:
                records.tofile(file)

    def _place(self, part: int) -> Path:
        return self._folder / f"{part:06}.before"

    def _frame(self, records: np.ndarray) -> pl.DataFrame:
        return pl.DataFrame({name: np.ascontiguousarray(records[name]) for name in self._kind.names or ()})


def count_before(records: pl.DataFrame, known: Known) -> tuple[pl.DataFrame, Known]:
    """Tell how many rows of a content the parts before have, where they have any."""
    if known.is_empty():
        known = records.select(*KEY, total="count").clear()
    before = pl.col("count").cum_sum().over(KEY) - pl.col("count") + pl.col("total").fill_null(0)
    found = records.join(known, on=KEY, how="left", maintain_order="left").with_columns(count=before)
    sums = pl.concat([known, records.select(*KEY, total="count")]).group_by(KEY).sum()
    return found.filter(pl.col("count") > 0).drop("total"), sums


def content_before(records: pl.DataFrame, known: Known) -> tuple[pl.DataFrame, Known]:
    """Tell the first content of an id, where a part before has it."""
    digests = ["digest_high", "digest_low"]
    first = (
        pl.concat([known, records.select(*KEY, *digests)]) if known.height else records.select(*KEY, *digests)
    )
    first = first.unique(KEY, keep="first", maintain_order=True)
    old = known.select(*KEY, old=True) if known.height else records.select(*KEY, old=True).clear()
    later = ~pl.struct(KEY).is_first_distinct() | pl.col("old").fill_null(False)
    found = records.join(old, on=KEY, how="left", maintain_order="left").filter(later)
    return found.select(*KEY, "part").join(first, on=KEY, how="left"), first
