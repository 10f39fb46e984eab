"""Sources: every way a file can be right or wrong, and what is said about it."""

import gzip
import json
import os
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from profiles.events import assign_ids, event_digest
from profiles.schema import EVENTS, ITEMS, REJECTED, TIME, USERS, ContractError
from profiles.sources import Batch, Kind, Sandbox, SourceConfig, fingerprint
from profiles.sources import read as read_source
from profiles.sources.casting import as_time

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = "user_id,item_id,event_type,timestamp\n"
ROW = "u1,i1,view,2024-05-01\n"


SANDBOX = Sandbox()


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> Iterator[None]:
    """One parser for all tests that do not end it."""
    yield
    SANDBOX.close()


def read(source: SourceConfig, kind: Kind, root: Path, now: datetime) -> Batch:
    return read_source(source, kind, root, now, SANDBOX)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def source(path: Any = "log.csv", **settings: Any) -> SourceConfig:
    return SourceConfig(path=path, **settings)


def ingest(root: Path, content: str | bytes | pl.DataFrame, kind: Kind = "events", **settings: Any) -> Batch:
    path = settings.pop("path", "log.parquet" if isinstance(content, pl.DataFrame) else "log.csv")
    if isinstance(content, pl.DataFrame):
        content.write_parquet(root / path)
    else:
        (root / path).write_bytes(content.encode() if isinstance(content, str) else content)
    batch = read(source(path, **settings), kind, root, NOW)
    assert batch.rows == batch.frame.height + batch.rejected.height + batch.duplicates
    assert batch.rejected.schema == REJECTED.schema
    return batch


def log(**columns: list[Any]) -> pl.DataFrame:
    """A log of as many rows as the columns have, right where nothing is said."""
    rows = len(next(iter(columns.values())))
    good = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": datetime(2024, 5, 1)}
    return pl.DataFrame({name: columns.get(name, [value] * rows) for name, value in (good | columns).items()})


def problems(batch: Batch) -> list[str]:
    return batch.rejected["problem"].to_list()


# What is read


def test_csv_becomes_events(root: Path) -> None:
    batch = ingest(root, HEADER + ROW + "u2,,login,2024-05-02 10:00:00\n")
    assert batch.frame.schema == EVENTS.schema
    assert batch.frame["user_id"].to_list() == ["u1", "u2"]
    assert batch.frame["item_id"].to_list() == ["i1", None]
    assert batch.frame["timestamp"].to_list() == [
        datetime(2024, 5, 1, tzinfo=UTC),
        datetime(2024, 5, 2, 10, tzinfo=UTC),
    ]
    assert (batch.rows, batch.notes, batch.timeless, batch.files) == (2, [], False, [root / "log.csv"])


def test_every_format_gives_the_same_events_with_the_same_ids(root: Path) -> None:
    rows = [("007", "b", "rating", 978300760, 4.5), ("8", "c", "rating", 978300761, None)]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "event_type", "timestamp", "value"], orient="row")
    frame.write_csv(root / "log.csv")
    frame.write_csv(root / "log.tsv", separator="\t")
    frame.write_parquet(root / "log.pq")
    frame.write_ndjson(root / "log.ndjson")
    frame.write_csv(root / "semicolons.csv", separator=";")
    first, *others = (
        read(source(path, name="log", separator=separator), "events", root, NOW).frame
        for path, separator in [
            ("log.csv", ""),
            ("log.tsv", ""),
            ("log.pq", ""),
            ("log.ndjson", ""),
            ("semicolons.csv", ";"),
        ]
    )
    assert first["user_id"].to_list() == ["007", "8"]
    for other in others:
        assert_frame_equal(first, other)


def test_targets_take_columns_constants_and_expressions(root: Path) -> None:
    frame = pl.DataFrame(
        {"who": [1], "what": [2], "at": [978300760], "a": ["good"], "b": ["value"], "n": [3]}
    )
    columns = {
        "user_id": "who",
        "item_id": {"column": "what"},
        "event_type": {"constant": "review"},
        "timestamp": "at",
        "text": {"expression": "a || ' ' || b"},
        "value": {"expression": "n * 2"},
    }
    row = ingest(root, frame, columns=columns).frame.row(0, named=True)
    assert (row["user_id"], row["item_id"], row["event_type"]) == ("1", "2", "review")
    assert (row["text"], row["value"]) == ("good value", 6.0)


