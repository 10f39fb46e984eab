"""Attributes that change: several versions of an id, told apart by when each begins to hold.

A row of ITEMS or USERS with a `valid_from` holds from that moment until the next row of its id; one
without holds from ever. Where no frame has the column, attributes are those of today (`current`).
"""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from profiles.schema import TIME, ContractError

SINCE = "valid_from"
_EVER = pl.lit(-(2**62)).cast(TIME)


def is_versioned(frame: pl.DataFrame) -> bool:
    """Whether a frame may hold several versions of an id."""
    return SINCE in frame.columns


def as_of(frame: pl.DataFrame, moment: datetime, key: str) -> pl.DataFrame:
    """Return for each id its newest version that holds at `moment`, sorted by id.

    An id whose first version begins later is not there. A frame without versions is returned as it is,
    sorted. Raises ContractError for a moment without zone.
    """
    if moment.tzinfo is None:
        raise ContractError(f"as_of = {moment}: a moment needs its time zone")
    if not is_versioned(frame):
        return frame.sort(key)
    holds = pl.col(SINCE).is_null() | (pl.col(SINCE) <= moment)
    newest_last = frame.filter(holds).sort(key, SINCE, nulls_last=False, maintain_order=True)
    return newest_last.unique(key, keep="last", maintain_order=True)


def merged(frames: Sequence[pl.DataFrame], key: str) -> pl.DataFrame:
    """Join the rows of several sources by id; where two fill the same attribute, the first wins.

    Where sources have versions, there is one for every moment that one of them names, with what each says
    then; what a source without versions says holds for all. Sorted by id, older versions first.
    """
    if not any(is_versioned(frame) for frame in frames):
        rows = pl.concat([frame.select(key) for frame in frames]).unique().sort(key)
        for frame in frames:
            rows = _filled(rows, rows.select(key).join(frame, on=key, how="left", maintain_order="left"))
        return rows
    dated = [frame.select(key, SINCE) for frame in frames if is_versioned(frame)]
    moments = pl.concat(dated).unique()
    plain = [frame.select(key) for frame in frames if not is_versioned(frame)]
    if plain:
        others = pl.concat(plain).unique().join(moments, on=key, how="anti")
        moments = pl.concat([moments, others.with_columns(pl.lit(None, TIME).alias(SINCE))])
    rows = moments.sort(key, SINCE, nulls_last=False)
    # Since ever is a moment too, so that rows can be compared.
    asked = rows.select(key, pl.col(SINCE).fill_null(_EVER)).with_row_index("place").sort(SINCE)
    for frame in frames:
        since = pl.col(SINCE).fill_null(_EVER) if is_versioned(frame) else _EVER
        said = frame.with_columns(since.alias(SINCE)).sort(SINCE)
        then = asked.join_asof(said, on=SINCE, by=key, check_sortedness=False).sort("place")
        rows = _filled(rows, then.drop("place", SINCE))
    return rows


def _filled(rows: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """Add what a source says of the same rows; what is there already stays."""
    return rows.with_columns(
        pl.when(rows[name].is_not_null()).then(rows[name]).otherwise(said[name]).alias(name)
        if name in rows.columns
        else said[name]
        for name in said.columns
    )
