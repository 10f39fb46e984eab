"""Finding the hits: one pass over the lists, with what is true of a user marked by item."""

import numpy as np

from profiles.jit import compiled


@compiled
def search(
    starts: np.ndarray,
    owner: np.ndarray,
    items: np.ndarray,
    ranks: np.ndarray,
    truth_starts: np.ndarray,
    truth_items: np.ndarray,
    size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return each hit's list, its place from 1, its row of the truth, and the first list that is none.

    List l is items[starts[l]:starts[l + 1]] and belongs to user owner[l], -1 without truth; their truth is
    truth_items[truth_starts[owner]:truth_starts[owner + 1]]. Items are below `size`. Hits come by list,
    then place. A list is none whose ranks are not 1..n, or that repeats an item; otherwise that is -1.
    """
    lists = len(starts) - 1
    most = 0
    for number in range(lists):
        if owner[number] >= 0:
            true = truth_starts[owner[number] + 1] - truth_starts[owner[number]]
            most += min(true, starts[number + 1] - starts[number])
    found, rank, places = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    # Both in one row, so that an item is one place to look at: the last list that held it, and its truth.
    marks = np.full((size, 3), -1, np.int32)
    hits = 0
    for number in range(lists):
        user = owner[number]
        if user >= 0:
            for place in range(truth_starts[user], truth_starts[user + 1]):
                marks[truth_items[place], 1] = number
                marks[truth_items[place], 2] = place
        for position in range(starts[number], starts[number + 1]):
            item = items[position]
            if ranks[position] != position - starts[number] + 1 or marks[item, 0] == number:
                return found, rank, places, number
            marks[item, 0] = number
            if marks[item, 1] == number:
                found[hits] = number
                rank[hits] = position - starts[number] + 1
                places[hits] = marks[item, 2]
                hits += 1
    return found[:hits], rank[:hits], places[:hits], -1
