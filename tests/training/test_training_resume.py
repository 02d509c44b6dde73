"""A training killed with SIGKILL anywhere and resumed equals the uninterrupted one, to the bit."""

import multiprocessing
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import (
    NUM_STEPS,
    TinyModel,
    TinySource,
    killed_training,
    slow_training,
    tensors_of,
    timeless,
    train_tiny,
    validate,
)

from sbp_bayes.base.errors import CheckpointError, StoreError
from sbp_bayes.base.records import Batch
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.training import OptimiserConfig, TrainResult

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["sbp_bayes.training", "torch._dynamo"])  # which AdamW imports


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, train_tiny(directory, checkpoint_seconds=1e9)


def assert_same(directory: Path, result: TrainResult, whole: tuple[Path, TrainResult]) -> None:
    whole_directory, expected = whole
    for name in ("best", "last"):
        assert tensors_of(directory / name) == tensors_of(whole_directory / name)
    assert timeless(result.history) == timeless(expected.history)
    for key in ("num_steps", "tokens", "loss_nats_per_token", "best_step", "best_nats_per_token"):
        assert getattr(result, key) == getattr(expected, key)


class Interrupted(Exception):
    pass


def interrupt(directory: Path, step: int, **arguments: Any) -> None:
    """Train until batch `step` is asked for, with a checkpoint after each step."""
    source = TinySource()
    batch = source.batch

    def interrupted_batch(number: int) -> Batch:
        if number == step:
            raise Interrupted
        return batch(number)

    source.batch = interrupted_batch
    with pytest.raises(Interrupted):
        train_tiny(directory, source=source, **({"checkpoint_seconds": 0.0} | arguments))


def run_and_expect_sigkill(target, *arguments) -> None:
    process = FORK.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("place", "number", "checkpoint_seconds"),
    [
        ("batch", 1, 0.0),
        ("batch", 2, 0.0),
        ("batch", 13, 0.0),
        ("batch", 13, 1e9),
        ("batch", NUM_STEPS, 0.002),
        ("checkpoint half written", 1, 0.0),
        ("checkpoint half written", 9, 0.0),
        ("checkpoint half written", NUM_STEPS, 0.0),
        ("digest", 1, 0.0),
        ("digest", 10, 0.0),
        ("prune", 3, 0.0),
        ("prune", NUM_STEPS, 0.0),
        ("metrics", 6, 0.0),
        ("weights half written", 1, 0.0),
        ("weights half written", 3, 0.0),
        ("weights half written", 3, 1e9),
    ],
)
def test_sigkill_at_a_place(place, number, checkpoint_seconds, tmp_path, whole) -> None:
    run_and_expect_sigkill(killed_training, tmp_path, place, number, checkpoint_seconds)
    assert_same(tmp_path, train_tiny(tmp_path), whole)


def test_sigkill_again_and_again(tmp_path, whole) -> None:
    for place, number in [
        ("batch", 5),
        ("digest", 2),
        ("checkpoint half written", 3),
        ("batch", 6),
        ("prune", 1),
    ]:
        run_and_expect_sigkill(killed_training, tmp_path, place, number, 0.0)
    assert_same(tmp_path, train_tiny(tmp_path, checkpoint_seconds=0.0), whole)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == [
        f"step_{s:09d}.{e}" for s in (NUM_STEPS - 1, NUM_STEPS) for e in ("safetensors", "sha256")
    ]


