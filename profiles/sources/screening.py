"""What a row must keep to become an event, an item or a user: each promise is one line.

Rows that break one are refused with the reason; a broken price or availability is only blanked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from json import dumps, loads
from math import isfinite
from typing import Any

import polars as pl

from profiles.schema import EARLIEST, EVENTS, REJECTED, TIME, ContractError, Frame
from profiles.sources.casting import Times, TimeUnit, as_order, as_time, cast, times_of
from profiles.sources.mapping import Column, Target, pick

FILE, ROW = "file of row", "row in file"  # where a row stands: which of the files, and its number from 1
GIVEN = " as given"
_NOTHING = pl.DataFrame(schema={FILE: pl.Int32, ROW: pl.Int64, "problem": pl.String})


@dataclass(frozen=True)
class Check:
    """Rows where `broken` holds, and what to say about each of them."""

    broken: pl.Expr
    problem: pl.Expr


@dataclass(frozen=True)
class Screened:
    """The rows that passed and, by the number of the check they break, frames (FILE, ROW, problem)."""

    rows: pl.DataFrame
    refused: dict[int, pl.DataFrame]
    mended: dict[int, pl.DataFrame]


def given(name: str) -> str:
    """Name the column that keeps a number or a time as the source wrote it."""
    return f"{name}{GIVEN}"


def times(raw: pl.DataFrame, targets: Mapping[str, Target], frame: Frame) -> dict[str, Times]:
    """Return what the columns that become times hold."""
    moments = {name for name, dtype in frame.schema.items() if dtype == TIME} | {"valid_from"}
    return {name: times_of(pick(raw, target)) for name, target in targets.items() if name in moments}


def convert(
    raw: pl.DataFrame, targets: Mapping[str, Target], frame: Frame, units: Mapping[str, TimeUnit]
) -> pl.DataFrame:
    """Return the mapped columns in their types; what a number or time was before stands beside it."""
    work: dict[str, pl.Series] = {}
    for target_name, target in targets.items():
        column = pick(raw, target)
        split = target.split if isinstance(target, Column) else None
        ordered = target_name == "order" and frame is EVENTS
        name = "timestamp" if ordered else target_name
        dtype = (
            TIME if name == "valid_from" else frame.schema.get(name, pl.List(pl.String()) if split else None)
        )
        if split and not isinstance(dtype, pl.List):
            raise ContractError(f"{name} is no list: split is for categories, tags and attributes")
        if dtype is None:
            work[name] = (
                column.cast(pl.String) if isinstance(column.dtype, pl.Categorical | pl.Enum) else column
            )
            continue
        work[name] = as_order(column) if ordered else cast(column, dtype, units.get(name, "auto"), split)
        if isinstance(dtype, pl.Datetime | pl.Float64):
            text = (work[name] if column.dtype.is_temporal() else column).cast(pl.String)
            work[given(name)] = text.set(text == "", None)
    for name in frame.columns:
        work.setdefault(name, pl.Series([None], dtype=frame.schema[name]).new_from_index(0, raw.height))
    return pl.DataFrame(work)


def screen_events(work: pl.DataFrame, latest: datetime, timeless: bool) -> Screened:
    """Refuse events without user, type or readable time in [1990, latest], and values that are no number."""
    time, broken = pl.col("timestamp"), pl.col("properties").is_in(_no_objects(work))
    asked, day = given("timestamp"), time.dt.strftime("%Y-%m-%d")
    what = "order" if timeless else "time"
    checks = [
        Check(pl.col("user_id").is_null(), pl.lit("an event with no user")),
        Check(pl.col("event_type").is_null(), pl.lit("an event with no event_type")),
        Check(pl.col(asked).is_null(), pl.lit(f"no {what}")),
        Check(time.is_null(), pl.format(f"unreadable {what} {{}}", _quoted(asked))),
        *(
            []
            if timeless
            else [
                Check(time > latest, pl.format("time {} lies in the future", day)),
                Check(time < EARLIEST, pl.format("time {} lies before 1990: is time_unit right?", day)),
            ]
        ),
        *_number_checks(work, "value"),
        Check(broken, pl.format("properties {} are no JSON object", _quoted("properties"))),
    ]
    rows, refused = _refuse(work, checks)
    return Screened(_without_given(rows), refused, {})


def screen_rows(work: pl.DataFrame, key: str) -> Screened:
    """Refuse rows without id; blank prices that are no number and times that cannot be read."""
    rows, refused = _refuse(work, [Check(pl.col(key).is_null(), pl.lit(f"no {key}"))])
    mended: dict[int, pl.DataFrame] = {}
    for name in ("price", "available_from", "available_to", "valid_from"):
        if given(name) not in work.columns:
            continue
        if name == "price":
            checks = _number_checks(rows, name)
        else:
            unreadable = pl.col(name).is_null() & pl.col(given(name)).is_not_null()
            checks = [Check(unreadable, pl.format(f"unreadable {name} {{}}", _quoted(given(name))))]
        for check in checks:
            if (found := _rows_of(rows, check)).height:
                mended[len(mended)] = found
            rows = rows.with_columns(pl.when(~check.broken.fill_null(False)).then(pl.col(name)).alias(name))
    return Screened(_without_given(rows), refused, mended)


def refuse_repeated_ids(rows: pl.DataFrame, key: Sequence[str]) -> Screened:
    """Keep the first row of each key."""
    first = pl.struct(key).is_first_distinct()
    if rows.select(first.all()).item():
        return Screened(rows, {}, {})
    check = Check(
        ~first, pl.format(f"{key[0]} {{}} is there already; the first row is kept", _quoted(key[0]))
    )
    kept, refused = _refuse(rows, [check])
    return Screened(kept, refused, {})


def refuse_repeated_events(rows: pl.DataFrame, first: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Keep one event of each explicit id; count the same content again, refuse other content.

    `rows` have a `digest` of their content; `first` (event_id, digest) names ids that came before. Returns
    the rows kept, those refused (FILE, ROW, problem) and how many were the same again.
    """
    named = pl.col("event_id").is_not_null()
    come = first["event_id"].implode()
    kept = ~named | (pl.col("event_id").is_first_distinct() & ~pl.col("event_id").is_in(come))
    later = rows.filter(~kept)
    if not later.height:
        return rows, _NOTHING, 0
    own = rows.filter(kept & named).select("event_id", "digest")
    known = pl.concat([first, own]).rename({"digest": "first"})
    later = later.join(known, on="event_id", how="left", maintain_order="left")
    same = later["digest"] == later["first"]
    problem = pl.format("event_id {} is there already with other content", _quoted("event_id"))
    other = later.filter(~same).select(FILE, ROW, problem.alias("problem"))
    return rows.filter(kept), other, int(same.sum())


