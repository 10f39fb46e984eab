"""How fits grow: what `benchmarks.speed` printed of its growth rows, as a table and a picture.

Time is what the fit spent on the processor. Memory is the process' largest: what the log takes, which a fit
of `popularity` shows, is in it.

    python -m benchmarks.speed --threads 1 --rows growth_als_100k,growth_als_1m,growth_als_10m > als.txt
    python -m benchmarks.growth als.txt … --out growth.png
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from math import log
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.speed import SIZES
from profiles.charts import PALETTE, WIDTH, Chart, drawing, png, styled
from recsys.models import RECOMMENDERS
from recsys.plots import tens
from recsys.recommender import COSTS

PREFIX = "growth_"
SCHEMA = {
    "recommender": pl.String, "cost": pl.String, "size": pl.String, "interactions": pl.Int64,
    "seconds": pl.Float64, "megabytes": pl.Float64,
}  # fmt: skip
PANELS = {"seconds": "processor seconds of a fit", "megabytes": "MB at most, the log's own among them"}
LEAST = 0.01  # seconds: a shorter fit is drawn as this long


def read(files: Iterable[Path]) -> pl.DataFrame:
    """Return the growth rows among what was printed, a row a recommender and size, the least first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            for row in json.loads(line)["rows"] if line.startswith('{"benchmark": "speed"') else ():
                name, _, size = row["name"].removeprefix(PREFIX).rpartition("_")
                if row["name"].startswith(PREFIX) and row.get("cpu_s") is not None:
                    found[name, size] = {
                        "recommender": name, "cost": RECOMMENDERS[name].cost, "size": size,
                        "interactions": row["interactions"],
                        "seconds": row["cpu_s"], "megabytes": row["peak_mb"],
                    }  # fmt: skip
    frame = pl.DataFrame(list(found.values()), SCHEMA)
    last = pl.col("seconds").filter(pl.col("interactions") == pl.col("interactions").max())
    rank = {cost: n for n, cost in enumerate(COSTS)}
    order = [pl.col("cost").replace_strict(rank, return_dtype=pl.Int32), last.max().over("recommender")]
    return frame.sort(*order, "recommender", "interactions")


def table(frame: pl.DataFrame) -> str:
    """Return the rows as Markdown: seconds and megabytes of each size, "–" where there are none."""
    cells = {(name, size): (s, mb) for name, _, size, _, s, mb in frame.iter_rows()}
    lines = [f"| fit of | {' | '.join(SIZES)} |", f"| --- {'| --- ' * len(SIZES)}|"]
    for name in frame["recommender"].unique(maintain_order=True):
        told = (cells.get((name, size)) for size in SIZES)
        shown = ["–" if cell is None else f"{_seconds(cell[0])} · {cell[1]:,.0f} MB" for cell in told]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def chart(frame: pl.DataFrame) -> Chart:
    """Draw time and memory over interactions, a line a recommender, its colour what its fit costs."""
    alt = drawing()
    costs = [cost for cost in COSTS if cost in frame["cost"]]
    color = alt.Color("cost:N", title=None, sort=costs).scale(domain=costs, range=PALETTE[: len(costs)])
    rows = frame.with_columns(pl.col("seconds").clip(lower_bound=LEAST))
    panels = []
    for column, title in PANELS.items():
        drawn = named(rows, column)
        marks = tens(rows[column].to_list())
        height = {
            "scale": alt.Scale(type="log", domain=[marks[0], marks[-1]]),
            "axis": alt.Axis(values=marks, format=",~g"),
        }
        base = alt.Chart(alt.Data(values=drawn.to_dicts())).encode(
            alt.X("interactions:Q", title="interactions")
            .scale(type="log", domain=[5e4, 1e8])
            .axis(values=[1e5, 1e6, 1e7], format="~s"),
            detail="recommender:N",
        )
        lines = base.mark_line(point=True).encode(alt.Y(f"{column}:Q", title=title, **height), color)
        names = base.transform_filter(alt.datum.last).mark_text(align="left", dx=8, fontSize=11)
        names = names.encode(alt.Y("label:Q", title=title, **height), color, text="recommender:N")
        panels.append(alt.layer(lines, names).properties(width=WIDTH, height=1.2 * WIDTH))
    return styled(alt.hconcat(*panels, spacing=30).resolve_scale(color="shared"))


def named(rows: pl.DataFrame, column: str, apart: float = 0.03) -> pl.DataFrame:
    """Add where each line's name stands at its end: a height `label` so that none of one x hides another."""
    marks = tens(rows[column].to_list())
    step = apart * log(marks[-1] / marks[0])
    last = pl.col("interactions") == pl.col("interactions").max().over("recommender")
    parts = []
    for part in rows.with_columns(last=last).partition_by("size", "last"):
        heights: list[float] = []
        ordered = part.sort(column)
        for value in ordered[column].log():
            heights.append(max([value, *(height + step for height in heights[-1:])]))
        parts.append(ordered.with_columns(label=pl.Series(heights, dtype=pl.Float64).exp()))
    return pl.concat(parts).sort("recommender", "interactions")


def _seconds(value: float) -> str:
    return f"{float(f'{value:.2g}'):,g} s" if value >= LEAST else f"< {LEAST} s"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser("python -m benchmarks.growth", description="How fits grow.")
    parser.add_argument("files", nargs="+", type=Path, help="what `python -m benchmarks.speed` printed")
    parser.add_argument("--out", type=Path, help="PNG to write")
    args = parser.parse_args(argv)
    frame = read(args.files)
    if not len(frame):
        parser.error(f"no growth rows in {', '.join(map(str, args.files))}")
    print(table(frame), file=sys.stdout)
    if args.out is not None:
        args.out.write_bytes(png(chart(frame), scale=1.0))


if __name__ == "__main__":
    main()
