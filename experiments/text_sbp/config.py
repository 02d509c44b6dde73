"""Settings of the experiment, and the named ones."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sbp_bayes.arms import ARMS
from sbp_bayes.base.config import require, require_one_of
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.comparison import ArmSettings
from sbp_bayes.corpus import CorpusConfig
from sbp_bayes.lm import PRESETS, LMConfig
from sbp_bayes.pairing import EmbedderConfig, PairConfig, PairRules
from sbp_bayes.pretraining import PretrainConfig, synthetic_tokens_needed
from sbp_bayes.synthesis import ScreenConfig, SynthesisConfig
from sbp_bayes.synthesizer import TuneConfig
from sbp_bayes.training import OptimiserConfig

ON_TEXT = tuple(name for name, arm in ARMS.items() if arm.companion != "posterior")
"""The arms that text can have: all but those that need P(d2|d1)."""

THE_THREE = ("baseline", "tuned_baseline", "sbp", "oracle")
"""The arms of the paper: repetition, with every arm's decay and a tuned one, SBP, and the oracle."""

WITH_CONTROLS = ("baseline", "tuned_baseline", "self_distillation", "random_pairs", "sbp", "oracle")
"""The paper's arms and the two that say what of SBP's gain is smoothing, and what the pairs teach."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSbpConfig:
    """What determines a compute-matched comparison on text.

    Attributes:
        corpus: the documents and their tokenizer.
        model: one shape for all arms and for the synthesizer.
        unique_tokens: size of D_unique, the real text that baseline and SBP have.
        repetitions: budget of every arm over `unique_tokens` (20 in the paper).
        oracle_multiple: unique tokens of the oracle over `unique_tokens` (20 in the paper's 3B run).
        synthetic_share: synthetic part of the SBP arm's budget (0.375 in the paper's 3B run).
        optimiser, rows_per_batch, num_validations: of every arm's pretraining.
        weight_decays, dropouts: tried for repetition besides the settings' own. The headline compares with
            the decay that is best on validation: what repetition gains by regularisation is no gain of SBP's
            (arXiv 2509.14786). The comparison as in the paper has one optimiser for all arms.
        word_dropouts: tried for every synthesizer besides that of `tune`.
        tune_every_arm: whether every arm tries the weight decays and the dropouts.
        tuned_start: whether synthesis starts from the repetition that is best on validation.
        pairs: how documents of D_unique are paired.
        tune: how the synthesizer is tuned; its `max_document_tokens` holds for synthesis too.
        slots, shard_size: of synthesis; they change its speed alone.
        screen: which samples are kept.
        arms: those that are run; see `sbp_bayes.arms.ARMS`.
        seeds: each draws D_unique, the weights, the order of the data and the samples anew.
    """

    corpus: CorpusConfig
    model: LMConfig
    unique_tokens: int
    repetitions: float = 20.0
    oracle_multiple: float = 20.0
    synthetic_share: float = 0.375
    optimiser: OptimiserConfig
    rows_per_batch: int = 16
    num_validations: int = 20
    weight_decays: tuple[float, ...] = ()
    dropouts: tuple[float, ...] = (0.1, 0.2)
    word_dropouts: tuple[float, ...] = ()
    tune_every_arm: bool = False
    tuned_start: bool = False
    pairs: PairConfig
    tune: TuneConfig
    slots: int = 128
    shard_size: int = 1024
    screen: ScreenConfig
    arms: tuple[str, ...] = THE_THREE
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        require(self.unique_tokens > 0, "unique_tokens", self.unique_tokens, "a positive number")
        require(self.repetitions > 0, "repetitions", self.repetitions, "a positive number")
        require(self.oracle_multiple > 1, "oracle_multiple", self.oracle_multiple, "more than 1")
        require(0 < self.synthetic_share < 1, "synthetic_share", self.synthetic_share, "between 0 and 1")
        require(
            len(set(self.seeds)) == len(self.seeds) > 0, "seeds", self.seeds, "one or more, all different"
        )
        for arm in self.arms:
            require_one_of("arms", arm, ON_TEXT)
        has_baseline = "baseline" in self.arms
        require(has_baseline, "arms", list(self.arms), "baseline among them, with which others are compared")
        if self.model.vocab_size != self.corpus.vocab_size:
            raise ConfigError(
                f"model.vocab_size = {self.model.vocab_size} differs from "
                f"corpus.vocab_size = {self.corpus.vocab_size}"
            )

    @property
    def oracle_tokens(self) -> int:
        """Unique tokens of the oracle's documents."""
        return round(self.unique_tokens * self.oracle_multiple)

    def pretrain(self, seed: int, **optimiser: Any) -> PretrainConfig:
        """Settings of the baseline's and the oracle's pretraining, with changes to its `optimiser`."""
        return PretrainConfig(
            model=self.model,
            optimiser=dataclasses.replace(self.optimiser, **optimiser),
            budget_tokens=round(self.unique_tokens * self.repetitions),
            rows_per_batch=self.rows_per_batch,
            num_validations=self.num_validations,
            seed=seed,
        )

    def settings(self, seed: int) -> ArmSettings:
        """Settings of one seed that all arms share."""
        baseline = self.pretrain(seed)
        joint = dataclasses.replace(baseline, synthetic_share=self.synthetic_share)
        return ArmSettings(
            pretrain=baseline,
            synthetic_share=self.synthetic_share,
            tune=dataclasses.replace(self.tune, seed=seed),
            synthesis=SynthesisConfig(
                num_tokens=synthetic_tokens_needed(joint),
                max_document_tokens=self.tune.max_document_tokens,
                slots=self.slots,
                shard_size=self.shard_size,
                seed=seed,
                screen=self.screen,
            ),
            weight_decays=self.weight_decays,
            dropouts=self.dropouts,
            word_dropouts=self.word_dropouts,
            tune_every_arm=self.tune_every_arm,
            tuned_start=self.tuned_start,
        )


