"""How much of the real text a synthesis reaches: duplicates in larger and larger samples, seeds, clusters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sbp_bayes.base.seeds import derive_seed, numpy_generator
from sbp_bayes.corpus import Corpus, deduplicate

DUPLICATE_SIZES = (10_000, 100_000, 1_000_000)
"""Numbers of documents among which duplicates are counted; the talk's is the last."""

DOCUMENTS_PER_CLUSTER, MOST_CLUSTERS = 20, 100


def duplicates_at(
    corpus: Corpus, seed: int, sizes: Sequence[int] = DUPLICATE_SIZES
) -> dict[int, dict[str, float]]:
    """Return the shares of "exact" and "near" duplicates among N documents drawn at random, for growing N.

    N goes through those of `sizes` that the corpus has; without any it is the number of documents. One is
    a duplicate of an earlier one, so that one pass over the largest sample gives all N. Texts stay on disk;
    hashes of each document are held.
    """
    chosen = [size for size in sizes if size <= len(corpus)] or [len(corpus)]
    order = numpy_generator(seed, "duplicates").permutation(len(corpus))[: max(chosen)]
    _, report = deduplicate(corpus.texts_at(order))
    parts = {size: report.of_first(size) for size in chosen}
    return {size: {"exact": part.exact_rate, "near": part.near_rate} for size, part in parts.items()}


def seed_coverage(seeds: np.ndarray, num_documents: int) -> dict[str, Any]:
    """Return which share of the documents are the d1 of a sample, and what uniform draws would give.

    Args:
        seeds: index of each sample's d1, int64 (S,).
        num_documents: N, documents that d1 was drawn from; of S draws they leave out (1 − 1/N)^S.
    """
    times = np.bincount(seeds, minlength=num_documents)
    return {
        "share": float((times > 0).mean()),
        "expected": 1 - (1 - 1 / num_documents) ** len(seeds),
        "most_samples_of_one": int(times.max()),
    }


def cluster_coverage(real: np.ndarray, synthetic: np.ndarray, seed: int) -> dict[str, Any] | None:
    """Return which share of the clusters of real vectors hold a synthetic one, and a real one.

    The clusters are k-means of one random half of the real vectors; the other half is the control. As many
    are taken of each kind. None for too few vectors.

    Args:
        real, synthetic: vectors, (R, D) and (S, D); rows of zeros are left out.
        seed: of halves and clusters.
    """
    from sklearn.cluster import KMeans

    real, synthetic = (vectors[np.any(vectors != 0, axis=1)] for vectors in (real, synthetic))
    order = numpy_generator(seed, "cluster coverage").permutation(len(real))
    fitted, others = real[order[::2]], real[order[1::2]]
    number = min(MOST_CLUSTERS, len(fitted) // DOCUMENTS_PER_CLUSTER)
    size = min(len(others), len(synthetic))
    if number < 2 or size < number:
        return None
    means = KMeans(number, n_init=1, random_state=derive_seed(seed, "cluster coverage") % 2**31).fit(fitted)
    chosen = numpy_generator(seed, "cluster coverage", "synthetic").permutation(len(synthetic))[:size]
    return {
        "clusters": number,
        "documents": size,
        "synthetic": len(np.unique(means.predict(synthetic[chosen]))) / number,
        "real": len(np.unique(means.predict(others[:size]))) / number,
    }
