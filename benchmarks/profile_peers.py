"""What others make of the simulated log, each timed as a row of `benchmarks.profiles`."""

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl

from benchmarks.log import Log
from benchmarks.process import Figures, NotReached
from benchmarks.profile_polars import polars_profiles
from profiles import threads

GROUP_BY = """
create temp table counted as
select user_id, event_type, count(*) as events from read_parquet($files) group by user_id, event_type
"""


def polars(folder: str) -> Figures:
    """Time the same columns in plain Polars."""
    return _timed(polars_profiles, folder)


def pandas(folder: str) -> Figures:
    """Time the columns pandas can say."""
    try:
        from benchmarks.profile_pandas import pandas_profiles
    except ImportError as error:
        raise NotReached(f"pandas is not installed: {error}") from None
    about = "all but affinities, last items, entropies and what hangs on the standing of items"
    return _timed(pandas_profiles, folder) | {"covers": about}


def _timed(build: Callable[[Log], pl.DataFrame], folder: str) -> Figures:
    begun = time.perf_counter()
    profiles = build(Log(Path(folder)))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "columns": profiles.width - 1, "users": profiles.height}


def duckdb_group_by(folder: str) -> Figures:
    """Time DuckDB's own count of events by user and type."""
    files = [str(file) for file in Log(Path(folder)).events]
    with duckdb.connect(config={"threads": threads.available()}) as connection:
        connection.execute("set enable_progress_bar = false")
        begun = time.perf_counter()
        connection.execute(GROUP_BY, {"files": files}).fetchall()
        seconds = time.perf_counter() - begun
        found = connection.execute("select count(distinct user_id), sum(events) from counted").fetchone()
    assert found is not None
    return {"seconds": seconds, "columns": 1, "users": found[0], "counted": int(found[1])}
