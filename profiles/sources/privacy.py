"""Personal data in text: where it stands, and how it is masked before anything is stored.

A mask names the kind and nothing else, `[email]` or `[phone]`: the same text always gives the same masked
text, and masking twice changes nothing. What is recognised, and what is left alone, is in `personal_data`.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from profiles.sources.personal_data import PATTERNS, Kind

KINDS: tuple[Kind, ...] = tuple(PATTERNS)  # in the order they are looked for: an IBAN holds phone numbers

# Unicode's noncharacters mark what was found; where one stands in a text it is written as two others.
MARK, ESCAPE, ESCAPED_ESCAPE, ESCAPED_MARK = "\ufdd0", "\ufdd1", "\ufdd1\ufdd2", "\ufdd1\ufdd3"
# Whatever is looked for has an @, or "at" in brackets, or seven digits; in JSON any letter may be an escape.
WORTH_A_LOOK = r"[@＠]|[\[({] ?(?i:at) ?[\])}]|(?:\d\D*){7}|\\u"
JSON_STRING = r'"(?:[^"\\]|\\.)*"(?:\s*:)?'  # with the colon that makes it a key

Text = TypeVar("Text", pl.Series, pl.Expr)


class PrivacyConfig(BaseModel):
    """What becomes of personal data in what users wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: bool = Field(False, description="whether personal data in text is masked before it is stored")
    kinds: tuple[Kind, ...] = Field(KINDS, min_length=1, description="what is masked")


def mask(text: Text, kinds: Sequence[Kind] = KINDS) -> Text:
    """Return the texts with each piece of personal data replaced by its kind in brackets."""
    if isinstance(text, pl.Expr):
        return text.map_batches(lambda column: mask(column, kinds), return_dtype=pl.String)
    rows = text.str.contains(WORTH_A_LOOK).fill_null(False).arg_true()
    if rows.is_empty():
        return text
    masked = text.gather(rows)
    for kind in KINDS:
        if kind in kinds:
            masked = _rewrite(masked, PATTERNS[kind].candidate, partial(_hide, kind))
    return text.clone().scatter(rows, masked)  # scatter writes in place


def mask_json(objects: pl.Series, kinds: Sequence[Kind] = KINDS) -> pl.Series:
    """Return JSON texts with their string values masked at any depth; all else keeps its very bytes.

    Keys and numbers stay.
    """
    rows = objects.str.contains(WORTH_A_LOOK).fill_null(False).arg_true()
    if rows.is_empty():
        return objects
    masked = _rewrite(objects.gather(rows), JSON_STRING, partial(_mask_strings, kinds))
    return objects.clone().scatter(rows, masked)


def find(events: pl.DataFrame, kinds: Sequence[Kind] = KINDS) -> pl.DataFrame:
    """Return (row, one column of booleans a kind) for the EVENTS whose `text` or `properties` hold any."""
    text, properties = mask(events["text"], kinds), mask_json(events["properties"], kinds)
    changed = text.ne_missing(events["text"]) | properties.ne_missing(events["properties"])
    held = {"row": changed.arg_true()}
    text, properties = events["text"].filter(changed), events["properties"].filter(changed)
    for kind in KINDS:
        if kind in kinds:
            before = (text, properties)
            text, properties = mask(text, (kind,)), mask_json(properties, (kind,))
            held[kind] = text.ne_missing(before[0]) | properties.ne_missing(before[1])
    return pl.DataFrame(held)


def apply(events: pl.DataFrame, config: PrivacyConfig) -> pl.DataFrame:
    """Return EVENTS as `config` lets them be kept: masked in `text` and in the strings of `properties`.

    An event_id stays, also one that was made from the content before.
    """
    if not config.mask:
        return events
    return events.with_columns(
        mask(events["text"], config.kinds).alias("text"),
        mask_json(events["properties"], config.kinds).alias("properties"),
    )


def _rewrite(text: pl.Series, candidate: str, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Cut texts at the edges of what `candidate` finds, change these pieces, each once, and join all."""
    rows = text.str.contains(candidate).fill_null(False).arg_true()
    if rows.is_empty():
        return text
    some = text.gather(rows)
    if escaped := some.str.contains(f"[{MARK}{ESCAPE}]").any():
        some = some.str.replace_all(ESCAPE, ESCAPED_ESCAPE, literal=True)
        some = some.str.replace_all(MARK, ESCAPED_MARK, literal=True)
    cut = some.str.replace_all(candidate, f"{MARK}${{0}}{MARK}").str.split(MARK)
    # What is found stands between marks: it is every second piece.
    pieces = pl.DataFrame({"row": rows, "piece": cut}).explode("piece")
    pieces = pieces.with_columns(found=pl.int_range(pl.len()).over("row") % 2 == 1)
    found = pieces.filter("found")["piece"].unique()
    changed = pl.DataFrame({"piece": found, "new": change(found)})
    pieces = pieces.join(changed, on="piece", how="left", maintain_order="left")
    new = pl.when("found").then("new").otherwise("piece")
    joined = pieces.group_by("row", maintain_order=True).agg(new.str.join("").alias("text"))["text"]
    if escaped:
        joined = joined.str.replace_all(ESCAPED_MARK, MARK, literal=True)
        joined = joined.str.replace_all(ESCAPED_ESCAPE, ESCAPE, literal=True)
    return text.clone().scatter(rows, joined)  # scatter writes in place


def _hide(kind: Kind, pieces: pl.Series) -> pl.Series:
    """Put the mask over the candidates that are proven."""
    piece, pattern = pl.col("piece"), PATTERNS[kind]
    hidden = pl.when(pattern.proof(piece)).then(piece.str.replace(pattern.part, f"[{kind}]")).otherwise(piece)
    return pieces.to_frame("piece").select(hidden).to_series()


def _mask_strings(kinds: Sequence[Kind], literals: pl.Series) -> pl.Series:
    """Mask JSON string literals; those that end in a colon are keys."""
    values = literals.filter(~literals.str.ends_with(":") & literals.str.contains(WORTH_A_LOOK))
    decoded = pl.Series([_decoded(literal) for literal in values], dtype=pl.String)
    masked = mask(decoded, kinds)
    new = [
        literal if before == after else json.dumps(after, ensure_ascii=False)
        for literal, before, after in zip(values, decoded, masked, strict=True)
    ]
    return literals.replace(values, pl.Series(new, dtype=pl.String))


def _decoded(literal: str) -> str:
    """Read a JSON string; a lone surrogate counts as "?", and what cannot be read as it stands."""
    try:
        text: str = json.loads(literal, strict=False)
    except ValueError:
        text = literal[1:-1]
    return text.encode("utf-8", "replace").decode()
