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
        held = [np.ones(int(size) * 1_000_000, np.uint8) for size in sys.argv[2:]]
        del held

before = faults()
with nullcontext() if sys.argv[1] == "not" else memory.kept(sys.argv[1] == "whole"):
    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is not glibc")
@pytest.mark.parametrize(("how", "megabytes", "most"), [("kept", (3, 9, 20), 0.7), ("whole", (40, 70), 0.1)])
def test_what_is_freed_is_used_again(how: str, megabytes: tuple[int, ...], most: float) -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", LOOP, how, *map(str, megabytes)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults(how) < most * faults("not")


AFTERWARDS = """
import resource
import numpy as np
from profiles import memory

with memory.kept(whole=True):
    np.ones(70_000_000, np.uint8)
held = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(held)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(4_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
large = np.ones(70_000_000, np.uint8)
(heap,) = [line.split()[0].split("-") for line in open("/proc/self/maps") if line.endswith("[heap]\\n")]
print(int(heap[1], 16) - int(heap[0], 16))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is not glibc")
def test_afterwards_what_was_kept_is_given_back_and_arrays_are_taken_as_before() -> None:
    done = subprocess.run([sys.executable, "-c", AFTERWARDS], capture_output=True, text=True, check=True)
    held, faults, heap = map(int, done.stdout.split())
    assert held < 100e6  # Python, numpy and polars; the 70 MB are gone
    assert faults < 5 * 4_000_000 / 4096  # the heap has the array's pages after a few rounds
    assert heap < 70e6  # large arrays are apart from it again


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
