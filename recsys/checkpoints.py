"""Where a fit stands, kept in sealed folders, so that one that was killed goes on."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiles import manifest

if TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]


def keep(
    folder: Path,
    epoch: int,
    trained: dict[str, Any],
    module: "torch.nn.Module",
    best: State,
    optimizer: "torch.optim.Optimizer",
) -> None:
    """Write how a fit went so far, module, best weights and optimiser; the checkpoint before goes after."""
    from safetensors.torch import save_file

    state = {f"module/{name}": value for name, value in module.state_dict().items()}
    state |= {f"best/{name}": value for name, value in best.items()}
    for number, values in optimizer.state_dict()["state"].items():
        state |= {f"optimizer/{number}/{name}": value for name, value in values.items()}
    place = folder / f"epoch-{epoch:05}"
    with manifest.building(place, {"trained": trained}) as made:
        save_file({n: v.detach().cpu().contiguous() for n, v in state.items()}, made / "state.safetensors")
    for old in folder.glob("epoch-*"):
        if old != place:
            shutil.rmtree(old)


def resume(
    folder: Path, module: "torch.nn.Module", optimizer: "torch.optim.Optimizer"
) -> tuple[dict[str, Any], State] | None:
    """Load the newest checkpoint of this very fit; returns how it went and its best weights, None without."""
    kept = sorted(folder.glob("epoch-*"))
    if not kept:
        return None
    from safetensors.torch import load_file

    about: dict[str, Any] = manifest.verify(kept[-1])["trained"]
    state = load_file(kept[-1] / "state.safetensors")
    module.load_state_dict(_under("module/", state))
    moments: dict[int, State] = {}
    for name, value in _under("optimizer/", state).items():
        number, _, part = name.partition("/")
        moments.setdefault(int(number), {})[part] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return about, _under("best/", state)


def _under(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
