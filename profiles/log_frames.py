"""The frames of a snapshot that are the log itself, written as it is read, in bounded memory.

EVENTS up to the moment, the INTERACTIONS they are weighed into, and TEXTS: what users wrote and items say.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from profiles.interactions import InteractionsConfig, interactions
from profiles.schema import EVENTS, INTERACTIONS, TEXTS, Frame
from profiles.texts import text_hash

ROWS = 250_000  # rows a row group holds


def write_log(
    batches: Iterable[pl.DataFrame],
    moment: datetime,
    items: pl.DataFrame,
    config: InteractionsConfig,
    folder: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Write events, interactions and texts .parquet; returns how many events there are and of which types."""
    count = 0
    types: set[str] = set()
    with (
        FrameWriter(folder / "events.parquet", EVENTS) as events,
        FrameWriter(folder / "interactions.parquet", INTERACTIONS) as weighted,
        FrameWriter(folder / "texts.parquet", TEXTS) as texts,
    ):
        for batch in batches:
            known = batch.filter(pl.col("timestamp") <= moment)
            events.add(known)
            weighted.add(interactions(known, config))
            texts.add(written(known))
            count += len(known)
            types.update(known["event_type"].unique())
            progress(len(batch))
        texts.add(said(items))
    return {"events": count, "types": types}


class FrameWriter:
    """Writes one frame to a Parquet file, part after part, in row groups of ROWS or more."""

    def __init__(self, path: Path, frame: Frame) -> None:
        self._frame, self._waiting = frame, [frame.empty()]
        self._file = pq.ParquetWriter(path, frame.empty().to_arrow().schema, compression="zstd")

    def __enter__(self) -> "FrameWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            self._file.close()

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows of the frame."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= ROWS:
            self._write()

    def _write(self) -> None:
        self._file.write_table(self._frame.conform(pl.concat(self._waiting)).to_arrow())
        self._waiting = [self._frame.empty()]


def texts(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Return TEXTS: what users wrote, and what each item says (title, categories, tags, description)."""
    return pl.concat([written(events), said(items)])


def written(events: pl.DataFrame) -> pl.DataFrame:
    """Return what users wrote as TEXTS."""
    found = events.filter(_worded(pl.col("text")).is_not_null())
    return _hashed(
        found.select(pl.lit("user").alias("owner"), pl.col("user_id").alias("id"), "text", "timestamp")
    )


def said(items: pl.DataFrame) -> pl.DataFrame:
    """Return what items say as TEXTS."""
    found = items.select(
        pl.lit("item").alias("owner"),
        pl.col("item_id").alias("id"),
        pl.concat_str(
            _worded(pl.col("title")),
            _worded(pl.col("categories").list.join(", ")),
            _worded(pl.col("tags").list.join(", ")),
            _worded(pl.col("text")),
            separator=". ",
            ignore_nulls=True,
        ).alias("text"),
        pl.lit(None, EVENTS.schema["timestamp"]).alias("timestamp"),
    ).filter(pl.col("text").str.len_chars() > 0)
    return _hashed(found)


def _hashed(found: pl.DataFrame) -> pl.DataFrame:
    hashes = pl.Series("text_hash", [text_hash(t) for t in found["text"]], dtype=pl.String)
    return TEXTS.conform(found.with_columns(hashes))


def _worded(text: pl.Expr) -> pl.Expr:
    """Null where there is nothing but blanks."""
    return pl.when(text.str.strip_chars() != "").then(text)
