"""Records dealt out to partitions: held in memory up to a limit, written beside beyond it."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np


class Spill:
    """Takes batches of dealt-out records and gives each partition's back, in the order of the batches."""

    def __init__(self, folder: Path, name: str, partitions: int, limit: int, record: np.dtype) -> None:
        """Hold at most about `limit` bytes; `folder` takes the rest until the end, in files of this name."""
        self._files = [folder / f"spill-{name}-{number:04}" for number in range(partitions)]
        self._limit = limit
        self._record = record
        self._held: list[list[np.ndarray]] = [[] for _ in range(partitions)]
        self._bytes = 0

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for file in self._files:
            file.unlink(missing_ok=True)

    def add(self, records: np.ndarray, bounds: np.ndarray) -> None:
        """Take a batch ordered by partition: partition p has the rows bounds[p] … bounds[p + 1] - 1."""
        for number, held in enumerate(self._held):
            first, last = int(bounds[number]), int(bounds[number + 1])
            if last > first:
                held.append(records[first:last])
        self._bytes += records.nbytes
        if self._bytes > self._limit:
            self._write()

    def take(self, number: int) -> np.ndarray:
        """Return a partition's records and forget them."""
        parts = self._held[number]
        if self._files[number].exists():
            parts = [np.fromfile(self._files[number], self._record), *parts]
            self._files[number].unlink()
        self._held[number] = []
        return self._joined(parts)

    def _write(self) -> None:
        for number, file in enumerate(self._files):
            if self._held[number]:
                with file.open("ab") as out:
                    self._joined(self._held[number]).tofile(out)
                self._held[number] = []
        self._bytes = 0

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        found = [part.view(np.uint8) for part in parts]  # numpy would join records field by field
        return np.concatenate([np.zeros(0, np.uint8), *found]).view(self._record)
