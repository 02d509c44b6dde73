"""The synthetic corpus: samples d2 ~ p_θ(· | d1) of seed documents d1, or of none, in resumable shards.

Step 3 of the paper's Algorithm 1. Sample j is a function of (seed, j), and the corpus is the first
samples that pass the screen, up to the wanted number of tokens: shard size, slots and interruptions
change how fast it is written and nothing else.
"""

import dataclasses
import functools
import itertools
import math
from collections import deque
from collections.abc import Generator
from concurrent.futures import Executor, Future
from contextlib import closing
from pathlib import Path

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.stage import Manifest, Outcome, Place, StageFolder, plan_stage, run_stage
from sbp_bayes.base.workers import usable_cores, worker_pool
from sbp_bayes.corpus import Tokenizer
from sbp_bayes.lm import (
    Generated,
    LMConfig,
    Sampling,
    generate,
    load_model,
    model_fingerprint,
    with_context_length,
)
from sbp_bayes.synthesis.collect import SHARDS, collect, shard_name
from sbp_bayes.synthesis.screen import Screen, ScreenConfig
from sbp_bayes.synthesis.shards import Shard
from sbp_bayes.synthesis.sources import Prompt, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """What to sample.

    Attributes:
        num_tokens: tokens wanted after screening, one EOS a document included.
        max_document_tokens: d1 and d2 are cut to so many tokens, as in tuning.
        temperature: 1 samples the synthesizer itself, as the paper does.
        top_p: 1 keeps the whole vocabulary, as the paper does.
        slots: samples in flight; changes speed alone.
        shard_size: samples in a file: what a kill can cost. Smaller shards spend more of their time on
            their last, longest samples. Changes no sample.
        seed: of the seed documents and of the samples.
        screen: which samples pass.
    """

    num_tokens: int
    max_document_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    slots: int = 128
    shard_size: int = 1024
    seed: int = 0
    screen: ScreenConfig = dataclasses.field(default_factory=ScreenConfig)

    def __post_init__(self) -> None:
        for key in ("num_tokens", "max_document_tokens", "slots", "shard_size"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        Sampling(self.temperature, self.top_p)  # refuses what cannot be sampled from


def synthesize(
    config: SynthesisConfig,
    model_dir: Path,
    source: Source,
    directory: Place,
    *,
    tokenizer: Tokenizer,
    num_workers: int | None = None,
) -> Manifest:
    """Write a synthetic corpus of `config.num_tokens` tokens as a stage; it goes to `directory/corpus`.

    Args:
        config: what to sample.
        model_dir: the weights that are sampled from: a synthesizer's, or any model's without documents d1.
        source: of the prompts: `SeedDocuments(corpus)`, or `NoDocuments()`.
        directory: holds `shards/` (every sample, unscreened) and `corpus/` (ids "synthetic:j" and
            metadata: the seed document's id and index, where there is one, and the sample's number).
        tokenizer: turns samples into text.
        num_workers: processes that sample shards; by default the usable cores. Changes speed alone.

    Returns:
        a manifest that counts samples taken, kept and dropped by reason, and the tokens sampled; its
        FLOPs are 2·N·(|d1| + |d2|) over all samples drawn.

    Raises:
        CorpusError: hardly any sample passes the screen.
        ConfigError: tokens or a tokenizer that the model's vocabulary does not hold.
        CheckpointError: the model is missing or damaged.
        StoreError: `directory` holds another plan's output or a damaged shard, or the disk is full.
    """
    require(num_workers is None or num_workers >= 1, "num_workers", num_workers, "at least 1")
    model_dir = Path(model_dir)
    model = load_model(model_dir).config
    fits = tokenizer.vocab_size <= model.vocab_size
    require(fits, "tokenizer.vocab_size", tokenizer.vocab_size, f"at most the model's {model.vocab_size}")
    source.require_known(model)
    inputs = {
        "model": model_fingerprint(model_dir),
        **source.inputs,
        "tokenizer": tokenizer.fingerprint,
    }
    plan = plan_stage("synthesize", config, inputs, __name__, device="cpu")
    work = _Synthesis(config, model_dir, model, source, tokenizer, num_workers or usable_cores())
    return run_stage(plan, directory, work)


@dataclasses.dataclass(frozen=True)
class _Synthesis:
    """The stage's work: generate the shards that are missing, and screen all of them in order."""

    config: SynthesisConfig
    model_dir: Path
    model: LMConfig
    source: Source
    tokenizer: Tokenizer
    num_workers: int

    def __call__(self, folder: StageFolder) -> Outcome:
        screen = Screen(self.config.screen, self.config.num_tokens)
        with closing(self._shards(folder, screen)) as shards:
            return collect(shards, screen, folder, tokenizer=self.tokenizer, model=self.model)

    def _shards(
        self, folder: StageFolder, screen: Screen
    ) -> Generator[tuple[Shard, list[Prompt]], None, None]:
        """Yield shards until `screen` is full, each with its samples' prompts."""
        ahead: deque[tuple[Path, list[Prompt], Future[None] | None]] = deque()
        starts = itertools.count(step=self.config.shard_size)
        with worker_pool(self._shards_in_work(screen)) as pool:
            while not screen.is_full:
                while len(ahead) < self._shards_in_work(screen):
                    ahead.append(self._begin(next(starts), folder, pool))
                path, prompts, sampled = ahead.popleft()
                if sampled is not None:
                    sampled.result()
                yield Shard.load(path), prompts

    def _shards_in_work(self, screen: Screen) -> int:
        """Return how many shards are sampled at once: no more than will be needed, as far as one knows."""
        config, samples, tokens = self.config, screen.counts["samples"], screen.kept_tokens
        tokens_per_sample = tokens / samples if tokens else config.max_document_tokens + 1
        needed = math.ceil((config.num_tokens - tokens) / (tokens_per_sample * config.shard_size))
        return max(1, min(self.num_workers, needed))

    def _begin(
        self, first: int, folder: StageFolder, pool: Executor
    ) -> tuple[Path, list[Prompt], Future[None] | None]:
        """Have the shard that begins with sample `first` written, unless it is there."""
        config, samples = self.config, range(first, first + self.config.shard_size)
        prompts = self.source.prompts(config.seed, samples, config.max_document_tokens)
        path = folder.path / SHARDS / f"{shard_name(first)}.npz"
        sampled = None
        if not path.exists():
            tokens, streams = [p.tokens for p in prompts], [p.stream_seed for p in prompts]
            sampled = pool.submit(
                functools.partial(write_shard, path, first, tokens, streams, self.model_dir, config)
            )
        return path, prompts, sampled


def write_shard(  # noqa: PLR0917 - pickled with its arguments
    path: Path,
    first: int,
    prompts: list[np.ndarray],
    stream_seeds: list[int],
    model_dir: Path,
    config: SynthesisConfig,
) -> None:
    """Sample one document a prompt and write them to `path`; runs in a worker process."""
    limit = config.max_document_tokens
    generated = generate(
        with_context_length(load_model(model_dir), 2 * limit + 2),
        prompts,
        max_new_tokens=limit + 1,  # a document of `limit` tokens ends with one more draw, of EOS
        stream_seeds=stream_seeds,
        temperature=config.temperature,
        top_p=config.top_p,
        slots=config.slots,
    )
    Shard.of(first, [Generated(g.tokens[:limit], g.finished) for g in generated]).save(path)
