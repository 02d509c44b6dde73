"""Synthetic Bootstrapped Pretraining (arXiv 2509.15248), Algorithm 1, as executable documentation.

Given unique documents D and a budget of tokens:

1. pretrain the baseline on D, repeated to the budget;
2. pair the documents of D by nearest neighbours of their embeddings;
3. tune a synthesizer p(d2|d1) on the pairs, from the baseline's best checkpoint on validation: it
   learns the posterior predictive ∫ P(d2|c) P(c|d1) dc;
4. sample d2 ~ p(·|d1) at temperature 1, with d1 uniform over D;
5. pretrain from scratch on D and the samples at the same budget.
"""

import dataclasses

from sbp_bayes.base.config import require
from sbp_bayes.base.stage import Manifest, Workspace
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation import arm_flops
from sbp_bayes.lm import load_model
from sbp_bayes.pairing import PairConfig, PairSet, build_pairs
from sbp_bayes.pretraining import PretrainConfig, pretrain
from sbp_bayes.synthesis import SeedDocuments, SynthesisConfig, synthesize
from sbp_bayes.synthesizer import TuneConfig, load_alone, tune


@dataclasses.dataclass(frozen=True, kw_only=True)
class SbpConfig:
    """Settings of Algorithm 1.

    Attributes:
        pretrain: of the baseline; joint pretraining differs from it in `synthetic_share` alone.
        pairs: how documents are paired.
        tune: how the synthesizer is tuned.
        synthesis: how documents are sampled; at least the joint run's synthetic tokens.
        synthetic_share: synthetic part of the joint budget (75B of 200B tokens in the paper: 0.375).
    """

    pretrain: PretrainConfig
    pairs: PairConfig
    tune: TuneConfig
    synthesis: SynthesisConfig
    synthetic_share: float = 0.375

    def __post_init__(self) -> None:
        require(0 < self.synthetic_share < 1, "synthetic_share", self.synthetic_share, "between 0 and 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SbpStages:
    """The finished stages of one run of Algorithm 1."""

    baseline: Manifest
    pairs: Manifest
    tune: Manifest
    synthesis: Manifest
    joint: Manifest

    @property
    def before_joint(self) -> tuple[Manifest, ...]:
        """The stages without which there is no joint pretraining."""
        return self.baseline, self.pairs, self.tune, self.synthesis

    @property
    def total_flops(self) -> float:
        """Floating-point operations of all stages, as the ledger counts them."""
        return arm_flops(self.joint, self.before_joint)


def bootstrap(
    config: SbpConfig,
    unique: Corpus,
    validation: Corpus,
    tokenizer: Tokenizer,
    work: Workspace,
    *,
    num_workers: int | None = None,
) -> SbpStages:
    """Run Algorithm 1 on the documents `unique`; finished stages in `work` are taken as they are.

    Args:
        config: the settings.
        unique: the real documents D, de-duplicated.
        validation: held-out documents; they choose checkpoints and stop the tuning, and are never trained on.
        tokenizer: the one that made the corpora's tokens.
        work: receives one folder a stage.
        num_workers: processes that sample; by default the usable cores. Changes speed alone.
    """
    baseline = pretrain(
        config.pretrain, unique, None, validation, work, tokenizer=tokenizer, label="baseline"
    )
    best = baseline.directory / "best"
    pairs = build_pairs(config.pairs, unique, work, model=load_model(best), validation=validation)
    tuned = tune(
        config.tune,
        best,
        unique,
        PairSet.load(pairs.directory / "train"),
        validation,
        PairSet.load(pairs.directory / "validation"),
        work,
        tokenizer=tokenizer,
    )
    samples = synthesize(
        config.synthesis,
        tuned.directory / "best",
        SeedDocuments(unique, load_alone(tuned.directory, unique)),
        work,
        tokenizer=tokenizer,
        num_workers=num_workers,
    )
    joint = dataclasses.replace(config.pretrain, synthetic_share=config.synthetic_share)
    synthetic = Corpus.load(samples.directory / "corpus")
    joined = pretrain(joint, unique, synthetic, validation, work, tokenizer=tokenizer, label="jointly")
    return SbpStages(baseline=baseline, pairs=pairs, tune=tuned, synthesis=samples, joint=joined)
