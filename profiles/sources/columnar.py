"""Parquet, some rows at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from profiles.schema import ContractError
from profiles.sources.limits import Limits

ROWS, SIZE = 100_000, 32 << 20  # rows and, by what the file says of itself, bytes decoded at a time


def read_parquet(
    path: Path, limits: Limits, consumed: Callable[[int], None] = lambda _: None
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file, first none of them. Its page checksums are checked where it has any."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=1 << 20) as file:
            yield from _rows(path, file, limits, consumed)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError) as error:
        if isinstance(error, ContractError | pa.ArrowMemoryError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ContractError(f"{path} is no whole Parquet file: {reason}; fetch or write it again") from error


def _rows(
    path: Path, file: pq.ParquetFile, limits: Limits, consumed: Callable[[int], None]
) -> Iterator[pl.DataFrame]:
    about, names = file.metadata, file.schema_arrow.names
    if len(names) > limits.columns or about.num_columns > 10 * limits.columns:
        raise ContractError(
            f"{path} has {max(len(names), about.num_columns):,} columns, more than limits.columns = "
            f"{limits.columns:,}"
        )
    yield _frame(file.schema_arrow.empty_table())
    seen, length = 0, path.stat().st_size
    for group in range(about.num_row_groups):
        told = about.row_group(group)
        each = max(1, told.total_byte_size // max(1, told.num_rows))
        size = min(ROWS, max(1, SIZE // each))
        for batch in file.iter_batches(size, row_groups=[group], use_threads=False):
            batch.validate(full=True)
            seen += batch.num_rows
            consumed(length * seen // max(seen, about.num_rows))
            yield _frame(pa.Table.from_batches([batch]))
    if seen != about.num_rows:
        raise ValueError(f"{seen:,} rows where its footer says {about.num_rows:,}")


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
