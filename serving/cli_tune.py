"""`attune tune`: search the settings of recommenders."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from serving.progress import Progress
    from serving.tune import TunedSource, Tuner


def tune(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="sources, recommenders, or all")],
    workspace: Folder = DEFAULT_WORKSPACE,
    config: Config = None,
    method: Annotated[str | None, typer.Option(help="bayesian, random or grid")] = None,
    trials: Annotated[int | None, typer.Option(help="settings tried in all, earlier runs counted")] = None,
    minutes: Annotated[float | None, typer.Option(help="when the run stops; the next goes on")] = None,
    memory_gb: Annotated[float | None, typer.Option(help="what the process of a trial may take")] = None,
    pruning: Annotated[str | None, typer.Option(help="median, halving or none")] = None,
    metric: Annotated[str | None, typer.Option(help="what is to be large, as ndcg")] = None,
    k: Annotated[int | None, typer.Option("-k", help="list length it is measured at")] = None,
    seed: Annotated[int | None, typer.Option(help="of what is drawn")] = None,
    only: Annotated[list[str] | None, typer.Option(help="search this setting; may be repeated")] = None,
    plots: Annotated[Path | None, typer.Option(help="folder to write plots to, HTML and PNG")] = None,
    write: Annotated[bool, typer.Option("--write", help="put the best into attune.toml")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search the settings of recommenders on validation, never on test; a search that was begun goes on."""
    from profiles.schema import ContractError
    from serving.pipeline import Pipeline
    from serving.progress import Progress
    from serving.tune import Tuner, chosen

    opened, progress = open_workspace(workspace, config), Progress(quiet or as_json)
    asked = {
        "method": method, "trials": trials, "minutes": minutes, "memory_gb": memory_gb, "pruning": pruning,
        "metric": metric, "k": k, "seed": seed,
    }  # fmt: skip
    wanted = chosen(opened.settings.tune, {name: value for name, value in asked.items() if value is not None})
    pipeline = Pipeline(opened, progress)
    pipeline.run(("build",))
    found = []
    with opened.alone():
        tuner = Tuner(pipeline, wanted)
        asked_for = tuner.names(names)
        for name in asked_for:
            try:
                tuned = _search(tuner, name, only or (), progress)
            except ContractError as error:
                if len(asked_for) == 1:
                    raise
                progress.say(f"tune {name}: {error}")
                continue
            if plots is not None:
                from serving.tune_plots import write as draw

                space = tuner.space(tuner.choice(name))
                paths = draw(tuned, space.only(only) if only else space, plots)
                progress.say(f"tune {name}: {' and '.join(map(str, paths))}")
            found.append((tuned, _settle(tuner, tuned, write, progress)))
    if as_json:
        print_json([_plain(tuned) for tuned, _ in found])
    elif not quiet:
        for tuned, text in found:
            _print(tuned, text)


def _search(tuner: "Tuner", name: str, only: Sequence[str], progress: "Progress") -> "TunedSource":
    from recsys.tries import Try, leader

    with progress.task(f"tune {name}", tuner.config.trials) as advance:
        shown = 0

        def tell(tries: Sequence[Try], left: float) -> None:
            nonlocal shown
            advance(len(tries) - shown)
            shown, best, last = len(tries), leader(tries), tries[-1]
            if last is best and best is not None:
                told = ", ".join(f"{n} = {_cell(v)}" for n, v in last.settings.items())
                progress.say(
                    f"tune {name}: trial {len(tries)}: {tuner.config.metric}@{tuner.config.k} "
                    f"{last.value:.4f}, the best so far: {told}; about {left / 60:.0f} min left"
                )
            elif last.state == "failed":
                progress.say(f"tune {name}: trial {len(tries)} failed: {last.reason}")

        return tuner.tune(name, only, tell)


def _settle(tuner: "Tuner", tuned: "TunedSource", write: bool, progress: "Progress") -> str:
    """Write the best settings where `attune train` finds them, or return the TOML to paste."""
    from serving import paste

    if tuned.settings == tuned.before:
        return "the settings are the best that were tried"
    if not write:
        return tuner.toml(tuned)
    path = tuner.put(tuned)
    progress.say(f"tune {tuned.source}: {path} now says\n{paste.table(tuned.source, tuned.settings)}")
    return ""


def _plain(tuned: "TunedSource") -> dict[str, Any]:
    from dataclasses import asdict

    best, now = tuned.found.best, tuned.current
    return {
        "source": tuned.source,
        "type": tuned.type,
        "metric": tuned.metric,
        "settings": tuned.settings,
        "value": best.value,
        "before": tuned.before,
        "value_before": None if now is None else now.value,
        "complete": tuned.found.complete,
        "importance": tuned.found.importance,
        "trials": [asdict(t) for t in tuned.found.tries],
    }


def _print(tuned: "TunedSource", text: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    tries = tuned.found.tries
    count = {s: sum(t.state == s for t in tries) for s in ("done", "pruned", "failed")}
    ended = f"{count['done']} trials, {count['pruned']} stopped early, {count['failed']} failed"
    table = Table(title=f"{tuned.source}: {ended}", title_justify="left", caption_justify="left")
    table.caption = "on validation; the test is not read: `attune evaluate` says what it gives there"
    table.add_column("", no_wrap=True)
    table.add_column(tuned.metric, justify="right")
    for name in tuned.before:
        share = tuned.found.importance.get(name)
        table.add_column(name if share is None else f"{name} ({share:.0%})", justify="right")
    ranked = sorted((t for t in tries if t.state == "done"), key=lambda t: -(t.value or 0.0))
    shown = ranked[:10]
    if tuned.current is not None and tuned.current not in shown:
        shown = [*shown, tuned.current]
    for t in shown:
        place = "now" if t is tuned.current else f"{ranked.index(t) + 1}"
        cells = [_cell(value) for value in t.settings.values()]
        table.add_row(place, "–" if t.value is None else f"{t.value:.4f}", *cells)
    console.print(table)
    if not tuned.found.complete:
        console.print("the time is over before all trials were done; the same command goes on")
    if text:
        console.print(text, soft_wrap=True)


def _cell(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def add_tune(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(tune)
