"""Arrays dealt out to partitions: held in memory up to a limit, written beside beyond it."""

from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Spill:
    """Takes batches of dealt-out arrays and gives each partition back, in the order of the batches."""

    def __init__(
        self, folder: Path, name: str, partitions: int, limit: int, types: Mapping[str, type[np.generic]]
    ) -> None:
        """Hold at most about `limit` bytes; `folder` takes the rest until the end, in files of this name.

        `types` names the arrays of every batch.
        """
        self._files = [folder / f"spill-{name}-{number:04}" for number in range(partitions)]
        self._limit = limit
        self._types = types
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
        """Return a partition's arrays and forget them."""
        parts = self._held[number]
        if self._files[number].exists():
            with self._files[number].open("rb") as file:
                parts = [*self._blocks(file), *parts]
            self._files[number].unlink()
        self._held[number] = []
        return self._joined(parts)

    def _write(self) -> None:
        for number, file in enumerate(self._files):
            if not self._held[number]:
                continue
            with file.open("ab") as out:
                for array in self._joined(self._held[number]).values():
                    np.save(out, array, allow_pickle=False)
            self._held[number] = []
        self._bytes = 0

    def _blocks(self, file: BufferedReader) -> list[Arrays]:
        found: list[Arrays] = []
        while file.peek(1):
            found.append({name: np.load(file, allow_pickle=False) for name in self._types})
        return found

    def _joined(self, parts: Sequence[Arrays]) -> dict[str, np.ndarray]:
        """Put parts behind one another."""
        nothing = {name: np.zeros(0, one) for name, one in self._types.items()}
        return {name: np.concatenate([part[name] for part in [nothing, *parts]]) for name in self._types}
