"""Which texts say almost the same: they belong on one side of a split, as a whole group (`nlp.crossval`).

    groups = alike(texts)
    folds(labels, CrossValidationConfig(), groups)

People send a question twice, and mills fill one story with other names. A classifier that has seen one copy
is not tested by the other.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from nlp.scorers import Words

BLOCK = 500  # texts compared with all at once


def alike(
    texts: Sequence[str], least: float = 0.35, grams: Literal["words", "characters"] = "characters"
) -> list[str]:
    """Return each text's group: those that a chain of likenesses of `least` or more joins have one.

    Likeness is the cosine of TF-IDF (`nlp.scorers.Words`) of 1 to 4 characters, or of words and their pairs;
    a text without any is alone. Every two texts are compared. Raises ContractError where no text has any.
    """
    features = Words.of(texts, grams).features(texts).astype(np.float32)
    turned = features.T.tocsr()
    left, right = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, len(texts), BLOCK):
        near = (features[start : start + BLOCK] @ turned).tocoo()
        kept = near.data >= least
        left.append(near.row[kept] + start)
        right.append(near.col[kept])
    places = np.concatenate(left), np.concatenate(right)
    joined = csr_array((np.ones(len(places[0]), np.bool_), places), (len(texts), len(texts)))
    return [str(group) for group in connected_components(joined, directed=False)[1]]
