"""What the commands share: their options, opening a workspace, printing JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from serving.workspace import Workspace

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="attune.toml; default: what the workspace was run with")
]
Folder = Annotated[Path, typer.Option("--workspace", "-w", help="folder that holds everything")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress and no news")]
Force = Annotated[bool, typer.Option("--force", help="run even if nothing has changed")]

DEFAULT_WORKSPACE = Path("workspace")


def open_workspace(workspace: Path, config: Path | None = None) -> "Workspace":
    """Open a workspace with the settings asked for, or those it was last run with."""
    from serving.workspace import Workspace, settings_file

    return Workspace(workspace, settings_file(workspace, config))


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    from serving.progress import print_json as write

    write(value)
