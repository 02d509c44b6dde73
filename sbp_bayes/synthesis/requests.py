"""Requests: what another engine needs in order to sample for us, in shards of JSON lines.

Sample j's prompt and the seed of its random numbers are those of our own sampler. A line of a shard is a
`Request`; the engine answers with a line that repeats `sample`, `model` and `seed`, and adds `token_ids`
(what was drawn, with or without the EOS that ends it) and `finish_reason` ("stop" after EOS, "length" at
the limit). See `samples.import_samples`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbp_bayes.base.config import decode, encode, require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.stage import (
    PLAN,
    Manifest,
    Outcome,
    Place,
    StageFolder,
    plan_stage,
    read_manifest,
    run_stage,
)
from sbp_bayes.corpus import TOKENIZER, Tokenizer
from sbp_bayes.corpus.json_lines import ENDING, read_json_lines_of, write_json_lines
from sbp_bayes.lm import LMConfig, Sampling, load_model, model_fingerprint
from sbp_bayes.synthesis.collect import shard_name
from sbp_bayes.synthesis.sources import NoDocuments, Prompt, Source

REQUESTS = "requests"
"""Name of the stage, and of the folder of shards in it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequestConfig:
    """Which samples are asked for.

    Attributes:
        num_samples: samples 0, 1, …; more of them begin with the same ones.
        max_document_tokens: d1 and d2 are cut to so many tokens, as in tuning.
        temperature: 1 samples the synthesizer itself, as the paper does.
        top_p: 1 keeps the whole vocabulary, as the paper does.
        shard_size: requests in a file.
        seed: of the seed documents and of the samples.
    """

    num_samples: int
    max_document_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    shard_size: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("num_samples", "max_document_tokens", "shard_size"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        Sampling(self.temperature, self.top_p)  # refuses what cannot be sampled from


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One sample that is asked for: the keys of a line.

    Attributes:
        sample: its number.
        model: fingerprint of the model's folder that has to draw it.
        seed: of its random numbers alone: samples that shared one would meet the same noise.
        prompt_token_ids: what precedes the sample. Ids, not text: text cannot hold EOS or SEP.
        max_tokens: most draws, the closing EOS included.
        temperature, top_p: how a token is drawn.
        stop_token_ids: a token that ends the sample: EOS.
        banned_token_ids: tokens that are never drawn: SEP.
        metadata: of the document that is sampled: its seed document's id and index, where there is one.
    """

    sample: int
    model: str
    seed: int
    prompt_token_ids: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    stop_token_ids: list[int]
    banned_token_ids: list[int]
    metadata: dict[str, Any]

    @property
    def prompt(self) -> Prompt:
        """The prompt as a source of our own sampler gives it; its d1 is cut to the document's limit."""
        tokens = np.array(self.prompt_token_ids, np.int64)
        return Prompt(tokens, self.seed, tokens[1:-1], self.metadata)


def write_requests(
    config: RequestConfig, model_dir: Path, source: Source, directory: Place, *, tokenizer: Tokenizer
) -> Manifest:
    """Write the requests for `config.num_samples` samples as a stage, with the tokenizer that reads them.

    Args:
        config: which samples.
        model_dir: the weights that the engine will be given, for instance an exported folder.
        source: of the prompts, as in `synthesize`.
        directory: receives `requests/` and tokenizer.json; needed again when the samples are imported.
        tokenizer: of the model.

    Raises:
        ConfigError: tokens or a tokenizer that the model's vocabulary does not hold, or documents that are
            too long for its context.
        CheckpointError: the model is missing or damaged.
        StoreError: `directory` holds another plan's output, or the disk is full.
    """
    model = load_model(Path(model_dir)).config
    fits = tokenizer.vocab_size <= model.vocab_size
    require(fits, "tokenizer.vocab_size", tokenizer.vocab_size, f"at most the model's {model.vocab_size}")
    # A row is EOS, d1, SEP and d2, or EOS and a document.
    context, limit = model.context_length, config.max_document_tokens
    most = context - 1 if isinstance(source, NoDocuments) else (context - 2) // 2
    require(
        limit <= most, "max_document_tokens", limit, f"at most {most}, by the model's context of {context}"
    )
    source.require_known(model)
    name = model_fingerprint(Path(model_dir))
    inputs = {"model": name, **source.inputs, "tokenizer": tokenizer.fingerprint}
    plan = plan_stage(REQUESTS, {"requests": config, "model": model}, inputs, __name__)

    def write(folder: StageFolder) -> Outcome:
        tokenizer.save(folder.path / TOKENIZER)
        prompt_tokens = num_shards = 0
        with progress("writing requests", config.num_samples, "requests") as advance:
            for first in range(0, config.num_samples, config.shard_size):
                samples = range(first, min(first + config.shard_size, config.num_samples))
                prompts = source.prompts(config.seed, samples, limit)
                path = folder.path / REQUESTS / f"{shard_name(first)}{ENDING}"
                if not path.exists():
                    requests = map(_request, samples, prompts, [name] * len(samples), [config] * len(samples))
                    write_json_lines(path, map(encode, requests))
                prompt_tokens += sum(len(prompt.tokens) for prompt in prompts)
                num_shards += 1
                advance(len(samples))
        counts = {"samples": config.num_samples, "shards": num_shards, "prompt_tokens": prompt_tokens}
        return Outcome(counts=counts)

    return run_stage(plan, directory, write)


def _request(sample: int, prompt: Prompt, model: str, config: RequestConfig) -> Request:
    return Request(
        sample=sample,
        model=model,
        seed=prompt.stream_seed,
        prompt_token_ids=prompt.tokens.tolist(),
        max_tokens=config.max_document_tokens + 1,
        temperature=config.temperature,
        top_p=config.top_p,
        stop_token_ids=[EOS],
        banned_token_ids=[SEP],
        metadata=dict(prompt.metadata),
    )


@dataclasses.dataclass(frozen=True)
class RequestFolder:
    """A finished folder of requests."""

    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "RequestFolder":
        """Open the folder that `write_requests` wrote.

        Raises:
            CorpusError: another stage's folder, or none.
            StoreError: it is unfinished or damaged.
        """
        if not (path / PLAN).exists():
            state = "holds no requests" if path.exists() else "no such folder"
            raise CorpusError(f"{path}: {state} (`sbp synthesize prompts` writes some)")
        manifest = read_manifest(path)
        if manifest.stage != REQUESTS:
            raise CorpusError(f"{path} is the output of {manifest.stage!r}, not of `sbp synthesize prompts`")
        return cls(manifest)

    @property
    def config(self) -> RequestConfig:
        """Which samples are asked for."""
        return decode(RequestConfig, self.manifest.config["requests"])

    @property
    def model(self) -> LMConfig:
        """Shape of the model that has to draw them."""
        return decode(LMConfig, self.manifest.config["model"])

    @property
    def inputs(self) -> Mapping[str, str]:
        """Fingerprints of the model, the corpus and the tokenizer."""
        return self.manifest.inputs

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return Tokenizer.load(self.manifest.directory / TOKENIZER)

    def shards(self) -> Iterator[tuple[int, Path]]:
        """Yield each shard's first sample and file, in order."""
        for first in range(0, self.config.num_samples, self.config.shard_size):
            yield first, self.manifest.directory / REQUESTS / f"{shard_name(first)}{ENDING}"


def read_requests(path: Path) -> list[Request]:
    """Read one shard.

    Raises:
        CorpusError: the file is missing or damaged.
    """
    try:
        return [Request(**record) for _, record in read_json_lines_of(path)]
    except TypeError as error:
        raise CorpusError(f"{path}: not a shard of requests ({error})") from error
