"""Weights on disk: the same model comes back, and damage is named."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sbp_bayes.base.errors import CheckpointError
from sbp_bayes.lm import PRESETS, Transformer, load_model, save_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(Transformer(PRESETS["smoke"], seed=1), tmp_path)
    return tmp_path


@pytest.mark.parametrize("tied", [True, False])
def test_the_same_model_comes_back(tied: bool, tmp_path: Path) -> None:
    model = Transformer(dataclasses.replace(PRESETS["smoke"], tied_embeddings=tied), seed=1)
    save_model(model, tmp_path / "new" / "folder")
    loaded = load_model(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_same_model_makes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(load_model(saved), tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        load_model(saved)


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_damaged_weights_are_named(saved: Path, damage: str) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load_model(saved)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model": {"width": 3}, "sha256": ""}', '{"model": 3}'])
def test_a_damaged_configuration_is_named(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(saved)


def rewrite(directory: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, directory / "model.safetensors")
    record = json.loads((directory / "config.json").read_text())
    record["sha256"] = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    (directory / "config.json").write_text(json.dumps(record))


def test_another_shape_is_refused_by_name(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    rewrite(saved, state | {"blocks.0.down": torch.zeros(32, 95)})
    with pytest.raises(CheckpointError, match=r"blocks.0.down has shape \(32, 95\), .* asks for \(32, 96\)"):
        load_model(saved)


def test_a_missing_or_unknown_tensor_is_refused_by_name(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    rewrite(saved, {name: value for name, value in state.items() if name != "final_norm"})
    with pytest.raises(CheckpointError, match="final_norm has shape none"):
        load_model(saved)
    rewrite(saved, state | {"stranger": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"stranger .* asks for none"):
        load_model(saved)


def test_weights_that_are_not_safetensors_are_refused(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"junk")
    record = json.loads((saved / "config.json").read_text())
    record["sha256"] = hashlib.sha256(b"junk").hexdigest()
    (saved / "config.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_model(saved)
