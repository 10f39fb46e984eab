"""One row of a profile frame, found without reading the others: the frame stays on disk, memory-mapped.

Profiles are sorted by id, so a search by halves touches some twenty ids, then the row's own values.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


class ProfileRows:
    """The rows of a user_profiles.arrow or item_profiles.arrow by id. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        """Open the file; nothing of it is read yet."""
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._batches = [batch for batch in batches if batch.num_rows]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def _first(self) -> list[str]:
        """The first id of each batch."""
        return [batch.column(0)[0].as_py() for batch in self._batches]

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the row of an id by column name; None where there is none."""
        low, high = 0, len(self._batches)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._first[middle] <= key else (low, middle)
        if not self._batches:
            return None
        batch = self._batches[low]
        ids, start, end = batch.column(0), 0, batch.num_rows
        while start < end:
            middle = (start + end) // 2
            start, end = (middle + 1, end) if ids[middle].as_py() < key else (start, middle)
        if start == batch.num_rows or ids[start].as_py() != key:
            return None
        return {
            name: column[start].as_py()
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
