"""Columns of users as they come, a partition at a time, and how they become one file sorted by id."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue

import polars as pl
import pyarrow as pa

from profiles.pieces import PieceFile


@dataclass(frozen=True)
class UserPart:
    """The columns of some users, in any order; rows are moved once, when runs of ids are put together."""

    frame: pl.DataFrame
    order: pl.Series = field(init=False)  # rows by user_id
    ids: pl.Series = field(init=False)  # sorted

    def __post_init__(self) -> None:
        ids = self.frame["user_id"]
        object.__setattr__(self, "order", ids.arg_sort())
        object.__setattr__(self, "ids", ids.gather(self.order))

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return int(self.frame.estimated_size())

    def beside(self, path: Path) -> "UserPart":
        """Return the same mapped from a file without a name, which is gone when nobody reads it any more."""
        with PieceFile(path, "w") as file:
            self.frame.write_ipc(file)
        with pa.memory_map(str(path)) as file:  # Polars' own reader copies
            path.unlink()
            return replace(self, frame=pl.DataFrame(pa.ipc.open_file(file).read_all()))

    def cut(self, edges: pl.Series) -> list[pl.Series]:
        """Return the rows of each run of ids; a new run begins at each edge."""
        return [self.order[first:last] for first, last in _between(self.ids, edges)]


def cut(frame: pl.DataFrame, edges: pl.Series) -> list[pl.DataFrame]:
    """Cut a frame sorted by user_id before each of these ids."""
    return [frame[first:last] for first, last in _between(frame["user_id"], edges)]


def _between(ids: pl.Series, edges: pl.Series) -> Iterator[tuple[int, int]]:
    return pairwise([0, *ids.search_sorted(edges, "left"), len(ids)])


class Pages:
    """Frames written to memory by several threads and then, in order, to one file.

    Memory that was touched once is written to again.
    """

    def __init__(self) -> None:
        self._free = SimpleQueue[BytesIO]()

    def written(self, frame: pl.DataFrame) -> BytesIO:
        """Return a frame as a file in memory."""
        try:
            file = self._free.get_nowait()  # after a look another thread may be the one that gets it
        except Empty:
            file = BytesIO()
        file.seek(0)
        frame.write_ipc(file)
        return file

    def join(self, files: Iterable[BytesIO], target: Path) -> None:
        """Write the batches of files from here, at least one, into one."""
        with ExitStack() as opened:
            file, writer = opened.enter_context(PieceFile(target, "w")), None
            for written in files:
                source = pa.ipc.open_file(pa.py_buffer(written.getbuffer()[: written.tell()]))
                writer = writer or opened.enter_context(pa.ipc.new_file(file, source.schema))
                for number in range(source.num_record_batches):
                    writer.write_batch(source.get_batch(number))
                del source  # while it looks at the memory nothing can write there
                self._free.put(written)
