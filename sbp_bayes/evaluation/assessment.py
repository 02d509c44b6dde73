"""The quality report of a synthetic corpus beside the same measures of real documents and real pairs."""

import dataclasses

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.records import Pairs
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.corpus import Corpus
from sbp_bayes.corpus.repetition import RepetitionRule
from sbp_bayes.evaluation.quality import DocumentQuality, PairQuality, document_quality, pair_quality


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """What the quality report measures.

    Attributes:
        max_document_tokens: real documents are cut to so many tokens, as the samples are.
        max_documents: documents, and pairs, measured; chosen at random where there are more.
        repetition: the rule by which the samples were screened.
        copy_length: tokens in a row that count as copied.
        seed: of the choice.
    """

    max_document_tokens: int
    max_documents: int = 10_000
    repetition: RepetitionRule = dataclasses.field(default_factory=RepetitionRule)
    copy_length: int = 13
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("max_document_tokens", "max_documents", "copy_length"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Synthetic text and, for comparison, real text; documents are as many of each kind."""

    synthetic_documents: DocumentQuality
    real_documents: DocumentQuality
    synthetic_pairs: PairQuality
    real_pairs: PairQuality


def quality_report(config: QualityConfig, synthetic: Corpus, unique: Corpus, pairs: Pairs) -> QualityReport:
    """Measure `synthetic`, a corpus that `synthesize` wrote, against `unique` (D_unique) and its real pairs.

    A real d2 is no source of itself: it is compared with all other documents.

    Raises:
        CorpusError: an empty corpus, no pairs, or indices that mean another corpus.
    """
    if pairs.corpus_fingerprint != unique.fingerprint:
        raise CorpusError("the pairs were made from another corpus than the unique documents given")
    if min(len(synthetic), len(unique), len(pairs.first)) == 0:
        raise CorpusError("quality needs a synthetic document, a real one and a real pair at least")
    if any(unique.ids[m["seed_index"]] != m["seed_document"] for m in synthetic.metadata):
        raise CorpusError(
            "the synthetic documents were sampled from other documents than the unique ones given"
        )
    alike = min(len(synthetic), len(unique), config.max_documents)
    samples = _choice(config, "synthetic pairs", len(synthetic))
    seeds = np.array([m["seed_index"] for m in synthetic.metadata], np.int64)
    real = _choice(config, "real pairs", len(pairs.first))
    second = pairs.second[real]
    return QualityReport(
        synthetic_documents=document_quality(
            synthetic.select(_choice(config, "synthetic", len(synthetic))[:alike]), config.repetition
        ),
        real_documents=document_quality(
            _cut(unique.select(_choice(config, "real", len(unique))[:alike]), config.max_document_tokens),
            config.repetition,
        ),
        synthetic_pairs=pair_quality(
            synthetic.select(samples), seeds[samples], unique, copy_length=config.copy_length
        ),
        real_pairs=pair_quality(
            _cut(unique.select(second), config.max_document_tokens),
            pairs.first[real],
            unique,
            own=second,
            copy_length=config.copy_length,
        ),
    )


def _choice(config: QualityConfig, name: str, number: int) -> np.ndarray:
    """Return at most `max_documents` of `number` indices, in random order."""
    return numpy_generator(config.seed, name).permutation(number)[: config.max_documents]


def _cut(corpus: Corpus, max_tokens: int) -> Corpus:
    """Return the documents' first `max_tokens` tokens; their texts stay whole."""
    lengths = corpus.lengths
    place = np.arange(len(corpus.tokens)) - np.repeat(corpus.offsets[:-1], lengths)
    return dataclasses.replace(
        corpus,
        tokens=corpus.tokens[place < max_tokens],
        offsets=np.concatenate([[0], np.cumsum(np.minimum(lengths, max_tokens))]),
        complete=corpus.complete & (lengths <= max_tokens),
    )