def test_items_keep_lists_times_and_attributes_with_their_types(root: Path) -> None:
    frame = pl.DataFrame(
        {
            "movie_id": [1, 2],
            "genres": ["Drama| War||", None],
            "labels": [["x", "y"], []],
            "year": [1999, 2001],
            "from": ["2001-01-01", None],
            "colour": pl.Series(["red", "blue"], dtype=pl.Categorical),
        }
    )
    columns = {
        "item_id": "movie_id",
        "categories": {"column": "genres", "split": "|"},
        "tags": "labels",
        "available_from": "from",
        "decade": {"expression": "year / 10"},
        "words": {"column": "genres", "split": "|"},
    }
    batch = ingest(root, frame, "items", columns=columns, attributes=["year", "colour"])
    assert batch.frame.columns == [*ITEMS.columns, "decade", "words", "year", "colour"]
    assert batch.frame["categories"].to_list() == [["Drama", "War"], None] == batch.frame["words"].to_list()
    assert batch.frame["tags"].to_list() == [["x", "y"], []]
    assert batch.frame["available_from"].to_list() == [datetime(2001, 1, 1, tzinfo=UTC), None]
    assert (batch.frame["year"].dtype, batch.frame["colour"].dtype) == (pl.Int64, pl.String)


def test_users_with_valid_from_are_unique_by_id_and_moment(root: Path) -> None:
    csv = "user_id,plan,valid_from\na,free,2024-01-01\na,paid,2024-02-01\na,paid,2024-02-01\n"
    batch = ingest(root, csv, "users", attributes=["plan", "valid_from"])
    assert batch.frame.schema == {**USERS.schema, "plan": pl.String, "valid_from": TIME}
    assert batch.frame["plan"].to_list() == ["free", "paid"]
    assert problems(batch) == ["user_id 'a' is there already; the first row is kept"]


def test_a_glob_is_read_in_order_and_ids_do_not_depend_on_the_files(root: Path) -> None:
    for day in (2, 1):
        (root / f"day{day}.csv").write_text(HEADER + f"u{day},i,view,2024-05-0{day}\n" + ROW)
    batch = read(source("day*.csv", name="days"), "events", root, NOW)
    assert [file.name for file in batch.files] == ["day1.csv", "day2.csv"]
    assert batch.frame["user_id"].to_list() == ["u1", "u1", "u2", "u1"]
    (root / "one.csv").write_text(HEADER + "u1,i,view,2024-05-01\n" + ROW + "u2,i,view,2024-05-02\n" + ROW)
    assert_frame_equal(read(source("one.csv", name="days"), "events", root, NOW).frame, batch.frame)


def test_an_order_makes_a_timeless_batch(root: Path) -> None:
    frame = pl.DataFrame(
        {"user_id": [1, 1, 1], "item_id": [5, 6, 7], "pos": [0.0, 3.0, 2.5], "timestamp": ["?"] * 3}
    )
    columns = {"order": "pos", "event_type": {"constant": "view"}}
    batch = ingest(root, frame, columns=columns)
    assert batch.timeless
    assert batch.frame["timestamp"].cast(pl.Int64).to_list() == [0, 3]
    assert problems(batch) == ["unreadable order '2.5'"]
    csv = ingest(root, "user_id,item_id,pos,timestamp\n1,5,0,?\n1,6,3,?\n1,7,,?\n", columns=columns)
    assert csv.frame["timestamp"].to_list() == batch.frame["timestamp"].to_list()
    assert problems(csv) == ["no order"]


# Ids


ODD_IDS = [
    "007",
    " a ",
    'say "hi"',
    "a/b\\c",
    "two\nlines",
    "🦊",
    "x" * 300,
    "-3499919498720038879",
    "1.0",
    "NULL",
    "a,b",
]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_ids_are_kept_exactly_as_they_are(root: Path, suffix: str) -> None:
    frame = log(user_id=ODD_IDS, item_id=ODD_IDS[::-1])
    path = root / f"log.{suffix}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](path)
    batch = read(source(path.name), "events", root, NOW)
    assert batch.frame["user_id"].to_list() == ODD_IDS
    assert batch.frame["item_id"].to_list() == ODD_IDS[::-1]


def test_numbers_become_ids_without_a_fraction(root: Path) -> None:
    assert ingest(root, log(user_id=[1.0, 2.5, -0.0])).frame["user_id"].to_list() == ["1", "2.5", "0"]
    large = ingest(root, log(user_id=[-8845298781299428018, 2**63 - 1])).frame
    assert large["user_id"].to_list() == ["-8845298781299428018", "9223372036854775807"]


