"""Splits that others made, kept in files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from profiles.schema import INTERACTIONS, TIME, ContractError
from recsys.dataset import Catalogue
from recsys.split.experiment import Split, SplitConfig, experiment
from recsys.split.temporal import bounds
from recsys.split.withheld import ANY

READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".tsv": lambda path: pl.read_csv(path, separator="\t"),
}


def given(
    train: Path, truth: Path, catalogue: Catalogue, config: SplitConfig, histories: Path | None = None
) -> Split:
    """Read a split from files: CSV, TSV or Parquet of user_id, item_id and, if known, timestamp, weight.

        train.csv      ──x──x──x──
        histories.csv  ──h──h──         of the users asked about; without it train is
        truth.csv                ──1──

    The moment is the last of what is known, without times that of the newest item; of whether train leaks the
    times tell, where there are times.
    Raises ContractError for a file that cannot be read or lacks a column, and for a pair in both.
    """
    files = [path for path in (train, truth, histories) if path is not None]
    frames = [_load(path) for path in files]
    newest = int(catalogue.available_from.max(initial=0))
    learned, asked, *others = (_interactions(frame, newest) for frame in frames)
    known = pl.concat([learned, *others])
    both = asked.join(known, on=["user_id", "item_id"])
    if len(both) and not config.repeat_consumption:
        user, item = both.select("user_id", "item_id").row(0)
        raise ContractError(
            f"{truth}: user {user!r}, item {item!r} is in the known files too, and so {len(both)} in all; "
            "take them out, or set repeat_consumption = true"
        )
    untimed = [p for p, frame in zip(files[:2], frames, strict=False) if "timestamp" not in frame.columns]
    leaks = None
    if untimed:
        leaks = f"unknown: {untimed[0].name} has no times"
    elif bounds(learned)[1] > bounds(asked)[0]:
        leaks = ANY
    past = others[0] if others else None
    return experiment("given", bounds(known)[1], learned, asked, catalogue, config, leaks, past)


def _load(path: Path) -> pl.DataFrame:
    if path.suffix not in READERS:
        raise ContractError(f"{path}: a split is read from {', '.join(READERS)}, not {path.suffix!r}")
    try:
        frame = READERS[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ContractError(f"{path}: {str(error).splitlines()[0]}") from None
    if missing := {"user_id", "item_id"} - {*frame.columns}:
        raise ContractError(f"{path}: there is no column {min(missing)!r}; it has {', '.join(frame.columns)}")
    if frame.is_empty():
        raise ContractError(f"{path}: there are no rows")
    return frame


def _interactions(frame: pl.DataFrame, moment: int) -> pl.DataFrame:
    """Return INTERACTIONS; what a file does not say is weight 1, type "given" and this moment."""
    time = pl.col("timestamp")
    if "timestamp" not in frame.columns:
        frame = frame.with_columns(timestamp=pl.lit(moment).cast(pl.Datetime("us")))
    elif frame.schema["timestamp"].is_integer():
        frame = frame.with_columns(pl.from_epoch(time))
    elif frame.schema["timestamp"] == pl.String:
        frame = frame.with_columns(time.str.to_datetime(time_zone="UTC"))
    if frame["timestamp"].dtype.time_zone is None:  # type: ignore[attr-defined]
        frame = frame.with_columns(time.dt.replace_time_zone("UTC"))
    extra = {"weight": pl.lit(1.0), "event_type": pl.lit("given")}
    return INTERACTIONS.conform(
        frame.with_columns(
            pl.col("user_id", "item_id").cast(pl.String),
            time.cast(TIME),
            *(value.alias(name) for name, value in extra.items() if name not in frame.columns),
        ).with_columns(pl.col("weight").cast(pl.Float32))
    )
