"""Sets that may be similar, found by sketches of 2,048 bits where most sets share most of their members.

Each member of a set flips one bit, so that the sketches of two sets differ in at most |A Δ B| bits (Sandes,
Teodoro and Melo 2020), and similar sets differ in few. While sets are few, each is compared with all, the
beginnings of sketches first. When they are many, those are compared that agree on all bits of a random
selection, in one of several tables (bit sampling: Indyk and Motwani 1998): what nearly all sets share costs
nothing there, and whether two agree depends on |A Δ B| alone. A similar pair is missed with probability
`BEGINNING_MISSES` + `TABLE_MISSES` at most.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np

from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.corpus.minhash import sorted_set

SKETCH_BITS = 2048
BEGINNING = 16
"""Words of 64 bits of a sketch that are compared first."""
BEGINNING_MISSES = 1e-4
"""Probability that as many different members as similar sets may have crowd into the beginning."""
MOST_TABLES = 512
"""Tables for 2^17 sets or more; fewer than 2^n sets have 2^(n/2): tables and what they find cost alike."""
TABLE_MISSES = 1e-3
"""Probability that two sets at the threshold agree in no table; it falls steeply above the threshold."""
FEW = 1 << 12
"""Sets that are compared with each one; more are put into tables."""
BATCH = 1 << 10
"""Sets that are looked up in the tables together, and compared with each other."""
SKETCHES_TOGETHER = 1 << 12
ADDED_TOGETHER = 1 << 14
SCANS_PER_HIT = 4
"""Sketches that are compared one after the other in the time of one that a table finds."""

_SLACK = 1e-9
"""Of floating point, on the side of more candidates."""
_WORDS = SKETCH_BITS // 64
_KEY = np.uint64(0xFFFFFFFF00000000)
"""Of an entry of a table: the half that is the key; the other half is a position."""


def sketch(shingles: np.ndarray) -> np.ndarray:
    """Return the parity of the number of distinct `shingles` on each bit, uint64 (SKETCH_BITS / 64,)."""
    numbers = np.bincount((shingles % SKETCH_BITS).astype(np.int64), minlength=SKETCH_BITS)
    return np.packbits((numbers & 1).astype(bool)).view(np.uint64)


class SketchIndex:
    """Finds sets that may be similar to one, among those that were added.

    Rows number the sets. What is found depends on the sets alone, not on where a search was begun again.
    Memory: 152 bytes for each set, and 8 for each table that it is in; there are none for `FEW` or less.
    """

    def __init__(self, sketches: np.ndarray, sizes: np.ndarray, asked: np.ndarray, threshold: float) -> None:
        """Begin before the first set.

        Args:
            sketches: of all sets, as `sketch` returns them, uint64 (C, SKETCH_BITS / 64).
            sizes: number of members of each set, int64 (C,).
            asked: whether `candidates` may be called for a set, bool (C,).
            threshold: lowest Jaccard similarity of similar sets.
        """
        self._sketches, self._sizes, self._asked, self._threshold = sketches, sizes, asked, threshold
        self._added, self._num_added = np.zeros(len(sizes), np.int64), 0
        self._added_sizes = np.zeros(len(sizes), np.int64)
        self._beginnings = np.zeros((BEGINNING, len(sizes)), np.uint64)
        self._beginning_limits = _beginning_limits()
        self._classes = _size_classes(sizes, threshold)
        self._tables: dict[int, _Tables] = {}
        self._num_tables, self._num_in_tables = 0, 0
        self._batch, self._scan_from = -1, 0
        self._hits: dict[int, np.ndarray] = {}
        self._scan_all: set[int] = set()

    def __len__(self) -> int:
        """Return how many sets were added."""
        return self._num_added

    def add(self, row: int) -> None:
        """Let `row`, larger than those before, be found from now on."""
        self._added[self._num_added], self._added_sizes[self._num_added] = row, self._sizes[row]
        self._beginnings[:, self._num_added] = self._sketches[row, :BEGINNING]
        self._num_added += 1

    def candidates(self, row: int) -> np.ndarray:
        """Return the added rows that may be similar to `row`, int64, ascending."""
        if row // BATCH != self._batch:
            self._begin(row // BATCH)
        found = self._scan(row, 0 if row in self._scan_all else self._scan_from)
        if row in self._hits:
            found = sorted_set(np.concatenate([self._hits[row], found]))
        return self.near(row, found)

    def near(self, row: int, positions: np.ndarray) -> np.ndarray:
        """Return the rows of those sets that may be similar to `row`.

        Args:
            row: of the set.
            positions: of the others, each its number in the order of addition.
        """
        rows = self._added[positions]
        different = np.bitwise_count(self._sketches[rows] ^ self._sketches[row]).sum(axis=1, dtype=np.int64)
        return rows[different <= self._most_different(self._sizes[rows] + self._sizes[row])]

    def _most_different(self, sizes: np.ndarray) -> np.ndarray:
        """Return |A Δ B| = |A| + |B| − 2 |A ∩ B| ≤ (1 − t) / (1 + t) (|A| + |B|) of similar sets."""
        return np.floor((1 - self._threshold) / (1 + self._threshold) * sizes + _SLACK).astype(np.int64)

    def _most_in_beginning(self, sizes: np.ndarray) -> np.ndarray:
        return self._beginning_limits[np.minimum(self._most_different(sizes), SKETCH_BITS)]

    def _scan(self, row: int, start: int) -> np.ndarray:
        """Return the positions from `start` on of sets whose sketches begin as those of similar ones may."""
        own, size, found = self._sketches[row, :BEGINNING, None], self._sizes[row], [np.zeros(0, np.int64)]
        for begin in range(start, self._num_added, SKETCHES_TOGETHER):
            part = slice(begin, min(begin + SKETCHES_TOGETHER, self._num_added))
            different = np.bitwise_count(self._beginnings[:, part] ^ own).sum(axis=0, dtype=np.uint16)
            largest = min(self._added_sizes[part].max(), int(size / self._threshold + _SLACK))
            found.append(begin + np.flatnonzero(different <= self._most_in_beginning(size + largest)))
        return np.concatenate(found)

    def _begin(self, batch: int) -> None:
        """Look the sets of a batch up in the tables of those that were added before it, if they are many."""
        first, stop = batch * BATCH, (batch + 1) * BATCH
        before = int(np.searchsorted(self._added[: self._num_added], first))
        self._batch, self._scan_from = batch, before if before >= FEW else 0
        self._hits, self._scan_all = {}, set()
        if before < FEW:
            return
        num_tables = min(math.isqrt(1 << before.bit_length()), MOST_TABLES)
        if num_tables != self._num_tables:
            self._num_tables, self._num_in_tables, self._tables = num_tables, 0, {}
        for begin in range(self._num_in_tables, before, ADDED_TOGETHER):
            self._put_into_tables(np.arange(begin, min(begin + ADDED_TOGETHER, before)))
        self._num_in_tables = before
        rows = first + np.flatnonzero(self._asked[first:stop])
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for tables in self._tables.values():
            found += self._look_up(tables, rows[tables.may_be_similar(self._sizes[rows])])
        queries, positions = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(queries, kind="stable")
        asked, starts = np.unique(queries[order], return_index=True)
        self._hits = dict(zip(asked.tolist(), np.split(positions[order], starts[1:]), strict=False))

    def _put_into_tables(self, positions: np.ndarray) -> None:
        rows = self._added[positions]
        for number in np.unique(self._classes[rows]).tolist():
            members = self._classes[rows] == number
            if number not in self._tables:
                sizes = self._sizes[self._classes == number]
                asked = self._sizes[self._asked].max(initial=0)
                self._tables[number] = _Tables(
                    self._num_tables, int(sizes.min()), int(sizes.max()), int(asked), self._threshold
                )
            self._tables[number].add(self._sketches[rows[members]], positions[members])

    def _look_up(self, tables: "_Tables", rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows and positions, as many, of sets that agree in a table and whose sketches begin alike."""
        if not len(rows):
            return
        ranges = tables.ranges(self._sketches[rows], int(self._sizes[rows].max()))
        many = (ranges[:, 1] - ranges[:, 0]).sum(axis=0) * SCANS_PER_HIT > len(tables)
        self._scan_all.update(rows[many].tolist())
        rows, ranges = rows[~many], ranges[:, :, ~many]
        beginnings = np.ascontiguousarray(self._sketches[rows, :BEGINNING].T)
        for table, (starts, ends) in enumerate(ranges):
            queries = np.repeat(np.arange(len(rows)), ends - starts)
            before = np.cumsum(ends - starts) - ends
            positions = tables.positions(table, np.arange(len(queries)) - before[queries])
            different = np.zeros(len(queries), np.uint16)
            for own, others in zip(beginnings, self._beginnings, strict=True):
                different += np.bitwise_count(own[queries] ^ others[positions])
            sizes = self._sizes[rows[queries]] + self._added_sizes[positions]
            alike = different <= self._most_in_beginning(sizes)
            yield rows[queries[alike]], positions[alike]


