"""What a search found, as a table for people, plain values for machines, and a file that a report reads."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from profiles import manifest
from profiles.schema import ContractError
from recsys.edges import Edge
from serving.tune import TunedSource

BEST = 10  # trials shown


def plain(tuned: TunedSource) -> dict[str, Any]:
    """Return what was found as JSON takes it."""
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
        "edges": [asdict(edge) for edge in tuned.edges],
        "trials": [asdict(t) for t in tuned.found.tries],
    }


def keep(tuned: TunedSource, folder: Path) -> None:
    """Write what was found beside the trials of a workspace."""
    content = json.dumps(plain(tuned), indent=1, ensure_ascii=False).encode()
    manifest.write_atomically(folder / "tuning" / f"{tuned.source}.json", content)


def kept(folder: Path) -> list[dict[str, Any]]:
    """Return what was found last for each subject; raises ContractError for a file that is not as written."""
    found = []
    for path in sorted((folder / "tuning").glob("*.json")):
        try:
            told = json.loads(path.read_bytes())
            found.append(told | {"edges": [Edge(**edge) for edge in told["edges"]]})
        except (ValueError, KeyError, TypeError) as error:
            raise ContractError(f"{path}: not as it was written: {error}; tune again") from None
    return found


def show(tuned: TunedSource, text: str) -> None:
    """Print the best trials and that of the settings now, then what there is to paste."""
    console = Console(highlight=False, markup=False)
    tries = tuned.found.tries
    count = {s: sum(t.state == s for t in tries) for s in ("done", "pruned", "failed")}
    ended = f"{count['done']} trials, {count['pruned']} stopped early, {count['failed']} failed"
    table = Table(title=f"{tuned.source}: {ended}", title_justify="left", caption_justify="left")
    table.caption = "by what was held out; no test is read: let one say what the best is worth"
    table.add_column("", no_wrap=True)
    table.add_column(tuned.metric, justify="right")
    for name in tuned.before:
        share = tuned.found.importance.get(name)
        table.add_column(name if share is None else f"{name} ({share:.0%})", justify="right")
    ranked = sorted((t for t in tries if t.state == "done"), key=lambda t: -(t.value or 0.0))
    shown = ranked[:BEST]
    if tuned.current is not None and tuned.current not in shown:
        shown = [*shown, tuned.current]
    for t in shown:
        place = "now" if t is tuned.current else f"{ranked.index(t) + 1}"
        cells = [cell(value) for value in t.settings.values()]
        table.add_row(place, "–" if t.value is None else f"{t.value:.4f}", *cells)
    console.print(table)
    if not tuned.found.complete:
        console.print("the time is over before all trials were done; the same command goes on")
    for edge in tuned.edges:
        console.print(str(edge), soft_wrap=True)
    if text:
        console.print(text, soft_wrap=True)


def cell(value: Any) -> str:
    """Return a setting as people read it."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
