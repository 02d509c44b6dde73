"""Pairing of related documents: embeddings, nearest neighbours, and the rules that make them pairs."""

from sbp_bayes.pairing.embed.bm25 import Bm25Embedder
from sbp_bayes.pairing.embed.cache import CachedEmbedder
from sbp_bayes.pairing.embed.embedder import Embedder
from sbp_bayes.pairing.embed.hidden_states import SelfEmbedder
from sbp_bayes.pairing.embed.lsa import LsaEmbedder
from sbp_bayes.pairing.embed.minilm import MiniLmEmbedder
from sbp_bayes.pairing.embed.qwen3 import Qwen3Embedder
from sbp_bayes.pairing.embed.sentence import SentenceEmbedder
from sbp_bayes.pairing.embed.table import EmbedderConfig, embedder_device, fit_embedder
from sbp_bayes.pairing.join.engines import Engine, LocalEngine
from sbp_bayes.pairing.join.join import Join, Rows, join_neighbours
from sbp_bayes.pairing.join.ray_engine import RayEngine
from sbp_bayes.pairing.labels import LabelPrecision, label_agreement, label_precision
from sbp_bayes.pairing.neighbours import find_neighbours, nearest_neighbours
from sbp_bayes.pairing.pairs import (
    PairConfig,
    build_pairs,
    pair_documents,
)
from sbp_bayes.pairing.records import PairSet
from sbp_bayes.pairing.report import PairReport, pair_report, sampled_pairs
from sbp_bayes.pairing.rules.pair_rules import PairRules
from sbp_bayes.pairing.rules.shingles import containment, shingle_overlap
from sbp_bayes.pairing.search.audit import SearchReport

__all__ = [
    "Bm25Embedder",
    "CachedEmbedder",
    "Embedder",
    "EmbedderConfig",
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
