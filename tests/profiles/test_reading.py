"""Sources in parts: the same as whole, in bounded memory, whatever the parts."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profiles.events import event_digest
from profiles.schema import EVENTS, ContractError
from profiles.sources import Batch, SourceConfig, fingerprint, jsonlines, occurrences, read, stream, unpacking
from profiles.sources.casting import Times, times_of
from profiles.sources.files import Reader, parse
from profiles.sources.limits import Limits
from profiles.sources.occurrences import CONTENT, COUNT, KEY, Spill, content_before, count_before
from profiles.sources.preparing import prepare
from profiles.sources.sandbox import Rows, Sandbox

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = "user_id,item_id,event_type,timestamp\n"


class Here(Sandbox):
    """Parses in this process, in parts of at most `rows` rows."""

    def __init__(self, rows: int = 250_000) -> None:
        super().__init__()
        self.rows = rows

    def parse(
        self, files: Sequence[Path], reader: Reader, advance: Callable[[int], None] = lambda _: None
    ) -> Generator[Rows]:
        for place, file in enumerate(files):
            text = file.suffix == ".csv"
            for frame in parse(file, reader, self.limits):
                for start in range(0, max(1, frame.height), self.rows):
                    yield Rows(place, frame[start : start + self.rows], text)


def shop(rows: int, seed: int = 0) -> pl.DataFrame:
    """A log in which a tenth of the rows are repeats."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user_id": random.integers(0, rows // 3 + 1, rows),
            "item_id": random.integers(0, 50, rows),
            "event_type": np.array(["view", "buy"])[random.integers(0, 2, rows)],
            "timestamp": random.integers(1_600_000_000, 1_700_000_000, rows),
            "value": random.integers(1, 6, rows).astype(float),
        }
    )
    return pl.concat([frame, frame[random.integers(0, rows, rows // 10)]])


def ids(batch: Batch) -> list[str]:
    return batch.frame["event_id"].to_list()


# Parts do not show


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_the_parts_make_no_difference(tmp_path: Path, suffix: str, rows: int) -> None:
    frame, path = shop(300), tmp_path / f"log.{suffix}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](path)
    source = SourceConfig(path=path.name)
    whole = read(source, "events", tmp_path, NOW, Here())
    parted = list(stream(source, "events", tmp_path, NOW, Here(rows)))
    assert len(parted) == -(-frame.height // rows)
    assert_frame_equal(pl.concat([batch.frame for batch in parted]), whole.frame)
    assert_frame_equal(pl.concat([batch.origin for batch in parted]), whole.origin)
    assert whole.origin["row"].to_list() == list(range(1, 331))
    assert whole.frame["event_id"].is_unique().all()


def test_the_order_of_rows_makes_no_difference_to_ids(tmp_path: Path) -> None:
    frame = shop(300)
    frame.write_csv(tmp_path / "log.csv")
    frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "log.parquet")
    csv, parquet = (
        read(SourceConfig(path=name), "events", tmp_path, NOW, Here(rows))
        for name, rows in (("log.csv", 11), ("log.parquet", 64))
    )
    assert set(ids(csv)) == set(ids(parquet))


ROW = st.tuples(
    st.sampled_from([None, "1", "2", "3"]),
    st.sampled_from(["u", "v", "", None]),
    st.sampled_from(["1", "2", "x", None]),
)


def oracle(rows: list[Any]) -> tuple[list[tuple[str, int]], list[tuple[int, str]], int]:
    """Return the ids with their rows, the rejected rows with their problems, and the repeats counted."""
    kept: list[tuple[str, int]] = []
    rejected: list[tuple[int, str]] = []
    known: dict[str, str] = {}
    times: dict[str, int] = {}
    repeated = 0
    for number, (event_id, user, value) in enumerate(rows, 1):
        if not user:
            rejected.append((number, "an event with no user"))
            continue
        if value == "x":
            rejected.append((number, "value 'x' is not a number"))
            continue
        frame = pl.DataFrame(
            {
                "event_id": ["e"],
                "user_id": [user],
                "event_type": ["view"],
                "timestamp": [datetime(2024, 5, 1, tzinfo=UTC)],
                "value": [None if value is None else float(value)],
            },
            schema_overrides={"value": pl.Float64},
        )
        digest = event_digest(EVENTS.conform(frame)).item()
        if event_id is None:
            nth = times[digest] = times.get(digest, -1) + 1
            kept.append((blake2b(f"3:log;{digest}{nth}".encode(), digest_size=16).hexdigest(), number))
        elif event_id not in known:
            known[event_id] = digest
            kept.append((event_id, number))
        elif known[event_id] == digest:
            repeated += 1
        else:
            rejected.append((number, f"event_id '{event_id}' is there already with other content"))
    return kept, rejected, repeated


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=40), size=st.integers(1, 9), held=st.integers(1, 20))
def test_ids_and_repeats_are_those_of_a_dictionary_of_everything(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], size: int, held: int
) -> None:
    root = tmp_path_factory.mktemp("any")
    names = ["event_id", "user_id", "value"]
    frame = pl.DataFrame(rows, dict.fromkeys(names, pl.String), orient="row")
    frame = frame.with_columns(event_type=pl.lit("view"), timestamp=pl.lit("2024-05-01"))
    frame.write_parquet(root / "log.parquet")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(occurrences, "HELD", held)
        patched.setattr(occurrences, "FILES", 3)
        batches = list(stream(SourceConfig(path="log.parquet"), "events", root, NOW, Here(size)))
    kept, rejected, repeated = oracle(rows)
    found = [pair for batch in batches for pair in zip(ids(batch), batch.origin["row"], strict=True)]
    assert found == kept
    assert [pair for batch in batches for pair in batch.rejected.select("row", "problem").rows()] == rejected
    assert sum(batch.duplicates for batch in batches) == repeated
    for batch in batches:
        assert batch.rows == batch.frame.height + batch.rejected.height + batch.duplicates
    first = {problem for _, problem in rejected if "event_id" in problem}
    lines = [line for line in batches[-1].notes if "is there already" in line]
    assert len(lines) == min(1, len(first))


def test_one_line_tells_of_a_problem_in_many_parts(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEADER + "u,i,view,2024-05-01\n,i,view,2024-05-01\n\n" * 50)
    batch = read(SourceConfig(path="log.csv"), "events", tmp_path, NOW, Here(7))
    file = tmp_path / "log.csv"
    assert batch.notes == [
        f"{file}, row 3: an empty line (50 in all); skipped",
        f"{file}, row 2: an event with no user (49 more like it); left out",
    ]
    assert batch.rejected["row"].to_list() == list(range(2, 151, 3))
    assert json.loads(batch.rejected["content"][7])["item_id"] == "i"
    assert (batch.frame.height, batch.rows) == (50, 100)


def test_repeats_of_items_are_found_across_parts_and_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item_id,title\n1,one\n2,two\n,none\n")
    (tmp_path / "b.csv").write_text("item_id,title\n3,three\n1,again\n2,again\n")
    batch = read(SourceConfig(path="*.csv", name="x"), "items", tmp_path, NOW, Here(1))
    assert batch.frame["title"].to_list() == ["one", "two", "three"]
    assert batch.rejected.select("file", "row", "problem").rows() == [
        (str(tmp_path / "a.csv"), 3, "no item_id"),
        (str(tmp_path / "b.csv"), 2, "item_id '1' is there already; the first row is kept"),
        (str(tmp_path / "b.csv"), 3, "item_id '2' is there already; the first row is kept"),
    ]
    assert json.loads(batch.rejected["content"][2]) == {"item_id": "2", "title": "again"}
    assert batch.rows == 6


# The unit of times is that of the whole file


number = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 9e10, 1e11, 2e11, 1e14, 1e17, 1e18, -1e12]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(number, max_size=5), min_size=1, max_size=5))
def test_the_unit_of_parts_is_that_of_the_median(parts: list[list[float | None]]) -> None:
    column = pl.Series([value for part in parts for value in part], dtype=pl.Float64)
    found = sum((times_of(pl.Series(part, dtype=pl.Float64)) for part in parts), Times())
    sizes = column.filter(column.is_finite().fill_null(False)).abs()
    middle = float(np.median(sizes.to_numpy())) if len(sizes) else 0.0
    limits = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
    assert found.unit == next((unit for limit, unit in limits if middle < limit), "ns")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([None, "1700000000", "2024-01-01", "nan", ""]), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_text_is_iso_where_less_than_half_are_numbers(parts: list[list[str | None]]) -> None:
    texts = [value for part in parts for value in part if value is not None]
    numbers = sum(value in ("1700000000", "nan") for value in texts)
    found = sum((times_of(pl.Series(part, dtype=pl.String)) for part in parts), Times())
    assert (found.unit == "iso") == (2 * numbers < len(texts))


