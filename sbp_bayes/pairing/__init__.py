"""Pairing of related documents: embeddings, nearest neighbours, and the rules that make them pairs."""

from sbp_bayes.pairing.audit import SearchReport
from sbp_bayes.pairing.embed import Embedder
from sbp_bayes.pairing.embedders import embedder_device, fit_embedder
from sbp_bayes.pairing.embedding_cache import CachedEmbedder
from sbp_bayes.pairing.engines import Engine, LocalEngine
from sbp_bayes.pairing.hidden_states import SelfEmbedder
from sbp_bayes.pairing.index import find_neighbours, nearest_neighbours
from sbp_bayes.pairing.join import Join, Rows, join_neighbours
from sbp_bayes.pairing.labels import LabelPrecision, label_agreement, label_precision
from sbp_bayes.pairing.lsa import LsaEmbedder
from sbp_bayes.pairing.minilm import MiniLmEmbedder
from sbp_bayes.pairing.pairs import (
    PairConfig,
    build_pairs,
    pair_documents,
)
from sbp_bayes.pairing.qwen3 import Qwen3Embedder
from sbp_bayes.pairing.ray_engine import RayEngine
from sbp_bayes.pairing.records import PairSet
from sbp_bayes.pairing.report import PairReport, pair_report, sampled_pairs
from sbp_bayes.pairing.rules import PairRules
from sbp_bayes.pairing.sentence import SentenceEmbedder
from sbp_bayes.pairing.shingles import containment, shingle_overlap

__all__ = [
    "CachedEmbedder",
    "Embedder",
    "Engine",
    "Join",
    "LabelPrecision",
    "LocalEngine",
    "LsaEmbedder",
    "MiniLmEmbedder",
    "PairConfig",
    "PairReport",
    "PairRules",
    "PairSet",
    "Qwen3Embedder",
    "RayEngine",
    "Rows",
    "SearchReport",
    "SelfEmbedder",
    "SentenceEmbedder",
    "build_pairs",
    "containment",
    "embedder_device",
    "find_neighbours",
    "fit_embedder",
    "join_neighbours",
    "label_agreement",
    "label_precision",
    "nearest_neighbours",
    "pair_documents",
    "pair_report",
    "sampled_pairs",
    "shingle_overlap",
]
