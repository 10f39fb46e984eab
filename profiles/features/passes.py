"""What many columns read, found in one pass over users' events: machine code, a few nanoseconds an event.

User u has the events bounds[u] … bounds[u + 1] - 1, oldest first. What is found stands user by user in the
last dimension of each array. Times and spans are microseconds; an event is within n days where it is
younger than that.
"""

from typing import NamedTuple

import numpy as np

from profiles.jit import compiled
from profiles.schema import DAY

Array = np.ndarray
HOUR = DAY // 24
MONTH = 30 * DAY
NEVER = np.iinfo(np.int64).max
COS, SIN = (side(np.arange(24) * (2 * np.pi / 24)) for side in (np.cos, np.sin))


class Rhythm(NamedTuple):
    """When users come; days, hours and weekdays are those of the wall."""

    days: Array  # days with an event
    recent_days: Array  # of which within 30 days
    hours: Array  # (24, users) events in each hour
    weekdays: Array  # (7, users) events on each weekday, Monday first
    x: Array  # mean direction of the hours on the circle of the day
    y: Array
    week: Array  # events within 7 days
    month: Array  # events within 30 days
    longest: Array  # longest time without an event


@compiled
def rhythm(bounds: Array, time: Array, local: Array, as_of: int) -> Rhythm:
    """Find when users come; `local` is each event's time on the wall."""
    users = len(bounds) - 1
    days, recent_days, week, month = np.zeros((4, users), np.uint32)
    longest = np.zeros(users, np.int64)
    hours, weekdays = np.zeros((24, users), np.uint32), np.zeros((7, users), np.uint32)
    x, y = np.zeros(users), np.zeros(users)
    hour_of, weekday_of = np.zeros(24, np.uint32), np.zeros(7, np.uint32)
    for user in range(users):
        hour_of[:], weekday_of[:] = 0, 0
        begin, end = bounds[user], bounds[user + 1]
        before, day = time[begin], local[begin] // DAY
        days[user] = 1
        recent, pause, in_week, in_month = False, np.int64(0), 0, 0
        for at in range(begin, end):
            today = local[at] // DAY
            if today != day:
                day = today
                days[user] += 1
                recent_days[user] += recent
            pause = max(pause, time[at] - before)
            before = time[at]
            recent = as_of - before < MONTH
            in_month += recent
            in_week += as_of - before < 7 * DAY
            hour_of[(local[at] - today * DAY) // HOUR] += 1
            weekday_of[(today + 3) % 7] += 1
        recent_days[user] += recent
        longest[user], week[user], month[user] = pause, in_week, in_month
        for weekday in range(7):
            weekdays[weekday, user] = weekday_of[weekday]
        for hour in range(24):
            hours[hour, user] = hour_of[hour]
            x[user] += hour_of[hour] * COS[hour]
            y[user] += hour_of[hour] * SIN[hour]
        x[user] /= end - begin
        y[user] /= end - begin
    return Rhythm(days, recent_days, hours, weekdays, x, y, week, month, longest)


class ByType(NamedTuple):
    """What users did of each type; behind the types of the context stand those it does not know."""

    counts: Array  # (types + 2, windows + 1, users) events; the last window is all time, the last type all
    latest: Array  # (types + 1, users) the latest event; -NEVER where there is none
    value_sum: Array  # (types + 1, users)
    value_count: Array  # (types + 1, users) events with a value


@compiled
def by_type(
    bounds: Array, kind: Array, time: Array, value: Array, as_of: int, windows: Array, types: int
) -> ByType:
    """Count events by type and window, and find each type's latest event and values."""
    users, every, all_time = len(bounds) - 1, types + 1, len(windows)
    counts = np.empty((types + 2, all_time + 1, users), np.uint32)
    latest = np.empty((every, users), np.int64)
    value_sum, value_count = np.empty((every, users)), np.empty((every, users), np.uint32)
    own, own_latest = np.empty((types + 2, all_time + 1), np.uint32), np.empty(every, np.int64)
    own_sum, own_count = np.empty(every), np.empty(every, np.uint32)
    for user in range(users):
        own[:], own_latest[:], own_sum[:], own_count[:] = 0, -NEVER, 0.0, 0
        window = all_time  # falls as events become younger
        for at in range(bounds[user], bounds[user + 1]):
            while window and as_of - time[at] < windows[window - 1]:
                window -= 1
            type_ = kind[at]
            own[type_, window] += 1
            own_latest[type_] = time[at]
            if value[at] == value[at]:
                own_sum[type_] += value[at]
                own_count[type_] += 1
        for type_ in range(every):
            for window in range(1, all_time + 1):
                own[type_, window] += own[type_, window - 1]
            for window in range(all_time + 1):
                own[every, window] += own[type_, window]
                counts[type_, window, user] = own[type_, window]
            latest[type_, user] = own_latest[type_]
            value_sum[type_, user], value_count[type_, user] = own_sum[type_], own_count[type_]
        for window in range(all_time + 1):
            counts[every, window, user] = own[every, window]
    return ByType(counts, latest, value_sum, value_count)


class Visits(NamedTuple):
    """Users' visits."""

    opens: Array  # (events,) bool: which events begin one
    number: Array
    recent: Array  # begun within 30 days
    single: Array  # of one event
    lasted: Array  # all of them together
    longest: Array
    first: Array  # when the first and the last one began
    last: Array


@compiled
def visits(bounds: Array, time: Array, session: Array, longest: float, as_of: int) -> Visits:
    """Find the visits; `longest` is the longest pause within one, a session of 0 names none.

    Of two neighbours that both name their session, the second begins a visit where the name changes,
    however long the pause; any other event after a long pause, or where the visit had another name till then.
    """
    users = len(bounds) - 1
    opens = np.zeros(len(time), np.bool_)
    number, recent, single = np.zeros((3, users), np.uint32)
    lasted, longest_of, first, last = np.zeros((4, users), np.int64)
    for user in range(users):
        named = np.uint64(0)  # what the visit was called last
        begun = bounds[user]
        for at in range(bounds[user], bounds[user + 1] + 1):
            if at == bounds[user + 1] or at == bounds[user]:
                begins = True
            elif session[at] != 0 and session[at - 1] != 0:
                begins = session[at] != session[at - 1]
            elif time[at] - time[at - 1] > longest:
                begins = True
            else:
                begins = session[at] != 0 and named != 0 and session[at] != named
            if begins and at > bounds[user]:
                span = time[at - 1] - time[begun]
                lasted[user] += span
                longest_of[user] = max(longest_of[user], span)
                single[user] += at == begun + 1
            if at == bounds[user + 1]:
                break
            if begins:
                opens[at], begun, named = True, at, np.uint64(0)
                number[user] += 1
                recent[user] += as_of - time[at] < MONTH
            if session[at] != 0:
                named = session[at]
        first[user], last[user] = time[bounds[user]], time[begun]
    return Visits(opens, number, recent, single, lasted, longest_of, first, last)


class Spending(NamedTuple):
    """What users spent."""

    orders: Array  # events that spent
    sums: Array  # (windows + 1, users); the last window is all time
    most: Array  # at once
    first: Array  # when they first and last spent; 0 where they never did
    last: Array


@compiled
def spending(
    bounds: Array, kind: Array, time: Array, value: Array, money: Array, as_of: int, windows: Array
) -> Spending:
    """Sum what users spent: the values above 0 of the kinds that are `money`."""
    users = len(bounds) - 1
    orders, first, last = np.zeros((3, users), np.int64)
    sums, most = np.zeros((len(windows) + 1, users)), np.zeros(users)
    for user in range(users):
        for at in range(bounds[user], bounds[user + 1]):
            if money[kind[at]] and value[at] > 0:
                if orders[user] == 0:
                    first[user] = time[at]
                last[user] = time[at]
                orders[user] += 1
                most[user] = max(most[user], value[at])
                sums[-1, user] += value[at]
                for window in range(len(windows)):
                    if as_of - time[at] < windows[window]:
                        sums[window, user] += value[at]
    return Spending(orders, sums, most, first, last)


@compiled
def weights(item: Array, kind: Array, value: Array, table: Array, least: Array) -> Array:
    """Return each event's weight: that of its kind; 0 without an item or with a value below the least."""
    found = np.empty(len(item))
    for at in range(len(item)):
        enough = least[kind[at]] != least[kind[at]] or value[at] >= least[kind[at]]
        found[at] = table[kind[at]] if item[at] >= 0 and enough else 0.0
    return found


class Tastes(NamedTuple):
    """What items users touch."""

    first: Array  # (events,) bool: which events are the first of their user with their item
    last: Array  # (events,) bool: and which the last
    strength: Array  # (events,) all the user's with the item, at the first that has any; 0 elsewhere
    named: Array  # events with an item
    recent: Array  # of which within 30 days
    distinct: Array  # items
    recent_distinct: Array  # items touched within 30 days
    explored: Array  # items first touched within 30 days
    fresh: Array  # items first touched while they were new
    means: Array  # (3, users) of the items' surprise, percentile and price; NaN where no item has one
    spread: Array  # standard deviation of the percentile


@compiled
def tastes(
    bounds: Array, item: Array, time: Array, strength: Array, about: Array, new: float, as_of: int
) -> Tastes:
    """Find what items users touch; `about` is `Context.about`, `new` how long an item is new.

    A hash table of the user's own items, so that it stays in the cache however large the catalogue.
    """
    users = len(bounds) - 1
    first, last = np.zeros((2, len(item)), np.bool_)
    named, recent, distinct, recent_distinct, explored, fresh = np.zeros((6, users), np.uint32)
    means, spread = np.empty((3, users)), np.empty(users)
    size, most = 2, np.max(bounds[1:] - bounds[:-1])
    while size < 2 * most:
        size *= 2
    known = np.empty((most, 4))
    held, latest, heavy = np.empty(size, np.int32), np.empty(size, np.int64), np.empty(size, np.int64)
    together = np.zeros(len(item))
    for user in range(users):
        begin, end = bounds[user], bounds[user + 1]
        slots = 2
        while slots < 2 * (end - begin):
            slots *= 2
        held[:slots] = -1
        if len(about):  # looked up before anything depends on it: the waits for memory overlap
            for at in range(begin, end):
                row = max(item[at], 0)
                for column in range(4):
                    known[at - begin, column] = about[row, column]
        ranked = priced = events = late_events = items = late_items = late_first = early = 0
        surprise = price = 0.0
        origin = off = squares = 0.0  # of the percentiles: the first, and what the others are off it
        for at in range(begin, end):
            row = item[at]
            if row < 0:
                continue
            surprised, percentile, asked, since = known[at - begin]
            late = as_of - time[at] < MONTH
            slot = ((np.uint64(row) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & np.uint64(slots - 1)
            while held[slot] >= 0 and held[slot] != row:
                slot = (slot + np.uint64(1)) & np.uint64(slots - 1)
            if held[slot] < 0:
                held[slot], heavy[slot] = row, -1
                first[at] = True
                items += 1
                late_items += late
                late_first += late
                early += time[at] - since < new
            else:
                last[latest[slot]] = False
                late_items += late and as_of - time[latest[slot]] >= MONTH
            latest[slot] = at
            last[at] = True
            if strength[at] > 0:
                if heavy[slot] < 0:
                    heavy[slot] = at
                together[heavy[slot]] += strength[at]
            events += 1
            late_events += late
            if percentile == percentile:
                if ranked == 0:
                    origin = percentile
                ranked += 1
                surprise += surprised
                off += percentile - origin
                squares += (percentile - origin) ** 2
            if asked == asked:
                priced += 1
                price += asked
        named[user], recent[user], distinct[user] = events, late_events, items
        recent_distinct[user], explored[user], fresh[user] = late_items, late_first, early
        means[0, user] = surprise / ranked if ranked else np.nan
        means[1, user] = origin + off / ranked if ranked else np.nan
        means[2, user] = price / priced if priced else np.nan
        spread[user] = np.sqrt(max(squares - off * off / ranked, 0.0) / ranked) if ranked else np.nan
    numbers = (named, recent, distinct, recent_distinct, explored, fresh)
    return Tastes(first, last, together, *numbers, means, spread)


@compiled
def newest(bounds: Array, chosen: Array, keep: int) -> tuple[Array, Array]:
    """Return offsets by user and the places of their latest chosen events, at most `keep`, newest first."""
    users = len(bounds) - 1
    offsets, places = np.zeros(users + 1, np.int64), np.empty(min(users * keep, len(chosen)), np.int64)
    n = 0
    for user in range(users):
        at = bounds[user + 1] - 1
        while at >= bounds[user] and n - offsets[user] < keep:
            if chosen[at]:
                places[n] = at
                n += 1
            at -= 1
        offsets[user + 1] = n
    return offsets, places[:n]
