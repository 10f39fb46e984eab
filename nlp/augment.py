"""More texts from few: words left out, words swapped, words replaced by near ones.

Deletion, swap and replacement as in EDA (Wei and Zou, EMNLP 2019), the near words found by vectors and not
in a thesaurus, so that it works in any language an encoder knows. Mixup mixes vectors, not words: it lives
in the training (`nlp.label_training`).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from nlp.embed import Encodes

WORD = re.compile(r"\w+", re.UNICODE)
Synonyms = Mapping[str, Sequence[str]]


class AugmentConfig(BaseModel):
    """How many further texts are made of each, and how far they go from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    copies: NonNegativeInt = Field(0, description="texts made of each; 0: none")
    deletion: float = Field(0.1, ge=0, lt=1, description="chance that a word is left out")
    swap: float = Field(0.1, ge=0, le=1, description="chance that a word changes place with the next")
    synonym: float = Field(0.1, ge=0, le=1, description="chance that a word that has near ones is replaced")
    nearness: float = Field(0.6, ge=-1, le=1, description="cosine from which two words are near")


def augmented(
    texts: Sequence[str], config: AugmentConfig, seed: int, synonyms: Synonyms | None = None
) -> tuple[list[str], list[int]]:
    """Return the texts made and, of each, the row it came from; one that did not change is left out."""
    made: list[str] = []
    rows: list[int] = []
    random = np.random.default_rng(seed)
    for row, text in enumerate(texts):
        for _ in range(config.copies):
            if (changed := vary(text, config, random, synonyms or {})) != text:
                made.append(changed)
                rows.append(row)
    return made, rows


def vary(text: str, config: AugmentConfig, random: np.random.Generator, synonyms: Synonyms) -> str:
    """Return one variation of a text; whatever stands between its words stays where it is.

    One word at least is left: a text of one word can be replaced, not deleted.
    """
    spans = [found.span() for found in WORD.finditer(text)]
    words = [text[low:high] for low, high in spans]
    if not words:
        return text
    chances = random.random((3, len(words)))  # drawn at once: the count never hangs on the outcome
    for place, word in enumerate(words):
        near = synonyms.get(word.lower(), ())
        if near and chances[0, place] < config.synonym:
            words[place] = near[int(random.integers(len(near)))]
    for place in np.flatnonzero(chances[1, :-1] < config.swap).tolist():
        words[place], words[place + 1] = words[place + 1], words[place]
    kept = chances[2] >= config.deletion
    if not kept.any():
        kept[int(random.integers(len(words)))] = True
    pieces, end = [], 0
    for (low, high), word, keep in zip(spans, words, kept, strict=True):
        # With a word goes the space before it, so that no gap is left to tell of it.
        between = text[end:low] if keep else text[end:low].rstrip()
        pieces.append(between + (word if keep else ""))
        end = high
    return "".join((*pieces, text[end:])).strip()


def near_words(
    texts: Sequence[str], encoder: Encodes, nearness: float, most: int = 5, least: int = 2
) -> dict[str, list[str]]:
    """Return, of each word that occurs `least` times, up to `most` others whose cosine is `nearness` or more.

    Nearest first, ties by the alphabet. Both words come from the texts: nothing new is brought in.
    """
    counts = Counter(word.lower() for text in texts for word in WORD.findall(text))
    words = sorted(word for word, count in counts.items() if count >= least and not word.isdigit())
    vectors = encoder.encode(words)
    found: dict[str, list[str]] = {}
    for start in range(0, len(words), 1024):
        cosines = vectors[start : start + 1024] @ vectors.T
        for row, of in enumerate(cosines, start):
            of[row] = -np.inf
            nearest = np.argsort(-of, kind="stable")[:most]
            if near := [words[other] for other in nearest if of[other] >= nearness]:
                found[words[row]] = near
    return found
