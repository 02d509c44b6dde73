"""Pairing of related documents: embeddings, nearest neighbours, and the rules that make them pairs."""

from sbp_bayes.pairing.audit import SearchReport
from sbp_bayes.pairing.embed import Embedder, LsaEmbedder, SelfEmbedder
from sbp_bayes.pairing.index import find_neighbours, nearest_neighbours
from sbp_bayes.pairing.minilm import MiniLmEmbedder
from sbp_bayes.pairing.pairs import (
    PairConfig,
    build_pairs,
    fit_embedder,
    label_agreement,
    pair_documents,
)
from sbp_bayes.pairing.records import PairSet
from sbp_bayes.pairing.shingles import containment

__all__ = [
    "Embedder",
    "LsaEmbedder",
    "MiniLmEmbedder",
    "PairConfig",
    "PairSet",
    "SearchReport",
    "SelfEmbedder",
    "build_pairs",
    "containment",
    "find_neighbours",
    "fit_embedder",
    "label_agreement",
    "nearest_neighbours",
    "pair_documents",
]
