"""What stops a training: SIGTERM, missing devices, exhausted memory, foreign checkpoints."""

import math
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import NUM_STEPS, TinyModel, TinySource, tensors_of, timeless, train_tiny

from sbp_bayes.base.errors import CheckpointError, ConfigError, Stopped, TrainingError, is_out_of_memory
from sbp_bayes.base.runtime import deferred_sigterm
from sbp_bayes.training import EngineConfig
from sbp_bayes.training.checkpoint import _sha256


class Terminated(TinySource):
    """Sends this process SIGTERM in the middle of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def batch(self, step: int):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step)


@pytest.mark.parametrize("step", [0, 11, NUM_STEPS - 1])
def test_sigterm_writes_a_checkpoint_from_which_the_same_bits_follow(tmp_path, step) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=f"^stopped by SIGTERM after {step + 1} of 24 steps"):
        train_tiny(tmp_path / "stopped", source=Terminated(step), checkpoint_seconds=1e9)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert (tmp_path / "stopped" / "checkpoints" / f"step_{step + 1:09d}.sha256").exists()
    resumed, whole = train_tiny(tmp_path / "stopped"), train_tiny(tmp_path / "whole")
    assert timeless(resumed.history) == timeless(whole.history)
    assert tensors_of(tmp_path / "stopped" / "last") == tensors_of(tmp_path / "whole" / "last")


def test_a_sigterm_that_nothing_answered_comes_when_the_block_ends() -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: received.append(signum))
    try:
        with deferred_sigterm() as came:
            assert not came()
            os.kill(os.getpid(), signal.SIGTERM)
            assert came()
            assert received == []
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_training_in_another_thread_leaves_signals_alone(tmp_path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(train_tiny(tmp_path)))
    thread.start()
    thread.join()
    assert results[0].num_steps == NUM_STEPS


@pytest.mark.parametrize("kept", [1, 5])
def test_the_newest_checkpoints_are_kept(tmp_path, kept) -> None:
    train_tiny(tmp_path, checkpoint_seconds=0.0, kept_checkpoints=kept)
    left = sorted(path.stem for path in (tmp_path / "checkpoints").glob("*.sha256"))
    assert left == [f"step_{step:09d}" for step in range(NUM_STEPS - kept + 1, NUM_STEPS + 1)]
    assert (tmp_path / "best" / "model.safetensors").exists()


def _with_digest(path: Path) -> None:
    path.with_suffix(".sha256").write_text(_sha256(path) + "\n")


def _stopped(tmp_path: Path) -> Path:
    """Stop after 4 steps with one checkpoint, and return its path."""
    with pytest.raises(Stopped):
        train_tiny(tmp_path, source=Terminated(3), checkpoint_seconds=1e9)
    return tmp_path / "checkpoints" / "step_000000004.safetensors"


def test_a_foreign_file_is_no_checkpoint(tmp_path, caplog) -> None:
    path = _stopped(tmp_path)
    save_file({"weights": torch.zeros(3)}, path)
    _with_digest(path)
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        train_tiny(tmp_path)
    assert f"{path} is damaged" in caplog.text


@pytest.mark.parametrize("missing", [True, False])
def test_tensors_of_another_shape_are_named(tmp_path, missing) -> None:
    from safetensors import safe_open

    path = _stopped(tmp_path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["model/hidden.weight"]
    if not missing:
        tensors["model/hidden.weight"] = torch.zeros(2, 3)
    save_file(tensors, path, metadata=metadata)
    _with_digest(path)
    shape = "none" if missing else r"\(2, 3\)"
    message = rf"model/hidden\.weight has shape {shape}, but the training needs \(16, 16\)"
    with pytest.raises(CheckpointError, match=message):
        train_tiny(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:99", r"device = 'cuda:99' is not there: cuda:99 of \d+ CUDA devices; try cpu"),
        ("tpu", "device = 'tpu': expected cpu, cuda or cuda:N"),
        ("meta", "device = 'meta': expected cpu, cuda or cuda:N"),
    ],
)
def test_a_device_that_is_not_there_is_named(tmp_path, name, message) -> None:
    with pytest.raises(ConfigError, match=message):
        train_tiny(tmp_path, engine=EngineConfig(device=name))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_device_that_is_there_is_used(tmp_path) -> None:
    assert train_tiny(tmp_path, engine=EngineConfig(device="cpu")).num_steps == NUM_STEPS


class Greedy(TinyModel):
    """Asks for more memory than there is."""

    def loss_sum(self, batch):
        torch.empty(10**15)
        return super().loss_sum(batch)


@pytest.mark.parametrize(
    ("steps", "advice"),
    [
        (2, r"with 2 rows of 8 tokens at once; engine\.accumulation_steps = 4 instead of 2 needs less"),
        (4, r"with 1 rows of 8 tokens at once; a shorter model\.context_length or a smaller model"),
    ],
)
def test_exhausted_memory_names_the_setting_that_helps(tmp_path, steps, advice) -> None:
    engine = EngineConfig(accumulation_steps=steps)
    with pytest.raises(TrainingError, match=rf"^step 1, batch 0 .*: out of memory on cpu {advice}"):
        train_tiny(tmp_path, model=Greedy(), engine=engine, validate=None)


def test_other_errors_are_not_taken_for_exhausted_memory(tmp_path) -> None:
    class Faulty(TinyModel):
        def loss_sum(self, batch):
            raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        train_tiny(tmp_path, model=Faulty(), validate=None)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_loss_that_is_not_finite_names_what_the_batch_read(tmp_path) -> None:
    class Poisoned(TinyModel):
        def loss_sum(self, batch):
            loss, count = super().loss_sum(batch)
            return loss * math.nan, count

    message = r"^step 1, batch 0 \(tokens 0 to 31 of tiny\): the loss is nan; no checkpoint yet$"
    with pytest.raises(TrainingError, match=message):
        train_tiny(tmp_path, model=Poisoned(), validate=None)
