"""Charts of an evaluation: a frame in, an altair chart out. None holds more than a few hundred rows.

The blend is a diamond and vermilion, a known answer (`reference`) a square and green, all else blue: colour
never tells alone. Intervals are drawn wherever the frame has them.
"""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

import polars as pl

from profiles.charts import BLUE, GREEN, INK, ORANGE, PALETTE, VERMILION, WIDTH, Chart, drawing, styled
from recsys.metrics.bands import BANDS

STEP = 22  # pixels a row
NEAR, APART = 0.35, 0.065  # of a plot: labels closer than this in x must be so far apart in y
ROLES = ("source", "blend", "reference")
SHADES = (
    "#08519C",
    "#2F7FBC",
    "#6AAED6",
    "#A9D3EE",
    "#DCEBF5",
    ORANGE,
)  # of BANDS, "new" in a colour of its own


def ranking(table: pl.DataFrame, title: str, reference: str | None = None) -> Chart:
    """Draw source, mean, low, high as points with intervals, the highest first; null means are left out."""
    alt = drawing()
    rows = _roles(table.drop_nulls("mean"), reference).sort("mean", descending=True)
    y = alt.Y("source:N", sort=rows["source"].to_list(), title=None)
    base = alt.Chart(_data(alt, rows)).encode(y)
    color, shape = _looks(alt)
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(alt.X("low:Q", title=title), alt.X2("high:Q"), color),
        base.mark_point(size=70, filled=True, opacity=1).encode(alt.X("mean:Q", title=title), color, shape),
    )
    return styled(chart.properties(width=WIDTH, height=alt.Step(STEP)))


def trade_off(frame: pl.DataFrame, x: str, y: str, log: bool = False, reference: str | None = None) -> Chart:
    """Draw source, x, y as named points under the axis titles `x` and `y`; nulls are left out.

    With `log` x is on a logarithmic axis, and what is not above 0 is left out too.
    """
    alt = drawing()
    rows = _roles(frame.drop_nulls(["x", "y"]), reference)
    rows = _labelled(rows.filter(pl.col("x") > 0) if log else rows, log)
    axis = alt.X("x:Q", title=x).scale(zero=False)
    if log:
        marks = tens(rows["x"].to_list())
        axis = (
            alt.X("x:Q", title=x)
            .scale(type="log", domain=[marks[0], marks[-1]])
            .axis(values=marks, format="~g")
        )
    base = alt.Chart(_data(alt, rows)).encode(axis)
    color, shape = _looks(alt)
    heights = {"scale": alt.Scale(zero=False), "title": y}
    layers = [base.mark_point(size=70, filled=True, opacity=1).encode(alt.Y("y:Q", **heights), color, shape)]
    for side, dx in (("left", 8), ("right", -8)):
        text = base.transform_filter(alt.datum.side == side).mark_text(align=side, dx=dx, color=INK)
        layers.append(text.encode(alt.Y("label:Q", **heights), text="source:N"))
    return styled(alt.layer(*layers).properties(width=WIDTH, height=240))


def slice_bars(table: pl.DataFrame, title: str, reference: str | None = None) -> Chart:
    """Draw slice, source, mean, low, high, users as bars with intervals, a panel a slice, in given order."""
    alt = drawing()
    rows = _roles(table, reference).with_columns(
        panel=pl.format("{}, {} user{}", "slice", "users", pl.when(pl.col("users") == 1).then(pl.lit(""))
                        .otherwise(pl.lit("s")))
    )  # fmt: skip
    panels = rows["panel"].unique(maintain_order=True).to_list()
    sources = rows["source"].unique(maintain_order=True).to_list()
    base = alt.Chart().encode(alt.Y("source:N", sort=sources, title=None))
    color, _ = _looks(alt)
    layer = alt.layer(
        base.mark_bar(opacity=0.85).encode(alt.X("mean:Q", title=title), color),
        base.mark_rule(color=INK, strokeWidth=1.5).encode(alt.X("low:Q", title=title), alt.X2("high:Q")),
    ).properties(width=WIDTH, height=alt.Step(18))
    row = alt.Row("panel:N", sort=panels, title=None).header(labelAnchor="start", labelOrient="top")
    return styled(layer.facet(data=_data(alt, rows.drop("slice")), row=row, spacing=14))


