"""A tiny model, its data, and a training that SIGKILLs its own process at a chosen place."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from sbp_bayes.base.records import IGNORE, Batch, LossTotals
from sbp_bayes.base.seeds import numpy_generator, torch_generator
from sbp_bayes.training import OptimiserConfig, TrainResult, checkpoint, metrics, train

VOCAB = 23
NUM_STEPS = 24


class TinyModel(nn.Module):
    """A bigram model with one hidden layer and the embedding as its head."""

    def __init__(self, seed: int = 0, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, width)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.normal_(0.0, 0.5, generator=torch_generator(seed, name))

    def loss_sum(self, batch: Batch) -> tuple[torch.Tensor, int]:
        states = torch.tanh(self.hidden(self.norm(self.embedding(batch.inputs))))
        logits = states @ self.embedding.weight.T
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
        return loss, int((batch.targets != IGNORE).sum())


class TinySource:
    """Batches of 4 rows of 8 tokens, a function of (seed, step)."""

    def __init__(self, num_steps: int = NUM_STEPS, seed: int = 0) -> None:
        self.num_steps = num_steps
        self.seed = seed
        self.fingerprint = f"tiny-{seed}"
        self.tokens_per_batch = 32

    def batch(self, step: int) -> Batch:
        tokens = torch.from_numpy(numpy_generator(self.seed, "batch", step).integers(0, VOCAB, (4, 9)))
        targets = tokens[:, 1:].clone()
        targets[:, 0] = IGNORE
        return Batch(tokens[:, :-1], targets, torch.zeros_like(targets))

    def tokens_by_source(self, step: int) -> dict[str, int]:
        return {"tiny": self.tokens_per_batch * step}

    def epochs_by_source(self, step: int) -> dict[str, float]:
        return {"tiny": step / 10}


def validate(model: nn.Module) -> LossTotals:
    """Total loss on a batch that no step of seed 0 sees."""
    assert not torch.is_grad_enabled()
    assert not model.training
    loss, count = model.loss_sum(TinySource(seed=99).batch(0))
    return LossTotals(loss_nats=loss.item(), num_tokens=count)


def save_weights(model: nn.Module, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.safetensors").write_bytes(save(model.state_dict()))


def train_tiny(directory: Path, **settings: Any) -> TrainResult:
    """Train as all these tests do, but for `settings`."""
    arguments: dict[str, Any] = {
        "optimiser": OptimiserConfig(),
        "save_weights": save_weights,
        "validate": validate,
        "num_validations": 5,
    }
    model, source = settings.pop("model", None) or TinyModel(), settings.pop("source", None) or TinySource()
    return train(model, source, directory=directory, **(arguments | settings))


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records without their times."""
    return [{k: v for k, v in r.items() if k not in ("tokens_per_second", "mfu", "seconds")} for r in history]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number: int, act: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose call `number` (from 1) runs `act`, and any other `otherwise`."""
    calls = iter(range(1, 1_000_000))
    return lambda *a, **k: act(*a, **k) if next(calls) == number else otherwise(*a, **k)


def die_half_way(tensors: Any, path: Path, metadata: Any) -> None:
    Path(path).write_bytes(save(tensors, metadata)[:700])
    die()


def die_saving_half(model: nn.Module, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.safetensors").write_bytes(save(model.state_dict())[:300])
    die()


def killed_training(directory: Path, place: str, number: int, checkpoint_seconds: float) -> None:
    """Train in `directory` and die at the `number`-th passage of `place` in this process."""
    source, saver = TinySource(), save_weights
    if place == "batch":
        source.batch = at_call(number, lambda step: die(), source.batch)
    elif place == "checkpoint half written":
        checkpoint.save_file = at_call(number, die_half_way, checkpoint.save_file)
    elif place == "digest":
        checkpoint.write_text = at_call(number, lambda *_: die(), checkpoint.write_text)
    elif place == "prune":
        checkpoint._prune = at_call(number, lambda *_: die(), checkpoint._prune)
    elif place == "metrics":
        metrics.os = SimpleNamespace(fsync=at_call(number, lambda *_: die(), os.fsync))
    elif place == "weights half written":
        saver = at_call(number, die_saving_half, save_weights)
    train_tiny(directory, source=source, save_weights=saver, checkpoint_seconds=checkpoint_seconds)


def slow_training(directory: Path) -> None:
    """Train with 5 ms a step and a checkpoint after each, to be killed from outside."""
    source = TinySource()
    quick = source.batch
    source.batch = lambda step: time.sleep(0.005) or quick(step)
    train_tiny(directory, source=source, checkpoint_seconds=0.0)


def tensors_of(path: Path) -> bytes:
    """The bytes of a folder's weights."""
    return (path / "model.safetensors").read_bytes()


def numpy_adamw(
    weights: np.ndarray,
    gradients: list[np.ndarray],
    rates: list[float],
    decay: float,
    config: OptimiserConfig,
) -> np.ndarray:
    """AdamW (Loshchilov and Hutter, algorithm 2) by hand, for gradients already clipped."""
    first = second = np.zeros_like(weights)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        first = config.beta1 * first + (1 - config.beta1) * gradient
        second = config.beta2 * second + (1 - config.beta2) * gradient**2
        update = (first / (1 - config.beta1**step)) / (
            np.sqrt(second / (1 - config.beta2**step)) + config.eps
        )
        weights = weights * (1 - rate * decay) - rate * update
    return weights
