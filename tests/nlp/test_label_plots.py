"""Plots: three files each, no address of the network in them, and the right numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from nlp import label_plots
from nlp.label_metrics import Judged
from nlp.label_sets import LabelSet
from profiles.schema import ContractError

NAMES = ("a", "b </script>", "ج")


def judged() -> Judged:
    random = np.random.default_rng(0)
    p = random.dirichlet([1, 1, 1], size=40).astype(np.float32)
    return Judged(LabelSet(NAMES), np.eye(3, dtype=bool)[random.integers(3, size=40)], p)


def read(paths: list[Path], name: str) -> list[dict[str, object]]:
    assert [path.name for path in paths] == [f"{name}.html", f"{name}.png", f"{name}.json"]
    page = paths[0].read_text()
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert page.count("</script>") == page.count("<script")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    rows: list[dict[str, object]] = json.loads(paths[2].read_text())
    return rows


def test_confusion(tmp_path: Path):
    of = judged()
    rows = read(label_plots.confusion(of, tmp_path), "confusion")
    counts = of.confusion()
    assert {(row["truth"], row["predicted"]): row["count"] for row in rows} == {
        (NAMES[t], NAMES[p]): counts[t, p] for t in range(3) for p in range(3)
    }
    assert sum(row["share"] for row in rows) == pytest.approx(3)


def test_calibration_and_learning(tmp_path: Path):
    rows = read(label_plots.calibration(judged(), tmp_path), "reliability")
    assert sum(row["count"] for row in rows) == 40
    rows = read(label_plots.learning({"loss": [2.0, 1.0], "validation": [0.5]}, tmp_path), "learning")
    assert [row["epoch"] for row in rows] == [1, 2, 1]


def test_texts_of_one_kind_lie_together(tmp_path: Path):
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 8), 20, axis=0)
    vectors = (centres + 0.05 * random.normal(size=(60, 8))).astype(np.float32)
    labels = list(np.repeat(NAMES, 20))
    rows = read(label_plots.space(vectors, [f"text {n}" for n in range(60)], labels, tmp_path), "space")
    places = np.array([[row["x"], row["y"]] for row in rows])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert [rows[n]["label"] for n in apart.argmin(axis=1)] == labels
    assert len(label_plots.space_rows(vectors[:2], ["x", "y"], ["a", "a"])) == 2


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(__import__("sys").modules, "altair", None)
    with pytest.raises(ContractError, match=r"altair is not installed: run pip install 'attune\[report\]'"):
        label_plots.confusion(judged(), tmp_path)
