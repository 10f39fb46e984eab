"""How many trials, and a crew of processes that may be killed.

ATTUNE_TRIALS says how many (200 unless set). Tests marked `reliability` are the long ones; tests/conftest.py
tells when they run.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def trials_wanted() -> int:
    return int(os.environ.get("ATTUNE_TRIALS", "200"))


@pytest.fixture
def trials() -> int:
    return trials_wanted()


@dataclass
class Crew:
    """Starts processes in a few milliseconds each, and kills them."""

    process: subprocess.Popen[str]

    def start(self, role: str, **arguments: object) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"role": role, **arguments}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def kill(self, pid: int) -> None:
        """Kill -9 and wait until nothing of it runs any more."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.join(pid)

    @staticmethod
    def runs(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def join(self, pid: int, seconds: float = 120) -> None:
        limit = time.monotonic() + seconds
        while self.runs(pid):
            assert time.monotonic() < limit, f"process {pid} does not end"
            time.sleep(0.001)


@pytest.fixture(scope="session")
def crew() -> Iterator[Crew]:
    command = [sys.executable, str(ROOT / "tests" / "reliability" / "crew.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        yield Crew(process)
        process.stdin.close()  # type: ignore[union-attr]


@pytest.fixture
def chance() -> random.Random:
    return random.Random(7)
