"""Histories as sequences in which an item stands once."""

import numpy as np

from recsys.dataset import Histories, Repeats


def sequences(histories: Histories, items: int, repeats: Repeats) -> Histories:
    """Return each row's distinct items, oldest first, each at the place and time of its newest interaction.

    Weights are the cells of `Histories.matrix`.
    """
    keys = histories.rows * items + histories.items
    pairs, from_end = np.unique(keys[::-1], return_index=True)
    newest = len(keys) - 1 - from_end
    weights = np.zeros(len(keys), np.float32)
    weights[newest] = histories.matrix(items, repeats).data  # both in the order of (row, item)
    kept = np.sort(newest)
    counts = np.bincount(pairs // max(items, 1), minlength=len(histories))
    return Histories(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        histories.items[kept],
        weights[kept],
        histories.times[kept],
    )
