"""What the log says of all items together, added up a partition of users at a time.

`part` looks at some users and may run in any thread; `add` takes the parts in their order, so that sums
of floats come out the same on any number of threads.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from profiles.features import FeaturesConfig
from profiles.features.context import NEVER, Context
from profiles.features.past import Past
from profiles.schema import DAY


@dataclass(frozen=True)
class Part:
    """What some users add: rows of the flat tables they raise, by one each, and what else they say."""

    ones: dict[str, np.ndarray]
    item: np.ndarray
    time: np.ndarray
    touched: np.ndarray
    toucher_events: np.ndarray
    values: tuple[np.ndarray, np.ndarray]
    pairs: tuple[np.ndarray, np.ndarray]


@dataclass
class Totals:
    """Arrays with one row an item, as of the context's moment."""

    context: Context
    config: FeaturesConfig
    audiences: dict[str, pl.Series] = field(default_factory=dict)  # values of each audience attribute, sorted

    def __post_init__(self) -> None:
        items, types = len(self.context.item_ids), len(self.context.event_types) + 1
        windows = len(self.config.windows_days) + 1
        self.shape = (items, types, windows)
        self.ones = {
            "counts": np.zeros(items * types * windows, np.uint32),
            **{name: np.zeros(items, np.uint32) for name in ("users", "young", "opens", "7", "30")},
            **{f"audience {n}": np.zeros(items * len(v), np.uint32) for n, v in self.audiences.items()},
        }
        self.user_events = np.zeros(items, np.int64)  # events of each user who touched the item, added up
        self.first, self.last = np.full(items, NEVER), np.full(items, -NEVER)
        self.value_sum = np.zeros((items, types))
        self.value_count = np.zeros((items, types), np.int64)
        self._pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]

    def part(self, past: Past, attributes: dict[str, np.ndarray]) -> Part:
        """Look at some users; `attributes` holds each one's code of an audience attribute, -1: unknown."""
        at = np.flatnonzero(past.named)
        item, events = past.events.item[at], past.events
        cell = item * np.int64(self.shape[1]) + events.kind[at]
        first_touch = np.flatnonzero(past.touches[0])
        touched, toucher = events.item[first_touch], past.user[first_touch]
        tenure = events.time[at] - events.time[events.starts][past.user[at]]
        valued = ~np.isnan(events.value[at])
        ones = {
            "counts": cell * self.shape[2] + past.window[at],
            "users": touched,
            "young": item[tenure < self.config.new_user_days * DAY],
            "opens": item[past.opens_session[at]],
            "7": item[past.within(7)[at]],
            "30": item[past.within(30)[at]],
        }
        for name, codes in attributes.items():
            code = codes[toucher]
            known = code >= 0
            ones[f"audience {name}"] = touched[known] * np.int64(len(self.audiences[name])) + code[known]
        values = cell[valued], events.value[at][valued]
        return Part(ones, item, events.time[at], touched, past.length[toucher], values, self._visits(past))

    def add(self, part: Part) -> None:
        """Add what some users add."""
        for name, rows in part.ones.items():
            np.add.at(self.ones[name], rows, np.uint32(1))
        np.add.at(self.user_events, part.touched, part.toucher_events)
        np.minimum.at(self.first, part.item, part.time)
        np.maximum.at(self.last, part.item, part.time)
        cell, value = part.values
        np.add.at(self.value_sum.reshape(-1), cell, value)
        np.add.at(self.value_count.reshape(-1), cell, 1)
        self._pairs.append(part.pairs)

    def _visits(self, past: Past) -> tuple[np.ndarray, np.ndarray]:
        """Count pairs of different items that follow each other in a visit, as (small * items + large)."""
        recent = past.named & past.within(self.config.co_items_days)
        at = np.flatnonzero(recent)
        visit = np.cumsum(past.opens_session)[at]
        a, b = past.events.item[at][:-1].astype(np.int64), past.events.item[at][1:].astype(np.int64)
        paired = (visit[1:] == visit[:-1]) & (a != b)
        key = np.minimum(a, b)[paired] * len(self.context.item_ids) + np.maximum(a, b)[paired]
        return np.unique(key, return_counts=True)

    @cached_property
    def counts(self) -> np.ndarray:
        """Events by (item, type, window), once all are added; the last window is all time."""
        return self.ones["counts"].reshape(self.shape).cumsum(axis=2, dtype=np.int64)

    def audience(self, name: str) -> np.ndarray:
        """Users by (item, value) of a user attribute."""
        return self.ones[f"audience {name}"].reshape(self.shape[0], -1)

    def pairs(self) -> pl.DataFrame:
        """Return (small, large, times): rows of two items next to each other in visits; pairs may repeat."""
        key = np.concatenate([keys for keys, _ in self._pairs])
        small, large = np.divmod(key, max(1, self.shape[0]))
        times = np.concatenate([counts for _, counts in self._pairs])
        return pl.DataFrame({"small": small, "large": large, "times": times})
