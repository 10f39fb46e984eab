"""Where SQL runs: DuckDB in this process, over frames handed in by name.

DuckDB is never the system of record; a connection lives for one statement.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import duckdb
import polars as pl

from profiles import threads


def run(statement: str, frames: Mapping[str, pl.DataFrame], **parameters: Any) -> pl.DataFrame:
    """Run `sql/<statement>.sql` over `frames`; `$name` in it takes the parameter of that name."""
    sql = files("profiles").joinpath("sql", f"{statement}.sql").read_text()
    with duckdb.connect(
        config={"threads": threads.available(), "autoinstall_known_extensions": False}
    ) as con:
        for name, frame in frames.items():
            con.register(name, frame.to_arrow())
        answer: pl.DataFrame = con.sql(sql, params=parameters).pl()
    return answer
