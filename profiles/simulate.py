"""A shop with a known answer: the sample inside the product, and the ruler for what is built on it.

Every choice of an item is one draw from

    P(item i | user u, moment t) = softmax over the items i available at t of  a_ui(t)
    a_ui(t) = <taste_u(t), loading_i> + appeal_i + FRESHNESS · exp(-age_i(t) / FRESH_DAYS)

where `loading_i` holds item i's categories, tags and price and `taste_u(t)` what user u makes of each:

    categories  log of a sparse Dirichlet over departments (its mean leans with the age band)
    tags        a sparse Dirichlet over the tags of each department
    price       a liking for cheap or dear; with -PRICE_PULL · z² / 2 in the appeal, a price band
    drift       both Dirichlets move DRIFT of the way to a second draw by the last day, and the
                category part also takes a random walk; linear between KNOTS moments

`appeal_i` is a Zipf popularity, -ZIPF · log(rank), and t is the start of the visit. The first item of a
visit is drawn from everything available; its category becomes the focus, to which later draws keep with
probability FOCUS. As the focus is itself drawn by the softmax, each single draw still follows P. A REVISIT
share of the views then goes back to something the user saw before. Carts, purchases, ratings, reviews and
queries follow from the views.

`World.preferences(at)` returns a(t), so the best possible ranking of this world is known.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl

from profiles import simulate_text as words
from profiles.schema import EVENTS
from profiles.simulate_shop import (
    Catalogue,
    People,
    Truth,
    WorldConfig,
    ids,
    make_catalogue,
    make_people,
    moments,
    wanted,
)

__all__ = ["World", "WorldConfig", "simulate"]

# Visits.
VIEWS_PER_VISIT = 4.0
SLOTS = 8  # a visit is one user, day and three-hour slot
HABIT_HOURS = (8.0, 13.0, 20.0)
FOCUS = 0.75
REVISIT = 0.02
REVISIT_BACK = 8.0
START_SPREAD, LONGEST = 0.05, 0.06  # days; with a cart and a purchase still inside the slot
LOOK = 1.2e-3  # days between two views of a visit, on average

# Events that are not views, as a share of all.
SHARES = {"cart": 0.09, "purchase": 0.05, "rating": 0.03, "review": 0.015, "query": 0.015}
EAGERNESS = 0.8  # how much one standard deviation of affinity adds to the log-odds of a follow-up
RATING_DELAY = 4.0
DEVICES = {"mobile": 0.25, "desktop": 0.12, "tablet": 0.03}  # the rest is not known


@dataclass(frozen=True)
class World:
    """The log and the attributes of a simulated shop, with the tastes behind them."""

    config: WorldConfig
    events: pl.DataFrame  # EVENTS, oldest first
    items: pl.DataFrame  # ITEMS
    users: pl.DataFrame  # USERS with country, age_band, joined
    truth: Truth = field(repr=False)

    def preferences(self, at: datetime) -> np.ndarray:
        """Return the log-odds by which each user chooses among all items at a moment.

        Float32 (users, items) in the order of the frames, comparable within a row and always finite: an
        item not yet available is valued as if it were new, so the caller masks it.
        """
        moment = (at - self.config.start).total_seconds() / 86_400
        users = np.arange(self.users.height)
        return self.truth.attraction(users, np.full(len(users), moment)).astype(np.float32)


def simulate(config: WorldConfig = WorldConfig()) -> World:
    """Return the world of `config`; the same configuration gives the same world."""
    rng = np.random.default_rng(config.seed)
    catalogue = make_catalogue(rng, config)
    people = make_people(rng, config)
    truth = Truth(people.tastes, catalogue.loadings, catalogue.appeal, catalogue.available, config.days)
    visits = _visits(rng, config, people)
    views = _views(rng, truth, catalogue.primary, visits)
    events = _events(rng, config, truth, catalogue, visits, views)
    return World(config, events, catalogue.frame, people.frame, truth)


@dataclass(frozen=True)
class _Visits:
    user: np.ndarray
    start: np.ndarray
    size: np.ndarray  # views; the single one of a silent visit is what the query is about
    silent: np.ndarray


def _visits(rng: np.random.Generator, config: WorldConfig, people: People) -> _Visits:
    """Lay out visits, by user and then by time, whose sizes sum to the views that are due."""
    views = _counts(config)["view"]
    active = np.where(people.silent, 0.0, people.activity)
    spare = max(0, round(views / VIEWS_PER_VISIT) - config.users)
    visits = 1 + rng.multinomial(spare, active / active.sum())
    visits[people.silent] = rng.integers(1, 4, people.silent.sum())
    user = np.repeat(np.arange(config.users), visits)
    first = np.maximum(np.floor(people.joined) + 1.0, 0.0)[user]
    day = first + np.floor(rng.random(len(user)) * (config.days - first))
    habit = rng.choice(HABIT_HOURS, config.users)[user]
    slot = np.floor(rng.normal(habit, 2.5) % 24.0 * SLOTS / 24.0)
    # Two visits in one slot are one visit.
    key = np.unique((user * config.days + day.astype(np.int64)) * SLOTS + slot.astype(np.int64))
    user = key // (config.days * SLOTS)
    start = (key % (config.days * SLOTS)) / SLOTS + rng.uniform(0, START_SPREAD, len(key))
    silent = people.silent[user]
    size = np.where(silent | (np.diff(user, prepend=-1) == 0), 1, 3)
    weight = np.where(silent, 0.0, rng.exponential(size=len(key)))
    size += rng.multinomial(views - size[~silent].sum(), weight / weight.sum())
    return _Visits(user, start, size, silent)


@dataclass(frozen=True)
class _Views:
    visit: np.ndarray
    time: np.ndarray
    item: np.ndarray


def _views(rng: np.random.Generator, truth: Truth, primary: np.ndarray, visits: _Visits) -> _Views:
    """Draw the item of each view; the order is that of the visits."""
    visit = np.repeat(np.arange(len(visits.user)), visits.size)
    within = rng.random(len(visit)) * np.minimum(visits.size * LOOK, LONGEST)[visit]
    within = within[np.lexsort((within, visit))]
    item = np.concatenate(
        [
            _draws(rng, truth, primary, _Visits(*(part[low : low + 1024] for part in vars(visits).values())))
            for low in range(0, len(visits.user), 1024)
        ]
    )
    # A revisit copies an earlier view of the same user, which may be a copy itself.
    user = visits.user[visit]
    place = np.arange(len(visit)) - np.searchsorted(user, user)
    again = (rng.random(len(visit)) < REVISIT) & (place > 0)
    back = np.minimum(rng.geometric(1.0 / REVISIT_BACK, len(visit)), place)
    origin = np.arange(len(visit)) - np.where(again, back, 0)
    while again[origin].any():
        origin = origin[origin]
    return _Views(visit, visits.start[visit] + 0.0004 + within, item[origin])


def _draws(rng: np.random.Generator, truth: Truth, primary: np.ndarray, visits: _Visits) -> np.ndarray:
    """Draw all items of some visits, from cumulated weights in which a category is one interval."""
    rows, columns = np.arange(len(visits.user)), np.argsort(primary, kind="stable")
    score = truth.attraction(visits.user, visits.start)[:, columns]
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    weight[truth.available[columns] > visits.start[:, None]] = 0.0
    mass = np.cumsum(weight, axis=1)
    mass = np.pad(mass / mass[:, -1:], ((0, 0), (1, 0)))
    ladder = (mass[:, 1:] + rows[:, None]).ravel()

    def invert(row: np.ndarray, at: np.ndarray) -> np.ndarray:
        found = np.searchsorted(ladder, row + np.minimum(at, 1.0 - 1e-9), side="right")
        chosen: np.ndarray = columns[found - row * len(columns)]
        return chosen

    first = invert(rows, rng.random(len(rows)))
    bound = np.searchsorted(primary[columns], np.arange(primary.max() + 2))
    row = np.repeat(rows, visits.size)
    focus = primary[first][row]
    kept = rng.random(len(row)) < FOCUS
    low = np.where(kept, mass[row, bound[focus]], 0.0)
    high = np.where(kept, mass[row, bound[focus + 1]], 1.0)
    item = invert(row, low + (high - low) * rng.random(len(row)))
    item[np.cumsum(visits.size) - visits.size] = first
    return item


@dataclass(frozen=True)
class _Seen:
    """The views that stand in the log, a row each."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    visit: np.ndarray
    liking: np.ndarray  # <taste, loading>, standardised