def rejected(
    source: str, names: Sequence[str], raw: pl.DataFrame, before: int, refused: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    """Return the refused rows of one part as REJECTED, each with the source's row as JSON, in order.

    `raw` is the part as it was read, of which `before` rows came before it in its file.
    """
    if not refused:
        return REJECTED.empty()
    rows = pl.concat(refused).sort(ROW)
    plain = _plain(_printable(raw[(rows[ROW] - 1 - before).to_list()]).to_dicts())
    content = [dumps(row, default=str, ensure_ascii=False, allow_nan=False) for row in plain]
    return REJECTED.conform(
        rows.select(
            pl.lit(source).alias("source"),
            pl.col(FILE).replace_strict(dict(enumerate(names)), return_dtype=pl.String).alias("file"),
            pl.col(ROW).alias("row"),
            "problem",
            pl.Series("content", content, dtype=pl.String),
        )
    )


def _refuse(work: pl.DataFrame, checks: Sequence[Check]) -> tuple[pl.DataFrame, dict[int, pl.DataFrame]]:
    """Part the rows by the first check each one breaks."""
    breaks = [pl.when(check.broken).then(pl.lit(place, pl.Int32)) for place, check in enumerate(checks)]
    verdict = work.select(pl.coalesce(breaks).alias("check"))["check"]
    refused = {}
    for place in verdict.drop_nulls().unique().sort():
        problem = checks[place].problem.alias("problem")
        refused[int(place)] = work.filter(verdict == place).select(FILE, ROW, problem)
    return work.filter(verdict.is_null()), refused


def _without_given(work: pl.DataFrame) -> pl.DataFrame:
    return work.drop([name for name in work.columns if name.endswith(GIVEN)])


def _rows_of(work: pl.DataFrame, check: Check) -> pl.DataFrame:
    return work.filter(check.broken).select(FILE, ROW, check.problem.alias("problem"))


def _number_checks(work: pl.DataFrame, name: str) -> list[Check]:
    if given(name) not in work.columns:
        return []
    number, written = pl.col(name), pl.col(given(name))
    broken = (number.is_null() & written.is_not_null()) | ~number.is_finite()
    return [Check(broken, pl.format(f"{name} {{}} is not a number", _quoted(given(name))))]


def _quoted(name: str) -> pl.Expr:
    """Show a value of any length on one line."""
    text = pl.col(name).cast(pl.String).str.replace_all(r"\s+", " ")
    cut = pl.when(text.str.len_chars() > 60).then(text.str.head(57) + "…").otherwise(text)
    return pl.format("'{}'", cut)


def _no_objects(work: pl.DataFrame) -> list[str]:
    """Return the properties that are no JSON object."""
    bad = []
    for text in work["properties"].drop_nulls().unique():
        try:
            if isinstance(loads(text), dict):
                continue
        except ValueError:
            pass
        bad.append(text)
    return bad


def _printable(raw: pl.DataFrame) -> pl.DataFrame:
    """Write moments as strings: Python's end with the year 9999."""
    moments = [name for name, dtype in raw.schema.items() if isinstance(dtype, pl.Datetime)]
    return raw.with_columns(as_time(raw[name], "auto").cast(pl.String).alias(name) for name in moments)


def _plain(value: Any) -> Any:
    """Write NaN and infinity as strings, at any depth: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
