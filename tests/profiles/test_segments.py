"""Sealed segments against lists of rows: hashes that collide, months that interleave, files that change."""

import os
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profiles import manifest
from profiles.events import event_digest
from profiles.schema import EVENTS, EXPOSURES, ContractError, microseconds
from profiles.store import rows, sidecar
from profiles.store.removals import Removal, kept
from profiles.store.segments import Segment, Segments, batched

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = {**EVENTS.schema, "seq": pl.Int64}


def log(size: int, seed: int = 0, first: int = 1, days: int = 200) -> pl.DataFrame:
    """Events of 7 users over some days in no order, with gaps in their numbers."""
    chance = random.Random(seed)
    seqs = sorted(chance.sample(range(first, first + 3 * size), size))
    return pl.DataFrame(
        [
            {
                "event_id": f"e{seq}",
                "user_id": f"u{chance.randrange(7)}",
                "item_id": chance.choice([None, "i", "j"]),
                "event_type": chance.choice(["view", "buy"]),
                "timestamp": START + timedelta(days=chance.randrange(days)),
                "value": chance.choice([None, 0.1, -0.0, float("inf")]),
                "text": chance.choice([None, "", "é🎬\n"]),
                "seq": seq,
            }
            for seq in seqs
        ],
        schema=pl.Schema(ROWS),
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK", 4)
    monkeypatch.setattr("profiles.store.segments.GROUP", 3)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hashes for all names."""

    def hashed(names: Sequence[str]) -> Any:
        return np.array([sum(name.encode()) % 3 for name in names], dtype=np.uint64)

    monkeypatch.setattr(sidecar, "hashed", hashed)


def sealed(place: Path, frames: list[pl.DataFrame]) -> tuple[Segments, list[Segment]]:
    segments = Segments(place)
    held = [segments.write("events", f, 0, (f["seq"][0], f["seq"][-1])) for f in frames]
    return segments, held


def parts(size: int = 60) -> list[pl.DataFrame]:
    whole = log(size)
    return [whole[: size // 3], whole[size // 3 : size // 2], whole[size // 2 :]]


def test_a_segment_is_partitioned_parquet_with_a_manifest(tmp_path: Path) -> None:
    frame = log(50)
    _, (segment,) = sealed(tmp_path, [frame])
    folder = tmp_path / "segments" / segment.name
    times = frame["timestamp"].to_physical()
    assert segment.name == f"events-{frame['seq'][0]}-{frame['seq'][-1]}-0"
    assert (segment.rows, segment.earliest, segment.latest) == (50, times.min(), times.max())
    months = frame.group_by(pl.col("timestamp").dt.strftime("%Y-%m")).len().sort("timestamp")
    assert list(manifest.verify(folder)["months"].items()) == months.rows()
    for path in folder.rglob("*.parquet"):
        month = path.parent.name.removeprefix("month=")
        assert set(pl.read_parquet(path)["timestamp"].dt.strftime("%Y-%m")) == {month}
        about = duckdb.sql(f"select distinct compression from parquet_metadata('{path}')").fetchall()
        assert about == [("ZSTD",)]
    other = duckdb.sql(
        f"select * exclude (month) from read_parquet('{tmp_path}/segments/events-*/month=*/part.parquet', "
        "hive_partitioning = true) order by seq"
    ).pl()
    assert other["event_id"].to_list() == frame["event_id"].to_list()
    assert other["value"].to_list() == frame["value"].to_list()


@pytest.mark.usefixtures("small")
def test_reading_is_in_order_and_in_batches(tmp_path: Path) -> None:
    frame = log(40)
    segments, (segment,) = sealed(tmp_path, [frame])
    found = list(segments.read(segment))
    assert [len(part) for part in found] == [4] * 10
    assert_frame_equal(pl.concat(found), frame, check_exact=True)
    for low in range(0, 125, 7):
        for high in range(low, 125, 11):
            held = frame.filter(pl.col("seq") > low, pl.col("seq") <= high).select("user_id", "seq")
            got = pl.concat([held.clear(), *segments.read(segment, low, high, ["user_id"])])
            assert_frame_equal(got, held)
    hidden = [
        Removal(60, 0, users=("u1", "u2")),
        Removal(90, 0, cut=microseconds(START) + 50 * 86_400_000_000),
    ]
    got = pl.concat(
        [frame.select("value", "seq").clear(), *segments.read(segment, columns=["value"], removals=hidden)]
    )
    gone = (pl.col("seq") <= 60) & pl.col("user_id").is_in(["u1", "u2"])
    gone |= (pl.col("seq") <= 90) & (pl.col("timestamp") < START + timedelta(days=50))
    assert_frame_equal(got, frame.filter(~gone).select("value", "seq"))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("hashes", ["fair", "crowded"])
def test_ids_are_found_with_their_digest(hashes: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if hashes == "crowded":
        request.getfixturevalue("crowded")
    frames = parts()
    segments, held = sealed(tmp_path, frames)
    whole = pl.concat(frames)
    digests = dict(zip(whole["event_id"], event_digest(whole), strict=True))
    asked = [*whole["event_id"], *(f"x{n}" for n in range(30)), "e1", "e1", ""]
    other = [*digests.values()][1:] + [next(iter(digests.values()))] * 34  # what came with them is not held
    same = [digests.get(name, other[0]) for name in asked]
    mixed = [*same[:20], *other[20:]]
    for sent in (same, other, mixed):
        assert segments.find(held, asked, sent) == digests
        assert segments.find(held, asked[5:6], sent[5:6]) == {asked[5]: digests[asked[5]]}
    assert segments.find(held, ["x"], other[:1]) == segments.find(held, [], []) == {}
    assert segments.find([], asked, same) == {}
    seq = whole["seq"][30]
    hidden = kept(whole, "events", [Removal(seq, 0, users=("u3",))])
    assert 0 < len(hidden) < len(whole)
    assert set(segments.find(held, asked, same, [Removal(seq, 0, users=("u3",))])) == set(hidden["event_id"])


@pytest.mark.usefixtures("small")
def test_what_is_sent_again_is_known_without_reading_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = parts()
    segments, held = sealed(tmp_path, frames)
    whole = pl.concat(frames)
    ids, digests = whole["event_id"].to_list(), event_digest(whole).to_list()
    read: list[int] = []
    rows_of = Segments._rows
    monkeypatch.setattr(Segments, "_rows", lambda *given: read.append(len(given[2])) or rows_of(*given))
    assert segments.find(held, ids, digests) == dict(zip(ids, digests, strict=True))
    assert not read
    assert segments.find(held, ids, [*digests[:7], "0" * 32, *digests[8:]])[ids[7]] == digests[7]
    assert read == [1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("hashes", ["fair", "crowded"])
def test_the_latest_of_a_user_are_found(hashes: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if hashes == "crowded":
        request.getfixturevalue("crowded")
    frames = parts(90)
    segments, held = sealed(tmp_path, frames)
    whole = pl.concat(frames)
    chance = random.Random(1)
    for _ in range(150):
        user, n = f"u{chance.randrange(9)}", chance.choice([0, 1, 2, 5, 100])
        until = START + timedelta(days=chance.randrange(-1, 210))
        after = chance.choice([0, 0, whole["seq"][30], chance.randrange(300)])
        hidden = [Removal(chance.randrange(300), 0, users=(chance.choice([user, "u2"]),))] * chance.randrange(
            2
        )
        found = segments.latest(held, user, n, microseconds(until), after, hidden)
        known = kept(whole, "events", hidden).filter(
            pl.col("user_id") == user, pl.col("timestamp") <= until, pl.col("seq") > after
        )
        assert_frame_equal(found, known.sort("timestamp", "seq").tail(n), check_exact=True)


REMOVAL = st.one_of(
    st.builds(
        Removal,
        st.integers(0, 100),
        st.just(0),
        st.lists(st.sampled_from([f"u{n}" for n in range(9)]), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Removal,
        st.integers(0, 100),
        st.just(0),
        st.none(),
        st.integers(0, 200).map(lambda days: microseconds(START + timedelta(days=days))),
        st.none() | st.lists(st.sampled_from(["view", "buy"]), min_size=1).map(tuple),
    ),
)


def hit(removal: Removal, row: dict[str, Any]) -> bool:
    if row["seq"] > removal.events:
        return False
    if removal.users is not None:
        return row["user_id"] in removal.users
    assert removal.cut is not None
    old = microseconds(row["timestamp"]) < removal.cut
    return old and (removal.event_types is None or row["event_type"] in removal.event_types)


@settings(max_examples=60, deadline=None)
@given(removals=st.lists(REMOVAL, min_size=1, max_size=3))
def test_a_rewrite_leaves_what_no_removal_names(
    removals: list[Removal], tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame = log(30)
    segments, (segment,) = sealed(tmp_path_factory.mktemp("rewrite"), [frame])
    assert [Removal.of(removal.body) for removal in removals] == removals
    new, counts = segments.without(segment, removals, 1)
    left = [row for row in frame.to_dicts() if not any(hit(removal, row) for removal in removals)]
    first = [next((n for n, r in enumerate(removals) if hit(r, row)), None) for row in frame.to_dicts()]
    assert counts == [first.count(n) for n in range(len(removals))]
    if not left:
        assert new is None
    elif len(left) == len(frame):
        assert new == segment
    else:
        assert new is not None
        assert (new.first, new.last, new.rows) == (segment.first, segment.last, len(left))
        assert new.name != segment.name
        assert_frame_equal(pl.concat(segments.read(new)), pl.DataFrame(left, schema=frame.schema))
    assert_frame_equal(pl.concat(segments.read(segment)), frame)  # until it is swept away


def test_exposures_have_no_types_and_no_ids(tmp_path: Path) -> None:
    row = {"recommendation_id": "r", "item_id": "i", "rank": 1, "source": "s", "release": "r", "blend": "b"}
    shown = [
        row | {"user_id": f"u{n}", "timestamp": START + timedelta(days=n), "seq": n + 1} for n in range(9)
    ]
    frame = EXPOSURES.conform(pl.DataFrame(shown).drop("seq")).with_columns(seq=pl.Series(range(1, 10)))
    segments = Segments(tmp_path)
    segment = segments.write("exposures", frame, 0, (1, 9))
    assert_frame_equal(pl.concat(segments.read(segment)), frame)
    cut = microseconds(START + timedelta(days=4))
    removals = [Removal(0, 9, ("u8",)), Removal(0, 9, None, cut, ("view",)), Removal(0, 9, None, cut)]
    new, counts = segments.without(segment, removals, 1)
    assert counts == [1, 0, 4]
    assert new is not None
    assert pl.concat(segments.read(new))["user_id"].to_list() == ["u4", "u5", "u6", "u7"]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(path.name).randrange(len(data))] ^= 1 << 3
    path.write_bytes(data)


USES: dict[str, Callable[[Segments, Segment], object]] = {  # the file is what this needs
    "part.parquet": lambda segments, segment: list(segments.read(segment)),
    "ids.npy": lambda segments, segment: segments.find([segment], ["e1"], [""]),
    "users.npy": lambda segments, segment: segments.latest([segment], "u1", 1, 2**62),
    "manifest.json": lambda segments, segment: list(segments.read(segment)),
}


def test_every_file_is_checked_before_it_is_parsed(tmp_path: Path) -> None:
    frame = log(30)
    segments, (segment,) = sealed(tmp_path, [frame])
    folder = tmp_path / "segments" / segment.name
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        data = path.read_bytes()
        use = USES.get(path.name, USES["users.npy"])
        use(segments, segment)
        for spoilt in (data[:-1], data + b" ", b""):
            path.write_bytes(spoilt)
            fresh = Segments(tmp_path)
            with pytest.raises(ContractError, match=f"{path}: its content is not what was sealed"):
                use(fresh, segment)
            path.write_bytes(data)
        damage(path)
        with pytest.raises(ContractError, match=f"{path}: its content is not what was sealed"):
            use(Segments(tmp_path), segment)
        if path.suffix == ".parquet":  # one that was read before is looked at again when it has changed
            with pytest.raises(ContractError, match=f"{path}: its content is not what was sealed"):
                use(segments, segment)
        path.write_bytes(data)
        use(Segments(tmp_path), segment)


def test_a_manifest_forged_with_its_own_seal_is_refused(tmp_path: Path) -> None:
    _, (segment,) = sealed(tmp_path, [log(10)])
    folder = tmp_path / "segments" / segment.name
    with manifest.building(tmp_path / "forged", {"months": manifest.read(folder)["months"]}) as place:
        for path in folder.rglob("*.npy"):
            os.link(path, place / path.name)
    (folder / "manifest.json").write_bytes((tmp_path / "forged" / "manifest.json").read_bytes())
    with pytest.raises(ContractError, match=r"manifest\.json: its content is not what was sealed"):
        list(Segments(tmp_path).read(segment))


def test_a_replaced_segment_is_told_from_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments, (segment,) = sealed(tmp_path, [log(10)])
    folder = tmp_path / "segments" / segment.name
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.rename(tmp_path / "aside")
        with pytest.raises(FileNotFoundError):
            USES.get(path.name, USES["users.npy"])(Segments(tmp_path), segment)
        (tmp_path / "aside").rename(path)
    check = Segments._file

    def removed_just_now(self: Segments, segment: Segment, name: str) -> Path:
        path = check(self, segment, name)
        path.unlink()
        return path

    monkeypatch.setattr(Segments, "_file", removed_just_now)
    with pytest.raises(FileNotFoundError):
        list(segments.read(segment))
    segments.sweep([])
    assert not list((tmp_path / "segments").iterdir())


def test_sweeping_leaves_what_is_registered(tmp_path: Path) -> None:
    segments, held = sealed(tmp_path, parts())
    (tmp_path / "segments" / f".{held[0].name}-abcd").mkdir()
    segments.find(held, ["e1"], [""])
    segments.sweep({held[1].name})
    assert [path.name for path in (tmp_path / "segments").iterdir()] == [held[1].name]
    assert len(pl.concat(segments.read(held[1]))) == held[1].rows
    Segments(tmp_path / "nowhere").sweep([])


def test_a_copy_is_the_same_to_the_byte(tmp_path: Path) -> None:
    segments, (segment,) = sealed(tmp_path / "a", [log(30)])
    Segments(tmp_path / "b").copy(segment, segments)
    one, two = (tmp_path / side / "segments" / segment.name for side in "ab")
    files = sorted(path.relative_to(one) for path in one.rglob("*"))
    assert files == sorted(path.relative_to(two) for path in two.rglob("*"))
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files if (one / f).is_file())
    damage(two / "ids.npy")
    with pytest.raises(ContractError, match=r"ids\.npy"):
        Segments(tmp_path / "c").copy(segment, Segments(tmp_path / "b"))
    assert not (tmp_path / "c" / "segments" / segment.name).exists()
    with manifest.building(tmp_path / "d" / "segments" / segment.name, {"months": {}}):
        pass  # whole in itself, and not what was sealed
    with pytest.raises(ContractError, match=r"manifest\.json: its content is not what was sealed"):
        Segments(tmp_path / "e").copy(segment, Segments(tmp_path / "d"))


def test_batches_fill_segments_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK", 4)
    monkeypatch.setattr("profiles.store.segments.MOST_ROWS", 11)
    frame = log(30)
    assert [len(part) for part in batched(frame.iter_slices(4))] == [8, 8, 8, 6]
    assert_frame_equal(pl.concat(batched(frame.iter_slices(4))), frame)
    assert list(batched([])) == list(batched([frame[:0]])) == []
    monkeypatch.setattr("profiles.store.segments.MOST_BYTES", 1)
    assert [len(part) for part in batched(frame.iter_slices(4))] == [4] * 7 + [2]
