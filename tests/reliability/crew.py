"""Processes to be killed: forked from one that has imported everything, so that a new one costs milliseconds.

Reads one JSON object a line ({"role": …, its arguments}), forks a process for it, and answers its id.
Nothing here touches a frame before the fork: Polars starts its threads with the first one.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from profiles.schema import EVENTS
from profiles.store import Acks, rows, segments
from profiles.store.sqlite import SQLiteStore

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
SIZES = (1, 1, 3, 40)


def size(name: str) -> int:
    """Return how many events the batch of this name has."""
    return SIZES[zlib.crc32(name.encode()) % len(SIZES)]


def content(events: pl.DataFrame) -> pl.DataFrame:
    """Give events the content that follows from their ids."""
    number = pl.col("event_id").str.extract(r"(\d+)$").cast(pl.Int64)
    return EVENTS.conform(
        events.select(
            "event_id",
            user_id=pl.col("event_id").str.split(".").list.first(),
            event_type=pl.lit("view"),
            timestamp=MOMENT + pl.duration(days=number * 7 % 90),
            value=number * 0.1,
            text="text of " + pl.col("event_id"),
        )
    )


def batch(name: str, most: int | None = None) -> pl.DataFrame:
    """Return the events of a batch."""
    return content(pl.DataFrame({"event_id": [f"{name}.{n}" for n in range(most or size(name))]}))


def opened(place: str) -> SQLiteStore:
    """Open the store; seal a few hundred events at a time."""
    segments.MOST_ROWS, rows.CHUNK = 500, 100
    return SQLiteStore(Path(place) / "events.db")


class Diary:
    """Lines that outlive the process that writes them."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, line: str) -> None:
        os.write(self.file, f"{line}\n".encode())

    def expect(self, what: str, acks: Acks, *allowed: str) -> None:
        """Complain of an answer other than these; all events of a batch must have the same."""
        if len(set(acks.statuses)) != 1 or acks.statuses[0] not in allowed:
            self.write(f"WRONG {what}: {[*acks.statuses]} and not {allowed}")


def append(place: str, diary: str, worker: int, life: int) -> None:
    """Append batches without end; note each that is acknowledged, and send older ones again."""
    chance, store, mine = random.Random(f"{worker}.{life}"), opened(place), Diary(diary)
    known = Path(diary).read_text().split()
    before = [int(name.split(".")[2]) for name in known if name.startswith(f"{worker}.{life - 1}.")]
    doubtful = f"{worker}.{life - 1}.{max(before, default=-1) + 1}"  # the last life died over it
    mine.expect(doubtful, store.append(batch(doubtful)), "accepted", "duplicate")
    mine.write(doubtful)
    for number in range(1_000_000):
        name = f"{worker}.{life}.{number}"
        mine.expect(name, store.append(batch(name)), "accepted")
        mine.write(name)
        known.append(name)
        if chance.random() < 0.2:
            again = batch(chance.choice(known))
            mine.expect("again", store.append(again), "duplicate")
            mine.expect("other", store.append(again.with_columns(text=pl.lit("x"))), "conflict")
        time.sleep(chance.random() * 0.004)


def seal(place: str, diary: str, worker: int, life: int) -> None:
    """Seal without end."""
    chance, store = random.Random(life), opened(place)
    while True:
        store.seal(keep=chance.choice([0, 0, 7, 300]))
        time.sleep(chance.random() * 0.02)


def erase(place: str, diary: str, users: list[str]) -> None:
    """Erase users one by one; note each that is gone."""
    store, mine = opened(place), Diary(diary)
    for user in users:
        removed = store.erase([user])
        mine.write(f"{user} {removed.events}")


def storm(place: str, diary: str, worker: int, unique: int, sends: int) -> None:
    """Send each of some events many times, shuffled, from eight threads; note what was answered."""
    chance, store = random.Random(worker), opened(place)
    numbers = [n for _ in range(sends // unique) for n in range(unique)]
    chance.shuffle(numbers)
    parts = []
    while numbers:
        part = chance.choice([1, 1, 5, 200])
        parts.append(numbers[:part])
        del numbers[:part]

    def send(part: list[int]) -> Acks:
        return store.append(content(pl.DataFrame({"event_id": [f"s{n % 50}.{n}" for n in part]})))

    with ThreadPoolExecutor(8) as pool:
        acks = list(pool.map(send, parts))
    counts = {status: sum(a.count(status) for a in acks) for status in ("accepted", "duplicate", "conflict")}  # type: ignore[arg-type]
    Diary(diary).write(json.dumps(counts))


def take_turns(place: str, diary: str, begin: float, end: float, held: float, pause: float) -> None:
    """Write again and again between two moments, each time holding the store; note how often."""
    store, count = opened(place), 0
    time.sleep(max(0, begin - time.time()))
    while time.time() < end:
        with store._file.writing() as connection:
            connection.execute("insert or replace into marks values ('turn', ?)", (str(count),))
            time.sleep(held)
        count += 1
        time.sleep(pause)
    Diary(diary).write(f"{count}")


ROLES: dict[str, Any] = {
    "append": append,
    "seal": seal,
    "erase": erase,
    "storm": storm,
    "take_turns": take_turns,
}


def main() -> None:
    """Fork a process for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever ends is not waited for
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if not child:
            try:
                ROLES[task.pop("role")](**task)
                os._exit(0)
            except BaseException:
                Diary(task["diary"]).write("WRONG " + traceback.format_exc().replace("\n", " | "))
            finally:
                os._exit(1)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
