"""Step 3 of SBP: sampling the synthetic corpus, d2 ~ p_θ(· | d1), screened and resumable."""

from sbp_bayes.synthesis.collect import CORPUS
from sbp_bayes.synthesis.export import ExportConfig, RealPairs, export_data
from sbp_bayes.synthesis.generate import SynthesisConfig, synthesize
from sbp_bayes.synthesis.requests import RequestConfig, RequestFolder, read_requests, write_requests
from sbp_bayes.synthesis.samples import ImportConfig, import_samples
from sbp_bayes.synthesis.screen import REASONS, Screen, ScreenConfig
from sbp_bayes.synthesis.seeds import seed_document, stream_seed
from sbp_bayes.synthesis.shards import Shard
from sbp_bayes.synthesis.sources import NoDocuments, SeedDocuments, Source

__all__ = [
    "CORPUS",
    "REASONS",
    "ExportConfig",
    "ImportConfig",
    "NoDocuments",
    "RealPairs",
    "RequestConfig",
    "RequestFolder",
    "Screen",
    "ScreenConfig",
    "SeedDocuments",
    "Shard",
    "Source",
    "SynthesisConfig",
    "export_data",
    "import_samples",
    "read_requests",
    "seed_document",
    "stream_seed",
    "synthesize",
    "write_requests",
]