def test_a_list_is_no_id(root: Path) -> None:
    with pytest.raises(
        ContractError, match=r"log\.parquet: column 'user_id' holds List\(Int64\), which is no text"
    ):
        ingest(root, log(user_id=[[1]]))


# Times


@pytest.mark.parametrize(
    "written",
    [
        "2024-05-01T10:00:00",
        "2024-05-01 10:00:00",
        "2024-05-01T10:00",
        "2024-05-01T10:00:00Z",
        "2024-05-01 10:00:00 UTC",
        "2024-05-01T12:00:00+02:00",
        "2024-05-01 12:00:00.000 +0200",
        " 2024-05-01T10:00:00.000000 ",
        "20240501T100000Z",
        1714557600,
        1714557600.0,
        "1714557600",
        1714557600_000,
        1714557600_000_000,
        1714557600_000_000_000,
        datetime(2024, 5, 1, 10),
        datetime(2024, 5, 1, 12, tzinfo=datetime.fromisoformat("2024-05-01T00:00+02:00").tzinfo),
    ],
)
def test_times_are_read_in_every_form(written: Any) -> None:
    assert as_time(pl.Series([written]), "auto").to_list() == [datetime(2024, 5, 1, 10, tzinfo=UTC)]


def test_dates_are_midnight_and_whole_numbers_stay_exact() -> None:
    day = [datetime(2024, 5, 1, tzinfo=UTC)]
    for written in ("2024-05-01", date(2024, 5, 1)):
        assert as_time(pl.Series([written]), "auto").to_list() == day
    assert as_time(pl.Series([20240501]), "iso").to_list() == day
    assert as_time(pl.Series([1714557600123456789]), "ns").cast(pl.Int64).to_list() == [1714557600123456]
    assert as_time(pl.Series(["1.5", "x", None]), "s").cast(pl.Int64).to_list() == [1_500_000, None, None]


def test_the_median_says_what_numbers_count(root: Path) -> None:
    batch = ingest(root, log(timestamp=[1714557600, 1714557601, 0, 1714557600_000]))
    assert batch.frame["timestamp"].dt.year().to_list() == [2024, 2024]
    assert problems(batch) == [
        "time 1970-01-01 lies before 1990: is time_unit right?",
        "time +56302-03-03 lies in the future",
    ]


def test_what_is_no_time_is_rejected_with_its_row(root: Path) -> None:
    times = [
        "2024-05-01",
        "",
        "yesterday",
        "2999-01-01",
        "1970-01-01",
        "2026-01-01T23:00",
        "2026-01-02T01:00",
    ]
    batch = ingest(root, HEADER + "".join(f"u,i,view,{time}\n" for time in times))
    assert batch.rejected["row"].to_list() == [2, 3, 4, 5, 7]
    assert problems(batch) == [
        "no time",
        "unreadable time 'yesterday'",
        "time 2999-01-01 lies in the future",
        "time 1970-01-01 lies before 1990: is time_unit right?",
        "time 2026-01-02 lies in the future",
    ]
    assert len(batch.notes) == 4  # one a kind of problem
    file = root / "log.csv"
    assert batch.notes[2] == f"{file}, row 4: time 2999-01-01 lies in the future (1 more like it); left out"
    assert json.loads(batch.rejected["content"][1])["timestamp"] == "yesterday"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "auto"])
def test_no_number_is_too_large_to_be_refused(root: Path, unit: str) -> None:
    extremes: list[Any] = [2**63 - 1, -(2**63), 0]
    batch = ingest(root, log(timestamp=extremes), time_unit=unit)
    assert all("lies" in problem for problem in problems(batch))
    assert len(problems(batch)) + batch.frame.height == 3
    floats = ingest(root, log(timestamp=[1e300, float("nan"), float("inf"), 1e9]), time_unit="s")
    assert floats.frame.height == 1


def test_a_datetime_beyond_the_calendar_is_rejected(root: Path) -> None:
    far = pl.Series("timestamp", [2**63 - 1, 0, None]).cast(pl.Datetime("us"))
    batch = ingest(root, log(user_id=["a", "b", "c"]).with_columns(far))
    assert [problem.split(" ")[-1] for problem in problems(batch)] == ["future", "right?", "time"]


# Rows that are refused, and repeats


