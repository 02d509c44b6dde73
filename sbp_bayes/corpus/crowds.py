"""Near duplicates among many documents of one template, found by their rarest shingles.

Bands meet by any shingles, so documents that share a template meet nearly all of each other, similar or not.
Of two sets of Jaccard similarity t or more, however, the rarest shingle that they share is among the first
(1 − t) of each in order of rarity, whatever that order is (prefix filtering: Bayardo, Ma and Srikant 2007;
positions and sizes: Xiao, Wang, Lin and Yu 2008). A document's own shingles come first in that order, the
template's last, so that documents that are not similar seldom meet, and no similar pair is missed. Where even
a document's rarest shingles are those of many others, as of a template whose slots hold few values, it is
compared by its sketch alone (see `corpus.sketches`).
"""

import bisect
import dataclasses
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sbp_bayes.corpus.minhash import sorted_set
from sbp_bayes.corpus.sketches import SKETCH_BITS, SketchIndex, sketch

LISTED = 1 << 11
"""Most occurrences of a document's rarest shingles at which their lists are read."""
SAMPLED_DOCUMENTS = 1 << 13
"""Documents whose shingles are counted: the order of rarity is an estimate, and any order is right."""

_SLACK = 1e-9
"""Of floating point, on the side of more candidates."""
_POSITION_BITS = 40
_LARGEST = (1 << 63 - _POSITION_BITS) - 1
"""Most shingles of a document that the index tells from more."""


@dataclasses.dataclass(frozen=True, eq=False)
class Common:
    """Shingles that several documents of a sample have.

    Attributes:
        shingles: uint64 (S,), ascending.
        counts: documents that have each, int64 (S,).
    """

    shingles: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, distinct: Iterable[np.ndarray]) -> "Common":
        """Count the shingles of documents, each document's distinct."""
        together = np.concatenate([np.zeros(0, np.uint64), *distinct])
        shingles, counts = np.unique(together, return_counts=True)
        return cls(shingles[counts > 1], counts[counts > 1])

    def rarest(self, distinct: np.ndarray, threshold: float) -> np.ndarray:
        """Return the first shingles of a document, rarest first, among which a similar document shares one.

        Args:
            distinct: uint64 (A,), the document's shingles, ascending.
            threshold: Jaccard similarity of similar documents.
        """
        counts = np.zeros(len(distinct), np.int64)
        if len(self.shingles):
            places = np.minimum(np.searchsorted(self.shingles, distinct), len(self.shingles) - 1)
            counts = np.where(self.shingles[places] == distinct, self.counts[places], 0)
        number = len(distinct) - math.ceil(threshold * len(distinct) - _SLACK) + 1
        return distinct[np.argsort(counts, kind="stable")[:number]]


