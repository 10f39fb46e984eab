"""Inner loops that no array operation holds, compiled by numba on first use and kept on disk.

Import this inside `_fit`, for a batch of many queries, or for one query over a large table: a server of
small ones needs no compiler. Every function is pure, lets other threads run, and works on some rows, so
that callers split the work as they like.
"""

import numpy as np

from profiles.jit import machine_code

BINS = 1024  # of a histogram of scores by sign, exponent and 6 bits: 16 octaves below the largest
DROPPED = 46  # bits of a float64 a bin does not see
TINY = 1e-300  # instead of a norm of 0


def _offer(
    columns: np.ndarray, values: np.ndarray, first: int, found: int, keep: int, column: int, value: float
) -> int:
    """Put a cell into the heap columns/values[first:keep] of `found` - first cells; returns the new `found`.

    Its root is the weakest cell kept: the least value, of equals the highest column.
    """
    if found < keep:
        place = found - first
        while place > 0:
            above = (place - 1) // 2
            other = values[first + above]
            if other < value or (other == value and columns[first + above] > column):
                break
            values[first + place], columns[first + place] = other, columns[first + above]
            place = above
        values[first + place], columns[first + place] = value, column
        return found + 1
    if value < values[first] or (value == values[first] and column > columns[first]):
        return found
    place, size = 0, keep - first
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        other = values[first + below]
        if below + 1 < size:
            beside = values[first + below + 1]
            if beside < other or (beside == other and columns[first + below + 1] > columns[first + below]):
                below += 1
                other = beside
        if value < other or (value == other and column > columns[first + below]):
            break
        values[first + place], columns[first + place] = other, columns[first + below]
        place = below
    values[first + place], columns[first + place] = value, column
    return found


def _strongest_rows(
    a_starts: np.ndarray,
    a_columns: np.ndarray,
    a_values: np.ndarray,
    b_starts: np.ndarray,
    b_columns: np.ndarray,
    b_values: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    shrinkage: float,
    columns: np.ndarray,
    values: np.ndarray,
    lengths: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write the largest positive cells of rows start..stop-1 of (A B) / (left right' + shrinkage).

    A and B hold no cell of 0 or below. `columns` and `values` (rows, keep) receive the cells in no
    order, `lengths` their number. Never the diagonal; of equal cells the lower columns.
    """
    width, keep = len(right), columns.shape[1]
    sums = np.zeros(width)
    touched = np.empty(width + 1, np.int32)
    scores = np.empty(width)
    bits = scores.view(np.int64)  # of numbers above 0, in the order of the numbers
    bins = np.zeros(BINS, np.int32)
    for row in range(start, stop):
        count = 0
        for p in range(a_starts[row], a_starts[row + 1]):
            weight = a_values[p]
            middle = a_columns[p]
            for q in range(b_starts[middle], b_starts[middle + 1]):
                column = np.uint32(b_columns[q])  # unsigned: no check for an index from the end
                before = sums[column]
                touched[count] = column
                count += before == 0.0  # no branch: a processor cannot guess it
                sums[column] = before + weight * b_values[q]
        if row < width:
            sums[row] = 0.0
        largest = 0.0
        for n in range(count):
            column = np.uint32(touched[n])
            scores[n] = sums[column] / max(left[row] * right[column] + shrinkage, TINY)
            sums[column] = 0.0
            largest = max(largest, scores[n])
        # Count cells by their leading bits, best first, to learn which are in and which must be compared.
        cut = BINS
        top = np.array([largest]).view(np.int64)[0] >> DROPPED
        if count > keep:
            bins[:] = 0
            for n in range(count):
                bins[min(top - (bits[n] >> DROPPED), BINS - 1)] += 1
            cut, above = 0, bins[0]
            while above < keep:
                cut += 1
                above += bins[cut]
        found = 0
        for n in range(count):
            if scores[n] > 0.0 and min(top - (bits[n] >> DROPPED), BINS - 1) < cut:
                columns[row, found], values[row, found] = touched[n], scores[n]
                found += 1
        first = found
        for n in range(count):
            if scores[n] > 0.0 and min(top - (bits[n] >> DROPPED), BINS - 1) == cut:
                found = offer(columns[row], values[row], first, found, keep, touched[n], scores[n])
        lengths[row] = found


def _gather_blocks(
    starts: np.ndarray, columns: np.ndarray, values: np.ndarray, chosen: np.ndarray, blocks: np.ndarray
) -> None:
    """Write into blocks[n] the cells of a symmetric CSR matrix at rows and columns chosen[n].

    `chosen` (n, m) is sorted, its end filled with -1: their rows are those of the identity.
    """
    n, m = chosen.shape
    for block in range(n):
        for a in range(m):
            row = chosen[block, a]
            if row < 0:
                blocks[block, a, :] = 0.0
                blocks[block, :, a] = 0.0
                blocks[block, a, a] = 1.0
                continue
            low, end = starts[row], starts[row + 1]
            for b in range(a, m):
                column = chosen[block, b]
                if column < 0:
                    break
                high = end
                while low < high:  # the first place at or after `column`: columns only grow
                    middle = (low + high) // 2
                    if columns[middle] < column:
                        low = middle + 1
                    else:
                        high = middle
                value = values[low] if low < end and columns[low] == column else 0.0
                blocks[block, a, b] = value
                blocks[block, b, a] = value


def _descend(
    grams: np.ndarray, targets: np.ndarray, l1: float, l2: float, rounds: int, tolerance: float
) -> np.ndarray:
    """Return w >= 0 (n, m) that minimise w'Gw/2 - t'w + l1 sum(w) + l2 w'w/2 of each block, by coordinates.

    A round visits every coordinate and ends the descent where no weight moved more than `tolerance`.
    """
    n, m = targets.shape
    weights = np.zeros((n, m))
    for block in range(n):
        gram = grams[block]
        slope = targets[block] - l1  # of the loss at w, without each coordinate's own part
        w = weights[block]
        for _ in range(rounds):
            moved = 0.0
            for a in range(m):
                own = gram[a, a]
                if slope[a] + own * w[a] <= 0.0 and w[a] == 0.0:
                    continue
                value = max(0.0, (slope[a] + own * w[a]) / (own + l2))
                step = value - w[a]
                if step != 0.0:
                    w[a] = value
                    for b in range(m):
                        slope[b] -= step * gram[a, b]
                    moved = max(moved, abs(step))
            if moved <= tolerance:
                break
    return weights


offer = machine_code(_offer)
strongest_rows = machine_code(_strongest_rows)
gather_blocks = machine_code(_gather_blocks)
descend = machine_code(_descend)
