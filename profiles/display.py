"""How objects show themselves: tables as HTML in which nothing a stranger wrote is taken for markup."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Any

import polars as pl

from profiles.schema import ContractError

ROWS = 20  # of a frame shown
NONE = "–"


def said(value: Any) -> str:
    """Return a value as a person reads it, on one line; not escaped."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, list | tuple):
        return ", ".join(said(part) for part in value)
    return str(value)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    caption: str = "",
    numbers: Collection[str] = (),
    marked: Collection[tuple[int, int]] = (),
) -> str:
    """Return an HTML table whose first column names its rows; columns called `numbers` are to the right.

    Cells are `said` and escaped. Those `marked` by row and column stand out, in bold with a tick.
    """

    kinds = {name: ' class="n"' if name in numbers else "" for name in head}
    named = "".join(f'<th scope="col"{kinds[name]}>{escape(name)}</th>' for name in head)

    def cell(text: str, place: tuple[int, int]) -> str:
        tag = 'th scope="row"' if place[1] == 0 else "td"
        kind = kinds[head[place[1]]]
        if place in marked:
            kind, text = ' class="hit"', f"<strong>✓ {text}</strong>"
        return f"<{tag}{kind}>{text}</{tag[:2]}>"

    lines = (
        "<tr>" + "".join(cell(escape(said(v)), (r, c)) for c, v in enumerate(row)) + "</tr>"
        for r, row in enumerate(rows)
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{named}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def frame_table(frame: pl.DataFrame, caption: str = "") -> str:
    """Return the first rows of a frame as an HTML table, and how many more there are."""
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    more = f"<p>… and {len(frame) - ROWS:,} more rows</p>" if len(frame) > ROWS else ""
    return table(frame.columns, frame.head(ROWS).iter_rows(), caption, numbers) + more


class Displayed:
    """What shows itself in a notebook; a subclass gives `to_polars`, and a `_caption` above its table."""

    @abstractmethod
    def to_polars(self) -> pl.DataFrame:
        """Return what this holds as a frame."""

    def to_pandas(self) -> Any:
        """Return what this holds as a pandas frame; raises ContractError where pandas is not installed."""
        try:
            return self.to_polars().to_pandas()
        except ImportError:
            raise ContractError("pandas is not installed: pip install 'attune[notebooks]'") from None

    def _caption(self) -> str:
        return type(self).__name__

    def _repr_html_(self) -> str:
        return frame_table(self.to_polars(), self._caption())
