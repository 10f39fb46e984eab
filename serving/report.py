"""What an evaluation found: the table for people and evaluation.json for machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.table import Table

from recsys.dataset import Catalogue
from recsys.evaluation import measure_split, pool
from recsys.ranking import Ranked
from recsys.recommender import as_frame
from recsys.significance import Difference, compare, summarise
from serving.settings import Settings
from serving.trial import Trial


@dataclass(frozen=True)
class Results:
    """Every figure of one evaluation."""

    split: dict[str, Any]
    metrics: pl.DataFrame  # METRICS and `cluster`
    table: pl.DataFrame  # source, metric, k, mean, low, high, users
    comparisons: list[dict[str, Any]]
    reasons: Mapping[str, str]
    weights: Mapping[str, float]

    def json(self) -> bytes:
        """Return evaluation.json. A source that could not be fitted is a row of nulls with its reason."""
        rows = self.table.to_dicts()
        for source, reason in self.reasons.items():
            empty = {"mean": None, "low": None, "high": None, "users": 0, "reason": reason}
            rows += [{"source": source, "metric": m, "k": k, **empty} for m, k in _cells(self.table)]
        found = {
            "split": self.split,
            "weights": self.weights,
            "results": rows,
            "comparisons": self.comparisons,
        }
        return json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n"


def _cells(table: pl.DataFrame) -> list[tuple[str, int]]:
    return table.select("metric", "k").unique().sort("metric", "k").rows()


def results(
    trials: Sequence[Trial],
    rankings: Sequence[Mapping[str, Ranked]],
    catalogue: Catalogue,
    settings: Settings,
    weights: Mapping[str, float],
) -> Results:
    """Measure rankings by source, one mapping a trial, over the same queries; pool the trials."""
    config = settings.evaluation
    deepest = max(config.ks)
    pooled = []
    for trial, by_source in zip(trials, rankings, strict=True):
        frames = [
            as_frame(
                Ranked(r.rows[:, :deepest], r.scores[:, :deepest]), trial.queries.ids, catalogue.items, s
            )
            for s, r in by_source.items()
        ]
        pooled.append((trial.split, measure_split(pl.concat(frames), trial.split, catalogue, config)))
    metrics = pool(pooled)
    reasons = {n: why for trial in trials for n, why in trial.reasons.items()}
    silent = {s for by_source in rankings for s in by_source} - set(metrics["source"])
    reasons |= dict.fromkeys(sorted(silent), "it lists nothing for any of these users")
    return Results(
        _describe(trials, settings),
        metrics,
        summarise(metrics),
        _compare(metrics, settings),
        reasons,
        weights,
    )


def _describe(trials: Sequence[Trial], settings: Settings) -> dict[str, Any]:
    """Say how the log was cut, and what left the truth."""
    total = {name: sum(t.split.counts[name] for t in trials) for name in trials[0].split.counts}
    return {
        "protocol": settings.evaluation.split,
        "at": [t.split.at.isoformat() for t in trials],
        "leaks": trials[0].split.leaks,
        **total,
        "unreachable_share": total["unreachable_pairs"] / max(total["pairs"], 1),
    }


def _compare(metrics: pl.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Compare the blend and every source pair by pair on NDCG (or the first metric per user)."""
    per_user = metrics.filter(pl.col("user_id").is_not_null())
    metric = "ndcg" if "ndcg" in settings.evaluation.metrics else str(per_user["metric"][0])
    k = 10 if 10 in settings.evaluation.ks else max(settings.evaluation.ks)
    sources = per_user["source"].unique(maintain_order=True).sort().to_list()
    found = []
    for i, a in enumerate(sources):
        for b in sources[i + 1 :]:
            d: Difference = compare(metrics, a, b, metric, k)
            row = {"a": a, "b": b, "metric": metric, "k": k, "difference": d.mean}
            found.append(row | {"low": d.low, "high": d.high, "significant": d.significant})
    return found


def draw(found: Mapping[str, Any], title: str) -> Table:
    """Draw evaluation.json as a table: one row a source, the best NDCG first."""
    rows = found["results"]
    ks = sorted({row["k"] for row in rows})
    k = 10 if 10 in ks else ks[-1]
    value = {(r["source"], r["metric"]): r for r in rows if r["k"] == k}
    metrics = [
        m
        for m in ("ndcg", "recall", "hit_rate", "mrr", "coverage", "novelty")
        if any(m == key[1] for key in value)
    ]
    table = Table(title=title, title_justify="left", caption=_caption(found), caption_justify="left")
    table.add_column("source")
    for metric in metrics:
        table.add_column(f"{metric}@{k}", justify="right")
    table.add_column("95 % interval of " + metrics[0], justify="right")
    table.add_column("weight", justify="right")
    first = metrics[0]
    order = sorted({r["source"] for r in rows}, key=lambda s: (-(value[s, first]["mean"] or 0.0), s))
    for source in order:
        lead = value[source, first]
        if lead["mean"] is None:
            table.add_row(source, *["–"] * (len(metrics) - 1), "–", lead.get("reason", ""), "–")
            continue
        cells = [f"{value[source, m]['mean']:.4f}" for m in metrics]
        span = "" if lead["low"] is None else f"{lead['low']:.4f} … {lead['high']:.4f}"
        weight = found["weights"].get(source)
        table.add_row(source, *cells, span, "" if weight is None else f"{weight:.2f}")
    return table


def _caption(found: Mapping[str, Any]) -> str:
    split = found["split"]
    parts = [
        f"{split['protocol']} split, {split['users']:,} users asked",
        f"{split['cold_users']:,} without a past left out",
        f"{split['seen_pairs']:,} seen pairs, {split['unavailable_pairs']:,} of items not yet there left out",
        f"{split['unreachable_share']:.1%} of new pairs out of collaborative reach",
    ]
    leaks = f"\nThis protocol leaks: {split['leaks']}." if split["leaks"] else ""
    return "; ".join(parts) + leaks
