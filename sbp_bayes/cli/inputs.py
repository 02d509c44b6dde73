"""What the commands read: corpora, models and tokenizers in folders that earlier stages wrote."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.config import require_one_of
from sbp_bayes.base.errors import CheckpointError, CorpusError
from sbp_bayes.base.progress import say
from sbp_bayes.base.runtime import torchrun_rank
from sbp_bayes.base.stage import PLAN, Folder, Manifest, read_manifest
from sbp_bayes.base.store import read_json, write_json
from sbp_bayes.corpus import (
    TOKENIZER,
    Corpus,
    CorpusConfig,
    RejectLog,
    Tokenizer,
    choose_unique,
    load_split,
    prepare_corpus,
    read_documents,
)
from sbp_bayes.corpus.rejects import report
from sbp_bayes.lm import PRESETS, LMConfig
from sbp_bayes.synthesizer import load_alone

ORIGIN = "origin.json"
"""In a stage's folder: where its corpus lay, for commands that want to show its documents."""


@dataclasses.dataclass(frozen=True)
class PreparedCorpus:
    """The folder of a finished `corpus` stage."""

    manifest: Manifest

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of all three splits."""
        return Tokenizer.load(self.manifest.directory / TOKENIZER)

    def split(self, name: str, *, may_be_empty: bool = False) -> Corpus:
        """Load the split "pool", "validation" or "test", verified by one of torchrun's processes.

        Raises:
            CorpusError: it holds no documents, unless it may be empty.
        """
        verify = torchrun_rank() == 0
        if may_be_empty:
            return Corpus.load(self.manifest.directory / name, verify=verify)
        return load_split(self.manifest.directory, name, verify=verify)

    def unique(self, num_tokens: int | None) -> Corpus:
        """Return the pool, or a random `num_tokens` of it: the same ones for every stage."""
        pool = self.split("pool")
        return pool if num_tokens is None else choose_unique(pool, num_tokens, self.manifest.config["seed"])


def place(arguments: argparse.Namespace, part: str = "") -> Folder:
    """Return the folder that a stage's command writes, or the folder `part` in it."""
    return Folder(Path(arguments.out) / part, accept_code=arguments.accept_code)


def is_stage(path: str) -> bool:
    """Whether `path` is the folder of a stage, and not text."""
    return (Path(path) / PLAN).exists()


def prepared_corpus(path: str) -> PreparedCorpus:
    """Open the prepared corpus at `path`.

    Raises:
        CorpusError: there is none.
        StoreError: its preparation is unfinished.
    """
    if not is_stage(path):
        state = "is not a prepared corpus" if Path(path).exists() else "no such file or folder"
        raise CorpusError(f"{path}: {state} (`sbp corpus TEXT --out DIR` makes one)")
    manifest = read_manifest(Path(path))
    if manifest.stage != "corpus":
        raise CorpusError(f"{path} is the output of {manifest.stage!r}, not a prepared corpus")
    return PreparedCorpus(manifest)


def prepared_or_text(arguments: argparse.Namespace) -> PreparedCorpus:
    """Open the prepared corpus that is given, or prepare the text that is given into OUT/corpus."""
    if is_stage(arguments.corpus):
        return prepared_corpus(arguments.corpus)
    config = CorpusConfig(paths=(arguments.corpus,), vocab_size=arguments.vocab_size)
    return PreparedCorpus(prepare_corpus(config, place(arguments, "corpus")))


def remember_origin(manifest: Manifest, prepared: PreparedCorpus, num_tokens: int | None) -> None:
    """Keep where the corpus of a finished stage lies, and how many unique tokens of its pool were used."""
    record = {"corpus": str(prepared.manifest.directory.resolve()), "unique_tokens": num_tokens}
    write_json(manifest.directory / ORIGIN, record)


def origin(manifest: Manifest) -> dict[str, Any]:
    """Return what `remember_origin` kept; nothing where it kept none."""
    path = manifest.directory / ORIGIN
    return dict(read_json(path)) if path.exists() else {}


def remembered(manifest: Manifest, arguments: argparse.Namespace) -> tuple[PreparedCorpus, int | None] | None:
    """Return the prepared corpus of a finished stage and how many unique tokens of its pool were used.

    `--corpus` and `--unique-tokens` say it, or else what `remember_origin` kept; None where nobody does.
    """
    found = origin(manifest)
    path = arguments.corpus or found.get("corpus")
    if path is None or (arguments.corpus is None and not is_stage(path)):
        return None
    return prepared_corpus(path), arguments.unique_tokens or found.get("unique_tokens")


