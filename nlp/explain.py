"""The words that drove a label, a match or an answer, as spans of the text with a weight each.

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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nlp.augment import WORD
from nlp.classify import Classifier
from nlp.cross_encoder import CrossEncoder
from nlp.embed import Encodes
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
Scores = Callable[[Sequence[str]], npt.NDArray[Any]]  # (texts, n) numbers
FromVectors = Callable[["torch.Tensor"], "torch.Tensor"]  # unit vectors (texts, d) to one number each
FromTokens = Callable[["torch.Tensor"], "torch.Tensor"]  # ids (texts, tokens) to one number each


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


def match_reasons(encoder: Encodes, text: str, other: str) -> Explanation:
    """Explain the cosine of a text with another by the words of the first, the other held as it is.

    By gradients where the encoder is torch's own, else (ONNX, or anything that encodes) by leaving out.
    """
    (fixed,) = encoder.encode([other])
    if not isinstance(encoder, TextEncoder):
        return left_out(text, lambda texts: encoder.encode(texts) @ fixed)
    import torch

    aim = torch.from_numpy(fixed)
    return integrated(text, encoder, lambda vectors: vectors @ aim)


def pair_reasons(reader: CrossEncoder, left: str, right: str, of: Literal["left", "right"]) -> Explanation:
    """Explain a cross-encoder's score of a pair by the words of one side, the other held as it is."""
    import torch

    from nlp.cross_network import tokenize

    tokenizer, network = _cross(reader.folder)
    ((ids, kinds),) = tokenize(tokenizer, [left], [right], reader.max_tokens)
    told = None if kinds is None else torch.tensor([kinds])

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        of_each = None if told is None else told.expand(len(tokens), -1)
        scores: torch.Tensor = network(tokens, torch.ones_like(tokens), of_each)
        return scores

    spans = _words(tokenizer, (left, right), reader.max_tokens, ids, int(of == "right"))
    return _followed(ids, spans, tokenizer.pad_token_id or 0, forward, network)


def left_out(text: str, score: Score) -> Explanation:
    """Explain any score by what it loses without each word; `MOST` words at most."""
    (found,) = each_left_out(text, lambda texts: score(texts)[:, None])
    return found


def each_left_out(text: str, scores: Scores, most: int = MOST) -> list[Explanation]:
    """Explain several scores of a text at once, by what each loses without each of the first words."""
    spans = [found.span() for found in WORD.finditer(text)][:most]
    without = [text[:low] + text[high:] for low, high in spans]
    whole, empty, *each = scores([text, WORD.sub("", text), *without]).astype(np.float64)
    lost = whole - np.array(each).reshape(len(spans), len(whole))
    found = []
    for place in range(len(whole)):
        weights = [Span(*span, weight) for span, weight in zip(spans, lost[:, place].tolist(), strict=True)]
        about = float(whole[place]), float(empty[place])
        found.append(Explanation(tuple(weights), *about, "leave one word out"))
    return found


def integrated(text: str, encoder: TextEncoder, score: FromVectors) -> Explanation:
    """Explain a score of the text's unit vector by integrated gradients on its token embeddings.

    The baseline has padding in the place of every token but the marks. A word's weight is the sum over
    its tokens and their dimensions. Computed in float32 whatever the encoder's own precision.
    """
    import torch
    from torch.nn import functional

    tokenizer, network = _float32(encoder.folder, encoder.recipe)
    (ids,) = tokenize(tokenizer, [text], encoder.max_tokens)

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        vectors = network(tokens, torch.ones_like(tokens)).float()[:, : encoder.dimension]
        return score(functional.normalize(vectors, dim=1))

    spans = _words(tokenizer, (text,), encoder.max_tokens, ids, 0)
    return _followed(ids, spans, tokenizer.pad_token_id or 0, forward, network)


def _followed(
    ids: list[int], spans: Sequence[tuple[int, int] | None], pad: int, score: FromTokens, network: Any
) -> Explanation:
    """Follow a score from padding in the place of every token of a word to the tokens themselves."""
    import torch

    attribution = need("captum.attr", "text")
    real = torch.tensor([ids])
    padding = torch.tensor([[t if where is None else pad for t, where in zip(ids, spans, strict=True)]])
    with torch.no_grad():
        whole, empty = float(score(real)), float(score(padding))
    if not any(spans):
        return Explanation((), whole, empty, "integrated gradients")
    gradients = attribution.LayerIntegratedGradients(score, network.body.get_input_embeddings())
    parts = gradients.attribute(real, padding, n_steps=STEPS, internal_batch_size=STEPS)
    weights: dict[tuple[int, int], float] = {}
    for where, weight in zip(spans, parts[0].sum(1).tolist(), strict=True):
        if where is not None:
            weights[where] = weights.get(where, 0.0) + weight
    found = tuple(Span(*where, weight) for where, weight in sorted(weights.items()))
    return Explanation(found, whole, empty, "integrated gradients")


def _words(
    tokenizer: Any, texts: Sequence[str], most: int, ids: list[int], of: int
) -> list[tuple[int, int] | None]:
    """Return the word of the text numbered `of` that each token is a part of; None: a mark, or another's."""
    read = tokenizer(
        *([text.encode("utf-8", "replace").decode()] for text in texts),
        truncation="longest_first",
        max_length=most,
        return_offsets_mapping=True,
        verbose=False,
    )
    assert read["input_ids"] == [ids]
    owners = zip(read.word_ids(), read.sequence_ids(), strict=True)
    words = [word if text == of else None for word, text in owners]
    whole: dict[int, tuple[int, int]] = {}
    for word, (low, high) in zip(words, read["offset_mapping"][0], strict=True):
        if word is not None:
            first, last = whole.get(word, (low, high))
            whole[word] = min(low, first), max(high, last)
    return [None if word is None else whole[word] for word in words]


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


@lru_cache(maxsize=2)
def _cross(folder: Path) -> tuple[Any, Any]:
    """Return tokenizer and network of a cross-encoder, in float32 as well."""
    from nlp.cross_network import load

    return load(folder)
