"""Trainings of a tiny transformer; as a script under torchrun, those that several processes share."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from sbp_bayes.base.errors import CheckpointError, Stopped
from sbp_bayes.base.records import IGNORE, Batch, LossTotals
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.lm import LMConfig, Transformer, save_model
from sbp_bayes.training import EngineConfig, OptimiserConfig, TrainResult, train

MODEL = LMConfig(
    vocab_size=29,
    context_length=12,
    width=12,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_width=6,
    hidden_width=20,
)
NUM_STEPS, NUM_ROWS = 8, 5
ENGINES = {
    "ddp": EngineConfig(parallel="ddp"),
    "fsdp": EngineConfig(parallel="fsdp"),
    "ddp in pieces": EngineConfig(parallel="ddp", accumulation_steps=2),
    "fsdp in pieces": EngineConfig(parallel="fsdp", accumulation_steps=2),
}
INTERRUPTED = 5
ONE = "by one process"


class UnevenRows:
    """Batches of 5 rows, the later ones with fewer targets: shares differ in rows and in targets."""

    num_steps, fingerprint = NUM_STEPS, "uneven"

    def batch(self, step: int) -> Batch:
        tokens = torch.from_numpy(numpy_generator(0, "uneven", step).integers(0, 29, (NUM_ROWS, 13)))
        targets = tokens[:, 1:].clone()
        for row in range(NUM_ROWS):
            targets[row, : 2 * row] = IGNORE
        return Batch(tokens[:, :-1], targets, torch.zeros_like(targets))

    def tokens_by_source(self, step: int) -> dict[str, int]:
        return {"uneven": NUM_ROWS * 12 * step}

    def epochs_by_source(self, step: int) -> dict[str, float]:
        return {"uneven": step / 4}


class InterruptedRows(UnevenRows):
    """The same until a batch is asked for that never comes."""

    def batch(self, step: int) -> Batch:
        if step == INTERRUPTED:
            raise InterruptedError
        return super().batch(step)


class TerminatedRows(UnevenRows):
    """The same, and the last of the processes gets SIGTERM in the middle of a step."""

    def batch(self, step: int) -> Batch:
        if step == INTERRUPTED and os.environ["RANK"] != "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step)


def validate(model: Transformer) -> LossTotals:
    """Total loss on one batch, which reads the model's parts outside its training pass too."""
    batch = UnevenRows().batch(99)
    logits = (model.hidden(batch.inputs, batch.segments) @ model.head_VD.T).flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), reduction="sum")
    return LossTotals(loss_nats=loss.item(), num_tokens=int((batch.targets != IGNORE).sum()))


def train_here(
    directory: Path, engine: EngineConfig, source: type[UnevenRows] = UnevenRows, seconds: float = 1e9
) -> TrainResult:
    """Train from scratch, or from where `directory` stands."""
    return train(
        Transformer(MODEL, seed=0),
        source(),
        optimiser=OptimiserConfig(),
        engine=engine,
        directory=directory,
        save_weights=save_model,
        validate=validate,
        num_validations=3,
        checkpoint_seconds=seconds,
    )


def ends_with(kind: type[BaseException], run: Callable[[], TrainResult]) -> str:
    """Run a training that ends with such an exception, and return its message."""
    try:
        run()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__} came")


def stop_and_resume(root: Path, engine: EngineConfig) -> None:
    """Train on after an interruption, after a SIGTERM, and where one process trained before."""
    ends_with(InterruptedError, lambda: train_here(root / "resumed", engine, InterruptedRows, 0.0))
    train_here(root / "resumed", engine)
    message = ends_with(Stopped, lambda: train_here(root / "terminated", engine, TerminatedRows))
    assert message.startswith(f"stopped by SIGTERM after {INTERRUPTED + 1} of {NUM_STEPS} steps"), message
    train_here(root / "terminated", engine)
    message = ends_with(CheckpointError, lambda: train_here(root / ONE, engine))
    assert "was written by 1 processes, and this training has 2: go on with as many" in message, message


def main(root: Path) -> None:
    """Train with each engine as a whole, and with some stop and resume."""
    for name, engine in ENGINES.items():
        train_here(root / name / "whole", engine)
        if engine.accumulation_steps == 1:
            stop_and_resume(root / name, engine)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
