"""Writing the report: what the last evaluation left, as index.html and one PNG a figure.

Erasure removes the workspace's own report, which shows users; it does not reach one written elsewhere.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from profiles import manifest
from profiles.charts import png
from profiles.schema import ContractError
from serving.figures import figures
from serving.page import page
from serving.schema import EXAMPLES
from serving.tune_table import kept
from serving.workspace import Workspace

PLACE = "report"
PAGE = "index.html"


def write(workspace: Workspace, out: Path | None = None) -> list[Path]:
    """Write the report and return its files, the page first.

    Raises ContractError where nothing was evaluated, or the evaluation is older than reports are.
    """
    found, costs = read(workspace.folder)
    drawn = figures(found, costs)
    with workspace.alone():
        lists = workspace.folder / "examples.parquet"
        examples = pl.read_parquet(lists) if lists.is_file() else EXAMPLES.empty()
        items = workspace.snapshot.frame("items").select("item_id", "title").drop_nulls()
        titles = dict(items.iter_rows())
        files = {PAGE: page(found, drawn, examples, titles, kept(workspace.folder)).encode()}
        for name, figure in drawn.items():
            files[f"{name}.png"] = png(figure.draw().properties(title=figure.title))
        place = workspace.folder / PLACE if out is None else out
        if out is None:
            shutil.rmtree(place, ignore_errors=True)  # figures of an earlier one
        for name, content in files.items():
            manifest.write_atomically(place / name, content)
    return [place / name for name in files]


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return evaluation.json and costs.json; raises ContractError where they are not as reports need them."""
    try:
        found: dict[str, Any] = json.loads((folder / "evaluation.json").read_bytes())
        costs: list[dict[str, Any]] = json.loads((folder / "costs.json").read_bytes())
    except FileNotFoundError:
        raise ContractError("nothing is evaluated yet; run `attune evaluate`") from None
    except ValueError as error:
        raise ContractError(f"{folder / 'evaluation.json'}: not readable: {error}; evaluate again") from None
    if "slices" not in found:
        raise ContractError(f"{folder / 'evaluation.json'} is of an earlier version; run `attune evaluate`")
    return found, costs
