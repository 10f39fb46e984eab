"""Labels of texts as matrices: one each, or several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from profiles.schema import ContractError

Matrix = npt.NDArray[np.bool_]  # (texts, labels)
Probabilities = npt.NDArray[np.float32]  # (texts, labels)
Given = Sequence[str] | Sequence[Sequence[str]]  # a label a text, or a list of them


@dataclass(frozen=True)
class LabelSet:
    """The labels there are, in the order of every matrix, and whether a text may have several or none."""

    names: tuple[str, ...]
    many: bool = False

    @classmethod
    def of(cls, labels: Given, many: bool) -> "LabelSet":
        """Return the distinct labels, sorted; raises ContractError naming the first row of another form."""
        found = {name for row in _rows(labels, many) for name in row}
        return cls(tuple(sorted(found)), many)

    def extended(self, labels: Given) -> "LabelSet":
        """Return the same labels with those that are not among them behind."""
        seen = set(self.names)
        more = {name for row in _rows(labels, self.many) for name in row} - seen
        return LabelSet((*self.names, *sorted(more)), self.many)

    def matrix(self, labels: Given) -> Matrix:
        """Return which text has which label; raises ContractError for a label that is not in the set."""
        column = {name: place for place, name in enumerate(self.names)}
        rows = _rows(labels, self.many)
        found = np.zeros((len(rows), len(self.names)), np.bool_)
        for row, names in enumerate(rows):
            for name in names:
                if name not in column:
                    raise ContractError(
                        f"row {row + 1}: label {name!r} is not one of the {len(column)} known"
                    )
                found[row, column[name]] = True
        return found

    def chosen(self, probabilities: Probabilities, threshold: float) -> Matrix:
        """Return what is predicted: the likeliest label, or of several all from `threshold` on."""
        if self.many:
            return probabilities >= threshold
        rows = np.arange(len(probabilities))
        found = np.zeros(probabilities.shape, np.bool_)
        found[rows, probabilities.argmax(axis=1)] = True
        return found

    def padded(self, probabilities: Probabilities) -> Probabilities:
        """Return the columns of a smaller set widened to this one: what was never learned has 0."""
        wide = np.zeros((len(probabilities), len(self.names)), np.float32)
        wide[:, : probabilities.shape[1]] = probabilities
        return wide


def _rows(labels: Iterable[Any], many: bool) -> list[tuple[str, ...]]:
    form = "a list of labels" if many else "one label"
    rows: list[tuple[str, ...]] = []
    for number, given in enumerate(labels, 1):
        names = tuple(given) if many and isinstance(given, list | tuple) else (given,)
        if (many and isinstance(given, str)) or not all(isinstance(name, str) and name for name in names):
            raise ContractError(f"row {number}: {form} is expected, not {given!r}")
        rows.append(names)
    return rows
