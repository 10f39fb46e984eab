"""The one gradient loop: epochs, early stop, seed, device, checkpoint, resume, progress.

It knows no model: a `Task` brings a module, its batches, a loss and, if it can be validated, a metric.
The randomness of an epoch comes from (seed, epoch) alone, and a checkpoint inside one holds where it stands,
so a fit that was killed at any moment and goes on ends with the same bits as one that was not. Under torchrun
several processes fit together: see `recsys.ranks`. Torch is imported when a fit begins.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from profiles import manifest, memory
from profiles.schema import ContractError
from recsys.checkpoints import State, Within, keep, resume
from recsys.optimizing import MOMENTUM, Group, optimizer
from recsys.ranks import Ranks
from recsys.space import Tuned
from recsys.watch import Ended, Epoch, Progress, device, multiplies_bfloat16, watched

if TYPE_CHECKING:
    import torch

CHECK = 50  # steps between two looks at the loss: on a GPU each look waits for it
TELL = 5.0  # seconds between two reports of progress inside an epoch


class TrainingConfig(BaseModel):
    """Hyperparameters of the loop, mixed into the configuration of every recommender that uses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Literal["adamw", "sgd", "adagrad"] = Field("adamw", description="adamw, sgd or adagrad")
    learning_rate: Annotated[PositiveFloat, Tuned(1e-4, 1e-2, log=True)] = Field(
        1e-3, description="step size at its highest"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="how the step size falls to 0 over all epochs: constant (it does not), …"
    )
    warmup_steps: NonNegativeInt = Field(0, description="steps over which the step size rises from 0")
    warmup_share: float = Field(
        0.0, ge=0, lt=1, description="the same as a share of all steps; the longer of the two counts"
    )
    momentum: float = Field(
        MOMENTUM, ge=0, lt=1, description="share of the last step that sgd goes on with; 0: plain sgd"
    )
    weight_decay: NonNegativeFloat = Field(0.0, description="pull of every weight towards 0 a step")
    clip: PositiveFloat | None = Field(None, description="gradients of a larger norm are scaled down to it")
    batch_size: PositiveInt = Field(128, description="examples a step")
    epochs: PositiveInt = Field(50, description="passes over the examples, at most")
    patience: NonNegativeInt = Field(
        0, description="epochs without a better validation before it stops; 0: no validation, all epochs"
    )
    update_epochs: PositiveInt = Field(
        5, description="passes over the examples in an update, the step size falling to 0 over them"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the products: auto is bfloat16 where the recommender gains by it, and the processor",
    )
    seed: NonNegativeInt = Field(0, description="of first weights, batches, dropout and negatives")


Config = TypeVar("Config", bound=TrainingConfig)


def of_update(config: Config) -> Config:
    """Return the settings of an update: `update_epochs`, all of them, the step size falling from its highest.

    It learns from everything there is, so nothing is held out, and it ends as a fit with a schedule does:
    a constant step would leave the newest batch the loudest.
    """
    schedule = "cosine" if config.schedule == "cosine" else "linear"
    changed = {"epochs": config.update_epochs, "patience": 0, "schedule": schedule}
    return config.model_copy(update=changed | {"warmup_steps": 0, "warmup_share": 0.0})


@dataclass(frozen=True)
class Task:
    """What is learned. `loss` is a mean over the rows of a batch and runs on the module's device."""

    module: "torch.nn.Module"
    batches: Callable[[np.random.Generator], Sequence[np.ndarray]]  # rows of an epoch's examples
    loss: Callable[[np.ndarray, np.random.Generator], "torch.Tensor"]
    key: str  # stands for the data: a checkpoint of other data is not gone on from
    validate: Callable[[], float] | None = None  # larger is better
    memory: tuple[str, ...] = ("batch_size",)  # settings to lower where memory is short
    bfloat16: bool = False  # whether autocast is worth it on a CPU too
    weight: Callable[[np.ndarray], float] = len  # what the mean over the rows of a batch is divided by
    groups: Sequence[Group] = ()  # every parameter that learns in just one; none: one group of all
    average: int = 1  # last epochs whose weights' mean the module ends with, where none is validated


@dataclass(frozen=True)
class Trained:
    """How a fit went; the module holds the weights of `best_epoch`."""

    epochs: int = 0
    best_epoch: int = 0
    best: float | None = None
    losses: tuple[float, ...] = ()
    validations: tuple[float, ...] = ()


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Hold torch to one stream of random numbers and to deterministic kernels; restores both."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA is not deterministic without
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warns)
            torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def fingerprint(*arrays: np.ndarray) -> str:
    """Return a digest of the data a fit sees, for `Task.key`."""
    digest = sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def shuffled(examples: int, size: int) -> Callable[[np.random.Generator], Sequence[np.ndarray]]:
    """Return batches of `size` rows in an order drawn anew each epoch."""

    def batches(random: np.random.Generator) -> Sequence[np.ndarray]:
        order = random.permutation(examples)
        return [order[start : start + size] for start in range(0, examples, size)]

    return batches


