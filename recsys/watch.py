"""What surrounds the fits of a program: who is told how far they are, where they are kept, where they run."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Progress:
    """Where a fit stands."""

    epoch: int  # from 1
    epochs: int
    step: int  # of this epoch, from 1
    steps: int
    loss: float  # mean over this epoch so far
    validation: float | None  # at the end of an epoch that was validated
    remaining_s: float  # until all epochs are done


@dataclass(frozen=True)
class Watch:
    """What surrounds the fits of a program: none of it changes a result but `device`, in the last bits."""

    progress: Callable[[Progress], None] | None = None
    checkpoints: Path | None = None  # written there now and then; a fit that finds its own goes on
    device: str | None = None  # of torch; none: CUDA where there is one
    validates: bool = False  # whether every epoch is validated that can be, though nothing stops by it
    trial: bool = False  # of a search: one that goes on tells of the epochs before too; see `trying`


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(
    progress: Callable[[Progress], None] | None = None,
    checkpoints: Path | None = None,
    device: str | None = None,
    validates: bool = False,
) -> Iterator[None]:
    """Watch every fit begun inside: `with watching(print): model.fit(train)`."""
    token = _WATCH.set(Watch(progress, checkpoints, device, validates))
    try:
        yield
    finally:
        _WATCH.reset(token)


@contextmanager
def trying(progress: Callable[[Progress], None], validates: bool = False) -> Iterator[None]:
    """Watch the fits of a trial of a search; their checkpoints lie where whoever watches outside keeps them.

    A trial that was interrupted and goes on has to reach the same verdicts: so its fits tell of every epoch,
    those before the interruption too, and keep their checkpoints until all of the trial is done.
    """
    token = _WATCH.set(replace(watched(), progress=progress, validates=validates, trial=True))
    try:
        yield
    finally:
        _WATCH.reset(token)


@contextmanager
def undertaking(name: str) -> Iterator[None]:
    """Keep the checkpoints of the fits begun inside, parts of one piece of work, until all of it is done.

    They lie in a folder of that `name` among those of whoever watches outside; an error leaves it there. What
    is undertaken in a trial is a part of that.
    """
    outer = watched()
    if outer.checkpoints is None:
        yield
        return
    place = outer.checkpoints / name
    token = _WATCH.set(replace(outer, checkpoints=place))
    try:
        yield
    finally:
        _WATCH.reset(token)
    if not outer.trial:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def noting() -> Iterator[list[Progress]]:
    """Note where every fit begun inside stands after each epoch; whoever watches outside still does."""
    outer, epochs = watched(), list[Progress]()

    def note(now: Progress) -> None:
        if now.step == now.steps:
            epochs.append(now)
        if outer.progress is not None:
            outer.progress(now)

    token = _WATCH.set(replace(outer, progress=note))
    try:
        yield epochs
    finally:
        _WATCH.reset(token)


def watched() -> Watch:
    """Return what surrounds a fit that begins here."""
    return _WATCH.get() or Watch()


def device() -> "torch.device":
    """Return where a fit runs."""
    import torch

    wanted = watched().device
    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