def test_sigkill_from_outside_at_any_moment(tmp_path, whole) -> None:
    generator = numpy_generator(0, "kill")
    kills = 0
    for _ in range(6):
        process = FORK.Process(target=slow_training, args=(tmp_path,))
        process.start()
        deadline = time.monotonic() + 20
        while not (tmp_path / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(generator.uniform(0.02, 0.12))
        process.kill()
        process.join(60)
        kills += process.exitcode == -signal.SIGKILL
    assert kills > 0
    assert_same(tmp_path, train_tiny(tmp_path), whole)


@settings(max_examples=10, deadline=None)
@given(seconds=st.sampled_from([0.0, 0.0005, 0.002, 0.01]))
def test_result_is_independent_of_checkpoints(tmp_path_factory, whole, seconds) -> None:
    directory = tmp_path_factory.mktemp("other")
    assert_same(directory, train_tiny(directory, checkpoint_seconds=seconds), whole)


def test_finished_training_is_not_run_again(tmp_path, whole) -> None:
    first = train_tiny(tmp_path)
    model = TinyModel()
    second = train_tiny(tmp_path, model=model, validate=_never)
    assert second == first
    assert_same(tmp_path, second, whole)


def _never(model):
    raise AssertionError("a finished training was validated again")


def test_damaged_newest_checkpoint_falls_back(tmp_path, whole, caplog) -> None:
    interrupt(tmp_path, step=11)
    newest = tmp_path / "checkpoints" / "step_000000011.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    assert_same(tmp_path, train_tiny(tmp_path), whole)
    assert "step_000000011.safetensors is damaged" in caplog.text


def test_a_damaged_checkpoint_does_not_count_among_the_kept(tmp_path) -> None:
    interrupt(tmp_path, step=11)
    (tmp_path / "checkpoints" / "step_000000011.safetensors").write_bytes(b"")
    interrupt(tmp_path, step=10, checkpoint_seconds=1e9)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step_000000010.safetensors", "step_000000010.sha256"]


class BufferedModel(TinyModel):
    """Counts its steps in a buffer, shares a parameter, and has a table that needs no saving."""

    def __init__(self) -> None:
        super().__init__()
        self.head = self.embedding
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("table", torch.zeros(3, dtype=torch.complex64), persistent=False)

    def loss_sum(self, batch: Batch) -> tuple[torch.Tensor, int]:
        self.steps += 1
        return super().loss_sum(batch)


def test_buffers_are_restored_and_shared_parameters_saved_once(tmp_path) -> None:
    interrupt(tmp_path, step=11, model=BufferedModel(), save_weights=_save_nothing, validate=None)
    header = (tmp_path / "checkpoints" / "step_000000011.safetensors").read_bytes()
    assert b'"model/steps"' in header
    assert b'"model/table"' not in header
    model = BufferedModel()
    train_tiny(tmp_path, model=model, save_weights=_save_nothing, validate=None)
    assert model.steps.item() == NUM_STEPS
    whole = BufferedModel()
    train_tiny(tmp_path / "whole", model=whole, save_weights=_save_nothing, validate=None)
    assert torch.equal(model.head.weight, whole.head.weight)


def _save_nothing(model, directory):
    pass


def test_all_damaged_is_said(tmp_path) -> None:
    interrupt(tmp_path, step=11)
    for path in (tmp_path / "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="every checkpoint is damaged; remove the folder"):
        train_tiny(tmp_path)


def test_shortened_metrics_are_said(tmp_path) -> None:
    interrupt(tmp_path, step=11)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: 3 bytes, but .* when the checkpoint"):
        train_tiny(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"optimiser": OptimiserConfig(peak_lr=0.02)},
        {"num_validations": 6},
        {"validate": None},
        {"patience": 3},
        {"source": TinySource(seed=1)},
        {"source": TinySource(num_steps=NUM_STEPS + 1)},
        {"model": TinyModel(width=8)},
    ],
)
def test_checkpoint_of_another_training_is_refused(tmp_path, other) -> None:
    interrupt(tmp_path, step=3)
    with pytest.raises(CheckpointError, match="belongs to another training: remove"):
        train_tiny(tmp_path, **other)


def test_threads_are_those_the_training_began_with(tmp_path) -> None:
    before = torch.get_num_threads()
    seen = []

    def validate_and_see(model):
        seen.append(torch.get_num_threads())
        return validate(model)

    try:
        torch.set_num_threads(2)
        interrupt(tmp_path, step=11)
        torch.set_num_threads(1)
        result = train_tiny(tmp_path, validate=validate_and_see)
        assert set(seen) == {2}
        assert result.num_threads == 2
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_refused_write_is_said_and_leaves_no_checkpoint(tmp_path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*step_000000001\.safetensors: .*File too large"):
            train_tiny(tmp_path, validate=None, checkpoint_seconds=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "checkpoints").iterdir()) == []
