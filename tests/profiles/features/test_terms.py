"""Terms of texts: how they are cut, how telling they are, and a user's strongest against a loop."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.features import VALUE_SHARES, FeaturesConfig, places
from profiles.features.terms import TELLING, telling_terms, written_by_one, written_columns, written_terms
from profiles.schema import TIME

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def texts(*rows: tuple[str, str, float]) -> pl.DataFrame:
    """Texts of (user, text, days)."""
    columns = {
        "user_id": [user for user, _, _ in rows],
        "text": [text for _, text, _ in rows],
        "timestamp": [START + days * DAY for _, _, days in rows],
    }
    return pl.DataFrame(columns, schema={"user_id": pl.String, "text": pl.String, "timestamp": TIME})


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Tea, TEA & tea-cups!", ["tea", "tea", "tea-cups"]),
        ("I've a 5 of 10 x", ["i've", "of", "10"]),
        ("-dash- 'quoted' rock’n’roll", ["dash", "quoted", "rock’n’roll"]),
        ("Grüße ÉTÉ и ёж हिन्दी", ["grüße", "été", "ёж", "हिन्दी"]),
        ("a b c", []),
        ("", []),
        ("🎬🎬 !?", []),
        ("好喝的茶", ["好喝", "喝的", "的茶"]),
        ("茶 tea", ["tea", "茶"]),  # of one moment the pairs come behind the words
        ("iPhone手机壳2代", ["iphone", "手机", "机壳", "代"]),
        ("コーヒー", ["コー", "ーヒ", "ヒー"]),
        ("한국 사람들", ["한국", "사람", "람들"]),
    ],
)
def test_terms_are_words_and_pairs_of_characters(text: str, terms: list[str]) -> None:
    assert written_terms(texts(("u", text, 0)))["term"].to_list() == terms


@given(st.text())
def test_any_text_can_be_cut(text: str) -> None:
    found = written_terms(texts(("u", text.replace("\ud800", ""), 0)))["term"]
    assert found.null_count() == 0
    assert all(term == term.lower() and term for term in found)


def test_terms_stand_user_by_user_oldest_first() -> None:
    found = written_terms(
        texts(("v", "late", 2), ("u", "second", 1), ("v", "early", 1), ("u", "third 茶水", 1))
    )
    assert found.select("user_id", "term").rows() == [
        ("u", "second"), ("u", "third"), ("u", "茶水"), ("v", "early"), ("v", "late")
    ]  # fmt: skip


def test_a_term_tells_by_how_few_write_it_and_never_by_one() -> None:
    rows = [("a", "tea tea cup", 0.0), ("b", "tea pot", 0.0), ("c", "pot tea zebra", 0.0), ("d", "!", 0.0)]
    found = telling_terms(texts(*rows))
    assert found.schema == TELLING
    assert found["term"].to_list() == ["pot", "tea"]
    assert found["telling"].to_list() == pytest.approx([math.log(1 + 3 / 2), math.log(2)], rel=1e-12)
    assert telling_terms(texts()).schema == TELLING
    assert telling_terms(texts(("a", "!", 0))).rows() == []


def told(**telling: float) -> pl.DataFrame:
    return pl.DataFrame(sorted(telling.items()), schema=TELLING, orient="row")


def strongest(rows: pl.DataFrame, telling: pl.DataFrame, **settings: Any) -> list[tuple[str, float]]:
    config = FeaturesConfig.model_validate(settings)
    found = written_by_one(rows, telling, config)["top_terms"]
    assert written_columns(rows, telling, config)["top_terms"].to_list() == [found]
    return [(pair["value"], pair["share"]) for pair in found]


def test_a_half_life_halves_and_ties_go_by_term() -> None:
    rows = texts(("u", "old old zoo", 0), ("u", "new ape bee", 10))
    telling = told(old=1.0, new=1.0, zoo=4.0, ape=1.0)
    shares = [("zoo", 2 / 6), ("ape", 1 / 6), ("new", 1 / 6), ("old", 1 / 6)]
    assert strongest(rows, telling, half_life_days=10, affinities=9) == [
        (term, pytest.approx(s * 6 / 5)) for term, s in shares
    ]
    assert [term for term, _ in strongest(rows, telling, half_life_days=10, affinities=2)] == ["zoo", "ape"]


def test_shares_outlive_any_number_of_half_lives() -> None:
    rows = texts(("u", "old old", -9000), ("u", "older", -9001), ("u", "untold", 100))
    found = strongest(rows, told(old=1.0, older=1.0), half_life_days=1)
    assert found == [("old", pytest.approx(0.8)), ("older", pytest.approx(0.2))]


def test_who_writes_nothing_telling_has_no_terms_but_a_text() -> None:
    rows = texts(("u", "one", 0), ("u", "two", 1))
    for telling in (told(), told(three=1.0)):
        assert written_by_one(rows, telling, FeaturesConfig()) == {"last_text": "two", "top_terms": []}
    assert written_by_one(rows[:0], told(one=1.0), FeaturesConfig()) == {"last_text": None, "top_terms": []}
    schema = {"user_id": pl.String(), "last_text": pl.String(), "top_terms": VALUE_SHARES}
    for some in (rows, rows[:0]):
        assert dict(written_columns(some, told(), FeaturesConfig()).schema) == schema


@pytest.mark.parametrize("days", [120, 45.5])
def test_written_columns_are_what_a_loop_finds(
    days: float,
    lopsided_world: Callable[..., Any],
    oracle_of: Callable[..., Any],
    built_of: Callable[..., Any],
    same_row: Callable[[Any, Any], None],
) -> None:
    world = lopsided_world(9, half_life_days=3.5, affinities=4)
    world = replace(world, at=START + days * DAY)
    oracle, found = oracle_of(world), built_of(world, partition=100)
    wrote: dict[str, list[tuple[datetime, str]]] = {u: [] for u in oracle.users}
    for e in oracle.events:
        if e["text"] and e["text"].strip():
            wrote[e["user_id"]].append((e["timestamp"], e["text"]))
    writers = Counter(term for own in wrote.values() for term in {w for _, text in own for w in cut(text)})
    count = sum(map(bool, wrote.values()))
    telling = {term: math.log(1 + count / n) for term, n in writers.items() if n > 1}
    assert len(telling) > 4
    for row in found.users.select("user_id", "last_text", "top_terms").to_dicts():
        own = wrote[row["user_id"]]
        strength: dict[str, float] = defaultdict(float)
        for time, text in own:
            for term in cut(text):
                if term in telling:
                    strength[term] += telling[term] * 0.5 ** ((own[-1][0] - time) / DAY / 3.5)
        ordered = sorted(strength.items(), key=lambda pair: (-pair[1], pair[0]))[:4]
        top = [{"value": term, "share": s / sum(strength.values())} for term, s in ordered]
        same_row(row, {"user_id": row["user_id"], "last_text": own[-1][1] if own else None, "top_terms": top})


def cut(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if len(word) > 1 or word == "茶"]


@given(st.lists(st.text(max_size=3)), st.lists(st.none() | st.text(max_size=3), max_size=20), st.booleans())
def test_places_are_those_of_a_list(among: list[str], values: list[str | None], many: bool) -> None:
    known = pl.Series(among, dtype=pl.String).unique().sort()
    asked = pl.Series(values * (100 if many else 1), dtype=pl.String)
    expected = [-1 if v is None or v not in among else known.to_list().index(v) for v in asked]
    assert places(asked, known).tolist() == expected
