"""What stands in the simulated shop and who comes to it: the part of the world no log shows.

The equation is in `profiles.simulate`. Items and users are drawn here once, as factors: one per category,
one per tag of each category, and the price.
"""

import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from profiles import simulate_text as words
from profiles.schema import ITEMS, TIME, USERS

# Tastes.
CATEGORY_PULL = 1.4
CATEGORY_SPARSITY = 0.25
AGE_LEAN = 0.6
TAG_PULL = 4.0
TAG_SPARSITY = 0.25
PRICE_PULL = 0.5
DRIFT = 0.4
WALK = 0.5
KNOTS = 7
FAINT = 0.01  # added to a category's share before the logarithm

# Items.
ZIPF = 0.55
SECOND_CATEGORY = 0.15
PRICE_SPREAD = 0.6
AT_START = 0.6
FRESHNESS = 0.8
FRESH_DAYS = 14.0

# Users.
ACTIVITY = 0.8  # spread (sigma) of the log-normal number of visits
LATE_JOINERS = 0.25
TEXT_ONLY = 0.02
COUNTRIES = ("DE", "FR", "GB", "NL", "PL", "SE", "ES", "IT")
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
MICROSECONDS = 86_400_000_000


@dataclass(frozen=True)
class WorldConfig:
    """How large the shop is, how long it is watched, and the seed that decides the rest."""

    users: int = 2000
    items: int = 1000
    events: int = 100_000
    days: int = 120
    seed: int = 7
    start: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        if self.users < 1 or self.items < 1 or self.days < 10 or self.events < 8 * self.users:
            raise ValueError(f"a world needs a user, an item, 10 days and 8 events a user, not {self}")
        if self.start.tzinfo is None:
            raise ValueError("the start of a world needs a time zone")


