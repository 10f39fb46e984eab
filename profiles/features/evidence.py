"""The events behind a trait: which of a user's events made a profile column what it is.

A column's events are those its `source` and `window` name; behind an affinity stand the weighted events
whose item has the value, the strongest first. What a column says of time, visits or habits rests on all
events of its window, so the latest of them are shown.
"""

import re
from datetime import datetime

import numpy as np
import polars as pl

from profiles.features import Feature, FeaturesConfig
from profiles.features.affinity import strongest
from profiles.features.context import ATTRIBUTES, Context
from profiles.features.live import coded
from profiles.features.past import WROTE, Past
from profiles.features.user_features import ITEM_EVENTS, MONEY, user_features
from profiles.interactions import InteractionsConfig
from profiles.schema import microseconds

WEIGHTED = "weighted events"


def behind(
    events: pl.DataFrame,
    at: datetime,
    context: Context,
    config: FeaturesConfig,
    interactions: InteractionsConfig,
    keep: int = 3,
) -> dict[str, pl.DataFrame]:
    """Return for each column the EVENTS, at most `keep`, it mostly rests on; none for an empty past.

    `events` are one user's, oldest first, all at or before `at`.
    """
    if not len(events):
        return {}
    past = Past(coded(events, context), microseconds(at), context, config, interactions)
    affinities = {f"{name}_affinity": name for name in ATTRIBUTES}
    found = {}
    for name, feature in user_features(context, config).items():
        if name in affinities:
            chosen = _leaned(past, affinities[name], keep)
        else:
            chosen = np.flatnonzero(_read(past, feature))[::-1][:keep]
        found[name] = events.select(pl.all().gather(chosen))
    return found


def _read(past: Past, feature: Feature[Past]) -> np.ndarray:
    """Tell which events a column is made from."""
    types = past.context.event_types
    chosen = np.ones(len(past.age), bool)
    if feature.source in types:
        chosen = past.events.kind == types.index(feature.source)
    elif feature.source == MONEY:
        chosen = past.money[past.events.kind] & (past.events.value > 0)
    elif feature.source == ITEM_EVENTS:
        chosen = past.named
    elif feature.source == WEIGHTED:
        chosen = past.weight > 0
    elif feature.source == "events with text":
        chosen = (past.events.marks & WROTE) > 0
    days = re.match(r"(\d+) days", feature.window)
    return chosen & past.within(int(days[1])) if days else chosen


def _leaned(past: Past, name: str, keep: int) -> np.ndarray:
    """Return the places of the events that count most for the first value of an affinity."""
    values = strongest(name, past).values
    if not len(values):
        return np.zeros(0, np.int64)
    attribute, first = past.context.attributes[name], values[:1].to_numpy()
    said = np.flatnonzero(past.weight > 0)
    has = attribute.items[past.events.item[said]][:, first].toarray()[:, 0] > 0
    counts = past.strength[said] * has
    order = np.argsort(-counts, kind="stable")[:keep]
    behind_it: np.ndarray = said[order[counts[order] > 0]]
    return behind_it
