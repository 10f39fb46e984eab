"""`attune tune`: search the settings of recommenders and of texts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli_options import DEFAULT_WORKSPACE, AsJson, Config, Folder, Quiet, print_json

if TYPE_CHECKING:
    from recsys.tries import Try
    from recsys.tuning import Tell
    from serving.progress import Progress
    from serving.tune import Subject, TunedSource

PANEL = "Of classify and pretrain"  # options that stand together


def tune(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME…", help="sources, recommenders, or all; finetune; pretrain; classify"),
    ],
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    method: Annotated[str | None, typer.Option(help="bayesian, random or grid")] = None,
    trials: Annotated[int | None, typer.Option(help="settings tried in all, earlier runs counted")] = None,
    minutes: Annotated[float | None, typer.Option(help="when the run stops; the next goes on")] = None,
    memory_gb: Annotated[float | None, typer.Option(help="what the process of a trial may take")] = None,
    pruning: Annotated[str | None, typer.Option(help="median, halving or none")] = None,
    metric: Annotated[
        str | None, typer.Option(help="what is to be large: ndcg; of classify f1_macro")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="list length it is measured at")] = None,
    seed: Annotated[int | None, typer.Option(help="of what is drawn")] = None,
    only: Annotated[list[str] | None, typer.Option(help="search this setting; may be repeated")] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", help="NAME=LOW:HIGH or NAME=A,B,C, or OUTER.NAME=…: search it there; repeats"
        ),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="folder to write plots to, HTML and PNG")] = None,
    write: Annotated[bool, typer.Option("--write", help="put the best into the file of settings")] = False,
    file: Annotated[
        Path | None, typer.Option(help="labelled texts; of pretrain: texts", rich_help_panel=PANEL)
    ] = None,
    text: Annotated[str, typer.Option(help="column of the texts", rich_help_panel=PANEL)] = "text",
    label: Annotated[str, typer.Option(help="column of the labels", rich_help_panel=PANEL)] = "label",
    separator: Annotated[
        str | None, typer.Option(help="between several labels of a text", rich_help_panel=PANEL)
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="column whose equal values stay together", rich_help_panel=PANEL)
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="parts, left out in turn", rich_help_panel=PANEL)] = 5,
    share: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.99, help="left out once, in place of folds", rich_help_panel=PANEL),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML file of what is not searched", rich_help_panel=PANEL)
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of it", rich_help_panel=PANEL)
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search settings by what is held out, never by a test; a search that was begun goes on."""
    from profiles.schema import ContractError
    from serving.progress import Progress
    from serving.tune import pair
    from serving.tune import tune as search
    from serving.tune_subjects import subjects
    from serving.tune_table import keep, plain, show
    from serving.workspace import alone

    progress = Progress(quiet or as_json)
    asked = {
        "method": method, "trials": trials, "minutes": minutes, "memory_gb": memory_gb, "pruning": pruning,
        "metric": metric, "k": k, "seed": seed,
    }  # fmt: skip
    labelled = {
        "file": file, "text": text, "label": label, "separator": separator, "group": group,
        "settings": settings, "given": tuple(given or ()),
    }  # fmt: skip
    dealing = {"folds": folds} if share is None else {"method": "holdout", "share": share}
    wanted = {name: value for name, value in asked.items() if value is not None}
    named = subjects(names, workspace, config, wanted, labelled, dealing, progress)
    found = []
    with alone(workspace):
        for subject in named:
            try:
                with _telling(subject, progress) as tell:
                    tuned = search(subject, workspace, only or (), tell, dict(map(pair, ranges or ())))
            except ContractError as error:
                if len(named) == 1:
                    raise
                progress.say(f"tune {subject.name}: {error}")
                continue
            keep(tuned, workspace)
            if plots is not None:
                from serving.tune_plots import write as draw

                progress.say(f"tune {subject.name}: {' and '.join(map(str, draw(tuned, plots)))}")
            found.append((tuned, _settle(subject, tuned, write, progress)))
    if as_json:
        print_json([plain(tuned) for tuned, _ in found])
    elif not quiet:
        for tuned, to_paste in found:
            show(tuned, to_paste)


@contextmanager
def _telling(subject: "Subject", progress: "Progress") -> "Iterator[Tell]":
    """Show how a search goes on: each trial, and the best so far."""
    from recsys.tries import leader
    from serving.tune_table import cell

    with progress.task(f"tune {subject.name}", subject.config.trials) as advance:
        shown = 0

        def tell(tries: "Sequence[Try]", left: float) -> None:
            nonlocal shown
            advance(len(tries) - shown)
            shown, best, last = len(tries), leader(tries), tries[-1]
            if last is best and best is not None:
                told = ", ".join(f"{n} = {cell(v)}" for n, v in last.settings.items())
                progress.say(
                    f"tune {subject.name}: trial {len(tries)}: {subject.metric} {last.value:.4f}, "
                    f"the best so far: {told}; about {left / 60:.0f} min left"
                )
            elif last.state == "failed":
                progress.say(f"tune {subject.name}: trial {len(tries)} failed: {last.reason}")

        yield tell


def _settle(subject: "Subject", tuned: "TunedSource", write: bool, progress: "Progress") -> str:
    """Write the best settings where they are read from, or return the TOML to paste."""
    if tuned.settings == tuned.before:
        return "the settings are the best that were tried"
    if not write:
        return subject.toml(tuned.settings)
    path = subject.put(tuned.settings)
    progress.say(f"tune {tuned.source}: {path} now says\n{subject.toml(tuned.settings)}")
    return ""


def add_tune(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(tune)
