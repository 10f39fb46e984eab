"""A full disk: what was acknowledged stays, reads go on, and writing goes on by itself once there is room."""

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles.schema import EVENTS
from profiles.store import EventStore, Removed
from profiles.store.sqlite import SQLiteStore

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"a small disk cannot be made here: {error}")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here (root may): {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def batch(name: str, size: int = 5, user: str = "u") -> pl.DataFrame:
    rows = [
        {"event_id": f"{name}.{n}", "user_id": f"{user}{n}", "event_type": "view", "text": name * 20,
         "timestamp": MOMENT + timedelta(days=n)}
        for n in range(size)
    ]  # fmt: skip
    return EVENTS.conform(pl.DataFrame(rows))


def everything(store: EventStore) -> pl.DataFrame:
    return pl.concat([EVENTS.empty(), *store.scan()])


def fill(path: Path) -> None:
    """Leave no byte."""
    with path.open("ab") as file:
        for step in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(file.fileno(), b"x" * step)
            except OSError:
                pass


def test_threads_append_to_a_disk_that_fills_and_is_emptied(disk: Path) -> None:
    store = SQLiteStore(disk / "events.db")
    acknowledged: dict[str, pl.DataFrame] = {}
    failures: list[str] = []
    stop = threading.Event()

    def send(worker: int) -> None:
        for number in range(100_000):
            part = batch(f"{worker}.{number}")
            while not stop.is_set():
                try:
                    statuses = store.append(part).statuses
                except sqlite3.OperationalError as error:
                    failures.append(str(error))
                    stop.wait(0.01)
                else:
                    assert set(statuses) in ({"accepted"}, {"duplicate"})
                    acknowledged[f"{worker}.{number}"] = part
                    break
            if stop.is_set():
                return

    def wait_for(happened: int, count: list[str] | dict[str, pl.DataFrame]) -> None:
        while len(count) < happened:
            assert not stop.wait(0.01)

    with ThreadPoolExecutor(8) as pool:
        senders = [pool.submit(send, worker) for worker in range(8)]
        try:
            for _ in range(3):
                wait_for(len(acknowledged) + 100, acknowledged)
                fill(disk / "ballast")
                wait_for(len(failures) + 30, failures)
                seen = dict(acknowledged)
                found = everything(store)  # reads go on
                assert {f"{name}.{n}" for name in seen for n in range(5)} <= set(found["event_id"])
                assert len(store.tail("u1", 5, MOMENT + timedelta(days=9))) == 5
                assert store.unwritable() in {None, "database or disk is full", "disk I/O error"}
                (disk / "ballast").unlink()
                wait_for(len(acknowledged) + 100, acknowledged)  # writing goes on
        finally:
            stop.set()
        for sender in senders:
            sender.result()
    assert set(failures) <= {"database or disk is full", "disk I/O error"}
    assert store.unwritable() is None
    store.close()
    reopened = SQLiteStore(disk / "events.db")
    expected = pl.concat(acknowledged.values())
    found = everything(reopened)
    assert found["event_id"].is_unique().all()
    kept = found.filter(pl.col("event_id").is_in(expected["event_id"].to_list()))
    assert_frame_equal(kept.sort("event_id"), expected.sort("event_id"))
    assert len(found) - len(kept) <= 8 * 5  # what each was trying when it was told to stop
    reopened.close()


def test_sealing_and_erasing_wait_for_room(disk: Path) -> None:
    store = SQLiteStore(disk / "events.db")
    sent = pl.concat([batch(f"b{n}") for n in range(600)])
    store.append(sent)
    fill(disk / "ballast")
    with pytest.raises((OSError, pl.exceptions.PolarsError, sqlite3.OperationalError)):
        store.seal()
    assert_frame_equal(everything(store), sent)
    (disk / "ballast").unlink()
    assert store.seal() == len(sent)
    assert_frame_equal(everything(store), sent)
    rest = sent.filter(pl.col("user_id") != "u3")
    begun = SQLiteStore(disk / "events.db")
    fill(disk / "ballast")
    with pytest.raises((OSError, pl.exceptions.PolarsError, sqlite3.OperationalError)):
        begun.erase(["u3"])
    assert_frame_equal(everything(store).filter(pl.col("user_id") != "u3"), rest)  # nobody else is touched
    (disk / "ballast").unlink()
    removed = begun.erase(["u3"])
    assert removed in (Removed(events=600), Removed(events=0))
    assert_frame_equal(everything(store), rest)
    assert store.append(rest).count("duplicate") == len(rest)
    begun.close()
    store.close()
