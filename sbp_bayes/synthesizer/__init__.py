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
from sbp_bayes.synthesizer.neural import NeuralSynthesizer
from sbp_bayes.synthesizer.posterior import (
    MixtureSynthesizer,
    PosteriorSynthesizer,
    TokenScores,
    TokenSynthesizer,
)
from sbp_bayes.synthesizer.prompt import prompt_tokens
from sbp_bayes.synthesizer.protocol import Synthesizer
from sbp_bayes.synthesizer.rows import PackedPairs, PairRows, pair_loss
from sbp_bayes.synthesizer.tuning import TuneConfig, tune
from sbp_bayes.synthesizer.vocabulary import WorldTokens, model_tokens, world_tokens

__all__ = [
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
    "model_tokens",
    "noisy_pairs",
    "pair_loss",
    "prompt_tokens",
    "random_pairs",
    "tune",
    "world_tokens",
]
