"""The training loop: one optimiser step a batch, validated, logged, and resumable to the bit."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
from torch import nn

from sbp_bayes.base.config import fingerprint, require
from sbp_bayes.base.errors import CheckpointError, Stopped, TrainingError, is_out_of_memory
from sbp_bayes.base.progress import progress
from sbp_bayes.base.records import IGNORE, Batch, LossTotals
from sbp_bayes.base.runtime import deferred_sigterm
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.training.checkpoint import new_state, restore_checkpoint, save_checkpoint
from sbp_bayes.training.engine import Engine, EngineConfig
from sbp_bayes.training.metrics import MetricsLog
from sbp_bayes.training.optimiser import OptimiserConfig, build_optimiser
from sbp_bayes.training.parallel import whole
from sbp_bayes.training.schedule import learning_rate, validation_steps
from sbp_bayes.training.throughput import throughput

BEST, LAST, METRICS, CHECKPOINT_DIR = "best", "last", "metrics.jsonl", "checkpoints"

M = TypeVar("M", bound=nn.Module)


class BatchSource(Protocol):
    """The data of a training."""

    @property
    def num_steps(self) -> int:
        """Batches there are."""
        ...

    @property
    def fingerprint(self) -> str:
        """Name of the whole sequence of batches."""
        ...

    def batch(self, step: int) -> Batch:
        """Return the batch of `step` (0 … num_steps − 1), a function of `step` alone."""
        ...

    def tokens_by_source(self, step: int) -> dict[str, int]:
        """Return the positions that the first `step` steps read from each text, padding included."""
        ...

    def epochs_by_source(self, step: int) -> dict[str, float]:
        """Return how often the first `step` steps went through each text."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training reports.

    Attributes:
        history: the records of metrics.jsonl, in order. A step's record has `step` (steps done, from 1),
            `tokens` (positions so far), `tokens_by_source`, `epochs_by_source`, `loss_nats_per_token`,
            `learning_rate`, `gradient_norm` (before clipping), `tokens_per_second` and, where FLOPs are
            known, `mfu`; a validation's has `step`, `tokens`, `validation_nats_per_token` and `seconds`.
        num_steps: steps done; fewer than the source's after an early stop.
        tokens: positions seen, padding included.
        loss_nats_per_token: training loss of the last step; None without steps.
        best_step: steps done at the lowest validation loss; None without validation.
        best_nats_per_token: that loss.
        seconds: of training and validation, the attempts' lost tails left out.
        num_threads: torch's threads, which float sums depend on.
    """

    history: list[dict[str, Any]]
    num_steps: int
    tokens: int
    loss_nats_per_token: float | None
    best_step: int | None
    best_nats_per_token: float | None
    seconds: float
    num_threads: int


def train(
    model: M,
    source: BatchSource,
    *,
    optimiser: OptimiserConfig,
    engine: EngineConfig = EngineConfig(),  # noqa: B008 - frozen
    directory: Path,
    save_weights: Callable[[M, Path], None],
    validate: Callable[[M], LossTotals] | None = None,
    num_validations: int = 20,
    patience: int | None = None,
    flops_per_token: float | None = None,
    before_step: Callable[[int], None] = lambda step: None,
    checkpoint_seconds: float = 60.0,
    kept_checkpoints: int = 2,
    description: str = "training",
    tick: Callable[[], None] = lambda: None,
) -> TrainResult:
    """Train `model` in place on the mean loss over each batch's targets, from where `directory` stands.

    A training killed at any moment and called again with the same arguments (the model as it was at the
    start) ends with the same bits on a CPU: weights, history, and metrics.jsonl but for its times.
    `directory` receives `best/` (lowest validation loss), `last/`, metrics.jsonl and checkpoints/.
    On SIGTERM the step at hand is finished, a checkpoint written, and `Stopped` raised.

    Under torchrun all processes call this alike, each on its share of every batch's rows: the losses and
    weights are those of one process but for rounding, and rank 0 alone logs and writes.

    Args:
        model: has `loss_sum(batch) -> (summed loss in nats, targets)`, a function of step and batch.
        source: the batches, one a step.
        optimiser: AdamW and its schedule over the source's steps.
        engine: how gradients are computed.
        directory: the training's own folder.
        save_weights: writes a model's weights to a folder.
        validate: total loss on held-out text; called without gradients, in evaluation mode.
        num_validations: validations after the first one, which precedes the first step.
        patience: stop after this many validations in a row without a new lowest loss.
        flops_per_token: what the model needs for one position, forward and backward; for `mfu`.
        before_step: called with the number of steps done, for instance to begin a model's noise anew.
        checkpoint_seconds: seconds between checkpoints, which the result doesn't depend on.
        kept_checkpoints: the newest ones that are kept; `best/` is kept in any case.
        description: shown with the progress.
        tick: called after each checkpoint.

    Raises:
        TrainingError: a loss or gradient that is not finite, or a batch without targets, or memory that
            is exhausted; names the step and what it read. The last checkpoint stays.
        CheckpointError: checkpoints that are damaged or belong to another training, or to another
            number of processes, device or number format of products.
        ConfigError: a device that is not there, a compiler that was asked for and is not there, or more
            pieces than a batch has rows.
        StoreError: the disk is full, or the folder cannot be written.
        Stopped: SIGTERM came.
    """
    require(num_validations >= 0, "num_validations", num_validations, "0 or more")
    require(checkpoint_seconds >= 0, "checkpoint_seconds", checkpoint_seconds, "0 or more")
    require(kept_checkpoints > 0, "kept_checkpoints", kept_checkpoints, "a positive number")
    require(patience is None or patience > 0, "patience", patience, "a positive number or none")
    training = _Training(
        model,
        source,
        config=optimiser,
        engine=engine,
        directory=directory,
        save_weights=save_weights,
        validate=validate,
        num_validations=num_validations if validate else 0,
        patience=patience,
        flops_per_token=flops_per_token,
        before_step=before_step,
    )
    return training.run(checkpoint_seconds, kept_checkpoints, description, tick)


class _Training(Generic[M]):
    """A training in progress: the model, AdamW, the state that checkpoints keep, and the log."""

    def __init__(
        self,
        model: M,
        source: BatchSource,
        *,
        config: OptimiserConfig,
        engine: EngineConfig,
        directory: Path,
        save_weights: Callable[[M, Path], None],
        validate: Callable[[M], LossTotals] | None,
        num_validations: int,
        patience: int | None,
        flops_per_token: float | None,
        before_step: Callable[[int], None],
    ) -> None:
        self.flops_per_token, self.before_step = flops_per_token, before_step
        self.model, self.source, self.config = model, source, config
        self.directory, self.save_weights, self.validate = directory, save_weights, validate
        self.patience = math.inf if patience is None else patience
        self.validated_steps = validation_steps(source.num_steps, num_validations)
        self.engine = Engine(model, engine, config.z_loss)
        self.adamw = build_optimiser(model, config)
        shapes = {name: [str(p.dtype), *p.shape] for name, p in model.named_parameters()}
        settings = [config, dataclasses.replace(engine, device=None), num_validations, patience]
        plan = fingerprint(shapes, source.fingerprint, source.num_steps, settings)
        processes = self.processes = self.engine.processes
        saved = directory / CHECKPOINT_DIR
        restored = restore_checkpoint(saved, plan, model, self.adamw, processes=processes)
        self.is_fresh = restored is None
        self.state = restored or new_state(plan, model, processes)
        self.saved_step = self.state.step
        self._refuse_other_folders()
        self.metrics = MetricsLog(directory / METRICS, self.state.metrics_bytes, writes=processes.leads)

    @property
    def is_finished(self) -> bool:
        exhausted = self.state.step >= self.source.num_steps
        return exhausted or self.state.validations_since_best >= self.patience

    def run(
        self, checkpoint_seconds: float, kept_checkpoints: int, description: str, tick: Callable[[], None]
    ) -> TrainResult:
        started = saved = time.monotonic()
        seconds_before = self.state.seconds
        with (
            _threads(self.state.num_threads),
            self.metrics,
            self._progress(description) as advance,
            deferred_sigterm() as sigterm_came,
        ):
            self.model.train()
            advance(self.state.step)
            if self.is_fresh:
                self.validate_if_due()
            while not self.is_finished:
                self.step()
                self.validate_if_due()
                advance(1)
                is_due = time.monotonic() - saved >= checkpoint_seconds
                stops, is_due = self.processes.any(sigterm_came(), is_due)
                if stops or is_due or self.is_finished:
                    self.state.seconds = seconds_before + time.monotonic() - started
                    self.save(kept_checkpoints, tick)
                    saved = time.monotonic()
                if stops:
                    done = f"{self.state.step:,} of {self.source.num_steps:,} steps"
                    raise Stopped(f"stopped by SIGTERM after {done}, which a checkpoint keeps")
        self._save_weights(LAST)
        self.processes.wait()
        return self.result()

    def save(self, kept_checkpoints: int, tick: Callable[[], None]) -> None:
        """Write a checkpoint, from which the training can go on to the same end."""
        self.state.metrics_bytes = self.metrics.flush()
        save_checkpoint(
            self.directory / CHECKPOINT_DIR,
            self.state,
            self.model,
            self.adamw,
            kept=kept_checkpoints,
            processes=self.processes,
        )
        self.processes.wait()  # or another one could end, and torchrun with it, while rank 0 writes
        self.saved_step = self.state.step
        if self.processes.leads:
            tick()

    def step(self) -> None:
        """Do one step and log it."""
        started, state = time.perf_counter(), self.state
        batch = self.source.batch(state.step)
        num_targets = int((batch.targets != IGNORE).sum())
        if num_targets == 0:
            raise TrainingError(f"{self._where()}: the batch has no target")
        self.adamw.zero_grad(set_to_none=True)
        rate = learning_rate(state.step, self.source.num_steps, self.config)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.before_step(state.step)
        with self._naming_memory(batch):
            (loss,) = self.processes.sums([self.engine.backward(batch, num_targets)])
            self._refuse_non_finite(loss, "loss")
            norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)).item()
            self._refuse_non_finite(norm, "gradient norm")
            self.adamw.step()
        state.loss_nats_per_token = loss
        state.step += 1
        state.tokens += batch.num_tokens
        by_source = self.source.tokens_by_source(state.step)
        assert sum(by_source.values()) == state.tokens, "a source gave another batch than it planned"
        tokens_per_second = batch.num_tokens / (time.perf_counter() - started)
        speed = throughput(tokens_per_second, self.flops_per_token, self.model, self.processes.size)
        self.metrics.append(
            {
                "step": state.step,
                "tokens": state.tokens,
                "tokens_by_source": by_source,
                "epochs_by_source": self.source.epochs_by_source(state.step),
                "loss_nats_per_token": loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                **speed,
            }
        )

    def validate_if_due(self) -> None:
        """Validate after a step that the plan names, log it, and keep the weights if they are the best."""
        if self.validate is None or self.state.step not in self.validated_steps:
            return
        started, state = time.perf_counter(), self.state
        self.model.eval()
        with torch.no_grad():
            totals = self.engine.outside(functools.partial(self.validate, self.model))
        loss = self.processes.leaders(totals.nats_per_token)
        self.model.train()
        if not math.isfinite(loss):
            raise TrainingError(f"step {state.step}: the validation loss is {loss}; {self._kept()}")
        self.metrics.append(
            {
                "step": state.step,
                "tokens": state.tokens,
                "validation_nats_per_token": loss,
                "seconds": time.perf_counter() - started,
            }
        )
        state.validations_since_best += 1
        if state.best_nats_per_token is None or loss < state.best_nats_per_token:
            state.best_step, state.best_nats_per_token, state.validations_since_best = state.step, loss, 0
            self._save_weights(BEST)

    def result(self) -> TrainResult:
        return TrainResult(
            history=read_json_lines(self.directory / METRICS),
            num_steps=self.state.step,
            tokens=self.state.tokens,
            loss_nats_per_token=self.state.loss_nats_per_token,
            best_step=self.state.best_step,
            best_nats_per_token=self.state.best_nats_per_token,
            seconds=self.state.seconds,
            num_threads=self.state.num_threads,
        )

    def _save_weights(self, name: str) -> None:
        model = self.engine.replicas.whole_model()
        if self.processes.leads:
            self.save_weights(cast("M", model), self.directory / name)

    def _progress(self, description: str) -> AbstractContextManager[Callable[[int], None]]:
        if self.processes.leads:
            return progress(description, self.source.num_steps, "steps")
        return nullcontext(lambda n: None)

    def _refuse_other_folders(self) -> None:
        """All processes have read the checkpoint when this returns; it must be the same one."""
        size, step = self.processes.size, self.state.step
        if self.processes.sums([float(step)]) != [float(size * step)]:
            raise CheckpointError(
                f"{self.directory}: the processes found checkpoints of different steps, "
                f"{step} in number {self.processes.rank}; all must see one folder"
            )

    def _refuse_non_finite(self, value: float, name: str) -> None:
        if not math.isfinite(value):
            raise TrainingError(f"{self._where()}: the {name} is {value}; {self._kept()}")

    def _where(self) -> str:
        """Name the step being done, and what its batch is made of."""
        step = self.state.step
        before, after = (self.source.tokens_by_source(number) for number in (step, step + 1))
        read = [
            f"{before[name]:,} to {after[name] - 1:,} of {name}"
            for name in after
            if after[name] > before[name]
        ]
        return f"step {step + 1}, batch {step} (tokens {', '.join(read)})"

    def _kept(self) -> str:
        return (
            f"the last checkpoint is that of step {self.saved_step}"
            if self.saved_step
            else "no checkpoint yet"
        )

    @contextmanager
    def _naming_memory(self, batch: Batch) -> Iterator[None]:
        """Turn exhausted memory into an error that names the setting which needs less."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            steps = self.engine.config.accumulation_steps
            num_rows = max(1, len(batch.inputs) // (steps * self.processes.size))
            advice = (
                f"engine.accumulation_steps = {2 * steps} instead of {steps} needs less, at the same result"
                if num_rows > 1
                else "a shorter model.context_length or a smaller model needs less"
            )
            raise TrainingError(
                f"{self._where()}: out of memory on {self.engine.device} "
                f"with {num_rows:,} rows of {batch.inputs.shape[1]:,} tokens at once; {advice}"
            ) from error


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Hold torch at `number` threads: a resumed training keeps those it began with."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
