"""Exact and near duplicates: content hashes, then MinHash-LSH whose candidates are verified exactly."""

import dataclasses
import functools
import hashlib
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.corpus.crowds import Common, Rarest, RarestIndex, sampled
from sbp_bayes.corpus.minhash import Bands, Shingles, band_keys, shingle_hashes, sorted_set
from sbp_bayes.corpus.records import Document

TEXTS_TOGETHER = 1024
CACHE_BYTES = 1 << 26
COMPARED_AT_ONCE = 64
CROWD = 16
"""Most documents of a bucket that are all compared; those of larger ones meet by their rarest shingles."""

Near = tuple[int, int, float]
"""A document that is removed, the earlier one that is kept, and their similarity (NaN if not computed)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DedupReport:
    """What de-duplication removed.

    Attributes:
        num_documents: documents looked at.
        exact, near: documents removed as exact and as near duplicates of an earlier, kept one.
        duplicate_of: position of each removed document → position of the kept one it duplicates.
        exact_positions: positions of the exact duplicates among them.
    """

    num_documents: int
    exact: int
    near: int
    duplicate_of: Mapping[int, int]
    exact_positions: frozenset[int]

    def of_first(self, number: int) -> "DedupReport":
        """Return the report on the first `number` documents: what removes a document comes before it."""
        removed = {late: early for late, early in self.duplicate_of.items() if late < number}
        exact = frozenset(position for position in self.exact_positions if position < number)
        return DedupReport(
            num_documents=min(number, self.num_documents),
            exact=len(exact),
            near=len(removed) - len(exact),
            duplicate_of=removed,
            exact_positions=exact,
        )

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
    for parameters and S-curve), or, where more than `CROWD` documents share a band, from `corpus.crowds`: a
    pair at the threshold is missed with probability below 1.1e-3, a more similar one with less.

    Args:
        documents: documents or their texts; of texts on disk (`Corpus.texts`) a block is read at a time.
        threshold: Jaccard similarity from which two documents are near duplicates; 1 still removes texts
            that differ in case or spacing alone.
        seed: of the MinHash permutations.
        verify: compute candidates' similarity exactly; False trusts bands that are narrower for it.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    require(0 < threshold <= 1, "dedup_threshold", threshold, "in (0, 1]")
    digests, blank = [np.zeros((0, 2), np.uint64)], [np.zeros(0, bool)]
    for texts in _in_blocks(documents, range(len(documents))):
        digests.append(content_digests(texts))
        blank.append(np.array([not text.strip() for text in texts]))
    survivors = exact_survivors(np.concatenate(digests))
    is_exact = survivors != np.arange(len(survivors))
    unique = np.flatnonzero(~is_exact & ~np.concatenate(blank)).tolist()
    bands = Bands.at(threshold, verified=verify)
    keys = [np.zeros((0, bands.count), np.uint64)]
    for texts in _in_blocks(documents, unique):
        keys.append(band_keys(*shingle_hashes(texts), bands, seed))
    known = _Shingles(documents, unique)
    meetings = Meetings.of(list(np.concatenate(keys).T), crowd=CROWD if verify else None)
    crowd = np.flatnonzero(meetings.crowded).tolist()
    common = Common.of(known.distinct(sampled(crowd)))
    rarest = Rarest.of(known.distinct(crowd), common, threshold)
    near = NearDuplicates(meetings, rarest, known, threshold, verify=verify)
    for late, early, _ in near.block(0, len(unique)):
        survivors[unique[late]] = unique[early]
    # An exact duplicate of a document that is itself removed belongs to that one's survivor.
    survivors = survivors[survivors]
    kept = np.flatnonzero(survivors == np.arange(len(survivors))).tolist()
    removed = np.flatnonzero(survivors != np.arange(len(survivors))).tolist()
    exact_positions = frozenset(np.flatnonzero(is_exact).tolist())
    report = DedupReport(
        num_documents=len(survivors),
        exact=len(exact_positions),
        near=len(removed) - len(exact_positions),
        duplicate_of=dict(zip(removed, survivors[removed].tolist(), strict=True)),
        exact_positions=exact_positions,
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


def row_dtype(number: int) -> np.dtype:
    """Return the integers that number so many things: int32 where they do, else int64."""
    return np.dtype(np.int32 if number <= 1 << 31 else np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Meetings:
    """Which documents share a band with another one.

    Memory: at most 24 bytes for each band that a document shares with another one.

    Attributes:
        members, buckets: a document and a bucket that it is in, ascending by document, int64 or int32 (M,);
            a bucket holds the documents of one key of one band, two to `CROWD`.
        crowded: whether a document is in a larger bucket, bool (N,).
    """

    members: np.ndarray
    buckets: np.ndarray
    crowded: np.ndarray

    @classmethod
    def of(cls, keys: Sequence[np.ndarray], *, crowd: int | None) -> "Meetings":
        """Sort documents by their keys.

        Args:
            keys: uint64 (N,) for each band, as of `band_keys`; one is held at a time.
            crowd: larger buckets make a document crowded; None takes buckets of any size.
        """
        members, buckets, used = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], 0
        crowded = np.zeros(0, bool)
        for band in keys:
            crowded = np.zeros(len(band), bool) if used == 0 else crowded
            order = np.argsort(band, kind="stable")
            ordered = band[order]
            starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(band)]
            number = np.cumsum(starts) - 1
            size = np.bincount(number)[number]
            is_crowd = size > (len(band) if crowd is None else crowd)
            crowded[order[is_crowd]] = True
            shared = (size > 1) & ~is_crowd
            bucket = used + number[shared]
            members.append(order[shared].astype(row_dtype(len(band))))
            buckets.append(bucket.astype(row_dtype(used + len(band))))
            used += len(band)
        member, bucket = np.concatenate(members), np.concatenate(buckets)
        order = np.argsort(member, kind="stable")
        return cls(member[order], bucket[order], crowded)


class NearDuplicates:
    """Finds near duplicates block by block of documents, in order.

    Memory: `Meetings`, 460 bytes for each crowded document and some 16 for each of its rarest shingles, up to
    4 KiB for each document in the tables of `SketchIndex`, and a cache of shingles of 64 MiB.
    """

    def __init__(
        self,
        meetings: Meetings,
        rarest: Rarest,
        shingles: Shingles,
        threshold: float,
        *,
        verify: bool = True,
    ) -> None:
        """Begin before the first document.

        Args:
            meetings: of all documents.
            rarest: of those that are crowded, in order.
            shingles: asked for documents that meet another one.
            threshold: lowest Jaccard similarity of a near duplicate.
            verify: compute the similarity; False takes the first document that shares a band.
        """
        self._meetings, self._threshold, self._verify = meetings, threshold, verify
        self._distinct = Distinct(shingles)
        self._kept_in: defaultdict[int, list[int]] = defaultdict(list)
        self._crowd = np.flatnonzero(meetings.crowded)
        self._index = RarestIndex(rarest, threshold)

    def block(self, start: int, stop: int, known: Sequence[Near] | None = None) -> list[Near]:
        """Return (removed, kept, similarity) of start ≤ removed < stop; kept is the smallest that is similar.

        Args:
            start, stop: the first document, which is the last block's `stop`, and the one behind the last.
            known: what this returned before, which then is not searched for again.
        """
        removed = None if known is None else {near[0] for near in known}
        found: list[Near] = []
        for i, buckets, row in self._meeting(start, stop):
            if removed is None:
                similar = self._first_similar(i, buckets, row)
                if similar is not None:
                    found.append((i, *similar))
                    continue
            elif i in removed:
                continue
            for bucket in buckets:
                self._kept_in[bucket].append(i)
            if row is not None:
                self._index.add(row)
        return found if known is None else list(known)

    def _meeting(self, start: int, stop: int) -> Iterator[tuple[int, list[int], int | None]]:
        """Yield (document, its buckets, its row among the crowded) of those that may meet another one."""
        first, last = np.searchsorted(self._crowd, [start, stop])
        rows = dict(zip(self._crowd[first:last].tolist(), range(first, last), strict=True))
        begin, end = np.searchsorted(self._meetings.members, [start, stop])
        members, buckets = self._meetings.members[begin:end], self._meetings.buckets[begin:end]
        meeting = np.union1d(members, self._crowd[first:last])
        begins, ends = np.searchsorted(members, meeting), np.searchsorted(members, meeting, side="right")
        for i, k, m in zip(meeting.tolist(), begins, ends, strict=True):
            yield i, buckets[k:m].tolist(), rows.get(i)

    def _first_similar(self, i: int, buckets: list[int], row: int | None) -> tuple[int, float] | None:
        candidates = {j for bucket in buckets for j in self._kept_in[bucket]}
        if row is not None:  # crowded ones meet each other by their rarest shingles alone
            candidates = {j for j in candidates if not self._meetings.crowded[j]}
            candidates.update(self._crowd[self._index.candidates(row)].tolist())
        if not candidates:
            return None
        if not self._verify:
            return min(candidates), np.nan
        own, ordered = self._distinct[i], sorted(candidates)
        for start in range(0, len(ordered), COMPARED_AT_ONCE):
            others = [(j, self._distinct[j]) for j in ordered[start : start + COMPARED_AT_ONCE]]
            others = [(j, other) for j, other in others if self._may_be_similar(len(own), len(other))]
            similarities = jaccard(own, [other for _, other in others])
            for (j, _), similarity in zip(others, similarities.tolist(), strict=True):
                if similarity >= self._threshold:
                    return j, similarity
        return None

    def _may_be_similar(self, one: int, other: int) -> bool:
        return min(one, other) >= self._threshold * max(one, other)


def jaccard(own: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Return |A ∩ B| / |A ∪ B| of `own` with each of `others`, float64.

    Args:
        own: distinct shingles, ascending, uint64 (A,), one at least.
        others: likewise.
    """
    sizes = np.array([len(other) for other in others], np.int64)
    together = np.concatenate([own[:0], *others])
    places = np.minimum(np.searchsorted(own, together), len(own) - 1)
    before = np.concatenate([[0], np.cumsum(own[places] == together)])
    ends = np.cumsum(sizes)
    shared = before[ends] - before[ends - sizes]
    return shared / (len(own) + sizes - shared)


