"""Splits at one moment for everybody: nothing learned from is later than what is asked about."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from profiles.schema import ContractError
from recsys.dataset import Catalogue
from recsys.split.experiment import Split, SplitConfig, experiment


def temporal(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Cut at a quantile of the interactions, or at a date; `target` says what of the rest is asked.

        u  ──x──x────x──┤cut├──1──2────3──      all         truth 1 2 3
        v  ────x──x─────┤   ├────1──2─────      first       truth 1       last  truth 3 (u), 2 (v)
                                                random      truth one of them, drawn
                                                successive  truth 1, then 2 knowing 1, then 3 knowing 1 2:
                                                            a split each, of one train, which ends at the cut

    Which of several at one moment is first is the log's order. (Meng et al., RecSys 2020; Gusak et al.,
    RecSys 2025 for targets.) Raises ContractError for a date not within the log.
    """
    liked = interactions.filter(pl.col("weight") > 0)
    first, last = bounds(liked)
    cut = config.date
    if cut is None:
        moment = liked["timestamp"].sort()[int(config.quantile * (len(liked) - 1))]
        assert isinstance(moment, datetime)
        cut = moment
    elif not first <= cut < last:
        raise ContractError(
            f"evaluation: date = {cut:%Y-%m-%d %H:%M:%S} leaves nothing on one side; the log goes from "
            f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}: cut between them"
        )
    past, future = between(interactions, cut, last)
    name = f"{cut:%Y-%m-%d %H:%M:%S}"
    if config.target == "all":
        return [experiment(name, cut, past, future, catalogue, config)]
    asked = told(future, config)
    if config.target == "successive":
        return list(_successive(name, cut, past, future, catalogue, config))
    if config.target == "random":
        mixed = np.random.default_rng(config.seed).permutation(len(asked))
        asked = asked.with_columns(draw=pl.Series(mixed)).sort("draw").drop("draw")
    one = asked.unique("user_id", keep="last" if config.target == "last" else "first", maintain_order=True)
    return [experiment(name, cut, past, one.sort("timestamp", maintain_order=True), catalogue, config)]


def _successive(
    name: str,
    cut: datetime,
    past: pl.DataFrame,
    future: pl.DataFrame,
    catalogue: Catalogue,
    config: SplitConfig,
) -> Iterator[Split]:
    ordered = future.sort("timestamp", maintain_order=True).with_row_index("place")
    asked = told(ordered, config).with_columns(step=pl.int_range(pl.len()).over("user_id"))
    for step in range(min(config.steps, asked["step"].n_unique())):
        now = asked.filter(pl.col("step") == step)
        until = now.select("user_id", until="place")
        met = ordered.join(until, on="user_id").filter(pl.col("place") < pl.col("until"))
        known = pl.concat([past, met.select(past.columns)]) if step else past
        moment = max(cut, bounds(met)[1]) if step else cut
        asked_now = now.select(past.columns)
        yield experiment(
            f"{name} +{step + 1}", moment, past, asked_now, catalogue, config, past=known, learned=cut
        )


def rolling(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Cut at several moments, `every_days` apart, the last so that its truth ends with the log.

    ──── train ────┤o1├ truth ┤
    ──────── train ───────┤o2├ truth ┤
    ──────────── train ──────────┤o3├ truth ┤   (each origin a split of its own)
    """
    last = bounds(interactions.filter(pl.col("weight") > 0))[1]
    step = timedelta(days=config.every_days)
    origins = [last - step * (config.origins - i) for i in range(config.origins)]
    return [
        experiment(f"{o:%Y-%m-%d %H:%M:%S}", o, *between(interactions, o, o + step), catalogue, config)
        for o in origins
    ]


def cold_users(interactions: pl.DataFrame, catalogue: Catalogue, config: SplitConfig) -> list[Split]:
    """Ask about users who came after the cut, knowing the first `shots` of what they did.

        u    ──x──x──x──┤cut├─────────────      train
        new  ───────────┤   ├──h──1──2──3─      history h (shots = 1), truth 1 2 3

    They are asked at the last moment of what is known of any of them; train ends at the cut.
    """
    (base,) = temporal(interactions, catalogue, config.model_copy(update={"target": "all"}))
    strangers = interactions.join(base.train, on="user_id", how="anti", maintain_order="left")
    ordered = strangers.sort("timestamp", maintain_order=True)
    liked = (pl.col("weight") > 0).cum_sum().over("user_id")
    known = ordered.filter(liked <= config.shots)
    rest = ordered.filter(liked > config.shots)
    moment = bounds(known)[1] if len(known) else base.at
    train = base.train
    return [experiment(base.name, moment, train, rest, catalogue, config, past=known, learned=base.at)]


def by_users(split: Split, share: float = 0.5, seed: int = 0) -> tuple[Split, Split]:
    """Part a split's users: a validation of `share` of them, and a test of the others.

    u  ──x──x────x──┤cut├──v──v────v──      validation
    w  ────x──x─────┤   ├────t──t─────      test: train is the same, before the cut
    """
    ((validation, test),) = parted([split], share, seed)
    return validation, test


def parted(splits: Sequence[Split], share: float, seed: int) -> list[tuple[Split, Split]]:
    """Part the users of several splits as `by_users` does, each user on one side in all of them.

    Raises ContractError where one side would be of nobody.
    """
    users = sorted({user for split in splits for user in split.users})
    count = round(share * len(users))
    if not 0 < count < len(users):
        raise ContractError(f"a share of {share} of {len(users)} users leaves nobody on one side")
    drawn = np.random.default_rng(seed).permutation(len(users))[:count]
    chosen = pl.DataFrame({"user_id": [users[n] for n in drawn]})

    def part(split: Split, how: Literal["semi", "anti"]) -> Split:
        truth = split.truth.join(chosen, on="user_id", how=how, maintain_order="left")
        histories = split.histories.join(truth, on="user_id", how="semi", maintain_order="left")
        counts = {**split.counts, "users": truth["user_id"].n_unique()}
        return replace(split, truth=truth, histories=histories, counts=counts)

    return [(part(split, "semi"), part(split, "anti")) for split in splits]


def between(interactions: pl.DataFrame, cut: datetime, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what is up to the cut, and what is after it up to the end."""
    past = interactions.filter(pl.col("timestamp") <= cut)
    return past, interactions.filter((pl.col("timestamp") > cut) & (pl.col("timestamp") <= end))


def told(future: pl.DataFrame, config: SplitConfig) -> pl.DataFrame:
    """Return what may become truth, oldest first."""
    liked = future.filter(pl.col("weight") > 0)
    if config.truth_events:
        liked = liked.filter(pl.col("event_type").is_in(config.truth_events))
    return liked.sort("timestamp", maintain_order=True)


def bounds(interactions: pl.DataFrame) -> tuple[datetime, datetime]:
    """Return the first and the last moment; there must be one."""
    first, last = interactions["timestamp"].min(), interactions["timestamp"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return first, last
