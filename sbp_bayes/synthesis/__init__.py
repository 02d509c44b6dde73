"""Step 3 of SBP: sampling the synthetic corpus, d2 ~ p_θ(· | d1), screened and resumable."""

from sbp_bayes.synthesis.generate import CORPUS, SynthesisConfig, synthesize
from sbp_bayes.synthesis.screen import REASONS, Screen, ScreenConfig
from sbp_bayes.synthesis.seeds import seed_document, stream_seed
from sbp_bayes.synthesis.shards import Shard
from sbp_bayes.synthesis.sources import NoDocuments, SeedDocuments, Source

__all__ = [
    "CORPUS",
    "REASONS",
    "NoDocuments",
    "Screen",
    "ScreenConfig",
    "SeedDocuments",
    "Shard",
    "Source",
    "SynthesisConfig",
    "seed_document",
    "stream_seed",
    "synthesize",
]