PACKAGED = ("packaged:wikipedia", "packaged:factbook", "packaged:cookbook")

_NAMED = {
    "smoke": TextSbpConfig(
        corpus=CorpusConfig(paths=("packaged:cookbook",), vocab_size=512, limit_documents=600),
        model=PRESETS["smoke"],
        unique_tokens=8_000,
        repetitions=8.0,
        oracle_multiple=8.0,
        optimiser=OptimiserConfig(peak_lr=1e-2),
        weight_decays=(1.0,),
        rows_per_batch=16,
        num_validations=4,
        pairs=PairConfig(rules=PairRules(alpha=0.1), embedder=EmbedderConfig(dimension=16)),
        tune=TuneConfig(max_document_tokens=64, num_epochs=1.0, num_validations=2),
        screen=ScreenConfig(),
        shard_size=128,
    ),
    "demo": TextSbpConfig(
        corpus=CorpusConfig(paths=PACKAGED, vocab_size=PRESETS["demo"].vocab_size, validation_share=0.02),
        model=PRESETS["demo"],
        unique_tokens=180_000,
        optimiser=OptimiserConfig(peak_lr=1e-2),
        weight_decays=(0.5,),  # the best at this learning rate in LOG.md's sweep
        rows_per_batch=8,
        num_validations=12,
        pairs=PairConfig(rules=PairRules(alpha=0.4)),
        tune=TuneConfig(max_document_tokens=256, num_epochs=1.0),
        screen=ScreenConfig(),
        arms=WITH_CONTROLS,
    ),
    # The demo's shape on more text, so that there are fewer parameters per unique token.
    "laptop": TextSbpConfig(
        corpus=CorpusConfig(
            paths=(*PACKAGED, "packaged:docstrings"),
            vocab_size=PRESETS["demo"].vocab_size,
            validation_share=0.02,
        ),
        model=PRESETS["demo"],
        unique_tokens=360_000,
        optimiser=OptimiserConfig(peak_lr=1e-2),
        weight_decays=(0.3,),  # the demo's, at an equal time constant in passes over the text
        rows_per_batch=8,
        num_validations=12,
        pairs=PairConfig(rules=PairRules(alpha=0.4)),
        tune=TuneConfig(max_document_tokens=256, num_epochs=1.0),
        screen=ScreenConfig(),
        seeds=(0, 1, 2),
    ),
}

_BEST = dataclasses.replace(
    _NAMED["demo"],
    optimiser=OptimiserConfig(peak_lr=1e-2, weight_decay=0.5),
    weight_decays=(),
    dropouts=(0.1,),
    tune_every_arm=True,
    tuned_start=True,
    pairs=PairConfig(rules=PairRules(alpha=0.0), k=4),
    tune=TuneConfig(max_document_tokens=256, num_epochs=3.0, dropout=0.1),
)

# Biographies of 30 persons who share 3 names: a document does not say whom it is about, another one helps.
_NAMESAKES = dataclasses.replace(
    _BEST,
    corpus=CorpusConfig(
        paths=("biographies.jsonl",), vocab_size=512, min_chars=20, validation_share=0.03, test_share=0.1
    ),
    model=dataclasses.replace(PRESETS["toy"], vocab_size=512),
    unique_tokens=36_000,
    oracle_multiple=6.0,
    synthetic_share=0.5,
    optimiser=OptimiserConfig(peak_lr=1e-2),
    dropouts=(0.1, 0.2),
    word_dropouts=(0.3,),
    pairs=PairConfig(
        rules=PairRules(alpha=0.0, near_duplicate_containment=None),
        k=4,
        embedder=EmbedderConfig(kind="bm25"),
    ),
    tune=TuneConfig(max_document_tokens=64, num_epochs=4.0, dropout=0.2),
    screen=ScreenConfig(reasons=("empty",)),
    seeds=(0, 1, 2),
)

CONFIGS: Mapping[str, TextSbpConfig] = _NAMED | {
    "paper": dataclasses.replace(_NAMED["demo"], arms=THE_THREE),
    "controls": dataclasses.replace(_NAMED["demo"], arms=ON_TEXT),
    "best": _BEST,
    "namesakes": _NAMESAKES,
}
"""The named configurations; README has what the demo takes and what it found. `paper` has the demo's settings
and the paper's arms, `controls` every arm that text can have. `best` makes the most of every arm, as far as
we know: repetition, the start of synthesis and joint training may have dropout, the tuning has it, and every
document has pairs; see LOG.md. `namesakes` is text in which related documents matter; README has the command
that writes it."""
