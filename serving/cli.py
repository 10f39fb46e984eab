"""The command line: `attune`.

Commands are thin: they open a workspace, run stages, and print. Heavy modules are imported inside
them, so that `attune --help` is instant. A user's mistake is one line on stderr and exit code 2.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiles import threads
from serving.cli_classify import add_classify
from serving.cli_finetune import add_finetune
from serving.cli_match import add_match
from serving.cli_off_policy import add_off_policy
from serving.cli_options import (
    DEFAULT_WORKSPACE,
    AsJson,
    Config,
    Folder,
    Force,
    Quiet,
    open_workspace,
    print_json,
)
from serving.cli_report import add_report
from serving.cli_search import add_search
from serving.cli_tune import add_tune
from serving.cli_upkeep import add_upkeep

if TYPE_CHECKING:
    from serving.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a behaviour log to served recommendations.",
)
releases_app = typer.Typer(no_args_is_help=True, help="List, activate and roll back releases.")
show_app = typer.Typer(no_args_is_help=True, help="What the log says of a user or an item.")
app.add_typer(releases_app, name="releases")
app.add_typer(show_app, name="show")


def main() -> None:
    """Run the command line; mistakes end with a line and code 2, interruptions with code 130."""
    try:
        app()
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            print("attune: interrupted; run the same command again to go on", file=sys.stderr)  # noqa: T201
        raise
    except Exception as error:
        line = _line_of(error)
        if line is None:
            raise
        print(f"attune: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _line_of(error: Exception) -> str | None:
    """Say what a person has to mend; None for a mistake of ours, which shows its traceback."""
    import sqlite3

    from profiles.schema import ContractError

    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    if isinstance(error, sqlite3.Error):
        return f"a database of the workspace cannot be used: {error}; `attune doctor` says which"
    return str(error) if isinstance(error, ContractError) else None


@app.callback()
def _options(
    cores: Annotated[
        int | None, typer.Option("--threads", min=1, help="threads to use; default: all")
    ] = None,
) -> None:
    wanted = os.environ.get("ATTUNE_THREADS", "")
    if cores is None and wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise typer.BadParameter(f"ATTUNE_THREADS={wanted}: give a whole number above 0")
        cores = int(wanted)
    if cores is not None:
        threads.use(cores)


def _run(
    workspace: Path, config: Path | None, stages: tuple[str, ...], as_json: bool, quiet: bool, force: bool
) -> None:
    from profiles import memory

    memory.hoard()
    from serving.pipeline import Pipeline
    from serving.progress import Progress

    opened = open_workspace(workspace, config)
    pipeline = Pipeline(opened, Progress(quiet or as_json))
    pipeline.run(stages, force)
    if as_json:
        state = opened.state()
        print_json({stage: {"ran": pipeline.ran[stage], **state[stage]} for stage in stages})
    elif not quiet and "evaluate" in stages:
        _print_table(opened)


def _print_table(workspace: "Workspace") -> None:
    from rich.console import Console

    from serving.report import draw

    found = json.loads((workspace.folder / "evaluation.json").read_bytes())
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(draw(found, "Evaluation"))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="file to write")] = Path("attune.toml"),
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
) -> None:
    """Write a commented attune.toml to fill in."""
    from profiles.schema import ContractError
    from serving.template import TEMPLATE

    if path.exists() and not force:
        raise ContractError(f"{path} exists; --force replaces it")
    path.write_text(TEMPLATE, "utf-8")
    print(f"{path} written: name your files in it, then run `attune run --config {path}`")  # noqa: T201


def _stage_command(name: str, what: str) -> None:
    """Add the command that runs one stage, or with "run" all of them."""

    def command(
        workspace: Folder = DEFAULT_WORKSPACE,
        config: Config = None,
        as_json: AsJson = False,
        quiet: Quiet = False,
        force: Force = False,
    ) -> None:
        from serving.pipeline import STAGES

        _run(workspace, config, STAGES if name == "run" else (name,), as_json, quiet, force)

    app.command(name, help=what)(command)


_stage_command("ingest", "Read the sources into the log; what cannot be used is set aside with its reason.")


@app.command()
def check(
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check the promises a log must keep."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from serving.pipeline import Pipeline

    findings = Pipeline(open_workspace(workspace, config)).findings()
    if as_json:
        print_json([asdict(f) for f in findings])
    elif not quiet:
        table = Table("", "check", "found", "advice")
        for f in findings:
            table.add_row(f.level, f.check, f.message, f.advice if f.level != "PASS" else "")
        Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
    if any(f.level == "FAIL" for f in findings):
        raise typer.Exit(1)


_stage_command("build", "Build profiles and text vectors as of the log's last moment.")
_stage_command(
    "train", "Fit the recommenders, choose the blend's weights, publish a release and activate it."
)
_stage_command("evaluate", "Measure every source and the blend on splits of the log.")
_stage_command("recommend", "Write every user's list to recommendations.parquet and contributions.parquet.")
_stage_command("run", "Run every stage, skipping those whose inputs have not changed.")


@app.command()
def demo(workspace: Folder = Path("demo-workspace"), as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Run everything on the embedded sample shop and show what came out."""
    from serving.demo import show, write_sample
    from serving.pipeline import STAGES

    config = write_sample(workspace, quiet or as_json)
    _run(workspace, config, STAGES, as_json, quiet, False)
    if not (quiet or as_json):
        show(open_workspace(workspace, None))


