"""Arrays dealt out to partitions: held in memory up to a limit, written beside beyond it."""

from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Spill:
    """Takes batches of dealt-out arrays and gives each partition back, in the order of the batches."""

    def __init__(self, folder: Path, partitions: int, limit: int, blank: Mapping[str, np.generic]) -> None:
        """Hold at most about `limit` bytes; `folder` takes the rest until the end.

        `blank` names the arrays, each with its type and the value it has where a batch leaves it out.
        """
        self.partitions = partitions
        self._files = [folder / f"spill-{number:04}" for number in range(partitions)]
        self._limit = limit
        self._blank = blank
        self._held: list[list[Arrays]] = [[] for _ in range(partitions)]
        self._bytes = 0

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for file in self._files:
            file.unlink(missing_ok=True)

    def add(self, arrays: Arrays, bounds: np.ndarray) -> None:
        """Take a batch ordered by partition: partition p has the rows bounds[p] … bounds[p + 1] - 1."""
        for number, held in enumerate(self._held):
            first, last = int(bounds[number]), int(bounds[number + 1])
            if last > first:
                held.append({name: array[first:last] for name, array in arrays.items()})
        self._bytes += sum(array.nbytes for array in arrays.values())
        if self._bytes > self._limit:
            self._write()

    def take(self, number: int) -> dict[str, np.ndarray]:
        """Return a partition's arrays, without those that no batch had, and forget them."""
        parts = self._held[number]
        if self._files[number].exists():
            with self._files[number].open("rb") as file:
                parts = [*self._blocks(file), *parts]
            self._files[number].unlink()
        self._held[number] = []
        return joined(parts, self._blank)

    def _write(self) -> None:
        for number, file in enumerate(self._files):
            if not self._held[number]:
                continue
            arrays = joined(self._held[number], self._blank)
            with file.open("ab") as out:
                for name, blank in self._blank.items():  # one that is not there is empty
                    np.save(out, arrays.get(name, np.zeros(0, blank.dtype)), allow_pickle=False)
            self._held[number] = []
        self._bytes = 0

    def _blocks(self, file: BufferedReader) -> list[Arrays]:
        found: list[Arrays] = []
        while file.peek(1):
            block = {name: np.load(file, allow_pickle=False) for name in self._blank}
            rows = max(map(len, block.values()))
            found.append({name: array for name, array in block.items() if len(array) == rows})
        return found


def joined(parts: Sequence[Arrays], blank: Mapping[str, np.generic]) -> dict[str, np.ndarray]:
    """Put parts behind one another; an array that only some have is blank in the others."""
    there = [name for name in blank if any(name in part for part in parts)]
    rows = [max(map(len, part.values())) for part in parts]
    return {
        name: np.concatenate(
            [
                part[name] if name in part else np.full(n, blank[name])
                for part, n in zip(parts, rows, strict=True)
            ]
        )
        for name in there
    }
