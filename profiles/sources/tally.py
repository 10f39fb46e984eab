"""What is wrong with the rows of a source: one line a kind of problem, however many parts it came in."""

from collections.abc import Hashable, Iterable, Sequence

import polars as pl

Entry = tuple[int, int, str, int]  # the first such row's file, its number, its problem, how many there are


class Tally:
    """Counts problems by kind and keeps the first of each."""

    def __init__(self, entries: Iterable[tuple[Hashable, Entry]] = ()) -> None:
        self._entries: dict[Hashable, Entry] = {}
        for kind, entry in entries:
            self._count(kind, entry)

    def add(self, kind: Hashable, found: pl.DataFrame) -> None:
        """Count rows (file, row, problem) of one kind, which come after those counted before."""
        if found.height:
            place, row, problem = found.row(0)
            self._count(kind, (place, row, problem, found.height))

    def merge(self, later: "Tally") -> None:
        """Count what another has counted of later rows."""
        for kind, entry in later._entries.items():
            self._count(kind, entry)

    def lines(self, names: Sequence[str], outcome: str) -> list[str]:
        """Say in one line a kind what is wrong with the first row and how many are like it."""
        said = []
        for place, row, problem, count in self._entries.values():
            more = f" ({count - 1:,} more like it)" if count > 1 else ""
            said.append(f"{names[place]}, row {row}: {problem}{more}; {outcome}")
        return said

    def plain(self) -> list[tuple[Hashable, Entry]]:
        """Return what JSON can hold, for `Tally(…)` to take back."""
        return list(self._entries.items())

    def _count(self, kind: Hashable, entry: Entry) -> None:
        kind = tuple(kind) if isinstance(kind, list) else kind
        place, row, problem, count = entry
        if kind in self._entries:
            place, row, problem, before = self._entries[kind]
            count += before
        self._entries[kind] = (place, row, problem, count)
