"""Outside models in folders: where they lie, what they hold, and how they are loaded."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sbp_bayes.base.errors import PairingError

INSTALL = "pip install 'sbp_bayes[hf]'"
NOT_NEEDED = ["*.onnx*", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.mlmodel", "onnx/*", "openvino/*"]
"""Of a hub's model: weights for other software."""


def find_model(kind: str, name: str) -> Path:
    """Return the folder of a model: `name` itself where it is one, else Hugging Face's copy on this machine.

    Args:
        kind: the embedder that asks, for messages.
        name: a local folder, or a hub's "OWNER/NAME", which is downloaded unless it is there already.

    Raises:
        PairingError: there is no such folder and the hub doesn't give it, or huggingface_hub is missing.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise PairingError(f"{name}: is a file; the {kind} embedder needs the folder that holds the model")
    hub = imported("huggingface_hub", kind)
    try:
        return Path(hub.snapshot_download(name, ignore_patterns=NOT_NEEDED))
    except Exception as error:  # whatever the network, the hub or the name bring up
        raise PairingError(
            f"the {kind} embedder finds no folder {name!r}, and cannot get a model of that name from the "
            f"Hugging Face hub ({one_line(error)}): give a local folder as --embedder {kind}:FOLDER"
        ) from error


def imported(package: str, kind: str) -> Any:
    """Import an optional package.

    Raises:
        PairingError: it is missing; the message names the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise PairingError(f"the {kind} embedder needs {package}: run `{INSTALL}`") from error


@contextlib.contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Load a model within the block: without transformers' own bars, each failure a `PairingError`."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except PairingError:
        raise
    except Exception as error:  # the loaders raise all kinds, bare Exception among them
        raise PairingError(f"{folder}: cannot be loaded ({one_line(error)})") from error
    finally:
        if shown:
            logging.enable_progress_bar()


def device() -> str:
    """Return where outside models compute: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def one_line(error: BaseException) -> str:
    """Return an error's kind and message without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
