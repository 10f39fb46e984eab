"""What the log says of all items together, added up a partition of users at a time.

`part` looks at some users and may run in any thread; `add` takes the parts in their order, so that sums
of floats come out the same on any number of threads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
from scipy import sparse

from profiles.features import FeaturesConfig, loops
from profiles.features.context import Context
from profiles.features.past import Events
from profiles.schema import DAY


@dataclass(frozen=True)
class Part:
    """What some users did: their events, which of these met an item first, and which began a visit."""

    events: Events
    first_touch: np.ndarray
    opens_session: np.ndarray
    codes: Mapping[str, np.ndarray]  # of each user, by audience attribute; -1: unknown
    pairs: tuple[np.ndarray, np.ndarray]


@dataclass
class Totals:
    """Arrays with one row an item, as of the context's moment."""

    context: Context
    config: FeaturesConfig
    first: np.ndarray  # when each item's first and last event was; NEVER and -NEVER without any
    last: np.ndarray
    audiences: dict[str, pl.Series] = field(default_factory=dict)  # values of each audience attribute, sorted

    def __post_init__(self) -> None:
        items, types = len(self.context.item_ids), len(self.context.event_types) + 1
        # The windows 7 and 30 days are always there: the trend is made from them.
        self.windows = sorted({*self.config.windows_days, 7, 30})
        self._counts = np.zeros((items, types, len(self.windows) + 1), np.uint32)
        self._table = np.zeros(items, loops.TALLY)
        self.users, self.young, self.openers, self.user_events = (
            self._table[name] for name in ("users", "young", "openers", "user_events")
        )
        self.value_sum = np.zeros((items, types))
        self.value_count = np.zeros((items, types), np.int64)
        self.audience = {name: np.zeros((items, len(v)), np.uint32) for name, v in self.audiences.items()}
        self._pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]

    def part(
        self, events: Events, first_touch: np.ndarray, opens: np.ndarray, codes: Mapping[str, np.ndarray]
    ) -> Part:
        """Look at some users."""
        return Part(events, first_touch, opens, codes, self._neighbours(events, opens))

    def add(self, part: Part) -> None:
        """Add what some users did."""
        e = part.events
        loops.tally(
            *(e.starts, e.item, e.kind, e.time, e.value, part.first_touch, part.opens_session),
            *(self.context.as_of, np.array(self.windows) * DAY, int(self.config.new_user_days * DAY)),
            *(self._table, self._counts, self.value_sum, self.value_count),
        )
        for name, codes in part.codes.items():
            loops.audience(e.starts, e.item, part.first_touch, codes, self.audience[name])
        self._pairs.append(part.pairs)

    def _neighbours(self, events: Events, opens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count pairs of different items that follow each other in a visit, as (small * items + large)."""
        recent = self.context.as_of - events.time < self.config.co_items_days * DAY
        at = np.flatnonzero(recent & (events.item >= 0))
        visit = np.cumsum(opens)[at]
        a, b = events.item[at][:-1].astype(np.int64), events.item[at][1:].astype(np.int64)
        paired = (visit[1:] == visit[:-1]) & (a != b)
        key = np.minimum(a, b)[paired] * len(self.context.item_ids) + np.maximum(a, b)[paired]
        return np.unique(key, return_counts=True)

    @cached_property
    def _cumulated(self) -> np.ndarray:
        """Events by (item, type, window), once all are added; the last window is all time."""
        return self._counts.cumsum(axis=2, dtype=np.int64)

    def counts(self, days: int | None = None) -> np.ndarray:
        """Events by (item, type) of the last days, or of all time."""
        return np.asarray(self._cumulated[:, :, -1 if days is None else self.windows.index(days)])

    def pairs(self) -> sparse.csr_matrix:
        """Return how often two items stood next to each other in visits: (items, items), symmetric."""
        items = len(self.context.item_ids)
        key = np.concatenate([keys for keys, _ in self._pairs])
        times = np.concatenate([counts for _, counts in self._pairs]).astype(np.float64)
        once = sparse.coo_matrix((times, np.divmod(key, max(1, items))), (items, items)).tocsr()
        both = once + once.T
        both.sort_indices()
        return both
