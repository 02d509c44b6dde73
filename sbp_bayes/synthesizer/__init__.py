"""Synthesizers: P(d2 | d1) as a density and as a sampler, and the tuning of a neural one on pairs."""

from sbp_bayes.synthesizer.controls import (
    CopySynthesizer,
    IndexPairs,
    NoisyPairsSynthesizer,
    TemperedSynthesizer,
    UnconditionalSynthesizer,
    noisy_pairs,
    random_pairs,
)
from sbp_bayes.synthesizer.marginal import BalancedPairs, balanced_pairs, load_alone
from sbp_bayes.synthesizer.neural import NeuralSynthesizer
from sbp_bayes.synthesizer.posterior import (
    MixtureSynthesizer,
    PosteriorSynthesizer,
    TokenScores,
    TokenSynthesizer,
)
from sbp_bayes.synthesizer.prompt import prompt_tokens
from sbp_bayes.synthesizer.protocol import Synthesizer
from sbp_bayes.synthesizer.rows import (
    PackedPairs,
    PairRows,
    cut_document,
    pair_loss,
    pair_positions,
    row_length_of,
)
from sbp_bayes.synthesizer.tuning import TuneConfig, held_out_pairs, tune
from sbp_bayes.synthesizer.vocabulary import WorldTokens, model_tokens, world_tokens

__all__ = [
    "BalancedPairs",
    "CopySynthesizer",
    "IndexPairs",
    "MixtureSynthesizer",
    "NeuralSynthesizer",
    "NoisyPairsSynthesizer",
    "PackedPairs",
    "PairRows",
    "PosteriorSynthesizer",
    "Synthesizer",
    "TemperedSynthesizer",
    "TokenScores",
    "TokenSynthesizer",
    "TuneConfig",
    "UnconditionalSynthesizer",
    "WorldTokens",
    "balanced_pairs",
    "cut_document",
    "held_out_pairs",
    "load_alone",
    "model_tokens",
    "noisy_pairs",
    "pair_loss",
    "pair_positions",
    "prompt_tokens",
    "random_pairs",
    "row_length_of",
    "tune",
    "world_tokens",
]
