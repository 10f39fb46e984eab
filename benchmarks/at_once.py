"""Rows of a quick run from one process: each in its own would spend most of its time on imports."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.process import Figures, Task, perform
from benchmarks.report import Row
from profiles import manifest


def at_once(rows: Sequence[Row], place: Path) -> list[Row]:
    """Return rows that are told from the file `place`, which one task writes; skipped ones as they are.

    Memory is then that of the telling, and an error of one row is one of all.
    """
    measured = [row for row in rows if not row.skipped]
    needs = list(dict.fromkeys(task.spelled for row in measured for task in row.needs))
    tasks = {row.name: row.task.spelled for row in measured}
    together = Task(made, {"needs": needs, "rows": tasks, "place": place})
    return [row if row.skipped else _told(row, together, place) for row in rows]


def _told(row: Row, together: Task, place: Path) -> Row:
    measured = (*row.measured, inspect.getfile(row.task.function))
    return replace(
        row, task=Task(told, {"place": place, "row": row.name}), needs=(together,), measured=measured
    )


def made(needs: Sequence[str], rows: Mapping[str, str], place: str) -> Figures:
    """Do what is needed, then the task of each row; writes down what was found."""
    for task in needs:
        perform(task)
    found = {name: perform(task) for name, task in rows.items()}
    manifest.write_atomically(Path(place), json.dumps(found).encode())
    return {}


def told(place: str, row: str) -> Figures:
    """Tell what `made` found of a row."""
    found: Figures = json.loads(Path(place).read_bytes())[row]
    return found
