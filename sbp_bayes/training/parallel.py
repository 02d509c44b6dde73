"""Training by several processes, which torchrun starts: PyTorch's DDP and FSDP2, and what they agree on.

Every process reads the same batches and trains on its share of each one's rows. All see one file system;
rank 0 alone writes to it.
"""

import atexit
import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.runtime import launched_by_torchrun

T = TypeVar("T")

Parallel = Literal["ddp", "fsdp"]
"""Whether every process holds the whole model, or a shard of it (FSDP2's `fully_shard`)."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes of a training; one unless torchrun started more.

    Attributes:
        rank: number of this one.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which logs and writes."""
        return self.rank == 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sum of each value over all processes, the same floats in every one of them."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(summed)
        return summed.tolist()

    def leaders(self, value: float) -> float:
        """Return what rank 0 passes as `value`."""
        return self.sums([value if self.leads else 0.0])[0]

    def any(self, *flags: bool) -> list[bool]:
        """Return whether each flag is set in any process."""
        return [total > 0 for total in self.sums([float(flag) for flag in flags])]

    def wait(self) -> None:
        """Return when all processes are here."""
        self.sums([0.0])


def join_processes(device: torch.device) -> Processes:
    """Return the processes torchrun started, connected by gloo (and NCCL for a GPU), or this one alone."""
    if not launched_by_torchrun() or os.environ["WORLD_SIZE"] == "1":
        return Processes()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())


def find_device(name: str) -> torch.device:
    """Return the device called `name`: "cpu", "cuda:N", or "cuda", each local process's own under torchrun.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: expected cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    index = int(os.environ["LOCAL_RANK"]) if device.index is None and launched_by_torchrun() else device.index
    number, found = index or 0, torch.cuda.device_count()
    if number >= found:
        raise ConfigError(f"device = {name!r} is not there: cuda:{number} of {found} CUDA devices; try cpu")
    return torch.device("cuda", number)


class Replicas:
    """A module whose forward and backward pass all processes share; alone, the module as it is.

    Gradients are averaged over processes. `module` is changed in place by FSDP2.

    Args:
        module: its forward pass gives the loss; its `run(work)` returns work().
        model: the part of it that is trained, and whose layers in module lists are sharded one by one.
        parallel: by which engine.
        processes: who shares.
    """

    def __init__(self, module: nn.Module, model: nn.Module, parallel: Parallel, processes: Processes) -> None:
        self.model, self._twin = model, model
        self._sharded: Any = None
        self._replicated: Any = None
        if processes.size == 1:
            self.forward = module
        elif parallel == "ddp":
            self._replicated = nn.parallel.DistributedDataParallel(module, forward_sync_buffers=False)
            self.forward = self._replicated
        else:
            if processes.leads:
                self._twin = copy.deepcopy(model).cpu()
            self._sharded = self.forward = _shard(module, model, processes.size)
        self.processes = processes

    def last_backward(self, is_last: bool) -> AbstractContextManager[Any]:
        """Within the block, exchange gradients only if the passes are the step's last."""
        if self._sharded is not None:
            self._sharded.set_requires_gradient_sync(is_last)
        return nullcontext() if self._replicated is None or is_last else self._replicated.no_sync()

    def outside(self, work: Callable[[], T]) -> T:
        """Return `work()`, which reads the model by other ways than `forward`; all processes call this."""
        if self._sharded is None:
            return work()
        result = self._sharded.run(work)
        self._sharded.reshard()
        return result

    def whole_model(self) -> nn.Module:
        """Return, in rank 0, a model with all weights, to be saved; all processes must call this."""
        if self._sharded is not None:
            state = {name: whole(tensor) for name, tensor in self.model.state_dict().items()}
            if self.processes.leads:
                self._twin.load_state_dict(state)
        return self._twin


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be sharded; all processes must call this."""
    full_tensor = getattr(tensor, "full_tensor", None)
    return tensor if full_tensor is None else full_tensor()


def sharded_like(tensor: Tensor, other: Any) -> Tensor:
    """Return `tensor`, which all processes hold whole, sharded as `other` is (if it is)."""
    if not hasattr(other, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of the module lists in `model`: what is compiled, or sharded, one by one."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            yield from module


def _shard(module: nn.Module, model: nn.Module, num_processes: int) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(next(model.parameters()).device.type, (num_processes,))
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(module, "run")
    return module
