"""Settings of a source as TOML, and put into an attune.toml with everything else left as it stands."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from profiles.schema import ContractError

SCALAR = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^#\s,\[\]{}]+)"""


def table(name: str, settings: Mapping[str, Any]) -> str:
    """Return `[recommenders.name]` with its settings; None, which TOML has no word for, is left out."""
    return "\n".join(
        [f"[recommenders.{name}]", *(f"{k} = {scalar(v)}" for k, v in settings.items() if v is not None)]
    )


def scalar(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def whole(name: str, settings: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of all sources, with new settings for one of them."""
    tables = {**others, name: {**others.get(name, {}), **settings}}
    return "\n".join(table(n, each) for n, each in tables.items())


def written(
    text: str, name: str, settings: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the text of an attune.toml with new settings for a source, its other lines and comments kept.

    Where the file names no sources, they are all written: those in `defaults` would be gone otherwise. Raises
    ContractError where the text cannot be edited line by line, as with inline tables.
    """
    before = tomllib.loads(text)
    sources = before.get("recommenders")
    if sources is None:
        return f"{text.rstrip()}\n\n{whole(name, settings, defaults)}\n"
    lines = text.splitlines()
    header = re.compile(rf"""\s*\[\s*recommenders\s*\.\s*["']?{name}["']?\s*\]\s*(#.*)?""")
    start = next((n for n, line in enumerate(lines) if header.fullmatch(line)), None)
    if name not in sources:
        lines += ["", *table(name, settings).splitlines()]
    elif start is not None:
        stop = next(
            (n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines)
        )
        lines[start + 1 : stop] = _edited(lines[start + 1 : stop], settings)
    after = "\n".join(lines) + "\n"
    wanted = {**sources, name: {**sources.get(name, {}), **settings}}
    wanted[name] = {key: value for key, value in wanted[name].items() if value is not None}
    try:
        found = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        found = {}
    if found != {**before, "recommenders": wanted}:
        raise ContractError(
            f"the file has no table of its own for the source, as [recommenders.{name}]: paste the settings"
        )
    return after


def _edited(lines: list[str], settings: Mapping[str, Any]) -> list[str]:
    """Change the lines of keys that are there, and add those of others behind the last of the table."""
    kept, missing = [], dict(settings)
    for line in lines:
        found = re.match(rf"(\s*([A-Za-z0-9_]+)\s*=\s*){SCALAR}(.*)", line)
        if found is None or found[2] not in missing:
            kept.append(line)
        elif (value := missing.pop(found[2])) is not None:
            kept.append(f"{found[1]}{scalar(value)}{found[3]}")
    end = len(kept)
    while end and (not kept[end - 1].strip() or kept[end - 1].lstrip().startswith("#")):
        end -= 1
    kept[end:end] = [f"{k} = {scalar(v)}" for k, v in missing.items() if v is not None]
    return kept
