"""What a policy would have earned, from lists that another one showed and logged the chances of.

A logged row is an item at a rank of an answer: its `reward`, the `propensity` with which it was shown there,
and `target`, the probability with which the policy in question would have shown it there. With
w = target / propensity an answer's rows are weighed, by what rewards hang on:

    position   w_k              on the item and its rank (item-position; Li et al., KDD 2018); both
                                probabilities are of the item at this rank, whatever stands above it
    cascade    w_1 ... w_k      on what stands above, too (McInerney et al., KDD 2020); both are given what
                                stands above, as are those of the list
    list       w_1 ... w_K      on the whole list: standard importance sampling (Horvitz & Thompson 1952)

and of n answers

    IPS     1/n  sum_i sum_k w_ik r_ik                        unbiased, of large variance
    SNIPS   sum_k sum_i w_ik r_ik / sum_i w_ik                a little bias, less variance (Swaminathan &
                                                              Joachims, NeurIPS 2015)
    DR      1/n  sum_i sum_k [q_k(pi) + w_ik (r_ik - q_ik)]   unbiased if the weights or the model q are right
                                                              (Dudik, Langford & Li, ICML 2011)

The mean weight of a rank is 1 where everything the target shows could have been shown; where it is surely
below there is no estimate but a reason. Intervals are over users, as all of this house.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from profiles.schema import ContractError
from recsys.significance import Array, Labels, by_cluster, interval

Method = Literal["ips", "snips", "dr"]
Weighting = Literal["position", "cascade", "list"]
COLUMNS = ("answer", "user_id", "item_id", "rank", "propensity", "target", "reward")
SURE = 3.29  # standard errors below 1 at which a mean weight is not 1: chance does it once in 2,000
SHRINK = 5.0  # expected rewards of an item that count as much as what is known of all
FOLDS = 5


@dataclass(frozen=True)
class Estimate:
    """The mean reward of an answer under the target policy, with its interval; NaN where not identifiable."""

    value: float
    low: float
    high: float
    answers: int
    users: int
    effective: float  # answers that would say as much unweighted (Kish 1965), at the worst rank
    clipped: float  # share of the weights that were cut
    reason: str = ""  # why there is no estimate

    @property
    def identifiable(self) -> bool:
        """Whether there is an estimate."""
        return not self.reason


def estimate(
    logged: pl.DataFrame,
    method: Method = "snips",
    weighting: Weighting = "position",
    clip: float | None = None,
    actions: pl.DataFrame | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Estimate a target's mean reward from rows of COLUMNS; weights above `clip` are cut to it.

    `dr` needs `actions`: answer, rank, item_id, probability, what the target would show; they
    sum to 1 at each rank it fills. It weighs by position, and learns q from other users (`rewards`).
    Raises ContractError for a frame that lacks a column, for no probabilities, and for `dr` without actions.
    """
    if (rows := _checked(logged)).is_empty():
        return _nothing(
            logged, "no answers were logged" if logged.is_empty() else "no propensities were logged"
        )
    weights = rows["target"].to_numpy() / rows["propensity"].to_numpy()
    answers, answer = np.unique(rows["answer"].to_numpy(), return_inverse=True)
    first = np.unique(answer, return_index=True)[1]
    user = rows["user_id"].to_numpy()[first]
    if weighting != "position":
        weights = _multiplied(rows, weights, weighting)
    if why := _unexplored(rows["rank"].to_numpy(), weights, rows["user_id"].to_numpy()):
        return _nothing(rows, why)
    kept = weights if clip is None else np.minimum(weights, clip)
    reward, rank = rows["reward"].to_numpy(), rows["rank"].to_numpy()
    if method == "dr":
        if actions is None or weighting != "position":
            raise ContractError("dr needs the actions of the target, and weighs by position")
        predicted, expected = _modelled(rows, actions)
        each = _sums(answer, kept * (reward - predicted), len(answers)) + expected
    elif method == "ips":
        each = _sums(answer, kept * reward, len(answers))
    else:
        each = _normalised(rank, answer, kept, reward, len(answers))
    found = interval(each, seed, level=level, clusters=user)
    effective = min(
        float(w.sum() ** 2 / (w**2).sum()) for r in np.unique(rank) if (w := kept[rank == r]).any()
    )
    cut = float((kept < weights).mean())
    return Estimate(found.mean, found.low, found.high, len(answers), len(np.unique(user)), effective, cut)


def rewards(logged: pl.DataFrame, shrink: float = SHRINK) -> tuple[Mapping[int, float], Mapping[str, float]]:
    """Return the mean reward at each rank, and how many times that of its ranks each item earns.

    q(i, k) = rank_k item_i, item_i = (rewards of i + s) / (what its ranks let expect + s), s = `shrink`: an
    item shown rarely is like the others (a gamma prior of mean 1 on a Poisson rate).
    """
    by_rank = logged.group_by("rank").agg(pl.col("reward").mean().alias("usual"))
    usual = logged.join(by_rank, on="rank")
    by_item = usual.group_by("item_id").agg(
        times=(pl.col("reward").sum() + shrink) / (pl.col("usual").sum() + shrink)
    )
    return dict(by_rank.iter_rows()), dict(by_item.iter_rows())