def test_a_part_of_odd_times_is_read_in_the_units_of_the_file(tmp_path: Path) -> None:
    times = [1_700_000_000] * 6 + [1_700_000_000_000] * 3
    log = "".join(f"u{n},i,view,{time}\n" for n, time in enumerate(times))
    (tmp_path / "log.csv").write_text(HEADER + log)
    batch = read(SourceConfig(path="log.csv"), "events", tmp_path, NOW, Here(3))
    assert batch.frame["user_id"].to_list() == [f"u{n}" for n in range(6)]
    assert batch.rejected["row"].to_list() == [7, 8, 9]  # not milliseconds, as the last part alone would be


@pytest.mark.parametrize(
    "text", ["max(timestamp)", "timestamp - avg(timestamp)", "row_number() over (order by user_id)"]
)
def test_an_expression_over_other_rows_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(HEADER + "u,i,view,1700000000\n")
    with pytest.raises(ContractError, match="looks at other rows; only what stands in one row can be used"):
        read(
            SourceConfig(path="log.csv", columns={"value": {"expression": text}}),
            "events",
            tmp_path,
            NOW,
            Here(),
        )


# Text in pieces


TEXT = st.text(st.sampled_from('ab,;\n\r" 1é\t'), max_size=5)


def csv_of(rows: list[list[str]], end: str) -> bytes:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text

    return end.join(",".join(map(cell, row)) for row in rows).encode()


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(TEXT, min_size=n, max_size=n), max_size=8)),
    end=st.sampled_from(["\n", "\r\n"]),
    tail=st.sampled_from(["", "\n", "\n\n"]),
    block=st.sampled_from([1, 2, 5, 17, 1000]),
    bom=st.booleans(),
)
def test_csv_in_pieces_is_csv(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    end: str,
    tail: str,
    block: int,
    bom: bool,
) -> None:
    width = len(rows[0]) if rows else 2
    content = ",".join("abc"[:width]).encode() + b"\n" + csv_of(rows, end) + tail.encode()
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    path.write_bytes(b"\xef\xbb\xbf" * bom + content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unpacking, "BLOCK", block)
        found = pl.concat(parse(path, Reader(), Limits()))
    assert_frame_equal(found, pl.read_csv(content, infer_schema=False))