def corpus_or_text(
    path: str, model: Path, select: Callable[[PreparedCorpus], Corpus]
) -> tuple[Corpus, Tokenizer]:
    """Return what `select` takes of a prepared corpus, or all text at `path`, in tokens of `model`.

    Raises:
        CorpusError: bad text, or a prepared corpus of another tokenizer than the model's.
        CheckpointError: text, but no tokenizer beside the model.
    """
    if is_stage(path):
        prepared = prepared_corpus(path)
        refuse_other_tokenizer(model, prepared.tokenizer)
        return select(prepared), prepared.tokenizer
    location = tokenizer_path(model)
    if location is None:
        raise CheckpointError(f"{model}: no {TOKENIZER} beside the model: give a prepared corpus, not text")
    tokenizer = Tokenizer.load(location)
    return _built(path, tokenizer), tokenizer


def _built(path: str, tokenizer: Tokenizer) -> Corpus:
    """Tokenise all text at `path`, and say what of it is left out."""
    log = RejectLog()
    corpus = Corpus.build(read_documents(path, rejects=log), tokenizer)
    for line in report(log.counts()):
        say(line)
    return corpus


def model_folder(path: str) -> Path:
    """Return the folder of weights at `path`: itself, or the best checkpoint of a finished training.

    Raises:
        CheckpointError: there are no weights.
        StoreError: the training is unfinished.
    """
    folder = Path(path)
    if is_stage(path):
        folder = read_manifest(folder).directory / "best"
    if not (folder / "config.json").exists():
        state = "no model in this folder" if Path(path).exists() else "no such model"
        raise CheckpointError(f"{path}: {state}")
    return folder


def refuse_other_tokenizer(model: Path, tokenizer: Tokenizer) -> None:
    """Raise a `CorpusError` if the tokenizer beside `model` is another one than the corpus has."""
    location = tokenizer_path(model)
    if location is not None and Tokenizer.load(location).fingerprint != tokenizer.fingerprint:
        raise CorpusError(f"the corpus was made with another tokenizer than the model's, {location}")


def synthesis(path: str) -> Manifest:
    """Open what `sbp synthesize` wrote to the folder `path`.

    Raises:
        CorpusError: not the output of a synthesis.
        StoreError: the synthesis is unfinished.
    """
    if not is_stage(path):
        raise CorpusError(f"{path} is not a folder that `sbp synthesize` made")
    manifest = read_manifest(Path(path))
    if manifest.stage != "synthesize":
        raise CorpusError(f"{path} is the output of {manifest.stage!r}, not of 'synthesize'")
    return manifest


def synthetic_corpus(path: str, tokenizer: Tokenizer) -> Corpus:
    """Load the corpus that `sbp synthesize` wrote to the folder `path`.

    Raises:
        CorpusError: not the output of a synthesis, or one of another tokenizer.
    """
    manifest = synthesis(path)
    if manifest.inputs["tokenizer"] != tokenizer.fingerprint:
        raise CorpusError(f"{path} was sampled with another tokenizer than the real text's")
    return Corpus.load(manifest.directory / "corpus", verify=torchrun_rank() == 0)


def synthetic_or_text(path: str, tokenizer: Tokenizer) -> tuple[Corpus, Manifest | None]:
    """Load the corpus that `sbp synthesize` wrote to `path`, with its manifest, or tokenise any text there.

    Raises:
        CorpusError: see `synthetic_corpus`; text that cannot be read or holds no document.
    """
    if is_stage(path):
        return synthetic_corpus(path, tokenizer), read_manifest(Path(path))
    return _built(path, tokenizer), None


def preset(name: str) -> LMConfig:
    """Return the model's shape called `name`.

    Raises:
        ConfigError: there is none.
    """
    require_one_of("--preset", name, PRESETS)
    return PRESETS[name]


def tokenizer_path(model: Path) -> Path | None:
    """Return where the tokenizer of the weights in `model` lies: beside them or one folder up, or None."""
    places = (model / TOKENIZER, model.parent / TOKENIZER)
    return next((place for place in places if place.exists()), None)


def alone(model: Path, corpus: Corpus) -> np.ndarray | None:
    """Return how often a synthesizer leaves each document alone: see `synthesizer.load_alone`."""
    shares = (load_alone(place, corpus) for place in (model, model.parent))
    return next((share for share in shares if share is not None), None)
