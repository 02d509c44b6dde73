"""A model on disk: `config.json` (shape and checksum) and `model.safetensors`, or Hugging Face's format."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from sbp_bayes.base.config import decode, encode, fingerprint
from sbp_bayes.base.errors import CheckpointError, ConfigError, StoreError
from sbp_bayes.base.records import EOS
from sbp_bayes.base.store import atomic_path, read_json, write_json
from sbp_bayes.lm.config import LMConfig
from sbp_bayes.lm.hf import is_hf, load_hf, weight_files
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

    A folder in Hugging Face's format is read as `load_hf` does, in float32. Its token ids must be in this
    library's order, which those of `export_hf` are: 0 ends a document and 1 stands between two.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights have another shape than the
            configuration says, or Hugging Face's format has another architecture or end of text; the
            message names the file.
    """
    if is_hf(directory):
        _refuse_other_end(Path(directory) / CONFIG)
        return load_hf(directory)
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


def model_fingerprint(directory: Path) -> str:
    """Return 16 hexadecimal digits that name the model's shape and weights on disk, in either format.

    Raises:
        StoreError: there is no configuration.
    """
    record = read_json(Path(directory) / CONFIG)
    if not is_hf(directory):
        return fingerprint(record)  # which has the weights' checksum
    digests = []
    for path in weight_files(Path(directory)):
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return fingerprint(record, digests)


def _refuse_other_end(path: Path) -> None:
    end = read_json(path).get("eos_token_id")
    if end is not None and end != EOS:
        raise CheckpointError(
            f"{path}: eos_token_id = {end!r}: expected {EOS}, which ends every document here; "
            "bring the vocabulary into this library's order first"
        )


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
