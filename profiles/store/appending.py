"""How both stores take events in: made ready, grouped with those of other threads, judged and counted."""

from collections.abc import Callable, Sequence

import polars as pl

from profiles.schema import EVENTS, ContractError
from profiles.store import Acks, Status, rows
from profiles.store.group_commit import GroupCommit

Insert = Callable[[rows.Batch], tuple[list[Status], int]]


class Appending:
    """Appends batches through `insert`, which stores what is new in one transaction.

    `insert` tells what became of each event, and the watermark then. Where it raises one of
    `content_errors`, a batch is to blame and each is tried alone.
    """

    def __init__(self, insert: Insert, content_errors: tuple[type[Exception], ...]) -> None:
        self._insert = insert
        self._group: GroupCommit[pl.DataFrame | rows.Batch] = GroupCommit(self._commit, content_errors)

    def append(self, events: pl.DataFrame) -> Acks | None:
        """Append events; None where there are none."""
        if 0 < len(events) <= rows.FEW:  # left as they are: the group's are made ready together
            return self._group.append(events)
        parts = EVENTS.conform(events).iter_slices(rows.CHUNK)
        acks = [self._group.append(rows.batch(part)) for part in parts if len(part)]
        if not acks:
            return None
        return Acks([status for part in acks for status in part.statuses], acks[-1].watermark)

    def _commit(self, given: Sequence[pl.DataFrame | rows.Batch]) -> list[Acks | Exception]:
        """Commit what several have given in one transaction; refuse what is no EVENTS."""
        ready = iter(rows.batches([part for part in given if isinstance(part, pl.DataFrame)]))
        batches = [next(ready) if isinstance(part, pl.DataFrame) else part for part in given]
        good = [batch for batch in batches if isinstance(batch, rows.Batch)]
        whole = rows.Batch(
            [digest for batch in good for digest in batch.digests], [r for batch in good for r in batch.rows]
        )
        statuses, watermark = self._insert(whole)
        said = iter(statuses)
        return [
            batch if isinstance(batch, ContractError) else Acks([next(said) for _ in batch.rows], watermark)
            for batch in batches
        ]
