"""The frames of a snapshot that are the log itself, written as it is read, in bounded memory.

EVENTS up to the moment, the INTERACTIONS they are weighed into, and TEXTS: what users wrote and items say.
Each lies in a folder of its own, in parts (`log_parts`); behind the parts of TEXTS comes what items say.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from profiles.interactions import InteractionsConfig, interactions
from profiles.log_parts import Log, Scan
from profiles.manifest import Origin
from profiles.manifest import read as read_manifest
from profiles.schema import EVENTS, INTERACTIONS, TEXTS, Frame
from profiles.texts import text_hash

LOG = ("events", "interactions", "texts")
ROWS = 250_000  # rows a row group holds
SAID = "items.parquet"  # of TEXTS; sorted behind the parts


def log_frame(folder: Path, name: str) -> pl.DataFrame:
    """Return a frame of LOG, in the order of the log."""
    return pl.read_parquet(sorted((folder / name).glob("*.parquet")))


def written_texts(folder: Path) -> pl.DataFrame:
    """Return what users wrote as TEXTS."""
    return pl.concat([TEXTS.empty(), *map(pl.read_parquet, sorted((folder / "texts").glob("[0-9]*")))])


def write_log(
    log: Log,
    scan: Scan,
    moment: datetime,
    config: InteractionsConfig,
    folder: Path,
    origin: Origin | None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write what the log says up to a moment; the parts that were taken over are linked from `origin`.

    Their interactions are weighed anew where the settings of then were others.
    """
    if origin and log.taken:
        weighed = read_manifest(origin.folder)["interactions"] == config.model_dump(mode="json")
        for number in range(log.taken):
            for name in LOG:
                if name != "interactions" or weighed:
                    origin.link(_part(name, number), folder)
            if not weighed:
                _weigh(number, config, folder)
    for number, part in enumerate(log.new, log.taken):
        _write(scan(part.first, part.last), number, moment, config, folder, progress)
    log.save(folder)


def write_said(items: pl.DataFrame, folder: Path, origin: Origin | None, same: bool) -> None:
    """Write what items say, behind the parts of texts; `same`: the items are those of `origin`.

    Where others came or some changed, texts that were there keep the hash they had.
    """
    name = f"texts/{SAID}"
    if origin and same:
        origin.link(name, folder)
        return
    known = pl.read_parquet(origin.folder / name) if origin else None
    with FrameWriter(folder / name, TEXTS) as texts:
        texts.add(said(items, known))


def _part(name: str, number: int) -> str:
    return f"{name}/{number:04}.parquet"


def _write(
    batches: Iterable[pl.DataFrame],
    number: int,
    moment: datetime,
    config: InteractionsConfig,
    folder: Path,
    progress: Callable[[int], None],
) -> None:
    with (
        FrameWriter(folder / _part("events", number), EVENTS) as events,
        FrameWriter(folder / _part("interactions", number), INTERACTIONS) as weighted,
        FrameWriter(folder / _part("texts", number), TEXTS) as texts,
    ):
        for batch in batches:
            known = batch.filter(pl.col("timestamp") <= moment)
            events.add(known)
            weighted.add(interactions(known, config))
            texts.add(written(known))
            progress(len(batch))


def _weigh(number: int, config: InteractionsConfig, folder: Path) -> None:
    """Write a part of interactions from the events that are there."""
    with FrameWriter(folder / _part("interactions", number), INTERACTIONS) as weighted:
        for batch in _batches(folder / _part("events", number)):
            weighted.add(interactions(batch, config))


def _batches(path: Path) -> Iterator[pl.DataFrame]:
    lazy = pl.scan_parquet(path)
    for first in range(0, lazy.select(pl.len()).collect().item(), ROWS):
        yield lazy.slice(first, ROWS).collect()


class FrameWriter:
    """Writes one frame to a Parquet file, part after part, in row groups of ROWS or more."""

    def __init__(self, path: Path, frame: Frame) -> None:
        path.parent.mkdir(exist_ok=True)
        self._frame, self._waiting = frame, [frame.empty()]
        words = [name for name, column in frame.columns.items() if column.dtype == pl.String]
        self._file = pq.ParquetWriter(
            path,
            frame.empty().to_arrow().schema,
            compression="zstd",
            use_dictionary=[
                name for name in words if (name,) != frame.key
            ],  # ids that never repeat need none
        )

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


def said(items: pl.DataFrame, known: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return what items say as TEXTS; texts among those `known` are not hashed again."""
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
    return _hashed(found, known)


def _hashed(found: pl.DataFrame, known: pl.DataFrame | None = None) -> pl.DataFrame:
    before = {} if known is None else dict(zip(known["text"], known["text_hash"], strict=True))
    hashes = [before.get(text) or text_hash(text) for text in found["text"]]
    return TEXTS.conform(found.with_columns(text_hash=pl.Series(hashes, dtype=pl.String)))


def _worded(text: pl.Expr) -> pl.Expr:
    """Null where there is nothing but blanks."""
    return pl.when(text.str.strip_chars() != "").then(text)
