"""Lists shown to the people of a simulated shop: what they click, and what a policy is truly worth.

A person looks at rank k with probability look_k, and clicks what they look at with a chance that rises with
how much it attracts them:

    P(click | u, i, k) = look_k · sigmoid(a_ui(t) - mean_j a_uj(t) - RESERVE),   look_k = k^-BIAS

so a reward hangs on the person, the item and the rank, not on the rest of the list. A policy that shows item
i at rank k with probability π_uki is worth the mean over users of sum_ki π_uki P(click | u, i, k).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from profiles.schema import EXPOSURES
from profiles.simulate import World

RESERVE = 1.0  # log-odds against a click on what attracts as everything does
BIAS = 0.7

Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Audience:
    """The people of a world at a moment, in front of lists."""

    users: pl.Series
    items: pl.Series
    at: datetime
    chances: np.ndarray  # (users, items): of a click on what is looked at

    @classmethod
    def of(cls, world: World, at: datetime) -> "Audience":
        """Ask the world what attracts whom at a moment."""
        pull = world.preferences(at).astype(np.float64)
        pull -= pull.mean(axis=1, keepdims=True) + RESERVE
        return cls(world.users["user_id"], world.items["item_id"], at, 1 / (1 + np.exp(-pull)))

    def value(self, shown: Callable[[int], np.ndarray]) -> float:
        """Return the true mean clicks on a list of a policy; `shown(user)` is its (ranks, items) chances."""
        tables = ((u, shown(u)) for u in range(len(self.users)))
        return float(np.mean([look(len(table)) @ table @ self.chances[u] for u, table in tables]))

    def log(self, draw: Draw, answers: int, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Show each user some lists; `draw(user, random)` gives item rows and the propensity of each.

        Returns EXPOSURES, and the clicks on them: recommendation_id, item_id, timestamp.
        """
        random = np.random.default_rng(seed)
        parts = [(u, *draw(u, random)) for u in range(len(self.users)) for _ in range(answers)]
        lengths = np.array([len(rows) for _, rows, _ in parts])
        users, rows = np.repeat([u for u, _, _ in parts], lengths), np.concatenate([r for _, r, _ in parts])
        ranks = np.concatenate([np.arange(1, n + 1) for n in lengths])
        clicked = random.random(len(rows)) < look(int(ranks.max()))[ranks - 1] * self.chances[users, rows]
        exposures = pl.DataFrame(
            {
                "recommendation_id": [f"r{n:07}" for n in np.repeat(np.arange(len(parts)), lengths)],
                "user_id": self.users.gather(users),
                "item_id": self.items.gather(rows),
                "rank": ranks,
                "propensity": np.concatenate([p for _, _, p in parts]),
            }
        ).with_columns(source=pl.lit("blend"), release=pl.lit("simulated"), blend=pl.lit("default"),
                       timestamp=pl.lit(self.at))  # fmt: skip
        clicks = exposures.filter(pl.Series(clicked)).select(
            "recommendation_id", "user_id", "item_id", timestamp=pl.lit(self.at + timedelta(minutes=1))
        )
        return EXPOSURES.conform(exposures), clicks


def look(ranks: int) -> np.ndarray:
    """Return the chance that each rank is looked at, (ranks,)."""
    chance: np.ndarray = np.arange(1, ranks + 1) ** -BIAS
    return chance
