"""Several processes that learn one module together, each a rank: started by torchrun, nothing else is set.

    torchrun --nproc-per-node 2 fit.py

Every rank is given the same data and settings and takes its share of each batch. Gradients are averaged by
what the mean of a batch is over, so a step is the one a single process takes on the whole batch, up to
rounding. Rank 0 validates, writes checkpoints and tells progress; all end with the same weights.

Not the same as in one process: dropout, masks and drawn negatives, which each rank draws for itself;
negatives from the batch, which are those of the rank's share. A loss that spreads vectors over a whole
graph does so on every rank. The same ranks, data and seed give the same bits.
"""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from profiles.schema import ContractError

if TYPE_CHECKING:
    import torch


def started() -> bool:
    """Say whether this process is one of several that torchrun started."""
    size = os.environ.get("WORLD_SIZE", "")
    return size.isdecimal() and int(size) > 1


@dataclass(frozen=True)
class Ranks:
    """This process among those of a fit. Alone, nothing here does anything."""

    place: "torch.device"
    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, place: "torch.device") -> "Ranks":
        """Join the process group there is, or the one torchrun started; alone without either.

        The group is NCCL's between GPUs, a GPU each, and Gloo's between CPUs.
        """
        import torch
        import torch.distributed as group

        if not group.is_available() or not (group.is_initialized() or started()):
            return cls(place)
        if not group.is_initialized():
            if place.type == "cuda":
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            group.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo")
            atexit.register(group.destroy_process_group)
        return cls(place, group.get_rank(), group.get_world_size())

    def agree(self, *told: object) -> None:
        """Wait for all ranks; raises ContractError where what they were `told` differs."""
        import torch
        import torch.distributed as group

        if self.size == 1:
            return
        number = crc32(repr(told).encode())
        ends = torch.tensor([number, -number], device=self.place)
        group.all_reduce(ends, group.ReduceOp.MAX)
        if ends[0] != -ends[1]:
            raise ContractError(
                f"the {self.size} ranks of this fit differ in data, settings or the checkpoint they read: "
                "start all with the same files"
            )

    def begin(self, module: "torch.nn.Module") -> None:
        """Give every rank the weights of rank 0."""
        import torch.distributed as group

        for value in module.state_dict().values() if self.size > 1 else ():
            group.broadcast(value, 0)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this rank's part of a batch; all of a batch that is too small to be parted."""
        return rows if len(rows) < self.size else rows[self.rank :: self.size]

    def random(self, random: np.random.Generator) -> np.random.Generator:
        """Return random numbers that no other rank draws; rank 0 goes on with those given."""
        return random if self.rank == 0 else random.spawn(self.size)[self.rank]

    def average(
        self, parameters: Sequence["torch.nn.Parameter"], loss: "torch.Tensor", weight: float
    ) -> "torch.Tensor":
        """Make the gradients, and return the loss, those of the whole batch; `weight` is of this share."""
        import torch
        import torch.distributed as group

        if self.size == 1:
            return loss
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(grad.flatten() for grad in grads), loss.reshape(1), loss.new_ones(1)])
        flat *= weight
        group.all_reduce(flat)
        flat /= flat[-1].clone()
        for grad, mean in zip(grads, torch.split(flat[:-2], [grad.numel() for grad in grads]), strict=True):
            grad.copy_(mean.view_as(grad))
        return flat[-2]

    def told(self, value: float) -> float:
        """Return the value that rank 0 has."""
        import torch
        import torch.distributed as group

        if self.size == 1:
            return value
        box = torch.tensor(value, dtype=torch.float64, device=self.place)
        group.broadcast(box, 0)
        return float(box)