PLAIN = st.one_of(st.none(), st.integers(-9, 9), st.just(0.5), st.text("x1", max_size=2))


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from("abc"), PLAIN), min_size=1, max_size=10).filter(any),
    block=st.sampled_from([1, 7, 40, 1000]),
)
def test_json_lines_in_pieces_have_the_types_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], block: int
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = pl.read_ndjson(path.read_bytes(), infer_schema_length=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unpacking, "BLOCK", block)
        patched.setattr(jsonlines, "LINES", 2)
        found = pl.concat(parse(path, Reader(), Limits()))
    assert_frame_equal(found, whole, check_column_order=False)


def said(path: Path, content: bytes, block: int = 1000, limits: Limits | None = None) -> str:
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unpacking, "BLOCK", block)
        with pytest.raises(ContractError) as error:
            list(parse(path, Reader(), limits or Limits()))
    return str(error.value)


@pytest.mark.parametrize("block", [1, 10, 1000])
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("log.csv", b"a,b\n1,2\n3,4\n5\n", "row 3 (line 4): 1 fields where the header has 2"),
        ("log.csv", b'a,b\n"x\ny",2\n3,4,5\n', "row 2 (line 4): 3 fields where the header has 2"),
        ("log.csv", b"a,b\n1,2\n3,\x00\n", "holds a NUL byte at offset 10, line 3"),
        ("log.csv", b"\xef\xbb\xbfa,b\n1,\xff\n", "is not UTF-8: byte 0xff at offset 9, line 2"),
        ("log.csv", "a,b\n1,é\n".encode("utf-16"), "log.csv is text in UTF-16, not csv; save it as UTF-8"),
        ("log.tsv", b"a\tb\n1\t2\n3\n", "row 2 (line 3): 1 fields where the header has 2"),
        ("log.jsonl", b'{"a": 1}\n{"a": 2}\n{"a"}\n', "line 3 is no JSON"),
        ("log.jsonl", b'{"a": 1}\n{"a": {"b": 1}}\n', "log.jsonl"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line_in_every_piece(
    tmp_path: Path, name: str, content: bytes, told: str, block: int
) -> None:
    assert told in said(tmp_path / name, content, block)
    packed = gzip.compress(content)
    assert told.replace(name, f"{name}.gz") in said(tmp_path / f"{name}.gz", packed, block)


def test_a_quote_never_closed_is_told_before_memory_is_full(tmp_path: Path) -> None:
    content = b'a,b\n1,2\n3,"x' + b"y,z\n" * 2_000_000
    told = said(tmp_path / "log.csv", content, 1 << 20, Limits(cell_mb=1))
    assert "log.csv, line 3: a row longer than 4 MiB, or a quote that is never closed" in told


# Packed files


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl"])
def test_packed_files_are_read_by_suffix_and_by_their_first_bytes(
    tmp_path: Path, packing: str, name: str
) -> None:
    frame = shop(200)
    plain = tmp_path / name
    tabs = {"separator": "\t"} if name.endswith("tsv") else {}
    frame.write_ndjson(plain) if name.endswith("jsonl") else frame.write_csv(plain, **tabs)
    wanted = read(SourceConfig(path=name), "events", tmp_path, NOW, Here())
    packed = (
        pa.compress(plain.read_bytes(), packing, asbytes=True)
        if packing == "zstd"
        else gzip.compress(plain.read_bytes())
    )
    suffix = {"gzip": "gz", "zstd": "zst"}[packing]
    (tmp_path / f"{name}.{suffix}").write_bytes(packed)
    plain.write_bytes(packed)
    for path in (f"{name}.{suffix}", name):
        found = read(SourceConfig(path=path), "events", tmp_path, NOW, Here())
        assert_frame_equal(found.frame, wanted.frame)  # the name of the source, and so the ids, are the same


def test_parts_of_a_packed_file_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "log.csv.gz").write_bytes(
        gzip.compress((HEADER + "u,i,vi").encode()) + gzip.compress(b"ew,2024-05-01\nv,i,view,2024-05-01\n")
    )
    found = read(SourceConfig(path="log.csv.gz"), "events", tmp_path, NOW, Here())
    assert found.frame["user_id"].to_list() == ["u", "v"]


