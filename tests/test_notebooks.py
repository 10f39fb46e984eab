"""The notebooks run from top to bottom as they stand, are short, and keep no outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
LINES = 15


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: the shop is made by whichever runs first, and found up to date by the others."""
    return tmp_path_factory.mktemp("notebooks")


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_clean_and_says_what_it_is(name):
    book = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(book)
    first = book.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for before, cell in zip(book.cells, book.cells[1:], strict=False):
        if cell.cell_type != "code":
            continue
        assert not cell.outputs
        assert cell.execution_count is None
        assert 0 < len(cell.source.splitlines()) <= LINES
        assert before.cell_type == "markdown" or len(before.source.splitlines()) < LINES
    assert sum(cell.cell_type == "markdown" for cell in book.cells) >= 5


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, place, monkeypatch):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("ATTUNE_THREADS", "1")
    for variable in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        monkeypatch.setenv(variable, "1")
    book = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    ).execute()
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type in ("error", "stream")]
    html = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert len(html) > 3
    assert any("<table" in text for text in html)
