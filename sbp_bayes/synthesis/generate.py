"""The synthetic corpus: samples d2 ~ p_θ(· | d1) of seed documents d1, in resumable shards.

Step 3 of the paper's Algorithm 1. Sample j is a function of (seed, j), and the corpus is the first
samples that pass the screen, up to the wanted number of tokens: shard size, slots and interruptions
change how fast it is written and nothing else.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sbp_bayes.base.config import fingerprint, require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.progress import progress
from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.base.stage import Manifest, Outcome, StageFolder, Workspace, plan_stage, run_stage
from sbp_bayes.base.store import read_json
from sbp_bayes.corpus import Corpus, Document, Tokenizer
from sbp_bayes.lm import Generated, Transformer, generate, load_model, with_context_length
from sbp_bayes.lm.weights import CONFIG
from sbp_bayes.synthesis.screen import Screen, ScreenConfig
from sbp_bayes.synthesis.seeds import seed_document, stream_seed
from sbp_bayes.synthesis.shards import Shard

CORPUS, SHARDS = "corpus", "shards"


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
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")


def synthesize(
    config: SynthesisConfig,
    model_dir: Path,
    corpus: Corpus,
    directory: Path | Workspace,
    *,
    tokenizer: Tokenizer,
) -> Manifest:
    """Write a synthetic corpus of `config.num_tokens` tokens as a stage; it goes to `directory/corpus`.

    Args:
        config: what to sample.
        model_dir: the synthesizer's weights.
        corpus: the real documents, from which seed documents are drawn.
        directory: holds `shards/` (every sample, unscreened) and `corpus/` (ids "synthetic:j" and
            metadata: the seed document's id and index, and the sample's number).
        tokenizer: turns samples into text.

    Returns:
        a manifest that counts samples taken, kept and dropped by reason, and the tokens sampled; its
        FLOPs are 2·N·(|d1| + |d2|) over all samples drawn.

    Raises:
        CorpusError: `corpus` is empty, or hardly any sample passes the screen.
        CheckpointError: the model is missing or damaged.
        StoreError: `directory` holds another plan's output or a damaged shard, or the disk is full.
    """
    if len(corpus) == 0:
        raise CorpusError("the corpus has no documents to draw seed documents from")
    model = with_context_length(load_model(model_dir), 2 * config.max_document_tokens + 2)
    inputs = {
        "model": fingerprint(read_json(Path(model_dir) / CONFIG)),
        "corpus": corpus.fingerprint,
        "tokenizer": tokenizer.fingerprint,
    }
    plan = plan_stage("synthesize", config, inputs, ("synthesis", "lm", "corpus"))
    return run_stage(plan, directory, _Synthesis(config, model, corpus, tokenizer))


@dataclasses.dataclass(frozen=True)
class _Synthesis:
    """The stage's work: generate the shards that are missing, and screen all of them in order."""

    config: SynthesisConfig
    model: Transformer
    corpus: Corpus
    tokenizer: Tokenizer

    def __call__(self, folder: StageFolder) -> Outcome:
        wanted = self.config.num_tokens
        screen = Screen(self.config.screen, wanted)
        kept: list[tuple[Document, np.ndarray, bool]] = []
        prompt_tokens = sampled_tokens = 0
        with progress("synthesising", wanted, "tokens") as advance:
            for shard, seeds in self._shards(folder):
                before = screen.kept_tokens
                kept += [self._record(shard, i, seeds[i]) for i in screen.take(shard, self.corpus, seeds)]
                prompt_tokens += int(
                    (np.minimum(self.corpus.lengths[seeds], self.config.max_document_tokens) + 2).sum()
                )
                sampled_tokens += len(shard.tokens) + len(shard)
                advance(min(screen.kept_tokens, wanted) - before)
                folder.tick()
                if screen.is_full:
                    break
        documents, tokens, complete = zip(*kept, strict=True)
        vocab_size = self.model.config.vocab_size
        synthetic = Corpus.from_tokens(documents, tokens, vocab_size=vocab_size, complete=complete)
        synthetic.save(folder.path / CORPUS)
        counts = dict(screen.counts) | {
            "tokens": screen.kept_tokens,
            "seed_documents": len({document.metadata["seed_document"] for document in documents}),
            "prompt_tokens": prompt_tokens,
            "sampled_tokens": sampled_tokens,
        }
        flops = self.model.config.flops_per_token / 3 * (prompt_tokens + sampled_tokens)
        return Outcome(counts=counts, flops=flops)

    def _shards(self, folder: StageFolder) -> Iterator[tuple[Shard, np.ndarray]]:
        """Yield the shards without end, and each one's seed documents, int64 (samples,)."""
        for first in itertools.count(step=self.config.shard_size):
            samples = range(first, first + self.config.shard_size)
            seeds = [seed_document(self.config.seed, sample, len(self.corpus)) for sample in samples]
            path = folder.path / SHARDS / f"{first:010d}.npz"
            if not path.exists():
                self._generate(samples, seeds).save(path)
            yield Shard.load(path), np.array(seeds, np.int64)

    def _generate(self, samples: range, seeds: Sequence[int]) -> Shard:
        config, limit = self.config, self.config.max_document_tokens
        generated = generate(
            self.model,
            [self._prompt(seed) for seed in seeds],
            max_new_tokens=limit + 1,  # a document of `limit` tokens ends with one more draw, of EOS
            stream_seeds=[
                stream_seed(config.seed, self.corpus.ids[seed], sample)
                for sample, seed in zip(samples, seeds, strict=True)
            ],
            temperature=config.temperature,
            top_p=config.top_p,
            slots=config.slots,
        )
        return Shard.of(samples.start, [Generated(g.tokens[:limit], g.finished) for g in generated])

    def _prompt(self, seed: int) -> np.ndarray:
        return np.concatenate([[EOS], self.corpus.document(seed)[: self.config.max_document_tokens], [SEP]])

    def _record(self, shard: Shard, index: int, seed: int) -> tuple[Document, np.ndarray, bool]:
        sample, tokens = shard.first + index, shard.sample(index)
        metadata = {"seed_document": self.corpus.ids[seed], "seed_index": int(seed), "sample": sample}
        document = Document(
            id=f"synthetic:{sample}",
            text=self.tokenizer.decode(tokens),
            source="synthetic",
            metadata=metadata,
        )
        return document, tokens, bool(shard.finished[index])
