"""Hugging Face datasets as records, where the extra `datasets` is installed: "hf:NAME?config=C&split=S"."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from sbp_bayes.base.errors import CorpusError

PREFIX = "hf:"
SETTINGS = ("config", "split", "revision")


def read_hub(address: str, *, streaming: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row from 1, record) of the dataset at `address`.

    Args:
        address: the name (or folder) of a dataset, and after a question mark what else
            `datasets.load_dataset` is to know: config, split (default train), revision; for instance
            "allenai/c4?config=en&split=train+validation[:10%]". "%26" stands for "&" within a value.
        streaming: fetch rows as they are asked for; otherwise the whole dataset is downloaded once to
            Hugging Face's cache and memory-mapped, as also for a slice of a split, which cannot be streamed.

    Raises:
        CorpusError: the datasets library is missing, the address has an unknown part, or the dataset
            cannot be loaded.
    """
    name, settings = _parts(address)
    rows: Iterable[Any]
    if streaming and _can_stream(settings):
        parts = settings.pop("split").split("+")
        stream = functools.partial(_ask, address, "load_dataset", name, **settings, streaming=True)
        rows = itertools.chain.from_iterable(stream(split=part) for part in parts)
    else:
        rows = _ask(address, "load_dataset", name, **settings)
    numbered = enumerate(rows, start=1)
    while True:
        try:
            numbered_row = next(numbered, None)
        except CorpusError:
            raise
        except Exception as error:
            raise _failure(address, error) from error
        if numbered_row is None:
            return
        yield numbered_row


def hub_fingerprint(address: str, *, streaming: bool = False) -> str:
    """Return what determines the dataset's content, as the datasets library has it.

    With `streaming` nothing is downloaded but the list of files: their names and versions are hashed.

    Raises:
        CorpusError: see `read_hub`.
    """
    name, settings = _parts(address)
    if not (streaming and _can_stream(settings)):
        return str(_ask(address, "load_dataset", name, **settings)._fingerprint)
    split = settings.pop("split")
    builder = _ask(address, "load_dataset_builder", name, **settings)
    return f"{builder.config_id} {builder.hash} {split}"


def _can_stream(settings: Mapping[str, str]) -> bool:
    return "[" not in settings["split"]


def _parts(address: str) -> tuple[str, dict[str, str]]:
    """Split an address; a plus stays one, since it joins splits."""
    name, _, query = address.partition("?")
    pairs = (part.partition("=") for part in query.split("&") if part)
    given = {unquote(key): unquote(value) for key, _, value in pairs}
    unknown = sorted(given.keys() - set(SETTINGS))
    if not name or unknown:
        wrong = f"unknown setting {unknown[0]!r}" if unknown else "no name"
        raise CorpusError(f"{PREFIX}{address}: {wrong} (expected hf:NAME?config=C&split=S&revision=R)")
    return name, {"split": "train"} | given


def _ask(address: str, function: str, name: str, *, config: str | None = None, **settings: Any) -> Any:
    try:
        import datasets
    except ImportError as error:
        needed = "needs the datasets library: run `pip install 'sbp_bayes[datasets]'`"
        raise CorpusError(f"{PREFIX}{address} {needed}") from error
    try:
        return getattr(datasets, function)(name, config, **settings)
    except Exception as error:
        raise _failure(address, error) from error


def _failure(address: str, error: Exception) -> CorpusError:
    """Name whatever the network, the files or a dataset's own layout brought up."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return CorpusError(f"{PREFIX}{address}: cannot be loaded ({reason})")
