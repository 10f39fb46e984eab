"""The words that drove a label or a match, as spans of the text with a weight each.

Integrated gradients (Sundararajan, Taly and Yan, ICML 2017) follow the score from a text of nothing but
padding to the real one and hand each token its part; leaving one word out at a time asks the classifier
itself and works with any of them. A full account of a score sums to score − baseline: by how much the
weights miss it is `error`, stated with every explanation. For leaving out it is no mistake but what words
do together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nlp.augment import WORD
from nlp.classify import Classifier
from nlp.encoder import TextEncoder, tokenize
from nlp.extras import need
from nlp.folder import Recipe
from nlp.light_learners import Linear
from nlp.scorers import OverVectors

if TYPE_CHECKING:
    import torch

STEPS = 64  # points between baseline and text at which the gradient is taken
MOST = 256  # words left out of one text: encoders read no more, and each is a text to score
TINY = 1e-7  # probabilities below count as this

Score = Callable[[Sequence[str]], npt.NDArray[Any]]  # one number a text
FromVectors = Callable[["torch.Tensor"], "torch.Tensor"]  # unit vectors (texts, d) to one number each


@dataclass(frozen=True)
class Span:
    """A word: text[start:end], and what it adds to the score."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """What the words of a text add to its score, in their order."""

    spans: tuple[Span, ...]
    score: float
    baseline: float  # the score of the text without its words
    method: str

    @property
    def error(self) -> float:
        """Return by how much the weights miss score − baseline."""
        return abs(sum(span.weight for span in self.spans) - (self.score - self.baseline))


def label_reasons(classifier: Classifier, text: str, label: str) -> Explanation:
    """Explain the log-probability of a label; by gradients where each member is linear over an encoder.

    Of several members it is the mean of their log-probabilities that is explained by gradients.
    """
    place = classifier.labels.names.index(label)
    parts = []
    for member in classifier.members:
        if not (isinstance(member, OverVectors) and isinstance(member.head, Linear)):
            return left_out(text, _log_probability(classifier, place))
        parts.append(
            integrated(text, member.encoder, _label_score(member.head, place, classifier.labels.many))
        )
    spans = [
        Span(same[0].start, same[0].end, float(np.mean([span.weight for span in same])))
        for same in zip(*(part.spans for part in parts), strict=True)
    ]
    score, baseline = (float(np.mean([getattr(p, name) for p in parts])) for name in ("score", "baseline"))
    return Explanation(tuple(spans), score, baseline, parts[0].method)


def match_reasons(encoder: TextEncoder, text: str, other: str) -> Explanation:
    """Explain the cosine of a text with another by the words of the first."""
    import torch

    fixed = torch.from_numpy(encoder.encode([other])[0])
    return integrated(text, encoder, lambda vectors: vectors @ fixed)


def left_out(text: str, score: Score) -> Explanation:
    """Explain any score by what it loses without each word; `MOST` words at most."""
    spans = [found.span() for found in WORD.finditer(text)][:MOST]
    without = [text[:low] + text[high:] for low, high in spans]
    whole, empty, *each = score([text, WORD.sub("", text), *without]).tolist()
    weights = [Span(low, high, whole - less) for (low, high), less in zip(spans, each, strict=True)]
    return Explanation(tuple(weights), whole, empty, "leave one word out")


def integrated(text: str, encoder: TextEncoder, score: FromVectors) -> Explanation:
    """Explain a score of the text's unit vector by integrated gradients on its token embeddings.

    The baseline has padding in the place of every token but the marks. A word's weight is the sum over
    its tokens and their dimensions. Computed in float32 whatever the encoder's own precision.
    """
    import torch
    from torch.nn import functional

    attribution = need("captum.attr", "text")
    tokenizer, network = _float32(encoder.folder, encoder.recipe)
    spans, ids = _words(tokenizer, text, encoder.max_tokens)

    def forward(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = network(tokens, mask).float()[:, : encoder.dimension]
        return score(functional.normalize(vectors, dim=1))

    real = torch.tensor([ids])
    pad = tokenizer.pad_token_id or 0
    padding = torch.tensor([[t if where is None else pad for t, where in zip(ids, spans, strict=True)]])
    mask = torch.ones_like(real)
    with torch.no_grad():
        whole, empty = float(forward(real, mask)), float(forward(padding, mask))
    if not any(spans):
        return Explanation((), whole, empty, "integrated gradients")
    gradients = attribution.LayerIntegratedGradients(forward, network.body.get_input_embeddings())
    parts = gradients.attribute(
        real, padding, additional_forward_args=(mask,), n_steps=STEPS, internal_batch_size=STEPS
    )
    weights: dict[tuple[int, int], float] = {}
    for where, weight in zip(spans, parts[0].sum(1).tolist(), strict=True):
        if where is not None:
            weights[where] = weights.get(where, 0.0) + weight
    found = tuple(Span(*where, weight) for where, weight in sorted(weights.items()))
    return Explanation(found, whole, empty, "integrated gradients")


def _words(tokenizer: Any, text: str, most: int) -> tuple[list[tuple[int, int] | None], list[int]]:
    """Return the word that each token is a part of (None: a mark), and the token ids."""
    (ids,) = tokenize(tokenizer, [text], most)
    read = tokenizer(
        text.encode("utf-8", "replace").decode(),
        truncation=True,
        max_length=most,
        return_offsets_mapping=True,
        verbose=False,
    )
    assert read["input_ids"] == ids
    whole: dict[int, tuple[int, int]] = {}
    for word, (low, high) in zip(read.word_ids(), read["offset_mapping"], strict=True):
        if word is not None:
            whole[word] = (
                min(low, whole.get(word, (low, high))[0]),
                max(high, whole.get(word, (low, high))[1]),
            )
    return [None if word is None else whole[word] for word in read.word_ids()], ids


def _label_score(head: Linear, label: int, many: bool) -> FromVectors:
    import torch
    from torch.nn import functional

    weights, bias = torch.from_numpy(head.weights), torch.from_numpy(head.bias)

    def score(vectors: torch.Tensor) -> torch.Tensor:
        logits = vectors @ weights.T + bias
        each = functional.logsigmoid(logits) if many else functional.log_softmax(logits, 1)
        return each[:, label]

    return score


def _log_probability(classifier: Classifier, label: int) -> Score:
    return lambda texts: np.log(np.maximum(classifier.predict(texts)[:, label].astype(np.float64), TINY))


@lru_cache(maxsize=4)
def _float32(folder: Path, recipe: Recipe) -> tuple[Any, Any]:
    """Return tokenizer and network: gradients want more digits than an encoder that only encodes."""
    from nlp.network import load

    return load(folder, recipe)
