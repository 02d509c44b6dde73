"""All that is measured of synthetic text without a judge, as plain JSON types."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import encode
from sbp_bayes.base.records import Pairs
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.corpus import Corpus, Tokenizer
from sbp_bayes.evaluation.text.contents import Benchmark, personal_data
from sbp_bayes.evaluation.text.coverage import cluster_coverage, duplicates_at, seed_coverage
from sbp_bayes.evaluation.text.drift import DriftConfig, drift
from sbp_bayes.evaluation.text.quality import (
    QualityConfig,
    pair_similarity,
    quality_report,
    seed_indices,
)

COMPARED = 2000
"""Number of pairs whose similarity is measured."""

Embed = Callable[[Corpus], np.ndarray]
"""Function of a corpus to the vectors of its documents, (N, D), zero where it can say nothing of one."""


def measure_quality(
    config: QualityConfig,
    synthetic: Corpus,
    unique: Corpus,
    *,
    tokenizer: Tokenizer,
    embed: Embed,
    pairs: Pairs | None = None,
    benchmarks: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Measure synthetic text beside real text.

    Args:
        config: the settings.
        synthetic: samples, whose metadata name their d1 where they have one.
        unique: D_unique, the documents that the synthesizer could see.
        tokenizer: of both.
        embed: fitted on `unique` where it is fitted at all.
        pairs: real pairs of `unique`.
        benchmarks: items of benchmarks by name.

    Returns:
        "synthetic" and "real", each with "documents" (`DocumentQuality`), "copying" (`PairQuality`),
        "similarity" (None without pairs), "personal" (counts and shares) and "duplicates" by number of
        documents; "drift", None among too few documents; "coverage" of "seeds" and "clusters"; and for each
        of the "benchmarks" its `Overlap` with both.

    Raises:
        CorpusError: see `quality_report`.
    """
    report = quality_report(config, synthetic, unique, pairs)
    seeds, limit, seed = seed_indices(synthetic, unique), config.max_document_tokens, config.seed
    embedded = _Embedded.of(config, synthetic, unique, embed, seeds, pairs)
    vectors = (embedded.known, embedded.sampled)
    found = drift(DriftConfig(max_document_tokens=limit, seed=seed), unique, synthetic, vectors)
    alike = min(len(synthetic), len(unique), config.max_documents)
    own_texts = synthetic.texts_at(_sample(len(synthetic), alike, seed))
    real_texts = cut_texts(unique, _sample(len(unique), alike, seed), limit, tokenizer)
    return {
        "drift": None if found is None else encode(found),
        "synthetic": {
            "documents": encode(report.synthetic_documents),
            "copying": encode(report.synthetic_pairs),
            "similarity": _similarity(embedded.synthetic_pairs, seed),
            "personal": {"documents": alike, "found": personal_data(own_texts)},
            "duplicates": encode(duplicates_at(synthetic, seed)),
        },
        "real": {
            "documents": encode(report.real_documents),
            "copying": encode(report.real_pairs),
            "similarity": _similarity(embedded.real_pairs, seed),
            "personal": {"documents": alike, "found": personal_data(real_texts)},
            "duplicates": encode(duplicates_at(unique, seed)),
        },
        "coverage": {
            "seeds": None if seeds is None else seed_coverage(seeds, len(unique)),
            "clusters": cluster_coverage(*vectors, seed),
        },
        "benchmarks": {
            name: _overlaps(Benchmark(items), synthetic, unique) for name, items in (benchmarks or {}).items()
        },
    }


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Embedded(ArrayRecord):
    """Vectors of documents, and of the d1 and d2 of pairs, None where there are no pairs."""

    known: np.ndarray
    sampled: np.ndarray
    synthetic_pairs: tuple[np.ndarray, np.ndarray] | None
    real_pairs: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(  # noqa: PLR0917 - what `measure_quality` was given
        cls,
        config: QualityConfig,
        synthetic: Corpus,
        unique: Corpus,
        embed: Embed,
        seeds: np.ndarray | None,
        pairs: Pairs | None,
    ) -> "_Embedded":
        """Embed random documents of both kinds and what they are paired with, each real document once."""
        sampled = _sample(len(synthetic), COMPARED, config.seed)
        known = _sample(len(unique), config.max_documents, config.seed)
        own_first = known[:0] if seeds is None else seeds[sampled]
        first = second = known[:0]
        if pairs is not None:
            paired = _sample(len(pairs.first), COMPARED, config.seed)
            first, second = pairs.first[paired], pairs.second[paired]
        rows = np.unique(np.concatenate([known, own_first, first, second]))
        vectors, of_samples = embed(unique.select(rows)), embed(synthetic.select(sampled))
        of_known, of_own_first, of_first, of_second = (
            vectors[np.searchsorted(rows, indices)] for indices in (known, own_first, first, second)
        )
        return cls(
            known=of_known,
            sampled=of_samples,
            synthetic_pairs=None if seeds is None else (of_own_first, of_samples),
            real_pairs=None if pairs is None else (of_first, of_second),
        )


def _overlaps(benchmark: Benchmark, synthetic: Corpus, unique: Corpus) -> dict[str, Any]:
    return {
        "synthetic": encode(benchmark.overlap(synthetic.texts)),
        "real": encode(benchmark.overlap(unique.texts)),
    }


def cut_texts(corpus: Corpus, indices: np.ndarray, max_tokens: int, tokenizer: Tokenizer) -> list[str]:
    """Return documents' texts, of longer ones the text of their first `max_tokens` tokens."""
    lengths = corpus.lengths
    return [
        corpus.texts[i] if lengths[i] <= max_tokens else tokenizer.decode(corpus.document(i)[:max_tokens])
        for i in indices.tolist()
    ]


def _sample(size: int, most: int, seed: int) -> np.ndarray:
    order = numpy_generator(seed, "compared").permutation(size)
    return np.sort(order[:most])


def _similarity(pairs: tuple[np.ndarray, np.ndarray] | None, seed: int) -> dict[str, float] | None:
    """Mean cosine of (d1, d2) and of (another d1, d2) over pairs of vectors; None for fewer than two."""
    if pairs is None:
        return None
    first, second = pairs
    known = np.any(first != 0, axis=1) & np.any(second != 0, axis=1)
    if known.sum() < 2:
        return None
    similarity = pair_similarity(first[known], second[known], seed)
    return {
        "num_pairs": int(known.sum()),
        "pairs_mean": float(similarity.pairs.mean()),
        "random_mean": float(similarity.random.mean()),
        "nearer_share": similarity.nearer_share,
    }
