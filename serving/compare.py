"""Two sources of the last evaluation side by side: a verdict to decide by, and the figures behind it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

import polars as pl

from profiles.schema import ContractError
from recsys.comparison import Comparison, holm, judge
from recsys.evaluation import headline
from recsys.metrics import ACCURACY
from serving.mistakes import nearest
from serving.workspace import Workspace

ALPHA = 0.05
SIZES = ((0.2, "very small"), (0.5, "small"), (0.8, "middling"))  # of an effect; above: large


def compare(workspace: Workspace, a: str, b: str, metric: str | None, k: int | None) -> dict[str, Any]:
    """Compare two sources of the last evaluation, as `compared`; raises ContractError where there is none."""
    folder = workspace.folder
    if not (folder / "metrics.parquet").is_file() or not (folder / "evaluation.json").is_file():
        raise ContractError("nothing is evaluated yet; run `attune evaluate`")
    about = json.loads((folder / "evaluation.json").read_bytes())
    return compared(pl.read_parquet(folder / "metrics.parquet"), about["split"], a, b, metric, k)


def compared(
    metrics: pl.DataFrame, split: Mapping[str, Any], a: str, b: str, metric: str | None, k: int | None
) -> dict[str, Any]:
    """Compare two sources of METRICS by every metric per user; `metric` at `k` decides.

    Holm's correction is over all metrics at that k. Raises ContractError for a source, metric or k that was
    not evaluated, and for a source compared with itself.
    """
    metrics = metrics.filter(pl.col("user_id").is_not_null())
    known = metrics["source"].unique().sort().to_list()
    for source in (a, b):
        if source not in known:
            raise ContractError(f"no source {source!r} was evaluated{nearest(source, known)}")
    if a == b:
        raise ContractError(f"{a!r} is compared with itself; there are {', '.join(known)}")
    names = metrics["metric"].unique().sort().to_list()
    depths = metrics["k"].unique().sort().to_list()
    first, usual = headline(names, depths)
    metric, k = metric or first, usual if k is None else k
    if metric not in names:
        raise ContractError(f"metric {metric!r} was not evaluated per user{nearest(metric, names)}")
    if k not in depths:
        raise ContractError(f"k = {k} was not evaluated; there are {', '.join(map(str, depths))}")
    found = {name: judge(metrics, a, b, name, k) for name in names}
    corrected = dict(zip(names, holm([c.p for c in found.values()]), strict=True))
    lead = found[metric]
    return {
        "a": a,
        "b": b,
        "metric": metric,
        "k": k,
        "verdict": verdict(a, b, metric, k, lead, corrected[metric], len(names), split),
        "metrics": {name: plain(asdict(c) | {"holm": corrected[name]}) for name, c in found.items()},
    }


def verdict(
    a: str, b: str, metric: str, k: int, found: Comparison, p: float, tests: int, split: Mapping[str, Any]
) -> list[str]:
    """Say in plain lines which is better, by how much, how sure that is, and what else to know."""
    what, gain = f"{metric}@{k}", found.difference
    sure = gain.significant and p <= ALPHA
    first, second = (a, b) if gain.mean >= 0 else (b, a)
    accurate = metric in {one.name for one in ACCURACY}
    higher = "is better than" if accurate else f"has a higher {metric} than"
    if found.users < 2:
        head = f"One user says nothing: {a} and {b} cannot be told apart."
    elif sure:
        head = f"{first} {higher} {second}."
    else:
        head = f"No difference is shown between {a} and {b}."
    share = f" ({gain.mean / found.b:+.1%})" if found.b else ""
    lines = [
        head,
        f"{what} over {found.users:,} users: {a} {found.a:.4f}, {b} {found.b:.4f}, "
        f"difference {gain.mean:+.4f}{share}.",
    ]
    if found.users > 1:
        tested = f", corrected for {tests} metrics" if tests > 1 else ""
        same = found.users - found.better - found.worse
        lines += [
            f"With 95 % confidence the difference lies between {gain.low:+.4f} and {gain.high:+.4f}; "
            f"chance alone would part them so far {_often(p)}{tested}.",
            f"{a} is higher for {found.better:,} users, {b} for {found.worse:,}, equal for {same:,}; "
            f"the effect is {_size(found.effect)} (d = {found.effect:.2f}).",
            f"These users would have shown a difference of {found.detectable:.4f} or more in 4 of 5 tests"
            + ("." if sure else "; a smaller one may be there: more users, or a longer test, would tell."),
        ]
    if split["leaks"]:
        lines.append(f"Caution: the {split['protocol']} split leaks: {split['leaks']}.")
    return lines


def plain(value: Any) -> Any:
    """Return what JSON can say: a number that is none, or has no end, is null."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _often(p: float) -> str:
    return f"in {p:.0%} of cases" if p >= 0.01 else "in less than 1 % of cases"


def _size(effect: float) -> str:
    return next((name for bound, name in SIZES if abs(effect) < bound), "large")


def lines(found: dict[str, Any]) -> str:
    """Return the verdict and, below it, one line a metric."""
    rows = [("metric", found["a"], found["b"], "difference", "95 % interval", "p (Holm)")]
    for name, of in found["metrics"].items():
        d = of["difference"]
        lone = d["low"] is None
        span = "–" if lone else f"{d['low']:+.4f} … {d['high']:+.4f}"
        means = (f"{of['a']:.4f}", f"{of['b']:.4f}", f"{d['mean']:+.4f}")
        rows.append((f"{name}@{found['k']}", *means, span, "–" if lone else f"{of['holm']:.4f}"))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    table = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([*found["verdict"], "", *table])
