"""The one place that sets how many threads the numeric libraries use, and how work is handed to them."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Part = TypeVar("Part")
Found = TypeVar("Found")


def use(threads: int) -> None:
    """Hold the numeric libraries to `threads` for the life of the process.

    Call it before they are imported: OpenMP, OpenBLAS, Polars and torch read these once. DuckDB is
    told at each connection (`profiles.engine`).
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[variable] = str(threads)
    os.environ["ATTUNE_THREADS"] = str(threads)


def available() -> int:
    """Return the threads in use: ATTUNE_THREADS where it is set, else the cores this process may run on."""
    return int(os.environ.get("ATTUNE_THREADS") or len(os.sched_getaffinity(0)))


def ahead(pool: ThreadPoolExecutor, work: Callable[[Part], Found], parts: Iterable[Part]) -> Iterator[Found]:
    """Map in order, only a few parts ahead of whoever takes the results: few are in memory at once."""
    waiting: list[Future[Found]] = []
    for part in parts:
        waiting.append(pool.submit(work, part))
        if len(waiting) > available():
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


@contextmanager
def single_blas() -> Iterator[None]:
    """Hold BLAS to one thread: implicit runs threads of its own, and two pools on one core fight."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
