"""Presets: well-known public data sets by name, as the sources and settings that read their files.

The data sets are described in presets.toml; layouts.py and presets_layouts.py read what a column
mapping alone cannot express.
"""

import glob
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from profiles.schema import ContractError
from profiles.sources import presets_mind as mind
from profiles.sources.presets_layouts import plain
from profiles.sources.presets_read import File
from profiles.sources.variables import filled, unset

KINDS = ("events", "items", "users")
SECTIONS = ("interactions", "evaluation")  # suggested beside the sources


def presets() -> dict[str, str]:
    """Return a line of description, with the page that describes the files, for every preset."""
    return {name: f"{about['description']}; {about['page']}" for name, about in _presets().items()}


def expand(name: str, path: str, root: Path) -> dict[str, Any]:
    """Return what attune.toml would say of a data set whose files lie in the folder `path`.

    `path` may hold ${VAR} and starts at `root` if it is relative. The keys are events, items and users,
    and those of the sections interactions and evaluation that the data set suggests. Raises ContractError
    for a name that is no preset and for a folder without the files that cannot be missing.
    """
    about = _preset(name)
    folder = path.rstrip("/") or "/"
    tables: dict[str, Any] = {}
    for kind in KINDS:
        for source in deepcopy(about.get(kind, [])):
            paths = _alternatives(source)
            if not source.get("optional"):
                _expect(name, source["name"], paths, folder, root)
            placed = [_placed(folder, file) for file in paths]
            tables.setdefault(kind, []).append(source | {"path": placed})
    return tables | {section: deepcopy(about[section]) for section in SECTIONS if section in about}


def exposures(name: str, path: str, root: Path) -> Iterator[pl.DataFrame]:
    """Yield EXPOSURES that a data set's files tell of, in batches; nothing where it has none.

    Raises ContractError as `expand` does.
    """
    about = _preset(name)
    if "exposures" not in about:
        return
    paths = about["exposures"]["path"]
    _expect(name, "impressions", paths, path, root)
    for file in _found(_folder(path, root), paths):
        part = mind.part_of(file)
        for frame in plain(mind.BEHAVIORS)(File(file)):
            yield mind.exposures(frame, part)


@cache
def _presets() -> dict[str, dict[str, Any]]:
    tables = tomllib.loads(files("profiles.sources").joinpath("presets.toml").read_text("utf-8"))
    return {name: tables.get(about.get("same_as"), {}) | about for name, about in tables.items()}


def _preset(name: str) -> dict[str, Any]:
    known = _presets()
    if name not in known:
        close = get_close_matches(name.lower(), known, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise ContractError(f"no preset is called {name!r}; {hint}")
    return known[name]


def _alternatives(source: dict[str, Any]) -> list[str]:
    path = source["path"]
    return [path] if isinstance(path, str) else list(path)


def _placed(folder: str, file: str) -> str:
    """Join them; where `file` is a pattern, the folder's own brackets and stars are none."""
    return f"{glob.escape(folder) if glob.has_magic(file) else folder}/{file}"


def _folder(path: str, root: Path) -> Path:
    """Return the folder meant; raises ContractError for a variable that is not set."""
    if lacking := unset(path):
        raise ContractError(f"{path} names ${{{lacking[0]}}}, which is not set; set it to the folder meant")
    return root / Path(filled(path)).expanduser()


def _found(folder: Path, paths: list[str]) -> list[Path]:
    """Return the files of the first alternative that has any."""
    for pattern in paths:
        if matches := sorted(file for file in folder.glob(pattern) if file.is_file()):
            return matches
    return []


def _expect(name: str, label: str, paths: list[str], path: str, root: Path) -> None:
    folder, about = _folder(path, root), _preset(name)
    if _found(folder, paths):
        return
    wanted = f"{label} are read from {' or '.join(paths)}, of {about['archive']}: {about['page']}"
    if folder.is_file():
        raise ContractError(f"preset {name!r}: {folder} is a file; give the folder that holds it; {wanted}")
    if not folder.is_dir():
        raise ContractError(f"preset {name!r}: there is no folder {folder}; {wanted}")
    deeper = _found(folder, [f"*/{pattern}" for pattern in paths])
    hint = f"; there is one in {deeper[0].parent}: give that folder" if deeper else ""
    raise ContractError(f"preset {name!r}: the file is not in {folder}; {wanted}{hint}")
