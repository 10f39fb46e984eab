"""Parse files apart from everything else: what `sandbox` starts, and never more than reads and a pipe.

Jobs come as lines of JSON on stdin, one after the other. What is found goes to stdout as messages: a kind
of one byte, a length of eight, and so many bytes.
"""

import json
import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from profiles.schema import ContractError
from profiles.sources.files import Reader, is_text, parse
from profiles.sources.limits import MIB, Limits

HEAD = 9  # bytes of a message before its content
FILE, FRAME, PLACE, REFUSED, DONE = b"F", b"B", b"P", b"E", b"D"


@dataclass(frozen=True)
class Job:
    """Which files to parse, in order, and how."""

    files: list[str]
    reader: Reader
    limits: Limits

    def dump(self) -> bytes:
        """Return the job as one line of JSON."""
        plain = {"files": self.files, "reader": self.reader.__dict__, "limits": self.limits.model_dump()}
        return json.dumps(plain).encode() + b"\n"

    @classmethod
    def load(cls, content: bytes) -> "Job":
        """Return the job that was dumped."""
        plain = json.loads(content)
        return cls(plain["files"], Reader(**plain["reader"]), Limits(**plain["limits"]))


def main() -> None:
    """Parse the files of the jobs on stdin; the first that is wrong ends it."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no message
    pa.set_cpu_count(1)
    for line in sys.stdin.buffer:
        job = Job.load(line)
        _bound(job.limits)
        for place, name in enumerate(job.files):
            try:
                parse_into(out, place, Path(name), job)
            except BaseException as error:
                send(out, REFUSED, _said(error, name, job.limits).encode())
                os._exit(0)
        send(out, DONE, b"")
    os._exit(0)  # no library's farewell can turn what was told into a crash


def send(out: BinaryIO, kind: bytes, content: bytes | memoryview) -> None:
    """Write one message."""
    out.write(kind + len(content).to_bytes(HEAD - 1, "big"))
    out.write(content)
    out.flush()


def _bound(limits: Limits) -> None:
    """Let the system hold this process to its limits; what a system does not know is left out."""
    memory = limits.memory_mb * MIB
    for name, value in (
        ("RLIMIT_DATA", memory),
        ("RLIMIT_AS", memory + 4096 * MIB),  # libraries and stacks of threads, most of it never touched
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
    ):
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))


def parse_into(out: BinaryIO, place: int, path: Path, job: Job) -> None:
    """Write the rows of one file of a job."""
    text = is_text(path, job.reader)
    send(out, FILE, json.dumps([place, text]).encode())
    for frame in parse(
        path, job.reader, job.limits, lambda position: send(out, PLACE, position.to_bytes(8, "big"))
    ):
        content = BytesIO()
        frame.write_ipc_stream(content, compat_level=pl.CompatLevel.oldest())
        send(out, FRAME, content.getbuffer())


def _said(error: BaseException, name: str, limits: Limits) -> str:
    if isinstance(error, ContractError):
        return str(error)
    if isinstance(error, MemoryError | pa.ArrowMemoryError):
        return f"{name} needs more memory to parse than limits.memory_mb = {limits.memory_mb:,}"
    reason = (str(error).splitlines() or [""])[0]
    return f"{name} cannot be read: {type(error).__name__}: {reason}"


if __name__ == "__main__":
    main()
