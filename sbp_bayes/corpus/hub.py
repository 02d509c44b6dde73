"""Hugging Face datasets as records, where the extra `datasets` is installed: "hf:NAME?config=C&split=S"."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from sbp_bayes.base.errors import CorpusError

PREFIX = "hf:"


def read_hub(address: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row from 1, record) of the dataset at `address`; see `load_hub`."""
    yield from enumerate(load_hub(address), start=1)


def hub_fingerprint(address: str) -> str:
    """Return what determines the dataset's content, as the datasets library has it."""
    return str(load_hub(address)._fingerprint)


def load_hub(address: str) -> Any:
    """Return the dataset at `address`, memory-mapped from Hugging Face's cache.

    Args:
        address: the name (or folder) of a dataset, and after a question mark what else
            `datasets.load_dataset` is to know: config, split (default train), revision; for instance
            "allenai/c4?config=en&split=validation".

    Raises:
        CorpusError: the datasets library is missing, the address has an unknown part, or the dataset
            cannot be loaded.
    """
    name, _, query = address.partition("?")
    settings = {"split": "train"} | dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(settings.keys() - {"config", "split", "revision"})
    if not name or unknown:
        wrong = f"unknown setting {unknown[0]!r}" if unknown else "no name"
        raise CorpusError(f"{PREFIX}{address}: {wrong} (expected hf:NAME?config=C&split=S&revision=R)")
    try:
        import datasets
    except ImportError as error:
        needed = "needs the datasets library: run `pip install 'sbp_bayes[datasets]'`"
        raise CorpusError(f"{PREFIX}{address} {needed}") from error
    try:
        return datasets.load_dataset(name, settings.pop("config", None), **settings)
    except Exception as error:  # whatever the network, the files or a dataset's own layout bring up
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CorpusError(f"{PREFIX}{address}: cannot be loaded ({reason})") from error
