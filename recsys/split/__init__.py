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
    given             files that others made

Each function draws its own. Weights and settings are chosen on `validations`: cuts of what the tests may
learn from, or the same cuts with other users. Candidates are the items available at the moment of asking.
Pairs nobody may list then, because they are seen and masked or not on offer, leave the truth and are counted.
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from profiles.schema import ContractError
from recsys.dataset import Catalogue
from recsys.split.experiment import Protocol, Split, SplitConfig, seen
from recsys.split.files import given
from recsys.split.strangers import cold_items, strong
from recsys.split.temporal import by_users, cold_users, parted, rolling, temporal
from recsys.split.withheld import k_fold, leave_last_out, random, ratio

__all__ = ["PROTOCOLS", "Split", "SplitConfig", "by_users", "given", "seen", "splits", "validations"]

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
    interactions: pl.DataFrame,
    catalogue: Catalogue,
    config: SplitConfig,
    timeless: bool = False,
    folder: Path = Path(),
) -> list[Split]:
    """Cut INTERACTIONS as the configuration says; each split asks about the users with a past and a truth.

    With `validation = "users"` those that are chosen on are left out. `files` are looked for in `folder`.
    """
    whole = _cut(interactions, catalogue, config, timeless, folder)
    if config.validation == "users":
        return [test for _, test in parted(whole, config.validation_share, config.seed)]
    return whole


def validations(
    interactions: pl.DataFrame,
    catalogue: Catalogue,
    config: SplitConfig,
    timeless: bool = False,
    folder: Path = Path(),
) -> list[Split]:
    """Return what weights and settings are chosen on: cuts in whose train and truth no test's truth is.

    By time, the train of the first test is cut as the log is; by users, those `splits` leaves out are asked.
    Raises ContractError where there is nothing to cut.
    """
    tests = _cut(interactions, catalogue, config, timeless, folder)
    if config.validation == "users":
        return [chosen for chosen, _ in parted(tests, config.validation_share, config.seed)]
    if config.split == "k_fold":
        raise ContractError(
            'evaluation: split = "k_fold" asks about every pair, so nothing is left to choose weights or '
            'settings on; set validation = "users"'
        )
    earlier = tests[0].train
    changed: dict[str, object] = {"date": None}  # which is where `earlier` ends
    if config.split == "given":
        timed = earlier["timestamp"].n_unique() > 1
        changed |= {"files": None, "split": "temporal" if timed else "random"}
    return _cut(earlier, catalogue, config.model_copy(update=changed), timeless, folder)


def _cut(
    interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig, timeless: bool, folder: Path
) -> list[Split]:
    if timeless and config.split in TIMED:
        raise ContractError(
            f'evaluation: split = "{config.split}" needs times, and this log has only an order; '
            'set split = "leave_last_out"'
        )
    if config.files is not None:
        train, truth, known = (
            None if name is None else folder / name
            for name in (config.files.train, config.files.truth, config.files.histories)
        )
        assert train is not None
        assert truth is not None
        return [given(train, truth, catalogue, config, known)]
    if interactions.filter(pl.col("weight") > 0).is_empty():
        raise ContractError("evaluation: there are no interactions to split")
    return PROTOCOLS[config.split](interactions, catalogue, config)