def test_events_without_user_or_type_are_rejected(root: Path) -> None:
    batch = ingest(root, HEADER + ',i,view,2024-05-01\n"",i,view,2024-05-01\nu,i,,2024-05-01\n' + ROW)
    assert problems(batch) == [
        "an event with no user",
        "an event with no user",
        "an event with no event_type",
    ]
    assert batch.rejected["source"].unique().to_list() == ["log"]


def test_values_that_are_no_numbers_are_rejected(root: Path) -> None:
    csv = HEADER.replace("\n", ",value\n") + "".join(
        ROW.replace("\n", f",{v}\n") for v in ("1", "", " 2 ", '"3,5"', "NaN", "inf", "many", "1e3")
    )
    batch = ingest(root, csv)
    assert batch.frame["value"].to_list() == [1, None, 2, 1000]
    assert problems(batch) == [f"value '{value}' is not a number" for value in ("3,5", "NaN", "inf", "many")]
    typed = ingest(root, log(value=[1.0, float("nan"), None, float("-inf")]))
    assert problems(typed) == ["value 'NaN' is not a number", "value '-inf' is not a number"]
    assert json.loads(typed.rejected["content"][1])["value"] == "-inf"


def test_properties_must_be_a_json_object(root: Path) -> None:
    batch = ingest(root, log(properties=['{"a": 1}', None, "[1]", "nothing"]))
    assert batch.frame["properties"].to_list() == ['{"a": 1}', None]
    assert problems(batch) == [
        "properties '[1]' are no JSON object",
        "properties 'nothing' are no JSON object",
    ]
    structs = ingest(root, log(user_id=["a"]).with_columns(properties=pl.struct(a=pl.lit(1))))
    assert structs.frame["properties"].to_list() == ['{"a":1}']


def test_an_own_event_id_may_not_mean_two_events(root: Path) -> None:
    batch = ingest(root, log(event_id=["1", "2", "1", "1", None, None], value=[1.0, 2.0, 1.0, 9.0, 5.0, 5.0]))
    assert batch.frame["event_id"].to_list()[:2] == ["1", "2"]
    assert batch.frame["event_id"].n_unique() == 4
    assert (batch.rows, batch.duplicates) == (6, 1)
    assert problems(batch) == ["event_id '1' is there already with other content"]
    assert batch.rejected["row"].to_list() == [4]
    assert batch.notes[-1] == "log: rows that repeat an event_id and its content: 1; kept once"


def test_repeated_and_missing_ids_of_items_are_rejected(root: Path) -> None:
    batch = ingest(root, "item_id,title\n1,first\n,none\n1,second\n2,other\n", "items")
    assert batch.frame["title"].to_list() == ["first", "other"]
    assert problems(batch) == ["no item_id", "item_id '1' is there already; the first row is kept"]
    assert batch.rejected["row"].to_list() == [2, 3]


def test_a_broken_price_or_availability_is_blanked_and_noted(root: Path) -> None:
    csv = "item_id,price,available_from\n1,NaN,soon\n2,9.5,2024-01-01\n3,cheap,\n4,,\n"
    batch = ingest(root, csv, "items")
    assert batch.frame["price"].to_list() == [None, 9.5, None, None]
    assert batch.frame["available_from"].null_count() == 3
    assert batch.rejected.is_empty()
    assert batch.notes == [
        f"{root / 'log.csv'}, row 1: price 'NaN' is not a number (1 more like it); kept without it",
        f"{root / 'log.csv'}, row 1: unreadable available_from 'soon'; kept without it",
    ]


def test_empty_lines_are_skipped_and_noted_but_counted_as_lines(root: Path) -> None:
    batch = ingest(root, HEADER + ROW + "\n" + ",i,view,2024-05-01\n\n")
    assert batch.notes[0] == f"{root / 'log.csv'}, row 2: an empty line (2 in all); skipped"
    assert batch.rejected["row"].to_list() == [3]


cell = st.one_of(st.none(), st.text("ab\"',\n =;1é", max_size=3))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(cell, cell, cell, cell, cell), min_size=1, max_size=12))
def test_nothing_is_lost_whatever_is_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    root = tmp_path_factory.mktemp("any")
    names = ["event_id", "user_id", "event_type", "value", "timestamp"]
    frame = pl.DataFrame(rows, dict.fromkeys(names, pl.String), orient="row")
    frame = frame.with_columns(timestamp=pl.coalesce(pl.lit("2024-05-01"), "timestamp"))
    batch = ingest(root, frame)
    assert batch.rows == frame.height
    assert batch.frame["event_id"].is_unique().all()


