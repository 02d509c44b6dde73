"""Pairs whose d2s are distributed as the documents are: each document as often d1, and d2, as any other.

In the Bayesian model E over d1 of P(d2 | d1) is P(d2) exactly. Nearest neighbours do not keep this: documents
with many neighbours are d2 of many pairs, and documents without any are in none. Let A be the graph of pairs
over N documents, with a small weight on its diagonal that stands for "no d1". Scaled to W = D A D' whose rows
and columns sum to 1 (Sinkhorn and Knopp 1967), it gives

    P(d2 = j | d1 = i) = W_ij for a neighbour j of i,   and, with probability W_ii, d1 is left out.

A document that is left without d1 is then drawn with probability W_jj / Σ W_ii, so that the marginal of d2
under uniform d1 is Σ_{i≠j} W_ij / N + W_jj / N = 1 / N. The diagonal makes the scaling exist for every
graph: a document without a pair has W_jj = 1 and always answers to no d1.

Shapes: N documents, P pairs.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from sbp_bayes.base.records import Pairs
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.store import atomic_path
from sbp_bayes.corpus import Corpus
from sbp_bayes.synthesizer.controls import IndexPairs
from sbp_bayes.synthesizer.rows import NO_D1

ALONE = "alone.npz"
"""File in a synthesizer's folder: `BalancedPairs.alone`, and the corpus that it is of."""

DIAGONAL = 1e-2
"""Weight of "no d1" beside a pair's, 1: small, so that documents are left alone only where they must be."""

TOLERANCE, MAX_ROUNDS = 1e-6, 10_000
"""A row may miss a sum of 1 by so much; a scaling that needs more rounds is taken as it is."""


@dataclasses.dataclass(frozen=True, eq=False)
class BalancedPairs(IndexPairs):
    """Pairs in which every document is as often d2 as any other, up to rounding.

    Attributes:
        alone: W_ii, the share of a document's turns as d1, and as d2, in which there is no d1, float64 (N,).
    """

    alone: np.ndarray

    def save_alone(self, folder: Path) -> None:
        """Write which documents are left alone into a synthesizer's folder, atomically."""
        with atomic_path(folder / ALONE) as temporary, open(temporary, "wb") as file:
            np.savez(file, alone=self.alone, corpus_fingerprint=self.corpus_fingerprint)


def load_alone(folder: Path, corpus: Corpus) -> Float64[np.ndarray, " N"] | None:
    """Return the share of turns in which each of the corpus's documents is left alone, float64 (N,).

    None where the synthesizer in `folder` was tuned on pairs as they are, or on another corpus: then every d1
    is read.
    """
    if not (folder / ALONE).exists():
        return None
    with np.load(folder / ALONE) as arrays:
        return arrays["alone"] if str(arrays["corpus_fingerprint"]) == corpus.fingerprint else None


def balanced_pairs(pairs: Pairs, num_documents: int, seed: int) -> BalancedPairs:
    """Draw pairs anew, with documents left alone among them, so that the marginal of d2 is uniform.

    There are as many as before, or N if that is more. A pair stands as often as W_ij says, rounded up or down
    at random so that its mean is exact; `NO_D1` is the d1 of a document that is left alone.

    Args:
        pairs: P pairs of a corpus.
        num_documents: N, of the corpus.
        seed: of the rounding.
    """
    weights, alone = doubly_stochastic(pairs.first, pairs.second, num_documents)
    documents = np.arange(num_documents)
    first = np.concatenate([pairs.first, np.full(num_documents, NO_D1)])
    second = np.concatenate([pairs.second, documents])
    share = np.concatenate([weights, alone]) * max(1.0, len(pairs.first) / num_documents)
    # Systematic sampling: one uniform number rounds all shares, in the order of d2, so that each document
    # comes as d2 as often as its share, up or down by one.
    order = np.argsort(second, kind="stable")
    offset = numpy_generator(seed, "balanced pairs").random()
    ends = np.floor(np.concatenate([[0.0], share[order].cumsum()]) + offset).astype(np.int64)
    drawn = np.repeat(order, np.diff(ends))
    return BalancedPairs(first[drawn], second[drawn], pairs.corpus_fingerprint, alone)


def doubly_stochastic(
    first: np.ndarray, second: np.ndarray, num_documents: int
) -> tuple[Float64[np.ndarray, " P"], Float64[np.ndarray, " N"]]:
    """Scale a graph with a small diagonal so that its rows and columns sum to 1.

    Args:
        first, second: int64 (P,), the ends of its edges, each of weight 1.
        num_documents: N.

    Returns:
        W of the edges, float64 (P,), and of the diagonal, float64 (N,).
    """
    rows, columns = np.ones(num_documents), np.ones(num_documents)

    def sums(places: np.ndarray, others: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return A or its transpose times `scale`."""
        return np.bincount(places, scale[others], num_documents) + DIAGONAL * scale

    for _ in range(MAX_ROUNDS):
        columns = 1.0 / sums(second, first, rows)
        row_sums = rows * sums(first, second, columns)
        if np.abs(row_sums - 1.0).max() < TOLERANCE:
            break
        rows /= row_sums
    return rows[first] * columns[second], DIAGONAL * rows * columns
