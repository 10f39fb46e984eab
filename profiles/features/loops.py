"""What costs most in a profile, as loops over users' events: machine code, a few nanoseconds an event.

Events stand user by user, oldest first; `starts` (users,) says where each user's begin. A user of one
event and a block of 100,000 go through the same loop.
"""

import numpy as np

from profiles.jit import compiled

Array = np.ndarray


@compiled
def decayed(starts: Array, time: Array, weight: Array, half_life: float, found: Array) -> None:
    """Set `found` to each event's weight, halved for every `half_life` to the user's latest that has one."""
    for user in range(len(starts)):
        begin = starts[user]
        end = starts[user + 1] if user + 1 < len(starts) else len(time)
        newest = np.int64(0)
        for at in range(end - 1, begin - 1, -1):
            if weight[at] > 0:
                newest = time[at]
                break
        for at in range(begin, end):
            if weight[at] > 0:
                age = (newest - time[at]) / half_life
                found[at] = weight[at] * np.exp2(-min(age, 900.0))
            else:
                found[at] = 0.0


@compiled
def added_up(
    starts: Array, item: Array, weight: Array, indptr: Array, values: Array, bounds: Array
) -> tuple[Array, Array, Array]:
    """Sum each user's weights by the values of their items; `indptr`, `values` say which item has which.

    The values of attribute a of n are bounds[a] … bounds[a + 1] - 1. Returns offsets, values and sums:
    segment u * n + a holds those of user u and attribute a, the value met first for the first time last.
    """
    width, attributes = bounds[-1], len(bounds) - 1
    offsets = np.zeros(len(starts) * attributes + 1, np.int64)
    found, sums = np.empty(len(item), np.int32), np.empty(len(item), np.float64)
    total, met = np.zeros(width, np.float64), np.empty(width + 1, np.int32)
    owner, filled = np.empty(width, np.int32), np.zeros(attributes, np.int64)  # of a value; places taken
    longest = 0
    for user in range(len(starts)):
        end = starts[user + 1] if user + 1 < len(starts) else len(item)
        longest = max(longest, end - starts[user])
    begins, ends, fetched = np.empty((3, longest), np.int32)
    heavy = np.empty(longest)
    for attribute in range(attributes):
        owner[bounds[attribute] : bounds[attribute + 1]] = attribute
    n = segment = 0
    for user in range(len(starts)):
        end = starts[user + 1] if user + 1 < len(starts) else len(item)
        # Every item is looked up, and then its first and last value, before anything depends on them: the
        # waits for memory overlap.
        weighted = many = 0
        for at in range(starts[user], end):
            row = max(item[at], 0)
            begins[weighted], ends[weighted] = indptr[row], indptr[min(row + 1, len(indptr) - 1)]
            heavy[weighted] = weight[at]
            weighted += weight[at] > 0
        for event in range(weighted):
            if begins[event] < ends[event]:
                fetched[event] = values[begins[event]] + values[ends[event] - 1]
        for event in range(weighted):
            for place in range(begins[event], ends[event]):
                value = values[place]
                met[many] = value  # kept where it is new; there is no branch to guess
                many += total[value] == 0
                total[value] += heavy[event]
        if n + many > len(found):
            more_found, more_sums = np.empty(2 * (n + many), np.int32), np.empty(2 * (n + many), np.float64)
            more_found[:n], more_sums[:n] = found[:n], sums[:n]
            found, sums = more_found, more_sums
        filled[:] = 0
        for place in range(many):
            filled[owner[met[place]]] += 1
        for attribute in range(attributes):
            filled[attribute], n = n, n + filled[attribute]
            segment += 1
            offsets[segment] = n
        for place in range(many - 1, -1, -1):
            value = met[place]
            to = filled[owner[value]]
            filled[owner[value]] += 1
            found[to], sums[to] = value, total[value]
            total[value] = 0.0
    return offsets, found[:n], sums[:n]


