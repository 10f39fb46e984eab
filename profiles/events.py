"""What makes an event itself: the hash of its content, and the id made from it."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import polars as pl

from profiles.schema import EVENTS


def event_digest(frame: pl.DataFrame) -> pl.Series:
    """Return the BLAKE2b-128 of each EVENTS row's content, its id left out, as 32 hexadecimal digits."""
    return event_hash(frame).bin.encode("hex")


def event_hash(frame: pl.DataFrame) -> pl.Series:
    """Return the BLAKE2b-128 of each EVENTS row's content, its id left out, as 16 bytes.

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
    return hashes(frame.select(pl.concat_str(parts, ignore_nulls=True)).to_series())


def hashes(texts: pl.Series, start: bytes = b"") -> pl.Series:
    """Return the BLAKE2b-128 of `start` and each text, as 16 bytes."""
    content = texts.cast(pl.Binary).to_list()
    return pl.Series(texts.name, list(_hashed(content, start)), dtype=pl.Binary)


def assign_ids(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    """Give an event_id to each EVENTS row without one, from (source, content, nth such content).

    A real repeat keeps its own id, and reading the same rows again, in any order, gives the same ids.
    """
    if "event_id" not in frame.columns:
        frame = frame.with_columns(event_id=pl.lit(None, pl.String))
    bare = frame["event_id"].is_null()
    digests = event_hash(frame.filter(bare))
    nth = digests.to_frame("digest").select(pl.int_range(pl.len()).over("digest")).to_series()
    return frame.with_columns(
        event_id=frame["event_id"].scatter(bare.arg_true(), event_ids(digests, nth, source))
    )


def event_ids(digests: pl.Series, nth: pl.Series, source: str) -> pl.Series:
    """Return the ids of rows of a source by their event_hash and how many rows like them came before."""
    texts = digests.bin.encode("hex").alias("hex").to_frame().select(pl.concat_str("hex", nth.alias("nth")))
    start = f"{len(source.encode())}:{source};".encode()
    return hashes(texts.to_series(), start).bin.encode("hex")


def _hashed(content: Iterable[bytes], start: bytes) -> Iterator[bytes]:
    begun = blake2b(start, digest_size=16)
    for part in content:
        hashed = begun.copy()  # quicker than another beginning
        hashed.update(part)
        yield hashed.digest()
