"""The command that prepares a corpus: by itself, as it needs no torch, whose import takes 230 MiB."""

import argparse
from pathlib import Path

from sbp_bayes.base.stage import Folder, Manifest
from sbp_bayes.cli.settings import configure
from sbp_bayes.corpus import CorpusConfig, prepare_corpus


def run_corpus(arguments: argparse.Namespace) -> Manifest:
    """Prepare a corpus of one's own text."""
    flags = {
        "paths": arguments.paths,
        "vocab_size": arguments.vocab_size,
        "text_field": arguments.text_field,
        "min_chars": arguments.min_chars,
        "limit_documents": arguments.limit_documents,
        "keep_fields": _names(arguments.keep_fields),
        "drop_fields": _names(arguments.drop_fields),
        "seed": arguments.seed,
    }
    config = configure(CorpusConfig, flags, arguments.assignments)
    return prepare_corpus(
        config, Folder(Path(arguments.out), arguments.accept_code), num_workers=arguments.workers
    )


def _names(text: str | None) -> tuple[str, ...] | None:
    """Return the names in "a,b"; none for an empty text, and None where the flag was not given."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
