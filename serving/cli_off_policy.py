"""`attune off-policy`: what releases would have earned."""

from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli_options import DEFAULT_WORKSPACE, AsJson, Folder, Quiet, open_workspace, print_json

if TYPE_CHECKING:
    from recsys.off_policy import Estimate


def off_policy(
    release: Annotated[list[str] | None, typer.Option(help="one to judge; default: all there are")] = None,
    hours: Annotated[float, typer.Option(min=0, help="how long after an answer an event counts")] = 24.0,
    event_type: Annotated[list[str] | None, typer.Option("--type", help="only events of this type")] = None,
    limit: Annotated[int, typer.Option(min=1, help="newest answers that are read")] = 2000,
    clip: Annotated[float | None, typer.Option(min=1, help="largest weight; default: none")] = None,
    workspace: Folder = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Estimate what each release would earn an answer, from answers whose tails were explored."""
    from dataclasses import asdict

    from serving.off_policy import earned, judged, logged
    from serving.progress import Progress

    opened = open_workspace(workspace)
    rows = logged(opened, hours, event_type or (), limit)
    names = release or opened.releases.names()
    shown = earned(rows)
    found = {name: judged(opened, rows, name, Progress(quiet or as_json), clip) for name in names}
    if as_json:
        print_json(
            {"shown": shown, "estimates": {n: {m: asdict(e) for m, e in f.items()} for n, f in found.items()}}
        )
        return
    for row in shown:
        earns = f"{row['answers']:,} answers earned {row['reward']:.4f} each as shown"
        print(f"{row['release']} · {row['source']}: {earns}; {row['explored']:,} explored")  # noqa: T201
    for name, each in found.items():
        for method, e in each.items():
            print(f"{name} {method:5} {_told(e)}")  # noqa: T201


def _told(e: "Estimate") -> str:
    if e.reason:
        return e.reason
    cut = f"; {e.clipped:.1%} of the weights cut" if e.clipped else ""
    worth = f"{e.answers:,} answers of {e.users:,} users that say as much as {e.effective:,.0f}"
    return f"{e.value:.4f} ({e.low:.4f} … {e.high:.4f}), {worth}{cut}"


def add_off_policy(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(off_policy)
