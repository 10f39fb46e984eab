"""Printing one user or one item for a person, or as JSON for a machine."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from profiles.schema import ContractError
from serving.engine import Engine
from serving.labels import profiles
from serving.progress import print_json
from serving.workspace import Workspace

TOLD = 48  # characters shown of a text that speaks for a label


def print_user(workspace: Workspace, user_id: str, k: int, as_json: bool) -> None:
    """Print profile, latest events and recommendations of one user; an unknown user is an error."""
    engine = Engine(workspace, workspace.release)
    found = engine.profile(user_id)
    if not found["known"]:
        raise ContractError(f"nothing is known of user {user_id!r}")
    answer = engine.recommend(engine.past(user_id, datetime.now(UTC)), k, explain=True)
    if as_json:
        print_json(found | {"recommendations": answer["items"]})
        return
    console = Console(highlight=False, markup=False)  # an id may look like markup
    console.print(f"user {user_id}", style="bold")
    _print_mapping(console, "attributes", {k: v for k, v in found["attributes"].items() if k != "user_id"})
    titles = dict(workspace.release.catalogue.attributes.select("item_id", "title").iter_rows())
    told = {name for one in engine.labellings for name in one.config.columns}
    _print_profile(console, found["profile"], engine.evidence(user_id), titles, told)
    table = Table("when", "what", "item", "text", title="latest events", title_justify="left")
    for event in found["events"]:
        item = event["item_id"] or ""
        name = titles.get(item) or item
        table.add_row(f"{event['timestamp']:%Y-%m-%d %H:%M}", event["event_type"], name, event["text"] or "")
    console.print(table)
    print_list(console, answer["items"], "recommended now")


def print_item(workspace: Workspace, item_id: str, k: int, as_json: bool) -> None:
    """Print attributes, profile and neighbours of one item; an unknown item is an error."""
    engine = Engine(workspace, workspace.release)
    near = engine.similar(item_id, k, datetime.now(UTC))
    attributes = workspace.release.catalogue.attributes.filter(pl.col("item_id") == item_id)
    if near is None or not len(attributes):
        raise ContractError(f"the active release has no item {item_id!r}")
    profile = profiles(workspace, "item").filter(pl.col("item_id") == item_id)
    row = profile.drop("item_id").row(0, named=True) if len(profile) else {}
    titles = dict(workspace.release.catalogue.attributes.select("item_id", "title").iter_rows())
    if as_json:
        print_json({**attributes.row(0, named=True), "profile": row, "similar": near["items"]})
        return
    console = Console(highlight=False, markup=False)
    console.print(f"item {item_id}", style="bold")
    _print_mapping(console, "attributes", attributes.drop("item_id").row(0, named=True))
    _print_mapping(console, "profile", row)
    items = [i | {"attributes": {"title": titles.get(i["item_id"])}, "reasons": []} for i in near["items"]]
    print_list(console, items, "items like it")


def print_list(console: Console, items: list[dict[str, Any]], title: str) -> None:
    """Print one ranked list with titles and the first reason of each item."""
    table = Table("", "item", "title", "score", "why", title=title, title_justify="left")
    for item in items:
        why = "; ".join(r["text"] for r in item["reasons"][:2])
        name = item["attributes"].get("title") or ""
        table.add_row(str(item["rank"]), item["item_id"], name, f"{item['score']:.4f}", why)
    console.print(table)


def _print_profile(
    console: Console,
    profile: dict[str, Any],
    evidence: dict[str, pl.DataFrame],
    titles: dict[str, str | None],
    told: set[str],
) -> None:
    """Print what is known, each column with the events behind it; those of `told` by their words."""
    table = Table("column", "value", "made from", title="profile", title_justify="left")
    above = ""
    for name, value in _counted(profile).items():
        if value is None or value in ([], 0, False):
            continue
        events = evidence.get(name)
        rows = [] if events is None else events.iter_rows(named=True)
        behind = "; ".join(_event(row, titles, name in told) for row in rows)
        table.add_row(name, _say(value), "″" if behind and behind == above else behind)
        above = behind
    if table.row_count:
        console.print(table)


def _counted(profile: dict[str, Any]) -> dict[str, Any]:
    """Put the windows of each count into one line, in place of the count over all time."""
    lines: dict[str, Any] = {}
    windows: list[str] = []
    for name, value in profile.items():
        stem, _, window = name.rpartition("_")
        if f"{stem}_all" in profile and window.removesuffix("d").isdecimal():
            windows.append(f"{value} in {window}")
        elif window == "all" and windows:
            lines[name] = f"{value} ({', '.join(windows)})" if value else 0
            windows = []
        else:
            lines[name] = value
    return lines


def _event(row: dict[str, Any], titles: dict[str, str | None], told: bool) -> str:
    if told:
        said = " ".join(row["text"].split())
        shown = said if len(said) <= TOLD else f"{said[: TOLD - 1]}…"
        return f"{row['timestamp']:%m-%d} {row['event_type']} “{shown}”"
    what = titles.get(row["item_id"]) or row["item_id"] or row["text"] or ""
    return f"{row['timestamp']:%m-%d} {row['event_type']} {what[:24]}".rstrip()


def _print_mapping(console: Console, title: str, values: dict[str, Any]) -> None:
    table = Table("column", "value", title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        if value is not None and value != [] and value != 0:
            table.add_row(name, _say(value))
    if table.row_count:
        console.print(table)


def _say(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_say(v) for v in value)
    if isinstance(value, dict) and set(value) == {"value", "share"}:
        return f"{value['value']} {value['share']:.0%}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
