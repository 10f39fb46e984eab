"""What a member of a saved classifier holds, and how it says something of texts.

A folder holds an encoder's body or a list of words, and arrays over them. What fits them is in
`nlp.classify`; here is what stays: a member is read once its manifest was verified, and parsed as
safetensors and JSON only.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nlp.classifier_config import ClassifierConfig
from nlp.encoder import TextEncoder
from nlp.extras import need
from nlp.light_learners import Floats, Linear, Trees
from profiles.schema import ContractError

BODY, WORDS, LINEAR, TREES, RARITY = (
    "body", "words.json", "linear.safetensors", "trees.safetensors", "rarity.safetensors"
)  # fmt: skip
KNOWN = 0.5  # share of a text's tokens below which an encoder read nothing but gaps


class Scorer(Protocol):
    """One trained member."""

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return (texts, labels); NaN rows where a text holds nothing it knows."""
        ...


@dataclass(frozen=True)
class OverVectors:
    """A linear map or trees over an encoder's unit vectors."""

    encoder: TextEncoder
    head: Linear | Trees

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return (texts, labels); NaN where less than half of the words are known, as of another script."""
        found = self.head.logits(self.encoder.encode(texts))
        found[self.encoder.known(texts) < KNOWN] = np.nan
        return found


@dataclass(frozen=True)
class Words:
    """TF-IDF of words and pairs of words, or of 1 to 4 characters: (1 + log tf) idf, of length one."""

    grams: str
    vocabulary: Sequence[str]
    rarity: npt.NDArray[np.float64]  # idf of each

    @classmethod
    def of(cls, texts: Sequence[str], grams: str) -> "Words":
        """Count the words of texts; raises ContractError where there is none."""
        try:
            fitted = _vectorizer(grams).fit(texts)
        except ValueError as error:  # an empty vocabulary
            raise ContractError(f"the texts hold no words: {error}") from None
        return cls(grams, fitted.get_feature_names_out().tolist(), fitted.idf_)

    def features(self, texts: Sequence[str]) -> Any:
        """Return a sparse (texts, words) matrix."""
        vectorizer = _vectorizer(self.grams, vocabulary=list(self.vocabulary))
        vectorizer.idf_ = self.rarity
        return vectorizer.transform(texts)


@dataclass(frozen=True)
class OverWords:
    """A linear map over weighted words."""

    words: Words
    head: Linear

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return (texts, labels); NaN where no word is known."""
        features = self.words.features(texts)
        found = self.head.logits(features)
        found[np.diff(features.indptr) == 0] = np.nan
        return found


def write_head(head: Linear | Trees, folder: Path) -> None:
    """Write the arrays of a member."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(value) for name, value in asdict(head).items()}
    save_file(arrays, folder / (LINEAR if isinstance(head, Linear) else TREES))


def write_words(words: Words, folder: Path) -> None:
    """Write the words of a member and how rare they are."""
    from safetensors.numpy import save_file

    (folder / WORDS).write_text(json.dumps(list(words.vocabulary), ensure_ascii=False), "utf-8")
    save_file({"rarity": words.rarity}, folder / RARITY)


def read(folder: Path, config: ClassifierConfig) -> Scorer:
    """Return the member a verified folder holds."""
    from safetensors.numpy import load_file

    if (folder / TREES).is_file():
        head: Linear | Trees = Trees(**load_file(folder / TREES))
    else:
        head = Linear(**load_file(folder / LINEAR))
    if not (folder / WORDS).is_file():
        return OverVectors(encoder_of(folder, config), head)
    assert isinstance(head, Linear)
    vocabulary = json.loads((folder / WORDS).read_bytes())
    return OverWords(Words(config.grams, vocabulary, load_file(folder / RARITY)["rarity"]), head)


def encoder_of(folder: Path, config: ClassifierConfig) -> TextEncoder:
    """Return the encoder of a member: its own body, read with the classifier's settings."""
    own = {"model": str(folder / BODY), "allow_download": False, "pooling": None}
    return TextEncoder(config.encoder.model_copy(update=own))


def _vectorizer(grams: str, **more: Any) -> Any:
    kind = need("sklearn.feature_extraction.text", "text").TfidfVectorizer
    how: dict[str, Any] = (
        {"ngram_range": (1, 2), "token_pattern": r"\w+"}
        if grams == "words"
        else {"analyzer": "char", "ngram_range": (1, 4)}
    )
    return kind(sublinear_tf=True, lowercase=True, **how, **more)
