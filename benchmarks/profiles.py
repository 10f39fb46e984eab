"""The simulated log to every profile column, against what others need for less.

`full` builds all registered non-text columns; its `ratio` is the time of DuckDB's one
`GROUP BY user_id, event_type` over the same files divided by ours. Beside it stand the same columns in
plain Polars and, those that can be said in it and up to ten million events, in pandas.

`snapshot` is all that `attune build` does, `day` the same for one day more on top of the snapshot before:
its `ratio` is the time of `snapshot` divided by its own.

    python -m benchmarks.profiles --events 100_000_000
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import log, profile_days, profile_peers
from benchmarks.log import Log, LogConfig
from benchmarks.process import Figures, Task, scratch
from benchmarks.profile_days import groups
from benchmarks.profile_polars import WEIGHTS
from benchmarks.report import Benchmark, Plan, Row
from profiles import memory
from profiles.features import FeaturesConfig, history_build
from profiles.features.profile_build import ProfileBuild
from profiles.interactions import InteractionsConfig
from profiles.schema import TIME, microseconds

MILLION = 1_000_000
REPEATED = 10 * MILLION  # events up to which three runs are made; above it ours once, the peer twice
FIGURES = ("seconds", "columns", "users")
DAYS = ("seconds", "new_events")
PEERS = ("benchmarks/profile_polars.py", "benchmarks/profile_pandas.py")


def full(folder: str) -> Figures:
    """Time our own build."""
    files = Log(Path(folder))
    with scratch(files.folder.parent) as place:
        begun = time.perf_counter()
        columns, users = ours(files, place)
        return {"seconds": time.perf_counter() - begun, "columns": columns, "users": users}


def ours(files: Log, place: Path) -> tuple[int, int]:
    """Build the profiles of a log at the end of its year in an empty folder.

    Returns how many registered columns that are not text they have, and how many users.
    """
    items, users = pl.read_parquet(files.items), pl.read_parquet(files.users)
    texts = pl.DataFrame(schema={"user_id": pl.String, "text": pl.String, "timestamp": TIME})

    def scan(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for file in files.events:
            first = 0
            for rows in groups(file):  # Polars by its rows, so that strings are decoded once
                yield pl.scan_parquet(file).slice(first, rows).select(columns).collect()
                first += rows

    (place / "history").mkdir()
    rows = sum(sum(groups(file)) for file in files.events)
    moment, config = microseconds(files.as_of), FeaturesConfig()
    weights = InteractionsConfig(weights=WEIGHTS)
    with memory.kept():  # as a snapshot's build does
        past = history_build.build(place / "history", scan, rows, items["item_id"], {})
        ProfileBuild(past, items, users, texts, moment, config, weights).run(place)
    shapes = [pl.read_ipc_schema(place / f"{kind}_profiles.arrow") for kind in ("user", "item")]
    text = ("user_id", "item_id", "last_text", "top_terms")
    return sum(name not in text for shape in shapes for name in shape), len(users)


def plan(args: argparse.Namespace) -> Plan:
    """Ours and the peers at --events; ours and DuckDB at 1 and 10 million too, to see how they grow."""
    asked = log.config(args)
    rows = _pair(args, "", asked.events)
    rows.append(_row(args, "polars", profile_peers.polars, asked.events, measured=PEERS))
    rows.append(_row(args, "pandas", profile_peers.pandas, min(asked.events, 10 * MILLION), measured=PEERS))
    days = {"figures": DAYS, "measured": ("profiles", "benchmarks/profile_days.py")}
    whole = _row(args, "snapshot", profile_days.snapshot, asked.events, **days)
    rows += [whole, _row(args, "day", profile_days.day, asked.events, peer=whole, **days)]
    for suffix, events in (("_1m", MILLION), ("_10m", 10 * MILLION)):
        beyond = f"beyond --events {asked.events:,}" if events > asked.events else ""
        rows += _pair(args, suffix, events, beyond)
    return Plan(asked.counts, rows)


def _pair(args: argparse.Namespace, suffix: str, events: int, skipped: str = "") -> list[Row]:
    peer = _row(args, f"duckdb_group_by{suffix}", profile_peers.duckdb_group_by, events, skipped=skipped)
    mine = _row(args, f"full{suffix}", full, events, peer=peer, measured=("profiles",), skipped=skipped)
    return [mine, peer]


def _row(
    args: argparse.Namespace,
    name: str,
    function: Callable[..., Figures],
    events: int,
    figures: tuple[str, ...] = FIGURES,
    **more: Any,
) -> Row:
    of = LogConfig(events, args.seed)
    return Row(
        name,
        Task(function, {"folder": of.folder(args.data)}),
        figures,
        needs=(of.made(args.data),),
        repeats=3 if events <= REPEATED and not args.quick else 1,
        facts={"events": events},
        **more,
    )


if __name__ == "__main__":
    Benchmark("profiles", "From a simulated log to user profiles.", plan, log.options).main()
