"""The commands that train text encoders."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serving.cli_options import (
    DEFAULT_WORKSPACE,
    AsJson,
    Config,
    Folder,
    Quiet,
    open_workspace,
    print_json,
)


def finetune(
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the text encoder on what people wrote and chose; run again, it goes on where it was stopped."""
    from serving.finetune import run
    from serving.progress import Progress

    found = run(open_workspace(workspace, config), Progress(quiet or as_json))
    if as_json:
        print_json(asdict(found))
    elif not quiet:
        tuned = found.tuned
        if tuned.before is not None and tuned.after is not None:
            print(f"{tuned.metric} on {found.validated:,} pairs of others, later: "  # noqa: T201
                  f"{tuned.before:.4f} before, {tuned.after:.4f} after")  # fmt: skip
        print(f'{tuned.folder} is written; to read texts with it:\n\n[text]\nmodel = "{tuned.folder}"')  # noqa: T201


def pretrain(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="rows of texts; default: the log's texts"),
    ] = None,
    column: Annotated[str, typer.Option(help="column of the file that holds the texts")] = "text",
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    """Make a tokenizer and a small BERT of one's own texts, in any language, from nothing."""
    from serving.finetune import begin
    from serving.progress import Progress

    place = begin(open_workspace(workspace, config), file, column, Progress(quiet))
    print(f'{place} is written; to go on from it:\n\n[finetune]\nmodel = "{place}"')  # noqa: T201


def onnx(
    model: Annotated[str, typer.Argument(metavar="FOLDER", help="folder of a text encoder")],
    place: Annotated[Path, typer.Argument(metavar="NEW", help="folder to write, not there yet")],
    quiet: Quiet = False,
) -> None:
    """Write an encoder that a server runs by onnxruntime, without torch; prints its settings to paste."""
    from nlp.onnx import export

    export(model, place)
    if not quiet:
        print(f'[text]\nmodel = "{place}"\nruntime = "onnx"')  # noqa: T201


def add_finetune(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(finetune)
    app.command()(pretrain)
    app.command()(onnx)
