"""DDP and FSDP2 with two gloo processes under torchrun, against one process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import parallel_training
import pytest
import torch
from parallel_training import ENGINES, NUM_STEPS, UnevenRows, train_here
from tiny_training import tensors_of, timeless

from sbp_bayes.base.errors import CheckpointError, ConfigError
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.lm import load_model
from sbp_bayes.training import EngineConfig
from sbp_bayes.training.parallel import Processes

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this PyTorch has no gloo",
)
WHOLE_ENGINES = [name for name, engine in ENGINES.items() if engine.accumulation_steps == 1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes trained."""
    root = tmp_path_factory.mktemp("two processes")
    for name in WHOLE_ENGINES:
        train_here(root / name / parallel_training.ONE, ENGINES[name])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, parallel_training.__file__, str(root)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what one process trained."""
    directory = tmp_path_factory.mktemp("one process")
    train_here(directory, EngineConfig())
    return directory


def values(directory: Path, name: str) -> list[Any]:
    return [record[name] for record in read_json_lines(directory / "metrics.jsonl") if name in record]


@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_have_the_losses_and_weights_of_one(shared: Path, alone: Path, engine: str) -> None:
    directory = shared / engine / "whole"
    for name in ("loss_nats_per_token", "gradient_norm", "validation_nats_per_token"):
        assert values(directory, name) == pytest.approx(values(alone, name), rel=1e-5), name
    for name in ("step", "tokens", "tokens_by_source", "epochs_by_source", "learning_rate"):
        assert values(directory, name) == values(alone, name)
    assert len(values(directory, "loss_nats_per_token")) == NUM_STEPS
    for place in ("best", "last"):
        expected = load_model(alone / place).state_dict()
        for name, tensor in load_model(directory / place).state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", WHOLE_ENGINES)
@pytest.mark.parametrize("stopped", ["resumed", "terminated"])
def test_two_processes_resume_to_the_same_bits(shared: Path, engine: str, stopped: str) -> None:
    """Interrupted in both, and by a SIGTERM to one of them."""
    whole, resumed = shared / engine / "whole", shared / engine / stopped
    histories = [timeless(read_json_lines(place / "metrics.jsonl")) for place in (whole, resumed)]
    assert histories[0] == histories[1]
    for place in ("best", "last"):
        assert tensors_of(whole / place) == tensors_of(resumed / place)


@pytest.mark.parametrize("engine", WHOLE_ENGINES)
def test_another_number_of_processes_is_refused(shared: Path, engine: str) -> None:
    message = rf"step_0+{NUM_STEPS}\.safetensors was written by 2 processes, and this training has 1: go on"
    with pytest.raises(CheckpointError, match=message):
        train_here(shared / engine / "resumed", ENGINES[engine])


def test_more_pieces_than_rows_of_a_process_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sbp_bayes.training.engine import Engine

    engine = Engine(parallel_training.Transformer(parallel_training.MODEL), EngineConfig(), 0.0)
    engine.processes = Processes(1, 6)
    with pytest.raises(ConfigError, match=r"at most 0: a batch of 5 rows, 6 processes"):
        engine.backward(UnevenRows().batch(0), 30)


def test_alone_a_process_agrees_with_itself() -> None:
    alone = Processes()
    assert alone.leads
    assert alone.sums([1.5, 2.0]) == [1.5, 2.0]
    assert alone.any(True, False) == [True, False]
    assert alone.leaders(3.0) == 3.0
