"""User files are parsed in a process of their own, held to memory, time and size.

Whatever a file does to its parser (a crash, an endless loop, all memory taken), the caller gets a
ContractError that names it. What comes back is checked again here: lengths, columns, validity.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson
import polars as pl
import pyarrow as pa

from profiles.schema import ContractError
from profiles.sources.child import DONE, FILE, FRAME, HEAD, PLACE, REFUSED, Job
from profiles.sources.files import Reader
from profiles.sources.limits import Limits

TAIL = 4096  # bytes of what the parser printed that are kept


@dataclass(frozen=True)
class Rows:
    """Some rows of the file at `place`; where it is `text`, a row of nulls is an empty line."""

    place: int
    frame: pl.DataFrame
    text: bool


class Sandbox:
    """Parses files apart, in one process as long as nothing is wrong; started when it is first needed."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._parser: _Parser | None = None

    def __enter__(self) -> Self:
        """Return the sandbox, which leaves nothing running."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process, whatever it does; another starts when it is needed."""
        if self._parser is not None:
            self._parser.stop()
        self._parser = None

    def parse(
        self, files: Sequence[Path], reader: Reader, advance: Callable[[int], None] = lambda _: None
    ) -> Generator[Rows]:
        """Yield the rows of files in order, of a file without any a frame without any.

        `advance` is told the bytes read since it was last told. Raises ContractError for what is wrong
        with a file, and for what it did to its parser.
        """
        if not files:
            return
        if self._parser is None:
            self._parser = _Parser(self.limits)
        parser, done = self._parser, False
        place, text, told, given, size = 0, False, 0, 0, 0
        try:
            parser.send(Job([str(file.absolute()) for file in files], reader, self.limits))
            while True:
                kind, content = parser.receive(files[place])
                if kind == FILE:
                    place, text = orjson.loads(content)
                    told, given, size = 0, 0, _size(files[place])
                elif kind == PLACE:
                    position = int.from_bytes(content, "big")
                    advance(max(0, position - told))
                    told = max(told, position)
                elif kind == FRAME:
                    frame = _frame(content, files[place], self.limits)
                    given += int(frame.estimated_size())
                    if given > self.limits.unpacked(size):
                        raise ContractError(
                            f"{files[place]} holds more than {self.limits.expansion} times its size and "
                            f"{self.limits.expansion_free_mb:,} MiB; if that is right, raise limits.expansion"
                        )
                    yield Rows(place, frame, text)
                elif kind == REFUSED:
                    raise ContractError(content.decode(errors="replace"))
                else:
                    done = True
                    return
        finally:
            if not done:
                parser.stop()
                self._parser = None if self._parser is parser else self._parser


class _Parser:
    """The process, its pipe, and why it ended."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "profiles.sources.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # an interruption is the caller's, who ends this one
        )
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        self._out, self._err = out.fileno(), err.fileno()
        self._held, self._printed = bytearray(), b""
        self._pipes = selectors.DefaultSelector()
        self._pipes.register(self._out, selectors.EVENT_READ)
        self._pipes.register(self._err, selectors.EVENT_READ)

    def send(self, job: Job) -> None:
        """Give the process something to do."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # receive says why
            self._process.stdin.write(job.dump())
            self._process.stdin.flush()

    def receive(self, file: Path) -> tuple[bytes, bytes]:
        """Return the next message; raises ContractError where the parser says no more."""
        head = self._read(HEAD, file)
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        if kind not in (FILE, FRAME, PLACE, REFUSED, DONE) or length > self._limits.memory_mb << 20:
            raise ContractError(f"{file}: its parser sent what is no message; the file is not to be trusted")
        return kind, self._read(length, file)

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._pipes.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _read(self, size: int, file: Path) -> bytes:
        deadline = time.monotonic() + self._limits.silence_seconds
        while len(self._held) < size:
            ready = self._pipes.select(deadline - time.monotonic())
            if not ready and time.monotonic() >= deadline:
                raise ContractError(
                    f"{file}: parsing gave nothing for limits.silence_seconds = "
                    f"{self._limits.silence_seconds} and was stopped"
                )
            for key, _ in ready:
                got = os.read(key.fd, 1 << 20)
                if got and key.fd == self._out:
                    self._held += got
                    deadline = time.monotonic() + self._limits.silence_seconds
                elif got:
                    self._printed = (self._printed + got)[-TAIL:]
                else:
                    self._pipes.unregister(key.fd)
                    if key.fd == self._out:
                        raise ContractError(self._ended(file))
        content = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        return content

    def _ended(self, file: Path) -> str:
        """Say why there is no more, after the pipe has closed."""
        self._process.kill()
        code = self._process.wait()
        os.set_blocking(self._err, False)
        with suppress(BlockingIOError):
            self._printed += os.read(self._err, TAIL)
        printed = self._printed.decode(errors="replace")
        if "memory allocation" in printed or "bad_alloc" in printed or "MemoryError" in printed:
            return f"{file} needs more memory to parse than limits.memory_mb = {self._limits.memory_mb:,}"
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        last = (printed.strip().splitlines() or ["it said nothing"])[-1][:300]
        return (
            f"{file}: its parser ended {how}: {last}; the file is damaged, or it needs more memory than "
            "there is"
        )


def _environment() -> dict[str, str]:
    """Return what the parser may know: where its libraries are, and nothing that is secret."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ") if name in os.environ
    }
    ours = str(Path(__file__).resolve().parents[1])
    return kept | {
        "PYTHONPATH": ours,
        "POLARS_MAX_THREADS": str(min(4, os.cpu_count() or 1)),
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "OMP_NUM_THREADS": "1",
    }


def _frame(content: bytes, file: Path, limits: Limits) -> pl.DataFrame:
    try:
        with pa.ipc.open_stream(pa.py_buffer(content)) as reader:
            table = reader.read_all()
        table.validate(full=True)
        frame = pl.from_arrow(table)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ContractError(f"{file}: what its parser sent cannot be read: {reason}") from error
    assert isinstance(frame, pl.DataFrame)
    if frame.width > 2 * limits.columns:
        raise ContractError(
            f"{file} has {frame.width:,} columns, more than limits.columns = {limits.columns:,}"
        )
    return frame


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
