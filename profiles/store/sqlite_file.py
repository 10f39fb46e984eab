"""One SQLite file for several threads and processes: who writes, who reads, and when the log is folded in.

SQLite before 3.51.3 can corrupt a file when two connections write and checkpoint at once, so a lock file
is held across each transaction and the checkpoint after it. Readers open the file read-only: they never
wait for a writer, and closing them never checkpoints.

A process must not open the file, or those beside it, in any other way: closing any descriptor of a file
drops the locks that SQLite holds on it for the whole process.
"""

import fcntl
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

LIMIT = 4 << 20  # bytes of write-ahead log before it is folded into the file
ROOM = 64 << 20  # bytes of free pages that are kept for what comes
PATIENCE = 30  # seconds that a checkpoint which must be complete waits for readers

_FILES: "weakref.WeakSet[SQLiteFile]" = weakref.WeakSet()
_PAUSED: "list[SQLiteFile]" = []  # while the process forks
_KNOWING = threading.Lock()  # held while either changes


class _Reader(sqlite3.Connection):
    """A connection known by a weak reference: it goes with the thread that opened it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used = threading.RLock()  # to close a connection that another thread is using would crash
        self.closed = False

    def close(self) -> None:
        with self.used:
            super().close()
            self.closed = True


class SQLiteFile:
    """Connections to one file, which exists from the first write on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = path.with_name(path.name + ".lock")
        self._upkeep_path = path.with_name(path.name + ".upkeep")
        self._wal_path = path.with_name(path.name + "-wal")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._closed = False
        self._begin()
        with _KNOWING:
            _FILES.add(self)

    def _begin(self) -> None:
        self._mutex_turn, self._mutex = threading.Lock(), threading.Lock()
        self._opening = threading.Lock()
        self._upkeep_mutex = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._checkpoint_at = LIMIT
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._paused = ExitStack()
        self._locks: list[IO[str]] = []  # those held, or waited for, at this moment

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction, durable at the end; roll it back on any error."""
        with self.alone() as connection:
            connection.execute("begin immediate")
            yield connection
            if connection.in_transaction:
                connection.execute("commit")

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """Hold the file against all other writers; yield the connection, no transaction begun.

        After an error the connection is not used again: what it holds in memory may not be on the disk.
        """
        with self._turn():
            self._refuse_if_closed()
            try:
                if self._writer is None:
                    self._writer = self._connect()
                yield self._writer
            except BaseException:
                self._drop_writer()
                raise
            self._fold_in(self._writer)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """See one moment of the file."""
        connection = self._take_reader()
        try:
            connection.execute("begin")
            try:
                yield connection
            finally:
                connection.execute("rollback")
        finally:
            connection.used.release()

    @contextmanager
    def upkeep(self, wait: bool = True) -> Iterator[bool]:
        """Be the only one who seals, takes out, copies or sweeps; yields whether that is so.

        Taken before the lock for writing, never after.
        """
        if not self._upkeep_mutex.acquire(blocking=wait):
            yield False
            return
        try:
            with self._locked(self._upkeep_path, wait) as mine:
                yield mine
        finally:
            self._upkeep_mutex.release()

    def open(self) -> _Reader:
        """Open the file for reading."""
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        return sqlite3.connect(
            address, uri=True, isolation_level=None, timeout=60, check_same_thread=False, factory=_Reader
        )

    def scrub(self) -> None:
        """Rebuild the file from what it holds now, and empty its write-ahead log.

        Raises TimeoutError where a reader keeps the log from being emptied.
        """
        with self.alone() as connection:
            connection.execute("vacuum")
            connection.execute(f"pragma busy_timeout = {PATIENCE * 1000}")
            (busy, *_) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            connection.execute("pragma busy_timeout = 60000")
        if busy:
            raise TimeoutError(f"{self.path}: another program has been reading this file for {PATIENCE} s")

    def shrink(self) -> None:
        """Give room back to the disk where most of the file is free."""
        with self.alone() as connection:
            pages, free, size = (
                connection.execute(f"pragma {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            if free * size > ROOM and free > pages // 2:
                connection.execute("vacuum")

    def close(self) -> None:
        """Fold the write-ahead log in and close every connection."""
        with self._opening:
            self._closed = True
            for reader in list(self._readers):
                reader.close()
        with self._turn():
            self._drop_writer()  # the last connection of all folds the log in and removes it

    def pause(self) -> None:
        """Close every connection before a fork: a child would believe that it holds their locks."""
        for mutex in (self._mutex_turn, self._mutex, self._opening):
            self._paused.enter_context(mutex)
        for reader in list(self._readers):
            reader.close()
        if self._writer is not None:
            # The lock is not held during the fork: another object may stand for the same file.
            with suppress(OSError), self._locked(self.lock_path):  # its folder may have been removed
                self._drop_writer()
            self._drop_writer()

    def go_on(self) -> None:
        """Go on after a fork, in the parent."""
        self._paused.close()

    def begin_anew(self) -> None:
        """Go on after a fork, in the child; what another thread of the parent holds stays the parent's."""
        for lock in self._locks:
            lock.close()
        self._begin()

    def _take_reader(self) -> _Reader:
        """Return this thread's connection, held against being closed."""
        while True:
            connection: _Reader | None = getattr(self._local, "connection", None)
            if connection is None or connection.closed:
                with self._opening:
                    self._refuse_if_closed()
                    connection = self._local.connection = self.open()
                    self._readers.add(connection)
            connection.used.acquire()
            if not connection.closed:
                return connection
            connection.used.release()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=60, check_same_thread=False)
        for setting in (
            *("journal_mode = wal", "synchronous = full", "wal_autocheckpoint = 0"),
            *("cache_size = -65536", "mmap_size = 0"),
        ):
            connection.execute(f"pragma {setting}")
        return connection

    def _drop_writer(self) -> None:
        """Close the connection, which rolls back what it has not committed."""
        if self._writer is not None:
            connection, self._writer = self._writer, None
            connection.close()

    def _fold_in(self, connection: sqlite3.Connection | None) -> None:
        """Checkpoint where the log has grown; what is committed is safe in it, so a failure can wait."""
        try:
            size = self._wal_path.stat().st_size
            if connection is None or size < self._checkpoint_at:
                return
            connection.execute("pragma busy_timeout = 0")  # a reader is no reason to hold writers up
            (busy, *_) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            connection.execute("pragma busy_timeout = 60000")
            self._checkpoint_at = size + LIMIT if busy else LIMIT
        except (OSError, sqlite3.Error):
            self._drop_writer()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise sqlite3.ProgrammingError(f"{self.path}: the store has been closed")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the other threads and processes.

        Who waits for the mutex holds the one before it, so a thread that lets go of it cannot take it again
        at once; the lock file goes to whoever has waited longest.
        """
        with ExitStack() as held:
            with self._mutex_turn:
                held.enter_context(self._mutex)
            held.enter_context(self._locked(self.lock_path))
            yield

    @contextmanager
    def _locked(self, path: Path, wait: bool = True) -> Iterator[bool]:
        with path.open("a") as file:
            self._locks.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                try:
                    yield True
                finally:
                    fcntl.flock(file, fcntl.LOCK_UN)  # a child made meanwhile may hold it open, too
            finally:
                self._locks.remove(file)


def _pause() -> None:
    _KNOWING.acquire()
    _PAUSED[:] = _FILES
    for file in _PAUSED:
        file.pause()


def _go_on() -> None:
    for file in _PAUSED:
        file.go_on()
    _PAUSED.clear()
    _KNOWING.release()


def _begin_anew() -> None:
    for file in _PAUSED:
        file.begin_anew()
    _PAUSED.clear()
    _KNOWING.release()


os.register_at_fork(before=_pause, after_in_parent=_go_on, after_in_child=_begin_anew)
