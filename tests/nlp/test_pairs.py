"""Pairs from what people did, split by user and time, and what is no negative of what."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nlp.coding import coded
from nlp.pairs import PAIRS, PairsFile, divided, from_file, of_snapshot
from profiles.schema import EVENTS, INTERACTIONS, TEXTS, ContractError

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = timedelta(days=1)


class Log:
    """The frames of a snapshot, by hand: who did what on which day and wrote what."""

    def __init__(self, rows: list[tuple[float, str, str | None, str | None]], said: dict[str, str]) -> None:
        events = [
            {
                "event_id": str(n), "user_id": user, "item_id": item, "event_type": "view",
                "timestamp": START + day * DAYS, "text": text,
            }
            for n, (day, user, item, text) in enumerate(rows)
        ]  # fmt: skip
        self.events = EVENTS.conform(pl.DataFrame(events, schema_overrides={"text": pl.String}))
        met = self.events.filter(pl.col("item_id").is_not_null()).with_columns(weight=pl.lit(1.0))
        self.interactions = INTERACTIONS.conform(met.select(INTERACTIONS.columns.keys()))
        texts = [{"text_hash": i, "owner": "item", "id": i, "text": t} for i, t in said.items()]
        self.texts = TEXTS.conform(pl.DataFrame(texts))

    def frame(self, name: str) -> pl.DataFrame:
        found: pl.DataFrame = getattr(self, name)
        return found


SAID = {"a": "an axe", "b": "a boat", "c": "a coat", "d": "a drum"}
LOG = Log(
    [
        (0, "u", "a", "sharp and heavy"),
        (1, "u", "b", None),
        (1.001, "v", None, "something warm"),
        (1.002, "v", "c", None),
        (1.9, "u", "b", None),
        (2, "v", "a", None),
        (3, "u", "c", "too thin"),
        (4, "u", "x", None),  # says nothing
        (30, "u", "d", None),
    ],
    SAID,
)


REVIEWED = Log(
    [
        (0, "u", "a", "sharp"),
        (1, "u", "b", "it floats"),
        (2, "v", "b", "it sinks"),
        (3, "v", "x", "no name, but fine"),  # says nothing itself
        (4, "u", "x", "nameless"),
        (99, "w", "x", "later than that"),
    ],
    SAID,
)


def told(within, each=2, until=None, log=LOG) -> set[tuple[str, str, str]]:
    pairs, _ = of_snapshot(log, within, each, until)
    return set(pairs.select("user_id", "left", "right").iter_rows())


def test_what_a_user_wrote_beside_what_others_wrote_of_the_next_choices() -> None:
    until = START + 50 * DAYS
    pairs, chosen = of_snapshot(REVIEWED, {"reviewed": 9 * DAYS}, 2, until)
    assert set(pairs.select("user_id", "left", "item_id", "right").iter_rows()) == {
        ("u", "sharp", "b", "it sinks"),
        ("u", "sharp", "x", "no name, but fine"),
        ("u", "it floats", "x", "no name, but fine"),
        ("v", "it sinks", "x", "nameless"),
    }
    # Who chose an item chose all that is said of it: no text of it is a negative of theirs.
    theirs = set(chosen.filter(user_id="v").select("item_id", "text").iter_rows())
    assert theirs == {("b", "a boat"), ("b", "it sinks"), ("x", "no name, but fine"), ("x", "nameless")}


def test_each_kind_pairs_a_text_with_the_next_choices() -> None:
    assert told({"written": 5 * DAYS}) == {
        ("u", "sharp and heavy", "an axe"),
        ("u", "sharp and heavy", "a boat"),
        ("u", "too thin", "a coat"),
    }
    assert told({"queries": timedelta(minutes=30)}) == {("v", "something warm", "a coat")}
    assert told({"queries": 9 * DAYS}) == {
        ("v", "something warm", "a coat"),
        ("v", "something warm", "an axe"),
    }
    assert told({"co_chosen": 2 * DAYS}, each=1) == {
        ("u", "an axe", "a boat"),
        ("u", "a boat", "a coat"),
        ("v", "a coat", "an axe"),
    }
    assert told({"written": 5 * DAYS, "queries": DAYS}, until=START + 2 * DAYS) == {
        ("u", "sharp and heavy", "an axe"),
        ("u", "sharp and heavy", "a boat"),
        ("v", "something warm", "a coat"),
    }


def test_choices_are_told_with_their_texts() -> None:
    _, chosen = of_snapshot(LOG, {}, 1, START + 2.5 * DAYS)
    assert set(chosen.iter_rows()) == {
        ("u", "a", "an axe"), ("u", "b", "a boat"), ("v", "c", "a coat"), ("v", "a", "an axe"),
    }  # fmt: skip


def made(rows: list[tuple[str, str, str | None, int | None]]) -> pl.DataFrame:
    names = ["left", "right", "user_id", "day"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names[:3], pl.String) | {"day": pl.Int64}, orient="row")
    moment = pl.lit(START) + pl.duration(days=pl.col("day"))
    return PAIRS.conform(frame.select("left", "right", "user_id", timestamp=moment))


def test_validation_is_of_other_users_and_later() -> None:
    random = np.random.default_rng(0)
    rows = [(f"l{n}", f"r{n}", f"u{random.integers(60)}", int(random.integers(100))) for n in range(500)]
    train, held = divided(made(rows), 0.2, seed=3)
    assert not set(train["user_id"]) & set(held["user_id"])
    assert train["timestamp"].max() <= held["timestamp"].min()
    assert 5 < held["user_id"].n_unique() < 20
    assert 300 < len(train) < 400
    again = divided(made(rows), 0.2, seed=3)
    assert held.equals(again[1])
    assert not held.equals(divided(made(rows), 0.2, seed=4)[1])


def test_without_users_or_times_the_left_texts_are_drawn() -> None:
    rows = [(f"l{n % 40}", f"r{n}", None, None) for n in range(200)]
    train, held = divided(made(rows), 0.25, seed=0)
    assert len(train) + len(held) == 200
    assert not set(train["left"]) & set(held["left"])
    everything, nothing = divided(made(rows), 0.0, seed=0)
    assert (len(everything), len(nothing)) == (200, 0)


def test_false_negatives_against_sets() -> None:
    pairs = made(
        [
            ("q1", "A", "u", 1),
            ("q1", "B", "v", 1),  # the same question, another answer
            ("q2", "A", "v", 1),
            ("q3", "C", None, 1),
            ("A", "D", "w", 1),  # an item asked with
        ]
    )
    chosen = pl.DataFrame({"user_id": ["u", "w", "stranger"], "text": ["D", "B", "C"]})
    hard = pl.DataFrame({"user_id": ["u", "u", "v", "w"], "text": ["C", "D", "E", "F"]})
    code = coded(pairs, chosen, hard)
    liked = {"u": {"A", "D"}, "v": {"B", "A"}, "w": {"D", "B"}}
    columns = np.arange(len(code.texts))
    found = code.false_negatives(np.arange(5), columns)
    for row, (left, right, user) in enumerate(pairs.select("left", "right", "user_id").iter_rows()):
        answers = set(pairs.filter(left=left)["right"])
        expected = {left, right} | answers | liked.get(user, set())
        assert {code.texts[c] for c in columns[found[row]]} == expected & set(code.texts), (left, right)
    random = np.random.default_rng(0)
    drawn = {
        row: {code.texts[c] for c in code.hard_negatives(np.array([row]), 20, random)} for row in range(5)
    }
    assert drawn == {0: {"C"}, 1: {"E"}, 2: {"E"}, 3: set(), 4: {"F"}}  # u chose D
    assert len(code.hard_negatives(np.arange(5), 3, random)) == 12


def test_pairs_of_a_file(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"a": ["one", "two", " ", "four"], "b": ["uno", "dos", "x", "four"], "s": [5.0, 1.0, 3.0, 0.0]}
    )
    frame.write_csv(tmp_path / "pairs.csv")
    frame.write_csv(tmp_path / "pairs.tsv", separator="\t")
    frame.write_parquet(tmp_path / "pairs.parquet")
    frame.write_ndjson(tmp_path / "pairs.jsonl")
    for name in ("pairs.csv", "pairs.tsv", "pairs.parquet", "pairs.jsonl"):
        config = PairsFile(path=name, left="a", right="b", score="s", lowest=1, highest=5)
        found = from_file(PairsFile(path=name, left="a", right="b"), tmp_path)
        assert found.select("left", "right", "score").rows() == [("one", "uno", None), ("two", "dos", None)]
        with pytest.raises(ContractError, match=r"s goes beyond 1.0 to 5.0"):
            from_file(config, tmp_path)
        whole = from_file(config.model_copy(update={"lowest": 0.0}), tmp_path)
        np.testing.assert_allclose(whole["score"], [1.0, 0.2], rtol=1e-6)


def test_what_is_wrong_with_a_file_of_pairs_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,s\none,uno,5\ntwo,,4\nthree,tres,high\n")
    (tmp_path / "ragged.csv").write_text("left,right\none,uno\nno, never,nunca\n")
    (tmp_path / "old.csv").write_bytes("left,right\nschön,b\n".encode("latin-1"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    (tmp_path / "pairs.pkl").write_bytes(b"")
    pl.DataFrame({"left": [["a"]], "right": ["b"]}).write_parquet(tmp_path / "lists.parquet")
    scored = PairsFile(path="pairs.csv", left="a", right="b", score="s", highest=5)
    for config, said in (
        (PairsFile(path="gone.csv"), "gone.csv cannot be read"),
        (PairsFile(path="pairs.csv"), "there is no column 'left'; it has a, b, s"),
        (PairsFile(path="bad.parquet"), "is no whole Parquet file"),
        (PairsFile(path="pairs.pkl"), "a file is expected whose name ends with one of .csv"),
        (PairsFile(path="ragged.csv"), "row 2 (line 3): 3 fields where the header has 2"),
        (PairsFile(path="old.csv"), "line 2; save it as UTF-8"),
        (PairsFile(path="lists.parquet"), "column 'left' holds List(String), not text"),
        (scored, "row 3 of column 's' is no number: 'high'"),
    ):
        with pytest.raises(ContractError, match=re.escape(said)) as told:
            from_file(config, tmp_path)
        assert "\n" not in str(told.value)
