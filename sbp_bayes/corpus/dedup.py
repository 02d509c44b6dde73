"""Exact and near duplicates: content hashes, then MinHash-LSH whose candidates are verified exactly."""

import dataclasses
import functools
import hashlib
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.corpus.minhash import Bands, Shingles, band_keys, shingle_hashes
from sbp_bayes.corpus.records import Document

TEXTS_TOGETHER = 1024
CACHE_BYTES = 1 << 26

Near = tuple[int, int, float]
"""A document that is removed, the earlier one that is kept, and their similarity (NaN if not computed)."""


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

    @functools.cached_property
    def cluster_sizes(self) -> list[int]:
        """Documents in each cluster of duplicates, its kept one included, largest first."""
        _, counts = np.unique(list(self.duplicate_of.values()), return_counts=True)
        return sorted((int(n) + 1 for n in counts), reverse=True)


def deduplicate(
    documents: Sequence[Document | str], *, threshold: float = 0.8, seed: int = 0, verify: bool = True
) -> tuple[list[int], DedupReport]:
    """Return the positions of the documents to keep, ascending, and a report.

    Documents are visited in order; one is removed if its text equals a kept one's, or if the Jaccard
    similarity of their sets of word 5-grams (lower case, split at white space; a text of fewer words is
    one shingle) is at least `threshold`. So the smallest position of each cluster survives, and nothing
    is removed that is not similar to a survivor. Candidates come from MinHash with bands (see `Bands`
    for parameters and S-curve): a pair at the threshold is missed with probability below 1e-3, a more
    similar one with less.

    Args:
        documents: documents or their texts.
        threshold: Jaccard similarity from which two documents are near duplicates; 1 still removes texts
            that differ in case or spacing alone.
        seed: of the MinHash permutations.
        verify: compute candidates' similarity exactly; False trusts bands that are narrower for it.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    require(0 < threshold <= 1, "dedup_threshold", threshold, "in (0, 1]")
    texts = [d if isinstance(d, str) else d.text for d in documents]
    survivors = exact_survivors(content_digests(texts))
    unique = [i for i in np.flatnonzero(survivors == np.arange(len(texts))).tolist() if texts[i].strip()]
    bands = Bands.at(threshold, verified=verify)
    known = _KnownShingles([texts[i] for i in unique])
    keys = np.concatenate([band_keys(*block, bands, seed) for block in known.blocks])
    exact = int((survivors != np.arange(len(texts))).sum())
    near = near_duplicates(list(keys.T), known, threshold, verify=verify)
    for late, early, _ in near:
        survivors[unique[late]] = unique[early]
    # An exact duplicate of a document that is itself removed belongs to that one's survivor.
    survivors = survivors[survivors]
    kept = np.flatnonzero(survivors == np.arange(len(texts))).tolist()
    removed = np.flatnonzero(survivors != np.arange(len(texts))).tolist()
    report = DedupReport(
        num_documents=len(texts),
        exact=exact,
        near=len(removed) - exact,
        duplicate_of=dict(zip(removed, survivors[removed].tolist(), strict=True)),
    )
    return kept, report


def content_digests(texts: Sequence[str]) -> np.ndarray:
    """Return each text's 128-bit hash (BLAKE2b), uint64 (N, 2)."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, "<u8").reshape(len(texts), 2)


def exact_survivors(digests: np.ndarray) -> np.ndarray:
    """Return for each document the first position of its digest, int64 (N,); `digests` is uint64 (N, 2)."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal ones stay in order of position
    ordered = digests[order]
    starts = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(1)])[: len(order)]  # none for none
    survivors = np.empty(len(order), np.int64)
    survivors[order] = order[starts][np.cumsum(starts) - 1]
    return survivors


def near_duplicates(
    keys: Sequence[np.ndarray], shingles: Shingles, threshold: float, *, verify: bool = True
) -> Iterator[Near]:
    """Yield (removed, kept, similarity) in order of the removed one; kept is the smallest that is similar.

    Memory: one band's keys, at most 24 bytes for each band that a document shares with another one, and
    a cache of shingles of 64 MiB.

    Args:
        keys: uint64 (N,) for each band, as of `band_keys`; one is held at a time.
        shingles: asked for documents that share a band with another one.
        threshold: lowest Jaccard similarity of a near duplicate.
        verify: compute the similarity; False takes the first document that shares a band.
    """
    kept_in: defaultdict[int, list[int]] = defaultdict(list)
    distinct = _Distinct(shingles)
    for i, buckets in _shared_buckets(keys):
        candidates = sorted({j for bucket in buckets for j in kept_in[bucket]})
        found: tuple[int, float] | None = None
        if not verify:
            found = (candidates[0], np.nan) if candidates else None
        elif candidates:
            found = _first_similar(i, candidates, distinct, threshold)
        if found is not None:
            yield i, *found
            continue
        for bucket in buckets:
            kept_in[bucket].append(i)


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Return |A ∩ B| / |A ∪ B| of two sorted arrays without repeats; 0 if both are empty."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / max(1, len(first) + len(second) - shared)


def _first_similar(
    i: int, candidates: Sequence[int], shingles: Shingles, threshold: float
) -> tuple[int, float] | None:
    own = shingles[i]
    for j in candidates:
        other = shingles[j]
        small, large = sorted((len(own), len(other)))
        if small >= threshold * large:
            similarity = jaccard(other, own)
            if similarity >= threshold:
                return j, similarity
    return None


def _shared_buckets(keys: Sequence[np.ndarray]) -> Iterator[tuple[int, list[int]]]:
    """Yield (position, its buckets of more than one document), ascending; a bucket is any integer."""
    members, buckets, used = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], 0
    for band in keys:
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        same = np.concatenate([[False], ordered[1:] == ordered[:-1], [False]])[-len(band) - 1 :]
        shared = same[1:] | same[:-1]
        bucket = used + np.cumsum(~same[:-1])[shared]
        members.append(order[shared].astype(np.int32))
        buckets.append(bucket.astype(np.int32) if used + len(band) < 1 << 31 else bucket)
        used += len(band)
    member, bucket = np.concatenate(members), np.concatenate(buckets)
    order = np.argsort(member, kind="stable")
    member, bucket = member[order], bucket[order]
    for start, end in itertools.pairwise(np.flatnonzero(np.diff(member, prepend=-1, append=-1))):
        yield int(member[start]), bucket[start:end].tolist()


class _KnownShingles:
    """The shingles of texts in memory."""

    def __init__(self, texts: Sequence[str]) -> None:
        starts = range(0, max(len(texts), 1), TEXTS_TOGETHER)
        self.blocks = [shingle_hashes(texts[start : start + TEXTS_TOGETHER]) for start in starts]

    def __getitem__(self, position: int) -> np.ndarray:
        block, row = divmod(position, TEXTS_TOGETHER)
        shingles, ends = self.blocks[block]
        return shingles[ends[row] : ends[row + 1]]


class _Distinct:
    """Each document's distinct shingles, sorted; those asked for lately are remembered."""

    def __init__(self, shingles: Shingles) -> None:
        self._shingles = shingles
        self._known: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, position: int) -> np.ndarray:
        if position in self._known:
            self._known.move_to_end(position)
            return self._known[position]
        self._known[position] = distinct = np.unique(self._shingles[position])
        self._bytes += distinct.nbytes
        while self._bytes > CACHE_BYTES and len(self._known) > 1:
            self._bytes -= self._known.popitem(last=False)[1].nbytes
        return distinct
