"""Exact and near duplicates: content hashes, then MinHash-LSH whose candidates are verified exactly."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.corpus.records import Document

SHINGLE_WORDS = 5
NUM_PERMUTATIONS = 128
MISS_PROBABILITY = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class DedupReport:
    """What de-duplication removed.

    Attributes:
        num_documents: documents looked at.
        exact, near: documents removed as exact and as near duplicates of an earlier, kept one.
        duplicate_of: position of each removed document → position of the kept one it duplicates.
    """

    num_documents: int
    exact: int
    near: int
    duplicate_of: Mapping[int, int]

    @property
    def exact_rate(self) -> float:
        """Share of all documents removed as exact duplicates."""
        return self.exact / max(1, self.num_documents)

    @property
    def near_rate(self) -> float:
        """Share of all documents removed as near duplicates."""
        return self.near / max(1, self.num_documents)

    @property
    def cluster_sizes(self) -> list[int]:
        """Documents in each cluster of duplicates, its kept one included, largest first."""
        _, counts = np.unique(list(self.duplicate_of.values()), return_counts=True)
        return sorted((int(n) + 1 for n in counts), reverse=True)


def deduplicate(
    documents: Sequence[Document | str], *, threshold: float = 0.8, seed: int = 0
) -> tuple[list[int], DedupReport]:
    """Return the positions of the documents to keep, ascending, and a report.

    Documents are visited in order; one is removed if its text equals a kept one's, or if the Jaccard
    similarity of their sets of word 5-grams (lower case, split at white space; a text of fewer words is
    one shingle) is at least `threshold`. So the smallest position of each cluster survives, and nothing
    is removed that is not similar to a survivor. Candidates come from MinHash with bands: a pair at the
    threshold is missed with probability below 1e-3, a more similar one with less.

    Args:
        documents: documents or their texts.
        threshold: Jaccard similarity from which two documents are near duplicates; 1 still removes texts
            that differ in case or spacing alone.
        seed: of the MinHash permutations.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    require(0 < threshold <= 1, "dedup_threshold", threshold, "in (0, 1]")
    texts = [d if isinstance(d, str) else d.text for d in documents]
    duplicate_of = _exact_duplicates(texts)
    exact = len(duplicate_of)
    unique = [i for i in range(len(texts)) if i not in duplicate_of]
    shingles = _shingle_hashes([texts[i] for i in unique])
    for late, early in _near_duplicates(shingles, threshold, seed).items():
        duplicate_of[unique[late]] = unique[early]
    # An exact duplicate of a document that is itself removed belongs to that one's survivor.
    duplicate_of = {i: duplicate_of.get(j, j) for i, j in sorted(duplicate_of.items())}
    report = DedupReport(
        num_documents=len(texts), exact=exact, near=len(duplicate_of) - exact, duplicate_of=duplicate_of
    )
    return [i for i in range(len(texts)) if i not in duplicate_of], report


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Return |A ∩ B| / |A ∪ B| of two sorted arrays without repeats; 0 if both are empty."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / max(1, len(first) + len(second) - shared)


def _exact_duplicates(texts: Sequence[str]) -> dict[int, int]:
    first: dict[bytes, int] = {}
    duplicate_of = {}
    for i, text in enumerate(texts):
        earlier = first.setdefault(hashlib.blake2b(text.encode(), digest_size=16).digest(), i)
        if earlier != i:
            duplicate_of[i] = earlier
    return duplicate_of


class _WordHashes(dict[str, int]):
    """64-bit hash of each word, a function of the word alone, computed once."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "little")
        return value


def _shingle_hashes(texts: Sequence[str]) -> list[np.ndarray]:
    """Return each text's distinct word 5-grams as sorted 64-bit hashes (equal by chance: 2^-64 a pair)."""
    hashes = _WordHashes()
    shingles = []
    for text in texts:
        words = np.array([hashes[word] for word in text.lower().split()], np.uint64)
        width = min(SHINGLE_WORDS, len(words))
        combined = np.full(len(words) - width + 1 if width else 0, width, np.uint64)
        for k in range(width):
            combined = _mix(combined ^ words[k : k + len(combined)])
        shingles.append(np.unique(combined))
    return shingles


def _mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers one to one (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _near_duplicates(shingles: Sequence[np.ndarray], threshold: float, seed: int) -> dict[int, int]:
    """Return {removed: kept} with kept the smallest position that is similar enough."""
    kept_in: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    duplicate_of: dict[int, int] = {}
    for i, buckets in _shared_buckets(shingles, threshold, seed).items():
        candidates = sorted({j for bucket in buckets for j in kept_in[bucket]})
        similar = (j for j in candidates if _is_similar(shingles[j], shingles[i], threshold))
        kept = next(similar, None)
        if kept is not None:
            duplicate_of[i] = kept
            continue
        for bucket in buckets:
            kept_in[bucket].append(i)
    return duplicate_of


def _is_similar(first: np.ndarray, second: np.ndarray, threshold: float) -> bool:
    sizes = sorted((len(first), len(second)))
    return sizes[0] >= threshold * sizes[1] and jaccard(first, second) >= threshold


def _shared_buckets(
    shingles: Sequence[np.ndarray], threshold: float, seed: int
) -> dict[int, list[tuple[int, bytes]]]:
    """Return the LSH buckets, of more than one document, that each document is in; by position."""
    filled = np.flatnonzero([len(s) > 0 for s in shingles])
    buckets: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    if len(filled) < 2:
        return buckets
    signatures = _signatures([shingles[int(i)] for i in filled], seed)
    rows = _rows_per_band(threshold)
    for band in range(NUM_PERMUTATIONS // rows):
        part = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * rows))).ravel()
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        for i in np.flatnonzero(counts[inverse] > 1):
            buckets[int(filled[i])].append((band, keys[i].tobytes()))
    return dict(sorted(buckets.items()))


def _signatures(shingles: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Return MinHash signatures, uint32 (documents, NUM_PERMUTATIONS)."""
    from rensa import RMinHash

    ends = np.cumsum([0, *(len(s) for s in shingles)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(shingles), ends, NUM_PERMUTATIONS, seed
    )
    return np.array(matrix.to_rows(), np.uint32)


def _rows_per_band(threshold: float) -> int:
    """Return the most rows a band may have for a pair at `threshold` to share a band almost surely.

    Bands of r rows share all rows with probability J^r, so b = 128 // r bands miss with (1 − J^r)^b.
    """

    def miss(rows: int) -> float:
        return float((1 - threshold**rows) ** (NUM_PERMUTATIONS // rows))

    return max((r for r in range(1, NUM_PERMUTATIONS + 1) if miss(r) <= MISS_PROBABILITY), default=1)