def _checked(logged: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of answers that are logged with propensities, by answer and rank."""
    if missing := [name for name in COLUMNS if name not in logged.columns]:
        raise ContractError(
            f"off-policy: column {missing[0]!r} is missing; it has {', '.join(logged.columns)}"
        )
    whole = pl.col("propensity").is_not_null().all().over("answer")
    rows = logged.filter(whole).sort("answer", "rank")
    for name, above in (("propensity", 0.0), ("target", -1e-12)):
        values = rows[name].to_numpy()
        if len(values) and not ((values > above) & (values <= 1 + 1e-9)).all():
            raise ContractError(
                f"off-policy: {name} is a probability, not {values.min():g} … {values.max():g}"
            )
    if not np.isfinite(rows["reward"].to_numpy()).all():
        raise ContractError("off-policy: a reward is no finite number")
    return rows


def _nothing(logged: pl.DataFrame, reason: str) -> Estimate:
    nan, seen = float("nan"), (logged["answer"].n_unique(), logged["user_id"].n_unique())
    return Estimate(nan, nan, nan, *seen, 0.0, 0.0, f"not identifiable: {reason}")


def _multiplied(rows: pl.DataFrame, weights: Array, weighting: Weighting) -> Array:
    """Multiply the weights of an answer, up to each rank or all of them."""
    product = rows.select("answer", w=pl.Series(weights)).with_columns(
        w=pl.col("w").cum_prod().over("answer")
        if weighting == "cascade"
        else pl.col("w").product().over("answer")
    )
    found: Array = product["w"].to_numpy()
    return found


def _unexplored(rank: Labels, weights: Array, user: Labels) -> str:
    """Say why the target cannot be told of: its mean weight at a rank is surely below 1."""
    if not weights.any():
        return "nothing that the target would show was ever shown at its rank"
    for place in np.unique(rank):
        here = rank == place
        sums, sizes = by_cluster(weights[here][:, None], user[here])
        mean, n = weights[here].mean(), len(sizes)
        rest = sums[:, 0] - mean * sizes
        error = np.sqrt((rest**2).sum() * n / max(n - 1, 1)) / sizes.sum()
        if mean + SURE * error < 1 - 1e-9:
            return (
                f"at rank {place} only {mean:.0%} of what the target would show could have been shown; "
                "log with exploration"
            )
    return ""


def _normalised(rank: Labels, answer: Labels, weights: Array, reward: Array, answers: int) -> Array:
    """Return for each answer a value whose mean is SNIPS, and whose spread is that of its linearisation."""
    each = np.zeros(answers)
    for place in np.unique(rank):
        here = rank == place
        w, r = weights[here], reward[here]
        value = (w @ r) / w.sum()
        share = here.sum() / answers  # of the answers that are as long
        spread = share * w * (r - value) * answers / w.sum()
        each += share * value + _sums(answer[here], spread, answers)
    return each


def _sums(answer: Labels, values: Array, answers: int) -> Array:
    sums = np.zeros(answers)
    np.add.at(sums, answer, values)
    return sums


def _modelled(rows: pl.DataFrame, actions: pl.DataFrame) -> tuple[Array, Array]:
    """Return q of each logged row, and of each answer's target in all, learned from other users."""
    users = rows["user_id"].unique().sort()
    fold = dict(zip(users, np.arange(len(users)) % FOLDS, strict=True))
    parts = pl.Series(rows["user_id"].replace_strict(fold, return_dtype=pl.Int64))
    answers = rows["answer"].unique().sort()
    number = dict(zip(answers, range(len(answers)), strict=True))
    owner = rows.select("answer", pl.Series("part", parts)).unique("answer")
    asked = actions.join(owner, on="answer")
    predicted, expected = np.zeros(len(rows)), np.zeros(len(answers))
    for part in range(min(FOLDS, len(users))):
        learned = rewards(rows.filter(parts != part) if len(users) > 1 else rows)
        here = (parts == part).to_numpy()
        predicted[here] = _q(rows.filter(parts == part), *learned)
        of_part = asked.filter(pl.col("part") == part)
        place = of_part["answer"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
        told = of_part["probability"].to_numpy() * _q(of_part, *learned)
        expected += _sums(place, told, len(answers))
    return predicted, expected


def _q(rows: pl.DataFrame, ranks: Mapping[int, float], items: Mapping[str, float]) -> Array:
    usual = rows["rank"].replace_strict(ranks, default=0.0, return_dtype=pl.Float64)
    found: Array = (
        usual * rows["item_id"].replace_strict(items, default=1.0, return_dtype=pl.Float64)
    ).to_numpy()
    return found
