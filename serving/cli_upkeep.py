"""The commands that keep a workspace (erasing, retention, backup), and those that list what there is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli_options import DEFAULT_WORKSPACE, AsJson, Folder, Quiet, open_workspace, print_json

Retrain = Annotated[
    bool, typer.Option("--retrain", help="fit anew, activate, and delete the releases that had learned it")
]


def erase(
    users: Annotated[list[str], typer.Argument(metavar="USER…", help="ids of users")],
    workspace: Folder = DEFAULT_WORKSPACE,
    retrain: Retrain = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take everything of users out: log, exposures, answers, vectors, and with --retrain models."""
    from serving.erasure import erase as erase_users
    from serving.progress import Progress

    opened = open_workspace(workspace)
    _print_outcome(erase_users(opened, users, retrain, Progress(quiet or as_json)), as_json, quiet)


def retain(
    days: Annotated[int, typer.Option(min=1, help="keep the events of this many days")],
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="only events of this type; may be repeated")
    ] = None,
    workspace: Folder = DEFAULT_WORKSPACE,
    retrain: Retrain = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take out events older than some days, of some types or of all, and what was made from them."""
    from datetime import UTC, datetime, timedelta

    from serving.erasure import retain as retain_days
    from serving.progress import Progress

    cut = datetime.now(UTC) - timedelta(days=days)
    opened = open_workspace(workspace)
    _print_outcome(retain_days(opened, cut, event_type, retrain, Progress(quiet or as_json)), as_json, quiet)


def _print_outcome(outcome: Any, as_json: bool, quiet: bool) -> None:
    if as_json:
        from dataclasses import asdict

        print_json(asdict(outcome))
    elif not quiet:
        gone = outcome.removed
        print(f"{gone.events:,} events and {gone.exposures:,} exposures are gone")  # noqa: T201
        if outcome.releases and outcome.deleted:
            print(f"releases that had learned from them are deleted: {', '.join(outcome.releases)}")  # noqa: T201
        elif outcome.releases:
            print(  # noqa: T201
                f"releases that learned from them are still there: {', '.join(outcome.releases)}; "
                "--retrain fits anew and deletes them"
            )
        if outcome.encoders and outcome.deleted:
            print(  # noqa: T201
                f"[text] or [search.reader] reads texts with what may have learned from them: "
                f"{', '.join(outcome.encoders)}; `attune finetune` and `attune rerank` make others"
            )
        elif outcome.encoders:
            print(  # noqa: T201
                f"encoders that may have learned from them are still there: {', '.join(outcome.encoders)}"
            )


def prune(
    keep: Annotated[int, typer.Option(min=1, help="how many of the newest stay")] = 2,
    workspace: Folder = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Remove old snapshots and what was derived from them; the log, releases and answers stay."""
    from serving.prune import prune as remove

    gone = remove(open_workspace(workspace), keep)
    if as_json:
        print_json({"removed": gone})
    elif not quiet:
        print(f"{len(gone)} snapshots removed{': ' if gone else ''}{', '.join(gone)}")  # noqa: T201


def backup(
    place: Annotated[Path, typer.Argument(metavar="FOLDER", help="folder to write, not there yet")],
    workspace: Folder = DEFAULT_WORKSPACE,
    quiet: Quiet = False,
) -> None:
    """Copy the log, exposures, settings and releases, sealed, while others go on writing."""
    from serving.backup import backup as back_up
    from serving.progress import Progress

    back_up(open_workspace(workspace), place, Progress(quiet))


def restore(
    place: Annotated[Path, typer.Argument(metavar="FOLDER", help="what `attune backup` wrote")],
    workspace: Folder = DEFAULT_WORKSPACE,
    quiet: Quiet = False,
) -> None:
    """Make a workspace of a backup, its files checked first."""
    from serving.backup import restore as bring_back
    from serving.progress import Progress

    bring_back(place, workspace, Progress(quiet))


def presets(as_json: AsJson = False) -> None:
    """List the public data sets that a dataset table reads by name."""
    from profiles.sources.presets import presets as known

    if as_json:
        print_json(known())
        return
    for name, about in known().items():
        print(f"{name:20} {about}")  # noqa: T201


def recommenders(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="one of them, in full")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recommenders with what they cost and need; or one with its equation and settings."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from recsys.about import about, everyone

    found = [about(name)] if name else everyone()
    if as_json:
        print_json([asdict(each) for each in found])
        return
    console = Console(highlight=False)
    table = Table(title=None)
    if name:
        only = found[0]
        console.print(f"{only.title}\n\n{only.details}\n", markup=False, soft_wrap=True)
        told_of = f"cost: {only.cost}\nneeds: {only.needs}\nupdate: {only.update}\n"
        console.print(told_of, markup=False, soft_wrap=True)
        for column in ("setting", "default", "meaning"):
            table.add_column(column)
        for setting, told in only.settings.items():
            table.add_row(setting, str(told["default"]), escape(str(told["meaning"])))
    else:
        for column in ("name", "what", "cost of a fit", "needs"):
            table.add_column(column)
        for each in found:
            table.add_row(each.name, escape(each.title), each.cost, each.needs)
    console.print(table)


def compare(
    a: Annotated[str, typer.Argument(help="a source of the last evaluation, as blend")],
    b: Annotated[str, typer.Argument(help="the other")],
    metric: Annotated[str | None, typer.Option(help="what decides; default: ndcg")] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="list length; default: 10")] = None,
    workspace: Folder = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Say which of two evaluated sources is better, by how much, and how sure that is."""
    from serving.compare import compare as compared
    from serving.compare import lines

    found = compared(open_workspace(workspace), a, b, metric, k)
    if as_json:
        print_json(found)
    else:
        print(lines(found))  # noqa: T201


def export(
    name: Annotated[str, typer.Argument(metavar="FRAME", help="users, items, recommendations, …")],
    path: Annotated[Path, typer.Argument(metavar="FILE", help="to write: .csv, .tsv, .jsonl or .parquet")],
    workspace: Folder = DEFAULT_WORKSPACE,
    quiet: Quiet = False,
) -> None:
    """Write profiles, events or lists to a file; in CSV no cell can be run as a formula."""
    from serving.export import export as write

    rows = write(open_workspace(workspace), name, path)
    if not quiet:
        print(f"{path}: {rows:,} rows")  # noqa: T201


def add_upkeep(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (erase, retain, prune, backup, restore, compare, export, presets, recommenders):
        app.command()(command)