@dataclass(frozen=True)
class Truth:
    """What no log shows: tastes, loadings and appeal. Times are days since the start."""

    tastes: np.ndarray  # (knots, users, factors)
    loadings: np.ndarray  # (items, factors)
    appeal: np.ndarray  # (items,)
    available: np.ndarray  # (items,), negative where the item was there before the start
    days: int

    def taste(self, users: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the tastes of `users` at the moments `at`, row by row: (rows, factors)."""
        position = np.clip(at / self.days, 0.0, 1.0) * (len(self.tastes) - 1)
        low = np.minimum(position.astype(np.int64), len(self.tastes) - 2)
        part = (position - low)[:, None]
        taste: np.ndarray = (1.0 - part) * self.tastes[low, users] + part * self.tastes[low + 1, users]
        return taste

    def attraction(self, users: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return a_ui(t) for each user and moment, an item not yet there as if it were new: (rows, items)."""
        age = np.maximum(at[:, None] - self.available, 0.0)
        fresh = FRESHNESS * np.exp(-age / FRESH_DAYS)
        attraction: np.ndarray = self.taste(users, at) @ self.loadings.T + self.appeal + fresh
        return attraction


@dataclass(frozen=True)
class Catalogue:
    """The items, and the truth behind them: loadings and appeal of the choice model, a row an item."""

    frame: pl.DataFrame
    products: list[words.Product]
    tags: list[np.ndarray]  # factors of each item's tags, in the order of its product
    primary: np.ndarray
    loadings: np.ndarray
    appeal: np.ndarray
    available: np.ndarray


def make_catalogue(rng: np.random.Generator, config: WorldConfig) -> Catalogue:
    """Draw the items: categories, tags, titles, prices, appeal and when each appears."""
    n, departments, width = config.items, len(words.CATEGORIES), len(words.CATEGORIES[0].tags)
    primary = rng.choice(departments, n, p=rng.dirichlet(np.full(departments, 6.0)))
    second = (primary + rng.integers(1, departments, n)) % departments
    mixed = rng.random(n) < SECOND_CATEGORY
    usual = rng.dirichlet(np.full(width, 2.0), departments)
    loadings = np.zeros((n, departments + departments * width + 1))
    products, tags, titles = [], [], []
    seen: Counter[str] = Counter()
    for item in range(n):
        own = words.CATEGORIES[primary[item]]
        chosen = rng.choice(width, rng.integers(2, 6), replace=False, p=usual[primary[item]])
        factors = departments + primary[item] * width + chosen
        loadings[item, primary[item]] = CATEGORY_PULL
        if mixed[item]:
            loadings[item, [primary[item], second[item]]] = 0.7 * CATEGORY_PULL, 0.3 * CATEGORY_PULL
        loadings[item, factors] = TAG_PULL / math.sqrt(len(factors))
        parts = (words.pick(rng, own.kinds), words.pick(rng, own.brands), words.pick(rng, own.lines))
        products.append(words.Product(own, *parts, tuple(own.tags[tag] for tag in chosen)))
        tags.append(factors)
        plain = words.make_title(products[-1], 0)
        titles.append(words.make_title(products[-1], seen[plain]))
        seen[plain] += 1
    dearness = rng.normal(size=n)
    loadings[:, -1] = dearness
    price = np.array([product.category.price for product in products]) * np.exp(PRICE_SPREAD * dearness)
    old = rng.permutation(n) < math.ceil(AT_START * n)
    available = np.where(old, -rng.uniform(1, 365, n), rng.uniform(0, 0.97 * config.days, n))
    rank = np.log(1.0 + rng.permutation(n))
    frame = pl.DataFrame(
        {
            "item_id": ids("i", n),
            "title": titles,
            "text": [words.describe(rng, product) for product in products],
            "categories": [
                [words.CATEGORIES[c].name for c in ((a, b) if both else (a,))]
                for a, b, both in zip(primary, second, mixed, strict=True)
            ],
            "tags": [list(product.tags) for product in products],
            "brand": [product.brand for product in products],
            "price": np.maximum(np.rint(price), 1.0) - 0.05,
            "available_from": moments(config, available),
        }
    )
    appeal = ZIPF * (rank.mean() - rank) - PRICE_PULL * dearness**2 / 2
    return Catalogue(ITEMS.conform(frame), products, tags, primary, loadings, appeal, available)


@dataclass(frozen=True)
class People:
    """The users, and the truth behind them: tastes at the knots of time, arrival, activity."""

    frame: pl.DataFrame
    tastes: np.ndarray
    joined: np.ndarray
    activity: np.ndarray
    silent: np.ndarray  # users who only write queries


def make_people(rng: np.random.Generator, config: WorldConfig) -> People:
    """Draw the users: tastes that walk from one Dirichlet draw to another, habits and arrival."""
    n, departments, width = config.users, len(words.CATEGORIES), len(words.CATEGORIES[0].tags)
    age = rng.choice(len(AGE_BANDS), n, p=(0.14, 0.26, 0.22, 0.17, 0.13, 0.08))
    lean = CATEGORY_SPARSITY * rng.lognormal(0.0, AGE_LEAN, (len(AGE_BANDS), departments))[age]
    shares = [_dirichlet(rng, lean) for _ in range(2)]
    tags = [_dirichlet(rng, np.full((n, departments, width), TAG_SPARSITY)).reshape(n, -1) for _ in range(2)]
    steps = rng.normal(0.0, WALK / math.sqrt(KNOTS - 1), (KNOTS - 1, n, departments))
    walk = np.concatenate([np.zeros((1, n, departments)), np.cumsum(steps, axis=0)])
    drift = DRIFT * np.linspace(0.0, 1.0, KNOTS)[:, None, None]
    band = np.broadcast_to(PRICE_PULL * rng.normal(size=(n, 1)), (KNOTS, n, 1))
    tastes = np.concatenate(
        [
            np.log(FAINT + (1.0 - drift) * shares[0] + drift * shares[1]) + walk,
            (1.0 - drift) * tags[0] + drift * tags[1],
            band,
        ],
        axis=2,
    )
    late = rng.random(n) < LATE_JOINERS
    joined = np.where(late, rng.uniform(0, 0.9 * config.days - 1, n), -rng.uniform(0, 720, n))
    frame = pl.DataFrame(
        {
            "user_id": ids("u", n),
            "country": rng.choice(COUNTRIES, n),
            "age_band": np.array(AGE_BANDS)[age],
            "joined": moments(config, joined),
        }
    )
    activity = rng.lognormal(0.0, ACTIVITY, n) * (1.0 - np.maximum(joined, 0.0) / config.days)
    silent = rng.permutation(n) < round(TEXT_ONLY * n)
    return People(USERS.conform(frame), tastes, joined, activity, silent)


def wanted(truth: Truth, catalogue: Catalogue, user: int, at: float, item: int) -> list[str]:
    """Return the item's tags, what the user likes most first."""
    taste = truth.taste(np.array([user]), np.array([at]))[0, catalogue.tags[item]]
    return [catalogue.products[item].tags[tag] for tag in np.argsort(-taste, kind="stable")]


def ids(letter: str, count: int, width: int = 4) -> list[str]:
    """Return `count` ids from 1, as wide as the last one needs."""
    width = max(width, len(str(count)))
    return [f"{letter}{number:0{width}d}" for number in range(1, count + 1)]


def moments(config: WorldConfig, days: np.ndarray) -> pl.Series:
    """Return days since the start as times; rounded down, so their order stays."""
    origin = (config.start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return pl.Series(origin + np.floor(days * MICROSECONDS).astype(np.int64)).cast(TIME)


def _dirichlet(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    drawn = rng.gamma(weights) + 1e-12
    shares: np.ndarray = drawn / drawn.sum(axis=-1, keepdims=True)
    return shares
