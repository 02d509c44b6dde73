"""Synthesizers: P(d2 | d1) as a density and as a sampler, and the tuning of a neural one on pairs."""

from sbp_bayes.synthesizer.neural import NeuralSynthesizer
from sbp_bayes.synthesizer.protocol import Synthesizer
from sbp_bayes.synthesizer.rows import PackedPairs, PairRows, pair_loss
from sbp_bayes.synthesizer.tuning import TuneConfig, tune

__all__ = [
    "NeuralSynthesizer",
    "PackedPairs",
    "PairRows",
    "Synthesizer",
    "TuneConfig",
    "pair_loss",
    "tune",
]
