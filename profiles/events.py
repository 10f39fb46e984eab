"""What makes an event itself: the hash of its content, and the id made from it."""

from hashlib import blake2b

import polars as pl

from profiles.schema import EVENTS


def event_digest(frame: pl.DataFrame) -> pl.Series:
    """Return the BLAKE2b-128 of each EVENTS row's content, its id left out, as 32 hexadecimal digits.

    Content is `name=length:value;` for each column that is not null, so null differs from empty, no
    value can pass for two, and a column that EVENTS may gain later changes no hash until it is used.
    """
    parts = []
    for name in EVENTS.schema:
        if name == "event_id" or name not in frame.columns:
            continue
        column = frame[name].cast(EVENTS.schema[name])
        if name == "timestamp":
            text = column.cast(pl.Int64).cast(pl.String)
        elif name == "value":  # its bits: how a float is printed may change; -0.0 is zero
            text = column.set(column == 0, 0.0).reinterpret(dtype=pl.Int64).cast(pl.String)
        else:
            text = column
        parts.append(pl.format("{}={}:{};", pl.lit(name), text.str.len_bytes(), text))
    content = frame.select(pl.concat_str(parts, ignore_nulls=True)).to_series()
    return pl.Series([blake2b(row.encode(), digest_size=16).hexdigest() for row in content], dtype=pl.String)


def assign_ids(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    """Give an event_id to each EVENTS row without one, from (source, content, nth such content).

    A real repeat keeps its own id, and reading the same rows again, in any order, gives the same ids.
    """
    if "event_id" not in frame.columns:
        frame = frame.with_columns(event_id=pl.lit(None, pl.String))
    bare = frame["event_id"].is_null()
    digests = event_digest(frame.filter(bare))
    nth = digests.to_frame("digest").select(pl.int_range(pl.len()).over("digest")).to_series()
    start = blake2b(f"{len(source.encode())}:{source};".encode(), digest_size=16)
    ids = []
    for digest, place in zip(digests, nth, strict=True):
        hashed = start.copy()
        hashed.update(f"{digest}{place}".encode())
        ids.append(hashed.hexdigest())
    return frame.with_columns(event_id=frame["event_id"].scatter(bare.arg_true(), ids))