@dataclasses.dataclass(frozen=True, eq=False)
class Rarest:
    """The rarest shingles of C documents.

    Attributes:
        sizes: distinct shingles of each document, int64 (C,).
        shingles: the rarest of all documents, each document's rarest first, end to end, uint64 (R,).
        ends: document c has shingles[ends[c]:ends[c + 1]], int64 (C + 1,).
        sketches: of each document, as `sketch` returns them, uint64 (C, SKETCH_BITS / 64).
    """

    sizes: np.ndarray
    shingles: np.ndarray
    ends: np.ndarray
    sketches: np.ndarray

    @classmethod
    def of(cls, distinct: Iterable[np.ndarray], common: Common, threshold: float) -> "Rarest":
        """Choose the rarest of each document's distinct shingles."""
        sizes, chosen, sketches = [], [np.zeros(0, np.uint64)], [np.zeros((0, SKETCH_BITS // 64), np.uint64)]
        for shingles in distinct:
            sizes.append(len(shingles))
            chosen.append(common.rarest(shingles, threshold))
            sketches.append(sketch(shingles)[None])
        return cls(
            sizes=np.array(sizes, np.int64),
            shingles=np.concatenate(chosen),
            ends=np.cumsum([len(part) for part in chosen]),
            sketches=np.concatenate(sketches),
        )

    @classmethod
    def join(cls, parts: Iterable["Rarest"]) -> "Rarest":
        """Return the documents of one part or more, in order."""
        parts = list(parts)
        numbers = np.concatenate([np.diff(part.ends) for part in parts])
        return cls(
            sizes=np.concatenate([part.sizes for part in parts]),
            shingles=np.concatenate([part.shingles for part in parts]),
            ends=np.concatenate([[0], np.cumsum(numbers)]),
            sketches=np.concatenate([part.sketches for part in parts]),
        )


class RarestIndex:
    """Finds documents that may be similar to one, among those that were added.

    Rows are numbers of documents of `Rarest`. A document whose rarest shingles occur more than `LISTED` times
    among all documents' rarest is compared by sketches; shingles of such documents alone, or of a single
    document, are never looked at.
    """

    def __init__(self, rarest: Rarest, threshold: float) -> None:
        numbers = np.diff(rarest.ends)
        occurrences = _occurrences(rarest.shingles)
        before = np.concatenate([[0], np.cumsum(occurrences)])
        self._listed = before[rarest.ends[1:]] - before[rarest.ends[:-1]] <= LISTED
        looked_at = np.isin(rarest.shingles, rarest.shingles[np.repeat(self._listed, numbers)])
        shared = np.flatnonzero((occurrences > 1) & looked_at)
        self._shingles = rarest.shingles[shared]
        self._starts = np.searchsorted(shared, rarest.ends)
        owners = np.repeat(np.arange(len(rarest.sizes)), numbers)[shared]
        # |A ∩ B| ≤ |B| − j where the rarest shingle that they share is B's j-th: A can be so large at most.
        largest = (rarest.sizes[owners] - (1 + threshold) * (shared - rarest.ends[owners])) / threshold
        self._largest_partner = np.clip(np.floor(largest + _SLACK), 0, _LARGEST).astype(np.int64)
        self._lists: dict[int, array[int]] = {}
        self._sizes = rarest.sizes
        self._sketches = SketchIndex(rarest.sketches, rarest.sizes, ~self._listed, threshold)

    def candidates(self, row: int) -> np.ndarray:
        """Return the added rows that may be similar to `row`, int64, ascending."""
        if not self._listed[row]:
            return self._sketches.candidates(row)
        last = (_LARGEST - min(int(self._sizes[row]), _LARGEST) + 1) << _POSITION_BITS
        lists = [self._lists[shingle] for _, shingle in self._entries(row) if shingle in self._lists]
        found = [entries[: bisect.bisect_left(entries, last)].tobytes() for entries in lists]
        positions = np.frombuffer(b"".join(found), np.int64) & ((1 << _POSITION_BITS) - 1)
        return self._sketches.near(row, sorted_set(positions))

    def add(self, row: int) -> None:
        """Let `row`, larger than those before, be found from now on."""
        for largest, shingle in self._entries(row):
            entries = self._lists.setdefault(shingle, array("q"))
            bisect.insort(entries, (_LARGEST - largest) << _POSITION_BITS | len(self._sketches))
        self._sketches.add(row)

    def _entries(self, row: int) -> Iterator[tuple[int, int]]:
        part = slice(self._starts[row], self._starts[row + 1])
        return zip(self._largest_partner[part].tolist(), self._shingles[part].tolist(), strict=True)


def sampled(crowd: Sequence[int]) -> list[int]:
    """Return the documents among `crowd` whose shingles are counted: evenly spaced ones."""
    number = min(len(crowd), SAMPLED_DOCUMENTS)
    return [crowd[i * len(crowd) // number] for i in range(number)]


def _occurrences(values: np.ndarray) -> np.ndarray:
    """Return how often each of `values` occurs among them, int64."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], values[order][1:] != values[order][:-1]])[: len(values)])
    numbers = np.diff(np.concatenate([starts, [len(values)]]))
    occurrences = np.empty(len(values), np.int64)
    occurrences[order] = np.repeat(numbers, numbers)
    return occurrences
