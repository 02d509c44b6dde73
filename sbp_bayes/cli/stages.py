"""The commands that run one stage of a model on files and folders."""

import argparse
import dataclasses
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.runtime import torchrun_rank
from sbp_bayes.base.stage import read_manifest
from sbp_bayes.cli import inputs
from sbp_bayes.cli.settings import configure
from sbp_bayes.cli.tables import summary
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import gauge, gauge_line
from sbp_bayes.lm import load_model
from sbp_bayes.pairing import Engine, LocalEngine, PairConfig, PairSet, RayEngine, build_pairs
from sbp_bayes.pretraining import PretrainConfig, pretrain
from sbp_bayes.synthesizer import TuneConfig, tune
from sbp_bayes.training import OptimiserConfig
from sbp_bayes.training.loop import METRICS
from sbp_bayes.training.trackers import tracked

CACHE = "SBP_CACHE"
"""The environment variable that names a folder for embeddings."""

REPETITIONS = 20
"""Of the real text in the paper's baseline."""

SYNTHETIC_SHARE = 0.375
"""Of the paper's run of 200B tokens: 75B."""


def run_pair(arguments: argparse.Namespace) -> str:
    """Pair the documents of a corpus, and its validation documents among themselves."""
    flags = {
        "embedder.kind": arguments.embedder,
        "rules.alpha": arguments.alpha,
        "k": arguments.k,
        "num_shards": arguments.shards,
        "seed": arguments.seed,
    }
    config = configure(PairConfig, flags, arguments.assignments)
    engine = _engine(arguments)
    prepared = inputs.prepared_or_text(arguments)
    model = None
    if arguments.model is not None:
        folder = inputs.model_folder(arguments.model)
        inputs.refuse_other_tokenizer(folder, prepared.tokenizer)
        model = load_model(folder)
    corpus, validation = prepared.unique(arguments.unique_tokens), _validation(prepared)
    cache = arguments.cache or os.environ.get(CACHE) or None
    manifest = build_pairs(
        config,
        corpus,
        inputs.place(arguments),
        validation=validation,
        model=model,
        engine=engine,
        cache=None if cache is None else Path(cache),
    )
    inputs.remember_origin(manifest, prepared, arguments.unique_tokens)
    return summary(manifest)


def _engine(arguments: argparse.Namespace) -> Engine:
    if arguments.engine == "ray":
        return RayEngine(arguments.address)
    if arguments.address is not None:
        raise ConfigError(f"--address {arguments.address} needs --engine ray")
    return LocalEngine()


def run_tune(arguments: argparse.Namespace) -> str:
    """Tune a model on pairs, and gauge what it has learnt of d2 from d1 into OUT/gauge."""
    prepared, model = inputs.prepared_corpus(arguments.corpus), inputs.model_folder(arguments.model)
    inputs.refuse_other_tokenizer(model, prepared.tokenizer)
    flags = {
        "max_document_tokens": arguments.max_document_tokens,
        "num_epochs": arguments.epochs,
        "seed": arguments.seed,
    }
    limit = load_model(model).config.context_length
    config = configure(TuneConfig, flags, arguments.assignments, max_document_tokens=limit)
    pairs = read_manifest(Path(arguments.pairs)).directory
    taught = (
        prepared.unique(arguments.unique_tokens),
        PairSet.load(pairs / "train"),
        _validation(prepared),
        PairSet.load(pairs / "validation"),
    )
    with _tracked(arguments):
        tuned = tune(
            config,
            model,
            *taught,
            inputs.place(arguments),
            tokenizer=prepared.tokenizer,
            **_checkpoints(arguments),
        )
    found = gauge(config, tuned.directory / "best", model, *taught, inputs.place(arguments, "gauge"))
    return f"{summary(tuned)}\n{gauge_line(found.counts)}"


def run_pretrain(arguments: argparse.Namespace) -> str:
    """Pretrain a model from scratch on real text, and on synthetic text where some is given."""
    shape = inputs.preset(arguments.preset)
    prepared = inputs.prepared_or_text(arguments)
    tokenizer, real = prepared.tokenizer, prepared.unique(arguments.unique_tokens)
    synthetic = None
    if arguments.synthetic is not None:
        synthetic = inputs.synthetic_corpus(arguments.synthetic, tokenizer)
    names = ("budget_tokens", "rows_per_batch", "synthetic_share", "repeat_synthetic", "seed")
    config = configure(
        PretrainConfig,
        {name: getattr(arguments, name) for name in names},
        arguments.assignments,
        model=dataclasses.replace(shape, vocab_size=tokenizer.vocab_size),
        optimiser=OptimiserConfig(),
        budget_tokens=REPETITIONS * real.num_tokens,
        synthetic_share=SYNTHETIC_SHARE if synthetic is not None else 0.0,
    )
    validation, checkpoints = prepared.split("validation"), _checkpoints(arguments)
    with _tracked(arguments):
        manifest = pretrain(
            config, real, synthetic, validation, inputs.place(arguments), tokenizer=tokenizer, **checkpoints
        )
    return summary(manifest)


def _validation(prepared: inputs.PreparedCorpus) -> Corpus:
    """Return the validation documents, which need not be any: tuning then holds out training pairs."""
    return prepared.split("validation", may_be_empty=True)


def _tracked(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """Feed the tracker that was asked for, in one of torchrun's processes."""
    name = arguments.tracker if torchrun_rank() == 0 else None
    return tracked(name, Path(arguments.out) / METRICS)


def _checkpoints(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was said of checkpoints; no part of a configuration, since no result depends on it."""
    given = {name: getattr(arguments, name) for name in ("checkpoint_seconds", "kept_checkpoints")}
    return {name: value for name, value in given.items() if value is not None}
