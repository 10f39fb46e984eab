"""One user's profile at this moment: the batch's functions over the events of one."""

from copy import copy
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from profiles.features import FeaturesConfig
from profiles.features.attributes import said
from profiles.features.coding import session_keys
from profiles.features.context import Context
from profiles.features.past import Events, Past, marks, worded
from profiles.features.terms import written_by_one
from profiles.features.user_features import user_features
from profiles.interactions import InteractionsConfig
from profiles.schema import microseconds


def coded(events: pl.DataFrame, context: Context) -> Events:
    """Turn one user's EVENTS, at least one and oldest first, into what columns read.

    Items and event types that the context does not know count as events, and as nothing more.
    """
    return Events(
        starts=np.zeros(1, np.int64),
        item=context.rows(events["item_id"]),
        kind=context.kinds(events["event_type"]),
        time=events["timestamp"].cast(pl.Int64).to_numpy(),
        value=events["value"].cast(pl.Float64).to_numpy(),  # null becomes NaN
        marks=marks(events).to_numpy(),
        session=session_keys(events["session_id"]),
    )


def user_profile(
    user_id: str,
    events: pl.DataFrame,
    users: pl.DataFrame,
    at: datetime,
    context: Context,
    config: FeaturesConfig,
    interactions: InteractionsConfig,
) -> dict[str, Any]:
    """Return the row of USER_PROFILES of one user, from their EVENTS at or before `at`, oldest first.

    `users` holds the user's own row of USERS, or none.
    """
    features = user_features(context, config)
    row: dict[str, Any] = {"user_id": user_id}
    if len(events):
        past = Past(coded(events, context), microseconds(at), context, config, interactions)
        row |= {name: feature.value(past) for name, feature in features.items()}
    else:
        row |= {name: copy(feature.fill) for name, feature in features.items()}
    row |= written_by_one(events.filter(worded()), context.telling, config)
    own = said(users, config)
    if len(own):
        return row | own.row(0, named=True)
    return row | {name: False if name.startswith("consent_") else None for name in own.columns[1:]}
