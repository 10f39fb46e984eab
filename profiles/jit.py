"""Loops over arrays as machine code: numba, loaded and compiled when a loop first runs.

What is compiled is kept beside the module, or in the user's cache where that folder cannot be written;
where neither can, each process compiles anew. The loops let go of the interpreter's lock.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


def compiled(loop: Callable[Given, Found]) -> Callable[Given, Found]:
    """Return a function that runs as machine code; it calls no other one of these."""
    machine: Callable[Given, Found] | None = None

    @wraps(loop)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        nonlocal machine
        if machine is None:
            machine = machine_code(loop)
        return machine(*args, **kwargs)

    return run


def machine_code(loop: Callable[Given, Found], reorder: bool = False) -> Callable[Given, Found]:
    """Load numba and return what it compiles at the first call; it may call others of these.

    `reorder` lets it sum floats in another order than written, some at a time, as it always will.
    """
    from numba import njit

    free: bool | set[str] = {"reassoc", "contract"} if reorder else False
    try:
        made: Callable[Given, Found] = njit(nogil=True, cache=True, fastmath=free)(loop)
    except RuntimeError:  # nowhere to keep it
        made = njit(nogil=True, fastmath=free)(loop)
    return made
