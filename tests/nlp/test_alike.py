"""Near-duplicates, against every pair compared slowly."""

import random
from collections import defaultdict
from math import log, sqrt

import pytest

from nlp import alike as module
from nlp.alike import alike
from nlp.crossval import CrossValidationConfig, folds
from profiles.schema import ContractError


def slow(texts: list[str], least: float) -> list[set[int]]:
    """(1 + log tf) (1 + log((1 + n) / (1 + df))), cosines of all pairs, and groups grown one by one."""
    bags = []
    for text in texts:
        bag: dict[str, int] = defaultdict(int)
        for size in range(1, 5):
            for start in range(len(text) - size + 1):
                bag[text[start : start + size]] += 1
        bags.append(bag)
    having: dict[str, int] = defaultdict(int)
    for bag in bags:
        for gram in bag:
            having[gram] += 1
    rarity = {gram: 1 + log((1 + len(texts)) / (1 + often)) for gram, often in having.items()}
    vectors = [{g: (1 + log(often)) * rarity[g] for g, often in bag.items()} for bag in bags]
    lengths = [sqrt(sum(v * v for v in vector.values())) for vector in vectors]

    def near(a: int, b: int) -> bool:
        both = vectors[a].keys() & vectors[b].keys()
        dot = sum(vectors[a][g] * vectors[b][g] for g in both)
        return bool(lengths[a] and lengths[b]) and dot / (lengths[a] * lengths[b]) >= least

    groups: list[set[int]] = []
    for new in range(len(texts)):
        touched = [group for group in groups if any(near(new, old) for old in group)]
        groups = [group for group in groups if group not in touched]
        groups.append({new}.union(*touched))
    return groups


@pytest.mark.parametrize("least", [0.2, 0.35, 0.7])
def test_groups_are_those_of_all_pairs(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    chance = random.Random(0)
    letters = "高血压怎么治疗乙肝吃药好"
    texts = ["".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(40)]
    texts += [text + chance.choice(letters) for text in texts[:10]]
    found = defaultdict(set)
    for place, group in enumerate(alike(texts, least)):
        found[group].add(place)
    expected = slow(texts, least)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected))
    assert 1 < len(expected) < len(texts)


def test_a_chain_joins_its_ends_and_an_empty_text_is_alone() -> None:
    first, second, third = alike(["abcdefgh", "efghijkl", "ijklmnop"], 0.2)
    assert first == second == third
    assert len(set(alike(["abcdefgh", "ijklmnop", "", ""], 0.2))) == 4


def test_words_may_be_compared_instead() -> None:
    first, second, third = alike(["is gout inherited", "gout: is it inherited?", "colds"], 0.3, "words")
    assert first == second != third


def test_copies_lie_on_one_side_of_every_fold() -> None:
    texts = [f"{name}怎么治疗{name}" for name in "高血压肝炎胃病癫痫"] * 2
    labels = ["a", "b"] * len(texts)
    groups = alike(texts, 0.9)
    for fold in folds(labels[: len(texts)], CrossValidationConfig(folds=2), groups):
        assert not {texts[row] for row in fold.train} & {texts[row] for row in fold.test}


def test_texts_without_any_word_are_refused() -> None:
    with pytest.raises(ContractError, match="no words"):
        alike(["", ""])
