"""One user's read among ten million: their profile, and what they did.

Every row opens what it reads from, reads once (`first_ms`), then reads users drawn at random, one in a
hundred of them unknown. Beside ours stand DuckDB and Polars on the same rows as Parquet sorted by user.

    python -m benchmarks.lookup
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.lookup_data import LookupConfig, files
from benchmarks.process import Figures, Task
from benchmarks.report import Benchmark, Plan, Row, count
from profiles import manifest, threads
from profiles.features import history as written
from profiles.features import history_build
from profiles.features.lookup import ProfileRows
from profiles.schema import EVENTS

Profile = Callable[[str], dict[str, Any]]  # {} for a user nobody knows
History = Callable[[str], pl.DataFrame]  # oldest first; empty for a user nobody knows
READS, SECONDS, UNKNOWN = 20_000, 20.0, 0.01  # most reads, longest time, share of strangers
FIGURES = ("p50_ms", "p99_ms", "first_ms", "open_s")


# Ours


def index_profiles(source: str, folder: str) -> Figures:
    """Store the profiles in `source` (Parquet, by user) in `folder` the way live answers read them."""
    place = Path(folder)
    if not place.exists():
        with manifest.building(place, {"source": source}) as made:
            parts = files(Path(source))
            schema = pl.read_parquet(parts[0], n_rows=0).to_arrow().schema
            with (
                pa.OSFile(str(made / "user_profiles.arrow"), "wb") as file,
                pa.ipc.new_file(file, schema) as out,
            ):
                for part in parts:
                    out.write_table(pl.read_parquet(part).to_arrow())
    return {}


def open_profiles(folder: Path) -> Profile:
    """Open what `index_profiles` left."""
    rows = ProfileRows(folder / "user_profiles.arrow")
    return lambda user_id: rows.get(user_id) or {}


def index_history(source: str, folder: str) -> Figures:
    """Store the events in `source` (Parquet, by user, oldest first) the way live answers read them."""
    place = Path(folder)

    def scan(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for part in files(Path(source)):
            known = pl.read_parquet_schema(part)
            yield pl.read_parquet(part, columns=[c for c in columns if c in known]).with_columns(
                pl.lit(None, EVENTS.schema[c]).alias(c) for c in columns if c not in known
            )

    if not place.exists():
        rows = sum(pq.ParquetFile(part).metadata.num_rows for part in files(Path(source)))
        with manifest.building(place, {"source": source}) as made:
            history_build.build(made, scan, rows, pl.Series([], dtype=pl.String), {})
    return {}


def open_history(folder: Path) -> History:
    """Open what `index_history` left."""
    return written.History(folder).past


def profile(folder: str, users: int, seed: int, most: int) -> Figures:
    """Measure our reads of a profile."""
    return _measured(open_profiles, folder, users, seed, most)


def history(folder: str, users: int, seed: int, most: int) -> Figures:
    """Measure our reads of a history."""
    return _measured(open_history, folder, users, seed, most)


# Peers


def polars_rows(folder: str, users: int, seed: int, most: int) -> Figures:
    """Measure a Polars scan filtered to one user."""
    return _measured(_polars, folder, users, seed, most)


def duckdb_rows(folder: str, users: int, seed: int, most: int) -> Figures:
    """Measure a DuckDB query for one user."""
    return _measured(_duckdb, folder, users, seed, most)


def _polars(folder: Path) -> History:
    scan = pl.scan_parquet(files(folder))
    return lambda user_id: scan.filter(pl.col("user_id") == user_id).collect()


def _duckdb(folder: Path) -> History:
    connection = duckdb.connect(config={"threads": threads.available()})
    connection.execute("set parquet_metadata_cache = true")  # the files' footers, read once
    names = [str(file) for file in files(folder)]
    query = "select * from read_parquet($files) where user_id = $user_id"
    return lambda user_id: connection.sql(query, params={"files": names, "user_id": user_id}).pl()


# Measuring


def _measured(
    opened: Callable[[Path], Profile] | Callable[[Path], History],
    folder: str,
    users: int,
    seed: int,
    most: int,
) -> Figures:
    begun = time.perf_counter()
    read = opened(Path(folder))
    opening = time.perf_counter() - begun
    took: list[float] = []
    for user_id, known in drawn(users, seed, most):
        start = time.perf_counter()
        answer = read(user_id)
        end = time.perf_counter()
        took.append(end - start)
        if bool(len(answer)) != known or (known and _owner(answer) not in (None, user_id)):
            raise AssertionError(f"asked for {user_id} ({'known' if known else 'unknown'}), got {answer!r}")
        if end - begun > SECONDS:
            break
    times = np.array(took[1:] or took) * 1000
    return {
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "first_ms": took[0] * 1000,
        "open_s": opening,
        "reads": len(took),
    }


def drawn(users: int, seed: int, number: int) -> list[tuple[str, bool]]:
    """Draw whom to ask for, and whether they are known; the first is."""
    rng = np.random.default_rng([seed, 2])
    known = rng.random(number) >= UNKNOWN
    known[0] = True
    picked = rng.integers(0, users, number)
    return [(f"u{n:07}" if k else f"x{n:07}", bool(k)) for n, k in zip(picked, known, strict=True)]


def _owner(answer: dict[str, Any] | pl.DataFrame) -> str | None:
    """Return whose answer it is, where it says so."""
    if isinstance(answer, dict):
        return answer.get("user_id")
    return str(answer["user_id"][0]) if "user_id" in answer.columns else None


def options(parser: argparse.ArgumentParser) -> None:
    """Add --users."""
    parser.add_argument("--users", type=count, help="users with a profile and a history; default: 10 million")


def plan(args: argparse.Namespace) -> Plan:
    """Profile and history, each with its two peers."""
    of = LookupConfig(args.users or (2_000 if args.quick else 10_000_000), args.seed)
    asked = {**asdict(of), "most": 200 if args.quick else READS}
    rows: list[Row] = []
    for what, index, measure in (
        ("profile", index_profiles, profile),
        ("history", index_history, history),
    ):
        plural = "profiles" if what == "profile" else what
        source, made = of.folder(args.data, plural), of.made(args.data, plural)
        indexed = source.with_name(f"{source.name}-indexed")
        of_peer: dict[str, Any] = {"figures": FIGURES, "needs": (made,), "compared": "p99_ms"}
        there = {"folder": source, **asked}
        scan = Row(f"{what}_polars", Task(polars_rows, there), **of_peer)
        query = Row(f"{what}_duckdb", Task(duckdb_rows, there), **of_peer)
        ours = Row(
            what,
            Task(measure, {"folder": indexed, **asked}),
            FIGURES,
            measured=("profiles", "serving", "benchmarks/lookup_data.py"),
            needs=(made, Task(index, {"source": source, "folder": indexed})),
            peer=scan,
            compared="p99_ms",
        )
        rows += [ours, scan, query]
    return Plan(of.counts, rows)


if __name__ == "__main__":
    Benchmark("lookup", "One user's read among many.", plan, options).main()
