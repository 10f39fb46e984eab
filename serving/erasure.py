"""Taking people, or old events, out of a workspace: the log, every file made from it, and models.

The store forgets first, at once for every reader. Then go what is derived: rejected rows, answers,
measured rows and vectors lose theirs; snapshots, derived frames, fitted models and their checkpoints are
removed whole and built anew. A release cannot be unpicked, nor can an encoder: those that were trained on
what is gone are named, or with `retrain` replaced and deleted. The encoder that the settings read stays and
stays named: texts could not be read without it, and only a person can say when to fine-tune again.

What remains of a person is a salted hash (`erased`), so that reading the same source files again does not
bring back what was before the erasure.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from profiles import manifest
from profiles.schema import EPOCH
from profiles.store import Removed
from profiles.texts import text_hash
from serving.erased import remember
from serving.ingest import FOLDER
from serving.pipeline import STAGES, Pipeline
from serving.progress import Progress
from serving.workspace import ENCODERS, Workspace

EVERYTHING = 1 << 62
END = datetime.max.replace(tzinfo=UTC)
PER_USER = ("recommendations", "contributions", "metrics", "examples")


@dataclass(frozen=True)
class Outcome:
    """What was taken out, and what had learned from it."""

    removed: Removed
    releases: list[str]  # still there, or deleted
    deleted: bool
    encoders: list[str] = field(default_factory=list)  # still there, in encoders/


def erase(workspace: Workspace, users: Sequence[str], retrain: bool, progress: Progress) -> Outcome:
    """Take everything of some users out of a workspace; an id that nothing is known of is no error."""
    with workspace.alone():
        pasts = [workspace.store.tail(user, EVERYTHING, END) for user in users]
        first = min((t for past in pasts if (t := past["timestamp"].min()) is not None), default=None)
        texts = pl.concat([past["text"].drop_nulls() for past in pasts])
        learned = _learned(workspace, first)
        remember(workspace.folder, users, datetime.now(UTC))
        # Vectors first: once the log has forgotten the texts, nobody knows whose they were.
        workspace.words.cache.forget([text_hash(text) for text in texts])
        with progress.task("erase: the log"):
            removed = _sum(workspace.store.erase(users), workspace.exposures.erase(users))
        with progress.task("erase: what was made from it"):
            _forget_rows(workspace, users)
            _forget_derived(workspace)
    return _rebuilt(workspace, removed, learned, retrain, progress)


def retain(
    workspace: Workspace, cut: datetime, event_types: Sequence[str] | None, retrain: bool, progress: Progress
) -> Outcome:
    """Take out events before `cut`, of some types or of all, and what was made from them."""
    with workspace.alone():
        learned = _learned(workspace, EPOCH)
        with progress.task("retain: the log"):
            removed = _sum(
                workspace.store.retain(cut, event_types), workspace.exposures.retain(cut, event_types)
            )
        if removed == Removed():
            return Outcome(removed, [], False)
        with progress.task("retain: what was made from it"):
            (workspace.folder / "examples.parquet").unlink(missing_ok=True)  # they show histories
            _forget_derived(workspace)
    return _rebuilt(workspace, removed, learned, retrain, progress)


def _sum(*parts: Removed) -> Removed:
    return Removed(sum(p.events for p in parts), sum(p.exposures for p in parts))


def _learned(workspace: Workspace, first: object) -> list[str]:
    """Return the releases that may have learned from an event of this moment."""
    if not isinstance(first, datetime):
        return []
    found = []
    for name in workspace.releases.names():
        as_of = datetime.fromisoformat(manifest.read(workspace.releases.root / name)["as_of"])
        if as_of >= first:
            found.append(name)
    return found


def _forget_rows(workspace: Workspace, users: Sequence[str]) -> None:
    """Rewrite the workspace's files of rows without these users, and without rejected rows that name them."""
    for name in PER_USER:
        if (workspace.folder / f"{name}.parquet").exists():
            frame = workspace.read(name)
            workspace.write(name, frame.filter(~pl.col("user_id").is_in(list(users)).fill_null(False)))
    if (workspace.folder / "rejected.parquet").exists():
        frame = workspace.read("rejected")
        written = [json.dumps(user, ensure_ascii=False)[1:-1] for user in users]
        named = pl.any_horizontal(
            pl.col(column).str.contains_any([*users, *written]) for column in ("content", "problem")
        )
        workspace.write("rejected", frame.filter(~named))


def _forget_derived(workspace: Workspace) -> None:
    """Remove what is built from the log, and the memory of having built it; a report shows users too."""
    for name in ("snapshots", "derived", "cache", "report", FOLDER):
        shutil.rmtree(workspace.folder / name, ignore_errors=True)
    state = {stage: result for stage, result in workspace.state().items() if stage == "ingest"}
    manifest.write_atomically(workspace.folder / "state.json", json.dumps(state, indent=2).encode())


def _rebuilt(
    workspace: Workspace, removed: Removed, learned: list[str], retrain: bool, progress: Progress
) -> Outcome:
    """Build profiles without what is gone; with `retrain` models too, and delete those that learned it."""
    pipeline = Pipeline(workspace, progress)
    # When an encoder learned, and of whom, it does not say: where anything is gone all may have learned it.
    encoders = _encoders(workspace) if removed.events else []
    if not workspace.store.watermark() or not _events_left(workspace):
        return Outcome(removed, learned, False, encoders)
    pipeline.run(tuple(stage for stage in STAGES if stage != "ingest") if retrain else ("build",))
    if not retrain:
        return Outcome(removed, learned, False, encoders)
    in_use = [name for name in encoders if _reads(workspace, name)]
    for name in set(encoders) - set(in_use):
        shutil.rmtree(workspace.folder / ENCODERS / name)
    active = workspace.releases.active()
    for name in learned:
        if name != active:
            workspace.releases.delete(name)
    return Outcome(removed, [name for name in learned if name != active], True, in_use)


def _encoders(workspace: Workspace) -> list[str]:
    """Return the names of the encoders that were trained in this workspace."""
    return sorted(path.name for path in (workspace.folder / ENCODERS).glob("[!.]*"))


def _reads(workspace: Workspace, encoder: str) -> bool:
    """Whether the settings read texts with an encoder of this workspace."""
    models = (workspace.settings.text.model, workspace.settings.search.reader.model)
    own = (workspace.folder / ENCODERS / encoder).resolve()
    return any(model is not None and workspace.located(model).resolve() == own for model in models)


def _events_left(workspace: Workspace) -> bool:
    return next(iter(workspace.store.scan(columns=("event_id",))), pl.DataFrame()).height > 0