# Event ids


def test_a_real_repeat_stays_and_a_second_reading_gives_the_same_ids(root: Path) -> None:
    first = ingest(root, HEADER + ROW + ROW + "u2,i,view,2024-05-01\n").frame
    assert first["event_id"].n_unique() == 3
    (root / "moved").mkdir()
    again = ingest(root, HEADER + "u2,i,view,2024-05-01\n" + ROW + ROW, path="moved/log.csv").frame
    assert set(again["event_id"]) == set(first["event_id"])
    other = ingest(root, HEADER + ROW, name="another").frame
    assert not set(other["event_id"]) & set(first["event_id"])


def test_the_digest_tells_null_from_empty_and_neighbours_apart() -> None:
    base = {"event_id": "x", "user_id": "u", "event_type": "v", "timestamp": datetime(2024, 5, 1)}
    variants = [
        {},
        {"item_id": ""},
        {"text": ""},
        {"item_id": "a", "text": "b"},
        {"item_id": "ab"},
        {"item_id": "a", "session_id": "b"},
        {"item_id": "a;text=1:b;"},
        {"value": 0.0},
        {"value": 1.0},
    ]
    frame = EVENTS.conform(pl.DataFrame([base | v for v in variants], infer_schema_length=None))
    assert event_digest(frame).n_unique() == len(variants)
    assert event_digest(frame.with_columns(event_id=pl.lit("y"))).to_list() == event_digest(frame).to_list()
    zeros = EVENTS.conform(pl.DataFrame([base | {"value": 0.0}, base | {"value": -0.0}]))
    assert event_digest(zeros).n_unique() == 1


def test_ids_do_not_change_from_release_to_release() -> None:
    row = {
        "user_id": "u",
        "item_id": "i",
        "event_type": "view",
        "timestamp": datetime(2024, 5, 1),
        "value": 1.5,
    }
    frame = assign_ids(pl.DataFrame([row, row]), "log")
    micros, bits = 1714521600_000_000, struct.unpack("<q", struct.pack("<d", 1.5))[0]
    content = f"user_id=1:u;item_id=1:i;event_type=4:view;timestamp=16:{micros};value=19:{bits};"
    digest = blake2b(content.encode(), digest_size=16).hexdigest()
    assert event_digest(frame).to_list() == [digest, digest] == ["e3e68eda8825f6b16a90b82a9f67bcb9"] * 2
    ids = [blake2b(f"3:log;{digest}{nth}".encode(), digest_size=16).hexdigest() for nth in (0, 1)]
    assert frame["event_id"].to_list() == ids


# Files and settings that the user must mend


def refused(root: Path, kind: Kind = "events", **settings: Any) -> str:
    with pytest.raises(ContractError) as error:
        read(source(**settings), kind, root, NOW)
    return str(error.value)


def test_missing_files_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(root) == f"[[events]] 'log': there is no file {root / 'log.csv'}"
    both = refused(root, path=["a.csv", "b/*.csv"])
    assert f"{root / 'a.csv'}; there is no file {root / 'b/*.csv'}" in both
    monkeypatch.delenv("ATTUNE_NOWHERE", raising=False)
    message = refused(root, path="${ATTUNE_NOWHERE}/log.csv")
    assert "names ${ATTUNE_NOWHERE}, which is not set; set it to" in message


def test_the_first_alternative_that_exists_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "data [1]").mkdir()
    (root / "data [1]" / "log.csv").write_text(HEADER + ROW)
    monkeypatch.setenv("ATTUNE_HERE", str(root / "data [1]"))
    for path in (["none.csv", "${ATTUNE_HERE}/log.csv"], ["${ATTUNE_NOWHERE}/x", "${ATTUNE_HERE}/l*.csv"]):
        assert read(source(path), "events", root, NOW).files == [root / "data [1]" / "log.csv"]
    assert source(["a/first.csv", "b.csv"]).label == "first"


