"""Text as a bench of the comparison: documents of a prepared corpus, pairs by embeddings."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.text_sbp.config import TextSbpConfig
from experiments.text_sbp.quality import quality_stage
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.comparison import ArmSettings, Made, TuningPairs
from sbp_bayes.corpus import Corpus, Tokenizer, choose_unique, load_split
from sbp_bayes.lm import load_model
from sbp_bayes.pairing import EmbedderConfig, PairSet, build_pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """The prepared corpus."""

    manifest: Manifest
    tokenizer: Tokenizer
    pool: Corpus
    validation: Corpus
    test: Corpus


def load_data(manifest: Manifest, *, verify: bool = False) -> Data:
    """Open a prepared corpus, each of whose splits must hold documents; token arrays stay memory-mapped.

    `verify` is that of `Corpus.load`.
    """
    folder = manifest.directory
    splits = {name: load_split(folder, name, verify=verify) for name in ("pool", "validation", "test")}
    return Data(manifest=manifest, tokenizer=Tokenizer.load(folder / "tokenizer.json"), **splits)


class TextBench:
    """One seed's documents of a prepared corpus; see `comparison.Bench`."""

    def __init__(self, config: TextSbpConfig, data: Data, seed: int) -> None:
        self.config, self.data, self.seed = config, data, seed
        self.settings: ArmSettings = config.settings(seed)
        self.tokenizer, self.validation, self.test = data.tokenizer, data.validation, data.test

    @functools.cached_property
    def unique(self) -> Corpus:
        """D_unique, drawn from the pool."""
        return choose_unique(self.data.pool, self.config.unique_tokens, self.seed)

    @functools.cached_property
    def oracle(self) -> Corpus:
        """More documents of the pool, D_unique among them."""
        return choose_unique(self.data.pool, self.config.oracle_tokens, self.seed)

    def pairs(self, embedder: str | None, baseline: Callable[[], Manifest], work: Workspace) -> TuningPairs:
        """Pair the documents by nearest neighbours of their embeddings."""
        config = dataclasses.replace(self.config.pairs, seed=self.seed)
        if embedder is not None:
            config = dataclasses.replace(config, embedder=EmbedderConfig(kind=embedder))
        model = load_model(baseline().directory / "best") if config.embedder.kind == "self" else None
        stage = build_pairs(config, self.unique, work, model=model, validation=self.validation)
        return TuningPairs(
            train=PairSet.load(stage.directory / "train"),
            validation=PairSet.load(stage.directory / "validation"),
            validation_corpus=self.validation,
            stages=(stage,),
        )

    def exact_samples(self, num_tokens: int, work: Workspace) -> Manifest:
        """Refuse: nobody knows P(d2|d1) of text."""
        raise ConfigError("arms: 'exact_posterior' needs P(d2|d1), which is known in toy worlds alone")

    def measure(self, made: Made, work: Workspace) -> Manifest:
        """Measure the synthetic text beside the real documents and pairs."""
        return quality_stage(self.config, self.seed, self.unique, made, work, tokenizer=self.tokenizer)

    def examine(self, models: Sequence[Path], work: Workspace) -> None:
        """Ask nothing: the facts of text are not known."""


def open_bench(config: TextSbpConfig, corpus: Manifest, seed: int) -> TextBench:
    """Return the bench of one seed on the prepared corpus."""
    return TextBench(config, load_data(corpus), seed)
