"""The figures of a report: each a chart, what it says in words, and the table with its numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from profiles.charts import Chart
from profiles.display import NONE
from recsys import plots
from recsys.metrics.bands import BANDS
from recsys.metrics.slices import COLD, HEAVY
from serving.details import CHOSEN
from serving.report import told_by

BESIDE = {  # metrics that accuracy is held against, and what more of them means
    "diversity": "how different the items of a list are",
    "coverage": "how much of the catalogue the lists show",
    "novelty": "how little known what they show is",
    "tail_share": "how much of the lists is outside the short head",
}
SUM = "The blend's is the sum of its sources' and the fallback's."
PRICES = {
    "fit_s": ("seconds to fit", f"By the clock of the machine that evaluated. {SUM}"),
    "fit_mb": (
        "megabytes to fit",
        "The most that fitting took beyond what the process held, 0.1 at least. The blend's is its largest.",
    ),
    "request_ms": ("milliseconds a request", "One user at a time, the median of a few."),
    "size_mb": ("megabytes fitted", f"What is kept of a fit. {SUM}"),
}
ORDER = ("cold", "warm", "heavy", "new", "tail", "head")
SLICES = {
    "activity": f"Users are cold with fewer than {COLD} interactions before the cut, heavy from {HEAVY}.",
    "items": "Only the true items of a kind are asked for: new ones nobody had before the cut, head ones are "
    "the fewest that hold 80 % of what was done, tail ones the others.",
}
BARS, FEW = 8, 4  # sources drawn in a panel, and where there are more than FEW panels


@dataclass(frozen=True)
class Figure:
    """One chart with what it shows."""

    title: str
    words: str  # how to read it
    alt: str  # what one would see
    draw: Callable[[], Chart]
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: bool = True  # whether the table is shown on demand only


def figures(found: Mapping[str, Any], costs: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Return the figures of evaluation.json and costs.json by name, in the order they are read."""
    return dict(_all(found, pl.DataFrame(costs, infer_schema_length=None)))


def order(found: Mapping[str, Any]) -> list[str]:
    """Return the sources that were measured, the best first."""
    return _lead(found).sort("mean", "source", descending=[True, False])["source"].to_list()


def _lead(found: Mapping[str, Any]) -> pl.DataFrame:
    metric, k = told_by(found)
    return pl.DataFrame(found["results"], infer_schema_length=None).filter(
        pl.col("mean").is_not_null(), metric=metric, k=k
    )


def _all(found: Mapping[str, Any], costs: pl.DataFrame) -> Iterator[tuple[str, Figure]]:
    what = "@".join(map(str, told_by(found)))
    yield "ranking", _ranking(found, what)
    yield from _trade_offs(found, what)
    yield from _costs(found, costs, what)
    yield from _slices(found, what)
    yield "popularity", _popularity(found)
    if found["curves"]:
        yield "curves", _curves(found)
    if found["overlap"]:
        yield "overlap", _overlap(found)


def _ranking(found: Mapping[str, Any], what: str) -> Figure:
    lead, names = _lead(found), order(found)
    k = told_by(found)[1]
    value = {(r["source"], r["metric"]): r["mean"] for r in found["results"] if r["k"] == k}
    others = [m for m in dict.fromkeys(r["metric"] for r in found["results"]) if m != told_by(found)[0]]
    mean = dict(lead.select("source", "mean").iter_rows())
    span = {s: _span(low, high) for s, low, high in lead.select("source", "low", "high").iter_rows()}
    behind = _behind(found, names)
    rows = [
        [
            s, _number(mean[s]), span[s], behind.get(s, NONE), *(_number(value[s, m]) for m in others),
            f"{found['weights'][s]:.2f}" if s in found["weights"] else "",
        ]
        for s in names
    ]  # fmt: skip
    best = next(s for s in names if s != found["reference"])
    words = (
        f"Mean {what} over users with its 95 % interval. Against {best}: the paired difference and its "
        "interval; one that excludes 0 is marked *. Weight: in the blend."
    )
    head = ["source", what, "95 % interval", f"against {best}", *(f"{m}@{k}" for m in others), "weight"]
    draw = partial(plots.ranking, lead, what, found["reference"])
    return Figure("Which source is right", words, _extremes(lead, what), draw, head, rows, False)