def _in_blocks(documents: Sequence[Document | str], positions: Sequence[int]) -> Iterator[list[str]]:
    """Yield the texts of the documents at `positions`, some at a time."""
    for start in range(0, len(positions), TEXTS_TOGETHER):
        block = [documents[i] for i in positions[start : start + TEXTS_TOGETHER]]
        yield [d if isinstance(d, str) else d.text for d in block]


class _Shingles:
    """The shingles of the documents at `rows`, computed when they are asked for."""

    def __init__(self, documents: Sequence[Document | str], rows: Sequence[int]) -> None:
        self._documents, self._rows = documents, rows

    def __getitem__(self, position: int) -> np.ndarray:
        (texts,) = _in_blocks(self._documents, [self._rows[position]])
        return shingle_hashes(texts)[0]

    def distinct(self, positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield each one's distinct shingles, ascending."""
        for texts in _in_blocks(self._documents, [self._rows[i] for i in positions]):
            shingles, ends = shingle_hashes(texts)
            for begin, end in itertools.pairwise(ends):
                yield sorted_set(shingles[begin:end])


class Distinct:
    """Each document's distinct shingles, sorted; those asked for lately are remembered."""

    def __init__(self, shingles: Shingles) -> None:
        self._shingles = shingles
        self._known: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, position: int) -> np.ndarray:
        if position in self._known:
            self._known.move_to_end(position)
            return self._known[position]
        self._known[position] = own = sorted_set(self._shingles[position])
        self._bytes += own.nbytes
        while self._bytes > CACHE_BYTES and len(self._known) > 1:
            self._bytes -= self._known.popitem(last=False)[1].nbytes
        return own
