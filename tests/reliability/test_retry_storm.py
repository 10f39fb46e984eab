"""Everybody sends everything again and again, in any order, at once: each event is kept once."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from profiles.schema import EVENTS
from profiles.store.sqlite import SQLiteStore


def storm(crew: Any, place: Path, unique: int, sends: int, processes: int) -> None:
    diary = place / "diary"
    place.mkdir()
    share = sends // processes
    arguments = {"place": str(place), "diary": str(diary)}
    senders = [
        crew.start("storm", worker=worker, unique=unique, sends=share, **arguments)
        for worker in range(processes)
    ]
    sealer = crew.start("seal", worker=0, life=0, **arguments)
    for pid in senders:
        crew.join(pid, 3600)
    crew.kill(sealer)
    lines = diary.read_text().splitlines()
    assert [line for line in lines if line.startswith("WRONG")] == []
    counts = [json.loads(line) for line in lines]
    total = {status: sum(count[status] for count in counts) for status in counts[0]}
    repeats = share // unique * unique * processes
    assert len(counts) == processes
    assert total == {"accepted": unique, "duplicate": repeats - unique, "conflict": 0}
    store = SQLiteStore(place / "events.db")
    found = pl.concat([EVENTS.empty(), *store.scan(columns=["event_id"])], how="diagonal")["event_id"]
    assert sorted(found) == sorted(f"s{n % 50}.{n}" for n in range(unique))
    assert len(list((place / "events" / "segments").iterdir())) > 1
    store.close()


def test_a_storm_of_retries(crew: Any, tmp_path: Path) -> None:
    storm(crew, tmp_path / "store", unique=2_000, sends=20_000, processes=2)


@pytest.mark.reliability
def test_a_million_sends(crew: Any, tmp_path: Path) -> None:
    storm(crew, tmp_path / "store", unique=50_000, sends=1_000_000, processes=4)
