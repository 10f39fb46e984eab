"""Run one function in a process of its own, and tell what it found and the memory it took.

Peaks and caches of two measurements do not mix, and one that grows too large or runs too long is ended
and told as not reached. The harness itself (`benchmarks.report`) measures nothing.
"""

import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiles import memory

ROOT = Path(__file__).parents[1]
MB = 1_000_000
LOOK = 0.02  # seconds between two looks at the memory of a running task

Figures = dict[str, Any]  # name to number, text, or list of them; None where there is none


class NotReached(Exception):
    """A row cannot say its figures; the message is the reason shown in their place."""


class OverLimit(NotReached):
    """A row was ended for its memory or time; under other limits it may be reached."""


class Failed(NotReached):
    """A row ended with an error."""


@dataclass(frozen=True)
class Task:
    """A function of a module and its keyword arguments, which must be JSON or paths."""

    function: Callable[..., Figures]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module's name by which another process can import it."""
        name = self.function.__module__
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        return spec.name if name == "__main__" and spec is not None else name

    @property
    def spelled(self) -> str:
        """The task as JSON: the same work, the same text; `perform` does it."""
        return json.dumps([self.module, self.function.__name__, dict(self.parameters)], default=str)


@dataclass(frozen=True)
class Limits:
    """What one task may take before it is ended."""

    memory_gb: float = field(
        default_factory=lambda: 0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    )
    seconds: float = 7200.0


def run(task: Task, limits: Limits) -> Figures:
    """Run a task in a fresh process; its figures, with `peak_mb` of that process and those it started.

    Raises NotReached where the task says so, OverLimit where it leaves its limits, Failed on an error.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        answer = Path(folder) / "answer.json"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        program = "from benchmarks.process import child; child()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, task.spelled, str(answer)],
            env=os.environ | {"PYTHONPATH": path},
            stdout=2,  # what a library prints is no part of the result
            start_new_session=True,
        )
        try:
            seen = _watch(process, limits)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
        if not answer.exists():
            raise Failed(f"ended by signal or exit code {process.returncode} without an answer")
        figures: Figures = json.loads(answer.read_bytes())
    if "failed" in figures:
        raise Failed(figures["failed"])
    if "reason" in figures:
        raise NotReached(figures["reason"])
    figures["peak_mb"] = round(max(seen / MB, figures["peak_mb"]), 1)
    return figures


def child() -> None:
    """Do what `run` asked for: called in the fresh process, with the task and the file for its answer."""
    memory.hoard()  # as the command line does, before anything begins threads
    figures: Figures
    try:
        figures = perform(sys.argv[1])
        figures = {"peak_mb": peak(), **figures}
    except NotReached as reason:
        figures = {"reason": str(reason)}
    except Exception as error:
        traceback.print_exc()
        figures = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
    Path(sys.argv[2]).write_text(json.dumps(figures, allow_nan=False))


def perform(spelled: str) -> Figures:
    """Do a task that was spelled."""
    module, function, parameters = json.loads(spelled)
    figures: Figures = getattr(importlib.import_module(module), function)(**parameters)
    return figures


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside the data, on the disk that is measured; it is deleted after.

    What a killed task left of its own goes first: it may be large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("scratch-*-*"):
        try:
            os.kill(int(left.name.split("-")[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (ValueError, PermissionError):
            continue
    place = Path(tempfile.mkdtemp(prefix=f"scratch-{os.getpid()}-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def peak() -> float:
    """Return this process's largest resident memory, in MB.

    Not from getrusage where /proc tells: there a process begins with the peak of the one it came from.
    """
    try:
        status = Path("/proc/self/status").read_text()
        kilobytes = int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        unit = 1024 if sys.platform == "darwin" else 1
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
    return kilobytes * 1024 / MB


def _watch(process: "subprocess.Popen[bytes]", limits: Limits) -> int:
    """Wait for a process; returns the largest sum of memory seen of it and what it started, in bytes."""
    most, begun = 0, time.monotonic()
    while True:
        try:
            process.wait(LOOK)
            return most
        except subprocess.TimeoutExpired:
            pass
        most = max(most, _resident(process.pid))
        if most > limits.memory_gb * 1e9:
            raise OverLimit(f"took more than {limits.memory_gb:.3g} GB of memory")
        if time.monotonic() - begun > limits.seconds:
            raise OverLimit(f"took longer than {limits.seconds:g} s")


def _resident(pid: int) -> int:
    """Sum the resident bytes of a process and its descendants; 0 where they are gone or cannot be seen."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        started = [
            int(found)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for found in (task / "children").read_text().split()
        ]
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(other) for other in started)
