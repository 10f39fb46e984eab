"""`attune report`: the last evaluation as a page to read and pictures to paste."""

from pathlib import Path
from typing import Annotated

import typer

from serving.cli_options import DEFAULT_WORKSPACE, AsJson, Folder, Quiet, open_workspace, print_json


def report(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder to write to; default: report in the workspace")
    ] = None,
    workspace: Folder = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the last evaluation as one HTML page that needs no network, and its charts as PNG."""
    from serving.write_report import write

    files = write(open_workspace(workspace), out)
    if as_json:
        print_json({"page": str(files[0]), "charts": [str(file) for file in files[1:]]})
    elif not quiet:
        print(f"{files[0]}: open it in a browser; {len(files) - 1} charts as PNG beside it")  # noqa: T201


def add_report(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(report)
