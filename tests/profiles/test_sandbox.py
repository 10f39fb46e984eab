"""Hostile files: each is refused with its name and the reason, and its parser is gone."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiles.schema import ContractError
from profiles.sources import SourceConfig, child, read, sandbox
from profiles.sources.files import Reader
from profiles.sources.limits import Limits
from profiles.sources.sandbox import Sandbox

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    left = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children.read_text().split()]
    assert not [command for command in left if "profiles.sources.child" in command]


def parse(*files: Path, **limits: Any) -> pl.DataFrame:
    with Sandbox(Limits(**limits)) as apart:
        return pl.concat([rows.frame for rows in apart.parse(files, Reader())])


def refused(content: bytes, path: Path, **limits: Any) -> str:
    path.write_bytes(content)
    with pytest.raises(ContractError) as error:
        parse(path, **limits)
    assert str(path) in str(error.value)
    return str(error.value)


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


# What is too large


def test_ten_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(10_000)]
    csv = (",".join(names) + "\n" + ",".join("1" * 10_000) + "\n").encode()
    said = "has 10,000 columns, more than limits.columns = 2,000"
    assert f"{said}: is the separator right?" in refused(csv, tmp_path / "a.csv")
    assert said in refused(parquet(**{name: [1] for name in names}), tmp_path / "a.parquet")
    line = json.dumps(dict.fromkeys(names, 1)).encode()
    assert "has more than limits.columns = 2,000 columns by line 1" in refused(line, tmp_path / "a.jsonl")
    lines = b"".join(b'{"k%d": 1}\n' % n for n in range(10_000))
    assert "has more than limits.columns = 2,000 columns by line 4097" in refused(lines, tmp_path / "b.jsonl")
    assert parse(*[write(tmp_path / "c.csv", (",".join(names[:2000]) + "\n").encode())]).width == 2000


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_gibibyte_in_one_cell(tmp_path: Path) -> None:
    members = [b'a,b\n1,"', *[b"x" * (1 << 24)] * 64, b'"\n']
    packed = {member: gzip.compress(member, 1) for member in set(members)}
    content = b"".join(packed[member] for member in members)
    assert "line 2: a row longer than 64 MiB" in refused(content, tmp_path / "cell.csv.gz")
    assert "line 2: a row longer than 64 MiB" in refused(b"".join(members[:9]), tmp_path / "cell.csv")
    out = io.BytesIO()
    giant = pa.table({"a": pa.array(["x" * (1 << 30)])})
    pq.write_table(giant, out, compression="zstd", use_dictionary=False, write_statistics=False)
    del giant
    assert len(out.getvalue()) < 1 << 20
    told = refused(out.getvalue(), tmp_path / "cell.parquet")
    assert "needs more memory to parse than limits.memory_mb" in told or "limits.cell_mb" in told


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_cell_above_its_limit(tmp_path: Path, name: str) -> None:
    for size, told in (((1 << 20) + 1, True), (1 << 20, False)):
        frame, out = pl.DataFrame({"a": ["x", "y" * size], "b": [1, 2]}), io.BytesIO()
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[name[2:]](out)
        if told:
            said = refused(out.getvalue(), tmp_path / name, cell_mb=1)
            assert "a value of column 'a' has 1,048,577 bytes, more than limits.cell_mb = 1" in said
        else:
            assert parse(write(tmp_path / name, out.getvalue()), cell_mb=1).height == 2


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_bomb(tmp_path: Path, packing: str) -> None:
    rows = b"user,item\n" + b"aaaaaaaa,bbbbbbbb\n" * 3_000_000
    bomb = pa.compress(rows, packing, asbytes=True) if packing == "zstd" else gzip.compress(rows, 9)
    assert len(rows) > 200 * len(bomb)
    said = refused(bomb, tmp_path / "a.csv", expansion_free_mb=8)
    assert (
        "unpacks to more than 200 times its size and 8 MiB; if that is right, raise limits.expansion" in said
    )
    assert parse(tmp_path / "a.csv").height == 3_000_000  # of a size that harms nobody
    assert parse(tmp_path / "a.csv", expansion_free_mb=8, expansion=100_000).height == 3_000_000


def test_a_parquet_bomb(tmp_path: Path) -> None:
    rows = pa.table({"a": pa.array(["x" * 100]).take(pa.array(np.zeros(3_000_000, np.int64)))})
    out = io.BytesIO()
    pq.write_table(rows, out)
    assert len(out.getvalue()) < 1 << 20
    said = refused(out.getvalue(), tmp_path / "a.parquet", expansion_free_mb=8)
    assert "holds more than 200 times its size and 8 MiB" in said


# What is broken


def whole() -> bytes:
    random = np.random.default_rng(0)
    return parquet(
        user_id=[f"u{n}" for n in random.integers(0, 500, 2000)],
        value=random.random(2000),
        tags=[["a", "b"][: n % 3] for n in range(2000)],
        at=pa.array(random.integers(0, 10**9, 2000), pa.timestamp("s")),
    )


def test_a_parquet_that_is_cut_anywhere(tmp_path: Path) -> None:
    content = whole()
    for length in np.linspace(4, len(content) - 1, 8).astype(int):
        assert "is no whole Parquet file" in refused(content[:length], tmp_path / "a.parquet")


@pytest.mark.parametrize("trials", [30, pytest.param(3000, marks=pytest.mark.reliability)])
def test_a_parquet_with_flipped_bits_is_read_or_refused_and_never_takes_us_along(
    tmp_path: Path, trials: int
) -> None:
    """Some flips change a value and nothing tells; none may do anything but give rows or a reason."""
    content, random, told = whole(), np.random.default_rng(1), 0
    for trial in range(trials):
        bad = bytearray(content)
        # Two in three in the footer, where all the lengths and counts are.
        low = len(content) - 2500 if trial % 3 else 4
        for place in random.integers(low, len(content), 1 + trial % 4):
            bad[place] ^= 1 << int(random.integers(8))
        told += reason(write(tmp_path / "a.parquet", bytes(bad))) is not None
    assert told > trials // 3


def reason(path: Path) -> str | None:
    """Return why a file is refused, None where it is read."""
    try:
        parse(path, silence_seconds=60)
    except ContractError as error:
        return str(error) if str(path) in str(error) else pytest.fail(f"does not name the file: {error}")
    return None


@pytest.mark.parametrize("rows", [1, 1999, 2001, 2**31, 2**62])
def test_a_footer_that_lies_about_its_rows(tmp_path: Path, rows: int) -> None:
    def number(value: int) -> bytes:  # zigzag, then seven bits a byte: Thrift's compact protocol
        value, out = value << 1, bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    content = parquet(a=list(range(2000)))
    length = int.from_bytes(content[-8:-4], "little")
    data, footer = content[: -8 - length], content[-8 - length : -8]
    assert number(2000) in footer
    path = tmp_path / "a.parquet"
    for count in (1, -1):
        lies = footer.replace(number(2000), number(rows), count)
        write(path, data + lies + len(lies).to_bytes(4, "little") + b"PAR1")
        told = reason(path)
        if count < 0 and rows < 2000:
            continue  # told everywhere alike, nothing contradicts it
        assert told is not None
        assert "is no whole Parquet file" in told or "memory" in told


def test_a_changed_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(
        pa.table({"a": np.arange(5000)}),
        out,
        write_page_checksum=True,
        use_dictionary=False,
        compression=None,
    )
    content = bytearray(out.getvalue())
    content[20_000] ^= 1
    assert "is no whole Parquet file" in refused(bytes(content), tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "deep", [b"[" * 500_000, b'{"a":' * 500_000, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
)
def test_json_nested_without_end(tmp_path: Path, deep: bytes) -> None:
    reason(write(tmp_path / "a.jsonl", deep))


@pytest.mark.parametrize("suffix", ["csv.gz", "csv.zst", "jsonl.gz"])
def test_a_packed_file_that_is_cut(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(0)
    rows = b"".join(
        b"%d,%d\n" % pair for pair in zip(*random.integers(0, 10**9, (2, 5000)).tolist(), strict=True)
    )
    content = gzip.compress(rows) if suffix.endswith("gz") else pa.compress(rows, "zstd", asbytes=True)
    for part in (content[: len(content) // 2], content[:-4], content[:100] + b"?" * 50 + content[150:]):
        assert f"a.{suffix}" in refused(part, tmp_path / f"a.{suffix}")


# What happens to the parser


def hurt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Have the parser do something else once it is told what to parse."""
    script = tmp_path / "hurt.py"
    script.write_text(
        "import ctypes, os, resource, sys, time\nfrom profiles.sources import child\n"
        f"def parse(*arguments):\n    {body}\nchild.parse = parse\nchild.main()\n"
    )
    real = subprocess.Popen

    def start(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-P", str(script)], **settings)

    monkeypatch.setattr(subprocess, "Popen", start)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("ctypes.string_at(0)", "its parser ended by SIGSEGV"),
        ("os.abort()", "its parser ended by SIGABRT"),
        ("os.kill(os.getpid(), 9)", "its parser ended by SIGKILL: it said nothing; the file is damaged, or"),
        ("os._exit(7)", "its parser ended with code 7"),
        ("raise RuntimeError('odd')", "a.csv cannot be read: RuntimeError: odd"),
        ("raise SystemExit(0)", "a.csv cannot be read: SystemExit"),
        ("bytearray(4 << 30)", "a.csv needs more memory to parse than limits.memory_mb = 1,024"),
        ("time.sleep(60)", "parsing gave nothing for limits.silence_seconds = 1 and was stopped"),
        ("exec('while True: pass')", "parsing gave nothing for limits.silence_seconds = 1 and was stopped"),
        ("exec('while True: print(1)')", "parsing gave nothing for limits.silence_seconds = 1"),
        ("open(sys.argv[0] + '.out', 'w').write('x' * 99999)", "a.csv"),
        ("os.write(3, b'?') or [os.write(n, b'?' * 99) for n in range(3, 9)]", "a.csv"),
    ],
)
def test_a_parser_that_dies_hangs_or_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    hurt(monkeypatch, tmp_path, body)
    if "stopped" in said or "limits.silence" in said:
        limits = {"silence_seconds": 1}
    else:
        limits = {"silence_seconds": 60, "memory_mb": 1024}
    begun = time.monotonic()
    assert said in refused(b"a,b\n1,2\n", tmp_path / "a.csv", **limits)
    assert time.monotonic() - begun < 50
    assert not [file for file in tmp_path.glob("*.out") if file.stat().st_size]


