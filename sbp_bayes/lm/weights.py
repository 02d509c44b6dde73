"""A model on disk: `config.json` (shape and checksum) and `model.safetensors`."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from sbp_bayes.base.config import decode, encode
from sbp_bayes.base.errors import CheckpointError, ConfigError, StoreError
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.lm.config import LMConfig
from sbp_bayes.lm.model import Transformer

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: Transformer, directory: Path) -> None:
    """Write `model` to `directory`, each file atomically, the configuration with the checksum last.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    content = save({name: value.contiguous() for name, value in model.state_dict().items()})
    with atomic_path(Path(directory) / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    record = {"model": encode(model.config), "sha256": hashlib.sha256(content).hexdigest()}
    write_json(Path(directory) / CONFIG, record)


def load_model(directory: Path) -> Transformer:
    """Read the model that `save_model` wrote to `directory`, in evaluation mode.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights have another shape than the
            configuration says; the message names the file.
    """
    config_path, weights_path = Path(directory) / CONFIG, Path(directory) / WEIGHTS
    config, checksum = _read_config(config_path)
    if not weights_path.exists():
        raise CheckpointError(f"{weights_path}: no such file")
    content = weights_path.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise CheckpointError(f"{weights_path}: damaged, its SHA-256 is not the one in {config_path}")
    model = Transformer(config, seed=None)
    try:
        state = load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{weights_path}: not a safetensors file ({error})") from error
    _refuse_other_shape(model, {name: tuple(value.shape) for name, value in state.items()}, weights_path)
    model.to(next(iter(state.values())).dtype).load_state_dict(state)
    return model.eval()


def _read_config(path: Path) -> tuple[LMConfig, str]:
    try:
        record = read_json(path)
        return decode(LMConfig, record["model"], where="model"), record["sha256"]
    except (StoreError, ConfigError) as error:
        where = "" if str(path) in str(error) else f"{path}: "
        raise CheckpointError(f"{where}{error}") from error
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a model's configuration ({error!r})") from error


def _refuse_other_shape(model: Transformer, found: dict[str, tuple[int, ...]], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise CheckpointError(
                f"{path}: {name} has shape {found.get(name, 'none')}, "
                f"but the configuration asks for {wanted.get(name, 'none')}"
            )
