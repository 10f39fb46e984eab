"""What a search found, drawn: every trial across its settings, what matters, how it went; no network."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from profiles.schema import ContractError
from recsys.space import Range
from serving.tune import TunedSource

if TYPE_CHECKING:
    import altair

BLUE, ORANGE = "#0072b2", "#d55e00"  # told apart by everybody (Okabe & Ito)


def write(tuned: TunedSource, folder: Path) -> list[Path]:
    """Write `<source>.html` and `<source>.png` into a folder and return their paths."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError:
        raise ContractError("plots need altair: pip install 'attune[report]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    drawn = chart(tuned)
    paths = [folder / f"{tuned.source}.html", folder / f"{tuned.source}.png"]
    drawn.save(paths[0], inline=True)
    drawn.save(paths[1], scale_factor=2)
    return paths


def chart(tuned: TunedSource) -> "altair.VConcatChart":
    """Draw parallel coordinates, importance, and the best so far."""
    import altair as alt

    title = alt.TitleParams(
        f"{tuned.source}: settings of finished trials", subtitle=[str(edge) for edge in tuned.edges]
    )
    axes = [*tuned.space.dimensions, tuned.metric]
    lines = (
        alt.Chart(pl.DataFrame(coordinates(tuned)))
        .mark_line(opacity=0.7)
        .encode(
            x=alt.X("setting:N", sort=axes, title=None, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("place:Q", title="lowest to highest", axis=alt.Axis(labels=False, ticks=False)),
            color=alt.Color("value:Q", title=tuned.metric, scale=alt.Scale(scheme="viridis")),
            detail="trial:N",
            tooltip=["trial:Q", "setting:N", "shown:N", "value:Q"],
        )
        .properties(width=620, height=260, title=title)
    )
    course = (
        alt.Chart(pl.DataFrame(progress(tuned)))
        .encode(x=alt.X("trial:Q", title="trial"))
        .properties(width=300, height=160, title="best so far")
    )
    reached = alt.Y("value:Q", title=tuned.metric, scale=alt.Scale(zero=False))
    parts = course.mark_point(color=BLUE).encode(y=reached)
    best = course.mark_line(color=ORANGE, interpolate="step-after").encode(y="best:Q")
    shares = list(tuned.found.importance.items())
    importance = (
        alt.Chart(pl.DataFrame(shares, schema={"setting": pl.String, "share": pl.Float64}, orient="row"))
        .mark_bar(color=BLUE)
        .encode(x=alt.X("share:Q", title="share", axis=alt.Axis(format="%")), y=alt.Y("setting:N", sort="-x"))
        .properties(width=220, height=160, title="importance (PED-ANOVA)")
    )
    return alt.vconcat(lines, alt.hconcat(parts + best, importance))


def coordinates(tuned: TunedSource) -> list[dict[str, Any]]:
    """Return a row for each finished trial and axis; `place` is from 0 to 1 along it."""
    done = [(n, t) for n, t in enumerate(tuned.found.tries, 1) if t.state == "done" and t.value is not None]
    values = [t.value for _, t in done if t.value is not None]
    low, spread = min(values, default=0.0), (max(values, default=0.0) - min(values, default=0.0)) or 1.0
    rows = []
    for number, t in done:
        assert t.value is not None
        told = {"trial": number, "value": t.value}
        for name, dimension in tuned.space.holding(tuned.before).dimensions.items():
            at = t.settings[name]
            if isinstance(dimension, Range):
                assert isinstance(at, int | float)
                ends = (dimension.low, dimension.high, at)
                first, last, here = (math.log(v) for v in ends) if dimension.log else ends
                place = (here - first) / ((last - first) or 1.0)
            else:
                place = dimension.values.index(at) / max(len(dimension.values) - 1, 1)
            rows.append({**told, "setting": name, "place": place, "shown": "none" if at is None else str(at)})
        here = (t.value - low) / spread
        rows.append({**told, "setting": tuned.metric, "place": here, "shown": f"{t.value:.4f}"})
    return rows


def progress(tuned: TunedSource) -> list[dict[str, float | None]]:
    """Return what each finished trial reached, and the best until then."""
    rows: list[dict[str, float | None]] = []
    best = -math.inf
    for number, t in enumerate(tuned.found.tries, 1):
        if t.state == "done" and t.value is not None:
            best = max(best, t.value)
            rows.append({"trial": number, "value": t.value, "best": best})
    return rows