@app.command()
def serve(
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="port to listen on")] = None,
) -> None:
    """Answer over HTTP from the active release; a new release is picked up while running."""
    import ipaddress

    import uvicorn

    from profiles.schema import ContractError
    from serving.app import create_app

    opened = open_workspace(workspace, config)
    host, port = host or opened.settings.serve.host, opened.settings.serve.port if port is None else port
    local = host == "localhost" or (
        host.replace(".", "").isdigit() and ipaddress.ip_address(host).is_loopback
    )
    if not (local or host == "::1"):
        raise ContractError(f"host {host}: without keys the server listens on loopback only; use 127.0.0.1")
    uvicorn.run(create_app(opened), host=host, port=port, log_level="warning", access_log=False)


@app.command()
def doctor(workspace: Folder = DEFAULT_WORKSPACE, config: Config = None, as_json: AsJson = False) -> None:
    """Report on environment, configuration and data at once."""
    from serving.doctor import examine

    lines = examine(workspace, config)
    if as_json:
        print_json([{"part": p, "level": level, "message": m} for p, level, m in lines])
    else:
        for part, level, message in lines:
            print(f"{level:4}  {part:13}  {message}")  # noqa: T201
    if any(level == "FAIL" for _, level, _ in lines):
        raise typer.Exit(1)


@releases_app.command("list")
def releases_list(workspace: Folder = DEFAULT_WORKSPACE, as_json: AsJson = False) -> None:
    """List the releases, the active one marked."""
    from profiles import manifest
    from serving.release import Releases

    releases = Releases(workspace / "releases")
    active = releases.active()
    rows = [
        {
            "release": n,
            "active": n == active,
            **{k: about[k] for k in ("created", "as_of", "weights") if k in about},
        }
        for n in releases.names()
        for about in [manifest.read(releases.root / n)]
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(f"{'*' if row['active'] else ' '} {row['release']}  {row['created']}  as of {row['as_of']}")  # noqa: T201
    if not rows:
        print("no releases yet; `attune train` makes one")  # noqa: T201


@releases_app.command("activate")
def releases_activate(
    name: Annotated[str, typer.Argument(help="release to answer from")],
    workspace: Folder = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Answer from a release."""
    from serving.release import Releases

    Releases(workspace / "releases").activate(name)
    _print_active(name, as_json)


@releases_app.command("rollback")
def releases_rollback(workspace: Folder = DEFAULT_WORKSPACE, as_json: AsJson = False) -> None:
    """Go back to the release that was active before."""
    from serving.release import Releases

    _print_active(Releases(workspace / "releases").rollback(), as_json)


def _print_active(name: str, as_json: bool) -> None:
    if as_json:
        print_json({"active": name})
    else:
        print(f"{name} is active")  # noqa: T201


IDS = {"ignore_unknown_options": True}  # an id may begin with a minus


@show_app.command("user", context_settings=IDS)
def show_user(
    user_id: Annotated[str, typer.Argument(metavar="ID")],
    workspace: Folder = DEFAULT_WORKSPACE,
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="recommendations to show")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show a user's profile, the events behind it, and what they would be shown now."""
    from serving.show import print_user

    print_user(open_workspace(workspace, None), user_id, k, as_json)


@show_app.command("item", context_settings=IDS)
def show_item(
    item_id: Annotated[str, typer.Argument(metavar="ID")],
    workspace: Folder = DEFAULT_WORKSPACE,
    k: Annotated[int, typer.Option("-k", min=1, max=500, help="similar items to show")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show an item's attributes, its profile, and items like it."""
    from serving.show import print_item

    print_item(open_workspace(workspace, None), item_id, k, as_json)


add_upkeep(app)
add_report(app)
add_classify(app)
add_finetune(app)
add_match(app)
add_search(app)
add_tune(app)
add_off_policy(app)


if __name__ == "__main__":
    main()
