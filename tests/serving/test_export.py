"""Files for other programs: the same rows in every format, and no cell that a spreadsheet would run."""

import csv
import re
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles.schema import ContractError
from serving import cli
from serving.export import FORMULA, FRAMES, cells, export
from serving.workspace import Workspace

EVIL = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("x","y")']


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": [*EVIL, "u", "", None],
            "=name": [-1.5, 2.0, *[None] * (len(EVIL) + 1)],
            "tags": [["=a", "b"], ["a", "=b"], [], *[None] * len(EVIL)],
        }
    )
    cells(frame).write_csv(tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["user_id", "'=name", "tags"]
    texts = [(row[0], row[2]) for row in rows]
    assert not [cell for row in texts for cell in row if re.match(FORMULA, cell)]
    assert [user for user, _ in texts] == [*(f"'{name}" for name in EVIL), "u", "", ""]
    assert [tags for _, tags in texts[:3]] == ["'=a|b", "a|=b", ""]
    assert [row[1] for row in rows[:2]] == ["-1.5", "2.0"]  # a number is no formula


@pytest.mark.parametrize("name", ["users", "items", "events", "interactions", "recommendations", "metrics"])
def test_every_frame_is_written_in_every_format(name: str, finished: Path, tmp_path: Path) -> None:
    workspace = Workspace(finished)
    frame = FRAMES[name](workspace)
    paths = {ending: tmp_path / f"{name}{ending}" for ending in (".csv", ".tsv", ".jsonl", ".parquet")}
    assert {export(workspace, name, path) for path in paths.values()} == {len(frame)}
    assert_frame_equal(pl.read_parquet(paths[".parquet"]), frame)
    assert len(pl.read_ndjson(paths[".jsonl"])) == len(frame)
    read = pl.read_csv(paths[".csv"], infer_schema_length=None)
    assert_frame_equal(read, pl.read_csv(paths[".tsv"], separator="\t", infer_schema_length=None))
    assert read.shape == frame.shape
    key = "item_id" if name == "items" else "user_id"
    assert read[key].to_list() == frame[key].to_list()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths.values())


def test_what_cannot_be_written_is_told_and_nothing_is_left(finished: Path, tmp_path: Path) -> None:
    workspace = Workspace(finished)
    with pytest.raises(ContractError, match="no frame 'people' to export; there are users, items"):
        export(workspace, "people", tmp_path / "f.csv")
    with pytest.raises(ContractError, match=r"f\.xlsx: what it is to be is told by its ending: \.csv"):
        export(workspace, "users", tmp_path / "f.xlsx")
    with pytest.raises(ContractError, match="nowhere: no such folder"):
        export(workspace, "users", tmp_path / "nowhere" / "f.csv")
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lists.csv"
    monkeypatch.setattr("sys.argv", ["attune", "export", "recommendations", str(path), "-w", str(finished)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    rows = len(pl.read_parquet(finished / "recommendations.parquet"))
    assert f"{rows:,} rows" in capsys.readouterr().out
