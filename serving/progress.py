"""Progress for people: a bar on stderr for what takes longer than a moment, nothing when it is not wanted."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

Advance = Callable[[int], None]


class Progress:
    """Shows what runs and what it found; `quiet` shows neither."""

    def __init__(self, quiet: bool = True) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._drawn = not quiet and self.console.is_terminal  # in a file, each bar would be an empty line

    def say(self, line: str) -> None:
        """Print one line of news."""
        self.console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar while the body runs; the yielded function adds finished steps."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self.console, transient=True, disable=not self._drawn) as bars:
            task = bars.add_task(title, total=total)
            yield lambda steps: bars.advance(task, steps)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout, for machines."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))  # noqa: T201
