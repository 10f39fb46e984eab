"""The one walk along a log: sealed segments, then what is not sealed yet, each step from one moment."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from profiles.store.removals import Removal
from profiles.store.segments import Segment, Segments


@dataclass(frozen=True)
class Step:
    """What comes next, as of one moment: a segment, or rows with their `seq` that are in none."""

    revision: int
    segment: Segment | None
    removals: Sequence[Removal]  # that the segment's rows have still to be freed of
    tail: pl.DataFrame | None  # where there is no segment


def walk(
    segments: Segments,
    look: Callable[[int], Step],
    revision: Callable[[], int],
    replaced: Callable[[Sequence[Segment], FileNotFoundError], None],
    span: tuple[int, int],
    names: Sequence[str],
) -> Iterator[pl.DataFrame]:
    """Yield the columns `names` of the rows numbered in (span[0], span[1]], in order.

    `look` says what comes behind a number. A segment that was `replaced` while it was read is looked for
    again, as is what follows when `revision` says that rows were taken out meanwhile.
    """
    at, end = span
    while at < end:
        step = look(at)
        if step.segment is None:
            if step.tail is None or not len(step.tail):
                return
            at = step.tail["seq"][-1]
            yield step.tail.select(names)
            continue
        try:
            for part in segments.read(step.segment, at, end, names, step.removals):
                if revision() != step.revision:
                    break  # some of these rows may have been taken out: look again
                if len(part):
                    at = part["seq"][-1]
                    yield part.select(names)
            else:
                at = step.segment.last
        except FileNotFoundError as error:
            replaced([step.segment], error)
