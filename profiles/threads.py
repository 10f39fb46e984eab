"""The one place that sets how many threads the numeric libraries use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def single_blas() -> Iterator[None]:
    """Hold BLAS to one thread: implicit runs threads of its own, and two pools on one core fight."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