def test_an_optional_file_may_be_missing(root: Path) -> None:
    batch = read(source(optional=True), "items", root, NOW)
    assert batch.frame.schema == ITEMS.schema
    assert batch.notes == [f"log is skipped: there is no file {root / 'log.csv'}"]
    assert (batch.rows, batch.files) == (0, [])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ratings.parquet", b"user_id,item_id\n", "is no Parquet file: it begins with b'user'; give format"),
        ("cut.parquet", b"PAR1 and then nothing", "cut.parquet is no whole Parquet file: "),
        ("log.csv", b"", "log.csv is empty"),
        ("log.csv", HEADER.encode(), "log.csv: no rows"),
        ("log.csv", b"PAR1....", "log.csv is a Parquet file, not csv"),
        ("log.csv", b"\x1f\x8b\x08\x00", "log.csv is packed with gzip and not whole: "),
        ("log.csv", b"PK\x03\x04....", "log.csv is a zip archive, not csv; unpack it"),
        ("log.parquet", b"\x1f\x8b\x08\x00", "log.parquet is no Parquet file: it begins with"),
        ("log.csv", HEADER.encode() + b"Ren\xe9,", "is not UTF-8: byte 0xe9 at offset 40, line 2"),
        ("log.csv", (HEADER + ROW + "u,i,view\n").encode(), "row 2 (line 3): 3 fields where the header"),
        ("log.csv", (HEADER + '"a\nb",i,v,t\nu,i,v,t,x\n').encode(), "row 2 (line 4): 5 fields where"),
        ("log.csv", (HEADER + 'u,5" pipe,view,2024-05-01\n').encode(), "give quotes = false"),
        ("log.txt", b"a b c", 'does not tell its format; give format = "csv", "tsv", "parquet", "jsonl"'),
        ("log.jsonl", b'{"user_id": 1}\n{"user_id"\n', "line 2 is no JSON: "),
        ("log.jsonl", b'[{"user_id": 1}]', "line 1 is an array: each line must be one object"),
        ("log.jsonl", b'{"user_id": "\xe9"}', "is not UTF-8: byte 0xe9 at offset 13, line 1"),
        ("ratings.dat", b"1::2::3\n", "that name, 4 columns separated by '::', but line 1 has 3"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_say_why(root: Path, name: str, content: bytes, said: str) -> None:
    (root / name).write_bytes(content)
    assert said in refused(root, path=name)


def test_a_rejected_row_is_json_whatever_it_holds(root: Path) -> None:
    odd = {"nested": [{"a": [1.0, float("nan")]}], "raw": [b"\xff"], "day": [date(2024, 5, 1)]}
    batch = ingest(root, log(user_id=[None], **odd).with_columns(pl.col("user_id").cast(pl.String)))
    content = json.loads(batch.rejected["content"][0])
    assert (content["nested"], content["day"]) == ({"a": [1.0, "nan"]}, "2024-05-01")


def test_a_directory_is_no_file(root: Path) -> None:
    (root / "log.csv").mkdir()
    with pytest.raises(ContractError, match="is a directory"):
        fingerprint(source(), root)
    assert f"{root / 'log.csv'} is a directory; name its files, for example" in refused(root)


def test_quotes_can_be_plain_characters(root: Path) -> None:
    batch = ingest(root, HEADER + 'u,5" pipe,view,2024-05-01\n', quotes=False)
    assert batch.frame["item_id"].to_list() == ['5" pipe']


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"item_id": "itm"}, "no column 'itm' (did you mean 'item'?); it has who, item, kind, at"),
        ({"item_id": "zzz"}, "the file has no column 'zzz'; it has who, item, kind, at"),
        ({"item_idd": "item"}, "'item_idd', which EVENTS does not have: did you mean 'item_id'?"),
        ({"qqq": "item"}, "columns names 'qqq', which EVENTS does not have: it has event_id, user_id"),
        ({"user_id": None}, "mapped to user_id (who did it); give its column's name; the file has who"),
        ({"event_type": None}, 'or { constant = "view" } for one value; the file has who, item, kind, at'),
        ({"timestamp": None}, "neither timestamp nor, for a log without times, order; the file has"),
        ({"order": "at"}, "columns maps both timestamp and order; keep order only for a log without times"),
        ({"text": {"expression": "kind || nothing"}}, 'find column "nothing"; the file has who, item'),
        ({"text": {"expression": "((("}}, "expression '(((': unable to parse"),
        ({"text": {"column": "kind", "split": " "}}, "text is no list: split is for categories, tags"),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_say_why(root: Path, columns: dict[str, Any], said: str) -> None:
    (root / "log.csv").write_text("who,item,kind,at\nu,i,view,2024-05-01\n")
    right = {"user_id": "who", "item_id": "item", "event_type": "kind", "timestamp": "at"}
    asked = {name: target for name, target in (right | columns).items() if target is not None}
    assert said in refused(root, columns=asked)