class _Tables:
    """Sets of about one size, in each table sorted by a hash of the bits that the table selects."""

    def __init__(
        self, number: int, smallest: int, largest: int, largest_query: int, threshold: float
    ) -> None:
        """Choose the bits: as large a share as so many tables miss with `TABLE_MISSES`.

        Args:
            number: of tables.
            smallest, largest: sizes of the sets.
            largest_query: size of the largest set that is looked up.
            threshold: lowest Jaccard similarity of similar sets.
        """
        self._smallest, self._largest, self._threshold = smallest, largest, threshold
        random = numpy_generator(0, "sketches", number, largest)
        agree = 1 - TABLE_MISSES ** (1 / number)
        self._log_equal = math.log(agree) / max(
            self._most_different(largest_query), 1
        )  # of one bit or member
        selected = random.random((number, SKETCH_BITS)) < 1 - math.exp(self._log_equal)
        self._masks = np.packbits(selected, axis=1).view(np.uint64)
        self._factors = random.integers(1 << 63, size=(number, _WORDS), dtype=np.uint64) * 2 + np.uint64(1)
        self._entries = [np.zeros(0, np.uint64)] * number

    def __len__(self) -> int:
        return len(self._entries[0])

    def may_be_similar(self, sizes: np.ndarray) -> np.ndarray:
        """Return which of `sizes` a set that is similar to one of these may have."""
        return (self._threshold * sizes <= self._largest + _SLACK) & (
            sizes >= self._threshold * self._smallest - _SLACK
        )

    def add(self, sketches: np.ndarray, positions: np.ndarray) -> None:
        """Add sets by their sketches, uint64 (N, SKETCH_BITS / 64), and positions, int64 (N,)."""
        for table, keys in enumerate(self._keys(sketches, len(self._entries))):
            entries = np.concatenate([self._entries[table], np.sort(keys | positions.astype(np.uint64))])
            self._entries[table] = np.sort(entries, kind="stable")  # merges the two, which are sorted

    def ranges(self, sketches: np.ndarray, largest_query: int) -> np.ndarray:
        """Return the entries of each table that have the key of each set, int64 (tables, 2, N).

        As many tables are asked as similar sets of at most `largest_query` members need.
        """
        agree = math.exp(self._log_equal * self._most_different(largest_query))
        number = (
            min(math.ceil(math.log(TABLE_MISSES) / math.log1p(-agree)), len(self._entries))
            if agree < 1
            else 1
        )
        found = np.empty((number, 2, len(sketches)), np.int64)
        for table, keys in enumerate(self._keys(sketches, number)):
            found[table, 0] = np.searchsorted(self._entries[table], keys)
            found[table, 1] = np.searchsorted(self._entries[table], keys | ~_KEY, side="right")
        return found

    def positions(self, table: int, entries: np.ndarray) -> np.ndarray:
        """Return the positions of a table's entries, int64."""
        return (self._entries[table][entries] & ~_KEY).astype(np.int64)

    def _most_different(self, query: int) -> int:
        query = min(query, int(self._largest / self._threshold + _SLACK))
        return math.floor((1 - self._threshold) / (1 + self._threshold) * (self._largest + query) + _SLACK)

    def _keys(self, sketches: np.ndarray, number: int) -> Iterator[np.ndarray]:
        words = np.ascontiguousarray(sketches.T)
        for masks, factors in zip(self._masks[:number], self._factors[:number], strict=True):
            keys, part = np.zeros((2, len(sketches)), np.uint64)
            for word, mask, factor in zip(words, masks, factors, strict=True):
                np.bitwise_and(word, mask, out=part)
                np.multiply(part, factor, out=part)
                keys += part
            yield keys & _KEY


def _size_classes(sizes: np.ndarray, threshold: float) -> np.ndarray:
    """Number sizes on a logarithmic scale; within a class they differ by 1 / threshold, or 1.1, at most."""
    ratio = max(1 / threshold, 1.1)
    return np.floor(np.log(sizes) / math.log(ratio)).astype(np.int64)


@functools.cache
def _beginning_limits() -> np.ndarray:
    """Return how many of n differing members fall into the beginning at most, for n = 0, 1, …, SKETCH_BITS.

    More do so with probability below `BEGINNING_MISSES`: of each member its hash decides, a binomial.
    """
    share, limits = BEGINNING / _WORDS, np.zeros(SKETCH_BITS + 1, np.uint16)
    probabilities = np.zeros(SKETCH_BITS + 1)  # of 0, 1, … members of n
    probabilities[0] = 1
    for n in range(SKETCH_BITS + 1):
        limits[n] = np.searchsorted(np.cumsum(probabilities[: n + 1]), 1 - BEGINNING_MISSES)
        probabilities[1:] = share * probabilities[:-1] + (1 - share) * probabilities[1:]
        probabilities[0] *= 1 - share
    return limits
