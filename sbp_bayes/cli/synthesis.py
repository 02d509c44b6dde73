"""The commands that sample a synthetic corpus, here or by another engine."""

import argparse
from pathlib import Path
from typing import TypeVar

from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.stage import Manifest
from sbp_bayes.cli import inputs
from sbp_bayes.cli.settings import configure
from sbp_bayes.cli.tables import summary
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation import DriftConfig, drift_line, drift_stage
from sbp_bayes.lm import load_model
from sbp_bayes.synthesis import (
    ImportConfig,
    NoDocuments,
    RequestConfig,
    RequestFolder,
    SeedDocuments,
    Source,
    SynthesisConfig,
    import_samples,
    synthesize,
    write_requests,
)
from sbp_bayes.synthesis.vllm import VllmConfig, sample_requests

T = TypeVar("T", SynthesisConfig, RequestConfig)


def run_synthesize(arguments: argparse.Namespace) -> str:
    """Sample documents, with seed documents from a prepared corpus, from any text as it is, or from none.

    How far the samples are from the documents as a whole goes into OUT/drift.
    """
    model = inputs.model_folder(arguments.model)
    corpus, tokenizer, source = _source(arguments, model)
    config = _configure(SynthesisConfig, arguments, model, num_tokens=arguments.tokens)
    samples = synthesize(
        config, model, source, inputs.place(arguments), tokenizer=tokenizer, num_workers=arguments.workers
    )
    return f"{summary(samples)}\n{_drift(arguments, corpus, samples)}"


def run_prompts(arguments: argparse.Namespace) -> Manifest:
    """Write the requests for samples that another engine is to draw."""
    model = inputs.model_folder(arguments.model)
    _, tokenizer, source = _source(arguments, model)
    config = _configure(RequestConfig, arguments, model, num_samples=arguments.samples)
    manifest = write_requests(config, model, source, inputs.place(arguments), tokenizer=tokenizer)
    if inputs.is_stage(arguments.corpus):
        inputs.remember_origin(manifest, inputs.prepared_corpus(arguments.corpus), arguments.unique_tokens)
    return manifest


def run_vllm(arguments: argparse.Namespace) -> Manifest:
    """Draw the samples that requests ask for by vLLM."""
    part = {}
    if arguments.part is not None:
        numbers = arguments.part.split("/")
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise ConfigError(f"--part {arguments.part}: expected I/N, for instance 1/8")
        part = dict(zip(("part", "num_parts"), map(int, numbers), strict=True))
    config = configure(VllmConfig, part, arguments.assignments)
    return sample_requests(config, Path(arguments.requests), Path(arguments.model), inputs.place(arguments))


def run_import(arguments: argparse.Namespace) -> str:
    """Screen samples that another engine drew; how far they drift goes into OUT/drift, as for our own."""
    config = configure(ImportConfig, {"num_tokens": arguments.tokens}, arguments.assignments)
    requests = Path(arguments.requests)
    corpus = _corpus_of(RequestFolder.open(requests), arguments)
    samples = import_samples(
        config,
        requests,
        list(map(Path, arguments.files)),
        inputs.place(arguments),
        num_workers=arguments.workers,
    )
    drift = "drift of the marginal: needs the corpus of the requests: give --corpus CORPUS"
    if corpus is not None:
        drift = _drift(arguments, corpus, samples)
    return f"{summary(samples)}\n{drift}"


def _source(arguments: argparse.Namespace, model: Path) -> tuple[Corpus, Tokenizer, Source]:
    """Return the real documents, the model's tokenizer, and what prompts are made of."""
    num_unique = arguments.unique_tokens
    if num_unique is not None and not inputs.is_stage(arguments.corpus):
        raise ConfigError(f"--unique-tokens {num_unique} needs a prepared corpus")
    corpus, tokenizer = inputs.corpus_or_text(arguments.corpus, model, lambda p: p.unique(num_unique))
    if arguments.unconditional:
        return corpus, tokenizer, NoDocuments()
    return corpus, tokenizer, SeedDocuments(corpus, inputs.alone(model, corpus))


def _configure(cls: type[T], arguments: argparse.Namespace, model: Path, **flags: int) -> T:
    names = ("max_document_tokens", "temperature", "seed")
    context = load_model(model).config.context_length
    # A row is EOS, d1, SEP and d2, or EOS and a document.
    limit = context - 1 if arguments.unconditional else (context - 2) // 2
    given = {**flags, **{name: getattr(arguments, name) for name in names}}
    return configure(cls, given, arguments.assignments, max_document_tokens=limit)


def _drift(arguments: argparse.Namespace, corpus: Corpus, samples: Manifest) -> str:
    config = DriftConfig(
        max_document_tokens=samples.config["max_document_tokens"], seed=samples.config["seed"]
    )
    return drift_line(drift_stage(config, corpus, samples, inputs.place(arguments, "drift")).counts)


def _corpus_of(requests: RequestFolder, arguments: argparse.Namespace) -> Corpus | None:
    """Return the documents that the requests were made of; None where nobody says where they are.

    Raises:
        CorpusError: other documents.
    """
    known = inputs.remembered(requests.manifest, arguments)
    if known is None:
        return None
    prepared, num_unique = known
    corpus = prepared.unique(num_unique)
    if requests.inputs["corpus"] not in (corpus.fingerprint, "none"):
        raise CorpusError(
            f"{prepared.manifest.directory}: not the documents of the requests "
            "(another corpus, or other --unique-tokens)"
        )
    return corpus
