"""What surrounds the fits of a program: who is told how far they are, where they are kept, where they run."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

EVERY = 60.0  # seconds between two checkpoints: what a kill costs at most, and what tiny epochs never pay


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
    resumed: bool = False  # whether the fit went on from a checkpoint


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    epoch: int  # from 1
    loss: float
    validation: float | None


@dataclass(frozen=True)
class Ended:
    """How a fit went, all of it."""

    epochs: Sequence[Epoch]
    resumed: bool  # whether it went on from a checkpoint: not all was done in this process


@dataclass(frozen=True)
class Watch:
    """What surrounds the fits of a program: none of it changes a result but `device`, in the last bits."""

    progress: Callable[[Progress], None] | None = None
    checkpoints: Path | None = None  # written there now and then; a fit that finds its own goes on
    every: float = EVERY  # seconds of work between two of them
    device: str | None = None  # of torch; none: CUDA where there is one
    validates: bool = False  # whether every epoch is validated that can be, though nothing stops by it
    ended: Callable[[Ended], None] | None = None  # of every fit, once it is done
    trial: bool = False  # of a search: one that goes on tells of the epochs before too; see `trying`


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def _with(watch: Watch) -> Iterator[None]:
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def watching(
    progress: Callable[[Progress], None] | None = None,
    checkpoints: Path | None = None,
    device: str | None = None,
    validates: bool = False,
    every: float = EVERY,
) -> AbstractContextManager[None]:
    """Watch every fit begun inside: `with watching(print): model.fit(train)`."""
    return _with(Watch(progress, checkpoints, every, device, validates))


@contextmanager
def keeping(checkpoints: Path, every: float = EVERY) -> Iterator[None]:
    """Keep every fit begun inside; whoever watches outside still does."""
    with _with(replace(watched(), checkpoints=checkpoints, every=every)):
        yield


@contextmanager
def telling(progress: Callable[[Progress], None]) -> Iterator[None]:
    """Tell of every fit begun inside; whoever watches outside still does."""
    outer = watched()

    def tell(now: Progress) -> None:
        progress(now)
        if outer.progress is not None:
            outer.progress(now)

    with _with(replace(outer, progress=tell)):
        yield


@contextmanager
def trying(progress: Callable[[Progress], None], validates: bool = False) -> Iterator[None]:
    """Watch the fits of a trial of a search; their checkpoints lie where whoever watches outside keeps them.

    A trial that was interrupted and goes on has to reach the same verdicts: so its fits tell of every epoch,
    those before the interruption too, and keep their checkpoints until all of the trial is done.
    """
    with _with(replace(watched(), progress=progress, validates=validates, trial=True)):
        yield


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
    with _with(replace(outer, checkpoints=place)):
        yield
    if not outer.trial:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def noting() -> Iterator[list[Ended]]:
    """Note how every fit begun inside went, once it is done; whoever notes outside still does."""
    outer, fits = watched(), list[Ended]()

    def note(fit: Ended) -> None:
        fits.append(fit)
        if outer.ended is not None:
            outer.ended(fit)

    with _with(replace(outer, ended=note)):
        yield fits


def watched() -> Watch:
    """Return what surrounds a fit that begins here."""
    return _WATCH.get() or Watch()


def device() -> "torch.device":
    """Return where a fit runs."""
    import torch

    wanted = watched().device
    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))


def multiplies_bfloat16() -> bool:
    """Say whether the processor has instructions that multiply bfloat16: elsewhere float32 is faster."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
