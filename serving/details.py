"""What an evaluation keeps beside its table: for whom sources are right, what they show, a few users' lists.

All but the examples and the costs goes into evaluation.json and holds figures over many users. Examples are
rows of a few users, in a file of their own that erasure reaches. Costs are read off a clock: the one thing
that differs from run to run, so they too are apart.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from profiles.schema import ContractError
from recsys.dataset import Catalogue
from recsys.evaluation import EvaluationConfig, context, pool
from recsys.metrics import measure, slices
from recsys.metrics.bands import places_by_band
from recsys.metrics.overlap import overlap
from recsys.ranking import Ranked
from recsys.significance import summarise
from serving.mistakes import nearest
from serving.release import Release
from serving.schema import EXAMPLES
from serving.trial import Trial

CHOSEN = "what they chose"  # beside the sources' lists; no source can be called so
ALIKE = 500  # users of a split whose lists are compared pair by pair
PICKS = (0.5, 0.95)  # which users of a slice are shown: the middle one, and one the blend is right for
LEAST_MB = 0.1  # of memory: less is not told
TIMED = 15  # requests

Labels = Mapping[str, pl.DataFrame]  # users by slice, one frame a profile column


@dataclass(frozen=True)
class Details:
    """Figures by slice, band, pair and epoch, and the lists of some users."""

    slices: pl.DataFrame  # by, slice, source, metric, k, mean, low, high, users
    popularity: pl.DataFrame  # source, band, places
    overlap: pl.DataFrame  # a, b, rbo, users
    curves: pl.DataFrame  # source, epoch, loss, validation
    examples: pl.DataFrame  # EXAMPLES


def labels(profiles: pl.DataFrame, columns: Sequence[str]) -> Labels:
    """Label users by columns of their profiles; raises ContractError for a column that is not there."""
    for column in columns:
        if column not in profiles.columns:
            owned = f"attribute_{column}"  # what a source of users brought under this name
            near = nearest(owned if owned in profiles.columns else column, profiles.columns)
            raise ContractError(f"evaluation: slices: {column!r} is no column of the user profiles{near}")
    return {c: slices.without_rare(slices.by_column(profiles, c)) for c in columns}


def details(
    trials: Sequence[Trial],
    rankings: Sequence[Mapping[str, Ranked]],
    catalogue: Catalogue,
    config: EvaluationConfig,
    columns: Labels,
) -> Details:
    """Look closer at the rankings that were measured, one mapping a trial."""
    metric, k = config.headline
    cuts: dict[str, list[tuple[Any, Mapping[str, pl.DataFrame]]]] = {}
    places, pairs = [], []
    for trial, by_source in zip(trials, rankings, strict=True):
        lists = trial.lists(by_source, catalogue.items, k)
        known = context(trial.split, catalogue)
        found = measure(lists, trial.split.truth, [metric], [k], known)
        activity = slices.by_activity(trial.split.train, pl.Series(trial.split.users))
        truth = trial.split.truth
        of_items = slices.of_items(lists, truth, slices.by_popularity(known), [metric], [k], known)
        of_users = {
            by: slices.parts(found, told, "user_id") for by, told in {"activity": activity, **columns}.items()
        }
        for by, cut in {"activity": of_users.pop("activity"), "items": of_items, **of_users}.items():
            cuts.setdefault(by, []).append((trial.split, cut))
        chosen = truth.select(pl.lit(CHOSEN).alias("source"), "item_id", rank=pl.lit(1))
        places += [places_by_band(lists, k, known), places_by_band(chosen, k, known)]
        pairs.append(_overlaps(lists, k))
    summed = pl.concat(places).group_by("source", "band", maintain_order=True).agg(pl.col("places").sum())
    alike = pl.concat(pairs).group_by("a", "b", maintain_order=True)
    return Details(
        pl.concat(_summary(by, cut) for by, cut in cuts.items()),
        summed,
        alike.agg(rbo=pl.col("value").mean(), users=pl.len()),
        curves(trials[-1]),
        _examples(trials[-1], lists, activity, found.filter(source="blend")),
    )


def _summary(by: str, cuts: Sequence[tuple[Any, Mapping[str, pl.DataFrame]]]) -> pl.DataFrame:
    """Summarise METRICS by slice over all splits."""
    names = sorted({name for _, cut in cuts for name in cut})
    pooled = {name: pool([(split, cut[name]) for split, cut in cuts if name in cut]) for name in names}
    return pl.concat(
        summarise(metrics).select(pl.lit(by).alias("by"), pl.lit(name).alias("slice"), pl.all())
        for name, metrics in pooled.items()
    )


def _overlaps(lists: pl.DataFrame, k: int) -> pl.DataFrame:
    """Return how alike the lists of every two sources are, by user: a, b, user_id, value."""
    users = lists["user_id"].unique().sort()
    some = lists.join(users.gather_every(-(-len(users) // ALIKE)).to_frame(), on="user_id", how="semi")
    sources = some["source"].unique().sort().to_list()
    return pl.concat(
        [
            pl.DataFrame(schema={"a": pl.String, "b": pl.String, "user_id": pl.String, "value": pl.Float64}),
            *(
                overlap(some, a, b, [k]).select(
                    pl.lit(a).alias("a"), pl.lit(b).alias("b"), "user_id", "value"
                )
                for a, b in combinations(sources, 2)
            ),
        ]
    )


def curves(trial: Trial) -> pl.DataFrame:
    """Return source, epoch, loss, validation of what learned by epochs."""
    types = {"source": pl.String, "epoch": pl.Int64, "loss": pl.Float64, "validation": pl.Float64}
    rows = [{"source": name, **epoch} for name, cost in trial.costs.items() for epoch in cost.epochs]
    return pl.DataFrame(rows, schema=types)


def _examples(trial: Trial, lists: pl.DataFrame, activity: pl.DataFrame, blend: pl.DataFrame) -> pl.DataFrame:
    """Return EXAMPLES: of each slice the users at PICKS, counted by what the blend is worth to them."""
    cut = slices.parts(blend.sort("value", "user_id"), activity, "user_id")
    picked = [(name, len(of), of["user_id"]) for name, of in cut.items()]
    chosen = [(name, ids[int(share * (n - 1))]) for name, n, ids in picked for share in PICKS]
    who = pl.DataFrame(list(dict.fromkeys(chosen)), schema=["slice", "user_id"], orient="row")
    past = trial.split.histories.filter(pl.col("weight") > 0).sort("timestamp", descending=True)
    deepest = int(lists["rank"].max() or 0)  # type: ignore[arg-type]
    parts = {
        "history": past.unique(["user_id", "item_id"], keep="first", maintain_order=True),
        "truth": trial.split.truth.sort("weight", descending=True, maintain_order=True),
    }
    ranked = [
        frame.select(
            "user_id", "item_id", kind=pl.lit(kind), source=pl.lit(None, pl.String),
            rank=pl.int_range(1, pl.len() + 1).over("user_id"),
        ).filter(pl.col("rank") <= deepest)
        for kind, frame in parts.items()
    ]  # fmt: skip
    ranked.append(lists.select("user_id", "item_id", "source", rank="rank", kind=pl.lit("list")))
    right = trial.split.truth.select("user_id", "item_id", right=pl.lit(True))
    found = who.join(pl.concat(ranked, how="diagonal_relaxed"), on="user_id", maintain_order="left_right")
    return EXAMPLES.conform(
        found.join(right, on=["user_id", "item_id"], how="left", maintain_order="left").with_columns(
            pl.col("right").fill_null(False)
        )
    )


def costs(trials: Sequence[Trial], release: Release, k: int) -> list[dict[str, Any]]:
    """Return source, fit_s, fit_mb, request_ms, size_mb of each source and, over its parts, of the blend.

    A fit's time is the mean over the trials that could make it, its memory the most. A request is the median
    of a few, one query each, asked of the fits of the last trial: `release` holds those the blend uses.
    """
    last = trials[-1]
    ask = last.queries
    some = [ask.part(n, n + 1) for n in range(0, len(ask), -(-len(ask) // TIMED))]

    def row(source: str, names: Sequence[str], seconds: list[float]) -> dict[str, Any]:
        fits = [[cost.seconds for t in trials if (cost := t.costs.get(n))] for n in names]
        known = [[s for s in of if s is not None] for of in fits]
        peaks = [m for t in trials for n in names if (c := t.costs.get(n)) and (m := c.memory) is not None]
        return {
            "source": source,
            "fit_s": sum(sum(of) / len(of) for of in known) if all(known) else None,
            "fit_mb": max(LEAST_MB, max(peaks) / 1e6) if peaks else None,
            "request_ms": 1000 * float(np.median(seconds[1:] or seconds)),
            "size_mb": sum(last.costs[n].size for n in names) / 1e6,
        }

    found = []
    for name, recommender in last.recommenders.items():
        timed = [_seconds(lambda q, r=recommender: r.rank(q, k, release.catalogue), q) for q in some]
        found.append(row(name, [name], timed))
    timed = [_seconds(lambda q: release.recommend(q, k), q) for q in some]
    return [*found, row("blend", list(release.recommenders), timed)]


def _seconds(ask: Any, query: Any) -> float:
    begun = time.perf_counter()
    ask(query)
    return time.perf_counter() - begun
