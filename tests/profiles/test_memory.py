"""Memory that is freed is touched again instead of asked for anew."""

import os
import subprocess
import sys

import pytest

from profiles import memory

LOOP = """
import resource, sys, threading
import numpy as np
from contextlib import nullcontext
from profiles import memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(40):
        held = [np.ones(size, np.uint8) for size in (3_000_000, 9_000_000, 20_000_000)]
        del held

before = faults()
with memory.kept() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is not glibc")
def test_what_is_freed_is_used_again() -> None:
    kept, given_back = (
        int(
            subprocess.run(
                [sys.executable, "-c", LOOP, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("kept", "not")
    )
    assert kept < 0.7 * given_back


def test_nothing_changes_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    ran = []
    with memory.kept():
        ran.append("inside")  # no error before, none after
    assert ran


PEAK = """
import numpy as np
from profiles import memory

held = np.ones(50_000_000, np.uint8)
with memory.taken() as most:
    gone = np.ones(90_000_000, np.uint8)
    del gone
    kept = np.ones(20_000_000, np.uint8)
print(most())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux begins a peak anew")
def test_the_most_that_was_taken_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(done.stdout) == pytest.approx(90e6, rel=0.05)


def test_where_nothing_is_told_there_is_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.Path, "write_text", _refused)
    with memory.taken() as most:
        pass
    assert most() is None


def _refused(*_: object) -> None:
    raise PermissionError


HOARD = """
import os
from profiles import memory

memory.hoard()
import polars as pl

print(os.environ["_RJEM_MALLOC_CONF"], os.environ["NUMPY_MADVISE_HUGEPAGE"], pl.Series([1]).sum())
"""


def test_libraries_are_told_to_keep_memory_unless_the_user_told_them_otherwise() -> None:
    known = {name: value for name, value in os.environ.items() if name != "_RJEM_MALLOC_CONF"}
    env = known | {"NUMPY_MADVISE_HUGEPAGE": "1"}
    told = subprocess.run([sys.executable, "-c", HOARD], capture_output=True, text=True, check=True, env=env)
    conf, huge, ones = told.stdout.split()
    assert conf.endswith("dirty_decay_ms:-1,muzzy_decay_ms:-1")  # the last one counts; Polars has some, too
    assert (huge, ones) == ("1", "1")
    assert "malloc" not in told.stderr  # the allocator complains of what it does not know