def test_a_mistyped_item_column_is_no_attribute(root: Path) -> None:
    (root / "log.csv").write_text("item_id,genres\n1,a\n")
    assert "did you mean 'categories'?" in refused(root, "items", columns={"categorie": "genres"})
    assert "attributes are for items and users" in refused(root, attributes=["genres"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "a", "pth": "b"}, "Extra inputs are not permitted"),
        ({"path": []}, "at least 1 item"),
        ({"path": "a", "format": "xlsx"}, "'auto', 'csv', 'tsv', 'parquet' or 'jsonl'"),
        (
            {"path": "a", "columns": {"user_id": {"constan": 1}}},
            "give a source column's name, { constant = … }",
        ),
        ({"path": "a", "columns": {"tags": {"column": "a", "splt": "|"}}}, "columns.tags.column.splt"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        SourceConfig(**settings)
    assert said in str(error.value)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in SourceConfig.model_fields.values())


def test_the_fingerprint_follows_settings_and_content(root: Path) -> None:
    (root / "log.csv").write_text(HEADER + ROW)
    first = fingerprint(source(), root)
    assert fingerprint(source(), root) == first
    assert fingerprint(source(time_unit="iso"), root) != first
    (root / "log.csv").write_text(HEADER + ROW + ROW)
    assert fingerprint(source(), root) != first


# Public files in their own layouts


def test_movielens_files_are_known_by_name(root: Path) -> None:
    (root / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\n")
    (root / "movies.dat").write_bytes("73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"))
    (root / "users.dat").write_text("1::F::1::10::07067\n")
    (root / "u.data").write_text("196\t242\t3\t881250949\n")
    flags = "|".join("1" if place in (3, 4) else "0" for place in range(19))
    (root / "u.item").write_bytes(f"1|Café (1995)|01-Jan-1995||http://x|{flags}\n".encode("latin-1"))
    (root / "u.user").write_text("1|24|M|technician|85711\n")
    rating = {"item_id": "movie_id", "event_type": {"constant": "rating"}, "value": "rating"}
    movie = {"item_id": "movie_id", "categories": {"column": "genres", "split": "|"}}
    for name, users in (("ratings.dat", ["1", "1"]), ("u.data", ["196"])):
        assert read(source(name, columns=rating), "events", root, NOW).frame["user_id"].to_list() == users
    for name, title, genres in (
        ("movies.dat", "Misérables, Les (1995)", ["Drama", "Musical"]),
        ("u.item", "Café (1995)", ["Animation", "Children's"]),
    ):
        frame = read(source(name, columns=movie), "items", root, NOW).frame
        assert (frame["title"][0], frame["categories"][0].to_list()) == (title, genres)
    for name, asked in (("users.dat", "zip"), ("u.user", "zip_code")):
        user = read(source(name, attributes=["age", asked]), "users", root, NOW).frame.row(0)
        assert user == {"users.dat": ("1", "1", "07067"), "u.user": ("1", "24", "85711")}[name]


def test_later_movielens_headers_answer_to_both_names(root: Path) -> None:
    csv = "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n"
    for name in ("movie_id", "movieId"):
        columns = {"item_id": name, "event_type": {"constant": "rating"}, "value": "rating"}
        frame = ingest(root, csv, path="ratings.csv", columns=columns).frame
        assert frame.select("user_id", "item_id", "value").row(0) == ("1", "296", 5.0)


def test_deskdrop_articles_hold_quoted_text_over_many_lines(root: Path) -> None:
    csv = (
        "timestamp,eventType,contentId,title,text\n"
        '1459193988,CONTENT SHARED,-4110354420726924665,"Ethereum, again","All\n\nis ""still"" early."\n'
        "1459194146,CONTENT REMOVED,-7292285110016212249,Bitcoin,short\n"
    )
    batch = ingest(root, csv, "items", columns={"item_id": "contentId"}, path="shared_articles.csv")
    assert batch.frame["item_id"].to_list() == ["-4110354420726924665", "-7292285110016212249"]
    assert batch.frame["text"].to_list() == ['All\n\nis "still" early.', "short"]


@pytest.fixture
def data() -> Path:
    if "ATTUNE_DATA" not in os.environ:
        pytest.skip("ATTUNE_DATA is not set: it names the folder of public data sets")
    return Path(os.environ["ATTUNE_DATA"])