def _seen(truth: Truth, visits: _Visits, views: _Views) -> _Seen:
    real = ~visits.silent[views.visit]
    visit, time, item = views.visit[real], views.time[real], views.item[real]
    user = visits.user[visit]
    liking = np.concatenate(
        [
            np.einsum("vf,vf->v", truth.taste(user[part], time[part]), truth.loadings[item[part]])
            for part in np.array_split(np.arange(len(user)), 1 + len(user) // 8192)
        ]
    )
    return _Seen(user, item, time, visit, (liking - liking.mean()) / (liking.std() + 1e-9))


def _events(
    rng: np.random.Generator,
    config: WorldConfig,
    truth: Truth,
    catalogue: Catalogue,
    visits: _Visits,
    views: _Views,
) -> pl.DataFrame:
    seen, count = _seen(truth, visits, views), _counts(config)
    cart = _sample(rng, EAGERNESS * seen.liking, count["cart"])
    bought = cart[_sample(rng, EAGERNESS * seen.liking[cart], count["purchase"])]
    price = catalogue.frame["price"].to_numpy()[seen.item[bought]]
    log = pl.concat(
        [
            _part("view", seen.user, seen.item, seen.time, seen.visit),
            _after(seen, "cart", cart, rng.uniform(1e-4, 6e-4, len(cart))),
            _after(seen, "purchase", bought, rng.uniform(1e-3, 3e-3, len(bought)), price),
            *_opinions(rng, config, truth, catalogue, seen, bought, len(visits.user)),
            _queries(rng, config, truth, catalogue, visits, views),
        ]
    ).sort("time", "user", maintain_order=True)
    names = [None, *(json.dumps({"device": device}) for device in DEVICES)]
    known = list(DEVICES.values())
    sessions = int(log["session"].to_numpy().max()) + 1
    device = rng.choice(len(names), sessions, p=[1.0 - sum(known), *known])
    frame = log.select(
        event_id=pl.Series(ids("e", log.height, 7)),
        user_id=_named(ids("u", config.users), log["user"]),
        item_id=_named(ids("i", config.items), log["item"]),
        event_type="event_type",
        timestamp=moments(config, log["time"].to_numpy()),
        value="value",
        text="text",
        session_id=_named(ids("s", sessions, 6), log["session"]),
        properties=_named(names, pl.Series(device)[log["session"]]),
    )
    return EVENTS.conform(frame)


def _opinions(
    rng: np.random.Generator,
    config: WorldConfig,
    truth: Truth,
    catalogue: Catalogue,
    seen: _Seen,
    bought: np.ndarray,
    visits: int,
) -> list[pl.DataFrame]:
    """Rate a pair once, after its last view and mostly if bought; review what stirs strong feelings."""
    count = _counts(config)
    pair = seen.user * config.items + seen.item
    last = np.zeros(len(pair), dtype=bool)
    last[len(pair) - 1 - np.unique(pair[::-1], return_index=True)[1]] = True
    odds = np.where(last, 0.0, -50.0) + 2.5 * np.isin(pair, pair[bought]) + 0.3 * EAGERNESS * seen.liking
    rated = _sample(rng, odds, count["rating"])
    stars = np.clip(np.rint(3.5 + seen.liking[rated] + rng.normal(0.0, 0.5, len(rated))), 1, 5)
    left = (config.days - seen.time[rated]) * rng.uniform(0.3, 0.95, len(rated))
    delay = np.minimum(rng.exponential(RATING_DELAY, len(rated)) + 0.1, left)
    session = visits + np.arange(len(rated))  # a visit of its own
    told = _sample(rng, 0.5 * np.abs(stars - 3.0), count["review"])
    texts = [
        words.make_review(
            rng,
            catalogue.products[seen.item[view]],
            wanted(truth, catalogue, seen.user[view], seen.time[view], seen.item[view]),
            int(star),
        )
        for view, star in zip(rated[told], stars[told], strict=True)
    ]
    return [
        _after(seen, "rating", rated, delay, stars, session=session),
        _after(seen, "review", rated[told], delay[told] + 5e-4, stars[told], texts, session[told]),
    ]


def _queries(
    rng: np.random.Generator,
    config: WorldConfig,
    truth: Truth,
    catalogue: Catalogue,
    visits: _Visits,
    views: _Views,
) -> pl.DataFrame:
    """Open some visits, and all silent ones, with words for the item that is looked at first."""
    silent = np.flatnonzero(visits.silent)
    due = max(0, _counts(config)["query"] - len(silent))
    asked = np.concatenate([silent, _sample(rng, np.where(visits.silent, -np.inf, 0.0), due)])
    user, start = visits.user[asked], visits.start[asked]
    item = views.item[(np.cumsum(visits.size) - visits.size)[asked]]
    texts = [
        words.make_query(rng, catalogue.products[i], wanted(truth, catalogue, u, t, i))
        for u, t, i in zip(user, start, item, strict=True)
    ]
    return _part("query", user, np.full(len(asked), -1), start, asked, text=texts)


def _after(
    seen: _Seen,
    event_type: str,
    rows: np.ndarray,
    delay: np.ndarray,
    value: np.ndarray | None = None,
    text: list[str] | None = None,
    session: np.ndarray | None = None,
) -> pl.DataFrame:
    """Return events that follow some views by a delay, in the visit of the view unless told otherwise."""
    visit = seen.visit[rows] if session is None else session
    return _part(event_type, seen.user[rows], seen.item[rows], seen.time[rows] + delay, visit, value, text)


def _part(
    event_type: str,
    user: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    session: np.ndarray,
    value: np.ndarray | None = None,
    text: list[str] | None = None,
) -> pl.DataFrame:
    nothing = pl.lit(None)
    return pl.DataFrame({"user": user, "item": item, "time": time, "session": session}).with_columns(
        event_type=pl.lit(event_type),
        value=(nothing if value is None else pl.Series(value)).cast(pl.Float64),
        text=(nothing if text is None else pl.Series(text)).cast(pl.String),
    )


def _named(names: Sequence[str | None], rows: pl.Series) -> pl.Series:
    """Return the name of each row, null for -1."""
    return pl.Series([*names, None], dtype=pl.String).gather(rows.replace(-1, len(names)))


def _counts(config: WorldConfig) -> dict[str, int]:
    counts = {kind: round(share * config.events) for kind, share in SHARES.items()}
    return {"view": config.events - sum(counts.values()), **counts}


def _sample(rng: np.random.Generator, log_odds: np.ndarray, count: int) -> np.ndarray:
    """Draw `count` rows without replacement in proportion to exp(log_odds), by Gumbel's trick; sorted."""
    return np.sort(np.argsort(-(log_odds + rng.gumbel(size=len(log_odds))), kind="stable")[:count])
