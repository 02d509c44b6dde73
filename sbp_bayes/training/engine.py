"""One batch's gradient: where it is computed, in how many pieces, and compiled or not."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sbp_bayes.base.config import require
from sbp_bayes.base.records import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How a training is computed; its results depend on this by the rounding of float sums alone.

    Attributes:
        accumulation_steps: pieces into which a batch's rows are cut, one after the other on the device, so
            that only a piece's activations are held at once; the gradient is the whole batch's.
        compile: whether torch.compile compiles the layers (those in a `ModuleList`) at the first step;
            needs a C++ compiler, or Triton on a GPU.
    """

    accumulation_steps: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        require(self.accumulation_steps >= 1, "accumulation_steps", self.accumulation_steps, "at least 1")


class Objective(nn.Module):
    """A model's training loss as a forward pass.

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


class Engine:
    """The forward and backward passes of a model.

    Args:
        model: trained in place.
        config: how.
        z_loss: see `OptimiserConfig`.
    """

    def __init__(self, model: nn.Module, config: EngineConfig, z_loss: float) -> None:
        self.config = config
        self.objective = Objective(model, z_loss)
        if config.compile:
            for layer in _layers(model):
                layer.compile()

    def backward(self, batch: Batch, num_targets: int) -> Tensor:
        """Add the gradient of the batch's mean loss to the parameters' and return that loss in nats.

        Args:
            batch: the whole batch.
            num_targets: of the whole batch.

        Raises:
            ConfigError: fewer rows than pieces.
        """
        num_rows, pieces = len(batch.inputs), self.config.accumulation_steps
        require(pieces <= num_rows, "accumulation_steps", pieces, f"at most a batch's {num_rows} rows")
        device = next(self.objective.parameters()).device
        mean_nats = torch.zeros((), device=device)
        for number in range(pieces):
            rows = slice(number * num_rows // pieces, (number + 1) * num_rows // pieces)
            loss, nats = self.objective(_rows_of(batch, rows, device))
            (loss / num_targets).backward()
            mean_nats = mean_nats + nats / num_targets
        return mean_nats


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of the module lists in `model`."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            yield from module


def _rows_of(batch: Batch, rows: slice, device: torch.device) -> Batch:
    return Batch(*(part[rows].to(device) for part in (batch.inputs, batch.targets, batch.segments)))
