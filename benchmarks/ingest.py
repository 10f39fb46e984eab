"""What it costs to make events durable: a CSV file through the whole first stage, and small appends.

`csv` reads, screens, names and commits a file; beside it what DuckDB and sqlite3 need to merely load it.
`append_N`: N threads of one process, each sending one event a call and waiting for its acknowledgement;
`append_1000`: one thread that sends batches of 1,000. `fsync_ms` is what one forced write of 4 KB takes
on the same disk just before: without group commit no store could acknowledge more often.

    python -m benchmarks.ingest
"""

import argparse
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from benchmarks import log
from benchmarks.log import Log
from benchmarks.process import Figures, Task, scratch
from benchmarks.report import Benchmark, Plan, Row, count
from profiles import threads
from profiles.schema import EVENTS
from profiles.store.sqlite import SQLiteStore

COLUMNS = ("user_id", "item_id", "event_type", "timestamp", "value")
CLIENTS = (1, 8, 64)
BATCH = 1000
FASTEST, MOST = 50_000, 3_000_000  # single events a second, and events of a row, that are made ready
CONFIG = """
[[events]]
name = "benchmark"
path = "{path}"
"""


def csv(folder: str, file: str) -> Figures:
    """Time the first stage of a workspace on the CSV file: parse, screen, make ids, commit."""
    from serving import ingest
    from serving.progress import Progress
    from serving.workspace import Workspace

    with scratch(Path(folder)) as place:
        (place / "attune.toml").write_text(CONFIG.format(path=file))
        workspace = Workspace(place / "workspace", place / "attune.toml")
        begun = time.perf_counter()
        found = ingest.run(workspace, Progress())
        seconds = time.perf_counter() - begun
        held = workspace.store.watermark()
        workspace.store.close()
        if found["accepted"] != held:
            raise AssertionError(f"{found['accepted']} events were accepted and {held} are in the log")
        return _rate(found["accepted"] + found["rejected"], seconds, _size(place / "workspace"))


def duckdb_csv(folder: str, file: str) -> Figures:
    """Time DuckDB's own reading of the CSV file into a table on disk."""
    with scratch(Path(folder)) as place:
        with duckdb.connect(place / "events.duckdb", config={"threads": threads.available()}) as connection:
            begun = time.perf_counter()
            connection.execute("create table events as select * from read_csv($file)", {"file": file})
            connection.execute("checkpoint")
            seconds = time.perf_counter() - begun
            (rows,) = connection.execute("select count(*) from events").fetchall()[0]
        return _rate(rows, seconds, _size(place))


def sqlite_csv(folder: str, file: str) -> Figures:
    """Time sqlite3's executemany of the CSV file's rows into a bare table, in one durable transaction."""
    with scratch(Path(folder)) as place:
        connection = sqlite3.connect(place / "events.db", isolation_level=None)
        begun = time.perf_counter()
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(f"create table events ({', '.join(COLUMNS)})")
        rows = pl.read_csv(file, infer_schema=False)
        connection.execute("begin")
        connection.executemany("insert into events values (?, ?, ?, ?, ?)", rows.iter_rows())
        connection.execute("commit")
        connection.close()
        return _rate(len(rows), time.perf_counter() - begun, _size(place))


def write_csv(folder: str, file: str, events: int) -> Figures:
    """Write the first events of a simulated log as CSV, unless the file is there."""
    target = Path(file)
    if not target.exists():
        rows = pl.scan_parquet(Log(Path(folder)).events).select(COLUMNS).head(events)
        part = target.with_suffix(".part")
        rows.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).sink_csv(part)
        part.rename(target)
    return {"disk_mb": _size(target)}


