"""Texts of like length side by side: batches by a budget of tokens, so that little of them is padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

WINDOW = 4096  # texts tokenised and sorted together: bounds memory, wastes little padding

Tokens = list[int]


def by_length(lengths: Sequence[int] | np.ndarray, tokens: int, texts: int) -> Iterator[np.ndarray]:
    """Yield places, shortest first: as many as hold at most `tokens` when padded, and at most `texts`."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    start = 0
    for place in range(1, len(order) + 1):
        size = place - start
        if place == len(order) or size == texts or (size + 1) * lengths[order[place]] > tokens:
            yield order[start:place]
            start = place


def padded(tokens: Sequence[Tokens], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (texts, longest) token ids padded on the right, and 1 where they are real, both int64."""
    lengths = np.array([len(text) for text in tokens])
    real = np.arange(lengths.max(initial=0)) < lengths[:, None]
    ids = np.full(real.shape, pad, np.int64)
    ids[real] = np.concatenate(tokens) if len(tokens) else []
    return ids, real.astype(np.int64)


def encode(
    texts: Sequence[str],
    dimension: int,
    tokenize: Callable[[Sequence[str]], Mapping[int, Tokens]],
    forward: Callable[[list[Tokens]], np.ndarray],
    batch_tokens: int,
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> np.ndarray:
    """Return (texts, dimension) float32, in the order given; the zero vector where there are no tokens.

    `tokenize` gives the tokens of the texts that have words, by their place; `forward` the unit vectors
    of a batch. `progress` is told how many texts each step finished.
    """
    vectors = np.zeros((len(texts), dimension), np.float32)
    for start in range(0, len(texts), WINDOW):
        window = texts[start : start + WINDOW]
        read = tokenize(window)
        places, tokens = np.array(list(read), np.intp), list(read.values())
        if progress and len(read) < len(window):
            progress(len(window) - len(read))
        for batch in by_length([len(text) for text in tokens], batch_tokens, batch_size):
            vectors[start + places[batch]] = forward([tokens[row] for row in batch])
            if progress:
                progress(len(batch))
    return vectors
