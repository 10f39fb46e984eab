"""The growth table and picture say what the rows said."""

import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks import growth
from benchmarks.speed import SIZES


def row(name: str, interactions: int, cpu: float | None, mb: float | None) -> dict[str, object]:
    found = {"name": name, "seconds": 99.0, "cpu_s": cpu, "peak_mb": mb, "interactions": interactions}
    return found if cpu is not None else {"name": name, "seconds": None, "peak_mb": None, "reason": "slow"}


ROWS = [
    row("growth_ease_100k", 80, 3.0, 300.0),
    row("growth_ease_1m", 900, 11.234, 1096.0),
    row("growth_sequential_ease_100k", 80, 0.5, 298.0),
    row("growth_sequential_ease_10m", 9000, 1267.0, 3754.0),
    row("growth_item_knn_1m", 900, 0.5, 364.0),
    row("growth_rp3beta_1m", 900, 0.5, 364.0),
    row("growth_popularity_1m", 900, 0.0004, 298.0),
    row("growth_slim_10m", 0, None, None),
    {"name": "topk", "seconds": 1.0, "peak_mb": 9.0},
]


@pytest.fixture
def frame(tmp_path: Path) -> pl.DataFrame:
    files = []
    for n, rows in enumerate((ROWS[:4], [row("growth_ease_1m", 900, 77.0, 1.0)], ROWS[1:])):
        files.append(tmp_path / f"{n}.txt")
        printed = json.dumps({"benchmark": "speed", "rows": rows})
        files[-1].write_text(f"row  seconds\nease: topk\n{printed}\n")
    return growth.read(files)


def test_a_row_a_recommender_with_its_newest_figures(frame: pl.DataFrame) -> None:
    assert growth.table(frame).splitlines() == [
        f"| fit of | {' | '.join(SIZES)} |",
        "| --- | --- | --- | --- |",
        "| popularity | – | < 0.01 s · 298 MB | – |",
        "| item_knn | – | 0.5 s · 364 MB | – |",
        "| rp3beta | – | 0.5 s · 364 MB | – |",
        "| ease | 3 s · 300 MB | 11 s · 1,096 MB | – |",
        "| sequential_ease | 0.5 s · 298 MB | – | 1,300 s · 3,754 MB |",
    ]


def test_names_stand_at_the_ends_of_lines_and_apart(frame: pl.DataFrame) -> None:
    pytest.importorskip("altair")
    told = growth.chart(frame).to_dict()
    assert len(told["hconcat"]) == len(growth.PANELS)
    named = growth.named(frame, "seconds").filter("last")
    assert sorted(named["recommender"]) == ["ease", "item_knn", "popularity", "rp3beta", "sequential_ease"]
    alike = named.filter(pl.col("recommender").is_in(["item_knn", "rp3beta"]))["label"].sort()
    assert alike[0] == pytest.approx(0.5)
    assert alike[1] > 1.05 * alike[0]


def test_nothing_to_draw_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.txt").write_text(json.dumps({"benchmark": "speed", "rows": ROWS[-2:]}))
    with pytest.raises(SystemExit):
        growth.main([str(tmp_path / "log.txt")])
    assert "no growth rows in" in capsys.readouterr().err
