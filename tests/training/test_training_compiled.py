"""torch.compile: layers compiled from nothing train as eager ones do, and go on from a checkpoint."""

import dataclasses
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import parallel_training
import pytest
import torch
from parallel_training import UnevenRows, validate
from tiny_training import tensors_of, timeless

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.store import read_json_lines
from sbp_bayes.lm import Transformer, load_model, save_model
from sbp_bayes.training import EngineConfig, OptimiserConfig, train

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch._dynamo and torch._inductor
MODEL = dataclasses.replace(parallel_training.MODEL, num_layers=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache for what is compiled, in this process alone, so that no pool of compilers stays."""
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    with torch._inductor.config.patch(compile_threads=1):
        yield tmp_path / "compiled"
    torch._dynamo.reset()


def train_here(directory: Path, **settings: Any) -> list[dict[str, Any]]:
    """Train one layer for 8 steps, keep every checkpoint, and return the records without their times."""
    train(
        Transformer(MODEL, seed=0),
        UnevenRows(),
        optimiser=OptimiserConfig(),
        directory=directory,
        save_weights=save_model,
        validate=validate,
        num_validations=2,
        checkpoint_seconds=0.0,
        kept_checkpoints=100,
        **settings,
    )
    return timeless(read_json_lines(directory / "metrics.jsonl"))


def leave_checkpoint(step: int, whole: Path, directory: Path) -> None:
    """Make `directory` what `whole` was when its training had done `step` steps."""
    shutil.copytree(whole, directory)
    shutil.rmtree(directory / "last")
    for path in (directory / "checkpoints").iterdir():
        if path.stem > f"step_{step:09d}":
            path.unlink()


def test_compiled_layers_train_as_eager_ones_and_resume_to_the_bit(tmp_path: Path, cache: Path) -> None:
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("torch.compile needs Python's headers, and there is no Python.h")

    eager, compiled = tmp_path / "eager", tmp_path / "whole"
    expected = train_here(eager)
    assert not list(cache.rglob("*.so"))
    records = train_here(compiled, engine=EngineConfig(compile=True))
    assert list(cache.rglob("*.so"))
    assert [list(record) for record in records] == [list(record) for record in expected]
    for name in ("loss_nats_per_token", "gradient_norm", "validation_nats_per_token"):
        values = ([record[name] for record in history if name in record] for history in (records, expected))
        assert next(values) == pytest.approx(next(values), rel=1e-5), name
    weights = load_model(eager / "last").state_dict()
    for name, tensor in load_model(compiled / "last").state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-4, atol=1e-5)

    leave_checkpoint(5, compiled, tmp_path / "resumed")
    assert train_here(tmp_path / "resumed", engine=EngineConfig(compile=True)) == records
    for place in ("best", "last"):
        assert tensors_of(tmp_path / "resumed" / place) == tensors_of(compiled / place)


def test_a_compiler_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    message = r"^engine\.compile = True cannot run on cpu: .*[Nn]o.*compiler.*no-such-compiler"
    with missing, pytest.raises(ConfigError, match=message):
        train_here(tmp_path, engine=EngineConfig(compile=True))
