"""The `[[labels]]` of a configuration: classifiers on their way to profile columns, and those columns."""

from pathlib import Path

import polars as pl

from nlp import labelling
from nlp.labelling import Labelling
from profiles import manifest
from profiles.schema import ContractError
from profiles.snapshot import Snapshot
from serving.progress import Progress
from serving.settings import where
from serving.workspace import Workspace


def labellings(workspace: Workspace) -> list[Labelling]:
    """Return the classifiers that the settings name, checked; what is wrong is told with its line."""
    found = []
    for number, config in enumerate(workspace.settings.labels):
        try:
            found.append(Labelling.of(config, workspace.located(config.classifier)))
        except ContractError as error:
            place = where(workspace.config, ("labels", number, "classifier"))
            raise ContractError(f"{place}{error}") from None
    return found


def derive(workspace: Workspace, snapshot: Snapshot, progress: Progress) -> list[str]:
    """Write the columns beside the snapshot; returns the folders from the workspace on."""
    made = []
    for number, found in enumerate(labellings(workspace)):
        root, name = workspace.folder / "derived", found.config.name
        texts = snapshot.frame("texts").filter(pl.col("owner").is_in(found.config.kinds))
        count = texts["text_hash"].n_unique()
        with progress.task(f"build: labels {name}", count) as advance:
            try:
                folder = labelling.derive(snapshot, found, workspace.words.cache, root, advance)
            except ContractError as error:
                place = where(workspace.config, ("labels", number))
                raise ContractError(f"{place}[[labels]] {name!r}: {error}") from None
        about = manifest.read(folder)
        progress.say(
            f"build: labels {name!r}: {about['texts']:,} texts; in {about['silent']:,} no word is known"
        )
        made.append(str(folder.relative_to(workspace.folder)))
    return made


def key(workspace: Workspace) -> str:
    """Hash the settings and the classifiers' seals."""
    return manifest.content_key([(found.config.model_dump(), found.seal) for found in labellings(workspace)])


def folders(workspace: Workspace) -> list[Path]:
    """Return where the newest snapshot's columns are."""
    made = workspace.state().get("build", {}).get("labels", [])
    return [workspace.folder / name for name in made]


def profiles(workspace: Workspace, kind: str) -> pl.DataFrame:
    """Return the newest snapshot's profiles of each "user" or "item", labels behind the other columns."""
    frame = workspace.snapshot.frame(f"{kind}_profiles")
    for folder in folders(workspace):
        path = folder / f"{kind}_profiles.parquet"
        if path.is_file():
            columns = pl.read_parquet(path)
            frame = frame.join(columns, on=f"{kind}_id", how="left", maintain_order="left")
            frame = frame.with_columns(pl.col(name).fill_null([]) for name in columns.columns[-1:])
    return frame


def live(workspace: Workspace) -> list[Labelling]:
    """Return what the newest snapshot's users were labelled by; a classifier is read once a text is new."""
    found = []
    for folder in folders(workspace):
        about = manifest.read(folder)
        one = Labelling.again(about, workspace.located(about["config"]["classifier"]))
        if "user" in one.config.kinds:
            found.append(one)
    return found