def curves(frame: pl.DataFrame) -> Chart:
    """Draw source, epoch, loss, validation: a panel a source and what was told of it, each its own scale."""
    alt = drawing()
    panels = []
    for (source,), rows in frame.partition_by("source", as_dict=True, maintain_order=True).items():
        told = {c: color for c, color in (("loss", BLUE), ("validation", VERMILION)) if rows[c].count()}
        charts = [
            alt.Chart(_data(alt, rows.select("epoch", column).drop_nulls()))
            .mark_line(color=color, point={"color": color, "filled": True})
            .encode(
                alt.X("epoch:Q", title="epoch").axis(values=_few(rows["epoch"].to_list()), format="d"),
                alt.Y(f"{column}:Q", title=f"{source}: {column}").scale(zero=False),
            )
            .properties(width=(WIDTH - 70) / 2 if len(told) > 1 else WIDTH, height=130)
            for column, color in told.items()
        ]
        panels.append(alt.hconcat(*charts, spacing=20))
    return styled(alt.vconcat(*panels))


def popularity(frame: pl.DataFrame, order: Sequence[str]) -> Chart:
    """Draw source, band, places as shares of each source's places, the sources in `order`."""
    alt = drawing()
    share = pl.col("places") / pl.col("places").sum().over("source")
    rows = frame.with_columns(share=share.fill_nan(0.0)).filter(pl.col("share") > 0)
    numbered = rows.with_columns(n=pl.col("band").replace_strict(dict(zip(BANDS, range(6), strict=True))))
    color = alt.Color("band:N", sort=list(BANDS), title=None)
    chart = (
        alt.Chart(_data(alt, numbered))
        .mark_bar(stroke=INK, strokeWidth=0.4)
        .encode(
            alt.X("share:Q", title="share of the places recommended").axis(format="%").scale(domain=[0, 1]),
            alt.Y("source:N", sort=list(order), title=None),
            color.scale(domain=list(BANDS), range=list(SHADES)).legend(orient="bottom", columns=3),
            order="n:O",
        )
        .properties(width=WIDTH, height=alt.Step(STEP))
    )
    return styled(chart)


def overlap(frame: pl.DataFrame, order: Sequence[str]) -> Chart:
    """Draw a, b, rbo as a square of shades with figures, both ways round, the sources in `order`."""
    alt = drawing()
    ways = pl.concat([frame.select("a", "b", "rbo"), frame.select(a="b", b="a", rbo="rbo")])
    base = alt.Chart(_data(alt, ways)).encode(
        alt.X("a:N", sort=list(order), title=None).axis(labelAngle=-45, orient="top"),
        alt.Y("b:N", sort=list(order), title=None),
    )
    shade = alt.Color("rbo:Q", legend=None).scale(domain=[0, 1], range=["#F2F7FB", "#08519C"])
    dark = alt.condition(alt.datum.rbo > 0.5, alt.value("#FFFFFF"), alt.value("#111111"))
    chart = alt.layer(
        base.mark_rect().encode(shade),
        base.mark_text(fontSize=11).encode(text=alt.Text("rbo:Q", format=".2f"), color=dark),
    )
    return styled(chart.properties(width=alt.Step(36), height=alt.Step(26)))


def parts(frame: pl.DataFrame, title: str) -> Chart:
    """Draw label, source, contribution as stacked bars, the labels in given order: what makes up a score."""
    alt = drawing()
    labels = frame["label"].unique(maintain_order=True).to_list()
    sources = frame["source"].unique(maintain_order=True).to_list()
    shades = [PALETTE[n % len(PALETTE)] for n in range(len(sources))]
    color = alt.Color("source:N", sort=sources, title=None).scale(domain=sources, range=shades)
    chart = (
        alt.Chart(_data(alt, frame))
        .mark_bar(stroke=INK, strokeWidth=0.4)
        .encode(
            alt.X("contribution:Q", title=title),
            alt.Y("label:N", sort=labels, title=None),
            color.legend(orient="bottom", columns=3),
        )
        .properties(width=WIDTH, height=alt.Step(STEP))
    )
    return styled(chart)


