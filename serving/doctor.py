"""`attune doctor`: environment, configuration and data in one report."""

import os
import platform
import shutil
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from profiles import threads
from profiles.schema import ContractError
from profiles.sources import locate
from serving import brought, labels
from serving.workspace import Workspace, settings_file

Line = tuple[str, str, str]  # part, level, message

PACKAGES = ("torch", "torch-geometric", "transformers", "implicit", "polars", "duckdb", "fastapi", "numpy")


def examine(folder: Path, config: Path | None) -> list[Line]:
    """Return what is there and what is missing; a later part is skipped where an earlier one fails."""
    lines = _environment()
    try:
        workspace = Workspace(folder, settings_file(folder, config))
    except ContractError as error:
        return [*lines, *(("configuration", "FAIL", text) for text in str(error).splitlines())]
    lines.append(("configuration", "PASS", f"{len(workspace.settings.recommenders)} recommenders"))
    return [*lines, *_sources(workspace), *_contents(workspace)]


def _environment() -> list[Line]:
    lines: list[Line] = [
        ("environment", "PASS", f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"),
        (
            "environment",
            "PASS",
            f"{threads.available()} threads, {shutil.disk_usage('.').free >> 30} GiB free",
        ),
    ]
    for name in PACKAGES:
        try:
            lines.append(("environment", "PASS", f"{name} {version(name)}"))
        except PackageNotFoundError:
            lines.append(("environment", "FAIL", f"{name} is not installed; run pip install attune again"))
    data = os.environ.get("ATTUNE_DATA")
    lines.append(("environment", "PASS", f"ATTUNE_DATA={data}" if data else "ATTUNE_DATA is not set"))
    return lines


def _sources(workspace: Workspace) -> list[Line]:
    lines: list[Line] = []
    settings = workspace.settings
    for source in (*settings.events, *settings.items, *settings.users):
        try:
            files, notes = locate(source, workspace.root)
        except ContractError as error:
            lines.append(("data", "FAIL", f"{source.label}: {error}"))
            continue
        size = sum(file.stat().st_size for file in files) / 1e6
        found = f"{source.label}: {len(files)} files, {size:.1f} MB" if files else "; ".join(notes)
        lines.append(("data", "PASS" if files else "WARN", found))
    try:
        for one in labels.labellings(workspace):
            lines += [("data", "PASS", f"labels {one.config.name}: {', '.join(one.labels)}")]
    except ContractError as error:
        lines.append(("data", "FAIL", f"labels: {error}"))
    try:
        for label, path in brought.files(workspace).items():
            lines.append(("data", "PASS", f"vectors {label}: {path.stat().st_size / 1e6:.1f} MB"))
    except ContractError as error:
        lines.append(("data", "FAIL", f"vectors: {error}"))
    return lines


def _contents(workspace: Workspace) -> list[Line]:
    if workspace.folder.exists() and not workspace.folder.is_dir():
        return [("workspace", "FAIL", f"{workspace.folder} is a file; name a folder")]
    if not (workspace.folder / "store" / "events.db").exists():
        return [("workspace", "WARN", f"{workspace.folder} holds no log yet; run `attune run`")]
    try:
        events = workspace.store.watermark()
    except (sqlite3.Error, OSError) as error:
        return [("workspace", "FAIL", f"{workspace.folder / 'store' / 'events.db'}: {error}")]
    lines: list[Line] = [("workspace", "PASS" if events else "WARN", f"{events:,} events in the log")]
    try:
        name = workspace.releases.active()
        if name is None:
            lines.append(("workspace", "WARN", "no release is active; run `attune train`"))
        else:
            release = workspace.release
            age = datetime.now(UTC) - datetime.fromisoformat(release.about["created"])
            lines.append(("workspace", "PASS", f"release {name} is active and intact, {age.days} days old"))
    except ContractError as error:
        lines.append(("workspace", "FAIL", str(error)))
    return lines
