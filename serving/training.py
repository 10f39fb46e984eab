"""What surrounds the trainings of a workspace: how far they are, and how one that was cut off goes on."""

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from recsys import watch
from serving.progress import Progress
from serving.workspace import Workspace

TELL = 30.0  # seconds between two lines
KEPT = Path("cache") / "training"

Tell = Callable[[watch.Progress], None]


@dataclass(frozen=True)
class Checkpoints:
    """Where trainings are kept until they are done, and how often; nowhere without a folder."""

    folder: Path | None = None
    every: float = watch.EVERY  # seconds

    @classmethod
    def of(cls, workspace: Workspace, part: str = "") -> "Checkpoints":
        """Return those of a workspace, or of a part of its work."""
        return cls(workspace.folder / KEPT / part, workspace.settings.train.checkpoint_seconds)

    def kept(self) -> AbstractContextManager[None]:
        """Keep all trainings begun inside."""
        return nullcontext() if self.folder is None else watch.keeping(self.folder, self.every)

    def sweep(self) -> None:
        """Remove what is left of trainings that nobody went on with."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def teller(title: str, progress: Progress, every_epoch: bool = False) -> Tell:
    """Return what says of a training where it goes on, and now and then how far it is."""
    told, first = time.monotonic(), True

    def tell(at: watch.Progress) -> None:
        nonlocal told, first
        if first and at.resumed:
            progress.say(f"{title}: goes on from its checkpoint, in epoch {at.epoch} of {at.epochs}")
        first = False
        if (every_epoch and at.step == at.steps) or time.monotonic() - told > TELL:
            told = time.monotonic()
            scored = "" if at.validation is None else f", validation {at.validation:.4f}"
            progress.say(
                f"{title}: epoch {at.epoch} of {at.epochs}, step {at.step} of {at.steps}: "
                f"loss {at.loss:.4f}{scored}, {at.remaining_s:,.0f} s left"
            )

    return tell
