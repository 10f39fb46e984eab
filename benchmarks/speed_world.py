"""What the speed benchmark works on: Gowalla, or simulated interactions of any size."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from profiles.schema import INTERACTIONS, ITEMS, TIME
from recsys.dataset import Catalogue, Dataset

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = 365 * 86_400_000_000  # microseconds
TASTES = 50  # groups of simulated items whose users meet
TAGS, CATEGORIES, WORDS = 500, 20, 384  # given to items that have none, so that content is ranked too


@dataclass(frozen=True)
class World:
    """A log and the catalogue it names."""

    log: pl.DataFrame  # INTERACTIONS
    catalogue: Catalogue

    @property
    def train(self) -> Dataset:
        """Everything there is."""
        return Dataset.of(self.log, self.catalogue, AS_OF)


def pairs(source: str) -> pl.DataFrame:
    """Read Gowalla's folder, or simulate as many interactions as the number says: user, item."""
    return simulated(int(source)) if source.isdecimal() else pl.read_parquet(Path(source) / "train.parquet")


def world(source: str) -> World:
    """Return those pairs as a log, at drawn times."""
    done = pairs(source)
    times = np.random.default_rng(1).integers(0, YEAR, len(done))
    log = INTERACTIONS.conform(
        done.select(
            pl.format("u{}", "user").alias("user_id"),
            pl.format("i{}", pl.col("item").cast(pl.String).str.zfill(7)).alias("item_id"),
            pl.lit("view").alias("event_type"),
            pl.lit(1.0, pl.Float32).alias("weight"),
            (pl.lit(AS_OF - timedelta(days=365)) + pl.Series(times).cast(pl.Duration("us")))
            .cast(TIME)
            .alias("timestamp"),
        )
    )
    return World(log, Catalogue.of(_items(log), log, AS_OF))


def simulated(interactions: int) -> pl.DataFrame:
    """Draw about so many distinct pairs of user and item: few are popular, and users have a taste or two.

    There are 40 interactions a user; items grow as the root: 8,000 of a million, 25,000 of ten.
    """
    random = np.random.default_rng(0)
    users, items = max(10, interactions // 40), max(100, int(8 * interactions**0.5))
    shares = random.dirichlet(np.full(users, 2.0))
    user = np.repeat(np.arange(users), random.multinomial(interactions, shares))
    taste = np.where(random.random(len(user)) < 0.7, user % TASTES, random.integers(0, TASTES, len(user)))
    rank = (items // TASTES * random.random(len(user)) ** 2).astype(int)  # within the taste
    pairs = pl.DataFrame({"user": user, "item": rank * TASTES + taste})
    return pairs.unique(maintain_order=True)


def _items(log: pl.DataFrame) -> pl.DataFrame:
    """Return ITEMS with drawn labels and texts, all on offer from the first moment."""
    ids = log["item_id"].unique().sort()
    random = np.random.default_rng(2)
    tags, category = random.integers(0, TAGS, (len(ids), 3)), random.integers(0, CATEGORIES, len(ids))
    return ITEMS.conform(
        pl.DataFrame(
            {
                "item_id": ids,
                "categories": [[f"c{number}"] for number in category],
                "tags": [[f"t{number}" for number in set(row)] for row in tags.tolist()],
                "available_from": pl.repeat(AS_OF - timedelta(days=400), len(ids), eager=True).cast(TIME),
            }
        )
    )


def covering(world: World) -> Dataset:
    """Return a small dataset in which every item was done: what is learned of it ranks at full cost."""
    ids = world.catalogue.items.ids.shuffle(seed=3)
    log = INTERACTIONS.conform(
        pl.DataFrame(
            {
                "user_id": [f"u{n // 40}" for n in range(len(ids))],
                "item_id": ids,
                "event_type": pl.repeat("view", len(ids), eager=True),
                "weight": pl.repeat(1.0, len(ids), dtype=pl.Float32, eager=True),
                "timestamp": pl.repeat(AS_OF - timedelta(days=1), len(ids), eager=True).cast(TIME),
            }
        )
    )
    return Dataset.of(log, world.catalogue, AS_OF, vectors=words(world))


def words(world: World) -> np.ndarray:
    """Return drawn vectors of the items' texts, (items, WORDS) float32."""
    random = np.random.default_rng(4)
    return random.normal(size=(len(world.catalogue.items), WORDS)).astype(np.float32)
