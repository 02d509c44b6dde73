r"""Near-duplicates by shared runs of 13 words.

A shingle is a run of 13 consecutive words (`\w+`, lower case; each character of a script without spaces is a
word, see `corpus.scripts`); a shorter text has one shingle, all of its words; a text without words has none.
That a 13-token rule drops near-duplicates is the paper's; its measure and threshold are unverified.

Every text is read once, in order. Its shingles go to a temporary file, 8 bytes each, in the folder TMPDIR,
so that memory holds those of one block of pairs, whatever the number of documents.
"""

import dataclasses
import functools
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.threads import map_threads
from sbp_bayes.corpus.minhash import mix
from sbp_bayes.corpus.scripts import RANGES

SHINGLE_WORDS = 13
CHARACTERS_TOGETHER, TEXT_BITS = 1 << 17, 10
SHINGLES_TOGETHER, TABLE_BITS = 1 << 22, 22
BATCHES_TOGETHER = 64

_NO_WORD, _PART_OF_WORD, _WORD_BY_ITSELF = range(3)
_ODD = 0x9E3779B97F4A7C15
_UTF_32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Overlap(ArrayRecord):
    """How many distinct shingles the two texts of each pair have, and share.

    Attributes:
        shared: |A ∩ B|, int64 (P,).
        first, second: |A| and |B|, int64 (P,).
    """

    shared: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def containment(self) -> np.ndarray:
        """|A ∩ B| / min(|A|, |B|), float64 (P,); 0 where a text has no words."""
        return self.shared / np.maximum(1, np.minimum(self.first, self.second))

    @property
    def jaccard(self) -> np.ndarray:
        """|A ∩ B| / |A ∪ B|, float64 (P,), never above the containment; 0 where neither text has words."""
        return self.shared / np.maximum(1, self.first + self.second - self.shared)


