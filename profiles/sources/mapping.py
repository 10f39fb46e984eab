"""Which source column fills which column of a frame: the `columns` table of a source."""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

import polars as pl
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
)

from profiles.schema import ContractError, Frame


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Constant(_Written):
    """One value for every row: `{ constant = "rating" }`."""

    constant: StrictStr | StrictBool | StrictInt | StrictFloat = Field(description="the value of every row")


class Expression(_Written):
    """A Polars SQL expression over the source's columns: `{ expression = "summary || ' ' || review" }`."""

    expression: str = Field(description="a Polars SQL expression", min_length=1, max_length=10_000)


class Column(_Written):
    """A column whose strings are taken apart into a list: `{ column = "genres", split = "|" }`."""

    column: str = Field(description="the source's column", min_length=1)
    split: str | None = Field(
        None, description="what separates the parts of a list", min_length=1, max_length=20
    )


def _shape(value: Any) -> str | None:
    """Tell the kinds of target apart by their key, so that an error speaks of one kind only."""
    if isinstance(value, str):
        return "name"
    keys = value if isinstance(value, dict) else dict(value) if isinstance(value, BaseModel) else {}
    return next((key for key in ("constant", "expression", "column") if key in keys), None)


Name = Annotated[str, Field(min_length=1)]
Target = Annotated[
    Annotated[Name, Tag("name")]
    | Annotated[Constant, Tag("constant")]
    | Annotated[Expression, Tag("expression")]
    | Annotated[Column, Tag("column")],
    Discriminator(
        _shape,
        custom_error_type="column_target",
        custom_error_message="give a source column's name, { constant = … }, { expression = … } "
        "or { column = …, split = … }",
    ),
]
Columns = Mapping[str, Target]

# Parts of a Polars expression that take other rows into account, and those that hold plain names or values.
LOOKS_BEYOND = {"Agg", "Over", "Rolling", "Window", "Sort", "SortBy", "Gather", "Filter", "Slice", "Explode"}
NAMES = {"Column", "Literal"}


def complete(
    columns: Columns, attributes: Iterable[str], frame: Frame, raw: pl.DataFrame
) -> dict[str, Target]:
    """Return the target of every column: the written ones, then source columns of the same name.

    Raises ContractError for a target that `frame` does not know and for a required one without a source.
    """
    ordered = frame.name == "EVENTS" and "order" in columns
    if ordered and "timestamp" in columns:
        raise ContractError("columns maps both timestamp and order; keep order only for a log without times")
    for name in columns:
        close = get_close_matches(name, frame.columns, 1, 0.8 if frame.open else 0.5)
        if name not in frame.columns and not (ordered and name == "order") and (close or not frame.open):
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(frame.columns)}"
            raise ContractError(f"columns names {name!r}, which {frame.name} does not have: {hint}")
    targets: dict[str, Target] = dict(columns)
    for name in (*frame.columns, *attributes):
        if (
            name not in targets
            and not (ordered and name == "timestamp")
            and (name in raw.columns or name in attributes)
        ):
            targets[name] = name
    for name, column in frame.columns.items():
        if column.optional or name in targets or name == "event_id" or (ordered and name == "timestamp"):
            continue
        if name == "timestamp":
            advice = "columns maps neither timestamp nor, for a log without times, order"
        else:
            constant = ', or { constant = "view" } for one value' if name == "event_type" else ""
            advice = f"no column is mapped to {name} ({column.meaning}); give its column's name{constant}"
        raise ContractError(f"{advice}; the file has {', '.join(raw.columns)}")
    return targets


def pick(raw: pl.DataFrame, target: Target) -> pl.Series:
    """Return what a target stands for, one value a row of `raw`."""
    match target:
        case Constant(constant=value):
            return pl.Series("constant", [value]).new_from_index(0, raw.height)
        case Expression(expression=text):
            try:
                found = pl.sql_expr(text)
                _refuse_other_rows(found, text)
                return raw.with_columns(found.alias("expression"))["expression"]
            except pl.exceptions.PolarsError as error:
                reason = str(error).splitlines()[0].split("; valid columns")[0]
                raise ContractError(
                    f"expression {text!r}: {reason}; the file has {', '.join(raw.columns)}"
                ) from error
        case Column(column=name) | str(name):
            if name in raw.columns:
                return raw[name]
            close = get_close_matches(name, raw.columns, 3, 0.5)
            hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
            raise ContractError(f"the file has no column {name!r}{hint}; it has {', '.join(raw.columns)}")


def _refuse_other_rows(expression: pl.Expr, text: str) -> None:
    """Refuse what looks beyond its own row: a source is read in parts, and none is the whole."""
    nodes: list[Any] = [json.loads(expression.meta.serialize(format="json"))]
    while nodes:
        match nodes.pop():
            case dict(node):
                if LOOKS_BEYOND & node.keys() or "Len" in (v for k, v in node.items() if k not in NAMES):
                    raise ContractError(
                        f"expression {text!r} looks at other rows; only what stands in one row can be used"
                    )
                nodes += [value for key, value in node.items() if key not in NAMES]
            case list(parts):
                nodes += parts