def test_public_files_are_known_by_name_when_they_are_packed(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat.gz").write_bytes(gzip.compress(b"1::1193::5::978300760\n"))
    columns = {"item_id": "movie_id", "event_type": {"constant": "rating"}, "value": "rating"}
    found = read(SourceConfig(path="ratings.dat.gz", columns=columns), "events", tmp_path, NOW, Here())
    assert found.frame.select("user_id", "item_id", "value").row(0) == ("1", "1193", 5.0)


def test_a_latin_1_file_is_one_encoding_in_every_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "BLOCK", 20)
    titles = ["Plain", "Café", "Plain again", "Misérables"]
    content = "".join(f"{n}::{title}::Drama\n" for n, title in enumerate(titles))
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "movies.dat").write_bytes(content.encode(encoding))
        found = pl.concat(parse(tmp_path / "movies.dat", Reader(), Limits()))
        assert found["title"].to_list() == titles


# Folders


def test_a_partitioned_folder_is_a_source_and_its_keys_are_columns(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    for day, kind, users in (
        ("2024-05-01", "view", ["a"]),
        ("2024-05-01", "buy%2Fnow", ["b"]),
        ("2024-05-02", "view", ["c"]),
    ):
        folder = root / f"day={day}" / f"event_type={kind}"
        folder.mkdir(parents=True)
        pl.DataFrame({"user_id": users, "item_id": ["i"]}).write_parquet(folder / "part-0.parquet")
        (folder / "_SUCCESS").write_text("")
        (folder / ".part-0.parquet").write_text("a writer's own")
    (root / "_temporary").mkdir()
    (root / "_temporary" / "x.parquet").write_text("half written")
    source = SourceConfig(path="logs/", columns={"timestamp": "day"})
    batch = read(source, "events", tmp_path, NOW, Here())
    assert batch.frame.select("user_id", "event_type").rows() == [
        ("b", "buy/now"),
        ("a", "view"),
        ("c", "view"),
    ]
    assert batch.frame["timestamp"].dt.day().to_list() == [1, 1, 2]
    before = fingerprint(source, tmp_path)
    (root / "day=2024-05-02").rename(root / "day=2024-05-03")
    assert fingerprint(source, tmp_path) != before


def test_what_a_file_says_itself_wins_over_its_folder_and_nothing_is_null(tmp_path: Path) -> None:
    for plan, held in (("free", "paid"), ("__HIVE_DEFAULT_PARTITION__", None)):
        folder = tmp_path / "users" / f"plan={plan}"
        folder.mkdir(parents=True)
        frame = pl.DataFrame({"user_id": [plan[:1]]})
        frame = frame.with_columns(plan=pl.lit(held)) if held else frame
        frame.write_parquet(folder / "x.parquet")
    found = read(SourceConfig(path="users", attributes=["plan"]), "users", tmp_path, NOW, Here())
    assert dict(found.frame.rows()) == {"f": "paid", "_": None}


# A source is read once and goes on where it was


def test_a_source_that_is_prepared_is_not_read_again(tmp_path: Path) -> None:
    frame = shop(100)
    frame.write_csv(tmp_path / "log.csv")
    source = SourceConfig(path="log.csv")
    wanted = read(source, "events", tmp_path, NOW, Here())
    prepare(source, "events", tmp_path, NOW, tmp_path / "spool", Here(9))
    (tmp_path / "log.csv").unlink()
    reading = prepare(source, "events", tmp_path, NOW, tmp_path / "spool", Here())
    for number in reversed(range(reading.parts)):  # in any order
        reading.events(number)
    found = pl.concat([reading.events(number).frame for number in range(reading.parts)])
    assert_frame_equal(found, wanted.frame)


def test_what_was_left_half_prepared_is_begun_anew(tmp_path: Path) -> None:
    shop(100).write_csv(tmp_path / "log.csv")
    source = SourceConfig(path="log.csv")

    class Stops(Here):
        def parse(self, *arguments: Any) -> Generator[Rows]:  # type: ignore[override]
            for number, rows in enumerate(super().parse(*arguments)):
                if number == 3:
                    raise KeyboardInterrupt
                yield rows

    with pytest.raises(KeyboardInterrupt):
        prepare(source, "events", tmp_path, NOW, tmp_path / "spool", Stops(9))
    reading = prepare(source, "events", tmp_path, NOW, tmp_path / "spool", Here(50))
    found = pl.concat([reading.events(number).frame for number in range(reading.parts)])
    assert_frame_equal(found, read(source, "events", tmp_path, NOW, Here()).frame)


# Counting


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.dictionaries(st.integers(0, 8), st.integers(1, 4), max_size=6), max_size=8),
    held=st.integers(1, 9),
)
def test_spilled_counts_are_those_of_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, parts: list[dict[int, int]], held: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(occurrences, "HELD", held)
        patched.setattr(occurrences, "FILES", 3)
        counts = Spill(tmp_path_factory.mktemp("counts"), COUNT, count_before)
        first = Spill(tmp_path_factory.mktemp("first"), CONTENT, content_before)
        for number, part in enumerate(parts):
            keys = {"high": list(part), "low": [7] * len(part), "part": [number] * len(part)}
            counts.add(pl.DataFrame({**keys, "count": list(part.values())}))
            first.add(
                pl.DataFrame({**keys, "digest_high": list(part.values()), "digest_low": list(part.values())})
            )
        counts.finish()
        first.finish()
    totals: dict[int, int] = {}
    seen: dict[int, int] = {}
    for number, part in enumerate(parts):
        before = counts.of(number)
        assert dict(zip(before["high"], before["count"], strict=True)) == {
            k: totals[k] for k in part if k in totals
        }
        known = first.of(number)
        assert dict(zip(known["high"], known["digest_low"], strict=True)) == {
            k: seen[k] for k in part if k in seen
        }
        for key, count in part.items():
            totals[key] = totals.get(key, 0) + count
            seen.setdefault(key, count)
    assert KEY == ["high", "low"]


# Memory


MEASURE = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from profiles.sources import SourceConfig, stream
file = Path(sys.argv[1])
source = SourceConfig(path=str(file), name="log")
rows = sum(len(batch.frame) for batch in stream(source, "events", file.parent, datetime.now(UTC)))
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
most = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)  # ru_maxrss of oneself is inherited
print(rows, most // 1024)
"""


def peak(file: Path) -> tuple[int, int]:
    """Return how many rows a file has, and the memory in MiB of the process that took the most for them."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, file], capture_output=True, text=True, check=True, env=os.environ
    )
    rows, most = run.stdout.split()
    return int(rows), int(most)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    part = shop(450_000).cast({"user_id": pl.String})
    found = []
    for times in (1, 4):
        file = tmp_path / f"log{times}.{suffix}"
        frame = pl.concat([part.with_columns(session_id=pl.lit(str(n))) for n in range(times)])
        frame.write_csv(file) if suffix == "csv" else frame.write_parquet(file, row_group_size=100_000)
        found.append(peak(file))
    assert [rows for rows, _ in found] == [part.height, 4 * part.height]
    assert found[1][1] < 1.25 * found[0][1] + 40
    assert found[1][1] < 700
