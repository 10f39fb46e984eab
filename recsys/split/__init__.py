"""Splits: what is learned from, what the queries know, and what they should have been told.

    temporal          ───────── train ─────────┤cut├──── truth ────
    rolling           ──── train ────┤o1├ truth ┤
                      ──────── train ───────┤o2├ truth ┤   (each origin a split of its own)
    cold_users        ───────── train ─────────┤cut├─h─ truth ──   of users who came after the cut
    leave_last_out    every user: ── train ──┤last├       (leaks: train holds what came later elsewhere)
    ratio             every user: ── train ──┤last share├ (leaks)
    random, k_fold    any pairs, drawn                    (leaks)
    strong            users held out, some of their pairs drawn   (leaks)
    cold_items        items held out                      (leaks)
    `given`           files that others made

Each function draws its own. Candidates are the items available at the moment of asking. Pairs nobody may
list then, because they are seen and masked or not on offer, leave the truth and are counted.
"""

from collections.abc import Callable

import polars as pl

from profiles.schema import ContractError
from recsys.dataset import Catalogue
from recsys.split.experiment import Protocol, Split, SplitConfig, seen
from recsys.split.files import given
from recsys.split.strangers import cold_items, strong
from recsys.split.temporal import by_users, cold_users, rolling, temporal
from recsys.split.withheld import k_fold, leave_last_out, random, ratio

__all__ = ["PROTOCOLS", "Split", "SplitConfig", "by_users", "given", "seen", "splits"]

PROTOCOLS: dict[Protocol, Callable[[pl.DataFrame, Catalogue, SplitConfig], list[Split]]] = {
    "temporal": temporal,
    "rolling": rolling,
    "leave_last_out": leave_last_out,
    "ratio": ratio,
    "random": random,
    "k_fold": k_fold,
    "strong": strong,
    "cold_users": cold_users,
    "cold_items": cold_items,
}
TIMED = ("temporal", "rolling", "cold_users")


def splits(
    interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig, timeless: bool = False
) -> list[Split]:
    """Cut INTERACTIONS as the configuration says; each split asks about the users with a past and a truth."""
    if timeless and config.split in TIMED:
        raise ContractError(
            f'evaluation: split = "{config.split}" needs times, and this log has only an order; '
            'set split = "leave_last_out"'
        )
    if interactions.filter(pl.col("weight") > 0).is_empty():
        raise ContractError("evaluation: there are no interactions to split")
    return PROTOCOLS[config.split](interactions, catalogue, config)
