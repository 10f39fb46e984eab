"""Memory that is freed is kept for what comes next, while large arrays come and go.

A page the kernel gives for the first time costs up to ten times as much as a pass over it, and the C library
gives large arrays back as soon as they are freed. Where it is not glibc nothing changes.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # of mallopt
KEPT = 2**31 - 1  # bytes free at the end of the heap before any are given back
MAPPED = 32 << 20  # bytes of an array that is not taken from the heap; the most there may be
USUAL_TRIM = USUAL_MAPPED = 128 << 10


@contextmanager
def kept() -> Iterator[None]:
    """Keep what is freed inside; give it back at the end."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    assert library is not None
    # One heap for all threads: what one frees another takes.
    for option, value in ((ARENA_MAX, 1), (TRIM_THRESHOLD, KEPT), (MMAP_THRESHOLD, MAPPED)):
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in ((ARENA_MAX, 0), (TRIM_THRESHOLD, USUAL_TRIM), (MMAP_THRESHOLD, USUAL_MAPPED)):
            library.mallopt(option, value)
        library.malloc_trim(0)