def train(task: Task, config: TrainingConfig) -> Trained:
    """Fit the module of `task`; it ends on the CPU, in eval mode, with its best weights.

    Raises ContractError where the loss is no number any more and where memory runs out.
    """
    place = device()
    ranks = Ranks.of(place)
    task.module.to(place)
    try:
        # Each step takes and frees what the last one did: half of a large step went on the kernel's pages.
        with reproducible(config.seed), memory.kept(whole=True):
            return _Loop(task, config, place, ranks).run()
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        settings = ", ".join(
            f"{name} (now {getattr(config, name)})" if hasattr(config, name) else name for name in task.memory
        )
        raise ContractError(f"out of memory on {place.type} while training: lower {settings}") from error
    finally:
        task.module.to("cpu").eval()


def _out_of_memory(error: Exception) -> bool:
    import torch

    words = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "allocate memory" in words
        or "out of memory" in words
    )


class _Loop:
    """One fit: the optimiser, what was best so far, and the clock."""

    def __init__(self, task: Task, config: TrainingConfig, place: "torch.device", ranks: Ranks) -> None:
        self.task = task
        self.config = config
        self.place = place
        self.ranks = ranks
        self.watch = watched()
        self.trained = Trained()
        self.best: State = {}
        self.optimizer = optimizer(task.module, task.groups, config)
        half = config.precision == "bfloat16" or (
            config.precision == "auto" and (place.type == "cuda" or (task.bfloat16 and multiplies_bfloat16()))
        )
        self.half = half
        self.spent = 0.0  # seconds of the steps done in this process
        self.done = 0  # and how many they were
        self.folder: Path | None = None
        self.kept = time.monotonic()  # when a checkpoint was written last
        self.resumed = False
        self.within: Within | None = None  # where in the epoch that comes the checkpoint lies
        if self.watch.checkpoints is not None:
            # The first weights too: those of an update are what was learned before it.
            weights = task.module.state_dict()
            first = {name: fingerprint(value.cpu().numpy()) for name, value in weights.items()}
            others = () if ranks.size == 1 else (ranks.size,)
            key = manifest.content_key(task.key, config.model_dump(), str(place), first, *others)
            self.folder = self.watch.checkpoints / key

    def run(self) -> Trained:
        import torch

        self.ranks.agree(
            self.task.key, self.config
        )  # and so rank 0 has written all it will before it is read
        if self.folder is not None and (found := resume(self.folder, self.task.module, self.optimizer)):
            about, self.best, self.within = found
            self.resumed = True
            lists = {name: tuple(about[name]) for name in ("losses", "validations")}
            self.trained = Trained(**{**about, **lists})
            if self.watch.trial:
                self._retell()
        self.ranks.agree(self.trained)
        self.ranks.begin(self.task.module)
        while self.trained.epochs < self.config.epochs and not self._patience_is_over():
            epoch = self.trained.epochs + 1
            random = np.random.default_rng([self.config.seed, epoch])
            torch.manual_seed(int(random.integers(2**62)) + self.ranks.rank)
            batches = self.task.batches(random)
            if not len(batches):
                break
            loss = self._epoch(epoch, batches, self.ranks.random(random))
            self._finish(epoch, loss, len(batches))
        if self.best:
            self.task.module.load_state_dict(self.best)
        self._end()
        return self.trained

    def _epoch(self, epoch: int, batches: Sequence[np.ndarray], random: np.random.Generator) -> float:
        """Take one pass; returns the mean loss over its examples."""
        import torch

        module, config, steps = self.task.module.train(), self.config, len(batches)
        parameters = [p for p in module.parameters() if p.requires_grad]
        total, seen, first = torch.zeros((), dtype=torch.float64, device=self.place), 0, 0
        if (within := self.within) is not None:
            total, seen, first, self.within = within.total.to(self.place), within.seen, within.step, None
            within.restore(random, self.place)
        told = time.monotonic()
        for step, rows in enumerate(batches[first:], first + 1):
            begun = time.monotonic()
            rate = config.learning_rate * self._rate((epoch - 1) * steps + step, config.epochs * steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            share = self.ranks.share(rows)
            with torch.autocast(self.place.type, torch.bfloat16, enabled=self.half):
                loss = self.task.loss(share, random)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            mean = self.ranks.average(parameters, loss.detach(), self.task.weight(share))
            if config.clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, config.clip)
            self.optimizer.step()
            total += mean * len(rows)
            seen += len(rows)
            if step % CHECK == 0 or step == steps:
                self._refuse_no_number(float(total), epoch, step)
            now = time.monotonic()
            self.spent, self.done = self.spent + now - begun, self.done + 1
            if now - told > TELL and step < steps:
                told = now
                self._tell(epoch, step, steps, float(total) / seen, None)
            if self._is_time() and step < steps and self.ranks.size == 1:  # of others nothing is known
                self._keep(Within.of(step, seen, total, random, self.place))
        return float(total) / seen

    def _rate(self, step: int, steps: int) -> float:
        """Return the share of the learning rate at a step, from 1."""
        warm = max(self.config.warmup_steps, round(self.config.warmup_share * steps))
        if step <= warm:
            return step / warm
        left = 1 - (step - 1 - warm) / max(1, steps - warm)
        if self.config.schedule == "linear":
            return left
        return 0.5 * (1 - math.cos(math.pi * left)) if self.config.schedule == "cosine" else 1.0

    def _refuse_no_number(self, total: float, epoch: int, step: int) -> None:
        if math.isfinite(total):
            return
        clip = "set clip = 1.0" if self.config.clip is None else f"lower clip (now {self.config.clip:g})"
        raise ContractError(
            f"the loss is {total} in epoch {epoch}, step {step}: training diverged; lower learning_rate "
            f'(now {self.config.learning_rate:g}), {clip}, or set precision = "float32"'
        )

    def _finish(self, epoch: int, loss: float, steps: int) -> None:
        """Validate, remember what is best, write the checkpoint and tell."""
        import torch

        value, trained = None, self.trained
        if self.task.validate is not None and (self.config.patience or self.watch.validates):
            self.task.module.eval()
            with torch.no_grad():
                value = self.ranks.told(0.0 if self.ranks.rank else self.task.validate())
        trained = replace(trained, epochs=epoch, losses=(*trained.losses, loss))
        if value is not None:
            trained = replace(trained, validations=(*trained.validations, value))
        if value is None or not self.config.patience:
            trained = replace(trained, best_epoch=epoch)
            self._average(epoch - self.config.epochs + self.task.average)
        elif trained.best is None or value > trained.best:
            trained = replace(trained, best=value, best_epoch=epoch)
            self.best = {n: v.detach().cpu().clone() for n, v in self.task.module.state_dict().items()}
        self.trained = trained
        if self._is_time():
            self._keep()
        self._tell(epoch, steps, steps, loss, value)

    def _is_time(self) -> bool:
        """Whether a checkpoint is wanted by now."""
        wanted = self.folder is not None and self.ranks.rank == 0
        return wanted and time.monotonic() - self.kept >= self.watch.every

    def _keep(self, within: Within | None = None) -> None:
        if self.folder is not None:
            keep(self.folder, asdict(self.trained), self.task.module, self.best, self.optimizer, within)
        self.kept = time.monotonic()

    def _average(self, number: int) -> None:
        """Take the weights of the `number`th of the last epochs into their mean; counts stay as they are."""
        if self.task.average == 1 or number < 1:
            return
        for name, value in self.task.module.state_dict().items():
            now = value.detach().cpu().clone()
            if number > 1 and now.is_floating_point():
                now = self.best[name] + (now - self.best[name]) / number
            self.best[name] = now

    def _patience_is_over(self) -> bool:
        waited = self.trained.epochs - self.trained.best_epoch
        return self.trained.best is not None and waited >= self.config.patience

    def _retell(self) -> None:
        """Tell of the epochs that were done before, each as one step."""
        values = zip_longest(self.trained.losses, self.trained.validations)
        for epoch, (loss, value) in enumerate(values, 1):
            self._tell(epoch, 1, 1, loss, value)

    def _tell(self, epoch: int, step: int, steps: int, loss: float, value: float | None) -> None:
        if self.watch.progress is not None and self.ranks.rank == 0:
            left = (self.config.epochs - epoch) * steps + steps - step
            remaining = left * self.spent / max(1, self.done)
            epochs = self.config.epochs
            self.watch.progress(Progress(epoch, epochs, step, steps, loss, value, remaining, self.resumed))

    def _end(self) -> None:
        """Tell how the fit went, the epochs before a kill included."""
        if self.watch.ended is not None:
            values = self.trained.validations
            apart = len(values) != len(self.trained.losses)  # not all were validated: none can be placed
            each = enumerate(self.trained.losses)
            epochs = [Epoch(n + 1, loss, None if apart else values[n]) for n, loss in each]
            self.watch.ended(Ended(epochs, self.resumed))