def bars(frame: pl.DataFrame, title: str) -> Chart:
    """Draw label, value as bars, the largest first."""
    alt = drawing()
    rows = frame.sort("value", descending=True, maintain_order=True)
    base = alt.Chart(_data(alt, rows)).mark_bar(color=BLUE)
    chart = base.encode(
        alt.X("value:Q", title=title), alt.Y("label:N", sort=rows["label"].to_list(), title=None)
    )
    return styled(chart.properties(width=WIDTH, height=alt.Step(STEP)))


def difference(table: pl.DataFrame, title: str) -> Chart:
    """Draw label, mean, low, high of differences as points with intervals around a line at 0."""
    alt = drawing()
    labels = table["label"].to_list()
    base = alt.Chart(_data(alt, table)).encode(alt.Y("label:N", sort=labels, title=None))
    chart = alt.layer(
        alt.Chart(_data(alt, pl.DataFrame({"x": [0.0]}))).mark_rule(color=INK).encode(alt.X("x:Q")),
        base.mark_rule(strokeWidth=2, color=BLUE).encode(alt.X("low:Q", title=title), alt.X2("high:Q")),
        base.mark_point(size=70, filled=True, opacity=1, color=BLUE).encode(alt.X("mean:Q", title=title)),
    )
    return styled(chart.properties(width=WIDTH, height=alt.Step(STEP)))


def _roles(frame: pl.DataFrame, reference: str | None) -> pl.DataFrame:
    source = pl.col("source")
    role = pl.when(source == "blend").then(pl.lit("blend")).otherwise(pl.lit("source"))
    if reference is not None:
        role = pl.when(source == reference).then(pl.lit("reference")).otherwise(role)
    return frame.with_columns(role=role)


def _looks(alt: Any) -> tuple[Any, Any]:
    """Return colour and shape by role."""
    color = alt.Color("role:N", legend=None).scale(domain=ROLES, range=[BLUE, VERMILION, GREEN])
    shape = alt.Shape("role:N", legend=None).scale(domain=ROLES, range=["circle", "diamond", "square"])
    return color, shape


def _labelled(rows: pl.DataFrame, log: bool) -> pl.DataFrame:
    """Add where each name stands: `side` it grows from, and a height `label` at which none hides another."""
    x, y = (rows["x"].log() if log else rows["x"]).to_list(), rows["y"].to_list()
    wide, high = (max(v, default=0) - min(v, default=0) or 1.0 for v in (x, y))
    placed: list[tuple[float, float]] = []
    label = [0.0] * len(y)
    for n in sorted(range(len(y)), key=lambda n: (y[n], x[n])):
        near = [height for at, height in placed if abs(at - x[n]) < NEAR * wide]
        label[n] = max([y[n], *(height + APART * high for height in near)])
        placed.append((x[n], label[n]))
    middle = min(x, default=0) + 0.6 * wide
    sides = ["left" if at < middle else "right" for at in x]
    return rows.with_columns(label=pl.Series(label, dtype=pl.Float64), side=pl.Series(sides, dtype=pl.String))


def tens(values: Sequence[float]) -> list[float]:
    """Return the powers of ten from below the least value to above the largest; two at least."""
    low, high = floor(log10(min(values, default=1.0))), ceil(log10(max(values, default=1.0)))
    return [10.0**n for n in range(low, max(high, low + 1) + 1)]


def _few(epochs: Sequence[int]) -> list[int]:
    """Return a handful of the epochs, the first among them, for an axis."""
    return list(epochs[:: max(1, len(epochs) // 5)])


def _data(alt: Any, frame: pl.DataFrame) -> Any:
    return alt.Data(values=frame.to_dicts())