def _behind(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Return each source's difference from the best as text, by source."""
    best = next(s for s in names if s != found["reference"])
    told = {}
    for row in found["comparisons"]:
        if best not in (row["a"], row["b"]):
            continue
        ahead = row["a"] == best  # then the row says how much better it is, not how much worse the other is
        low, high = (row["high"], row["low"]) if ahead else (row["low"], row["high"])
        mean, low, high = (-v if ahead and v is not None else v for v in (row["difference"], low, high))
        star = " *" if row["significant"] else ""
        told[row["b"] if ahead else row["a"]] = f"{mean:+.4f} ({_span(low, high, '+')}){star}"
    return told


def _trade_offs(found: Mapping[str, Any], what: str) -> Iterator[tuple[str, Figure]]:
    k = told_by(found)[1]
    table = pl.DataFrame(found["results"], infer_schema_length=None).filter(k=k)
    for metric, meaning in BESIDE.items():
        other = table.filter(pl.col("mean").is_not_null(), metric=metric).select("source", x="mean")
        if other.is_empty():
            continue
        points = _lead(found).select("source", y="mean").join(other, on="source", maintain_order="left")
        rows = [[s, _number(y), _number(x)] for s, y, x in points.sort("y", descending=True).iter_rows()]
        name = f"{metric}@{k}"
        yield (
            metric,
            Figure(
                f"Accuracy against {metric.replace('_', ' ')}",
                f"{name}: {meaning}. Up and to the right is better on both counts.",
                _extremes(points.select("source", mean="x"), name),
                partial(plots.trade_off, points, name, what, reference=found["reference"]),
                ["source", what, name],
                rows,
            ),
        )


def _costs(found: Mapping[str, Any], costs: pl.DataFrame, what: str) -> Iterator[tuple[str, Figure]]:
    points = _lead(found).select("source", "mean").join(costs, on="source", maintain_order="left")
    for name, (title, how) in PRICES.items():
        if name not in points.columns or not points[name].count():
            continue
        rows = [
            [s, _number(y), NONE if x is None else f"{x:.3g}"]
            for s, y, x in points.select("source", "mean", name).sort("mean", descending=True).iter_rows()
        ]
        told = points.select("source", x=name, y="mean")
        yield (
            name,
            Figure(
                f"Accuracy against {title}",
                f"{how} Up and to the left is better; each line is ten times as much as the one before.",
                _extremes(told.select("source", mean="x").drop_nulls(), title),
                partial(plots.trade_off, told, title, what, log=True),
                ["source", what, title],
                rows,
            ),
        )


def _slices(found: Mapping[str, Any], what: str) -> Iterator[tuple[str, Figure]]:
    names, reference = order(found), found["reference"]
    alone = [s for s in names if s not in ("blend", reference)]
    table = pl.DataFrame(found["slices"], infer_schema_length=None)
    for (by,), rows in table.partition_by("by", as_dict=True, maintain_order=True).items():
        cuts = sorted(set(rows["slice"]), key=lambda s: (ORDER.index(s) if s in ORDER else len(ORDER), s))
        sized = rows.sort(
            pl.col("slice").replace_strict({s: n for n, s in enumerate(cuts)}),
            pl.col("source").replace_strict({s: n for n, s in enumerate(names)}, default=len(names)),
        )
        beside = alone[: (BARS if len(cuts) <= FEW else FEW) - 2]
        drawn = sized.filter(pl.col("source").is_in([*beside, "blend", reference or ""]))
        title = {"activity": "For whom: by activity", "items": "Of what: new, tail and head items"}
        words = SLICES.get(str(by), f"Users by {by}, as their profiles had it when the snapshot was built.")
        shown = sized.select("slice", "source", "users", "mean", "low", "high").iter_rows()
        blend = sized.filter(source="blend")
        alt = "; ".join(f"{s}: {m:.4f}" for s, m in blend.select("slice", "mean").iter_rows())
        yield (
            f"slices_{by}",
            Figure(
                title.get(str(by), f"For whom: by {by}"),
                f"{what} by slice. {words}",
                f"{what} of the blend, {alt}",
                partial(plots.slice_bars, drawn, what, reference),
                ["slice", "source", "users", what, "95 % interval"],
                [[cut, s, users, _number(mean), _span(*ends)] for cut, s, users, mean, *ends in shown],
            ),
        )


def _popularity(found: Mapping[str, Any]) -> Figure:
    table = pl.DataFrame(found["popularity"])
    names = [*order(found), CHOSEN]
    places = {(s, band): n for s, band, n in table.iter_rows()}
    whole = {s: sum(places.get((s, band), 0) for band in BANDS) for s in names}
    rows = [[s, *(_share(places.get((s, b), 0), whole[s]) for b in BANDS)] for s in names if whole[s]]
    return Figure(
        "How popular what is recommended is",
        "Items by how many users had them before the cut: the top 1 % of the items, the next 4 %, and so on; "
        "new items nobody had. The last row is what users went on to choose.",
        "; ".join(f"{row[0]}: {row[1]} of the places go to the top 1 %" for row in rows),
        partial(plots.popularity, table, names),
        ["source", *BANDS],
        rows,
    )


def _overlap(found: Mapping[str, Any]) -> Figure:
    table, k = pl.DataFrame(found["overlap"]), told_by(found)[1]
    pairs = table.sort("rbo", "a", "b", descending=[True, False, False])
    most, least = pairs.row(0, named=True), pairs.row(-1, named=True)
    return Figure(
        "How alike the lists are",
        f"Rank-biased overlap of the first {k} places: 1 for equal lists, 0 for lists without a common item. "
        "Sources that are right and unlike the others are worth blending.",
        f"most alike are {most['a']} and {most['b']}, {most['rbo']:.2f}; "
        f"least {least['a']} and {least['b']}, {least['rbo']:.2f}",
        partial(plots.overlap, table, order(found)),
        ["source", "other", "rbo", "users"],
        [[a, b, f"{rbo:.2f}", users] for a, b, rbo, users in pairs.iter_rows()],
    )


def _curves(found: Mapping[str, Any]) -> Figure:
    table = pl.DataFrame(found["curves"], infer_schema_length=None)
    last = table.group_by("source", maintain_order=True).agg(pl.len(), pl.col("loss").last())
    return Figure(
        "How they learned",
        "Mean loss of every epoch, and where part of train was held out to stop by, the NDCG@10 on it. "
        "A loss still falling at the end asks for more epochs.",
        "; ".join(f"{s}: {n} epochs, loss {loss:.4f} at the end" for s, n, loss in last.iter_rows()),
        partial(plots.curves, table),
        ["source", "epoch", "loss", "validation"],
        [[s, e, _number(loss), _number(value)] for s, e, loss, value in table.iter_rows()],
    )


def _extremes(points: pl.DataFrame, what: str) -> str:
    """Say in a sentence which source has the most and which the least."""
    told = points.sort("mean", descending=True)
    if told.is_empty():
        return f"{what} of no source"
    most, least = (
        f"{row['source']} {row['mean']:.4g}" for row in (told.rows(named=True)[n] for n in (0, -1))
    )
    return f"{what} of {len(told)} sources, from {most} to {least}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _span(low: float | None, high: float | None, sign: str = "") -> str:
    return NONE if low is None or high is None else f"{low:{sign}.4f} … {high:{sign}.4f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}"
