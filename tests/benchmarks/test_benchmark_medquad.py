"""Medical questions: what is asked, of whom, and how answers are scored."""

from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from benchmarks import medquad
from nlp.retrieval import Index, RetrievalConfig

ROWS = pl.DataFrame(
    {
        "question": ["What causes Gout ?", "What causes Ague ?", "What are the stages of Gout ?"],
        "qtype": ["causes", "causes", "stages"],
        "focus": ["Gout", "Ague", "Gout"],
        "entity": ["C1", "C2", "C1"],
        "answer": ["uric acid", "a parasite", "four of them, acid rising"],
    }
)


def test_every_type_has_three_other_ways_to_ask_beside_the_one_that_chooses() -> None:
    ways = pl.read_csv(medquad.PARAPHRASES)
    assert ways["question"].str.contains("{focus}", literal=True).all()
    assert ways["question"].n_unique() == len(ways)
    assert min(Counter(ways["qtype"]).values()) >= 4


def test_paraphrases_are_about_entities_that_have_the_type() -> None:
    chosen, asked = (medquad.filled(ROWS, 0, choosing=which) for which in (True, False))
    assert not set(chosen["paraphrase"]) & set(asked["paraphrase"])
    assert Counter(asked["qtype"]) == {"causes": 3 * 2, "stages": 3}
    assert not asked["question"].str.contains("focus").any()
    assert not asked.filter(qtype="stages")["question"].str.contains("Ague").any()


def test_few_questions_of_a_type_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medquad, "PER_TYPE", 1)
    assert sorted(medquad.few(ROWS, 0)["qtype"]) == ["causes", "stages"]


def test_an_entity_is_asked_about_or_learned_from() -> None:
    entities = pl.Series([f"C{n % 10}" for n in range(50)])
    held = medquad.held_out(entities, 0)
    assert entities.filter(held).n_unique() == 2
    assert not set(entities.filter(held)) & set(entities.filter(~held))


def test_the_first_right_answer_counts_by_its_rank() -> None:
    rows = ROWS.with_row_index("row")
    index = Index.of(rows["answer"].to_list())
    asked = rows.with_columns(question=pl.Series(["rising acid", "parasite", "acid"]))
    found = medquad.searched(index, asked, pl.Series([True, True, True]), "words")
    # The first finds its answer second (the other holds both words), the second first; the third finds the
    # shorter text first, and its own second.
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert (found["queries"], found["answers"]) == (3, 3)


def test_an_entitys_other_answers_are_learned_from_too() -> None:
    rows = pl.concat([ROWS, ROWS.with_columns(entity=pl.concat_str(pl.lit("D"), "entity"))])
    drawn = medquad.of_some_entities(rows, 3, 0)
    assert len(drawn) == 3
    assert len(medquad.of_some_entities(rows, 9, 0)) == 6
    orders = {tuple(medquad.of_some_entities(rows, 9, seed)["entity"]) for seed in range(20)}
    assert len(orders) > 1
    for order in orders:  # an entity's side by side
        assert sum(one != other for one, other in pairwise(order)) == 3


def test_a_reader_orders_the_first_places() -> None:
    class Longest:
        def scores(self, left: list[str], right: list[str]) -> np.ndarray:
            return np.array([len(text) for text in right], np.float32)

    rows = ROWS.with_row_index("row")
    index = Index.of(rows["answer"].to_list(), config=RetrievalConfig(reread=2))
    asked = rows.with_columns(question=pl.Series(["acid"] * 3))
    held = pl.Series([True, True, True])
    plain, read = (medquad.searched(index, asked, held, "words", reader) for reader in (None, Longest()))
    assert plain["mrr@10"] == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert read["mrr@10"] == pytest.approx((1 / 2 + 0 + 1) / 3)
