"""What there is to know of a finished pairing, in numbers."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.corpus import Corpus
from sbp_bayes.pairing.labels import LabelPrecision, label_precision, labels_of
from sbp_bayes.pairing.records import PairSet

BIN, BAND = 0.05, 0.1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PairReport(ArrayRecord):
    """One set of pairs.

    Attributes:
        counts, search: as the `PairSet` has them.
        similarity_edges: float64 (B + 1,), multiples of 0.05 that hold all sampled similarities.
        neighbours, random: int64 (B,), sampled similarities in each bin, of neighbours and of random pairs.
        documents_by_pairs: int64, entry n is the number of documents that are d1 of n pairs.
        mutual: share of the pairs whose documents are both among the other's neighbours.
        band_edges: float64 (C + 1,), multiples of 0.1 that hold the pairs' similarities.
        band_pairs: int64 (C,), pairs in each band.
        labels: precision by every label there is; empty without a corpus.
    """

    counts: Mapping[str, int]
    search: Mapping[str, str | float]
    similarity_edges: np.ndarray
    neighbours: np.ndarray
    random: np.ndarray
    documents_by_pairs: np.ndarray
    mutual: float
    band_edges: np.ndarray
    band_pairs: np.ndarray
    labels: tuple[LabelPrecision, ...]

    @property
    def covered(self) -> float:
        """Share of all documents that are in a pair."""
        return 1 - int(self.documents_by_pairs[0]) / max(1, int(self.documents_by_pairs.sum()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledPair:
    """One pair to look at: ids and texts of d1 and d2, and how they were found (see `PairSet`)."""

    ids: tuple[str, str]
    texts: tuple[str, str]
    similarity: float
    rank_of_second: int
    rank_of_first: int


def pair_report(pairs: PairSet, corpus: Corpus | None = None) -> PairReport:
    """Count what `PairReport` has.

    Args:
        pairs: of any corpus.
        corpus: the one that was paired, for its labels.
    """
    sampled = np.concatenate([pairs.neighbour_similarities, pairs.random_similarities])
    edges = multiples(float(sampled.min()), float(sampled.max()), BIN)
    pairs_of_document = np.bincount(pairs.first, minlength=pairs.counts["documents"])
    bands = multiples(float(pairs.similarity.min()), float(pairs.similarity.max()), BAND)
    by_name = {} if corpus is None else labels_of(corpus)
    scored = [label_precision(name, labels, pairs, bands) for name, labels in by_name.items()]
    return PairReport(
        counts=pairs.counts,
        search=pairs.search,
        similarity_edges=edges,
        neighbours=_histogram(pairs.neighbour_similarities, edges),
        random=_histogram(pairs.random_similarities, edges),
        documents_by_pairs=np.bincount(pairs_of_document),
        mutual=float(((pairs.rank_of_first > 0) & (pairs.rank_of_second > 0)).mean()),
        band_edges=bands,
        band_pairs=_histogram(pairs.similarity, bands),
        labels=tuple(precision for precision in scored if precision is not None),
    )


def sampled_pairs(pairs: PairSet, corpus: Corpus, number: int, seed: int) -> list[SampledPair]:
    """Return at most `number` pairs drawn without repetition, the most similar first.

    Args:
        pairs: of `corpus`.
        corpus: the one that was paired.
        number: at least 0.
        seed: of the draw.

    Raises:
        ConfigError: a number below 0.
    """
    require(number >= 0, "samples", number, "at least 0")
    generator = numpy_generator(seed, "sampled pairs")
    chosen = generator.choice(len(pairs), min(number, len(pairs)), replace=False)
    chosen = chosen[np.argsort(-pairs.similarity[chosen], kind="stable")]
    return [
        SampledPair(
            ids=(corpus.ids[pairs.first[i]], corpus.ids[pairs.second[i]]),
            texts=(corpus.texts[pairs.first[i]], corpus.texts[pairs.second[i]]),
            similarity=float(pairs.similarity[i]),
            rank_of_second=int(pairs.rank_of_second[i]),
            rank_of_first=int(pairs.rank_of_first[i]),
        )
        for i in chosen
    ]


def multiples(lowest: float, highest: float, width: float) -> np.ndarray:
    """Return multiples of `width` from at most `lowest` to at least `highest`, two or more, float64.

    Similarities are at most 1 but for rounding, so that nothing begins at 1.
    """
    per_unit = round(1 / width)
    first = min(int(np.floor(lowest * per_unit)), per_unit - 1)
    last = min(int(np.ceil(highest * per_unit)), per_unit)
    return np.arange(first, max(last, first + 1) + 1) / per_unit


def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
