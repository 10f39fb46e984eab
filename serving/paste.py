"""Settings as TOML, and put into a file with everything else left as it stands."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profiles import manifest
from profiles.schema import ContractError
from recsys.space import put as put_in

SCALAR = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^#\s,\[\]{}]+)"""
Tables = Mapping[str, Mapping[str, Any]]
Place = tuple[str, ...]  # of a table, as ("recommenders", "ease"); () is what stands before all tables


def table(place: Place, settings: Mapping[str, Any]) -> str:
    """Return a table with its settings; None, which TOML has no word for, is left out."""
    head = [f"[{'.'.join(place)}]"] if place else []
    return "\n".join([*head, *(f"{k} = {scalar(v)}" for k, v in settings.items() if v is not None)])


def scalar(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def source(name: str, settings: Mapping[str, Any]) -> str:
    """Return the table of a source."""
    return table(("recommenders", name), settings)


def sources(name: str, settings: Mapping[str, Any], others: Tables) -> str:
    """Return the tables of all sources, with new settings for one of them."""
    tables = {**others, name: {**others.get(name, {}), **settings}}
    return "\n".join(source(n, each) for n, each in tables.items())


def put(path: Path | None, write: Callable[[str], str], instead: str) -> Path:
    """Change the text of a file of settings in one step, and return its path.

    Raises ContractError where there is none, or it cannot be edited: with what to paste `instead`.
    """
    if path is None:
        raise ContractError("the workspace was opened without an attune.toml: name it by --config")
    try:
        changed = write(path.read_text("utf-8"))
    except ContractError as error:
        raise ContractError(f"{path}: {error}\n{instead}") from None
    manifest.write_atomically(path, changed.encode())
    return path


def with_source(text: str, name: str, settings: Mapping[str, Any], defaults: Tables) -> str:
    """Return the text of an attune.toml with new settings for a source.

    Where the file names no sources, they are all written: those in `defaults` would be gone otherwise. Raises
    ContractError where the text cannot be edited line by line.
    """
    if "recommenders" not in tomllib.loads(text):
        return f"{text.rstrip()}\n\n{sources(name, settings, defaults)}\n"
    return written(text, ("recommenders", name), settings)


def written(text: str, place: Place, settings: Mapping[str, Any]) -> str:
    """Return a TOML text with new settings in one table, its other lines and comments kept.

    Raises ContractError where the text cannot be edited line by line, as with inline tables.
    """
    before = tomllib.loads(text)
    for name in settings:
        outer, _, inner = name.partition(".")
        if inner and _header(text.splitlines(), (*place, outer)) is not None:  # where it has its own table
            text = written(text, (*place, outer), {inner: settings[name]})
            settings = {n: v for n, v in settings.items() if n != name}
            return written(text, place, settings) if settings else text
    lines = text.splitlines()
    start = _header(lines, place) if place else -1
    if _at(before, place) is None:
        lines += ["", *table(place, settings).splitlines()]
    elif start is not None:
        stop = next(
            (n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines)
        )
        lines[start + 1 : stop] = _edited(lines[start + 1 : stop], settings)
    after = "\n".join(lines) + "\n"
    try:
        found = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        found = {}
    if found != _merged(before, place, settings):
        where = f"a table of its own, as [{'.'.join(place)}]" if place else "lines of their own"
        raise ContractError(f"the file does not hold the settings in {where}: paste them")
    return after


def _header(lines: Sequence[str], place: Place) -> int | None:
    """Return the line where a table begins, None without."""
    names = r"\s*\.\s*".join(rf"""["']?{re.escape(name)}["']?""" for name in place)
    header = re.compile(rf"\s*\[\s*{names}\s*\]\s*(#.*)?")
    return next((n for n, line in enumerate(lines) if header.fullmatch(line)), None)


def _at(tree: Mapping[str, Any], place: Place) -> Any:
    """Return the table at a place, None where there is none."""
    for name in place:
        tree = tree.get(name) if isinstance(tree, Mapping) else None  # type: ignore[assignment]
    return tree


def _merged(tree: Mapping[str, Any], place: Place, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree with settings at a place; None takes one away."""
    if place:
        first, rest = place[0], place[1:]
        return {**tree, first: _merged(tree.get(first, {}), rest, settings)}
    return {key: value for key, value in put_in(tree, settings).items() if value is not None}


def _edited(lines: list[str], settings: Mapping[str, Any]) -> list[str]:
    """Change the lines of keys that are there, and add those of others behind the last of the table."""
    kept, missing = [], dict(settings)
    for line in lines:
        found = re.match(rf"(\s*([A-Za-z0-9_.]+)\s*=\s*){SCALAR}(.*)", line)
        if found is None or found[2] not in missing:
            kept.append(line)
        elif (value := missing.pop(found[2])) is not None:
            kept.append(f"{found[1]}{scalar(value)}{found[3]}")
    end = len(kept)
    while end and (not kept[end - 1].strip() or kept[end - 1].lstrip().startswith("#")):
        end -= 1
    kept[end:end] = [f"{k} = {scalar(v)}" for k, v in missing.items() if v is not None]
    return kept
