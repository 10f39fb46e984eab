"""Inner loops of lists: products, and the best of many scores, as `recsys.kernels` has them.

Import this inside functions, for a batch of many queries or for one query over a large table. What numba
keeps on disk does not see a change of `offer` in the other file: empty its folder when you change that.
"""

import numpy as np

from profiles.jit import machine_code
from recsys.kernels import offer
from recsys.ranking import LEAST, SLACK, STEP

GROUP = 64  # scores of which first only the largest is looked at
LOWEST = np.int16(-128)  # the bits of -inf in bfloat16
ROUGH = 2.0**-8  # of a number in bfloat16: more than half the distance to the next
SIGN, MAGNITUDE = np.int32(31), np.int32(0x7FFFFFFF)  # of the bits of a float32
ENDLESS, LAST = np.int32(0x7F800000), np.int32(-(2**31))  # bits of inf; below those of any number, in order
HALF, KEPT, ZERO = np.int32(STEP // 2), np.int32(-STEP), np.float32(0)  # of rounding


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for n in range(len(a)):
        total += a[n] * np.float64(b[n])
    return total


def _whole_products(
    codes: np.ndarray, steps: np.ndarray, query: np.ndarray, step: float, products: np.ndarray
) -> None:
    """Write the products of a query, whole numbers of one step, and items, whole numbers of a step each.

    No sum of their magnitudes may reach 2^31: numbers are held to 32 bits, so that many fit a register.
    """
    for item in range(len(codes)):
        total = np.int32(0)
        for n in range(len(query)):
            total = np.int32(total + np.int32(np.int32(codes[item, n]) * np.int32(query[n])))
        products[item] = total * (step * steps[item])


def _pick(
    bits: np.ndarray,
    margins: np.ndarray,
    asked: np.ndarray,
    closed: np.ndarray,
    starts: np.ndarray,
    barred: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
) -> None:
    """Write into columns/values (n, k) the best items of each query, in no order, by rounded products.

    `bits` (n, groups × GROUP) int16 are rough products in bfloat16, at most `margins` (n,) / 2 from the
    true ones; nobody is listed `closed`, nor query n barred[starts[n]:starts[n + 1]], and only those
    `asked` get a list. Overwrites `bits`. With k above the groups every item is scored.
    """
    size = columns.shape[1]
    groups = bits.shape[1] // GROUP
    maxima = np.empty(groups, np.int16)
    number, largest = np.empty(size, np.int32), np.empty(size)
    near, exact = np.empty(bits.shape[1] + 1, np.int32), np.empty(bits.shape[1], np.float32)
    score = np.empty(1, np.float32)
    word = score.view(np.int32)
    for n in range(len(bits)):
        if not asked[n]:
            continue
        row = bits[n]
        row[len(items) :] = LOWEST
        for column in closed:
            row[column] = LOWEST
        for p in range(starts[n], starts[n + 1]):
            row[barred[p]] = LOWEST
        # The order of floats is that of their bits as integers, once those below 0 are turned around.
        for g in range(groups):
            part = row[g * GROUP : g * GROUP + GROUP]
            most = np.int16(-32768)
            for j in range(GROUP):
                cell = part[j]
                most = max(most, np.int16(cell ^ (np.int16(cell >> np.int16(15)) & np.int16(0x7FFF))))
            maxima[g] = most
        # The k-th largest of the groups' maxima is no more than the k-th largest of all.
        found = 0
        for g in range(groups):
            if found < size or maxima[g] > largest[0]:
                found = offer(number, largest, 0, found, size, g, float(maxima[g]))
        kth = np.int32(largest[0] if found == size else -32641)
        word[0] = (kth ^ ((kth >> 15) & 0x7FFF)) << 16
        least = score[0] - abs(score[0]) * ROUGH - margins[n]
        score[0] = least - abs(least) * SLACK - LEAST
        kth = word[0]
        cut = (kth ^ ((kth >> 31) & 0x7FFFFFFF)) >> 16
        count = 0
        for g in range(groups):
            if maxima[g] < cut:
                continue
            for j in range(g * GROUP, g * GROUP + GROUP):
                cell = row[j]
                turned = cell ^ (np.int16(cell >> np.int16(15)) & np.int16(0x7FFF))
                near[count] = j
                count += (turned >= cut) & (cell != LOWEST)  # no branch: a processor cannot guess it
        for c in range(count):  # by themselves, so that many are on their way from memory at a time
            exact[c] = dot(users[n], items[near[c]])
        found = 0
        for c in range(count):
            score[0] = exact[c]
            word[0] = (word[0] + STEP // 2) & ~(STEP - 1)
            if np.isfinite(exact[c]):
                rounded = score[0] if np.isfinite(score[0]) else exact[c]
                found = offer(columns[n], values[n], 0, found, size, near[c], rounded + 0.0)


def _ordered(bits: np.int32) -> np.int32:
    """Return the bits of a float32 as a number in its order, LAST for what is not finite."""
    whole = np.int32(bits & MAGNITUDE)
    return np.int32(bits ^ (np.int32(bits >> SIGN) & MAGNITUDE)) if whole < ENDLESS else LAST


def _disordered(number: np.int32) -> np.int32:
    """Return the bits of the finite float32 that has this number in its order."""
    return np.int32(number ^ (np.int32(number >> SIGN) & MAGNITUDE))


def _near(bits: np.int32) -> float:
    """Round the bits of a finite float32 as `ranking.rounded` does."""
    close = np.int32(np.int32(bits + HALF) & KEPT)
    return float(np.int32(close if np.int32(close & MAGNITUDE) < ENDLESS else bits).view(np.float32) + ZERO)


def _best(
    scores: np.ndarray,
    everybody: np.ndarray,
    starts: np.ndarray,
    barred: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
) -> None:
    """Write into columns/values (n, k) the k best cells of each row, rounded, in no order; the rest stays.

    Never a cell that is not finite or barred to `everybody` (m,), nor in row n one of
    barred[starts[n]:starts[n + 1]]. `scores` (n, m) is float32.
    """
    size, width = columns.shape[1], scores.shape[1]
    closed = np.flatnonzero(everybody)
    maxima = np.empty(-(-width // GROUP), np.int32)
    row = np.full(len(maxima) * GROUP, ENDLESS)
    number, largest = np.empty(size, np.int32), np.empty(size)
    for n in range(len(scores)):
        row[:width] = scores[n].view(np.int32)
        for column in closed:
            row[column] = ENDLESS
        for p in range(starts[n], starts[n + 1]):
            row[barred[p]] = ENDLESS
        for g in range(len(maxima)):
            part = row[g * GROUP : g * GROUP + GROUP]
            most = LAST
            for j in range(GROUP):
                most = max(most, ordered(part[j]))
            maxima[g] = most
        # The k-th largest of the groups' maxima is no more than the k-th largest of all.
        found = 0
        for g in range(len(maxima)):
            if maxima[g] > LAST and (found < size or maxima[g] > largest[0]):
                found = offer(number, largest, 0, found, size, g, float(maxima[g]))
        limit = near(disordered(np.int32(largest[0]))) if found == size else -np.inf
        found = 0
        for g in range(len(maxima)):
            if maxima[g] == LAST or near(disordered(maxima[g])) < limit:
                continue
            for place in range(g * GROUP, g * GROUP + GROUP):
                if np.int32(row[place] & MAGNITUDE) < ENDLESS and near(row[place]) >= limit:
                    found = offer(columns[n], values[n], 0, found, size, place, near(row[place]))


def _best_cells(
    cell_starts: np.ndarray,
    cells: np.ndarray,
    scores: np.ndarray,
    everybody: np.ndarray,
    starts: np.ndarray,
    barred: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
) -> None:
    """Write what `_best` does, of the rows of a CSR matrix; cells of 0 are left out, too."""
    size, bits = columns.shape[1], scores.view(np.int32)
    closed = everybody.copy()
    for n in range(len(columns)):
        for item in barred[starts[n] : starts[n + 1]]:
            closed[item] = True
        found = 0
        for p in range(cell_starts[n], cell_starts[n + 1]):
            finite = np.int32(bits[p] & MAGNITUDE) < ENDLESS
            if finite and scores[p] != 0.0 and not closed[cells[p]]:
                value = near(bits[p])
                if found < size or value >= values[n, 0]:
                    found = offer(columns[n], values[n], 0, found, size, cells[p], value)
        for item in barred[starts[n] : starts[n + 1]]:
            closed[item] = everybody[item]


dot = machine_code(_dot, reorder=True)
pick = machine_code(_pick)
whole_products = machine_code(_whole_products)
near = machine_code(_near)
ordered = machine_code(_ordered)
disordered = machine_code(_disordered)
best = machine_code(_best)
best_cells = machine_code(_best_cells)
