"""The commands that train text encoders."""

from dataclasses import asdict

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


def add_finetune(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(finetune)
