"""Files of texts and labels in, predictions and reports out: what `attune classify` does."""

import io
import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from nlp.classifier_config import ClassifierConfig
from nlp.classify import Classifier
from nlp.label_metrics import Judged, measure
from nlp.label_sets import Given
from nlp.text_files import column_of, table, texts_of
from profiles import manifest
from profiles.schema import ContractError

WORD = pl.Struct({"start": pl.Int64(), "end": pl.Int64(), "weight": pl.Float64(), "word": pl.String()})
WHY = pl.Struct({"label": pl.String(), "method": pl.String(), "error": pl.Float64(), "words": pl.List(WORD)})


class Asked(BaseModel):
    """A labelled file to learn from, as the command line names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    text: str = "text"  # column of the texts
    label: str = "label"  # column of the labels
    separator: str | None = None  # between several labels of a text
    group: str | None = None  # column whose equal values stay together
    settings: Path | None = None  # TOML
    given: tuple[str, ...] = ()  # NAME=VALUE


@dataclass(frozen=True)
class Texts:
    """What a file says, row by row."""

    frame: pl.DataFrame
    texts: list[str]
    labels: Given = ()
    groups: list[str] | None = None


def read(
    path: Path, text: str, label: str | None = None, separator: str | None = None, group: str | None = None
) -> Texts:
    """Read a file of texts; with `separator`, or a column of lists, a text has several labels.

    An empty cell of text is an empty text. Raises ContractError naming the file and the column or row.
    """
    frame = table(path)
    said = texts_of(frame, text, path)
    named, grouped = (None if n is None else column_of(frame, n, path) for n in (label, group))
    if frame.is_empty():
        raise ContractError(f"{path}: there are no rows")
    groups = None if grouped is None else grouped.cast(pl.String).fill_null("").to_list()
    labels = () if named is None else _labels(named, separator, path)
    return Texts(frame, said.fill_null("").to_list(), labels, groups)


def learnable(asked: Asked) -> tuple[Texts, ClassifierConfig]:
    """Read a labelled file and the settings it is learned by."""
    said = read(asked.file, asked.text, asked.label, asked.separator, asked.group)
    many = {"many": True} if said.labels and isinstance(said.labels[0], list) else {}
    return said, settings_of(asked.settings, asked.given, **many)


def settings_of(path: Path | None, given: Sequence[str], **more: Any) -> ClassifierConfig:
    """Return the settings of a TOML file, then of NAME=VALUE pairs (`encoder.model=…` for what is inside)."""
    try:
        return ClassifierConfig.model_validate(said_of(path, given) | more)
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(map(str, found["loc"])) or "settings"
        raise ContractError(f"{place}: {found['msg']}") from None


def said_of(path: Path | None, given: Sequence[str]) -> dict[str, Any]:
    """Return what a TOML file and NAME=VALUE pairs say, unchecked."""
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(path.read_text("utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ContractError(f"{path}: not readable as TOML: {error}") from None
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise ContractError(f"--set {pair}: NAME=VALUE is expected, as epochs=8")
        *outer, last = name.strip().split(".")
        inner = settings
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = _value(value.strip())
    return settings


def report(
    judged: Judged, folder: Path, groups: Sequence[str] | None, curves: dict[str, list[float]], seed: int = 0
) -> pl.DataFrame:
    """Write metrics.json and the plots into a folder; returns LABEL_METRICS."""
    from nlp import label_plots

    figures = measure(judged, seed=seed, groups=groups)
    content = json.dumps({"texts": len(judged.truth), "figures": figures.to_dicts()}, ensure_ascii=False)
    manifest.write_atomically(folder / "metrics.json", content.encode())
    label_plots.calibration(judged, folder)
    if not judged.labels.many:
        label_plots.confusion(judged, folder)
    if any(curves.values()):
        label_plots.learning(curves, folder)
    return figures


def pooled(parts: Sequence[tuple[Any, Judged]], groups: Sequence[str] | None) -> tuple[Judged, list[str]]:
    """Put folds together; returns whose each row is, so that one text in two repeats counts as one."""
    import numpy as np

    first = parts[0][1]
    truth = np.concatenate([judged.truth for _, judged in parts])
    found = np.concatenate([judged.probabilities for _, judged in parts])
    rows = np.concatenate([tested for tested, _ in parts]).tolist()
    whose = [f"{row}" if groups is None else groups[row] for row in rows]
    return Judged(first.labels, truth, found, first.threshold), whose


def curves_of(history: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the loss and the validation of each member by epoch."""
    many = len(history) > 1
    return {
        f"{what} of member {number}" if many else what: list(told[key])
        for number, told in enumerate(history, 1)
        for what, key in (("loss", "losses"), ("validation", "validations"))
        if told[key]
    }


def unlearned(judged: Judged, learned: Sequence[str]) -> str:
    """Say which true labels a classifier did not learn; nothing where it knows them all."""
    new = [column for column, name in enumerate(judged.labels.names) if name not in learned]
    if not new:
        return ""
    count = int(judged.truth[:, new].any(axis=1).sum())
    names = ", ".join(repr(judged.labels.names[column]) for column in new)
    return f"labels that it did not learn, of {count:,} texts, which it cannot get right: {names}"


def beside(frame: pl.DataFrame, found: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Put predictions beside the rows of a file; raises ContractError where a name is taken."""
    if taken := [name for name in found.columns if name in frame.columns]:
        raise ContractError(
            f"{path}: there is a column {taken[0]!r} already: rename it, predictions bring their own"
        )
    return pl.concat([frame, found], how="horizontal")


def reasons(
    classifier: Classifier, texts: Sequence[str], found: pl.DataFrame, advance: Callable[[int], None]
) -> pl.DataFrame:
    """Return `why` of each prediction: its label's words as spans, and by how much they miss its account."""
    from nlp.explain import label_reasons

    rows = []
    for text, given in zip(texts, found["predicted"].to_list(), strict=True):
        rows.append(
            [
                {
                    "label": label,
                    "method": why.method,
                    "error": why.error,
                    "words": [asdict(span) | {"word": text[span.start : span.end]} for span in why.spans],
                }
                for label in ([given] if isinstance(given, str) else given)
                for why in [label_reasons(classifier, text, label)]
            ]
        )
        advance(1)
    return pl.DataFrame({"why": rows}, {"why": pl.List(WHY)})


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame in one step."""
    content = io.BytesIO()
    frame.write_parquet(content)
    manifest.write_atomically(path, content.getvalue())


def _labels(column: pl.Series, separator: str | None, path: Path) -> Given:
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String)).fill_null([]).to_list()
    named = column.cast(pl.String)
    if separator is not None:
        parts = named.fill_null("").str.split(separator).to_list()
        return [[name for part in row if (name := part.strip())] for row in parts]
    for row, name in enumerate(named, 1):
        if not name:
            raise ContractError(f"{path}: row {row} has no label in column {column.name!r}")
    return named.to_list()


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word, as in method=tfidf
