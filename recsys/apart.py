"""An objective in a process of its own, which may take so much memory and no more.

What asks for too much may crash instead of saying so, and what is killed for memory takes its process with
it: so a trial that could do either runs apart. Both sides speak lines of JSON: whose child it is goes down,
then settings, and where checkpoints are kept; what was reached at a step comes up and is answered by whether
to go on, and at the end comes the outcome.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from profiles.schema import ContractError
from recsys import watch
from recsys.space import Settings
from recsys.tuning import Objective, Outcome, Pruned, Report

TICK = 0.02  # seconds between two looks at the memory
GIB = 1 << 30


class Apart:
    """Runs `command`, a program that calls `answer`, and again where it had to be ended."""

    def __init__(self, command: Sequence[str], memory_gb: float) -> None:
        self._command = command
        self._limit = memory_gb
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this

    def __call__(self, settings: Settings, report: Report) -> Outcome:
        """Try settings; raises ContractError where the process fails or takes too much, besides."""
        process = self._process or self._start()
        try:
            place = watch.watched().checkpoints
            self._send(process, {"settings": settings, "checkpoints": place and str(place)})
            while True:
                told = self._read(process, report)
                if "step" not in told:
                    break
                try:
                    report(told["step"], told["value"])
                except Pruned:
                    self._send(process, False)
                else:
                    self._send(process, True)
        except BaseException:
            self.close()
            raise
        if told.get("pruned"):
            raise Pruned
        if "refused" in told:
            raise ContractError(told["refused"])
        return Outcome(told["outcome"]["value"], told["outcome"]["found"])

    def _start(self) -> "subprocess.Popen[bytes]":
        self._unread = b""
        self._errors.truncate(0)
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._send(self._process, os.getpid())
        return self._process

    def _send(self, process: "subprocess.Popen[bytes]", what: Any) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: told when it is read from
            process.stdin.write(json.dumps(what).encode() + b"\n")
            process.stdin.flush()

    def _read(self, process: "subprocess.Popen[bytes]", report: Report) -> dict[str, Any]:
        """Return the next message, watching memory and time until it is there."""
        assert process.stdout is not None
        while b"\n" not in self._unread:
            report.check()
            if (taken := resident(process.pid)) > self._limit * GIB:
                raise ContractError(f"took {taken / GIB:.2f} GB of memory, and may take {self._limit:g}")
            if select.select([process.stdout], [], [], TICK)[0]:
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    raise ContractError(self._farewell(process))
                self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def _farewell(self, process: "subprocess.Popen[bytes]") -> str:
        code = process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return f"the process of the trial ended {how}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def answer(objective: Objective) -> None:
    """Try the settings that come on stdin, until there are no more, and say on stdout what comes of each."""
    parent = json.loads(sys.stdin.readline() or "0")
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no message

    def say(**what: Any) -> None:
        out.write(json.dumps(what).encode() + b"\n")
        out.flush()

    def told(step: int, value: float) -> bool:
        say(step=step, value=value)
        return bool(json.loads(sys.stdin.readline() or "false"))

    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        place = asked["checkpoints"] and Path(asked["checkpoints"])
        try:
            with watch.watching(checkpoints=place):
                say(outcome=asdict(objective(asked["settings"], Report(told))))
        except Pruned:
            say(pruned=True)
        except (ContractError, MemoryError, ArithmeticError) as error:
            say(refused=str(error) or type(error).__name__)


def _end_with(parent: int) -> None:
    """End this process once its parent has: the next run's is to be alone with the trial's checkpoints."""
    while os.getppid() == parent:
        time.sleep(TICK)
    os._exit(1)


def resident(pid: int) -> int:
    """Return the bytes a process has in memory, 0 where that cannot be told."""
    with suppress(OSError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=False).stdout
        return int(said) << 10
    return 0