def append(folder: str, clients: int, batch: int, seconds: float, seed: int) -> Figures:
    """Time durable appends by some threads at once; what was acknowledged is counted in the log after."""
    ready = min(int(seconds * (FASTEST + 400 * batch)), MOST) // clients
    sent = [_events(client, max(ready, batch), seed) for client in range(clients)]
    with scratch(Path(folder)) as place:
        forced = fsync_ms(place)
        store = SQLiteStore(place / "events.db")
        stop = threading.Event()
        waits: list[list[float]] = [[] for _ in range(clients)]
        acknowledged, problems = [0] * clients, list[BaseException]()

        def send(client: int) -> None:
            events, took = sent[client], waits[client]
            try:
                for start in range(0, len(events), batch):
                    if stop.is_set():
                        return
                    part = events[start : start + batch]
                    begun = time.perf_counter()
                    acks = store.append(part)
                    took.append(time.perf_counter() - begun)
                    acknowledged[client] += acks.count("accepted")
            except BaseException as problem:
                problems.append(problem)
            stop.set()  # nothing is left to send: the others stop too, or the rate would be of fewer

        senders = [threading.Thread(target=send, args=(client,)) for client in range(clients)]
        begun = time.perf_counter()
        for sender in senders:
            sender.start()
        stop.wait(seconds)
        stop.set()
        for sender in senders:
            sender.join()
        passed = time.perf_counter() - begun
        if problems:
            raise problems[0]
        held = sum(len(part) for part in store.scan(columns=["event_id"]))
        store.close()
        if held != sum(acknowledged):
            raise AssertionError(f"{sum(acknowledged)} events were acknowledged and {held} are in the log")
        calls = np.concatenate([np.array(each) for each in waits]) * 1000
        return {
            "events_per_s": held / passed,
            "p50_ms": float(np.percentile(calls, 50)),
            "p99_ms": float(np.percentile(calls, 99)),
            "fsync_ms": forced,
            "calls": len(calls),
            "seconds": passed,
        }


def _events(client: int, number: int, seed: int) -> pl.DataFrame:
    """Make what one client sends, before the clock starts."""
    rng = np.random.default_rng([seed, client])
    names = pl.Series(np.arange(number)).cast(pl.String).str.zfill(13)
    return EVENTS.conform(
        pl.DataFrame(
            {
                "event_id": f"{client:02}-" + names,
                "user_id": pl.Series(rng.integers(0, 100_000, number)).cast(pl.String),
                "item_id": pl.Series(rng.integers(0, 20_000, number)).cast(pl.String),
                "event_type": "view",
                "timestamp": 1_735_689_600_000_000 + rng.integers(0, 10**12, number),
            }
        )
    )


def fsync_ms(folder: Path, times: int = 200) -> float:
    """Return the median time of forcing 4 KB to the disk, in milliseconds."""
    with (folder / "forced").open("wb") as file:
        took = []
        for _ in range(times):
            file.write(os.urandom(4096))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    return float(np.median(took)) * 1000


def _rate(rows: int, seconds: float, size: float) -> Figures:
    return {"rows_per_s": rows / seconds, "seconds": seconds, "rows": rows, "disk_mb": size}


def _size(place: Path) -> float:
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def options(parser: argparse.ArgumentParser) -> None:
    """Add --events and --seconds."""
    parser.add_argument("--events", type=count, help="rows of the CSV file; default: a million")
    parser.add_argument("--seconds", type=float, help="how long each append row sends; default: 10")


def plan(args: argparse.Namespace) -> Plan:
    """The CSV file three ways, then appends by 1, 8 and 64 clients, and in batches."""
    of = log.config(args, events=1_000_000)
    file = args.data / f"events-{of.events}-{args.seed}-v{log.VERSION}.csv"
    needs = (
        of.made(args.data),
        Task(write_csv, {"folder": of.folder(args.data), "file": file, "events": of.events}),
    )
    loading: dict[str, Any] = {
        "figures": ("rows_per_s", "seconds", "rows"),
        "needs": needs,
        "compared": "rows_per_s",
        "repeats": 3 if of.events <= 1_000_000 and not args.quick else 1,
    }
    where = {"folder": args.data, "file": file}
    bare = Row("duckdb_csv", Task(duckdb_csv, where), **loading)
    ours = Row("csv", Task(csv, where), measured=("profiles", "serving"), peer=bare, **loading)
    rows = [ours, bare, Row("sqlite_csv", Task(sqlite_csv, where), **loading)]
    seconds = args.seconds or (0.3 if args.quick else 10.0)
    sizes = {f"append_{n}": (n, 1) for n in CLIENTS} | {f"append_{BATCH}": (1, BATCH)}
    for name, (clients, batch) in sizes.items():
        asked = {
            "folder": args.data,
            "clients": clients,
            "batch": batch,
            "seconds": seconds,
            "seed": args.seed,
        }
        figures = ("events_per_s", "p50_ms", "p99_ms", "fsync_ms")
        rows.append(Row(name, Task(append, asked), figures, measured=("profiles",)))
    return Plan(of.counts, rows)


if __name__ == "__main__":
    Benchmark("ingest", "How fast events become durable.", plan, options).main()
