"""`attune classify`: labels learned from files, given to texts, and judged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli_options import AsJson, Quiet, print_json

if TYPE_CHECKING:
    import polars as pl

File = Annotated[Path, typer.Argument(metavar="FILE", help=".csv, .tsv, .parquet or .jsonl, a text a row")]
Made = Annotated[Path, typer.Argument(metavar="FOLDER", help="what `attune classify train` wrote")]
Text = Annotated[str, typer.Option("--text", help="column of the texts")]
Label = Annotated[str, typer.Option("--label", help="column of the labels")]
Separator = Annotated[
    str | None, typer.Option("--separator", help="a text may have several labels, parted by this")
]
Group = Annotated[str | None, typer.Option("--group", help="column whose equal values stay together")]
Settings = Annotated[Path | None, typer.Option("--settings", help="TOML file of settings")]
Set = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a setting; may be repeated")]
Report = Annotated[
    Path, typer.Option("--out", "-o", file_okay=False, help="folder for metrics.json and the plots")
]

classify_app = typer.Typer(no_args_is_help=True, help="Labels of texts: learn, predict, judge.")


@classify_app.command("train")
def train(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write, not there yet")],
    text: Text = "text",
    label: Label = "label",
    separator: Separator = None,
    settings: Settings = None,
    given: Set = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Learn labels from a file; run again after an interruption, it goes on where it was."""
    import shutil

    from nlp.classify import train as learn
    from recsys.watch import watching
    from serving.labelled import Asked, learnable
    from serving.progress import Progress

    asked = Asked(
        file=file, text=text, label=label, separator=separator, settings=settings, given=tuple(given or ())
    )
    said, config = learnable(asked)
    half = out.with_name(f".{out.name}.checkpoints")
    progress = Progress(quiet or as_json)
    with (
        progress.task(f"learning {len(said.texts):,} texts") as advance,
        watching(lambda _: advance(1), half),
    ):
        made = learn(said.texts, said.labels, config, out)
    shutil.rmtree(half, ignore_errors=True)
    about = {name: made.about[name] for name in ("texts", "left_out", "labels", "encoder")}
    if as_json:
        print_json(about)
    else:
        count, names = about["texts"], len(about["labels"])
        progress.say(f"{out}: {names} labels from {count:,} texts, {about['left_out']} empty ones left out")


@classify_app.command("predict")
def predict(
    folder: Made,
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="Parquet file to write")],
    text: Text = "text",
    explain: Annotated[bool, typer.Option("--explain", help="add `why`: the words that drove it")] = False,
    quiet: Quiet = False,
) -> None:
    """Write the file's rows with `predicted` and `probability` beside them."""
    import polars as pl

    from nlp.classify import load
    from serving.labelled import beside, read, reasons, write_parquet
    from serving.progress import Progress

    said = read(file, text)
    classifier = load(folder)
    found = classifier.frame(classifier.predict(said.texts))
    progress = Progress(quiet)
    if explain:
        with progress.task("words", len(found)) as advance:
            found = pl.concat([found, reasons(classifier, said.texts, found, advance)], how="horizontal")
    write_parquet(beside(said.frame, found, file), out)
    progress.say(f"{out}: {len(found):,} rows")


@classify_app.command("evaluate")
def evaluate(
    folder: Made,
    file: File,
    out: Report,
    text: Text = "text",
    label: Label = "label",
    separator: Separator = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Judge a classifier by a file it has not seen: a table here, JSON, HTML and PNG in --out."""
    from nlp import label_plots
    from nlp.classify import load
    from nlp.scorers import OverVectors
    from serving.labelled import curves_of, read, report, unlearned

    said = read(file, text, label, separator, group)
    classifier = load(folder)
    judged = classifier.judged(said.texts, said.labels)
    if told := unlearned(judged, classifier.labels.names):
        typer.echo(f"{file}: {told}", err=True)
    figures = report(judged, out, said.groups, curves_of(classifier.about["history"]))
    member = classifier.members[0]
    if isinstance(member, OverVectors):
        names = ["|".join(row) if isinstance(row, list) else str(row) for row in said.labels]
        label_plots.space(member.encoder.encode(said.texts), said.texts, names, out)
    _print(figures, out, as_json)


@classify_app.command("validate")
def validate(
    file: File,
    out: Report,
    text: Text = "text",
    label: Label = "label",
    separator: Separator = None,
    group: Group = None,
    folds: Annotated[int, typer.Option(min=2, help="parts, each judged by what the others taught")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="times over, each dealt anew")] = 1,
    settings: Settings = None,
    given: Set = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Judge settings by k folds of one file, whole groups on one side."""
    from nlp.classify import out_of_fold
    from nlp.crossval import CrossValidationConfig
    from serving.labelled import Asked, learnable, pooled, report
    from serving.progress import Progress

    asked = Asked(
        file=file, text=text, label=label, separator=separator, group=group, settings=settings,
        given=tuple(given or ()),
    )  # fmt: skip
    said, config = learnable(asked)
    dealing = CrossValidationConfig(folds=folds, repeats=repeats, seed=config.seed)
    with Progress(quiet or as_json).task("folds", folds * repeats) as advance:
        parts = out_of_fold(said.texts, said.labels, config, dealing, said.groups, lambda *_: advance(1))
    judged, whose = pooled(parts, said.groups)
    _print(report(judged, out, whose, {}), out, as_json)


def _print(figures: "pl.DataFrame", out: Path, as_json: bool) -> None:
    import sys

    import polars as pl
    from rich.console import Console
    from rich.table import Table

    whole = figures.filter(pl.col("label").is_null())
    if as_json:
        print_json(whole.to_dicts())
        return
    table = Table(title=f"{whole['support'][0]:,} texts, 95 % intervals; more in {out}")
    table.add_column("metric")
    for name in ("value", "low", "high"):
        table.add_column(name, justify="right")
    for row in whole.iter_rows(named=True):
        cells = ("–" if row[name] is None else f"{row[name]:.4f}" for name in ("value", "low", "high"))
        table.add_row(row["metric"], *cells)
    Console(width=None if sys.stdout.isatty() else 100, markup=False).print(table)


def add_classify(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(classify_app, name="classify")
