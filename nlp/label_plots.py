"""Plots of classifiers, each as HTML that needs no network, as PNG, and as the numbers in JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nlp.extras import need
from nlp.label_metrics import Judged, reliability
from profiles import manifest

SIDE = 420  # pixels
MAPPED = 3000  # texts on a map at most: past it points only hide each other
NAMED = 40  # labels whose names fit the axes of a confusion matrix


class _Inside(json.JSONEncoder):
    """JSON that may stand inside a page: a text of "</script>" would end the script it is in."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("<", "\\u003c")


def save(chart: Any, rows: pl.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write a chart and its numbers as name.html, name.png and name.json; returns their paths."""
    picture = need("vl_convert", "report").vegalite_to_png(chart.to_json(), scale=2)
    page = chart.to_html(inline=True, json_kwds={"cls": _Inside}).encode()
    numbers = json.dumps(rows.to_dicts(), ensure_ascii=False).encode()
    paths = [folder / f"{name}.{kind}" for kind in ("html", "png", "json")]
    for path, content in zip(paths, (page, picture, numbers), strict=True):
        manifest.write_atomically(path, content)
    return paths


def confusion_rows(judged: Judged) -> pl.DataFrame:
    """Return truth, predicted, count and its share of the truth, for every pair of labels."""
    counts, names = judged.confusion(), judged.labels.names
    support = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return pl.DataFrame(
        {
            "truth": np.repeat(names, len(names)).tolist(),
            "predicted": list(names) * len(names),
            "count": counts.ravel(),
            "share": (counts / support).ravel(),
        }
    )


def confusion(judged: Judged, folder: Path) -> list[Path]:
    """Plot which label was taken for which, each row by its own size."""
    altair = need("altair", "report")
    rows = confusion_rows(judged)
    axis = altair.Axis(labels=len(judged.labels.names) <= NAMED, ticks=False)
    chart = (
        altair.Chart(_values(altair, rows), title="Truth against prediction", width=SIDE, height=SIDE)
        .mark_rect()
        .encode(
            altair.X("predicted:N", axis=axis, sort=None),
            altair.Y("truth:N", axis=axis, sort=None),
            altair.Color("share:Q", scale=altair.Scale(scheme="blues", domain=[0, 1])),
            tooltip=["truth:N", "predicted:N", "count:Q", altair.Tooltip("share:Q", format=".3f")],
        )
    )
    return save(chart, rows, folder, "confusion")


def calibration(judged: Judged, folder: Path) -> list[Path]:
    """Plot how often a prediction of each confidence was right; on the diagonal it is what it claims."""
    altair = need("altair", "report")
    rows = reliability(judged)
    share = altair.Scale(domain=[0, 1])
    points = (
        altair.Chart(_values(altair, rows), title="Confidence against truth", width=SIDE, height=SIDE)
        .mark_line(point=True)
        .encode(
            altair.X("confidence:Q", scale=share),
            altair.Y("right:Q", scale=share, title="share that was right"),
            tooltip=["confidence:Q", "right:Q", "count:Q"],
        )
    )
    ends = altair.Data(values=[{"confidence": 0, "right": 0}, {"confidence": 1, "right": 1}])
    line = altair.Chart(ends).mark_line(strokeDash=[4, 4], color="grey")
    return save(points + line.encode(x="confidence:Q", y="right:Q"), rows, folder, "reliability")


def learning(curves: Mapping[str, Sequence[float]], folder: Path) -> list[Path]:
    """Plot what was told each epoch: of each curve (loss, validation, …) one value an epoch, from 1."""
    altair = need("altair", "report")
    told = [(name, epoch, v) for name, values in curves.items() for epoch, v in enumerate(values, 1)]
    rows = pl.DataFrame(told, {"curve": pl.String, "epoch": pl.Int64, "value": pl.Float64}, orient="row")
    chart = (
        altair.Chart(_values(altair, rows), width=SIDE, height=SIDE // 2)
        .mark_line(point=True)
        .encode(
            altair.X("epoch:Q", axis=altair.Axis(tickMinStep=1)),
            altair.Y("value:Q", scale=altair.Scale(zero=False)),
            tooltip=["curve:N", "epoch:Q", "value:Q"],
        )
        .facet(row="curve:N", title="Learning curves")
        .resolve_scale(y="independent")
    )
    return save(chart, rows, folder, "learning")


def space_rows(
    vectors: np.ndarray, texts: Sequence[str], labels: Sequence[str], seed: int = 0
) -> pl.DataFrame:
    """Return x, y, label and text of up to `MAPPED` texts drawn by `seed`: t-SNE of their cosines."""
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(texts))[:MAPPED])
    if len(rows) < 3:
        places = np.zeros((len(rows), 2))
    else:
        settings = {"init": "random", "random_state": seed, "perplexity": min(30.0, (len(rows) - 1) / 3)}
        places = (
            need("sklearn.manifold", "text").TSNE(metric="cosine", **settings).fit_transform(vectors[rows])
        )
    return pl.DataFrame(
        {
            "x": places[:, 0].astype(np.float64),
            "y": places[:, 1].astype(np.float64),
            "label": [labels[row] for row in rows],
            "text": [texts[row][:200] for row in rows],
        }
    )


def space(
    vectors: np.ndarray, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int = 0
) -> list[Path]:
    """Plot texts where their vectors put them, near ones near, coloured by label."""
    altair = need("altair", "report")
    rows = space_rows(vectors, texts, labels, seed)
    few = len(set(labels)) <= NAMED
    chart = (
        altair.Chart(_values(altair, rows), title="Texts by meaning (t-SNE)", width=2 * SIDE, height=2 * SIDE)
        .mark_circle(size=24, opacity=0.7)
        .encode(
            altair.X("x:Q", axis=None),
            altair.Y("y:Q", axis=None),
            altair.Color("label:N", legend=altair.Legend() if few else None),
            tooltip=["label:N", "text:N"],
        )
    )
    return save(chart, rows, folder, "space")


def _values(altair: Any, rows: pl.DataFrame) -> Any:
    """Return rows as data of a chart, past altair's own limit of 5,000."""
    return altair.Data(values=rows.to_dicts())
