"""Memory that is freed is kept for what comes next, while large arrays come and go; and how much was taken.

A page the kernel gives for the first time costs up to ten times as much as a pass over it, and the C library
gives large arrays back as soon as they are freed. Where it is not glibc nothing changes.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8  # of mallopt
KEPT = 2**31 - 1  # bytes free at the end of the heap before any are given back
MAPPED = 32 << 20  # bytes of an array that is not taken from the heap; the most there may be
AHEAD = 256 << 20  # bytes the heap grows at a time: growing stops every thread that asks for a page
# What glibc comes to by itself once an array of MAPPED bytes was freed; it learns no more once it is told.
USUAL_TRIM, USUAL_AHEAD, USUAL_MAPS = 2 * MAPPED, 128 << 10, 1 << 16

_lock = Lock()
_inside = 0  # how many `kept` are open: the outermost gives back


def hoard() -> None:
    """Let a process that does one large piece of work keep its memory until it ends.

    Threads share one heap, so that what one frees another takes: a thread keeps the heap it began with, and
    one that begins takes over that of one that ended. Polars has an allocator of its own, which gives back
    what it did not need for half a second; it is told not to when it is loaded. Numpy asks for huge pages,
    and where memory is in pieces the kernel moves others' pages to make one: 1.9 GB in arrays of 19 MB came
    in 2.5 to 3.8 s with them and in .7 s without. So this belongs at the start of a program, before there
    are threads and before Polars and numpy are imported.
    """
    _one_heap()
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")


def _one_heap() -> None:
    _set((ARENA_MAX, 1))


@contextmanager
def kept(whole: bool = False) -> Iterator[None]:
    """Keep what is freed inside; give it back at the end of the outermost.

    Arrays above MAPPED bytes are given back at once unless `whole`: work that takes the same large arrays
    again and again spends half its time on their pages, but between them the heap may stay in pieces.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _one_heap()
            _set((TRIM_THRESHOLD, KEPT), (TOP_PAD, AHEAD), (MMAP_THRESHOLD, MAPPED))
        if whole:
            _set((MMAP_MAX, 0))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _set((TRIM_THRESHOLD, USUAL_TRIM), (TOP_PAD, USUAL_AHEAD), (MMAP_MAX, USUAL_MAPS))
                if library := _library():
                    library.malloc_trim(0)


@contextmanager
def taken() -> Iterator[Callable[[], int | None]]:
    """Yield what says, once the block has ended, the most bytes it took beyond those held before.

    None where the system does not tell: only Linux has a peak that can be begun anew. Libraries and files
    that were mapped meanwhile are not counted; of two blocks at a time, both count what either takes.
    """
    before, after = _held(anew=True), None

    def most() -> int | None:
        if before is None or after is None:
            return None
        return max(0, after["VmHWM"] - before["VmRSS"] - (after["RssFile"] - before["RssFile"]))

    yield most
    after = _held()


def _held(anew: bool = False) -> dict[str, int] | None:
    """Return the process's memory in bytes by the kernel's names, its peak begun `anew`; None: not told."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    words = [line.split() for line in lines]
    return {w[0][:-1]: int(w[1]) << 10 for w in words if w[-1] == "kB"}


def _set(*options: tuple[int, int]) -> None:
    if library := _library():
        for option, value in options:
            library.mallopt(option, value)


def _library() -> ctypes.CDLL | None:
    """Return the C library where it is glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
