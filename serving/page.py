"""The report as one HTML page: figures as SVG, tables, users' lists. It loads nothing, from anywhere.

Whatever a log, a catalogue or a configuration brought is escaped, and a policy in the page forbids scripts
and requests all the same. Light and dark are the reader's; on paper it is light.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import polars as pl

from profiles.charts import svg
from profiles.display import said as shown
from profiles.display import table
from recsys.metrics.slices import COLD, HEAVY
from serving.figures import Figure, order
from serving.report import notes, told_by

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
WIDE = ("ranking", "overlap")  # figures that take the page's whole width
LISTS = 4  # sources whose lists stand side by side
WHO = {
    "cold": f"fewer than {COLD} interactions before the cut",
    "warm": f"{COLD} interactions before the cut, or more",
    "heavy": f"{HEAVY} interactions before the cut, or more",
}
CHOICE = (
    "Of each kind of user the middle one by what the blend is worth to them, and one for whom it is worth "
    "more than for 95 of 100. What they did before the cut, the newest first; what they went on to choose; "
    "and their lists, in which a hit is marked ✓."
)
SEARCHED = (
    "What attune tune found last, by what was held out and never by a test; and which best setting is the "
    "last that was searched."
)


def page(
    found: Mapping[str, Any],
    figures: Mapping[str, Figure],
    examples: pl.DataFrame,
    titles: Mapping[str, str],
    searched: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the page of evaluation.json with its figures and, where there are any, users and searches."""
    places = {name: figure.title for name, figure in figures.items()}
    if len(examples):
        places["users"] = "Users and their lists"
    if searched:
        places["searched"] = "Settings, searched"
    users = _users(found, examples, titles) if len(examples) else ""
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in places.items())
    sections = "".join(_section(name, figure) for name, figure in figures.items())
    metric, k = told_by(found)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>Evaluation by {metric}@{k}</title>
<style>
{_style()}</style>
</head>
<body><main>
<h1>Evaluation</h1>
{_head(found)}
<nav aria-label="contents"><ul>{links}</ul></nav>
<div class="figures">{sections}{users}{_searched(searched)}</div>
<footer>Every figure here is one of evaluation.json; those of cost are of costs.json, those of searches of
tuning/.</footer>
</main></body>
</html>
"""


@cache
def _style() -> str:
    return (files("serving") / "page.css").read_text("utf-8")


def _head(found: Mapping[str, Any]) -> str:
    """Return the verdict and what to know of the split."""
    cuts = ", ".join(moment[:16].replace("T", " ") for moment in found["split"]["at"])
    said = "".join(f"<p>{escape(line)}</p>" for line in found["verdict"])
    told = "".join(f"<li>{escape(line)}</li>" for line in [*notes(found), f"asked at: {cuts} UTC"])
    verdict = f'<div class="verdict">{said}</div>' if said else ""
    return f'{verdict}<ul class="notes">{told}</ul>'


def _section(name: str, figure: Figure) -> str:
    numbers = [name for name in figure.head[1:] if name not in ("source", "other")]
    rows = f'<div class="scroll" tabindex="0">{table(figure.head, figure.rows, numbers=numbers)}</div>'
    if figure.folded:
        rows = f"<details><summary>The numbers</summary>{rows}</details>"
    return (
        f'<section id="{name}"{" class=wide" if name in WIDE else ""}><h2>{escape(figure.title)}</h2>'
        f"<p>{escape(figure.words)}</p>{_drawn(figure)}{rows}</section>"
    )


def _drawn(figure: Figure) -> str:
    """Return the chart as an image with its text in place of the names SVG needs outside of HTML."""
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg(figure.draw()))
    label = f'<svg role="img" aria-label="{escape(figure.alt)}"'
    return f"<figure>{drawn.replace('<svg', label, 1)}</figure>"


def _users(found: Mapping[str, Any], examples: pl.DataFrame, titles: Mapping[str, str]) -> str:
    """Return the lists of each example user side by side, hits marked."""
    told = [s for s in order(found) if s != found["reference"]]
    shown = [s for s in told if s == "blend" or s in [t for t in told if t != "blend"][: LISTS - 1]]
    ordered = examples.sort(pl.col("slice").cast(pl.Enum(list(WHO))), maintain_order=True)
    users = ordered.partition_by("user_id", as_dict=True, maintain_order=True)
    parts = "".join(_user(str(user), of, shown, titles) for (user,), of in users.items())
    return (
        '<section id="users" class="wide"><h2>Users and their lists</h2>'
        f"<p>{escape(CHOICE)}</p>{parts}</section>"
    )


def _searched(searched: Sequence[Mapping[str, Any]]) -> str:
    """Return what searches found, and where the best lies at the end of what was searched."""
    if not searched:
        return ""
    head = ["", "by", "as it was", "best", "trials", "best settings"]
    rows = []
    for row in searched:
        settings = ", ".join(f"{name} = {shown(value)}" for name, value in row["settings"].items())
        figures = (row["metric"], row["value_before"], row["value"], len(row["trials"]))
        rows.append([row["source"], *figures, settings])
    ends = [f"{row['source']}: {edge}" for row in searched for edge in row["edges"]]
    notes = "".join(f"<li>{escape(line)}</li>" for line in ends)
    return (
        '<section id="searched" class="wide"><h2>Settings, searched</h2>'
        f"<p>{escape(SEARCHED)}</p>"
        f'<div class="scroll" tabindex="0">{table(head, rows, numbers=head[2:5])}</div>'
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}</section>"
    )


def _user(user: str, of: pl.DataFrame, shown: Sequence[str], titles: Mapping[str, str]) -> str:
    columns = {"did lately": of.filter(kind="history"), "then chose": of.filter(kind="truth")}
    columns |= {source: of.filter(kind="list", source=source) for source in shown}
    depth = max(len(column) for column in columns.values())
    lists = {
        name: [(titles.get(item) or item, hit) for item, hit in column.select("item_id", "right").iter_rows()]
        for name, column in columns.items()
    }
    rows = [
        [n + 1, *(cells[n][0] if n < len(cells) else "" for cells in lists.values())] for n in range(depth)
    ]
    hits = {
        (n, c)
        for c, (name, cells) in enumerate(lists.items(), 1)
        for n, (_, hit) in enumerate(cells)
        if hit and name in shown
    }
    kind = str(of["slice"][0])
    caption = f"{kind}: {WHO[kind]}"
    drawn = table(["", *columns], rows, caption, marked=hits)
    return f'<h3>{escape(user)}</h3><div class="scroll lists" tabindex="0">{drawn}</div>'
