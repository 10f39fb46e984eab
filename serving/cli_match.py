"""`attune match`: the words that draw a text and an item near each other."""

from typing import Annotated, Any

import typer

from serving.cli_options import DEFAULT_WORKSPACE, AsJson, Folder, open_workspace, print_json

SHOWN = 6  # words of each side


def match(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="what somebody writes or asks")],
    item_id: Annotated[str, typer.Argument(metavar="ITEM", help="id of an item")],
    workspace: Folder = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Tell how near a text is to an item, and which words of both make it so."""
    from serving.match import match as matched

    found = matched(open_workspace(workspace), text, item_id)
    if as_json:
        print_json(found)
        return
    print(f"cosine {found['cosine']:.3f}")  # noqa: T201
    for name in ("text", "item"):
        print(f"{name}: {_line(found[name])}")  # noqa: T201


def _line(side: dict[str, Any]) -> str:
    strongest = sorted(side["words"], key=lambda word: -abs(word["weight"]))[:SHOWN]
    words = " · ".join(f"{word['word']} {word['weight']:+.3f}" for word in strongest)
    account = f"without its words {side['baseline']:.3f}, all weights miss {side['error']:.3f}"
    return f"{words or 'no word counts'} ({account}; {side['method']})"


def add_match(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(match)
