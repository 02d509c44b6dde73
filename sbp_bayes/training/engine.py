"""One batch's gradient: where it is computed, by how many, in how many pieces, and compiled or not."""

import dataclasses
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, get_args

import torch
from torch import Tensor, nn

from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.records import Batch
from sbp_bayes.training.parallel import Parallel, Replicas, find_device, join_processes, layers_of

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How a training is computed; its results depend on this by the rounding of float sums alone.

    The number of processes is torchrun's. A training goes on with as many as it began with.

    Attributes:
        device: "cpu", "cuda" (under torchrun, each process its own) or "cuda:N"; None is the model's.
        accumulation_steps: pieces into which a process's rows of a batch are cut, one after the other, so
            that only a piece's activations are held at once; the gradient is the whole batch's.
        compile: whether torch.compile compiles the layers (those in a `ModuleList`) at the first step;
            needs a C++ compiler and Python's headers, or Triton on a GPU.
        parallel: "ddp", or "fsdp", which shards a model that is too large for one device.
    """

    device: str | None = None
    accumulation_steps: int = 1
    compile: bool = False
    parallel: Parallel = "ddp"

    def __post_init__(self) -> None:
        require(self.accumulation_steps >= 1, "accumulation_steps", self.accumulation_steps, "at least 1")
        require_one_of("parallel", self.parallel, get_args(Parallel))

    @property
    def device_type(self) -> str:
        """The kind of device that is meant, "cpu" or "cuda"; models are on the CPU unless they are moved.

        Raises:
            ConfigError: the device is not there.
        """
        return "cpu" if self.device is None else find_device(self.device).type


class Objective(nn.Module):
    """A model's training loss as a forward pass, which is what DDP and FSDP2 wrap.

    Args:
        model: has `loss_sum(batch)`, and `regularised_loss_sum(batch, z_loss)` unless `z_loss` is 0.
        z_loss: see `OptimiserConfig`.
    """

    def __init__(self, model: nn.Module, z_loss: float) -> None:
        super().__init__()
        self.model, self.z_loss = model, z_loss

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what is minimised, and the loss in nats without gradient, both summed over targets."""
        if self.z_loss:
            return self.model.regularised_loss_sum(batch, self.z_loss)  # type: ignore[operator]
        loss, _ = self.model.loss_sum(batch)  # type: ignore[operator]
        return loss, loss.detach()

    def run(self, work: Callable[[], T]) -> T:
        """Return `work()`: FSDP2 gathers tensors for the calls of a module's methods alone."""
        return work()


class Engine:
    """The forward and backward passes of a model.

    Args:
        model: trained in place.
        config: how.
        z_loss: see `OptimiserConfig`.

    Raises:
        ConfigError: a device that is not there.
    """

    def __init__(self, model: nn.Module, config: EngineConfig, z_loss: float) -> None:
        self.config = config
        if config.device is not None:
            model.to(find_device(config.device))
        self.device = next(model.parameters()).device
        self.processes = join_processes(self.device)
        if config.compile:
            for layer in layers_of(model):
                layer.compile()
        self.replicas = Replicas(Objective(model, z_loss), model, config.parallel, self.processes)

    def backward(self, batch: Batch, num_targets: int) -> float:
        """Add the gradient of the batch's mean loss to the parameters'.

        Args:
            batch: the whole batch, of which this process takes its share of rows.
            num_targets: of the whole batch.

        Returns:
            this process's part of the mean loss in nats; the parts add up to it.

        Raises:
            ConfigError: fewer rows than pieces, or layers that were to be compiled and can't be here.
        """
        size, steps, num_rows = self.processes.size, self.config.accumulation_steps, len(batch.inputs)
        pieces, first = size * steps, self.processes.rank * steps
        expected = f"at most {num_rows // size}: a batch of {num_rows} rows, {size} processes"
        require(pieces <= num_rows, "accumulation_steps", steps, expected)
        mean_nats = torch.zeros((), device=self.device)
        for number in range(first, first + steps):
            piece = batch.rows(number * num_rows // pieces, (number + 1) * num_rows // pieces)
            with self.replicas.last_backward(number == first + steps - 1), self._naming_compiler():
                loss, nats = self.replicas.forward(piece.to(self.device))
                # DDP and FSDP2 average over processes, and the loss is to be a sum.
                (loss / num_targets * size).backward()
            mean_nats = mean_nats + nats / num_targets
        return mean_nats.item()

    def outside(self, work: Callable[[], T]) -> T:
        """Return `work()`, which reads the model by other ways than `backward`; all processes call this.

        Raises:
            ConfigError: layers that were to be compiled and can't be here.
        """
        with self._naming_compiler():
            return self.replicas.outside(work)

    @contextmanager
    def _naming_compiler(self) -> Iterator[None]:
        """Turn a compiler that is missing or fails into an error that names the setting."""
        try:
            yield
        except RuntimeError as error:
            if not self.config.compile or not _is_of_compiler(error):
                raise
            reason = textwrap.shorten(str(error).partition("\n\nSet TORCHDYNAMO_VERBOSE")[0], 500)
            raise ConfigError(f"engine.compile = True cannot run on {self.device}: {reason}") from error


def _is_of_compiler(error: RuntimeError) -> bool:
    # By name: torch has no public module from which these could be imported.
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint({"BackendCompilerFailed", "TritonMissing"})