def containment(texts: Sequence[str], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return |A ∩ B| / min(|A|, |B|) of each pair's shingle sets: see `shingle_overlap`."""
    return shingle_overlap(texts, first, second).containment


def shingle_overlap(texts: Sequence[str], first: np.ndarray, second: np.ndarray) -> Overlap:
    """Count each pair's shingles. They are compared by 54 bits of a hash.

    Args:
        texts: all documents' texts.
        first: int64 (P,), indices into `texts`; ascending, or many shingles are read more than once.
        second: int64 (P,), likewise in any order; never a text's own index.

    Raises:
        OSError: the temporary folder is full.
    """
    used, rows = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = rows[: len(first)], rows[len(first) :]
    with tempfile.TemporaryFile() as file:
        sizes = _write_shingles(texts, used, file)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        file.flush()
        shared = np.zeros(len(first), np.int64)
        blocks = _blocks(sizes, left, right)
        counted = map_threads(lambda b: _shared(file, starts, left[b], right[b]), blocks)
        for block, counts in zip(blocks, counted, strict=True):
            shared[block] = counts
    return Overlap(shared=shared, first=sizes[left], second=sizes[right])


def _write_shingles(texts: Sequence[str], used: np.ndarray, file: IO[bytes]) -> np.ndarray:
    """Write each used text's distinct shingles, ascending, and return their numbers, int64 (U,)."""
    sizes = [np.zeros(0, np.int64)]
    batches = _batches(texts, used)
    while group := list(itertools.islice(batches, BATCHES_TOGETHER)):
        for shingles, counts in map_threads(_distinct_shingles, group):
            file.write(shingles.data)
            sizes.append(counts)
    return np.concatenate(sizes)


def _read_shingles(file: IO[bytes], starts: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return the shingles of these texts, which ascend, end to end.

    They are read, not mapped: pages of a mapped file would count as this process's memory.
    """
    ends = np.flatnonzero(np.diff(texts) != 1)  # texts that follow each other are one piece of the file
    firsts, lasts = texts[np.concatenate([[0], ends + 1])], texts[np.concatenate([ends, [len(texts) - 1]])]
    pieces = [np.zeros(0, np.uint64)]
    for start, end in zip(starts[firsts], starts[lasts + 1], strict=True):
        content = os.pread(file.fileno(), 8 * int(end - start), 8 * int(start))
        pieces.append(np.frombuffer(content, np.uint64))
    return np.concatenate(pieces)


def _batches(texts: Sequence[str], used: np.ndarray) -> Iterator[list[str]]:
    """Yield the used texts in lower case, in batches that fit into caches: a long text is one by itself."""
    batch: list[str] = []
    characters = 0
    for index in used:
        text = texts[index].lower()
        if batch and (characters + len(text) > CHARACTERS_TOGETHER or len(batch) == 1 << TEXT_BITS):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch


def _distinct_shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts' distinct shingles, each text's ascending, and how many each text has.

    Hashes are polynomials mod 2⁶⁴, of a word in its characters and of a shingle in its words; differences of
    prefix sums give them all at once.
    """
    ends_of_text = np.cumsum([len(text) + 1 for text in texts])
    characters = np.frombuffer("\n".join([*texts, ""]).encode(_UTF_32), np.uint32)
    kinds = _kinds_of_characters()[characters]
    is_edge = (kinds[1:] != kinds[:-1]) | (kinds[1:] == _WORD_BY_ITSELF)
    begins = np.flatnonzero(np.concatenate([[True], is_edge]) & (kinds != _NO_WORD))
    ends = np.flatnonzero(is_edge & (kinds[:-1] != _NO_WORD)) + 1  # the last character is a newline
    words = mix(_polynomials(characters, begins, ends))
    words_before = np.concatenate([[0], np.searchsorted(begins, ends_of_text)])
    num_words = np.diff(words_before)
    width = np.minimum(num_words, SHINGLE_WORDS)
    counts = np.where(width > 0, num_words - width + 1, 0)
    text = np.repeat(np.arange(len(texts)), counts)
    first = np.arange(len(text)) + np.repeat(words_before[:-1] - (np.cumsum(counts) - counts), counts)
    hashed = _polynomials(words, first, first + width[text])
    ordered = np.sort(
        (text.astype(np.uint64) << np.uint64(64 - TEXT_BITS)) | (hashed >> np.uint64(TEXT_BITS))
    )
    distinct = ordered[np.diff(ordered, prepend=~ordered[:1]) != 0]
    sizes = np.bincount((distinct >> np.uint64(64 - TEXT_BITS)).astype(np.int64), minlength=len(texts))
    return distinct & np.uint64((1 << 64 - TEXT_BITS) - 1), sizes


def _polynomials(values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return Σ values[i] · x^(i − begin) over begin ≤ i < end for each range, uint64."""
    powers, inverses = _powers(1 << len(values).bit_length())
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return (sums[ends] - sums[begins]) * inverses[begins]


@functools.lru_cache(maxsize=4)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first powers of an odd number mod 2⁶⁴ and of its inverse."""
    tables = []
    for base in (_ODD, pow(_ODD, -1, 1 << 64)):
        table = np.full(count, base, np.uint64)
        table[0] = 1
        tables.append(table.cumprod(dtype=np.uint64))
    return tables[0], tables[1]


@functools.cache
def _kinds_of_characters() -> np.ndarray:
    r"""Return of each code point whether `\w` matches it and whether it is a word, uint8 (1,114,112,)."""
    is_word = np.fromiter((chr(code).isalnum() for code in range(sys.maxunicode + 1)), bool)
    is_word[ord("_")] = True
    kinds = np.where(is_word, np.uint8(_PART_OF_WORD), np.uint8(_NO_WORD))
    for first, last in RANGES:
        kinds[first : last + 1][is_word[first : last + 1]] = _WORD_BY_ITSELF
    return kinds


def _blocks(sizes: np.ndarray, left: np.ndarray, right: np.ndarray) -> list[slice]:
    """Return slices of the pairs whose texts have at most `SHINGLES_TOGETHER` in all, or of one pair."""
    blocks, waiting = [], [slice(0, len(left))]
    while waiting:
        block = waiting.pop()
        texts = np.unique(np.concatenate([left[block], right[block]]))
        length = block.stop - block.start
        if length > 1 and sizes[texts].sum() > SHINGLES_TOGETHER:
            middle = block.start + length // 2
            waiting += [slice(middle, block.stop), slice(block.start, middle)]
        else:
            blocks.append(block)
    return blocks


def _shared(file: IO[bytes], starts: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return |A ∩ B| of each pair of texts, int64 (P,).

    A shingle of one text alone meets no other: without those little is left to compare.
    """
    from scipy import sparse

    texts, rows = np.unique(np.concatenate([left, right]), return_inverse=True)
    ends = np.cumsum(starts[texts + 1] - starts[texts])
    own = _read_shingles(file, starts, texts)
    kept, columns, num_columns = _common(own)
    pointers = np.searchsorted(kept, np.concatenate([[0], ends]))
    ones = np.ones(len(kept), np.int32)
    incidence = sparse.csr_array((ones, columns, pointers), shape=(len(texts), max(1, num_columns)))
    first, second = rows[: len(left)], rows[len(left) :]
    counts = np.diff(pointers)
    asked = np.flatnonzero((counts[first] > 0) & (counts[second] > 0))
    work = np.cumsum(counts[first[asked]] + counts[second[asked]]) // SHINGLES_TOGETHER
    shared = np.zeros(len(left), np.int64)
    for part in np.split(asked, np.flatnonzero(np.diff(work)) + 1):
        shared[part] = incidence[first[part]].multiply(incidence[second[part]]).sum(axis=1)
    return shared


def _common(shingles: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return where the shingles are that occur more than once, which one each is, and their number."""
    ordered = np.sort(shingles)
    common = ordered[1:][ordered[1:] == ordered[:-1]]
    common = common[np.diff(common, prepend=~common[:1]) != 0]
    # A search for each shingle would take most of the time: one look at a small table rules out nearly all.
    shift = np.uint64(64 - TEXT_BITS - TABLE_BITS)
    table = np.zeros(1 << TABLE_BITS, bool)
    table[common >> shift] = True
    likely = np.flatnonzero(table[shingles >> shift])
    places = np.searchsorted(common, shingles[likely])
    is_common = common[np.minimum(places, len(common) - 1)] == shingles[likely]
    return likely[is_common], places[is_common], len(common)
