"""Settings of the experiment, and the worlds it runs in."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sbp_bayes.arms import ARMS
from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.lm import LMConfig
from sbp_bayes.pretraining import PretrainConfig
from sbp_bayes.synthesizer import TuneConfig
from sbp_bayes.synthesizer.vocabulary import NUM_SPECIAL
from sbp_bayes.training import OptimiserConfig

IN_WORLDS = tuple(name for name, arm in ARMS.items() if arm.embedder is None)
"""The arms that worlds can have: all but those of an embedder, since pairs are of one concept here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """What determines the comparison of arms in one world.

    Attributes:
        world: name in `toy_worlds.WORLDS`.
        parameters: of the world; its own seed is the run's.
        documents_per_concept: documents of each concept in D_unique.
        drawn_concepts: concepts in D_unique where P(c) is continuous; else it has all that there are.
        budget_tokens: positions that every arm is trained on, repetitions included.
        oracle_multiple: documents of the oracle over D_unique's.
        synthetic_share: synthetic part of the budget of the arms that have synthetic text.
        pairs_per_document: d2 for each d1 in tuning, other documents of the same concept.
        num_test, num_validation: documents drawn for test and for validation; validation pairs are as many.
        width, num_layers, num_heads: of the transformer.
        context_length: of a row, into which documents are packed.
        peak_lr, weight_decay: of every arm, those that tune the decay try it too.
        weight_decays, dropouts: tried by the arms that tune them, the best on validation is reported.
        word_dropouts: tried for every synthesizer besides none.
        tune_every_arm: whether every arm tries the weight decays and the dropouts.
        tuned_start: whether synthesis starts from the repetition that is best on validation.
        tune_lr, tune_epochs, tune_dropout: of the synthesizer.
        rows_per_batch, num_validations: of every training.
        arms: those to run; baseline and oracle are needed for the share of the oracle's gain.
        seeds: each draws world, documents, weights and samples anew.
    """

    world: str
    parameters: Mapping[str, Any]
    documents_per_concept: int
    drawn_concepts: int = 200
    budget_tokens: int = 400_000
    oracle_multiple: float = 20.0
    synthetic_share: float = 0.5
    pairs_per_document: int = 16
    num_test: int = 2000
    num_validation: int = 500
    width: int = 64
    num_layers: int = 2
    num_heads: int = 2
    context_length: int = 128
    peak_lr: float = 1e-2
    weight_decay: float = 0.1
    weight_decays: tuple[float, ...] = (1.0, 4.0)
    dropouts: tuple[float, ...] = (0.1, 0.2)
    word_dropouts: tuple[float, ...] = ()
    tune_every_arm: bool = False
    tuned_start: bool = False
    tune_lr: float = 5e-3
    tune_epochs: float = 2.0
    tune_dropout: float = 0.0
    rows_per_batch: int = 8
    num_validations: int = 10
    arms: tuple[str, ...] = IN_WORLDS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for arm in self.arms:
            require_one_of("arms", arm, IN_WORLDS)
        for key in ("drawn_concepts", "pairs_per_document", "num_test", "num_validation"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        require(
            self.documents_per_concept >= 2, "documents_per_concept", self.documents_per_concept, "2 or more"
        )
        require(0 < self.synthetic_share < 1, "synthetic_share", self.synthetic_share, "between 0 and 1")
        require(self.oracle_multiple > 1, "oracle_multiple", self.oracle_multiple, "more than 1")
        require(
            len(set(self.seeds)) == len(self.seeds) > 0, "seeds", self.seeds, "one or more, all different"
        )
        if "seed" in self.parameters:
            raise ConfigError("parameters.seed is the run's seed: change `seeds`")

    def model(self, vocab_size: int) -> LMConfig:
        """Shape of every arm's transformer for a world of `vocab_size` tokens."""
        return LMConfig(
            vocab_size=vocab_size + NUM_SPECIAL,
            context_length=self.context_length,
            width=self.width,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=1,
            head_width=self.width // self.num_heads,
            hidden_width=3 * self.width,
        )

    def pretrain(self, model: LMConfig, seed: int) -> PretrainConfig:
        """Settings of the baseline's pretraining."""
        return PretrainConfig(
            model=model,
            optimiser=OptimiserConfig(peak_lr=self.peak_lr, weight_decay=self.weight_decay),
            budget_tokens=self.budget_tokens,
            rows_per_batch=self.rows_per_batch,
            num_validations=self.num_validations,
            seed=seed,
        )

    def tune(self, doc_length: int, seed: int) -> TuneConfig:
        """Settings of the synthesizer's tuning."""
        return TuneConfig(
            max_document_tokens=doc_length,
            num_epochs=self.tune_epochs,
            rows_per_batch=max(1, self.rows_per_batch * self.context_length // (2 * doc_length + 2)),
            optimiser=OptimiserConfig(peak_lr=self.tune_lr),
            num_validations=self.num_validations,
            dropout=self.tune_dropout,
            max_validation_pairs=self.num_validation,
            seed=seed,
        )
