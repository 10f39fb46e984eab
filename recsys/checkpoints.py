"""Where a fit stands, kept in sealed folders, so that one that was killed goes on.

epoch-00002                  after two epochs
epoch-00002-step-00000310    and 310 steps into the third
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from profiles import manifest
from profiles.schema import ContractError

if TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Within:
    """Where a fit stands inside an epoch, its random numbers included."""

    step: int  # done
    seen: int  # examples of these steps
    total: "torch.Tensor"  # float64 sum of the losses of those
    drawn: dict[str, Any]  # state of the epoch's generator
    states: State  # of torch's generators, by kind of device

    @classmethod
    def of(
        cls, step: int, seen: int, total: "torch.Tensor", random: np.random.Generator, place: "torch.device"
    ) -> "Within":
        """Take down where an epoch stands after a step."""
        import torch

        states = {"cpu": torch.get_rng_state()}
        if place.type != "cpu":
            states[place.type] = torch.get_device_module(place).get_rng_state()
        return cls(step, seen, total, dict(random.bit_generator.state), states)

    def restore(self, random: np.random.Generator, place: "torch.device") -> None:
        """Let all random numbers go on from here."""
        import torch

        random.bit_generator.state = self.drawn
        torch.set_rng_state(self.states["cpu"])
        if place.type != "cpu":
            torch.get_device_module(place).set_rng_state(self.states[place.type])


def keep(
    folder: Path,
    trained: dict[str, Any],
    module: "torch.nn.Module",
    best: State,
    optimizer: "torch.optim.Optimizer",
    within: Within | None = None,
) -> None:
    """Write how a fit went so far, module, best weights and optimiser; the checkpoint before goes after."""
    from safetensors.torch import save_file

    state = {f"module/{name}": value for name, value in module.state_dict().items()}
    state |= {f"best/{name}": value for name, value in best.items()}
    for number, values in optimizer.state_dict()["state"].items():
        state |= {f"optimizer/{number}/{name}": value for name, value in values.items()}
    about: dict[str, Any] = {"trained": trained}
    name = f"epoch-{trained['epochs']:05}"
    if within is not None:
        name += f"-step-{within.step:08}"
        about["within"] = {"step": within.step, "seen": within.seen, "drawn": within.drawn}
        state |= {f"random/{kind}": value for kind, value in within.states.items()} | {"total": within.total}
    with manifest.building(folder / name, about) as made:
        save_file({n: v.detach().cpu().contiguous() for n, v in state.items()}, made / "state.safetensors")
    for old in [*folder.glob("epoch-*"), *folder.glob(".epoch-*")]:  # also what a kill left half-written
        if old.name != name:
            shutil.rmtree(old)


def resume(
    folder: Path, module: "torch.nn.Module", optimizer: "torch.optim.Optimizer"
) -> tuple[dict[str, Any], State, Within | None] | None:
    """Load the newest checkpoint of this very fit, None without.

    Returns how the fit went, its best weights and, where the checkpoint lies within an epoch, where.
    Raises ContractError for one that was changed.
    """
    kept = sorted(folder.glob("epoch-*"))
    if not kept:
        return None
    from safetensors.torch import load_file

    try:
        about = manifest.verify(kept[-1])
    except ContractError as error:
        raise ContractError(f"{error}; delete {folder} to begin this fit anew") from None
    state = load_file(kept[-1] / "state.safetensors")
    module.load_state_dict(_under("module/", state))
    moments: dict[int, State] = {}
    for name, value in _under("optimizer/", state).items():
        number, _, part = name.partition("/")
        moments.setdefault(int(number), {})[part] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    within = None
    if "within" in about:
        within = Within(**about["within"], total=state["total"], states=_under("random/", state))
    return about["trained"], _under("best/", state), within


def _under(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
