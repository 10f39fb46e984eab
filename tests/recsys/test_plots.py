"""Charts hold the numbers of their frames, few enough of them, and no label hides another."""

import sys

import numpy as np
import polars as pl
import pytest

from profiles import charts
from profiles.schema import ContractError
from recsys import plots
from recsys.metrics.bands import BANDS

SOURCES = ["ease", "blend", "oracle", "popularity"]
TABLE = pl.DataFrame(
    {
        "source": SOURCES,
        "mean": [0.3, 0.35, 0.6, None],
        "low": [0.25, 0.3, 0.5, None],
        "high": [0.35, 0.4, 0.7, None],
        "users": [9, 9, 9, None],
    }
)
POINTS = pl.DataFrame({"source": SOURCES, "x": [2.0, 30.0, None, 0.0], "y": [0.3, 0.35, 0.6, 0.1]})
PLACES = pl.DataFrame(
    {"source": ["ease"] * 6 + ["blend"] * 6, "band": [*BANDS, *BANDS], "places": [*range(6), *[0] * 5, 7]}
)
PAIRS = pl.DataFrame({"a": ["blend", "blend"], "b": ["ease", "oracle"], "rbo": [0.9, 0.1]})
EPOCHS = pl.DataFrame(
    {
        "source": ["sasrec", "sasrec", "lightgcn"],
        "epoch": [1, 2, 1],
        "loss": [3.0, 2.5, 0.6],
        "validation": [0.1, 0.2, None],
    }
)
DRAWN = {
    "ranking": plots.ranking(TABLE, "ndcg@10", "oracle"),
    "trade_off": plots.trade_off(POINTS, "ms", "ndcg@10", log=True),
    "slice_bars": plots.slice_bars(TABLE.drop_nulls().with_columns(slice=pl.lit("cold")), "ndcg@10"),
    "curves": plots.curves(EPOCHS),
    "popularity": plots.popularity(PLACES, ["ease", "blend"]),
    "overlap": plots.overlap(PAIRS, SOURCES),
    "parts": plots.parts(
        pl.DataFrame({"label": ["x", "x"], "source": ["a", "b"], "contribution": [1.0, 2.0]}), "score"
    ),
    "difference": plots.difference(
        pl.DataFrame({"label": ["ndcg@10"], "mean": [0.1], "low": [-0.1], "high": [0.3]}), "a - b"
    ),
}


def values(spec: object) -> list[dict]:
    """Return every row of data in a chart."""
    if isinstance(spec, dict):
        own = spec["values"] if isinstance(spec.get("values"), list) and "domain" not in spec else []
        return [row for row in own if isinstance(row, dict)] + [
            r for part in spec.values() for r in values(part)
        ]
    return [row for part in spec for row in values(part)] if isinstance(spec, list) else []


@pytest.mark.parametrize("name", DRAWN)
def test_every_chart_can_be_drawn(name):
    drawn = charts.svg(DRAWN[name])
    assert drawn.startswith("<svg")
    assert "NaN" not in drawn
    assert "undefined" not in drawn
    assert charts.png(DRAWN[name], 1.0).startswith(b"\x89PNG")


def test_the_ranking_is_in_order_and_without_what_was_not_measured():
    spec = DRAWN["ranking"].to_dict()
    assert [row["source"] for row in values(spec)] == ["oracle", "blend", "ease"]
    assert [row["role"] for row in values(spec)] == ["reference", "blend", "source"]


def test_points_that_cannot_be_on_the_axis_are_left_out():
    assert {row["source"] for row in values(DRAWN["trade_off"].to_dict())} == {"ease", "blend"}
    linear = plots.trade_off(POINTS, "ms", "ndcg@10")
    assert {row["source"] for row in values(linear.to_dict())} == {"ease", "blend", "popularity"}


def test_shares_add_up_to_one():
    rows = values(DRAWN["popularity"].to_dict())
    assert sum(row["share"] for row in rows if row["source"] == "ease") == pytest.approx(1)
    assert [row["band"] for row in rows if row["source"] == "blend"] == ["new"]


def test_overlap_is_drawn_both_ways():
    rows = {(row["a"], row["b"]): row["rbo"] for row in values(DRAWN["overlap"].to_dict())}
    once = {("blend", "ease"): 0.9, ("blend", "oracle"): 0.1}
    assert rows == {**once, **{(b, a): value for (a, b), value in once.items()}}


def test_no_label_hides_another():
    random = np.random.default_rng(0)
    for log in (False, True):
        told = {"x": np.exp(random.normal(size=25)), "y": random.random(25) / 10}
        frame = pl.DataFrame({"source": [f"s{n}" for n in range(25)], **told})
        rows = plots._labelled(frame, log).rows(named=True)
        x = np.log(told["x"]) if log else told["x"]
        high = np.ptp(told["y"])
        for i, one in enumerate(rows):
            assert one["label"] >= one["y"]
            for j in range(i):
                if abs(x[i] - x[j]) < plots.NEAR * np.ptp(x):
                    assert abs(one["label"] - rows[j]["label"]) >= plots.APART * high * (1 - 1e-9)
    alone = plots._labelled(pl.DataFrame({"source": ["a"], "x": [1.0], "y": [2.0]}), False)
    assert alone["label"].to_list() == [2.0]


@pytest.mark.parametrize("tens", [([0.5, 3.0], [0.1, 1, 10]), ([10.0], [10, 100]), ([], [1, 10])])
def test_axes_begin_and_end_at_powers_of_ten(tens):
    assert plots.tens(tens[0]) == pytest.approx(tens[1])


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_without_the_extra_it_is_said_what_to_install(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ContractError, match=r"pip install 'attune\[report\]'"):
        charts.svg(plots.ranking(TABLE, "ndcg@10"))
