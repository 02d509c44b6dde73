"""A training's plan says what the machine decides: the number format and the device, and torch beside it."""

import pytest
import torch
from tiny_pretraining import pretrain_tiny, tiny_config

from sbp_bayes.base import stage
from sbp_bayes.base.errors import CheckpointError, StoreError
from sbp_bayes.base.stage import Workspace
from sbp_bayes.base.store import read_json, write_json
from sbp_bayes.lm import precision
from sbp_bayes.training import EngineConfig, checkpoint


@pytest.fixture(params=["bfloat16", "float32"])
def native(request, monkeypatch) -> str:
    """The format that this machine multiplies natively."""
    monkeypatch.setattr(precision, "_bfloat16_is_native", lambda device: request.param == "bfloat16")
    return request.param


def test_the_plan_has_what_auto_stands_for(tmp_path, native) -> None:
    manifest = pretrain_tiny(tmp_path)
    for name in ("plan.json", "manifest.json"):
        record = read_json(tmp_path / name)
        assert (record["config"]["matmul_dtype"], record["config"]["engine"]["device"]) == (native, "cpu")
        assert record["device"] == "cpu"
        assert record["attempts"][-1]["software"]["torch"] == torch.__version__
    assert manifest.attempts[0]["code_version"] == manifest.code_version
    assert tiny_config().matmul_dtype == "auto"


def test_auto_and_what_it_stands_for_are_one_plan(tmp_path, native) -> None:
    work = Workspace(tmp_path)
    said = pretrain_tiny(work, matmul_dtype=native, engine=EngineConfig(device="cpu"))
    assert pretrain_tiny(work) == said


@pytest.mark.parametrize("finished", [True, False])
def test_a_machine_of_another_format_is_refused(tmp_path, native, monkeypatch, finished) -> None:
    pretrain_tiny(tmp_path)
    if not finished:
        (tmp_path / "manifest.json").unlink()
    other = {"bfloat16": "float32", "float32": "bfloat16"}[native]
    monkeypatch.setattr(precision, "_bfloat16_is_native", lambda device: other == "bfloat16")
    with pytest.raises(StoreError, match=f"matmul_dtype = {other} here, {native} in the plan"):
        pretrain_tiny(tmp_path)
    assert pretrain_tiny(tmp_path, matmul_dtype=native).config["matmul_dtype"] == native


def test_a_workspace_says_that_an_unfinished_training_of_another_machine_stays_behind(
    tmp_path, native, monkeypatch, capsys
) -> None:
    first = pretrain_tiny(Workspace(tmp_path))
    (first.directory / "manifest.json").unlink()
    other = {"bfloat16": "float32", "float32": "bfloat16"}[native]
    monkeypatch.setattr(precision, "_bfloat16_is_native", lambda device: other == "bfloat16")
    assert pretrain_tiny(Workspace(tmp_path)).directory != first.directory
    told = f"is unfinished and differs in config.matmul_dtype = {other} here, {native} in the plan"
    assert f"{first.directory} {told}: pretrain begins anew" in capsys.readouterr().err


def test_the_checkpoint_has_it_too(tmp_path, native, monkeypatch) -> None:
    def write(path, value):
        if path.name == "manifest.json":
            raise KeyboardInterrupt
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_json", write)
        with pytest.raises(KeyboardInterrupt):
            pretrain_tiny(tmp_path)
    (digest,) = (tmp_path / "checkpoints").glob("*.sha256")
    state, _ = checkpoint._read(digest.with_suffix(".safetensors"), digest)
    assert (state.device, state.matmul_dtype) == ("cpu", native)
    # A plan that somebody edits does not get past the checkpoint.
    other = {"bfloat16": "float32", "float32": "bfloat16"}[native]
    plan = read_json(tmp_path / "plan.json") | {"fingerprint": ""}
    plan["config"]["matmul_dtype"] = other
    write_json(tmp_path / "plan.json", plan)
    with pytest.raises(CheckpointError, match=f"matmul_dtype = {other} here, {native} in the checkpoint"):
        pretrain_tiny(tmp_path, matmul_dtype=other)
