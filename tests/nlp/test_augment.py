"""Variations of texts: what is kept, what is changed, and that a seed repeats."""

from collections import Counter

import numpy as np
import pytest

from nlp.augment import AugmentConfig, augmented, near_words, vary
from nlp.encoder import TextEncoder

NOTHING = {"deletion": 0.0, "swap": 0.0, "synonym": 0.0}


def changed(text: str, synonyms: dict[str, list[str]] | None = None, **settings: float) -> str:
    config = AugmentConfig.model_validate(NOTHING | settings)
    return vary(text, config, np.random.default_rng(0), synonyms or {})


def test_words_are_left_out_at_their_rate_and_one_stays():
    text = " ".join(f"w{n}" for n in range(4000))
    left = changed(text, deletion=0.3).split()
    assert 0.27 < 1 - len(left) / 4000 < 0.33
    assert left == sorted(left, key=lambda word: int(word[1:]))
    assert changed("alone", deletion=0.999) == "alone"
    assert "  " not in changed("a b c d e f g h", deletion=0.5)


def test_swaps_keep_the_words_and_what_stands_between():
    text = "one, two; three (four)"
    assert changed(text, swap=1.0) == "two, three; four (one)"
    assert Counter(changed(text, swap=0.5)) == Counter(text)


def test_only_words_with_near_ones_are_replaced():
    assert changed("My Card, my account", {"card": ["visa"]}, synonym=1.0) == "My visa, my account"


def test_scripts_and_signs():
    assert changed("", deletion=0.5) == ""
    assert changed("🎉🎉 !!", deletion=0.5) == "🎉🎉 !!"
    arabic = "مرحبا بالعالم هذا اختبار"
    assert sorted(changed(arabic, swap=1.0).split()) == sorted(arabic.split())


def test_copies_know_their_row_and_a_seed_repeats():
    texts = ["how do I lock my card", "🎉", "where is my money now"]
    config = AugmentConfig(copies=5, deletion=0.5)
    made, rows = augmented(texts, config, seed=1)
    assert set(rows) == {0, 2}  # nothing can be made of a sign
    assert all(set(text.split()) <= set(texts[row].split()) for text, row in zip(made, rows, strict=True))
    assert not set(made) & set(texts)
    assert augmented(texts, config, seed=1) == (made, rows)
    assert augmented(texts, config, seed=2) != (made, rows)
    assert augmented(texts, AugmentConfig(), seed=1) == ([], [])


@pytest.mark.parametrize("nearness", [0.5, 0.99])
def test_near_words_are_near_and_from_the_texts(nearness: float):
    texts = ["card cards money cash dog", "card cards money cash dog", "rare 7 7"]
    found = near_words(texts, TextEncoder(), nearness)
    if nearness > 0.9:
        assert not found
        return
    assert found["card"][0] == "cards"
    assert found["money"][0] == "cash"
    assert "dog" not in found
    assert "7" not in found
    assert all(word not in near for word, near in found.items())