@compiled
def strongest(
    first: Array, last: Array, values: Array, sums: Array, prior: float, share: Array, low: int, keep: int
) -> tuple[Array, Array, Array]:
    """Return each user's `keep` largest smoothed shares, as offsets, values and shares, largest first.

    User u has the values and sums first[u] … last[u] - 1; values and `share` count from `low`. A share is
    (sum + prior * share) / (all sums + prior), ordered in single precision; of equals the one that stands
    first.
    """
    kept = np.zeros(len(first) + 1, np.int64)
    best, shares = np.empty(len(first) * keep, np.int32), np.empty(len(first) * keep, np.float64)
    n = 0
    for user in range(len(first)):
        total = prior
        for at in range(first[user], last[user]):
            total += sums[at]
        begin, least = n, -1.0  # nothing below this is among the largest; no division finds that out
        for at in range(first[user], last[user]):
            above = sums[at] + prior * share[values[at] - low]
            if above < least:
                continue
            own = above / total
            if n - begin == keep:
                if not np.float32(own) > np.float32(shares[n - 1]):
                    continue
                n -= 1
            place = n
            while place > begin and np.float32(own) > np.float32(shares[place - 1]):
                shares[place], best[place] = shares[place - 1], best[place - 1]
                place -= 1
            shares[place], best[place] = own, values[at] - low
            n += 1
            if n - begin == keep:
                least = shares[n - 1] * total * (1 - 1e-6)
        kept[user + 1] = n
    return kept, best[:n], shares[:n]


@compiled
def entropy(first: Array, last: Array, sums: Array, found: Array) -> None:
    """Set `found` to log2 T - sum(w log2 w) / T of each user's sums w, T their total; NaN without any."""
    for user in range(len(first)):
        total = inner = 0.0
        for at in range(first[user], last[user]):
            total += sums[at]
            inner += sums[at] * np.log2(sums[at])
        found[user] = max(np.log2(total) - inner / total, 0.0) if total > 0 else np.nan


STANDING = np.dtype([("events", np.int64), ("weight", np.float64), ("first", np.int64), ("last", np.int64)])


@compiled
def standing(item: Array, kind: Array, time: Array, weight: Array, table: Array, kinds: Array) -> None:
    """Add up each item's events and their weight, find its first and last moment; count events by type.

    `table` (items,) STANDING.
    """
    for at in range(len(item)):
        kinds[kind[at]] += 1
        if item[at] >= 0:
            own = table[item[at]]
            own.events += 1
            own.weight += weight[at]
            own.first = min(own.first, time[at])
            own.last = max(own.last, time[at])


TALLY = np.dtype(
    [
        ("user_events", np.int64),  # events of each user who touched the item, added up
        ("users", np.uint32),
        ("young", np.uint32),  # events of users in their first days
        ("openers", np.uint32),  # events that began a visit
    ],
    align=True,
)


@compiled
def tally(
    starts: Array,
    item: Array,
    kind: Array,
    time: Array,
    value: Array,
    first_touch: Array,
    opens: Array,
    as_of: int,
    windows: Array,
    young: int,
    table: Array,
    counts: Array,
    value_sum: Array,
    value_count: Array,
) -> None:
    """Add what some users did to the tables of the items: `table` (items,) TALLY, and those of `Totals`.

    `windows` and `young` in microseconds; the last cell of `counts` by window is beyond all of them. One
    short loop a table: the waits for memory overlap, which those of one long loop do not.
    """
    size = len(item)
    within, early, of_user = np.empty(size, np.uint8), np.empty(size, np.bool_), np.empty(size, np.int64)
    for user in range(len(starts)):
        begin = starts[user]
        end = starts[user + 1] if user + 1 < len(starts) else size
        window = len(windows)  # falls as events become younger
        for at in range(begin, end):
            while window and as_of - time[at] < windows[window - 1]:
                window -= 1
            within[at] = window
            early[at] = time[at] - time[begin] < young
            of_user[at] = end - begin
    for at in range(size):
        if item[at] >= 0:
            counts[item[at], kind[at], within[at]] += 1
    for at in range(size):
        if item[at] >= 0:
            own = table[item[at]]
            own.users += first_touch[at]
            own.user_events += first_touch[at] * of_user[at]
            own.young += early[at]
            own.openers += opens[at]
    for at in range(size):
        if item[at] >= 0 and value[at] == value[at]:
            value_sum[item[at], kind[at]] += value[at]
            value_count[item[at], kind[at]] += 1


@compiled
def audience(starts: Array, item: Array, first_touch: Array, code: Array, table: Array) -> None:
    """Count in `table` (items, codes) the users with each code who touched each item; -1 is no code."""
    for user in range(len(starts)):
        if code[user] >= 0:
            end = starts[user + 1] if user + 1 < len(starts) else len(item)
            for at in range(starts[user], end):
                if first_touch[at]:
                    table[item[at], code[user]] += 1
