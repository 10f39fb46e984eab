"""A copy of what cannot be made again: the log, what was shown, settings and releases.

Snapshots, vectors and answers are made from these by `attune run`.
"""

import shutil
from pathlib import Path

from profiles import manifest
from profiles.schema import ContractError
from serving.erased import ERASED
from serving.progress import Progress
from serving.workspace import Workspace

KEPT = ("settings.json", "rejected.parquet", ERASED, "releases")
STORES = ("events", "exposures")


def backup(workspace: Workspace, place: Path, progress: Progress) -> None:
    """Write a sealed copy to a new folder; other processes may go on writing meanwhile."""
    if place.exists():
        raise ContractError(f"{place} exists; give a folder that is not there yet")
    with manifest.building(place, {"what": "attune backup"}) as folder:
        for name, store in zip(STORES, (workspace.store, workspace.exposures), strict=True):
            with progress.task(f"backup: {name}"):
                store.backup(folder / name)
        with progress.task("backup: settings and releases"):
            for name in KEPT:
                path = workspace.folder / name
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns(".*"))
                elif path.is_file():
                    shutil.copy2(path, folder / name)


def restore(place: Path, target: Path, progress: Progress) -> Workspace:
    """Make a workspace of a backup in a new folder, once every file has its recorded hash."""
    if target.exists() and any(target.iterdir()):
        raise ContractError(f"{target} is not empty; give a folder that is not there yet")
    with progress.task("restore: check"):
        manifest.verify(place)
    for name in KEPT:
        path = place / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target / name)
        elif path.is_file():
            shutil.copy2(path, target / name)
    workspace = Workspace(target)
    for name, store in zip(STORES, (workspace.store, workspace.exposures), strict=True):
        with progress.task(f"restore: {name}"):
            store.restore(place / name)
    return workspace
