"""What an evaluation found: the table for people and evaluation.json for machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from recsys.dataset import Catalogue
from recsys.evaluation import headline, measure_split, pool
from recsys.ranking import Ranked
from recsys.significance import Difference, compare, summarise
from serving.compare import compared, plain
from serving.details import Details
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
    reference: str | None  # the source that is a known answer
    verdict: list[str]  # on the best source against the next, in the words of `attune compare`

    def json(self, closer: Details) -> bytes:
        """Return evaluation.json. A source that could not be fitted is a row of nulls with its reason."""
        rows = self.table.to_dicts()
        for source, reason in self.reasons.items():
            empty = {"mean": None, "low": None, "high": None, "users": 0, "reason": reason}
            rows += [{"source": source, "metric": m, "k": k, **empty} for m, k in _cells(self.table)]
        found = {
            "split": self.split,
            "weights": self.weights,
            "reference": self.reference,
            "results": rows,
            "comparisons": self.comparisons,
            "verdict": self.verdict,
            "slices": closer.slices.to_dicts(),
            "popularity": closer.popularity.to_dicts(),
            "overlap": closer.overlap.to_dicts(),
            "curves": closer.curves.to_dicts(),
        }
        return json.dumps(plain(found), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


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
    metrics = pool(
        [
            (
                trial.split,
                measure_split(
                    trial.lists(by_source, catalogue.items, max(config.ks)), trial.split, catalogue, config
                ),
            )
            for trial, by_source in zip(trials, rankings, strict=True)
        ]
    )
    reasons = {n: why for trial in trials for n, why in trial.reasons.items()}
    silent = {s for by_source in rankings for s in by_source} - set(metrics["source"])
    reasons |= dict.fromkeys(sorted(silent), "it lists nothing for any of these users")
    split, table = _describe(trials, settings), summarise(metrics)
    reference = None if config.reference is None else Path(config.reference).stem
    metric, k = config.headline
    best = table.filter(pl.col("source") != (reference or ""), metric=metric, k=k)
    first, second = [*best.sort("mean", "source", descending=[True, False])["source"], None, None][:2]
    verdict = compared(metrics, split, first, second, metric, k)["verdict"] if second else []
    comparisons = _compare(metrics, settings)
    return Results(split, metrics, table, comparisons, reasons, weights, reference, verdict)


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
    """Compare the blend and every source pair by pair by the headline metric."""
    metric, k = settings.evaluation.headline
    per_user = metrics.filter(pl.col("user_id").is_not_null())
    sources = per_user["source"].unique(maintain_order=True).sort().to_list()
    found = []
    for i, a in enumerate(sources):
        for b in sources[i + 1 :]:
            d: Difference = compare(metrics, a, b, metric, k)
            row = {"a": a, "b": b, "metric": metric, "k": k, "difference": d.mean}
            found.append(row | {"low": d.low, "high": d.high, "significant": d.significant})
    return found


def told_by(found: Mapping[str, Any]) -> tuple[str, int]:
    """Return the metric and list length that evaluation.json compares its sources by."""
    per_user = {row["metric"] for row in found["results"] if row["users"]}
    return headline(per_user, {row["k"] for row in found["results"]})


SHOWN = ("ndcg", "recall", "hit_rate", "coverage", "novelty")


def draw(found: Mapping[str, Any], title: str) -> Table:
    """Draw evaluation.json as a table: one row a source, the best NDCG first."""
    rows = found["results"]
    first, k = told_by(found)
    value = {(r["source"], r["metric"]): r for r in rows if r["k"] == k}
    others = [m for m in SHOWN if m != first and any(m == metric for _, metric in value)]
    best = value[found["reference"], first]["mean"] if found["reference"] else None
    caption = "\n".join(notes(found))
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("source", no_wrap=True)
    nearness = [f"of {found['reference']}"] if best else []
    for name in (f"{first}@{k}", "95 % interval", *nearness, *(f"{m}@{k}" for m in others), "weight"):
        table.add_column(name, justify="right")
    for source in sorted({r["source"] for r in rows}, key=lambda s: (-(value[s, first]["mean"] or 0.0), s)):
        lead = value[source, first]
        if lead["mean"] is None:
            table.add_row(source, *["–"] * (len(table.columns) - 1))
            continue
        span = "" if lead["low"] is None else f"{lead['low']:.4f} … {lead['high']:.4f}"
        cells = [f"{lead['mean'] / best:.0%}"] if best else []
        cells += [f"{value[source, m]['mean']:.4f}" for m in others]
        weight = found["weights"].get(source)
        shown = "" if weight is None else f"{weight:.2f}"
        table.add_row(source, f"{lead['mean']:.4f}", span, *cells, shown)
    return table


def notes(found: Mapping[str, Any]) -> list[str]:
    """Say, a line each, what was asked, what was left out, and what could not be measured."""
    split = found["split"]
    lines = [
        f"{split['protocol']} split, {split['users']:,} users asked; {split['cold_users']:,} without a past "
        "left out",
        f"left out of the truth: {split['seen_pairs']:,} pairs seen before, "
        f"{split['unavailable_pairs']:,} of items not yet there",
        f"out of reach of collaborative recommenders: {split['unreachable_share']:.1%} of the new pairs",
    ]
    if split["leaks"]:
        lines.append(f"this protocol leaks: {split['leaks']}")
    reasons = {r["source"]: r["reason"] for r in found["results"] if r.get("reason")}
    return lines + [f"{source}: {reason}" for source, reason in sorted(reasons.items())]
