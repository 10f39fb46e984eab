"""The look of every chart, and charts of a log: colours that all eyes tell apart, on white and on black.

Charts need altair and, as SVG or PNG, vl-convert: `pip install 'attune[report]'`. Both draw without network.
"""

from typing import Any

import polars as pl

from profiles.schema import ContractError

Chart = Any  # of altair, which an extra installs

# Okabe & Ito, "Color Universal Design", 2008; yellow is left out, which white swallows.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A",
)  # fmt: skip
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
INK, FAINT = "#1B1F24", "#D8DEE4"  # text and lines: a page may put others in their place where it is dark
PADDING = {"left": 14, "right": 14, "top": 6, "bottom": 6}  # a reader's letters may be wider than ours
WIDTH = 360  # of what is plotted, in pixels
DAYS = 400  # drawn one by one; a longer log is drawn by weeks

MISSING = "charts need altair and vl-convert-python: pip install 'attune[report]'"


def drawing() -> Any:
    """Return altair; raises ContractError where it is not installed."""
    try:
        import altair
    except ImportError:
        raise ContractError(MISSING) from None
    return altair


def styled(chart: Chart) -> Chart:
    """Return a whole chart in the house's look; no further chart may be put around it."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
    return (
        chart.configure(font="Arial, Helvetica, sans-serif", aria=False, padding=PADDING)
        .configure_view(stroke=None)
        .configure_axis(**text, titleFontWeight="normal", gridColor=FAINT, domain=False, ticks=False,
                        labelLimit=180, labelPadding=6, titlePadding=14)
        .configure_axisX(labelFlush=False, tickCount=6, titlePadding=8)
        .configure_legend(**text, titleFontWeight="normal", labelLimit=180)
        .configure_header(**text, titleFontWeight="bold", labelFontWeight="bold")
        .configure_title(color=INK, fontSize=14, anchor="start", offset=12)
        .configure_text(color=INK, fontSize=12)
    )  # fmt: skip


def svg(chart: Chart) -> str:
    """Draw a chart as SVG; raises ContractError where vl-convert is not installed."""
    found: str = _convert().vegalite_to_svg({**chart.to_dict(), "background": "transparent"})
    return found


def png(chart: Chart, scale: float = 2.0) -> bytes:
    """Draw a chart as PNG on white; raises ContractError where vl-convert is not installed."""
    found: bytes = _convert().vegalite_to_png({**chart.to_dict(), "background": "white"}, scale=scale)
    return found


def _convert() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise ContractError(MISSING) from None
    return vl_convert


def activity(events: pl.DataFrame) -> Chart:
    """Draw EVENTS by day, or in a long log by week, a line an event type; the rarest types are one."""
    alt = drawing()
    first, last = (pl.select(end).item() for end in (events["timestamp"].min(), events["timestamp"].max()))
    step = "1d" if first is None or (last - first).days <= DAYS else "1w"
    counts = events["event_type"].value_counts(sort=True)["event_type"].cast(pl.String)
    kept = counts.head(len(PALETTE) - (len(counts) > len(PALETTE))).to_list()
    kind = pl.col("event_type").cast(pl.String)
    by = events.group_by(
        pl.col("timestamp").dt.truncate(step).dt.date().alias("day"),
        type=pl.when(kind.is_in(kept)).then(kind).otherwise(pl.lit("others")),
    ).len("events")  # fmt: skip
    order = [name for name in (*kept, "others") if name in by["type"]]
    color = alt.Color("type:N", title=None, sort=order).scale(domain=order, range=PALETTE[: len(order)])
    chart = (
        alt.Chart(_values(alt, by.sort("day", "type")))
        .mark_line()
        .encode(
            alt.X("day:T", title=None),
            alt.Y("events:Q", title="events a day" if step == "1d" else "events a week"),
            color,
            alt.StrokeDash("type:N", title=None, sort=order).scale(domain=order),
        )
        .properties(width=WIDTH, height=200)
    )
    return styled(chart)


def _values(alt: Any, frame: pl.DataFrame) -> Any:
    return alt.Data(values=frame.with_columns(pl.col(pl.Date).cast(pl.String)).to_dicts())