def test_what_the_parser_sends_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, said in (
        (b"no arrow", "what its parser sent cannot be read"),
        (b"", "what its parser sent cannot be read"),
    ):
        with monkeypatch.context() as patched:
            messages = iter([(child.FRAME, content)])
            patched.setattr(sandbox._Parser, "receive", lambda *_, messages=messages: next(messages))
            assert said in refused(b"a\n1\n", tmp_path / "a.csv")
    strings = pa.StringArray.from_buffers(
        2, pa.py_buffer(np.array([0, 900, 5], np.int32)), pa.py_buffer(b"short")
    )
    out = io.BytesIO()
    with pa.ipc.new_stream(out, pa.schema({"a": pa.string()})) as writer:
        writer.write_batch(pa.record_batch({"a": strings}))
    with monkeypatch.context() as patched:
        patched.setattr(sandbox._Parser, "receive", lambda *_: (child.FRAME, out.getvalue()))
        assert "what its parser sent cannot be read" in refused(b"a\n1\n", tmp_path / "a.csv")


def test_the_parser_knows_no_secret_and_takes_no_module_from_where_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hush")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('taken from the working folder')")
    (tmp_path / "polars.py").write_text("raise SystemExit('taken from the working folder')")
    assert parse(write(tmp_path / "a.csv", b"a\n1\n")).height == 1
    assert parse(Path("a.csv")).height == 1
    assert "SHOP_PASSWORD" not in sandbox._environment()


