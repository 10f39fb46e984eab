"""The `[[vectors]]` files of a configuration on their way to the recommenders."""

from pathlib import Path

from profiles.schema import ContractError
from profiles.snapshot import Snapshot
from recsys import vectors
from recsys.dataset import Vocabulary
from serving.progress import Progress
from serving.settings import where
from serving.workspace import Workspace


def files(workspace: Workspace) -> dict[str, Path]:
    """Return the files by label; one that is not there is told with its line."""
    found: dict[str, Path] = {}
    for number, config in enumerate(workspace.settings.vectors):
        place = where(workspace.config, ("vectors", number, "path"))
        try:
            path = workspace.located(config.path)
        except ContractError as error:
            raise ContractError(f"{place}{error}") from None
        if not path.is_file():
            raise ContractError(f"{place}there is no file {path}")
        found[config.label] = path
    return found


def derive(workspace: Workspace, snapshot: Snapshot, progress: Progress) -> str | None:
    """Write the vectors of the snapshot's items beside it; returns the folder from the workspace on."""
    named = files(workspace)
    if not named:
        return None
    ids = (snapshot.frame("items")["item_id"], snapshot.frame("events")["item_id"])
    place = vectors.derive(named, Vocabulary.of(*ids), workspace.folder / "derived" / snapshot.name)
    for label, kept in vectors.counts(place).items():
        left = f"{kept['unknown']:,} of unknown items, {kept['empty']:,} null or all zeros"
        progress.say(f"build: vectors {label!r}: {kept['items']:,} items; left out: {left}")
    return str(place.relative_to(workspace.folder))


def folder(workspace: Workspace) -> str | None:
    """Return where the newest snapshot's vectors are, from the workspace on."""
    place: str | None = workspace.state().get("build", {}).get("vectors")
    return place


def key(workspace: Workspace) -> str:
    """Hash what the files hold."""
    return vectors.content(files(workspace))
