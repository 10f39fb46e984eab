"""kill -9 at any moment: of what was acknowledged nothing is lost, and nothing is there twice."""

import random
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from profiles.schema import EVENTS
from profiles.store.sqlite import SQLiteStore

CHECKED = 100  # trials between two complete checks
FRESH = 500  # trials a store
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
SIZES = (1, 1, 3, 40)


def checked(place: Path, diaries: list[Path]) -> int:
    """Hold the whole log against what was acknowledged; returns the number of events."""
    acknowledged = [name for diary in diaries if diary.exists() for name in diary.read_text().splitlines()]
    assert [line for line in acknowledged if line.startswith("WRONG")] == []
    store = SQLiteStore(place / "events.db")
    found = pl.concat([EVENTS.empty(), *store.scan()])
    with store._file.reading() as connection:
        assert connection.execute("pragma quick_check").fetchone() == ("ok",)
    store.close()
    assert found["event_id"].is_unique().all()
    assert_frame_equal(found, content(found["event_id"]), check_exact=True)
    batches = Counter(found["event_id"].str.extract(r"^(\d+\.-?\d+\.\d+)\.\d+$"))
    assert {name: n for name, n in batches.items() if n != SIZES[zlib.crc32(name.encode()) % 4]} == {}
    assert [name for name in acknowledged if name not in batches] == []
    return len(found)


def content(ids: pl.Series) -> pl.DataFrame:
    """Return the content that events of these ids were sent with: crew.py, in other words."""
    numbers = [int(name.rsplit(".", 1)[1]) for name in ids]
    return EVENTS.conform(
        pl.DataFrame(
            {
                "event_id": ids,
                "user_id": [name.split(".")[0] for name in ids],
                "event_type": ["view"] * len(ids),
                "timestamp": [MOMENT + timedelta(days=n * 7 % 90) for n in numbers],
                "value": [n * 0.1 for n in numbers],
                "text": [f"text of {name}" for name in ids],
            },
            schema_overrides={"event_id": pl.String, "user_id": pl.String, "text": pl.String},
        )
    )


class Shift:
    """Four processes that append to a store and one that seals it; whoever is killed is replaced."""

    def __init__(self, crew: Any, place: Path) -> None:
        place.mkdir()
        self.crew, self.place = crew, place
        self.diaries = [place / f"diary{worker}" for worker in range(5)]
        self.lives = [0] * 5
        self.running = [self.start(worker) for worker in range(5)]

    def start(self, worker: int) -> int:
        self.lives[worker] += 1
        self.diaries[worker].touch()
        arguments = {"place": str(self.place), "diary": str(self.diaries[worker])}
        role = "append" if worker < 4 else "seal"
        return int(self.crew.start(role, worker=worker, life=self.lives[worker], **arguments))

    def replace(self, worker: int) -> None:
        self.crew.kill(self.running[worker])
        self.running[worker] = self.start(worker)

    def end(self) -> None:
        for pid in self.running:
            self.crew.kill(pid)


def test_nothing_acknowledged_is_lost_and_nothing_doubled(
    crew: Any, trials: int, chance: random.Random, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    """In each trial one of the processes is killed and started again."""
    done = events = 0
    while done < trials:
        shift = Shift(crew, tmp_path / f"store{done}")
        for trial in range(1, min(FRESH, trials - done) + 1):
            time.sleep(chance.choice([0.0, 0.01, 0.05, 0.1]) * chance.random())
            shift.replace(chance.randrange(5))
            done += 1
            if trial % CHECKED == 0:
                checked(shift.place, shift.diaries)  # while the others go on
        shift.end()
        events += checked(shift.place, shift.diaries)
        assert len(list((shift.place / "events" / "segments").iterdir())) > 1
        shutil.rmtree(shift.place)
    record_property("events", events)
    assert events > 5 * trials


def secret(n: int) -> str:
    return sha256(f"user {n}".encode()).hexdigest()[:32]


def test_an_erasure_is_finished_however_often_it_is_killed(
    crew: Any, trials: int, chance: random.Random, tmp_path: Path
) -> None:
    users = [secret(n) for n in range(max(10, trials // 10))]
    place = tmp_path / "store"
    rows = [
        {"event_id": f"{u}.{n}", "user_id": u, "event_type": "view", "text": f"of {u}",
         "timestamp": MOMENT + timedelta(days=31 * n)}
        for n in range(4) for u in [*users, *(f"stays{m}" for m in range(10))]
    ]  # fmt: skip
    sent = EVENTS.conform(pl.DataFrame(rows))
    store = SQLiteStore(place / "events.db")
    for part in sent.iter_slices(len(sent) // 5):
        store.append(part)
        store.seal(keep=len(part) // 3)
    store.put("users", pl.DataFrame({"user_id": [*users, "stays1"]}))
    store.close()
    diary = tmp_path / "diary"  # it names the erased
    gone: set[str] = set()
    kills = 0
    while len(gone) < len(users):
        left = [user for user in users if user not in gone]
        pid = crew.start("erase", place=str(place), diary=str(diary), users=left)
        time.sleep(chance.random() * 0.15)
        kills += crew.runs(pid)
        crew.kill(pid)
        lines = diary.read_text().splitlines() if diary.exists() else []
        assert [line for line in lines if line.startswith("WRONG")] == []
        erased = {line.split()[0] for line in lines}
        store = SQLiteStore(place / "events.db")  # finishes what was begun
        found = pl.concat([EVENTS.empty(), *store.scan()])
        now = set(users) - set(found["user_id"])
        assert gone | erased <= now
        assert len(now - gone - erased) <= 1  # the one it died over
        gone = now
        expected = sent.filter(~pl.col("user_id").is_in(list(gone)))
        assert_frame_equal(found.sort("event_id"), expected.sort("event_id"))
        assert store.append(expected).count("duplicate") == len(expected)
        assert not set(store.catalogue("users")["user_id"]) & gone
        store.close()
        everywhere = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
        assert [user for user in gone if user.encode() in everywhere] == []
    assert kills >= len(users) // 4