def test_one_parser_does_for_many_sources_and_another_takes_over_from_a_dead_one(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "a.csv", b"a\n1\n"), write(tmp_path / "b.csv", b"a,b\n1\n")
    with Sandbox() as apart:
        first = [rows.frame.height for rows in apart.parse([good, good], Reader())]
        process = apart._parser._process.pid if apart._parser else 0
        assert first == [1, 1]
        list(apart.parse([good], Reader()))
        assert apart._parser is not None
        assert apart._parser._process.pid == process
        with pytest.raises(ContractError, match=r"b\.csv, row 1 \(line 2\): 1 fields"):
            list(apart.parse([good, bad], Reader()))
        assert len(list(apart.parse([good], Reader()))) == 1
        rows = apart.parse([good, good], Reader())
        next(rows)
        rows.close()  # left in the middle
        assert len(list(apart.parse([good], Reader()))) == 1
        os.kill(apart._parser._process.pid, signal.SIGKILL)
        with pytest.raises(ContractError, match="its parser ended by SIGKILL"):
            list(apart.parse([good], Reader()))
        assert len(list(apart.parse([good], Reader()))) == 1


def test_a_source_of_a_good_and_a_hostile_file_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", b"user_id,event_type,timestamp\nu,view,2024-05-01\n")
    write(tmp_path / "b.csv", b"user_id,event_type,timestamp\nu,view\n")
    with pytest.raises(ContractError, match=r"b\.csv, row 1 \(line 2\): 2 fields where the header has 3"):
        read(SourceConfig(path="*.csv", name="x"), "events", tmp_path, NOW)
