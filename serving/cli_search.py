"""The commands that find what answers a text, and train what reads the first places again."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

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

SHOWN = 100  # characters of a text
# What moves a terminal's cursor, or turns the line around it.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def rerank(
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a cross-encoder on pairs; run again, it goes on where it was stopped."""
    from serving.progress import Progress
    from serving.search import learn

    found = learn(open_workspace(workspace, config), Progress(quiet or as_json))
    if as_json:
        print_json(asdict(found))
    elif not quiet:
        trained = found.trained
        if trained.before is not None and trained.after is not None:
            print(  # noqa: T201
                f"mrr@10 among what words find for {found.validated:,} pairs of others, later: "
                f"{trained.before:.4f} before, {trained.after:.4f} after"
            )
        model = trained.folder.resolve()
        print(f'{model} is written; to search with it:\n\n[search.reader]\nmodel = "{model}"')  # noqa: T201


def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="what somebody asks or looks for")],
    file: Annotated[
        Path | None, typer.Option(help="rows to search: .parquet, .csv, .tsv, .jsonl; default: the items")
    ] = None,
    column: Annotated[str, typer.Option(help="column of the file that holds the texts")] = "text",
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="texts to find")] = 10,
    by: Annotated[str | None, typer.Option(help="words, vectors or both; default: \\[search] by")] = None,
    reader: Annotated[
        Path | None, typer.Option(help="folder of a cross-encoder; default: \\[search.reader] model")
    ] = None,
    user: Annotated[str | None, typer.Option(help="who asks: what they wrote before counts too")] = None,
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the items, or the rows of a file, that answer a text; a cross-encoder orders the first of them."""
    from serving.mistakes import chosen
    from serving.progress import Progress
    from serving.search import search as searched

    opened = open_workspace(workspace, config)
    asked = opened.settings.search
    said: dict[str, Any] = {} if by is None else {"by": by}
    if reader is not None:
        said["reader"] = asked.reader.model_copy(update={"model": str(reader.absolute())})
    source = None if file is None else (file, column)
    found = searched(opened, text, k, chosen("search", asked, said), source, user, Progress(quiet or as_json))
    if as_json:
        print_json(found.to_dicts())
        return
    for row in found.iter_rows(named=True):
        of = row["item_id"] if file is None else f"row {row['row']}"
        line = CONTROL.sub("\N{REPLACEMENT CHARACTER}", " ".join(row["text"].split()))
        cut = line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
        print(f"{row['rank']:3} {row['score']:8.3f}  {of}  {cut}")  # noqa: T201
    if found.is_empty():
        print("nothing answers it: no word is known")  # noqa: T201


def add_search(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(rerank)
    app.command()(search)