@pytest.mark.data
def test_movielens_1m(data: Path) -> None:
    columns = {"item_id": "movie_id", "event_type": {"constant": "rating"}, "value": "rating"}
    batch = read(source("${ATTUNE_DATA}/ml_1m/ratings.parquet", columns=columns), "events", data, NOW)
    assert (batch.frame.height, set(problems(batch)), batch.rejected.height) == (999_960, {"no time"}, 249)
    assert batch.frame["event_id"].n_unique() == 999_960


@pytest.mark.data
def test_deskdrop(data: Path) -> None:
    columns = {
        "user_id": "personId",
        "item_id": "contentId",
        "event_type": "eventType",
        "session_id": "sessionId",
    }
    batch = read(source("deskdrop/users_interactions.parquet", columns=columns), "events", data, NOW)
    assert (batch.frame.height, batch.rejected.height, batch.notes) == (72_312, 0, [])
    assert batch.frame["user_id"][0] == "-8845298781299428018"
    assert batch.frame["timestamp"].is_between(NOW - timedelta(days=4000), NOW).all()


PUBLIC: dict[str, tuple[dict[str, Any], int, str]] = {
    "ml_100k/ratings": (
        {"item_id": "movie_id", "event_type": {"constant": "rating"}, "value": "rating"},
        100_000,
        "ec15c44eda38eb4d",
    ),
    "deskdrop/users_interactions": (
        {"user_id": "personId", "item_id": "contentId", "event_type": "eventType", "session_id": "sessionId"},
        72_312,
        "611022a5e81902fa",
    ),
    "lastfm/user_artists": (
        {
            "user_id": "userID",
            "item_id": "artistID",
            "event_type": {"constant": "listen"},
            "order": "userID",
            "value": "weight",
        },
        92_834,
        "f567915c2251ac84",
    ),
    "steam/events": (
        {
            "user_id": "user",
            "item_id": "item",
            "event_type": {"constant": "play"},
            "order": "user",
            "value": "value",
        },
        200_000,
        "04c4849aabe7471c",
    ),
    "amazon_instruments/reviews": (
        {
            "user_id": "reviewerID",
            "item_id": "asin",
            "event_type": {"constant": "review"},
            "timestamp": "unixReviewTime",
            "value": "overall",
            "text": "reviewText",
        },
        10_261,
        "c48c38d27a70710b",
    ),
}


@pytest.mark.data
@pytest.mark.parametrize("name", list(PUBLIC))
def test_public_data_has_the_ids_it_has_always_had_in_every_format(
    data: Path, tmp_path: Path, name: str
) -> None:
    columns, rows, wanted = PUBLIC[name]
    file = data / f"{name}.parquet"
    exact = pl.selectors.float().cast(pl.Float64)  # as text, a 32-bit number is another 64-bit one
    frame, label = pl.read_parquet(file).with_columns(exact), file.stem
    text = frame.select(n for n, dtype in frame.schema.items() if not isinstance(dtype, pl.List | pl.Struct))
    text.write_csv(tmp_path / "a.csv")
    text.write_csv(tmp_path / "a.tsv", separator="\t")
    text.sample(fraction=1, shuffle=True, seed=0).write_csv(tmp_path / "shuffled.csv")
    frame.write_ndjson(tmp_path / "a.jsonl")
    for plain in ("a.csv", "a.jsonl"):
        (tmp_path / f"{plain}.gz").write_bytes(gzip.compress((tmp_path / plain).read_bytes(), 1))
    packed = pa.compress((tmp_path / "a.csv").read_bytes(), "zstd", asbytes=True)
    (tmp_path / "a.csv.zst").write_bytes(packed)
    (tmp_path / "folder" / "year=2024").mkdir(parents=True)
    frame.write_parquet(tmp_path / "folder" / "year=2024" / "part.parquet", row_group_size=10_000)
    for path in (
        str(file),
        "a.csv",
        "a.tsv",
        "shuffled.csv",
        "a.jsonl",
        "a.csv.gz",
        "a.jsonl.gz",
        "a.csv.zst",
        "folder",
    ):
        quotes = True if path == "a.tsv" else None
        batch = read(source(path, name=label, columns=columns, quotes=quotes), "events", tmp_path, NOW)
        assert (batch.frame.height, batch.rejected.height) == (rows, 0), path
        assert sha256("".join(sorted(batch.frame["event_id"])).encode()).hexdigest()[:16] == wanted, path
