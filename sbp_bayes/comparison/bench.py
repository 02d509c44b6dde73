"""What an arm needs of one seed: documents, pairs and settings. Text and toy worlds have a bench each."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.base.records import Pairs
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.pretraining import PretrainConfig
from sbp_bayes.synthesis import SynthesisConfig
from sbp_bayes.synthesizer import TuneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """Settings of one seed that all arms share.

    Attributes:
        pretrain: of the baseline; other arms differ from it in what their row says.
        synthetic_share: synthetic part of the budget of the arms that have synthetic text.
        tune: how synthesizers are tuned.
        synthesis: how synthetic text is sampled, without or with documents d1.
        weight_decays, dropouts: tried on validation beside the settings' own by the arms that tune them.
        word_dropouts: tried on validation pairs beside that of `tune`, for every synthesizer.
        tune_every_arm: whether all arms try the weight decays and the dropouts, with equally many tries.
        tuned_start: whether synthesis starts from the repetition that is best on validation, of the settings'
            own hyper-parameters, the weight decays and the dropouts; False: from the settings' own.
    """

    pretrain: PretrainConfig
    synthetic_share: float
    tune: TuneConfig
    synthesis: SynthesisConfig
    weight_decays: tuple[float, ...] = ()
    dropouts: tuple[float, ...] = ()
    word_dropouts: tuple[float, ...] = ()
    tune_every_arm: bool = False
    tuned_start: bool = False

    def __post_init__(self) -> None:
        require(0 < self.synthetic_share < 1, "synthetic_share", self.synthetic_share, "between 0 and 1")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TuningPairs(ArrayRecord):
    """Pairs (d1, d2) that a synthesizer is tuned on, and held-out ones.

    Attributes:
        train: pairs of D_unique, by d1 and then the best d2 first.
        validation: pairs of `validation_corpus`.
        validation_corpus: held-out documents.
        concepts: of the documents of D_unique, int64 (N,), where they are known: random pairs avoid them.
        stages: what was run for the pairs.
    """

    train: Pairs
    validation: Pairs
    validation_corpus: Corpus
    concepts: np.ndarray | None = None
    stages: tuple[Manifest, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """A synthesizer and what it wrote.

    Attributes:
        start: whose weights it was tuned from.
        pairs: what it was tuned on.
        tuned: the synthesizer.
        samples: its synthetic text.
    """

    start: Manifest
    pairs: TuningPairs
    tuned: Manifest
    samples: Manifest


class Bench(Protocol):
    """One seed's documents and settings."""

    @property
    def settings(self) -> ArmSettings:
        """Shared by all arms."""
        ...

    @property
    def unique(self) -> Corpus:
        """D_unique, the real documents of all arms but the oracle."""
        ...

    @property
    def oracle(self) -> Corpus:
        """The oracle's documents, D_unique among them."""
        ...

    @property
    def validation(self) -> Corpus:
        """Documents that choose checkpoints and hyper-parameters; never trained on."""
        ...

    @property
    def test(self) -> Corpus:
        """Documents that are scored once for each arm and checkpoint."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that made the documents' tokens."""
        ...

    def pairs(self, embedder: str | None, baseline: Callable[[], Manifest], work: Workspace) -> TuningPairs:
        """Return pairs of related documents.

        Args:
            embedder: whose vectors say what is related; None: the settings'.
            baseline: runs the baseline's pretraining, or finds it finished, for embedders that need a model.
            work: receives the stages.

        Raises:
            ConfigError: this bench has no such embedder.
        """
        ...

    def exact_samples(self, num_tokens: int, work: Workspace) -> Manifest:
        """Write samples d2 ~ P(d2 | d1) of at least so many tokens, with d1 uniform over D_unique.

        Raises:
            ConfigError: P(d2 | d1) is not known.
        """
        ...

    def measure(self, made: Made, work: Workspace) -> Manifest | None:
        """Measure a synthesizer and what it wrote, as a stage; None where there is nothing to measure."""
        ...

    def examine(self, models: Sequence[Path], work: Workspace) -> Manifest | None:
        """Ask an arm's models (an ensemble) what they know, as a stage; None where nothing is asked."""
        ...
