"""Simulated users of MedQuAD: whose questions they ask, how, and what is right."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from benchmarks import medquad_personal as personal

TYPES = ("information", "symptoms", "causes", "treatment", "outlook")
FOCI = ("Acute Gout", "Swamp Ague", "Croup", "Marsh Fever")
ROWS = pl.DataFrame(
    [
        {"question": f"What about {kind} of {focus} ?", "qtype": kind, "focus": focus, "entity": f"C{number}"}
        for number, focus in enumerate(FOCI)
        for kind in TYPES[: 5 if focus != "Marsh Fever" else 3]
    ]
)


def test_a_user_asks_of_one_focus_what_was_not_asked_yet() -> None:
    asked, written = personal.simulated(ROWS, 10, seed=0)
    assert asked["user_id"].n_unique() == 3  # three types do not make a chain
    for (user,), part in written.group_by("user_id"):
        recent = part.filter(pl.col("timestamp") > personal.NOW - timedelta(days=30))["text"].to_list()
        older = part.filter(pl.col("timestamp") < personal.NOW - timedelta(days=30))["text"].to_list()
        assert (len(recent), len(older)) == (personal.EARLIER, personal.OLDER)
        own = asked.filter(user_id=user).rows_by_key("way", named=True, unique=True)
        focus = FOCI[int(own["pronoun"]["entity"][1:])]
        assert all(focus in text for text in recent)
        assert not any(focus in text for text in older)
        kind = own["pronoun"]["qtype"]
        assert kind != "information"
        assert own["pronoun"]["question"] == f"What about {kind} of it ?"
        assert not any(f" {kind} " in text for text in recent)
        assert own["switched"]["entity"] not in (own["pronoun"]["entity"], f"C{FOCI.index('Marsh Fever')}")
        assert ("part" in own) == (focus != "Croup")


def test_the_same_seed_draws_the_same_users() -> None:
    first, again, other = (personal.simulated(ROWS, 3, seed) for seed in (0, 0, 1))
    assert first[0].equals(again[0])
    assert first[1].equals(again[1])
    assert not first[0].equals(other[0])


@pytest.mark.parametrize(
    ("way", "focus", "expected"),
    [
        ("pronoun", "Acute Gout", "What causes it ?"),
        ("part", "Acute Gout", "What causes Gout ?"),
        ("part", "Gout", None),
        ("switched", "Acute Gout", "What causes Acute Gout ?"),
    ],
)
def test_the_focus_is_named_as_the_way_has_it(way: str, focus: str, expected: str | None) -> None:
    assert personal.worded(f"What causes {focus} ?", focus, way) == expected


class Letters:
    """An encoder of two directions: whether a text is of gout."""

    name, dimension = "letters", 2

    def encode(self, texts: list[str], progress: object = None) -> np.ndarray:
        return np.array([[1.0, 0] if "Gout" in text else [0, 1.0] for text in texts], np.float32)


def test_profiles_weigh_newer_questions_more() -> None:
    texts, days = ["Gout", "Ague", "Ague"], [0, personal.HALF_LIFE, personal.HALF_LIFE]
    written = pl.DataFrame(
        {
            "user_id": ["u"] * 3,
            "text": texts,
            "timestamp": [personal.NOW - timedelta(days=past) for past in days],
        }
    )
    found = personal.profile(["u", "nobody"], written, Letters())
    np.testing.assert_allclose(found[0], [0.5**0.5, 0.5**0.5], rtol=1e-6)  # one whole against two halves
    assert np.isnan(found[1]).all()


def test_a_gain_is_of_the_same_questions() -> None:
    values = {"words": np.array([0, 0, 1.0]), "vectors": np.array([0, 1.0, 1]), "personal": np.ones(3)}
    found = personal.figures(values, "personal", np.array([True, True, False]), 0)
    assert (found["mrr@10"], found["users"]) == (1, 2)
    assert (found["over_words"], found["over_vectors"]) == (1, 0.5)
    assert "over_words" not in personal.figures(values, "words", np.array([True, True, True]), 0)
