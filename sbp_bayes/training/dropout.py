"""Dropout in training: its range, and its random numbers as a function of the step."""

from collections.abc import Callable
from typing import Any, Protocol

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.runtime import torchrun_rank
from sbp_bayes.base.seeds import derive_seed
from sbp_bayes.training.engine import EngineConfig


class DropsOut(Protocol):
    """A model that has dropout."""

    def set_dropout(self, rate: float, seed: int = 0) -> Any:
        """Leave out a share `rate` from now on, drawn from `seed` on."""
        ...


def require_dropout(rate: float, engine: EngineConfig) -> None:
    """Raise a ConfigError unless a training with `engine` can leave out a share `rate`."""
    require(0 <= rate < 1, "dropout", rate, "0 or more, below 1")
    if rate and engine.compile:
        raise ConfigError(f"dropout = {rate:g} draws its own numbers: expected engine.compile = False")


def dropout_of_steps(model: DropsOut, rate: float, seed: int) -> Callable[[int], None]:
    """Return what `train` calls before each step, so that its dropout is a function of (seed, process, step).

    Args:
        model: the one that is trained.
        rate: share left out, 0 to 1.
        seed: of the training.
    """

    def begin(step: int) -> None:
        if rate:
            model.set_dropout(rate, derive_seed(seed, "dropout", torchrun_rank(), step))

    return begin
