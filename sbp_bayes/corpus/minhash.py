"""Word shingles, their MinHash signatures, and the bands in which similar documents meet."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sbp_bayes.corpus.scripts import with_spaces

SHINGLE_WORDS = 5
NUM_PERMUTATIONS = 128
MISS_PROBABILITY = 1e-3
LONGEST_WORD = 64
"""Bytes; a longer word is hashed by itself."""

_IS_SPACE = np.isin(np.arange(256), np.frombuffer(bytes([*range(9, 14), *range(28, 33)]), np.uint8))
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


@dataclasses.dataclass(frozen=True)
class Bands:
    """Locality-sensitive hashing: `count` bands of `rows` of the `NUM_PERMUTATIONS` signature values.

    Two documents are candidates where they share all rows of a band. At Jaccard similarity J one row
    agrees with probability J, so they meet with the S-curve 1 − (1 − J^rows)^count. At the default
    threshold 0.8 (25 bands of 5 rows) that is 0.02 at J = 0.25, 0.23 at 0.4, 0.55 at 0.5, 0.87 at 0.6,
    0.99 at 0.7, and 0.99995 at 0.8: nothing similar is missed, and the exact Jaccard similarity turns
    away the many candidates that are not. Without that verification the curve alone decides, and its
    steep part, (1 / count)^(1 / rows), belongs at the threshold: 11 bands of 11 rows at 0.8, which take
    0.04 at J = 0.6, 0.20 at 0.7, 0.63 at 0.8 and 0.99 at 0.9.
    """

    rows: int
    count: int

    @classmethod
    def at(cls, threshold: float, *, verified: bool = True) -> "Bands":
        """Return the bands for a Jaccard `threshold` in (0, 1].

        Args:
            threshold: similarity from which documents are near duplicates.
            verified: as many rows as miss a pair at the threshold with probability below 1e-3, since
                candidates will be verified; else the number whose S-curve is steepest at the threshold.
        """
        choices = [cls(rows, NUM_PERMUTATIONS // rows) for rows in range(1, NUM_PERMUTATIONS + 1)]
        if verified:
            sure = (b for b in choices if 1 - b.probability(threshold) <= MISS_PROBABILITY)
            return max(sure, key=lambda b: b.rows, default=choices[0])
        return min(choices, key=lambda b: abs((1 / b.count) ** (1 / b.rows) - threshold))

    def probability(self, jaccard: float) -> float:
        """Return the probability that documents of this similarity share a band."""
        return float(1 - (1 - jaccard**self.rows) ** self.count)


class Shingles(Protocol):
    """Documents' shingles by position."""

    def __getitem__(self, position: int) -> np.ndarray:
        """Return one document's shingles, uint64 (S,), in any order, repeats allowed."""
        ...


def shingle_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return all texts' word 5-grams end to end, and where each text's end.

    Words are in lower case and split at white space, and each character of a script without spaces is one
    (see `corpus.scripts`); a text of fewer words is one shingle, an empty one has none. A shingle is a
    64-bit hash (two are equal by chance with 2^-64) and repeats as in the text.

    Returns:
        uint64 (S,), int64 (N + 1,): text i has shingles[ends[i]:ends[i + 1]].
    """
    words, ends = word_hashes(texts)
    lengths = np.diff(ends)
    # All places at once, those that run over a text's end too, which are then left out.
    combined = _combined(words, SHINGLE_WORDS)
    left = np.repeat(ends[1:], lengths) - np.arange(len(words))
    shingles = combined[left[: len(combined)] >= SHINGLE_WORDS]
    counts = np.maximum(lengths - SHINGLE_WORDS + 1, 0)
    short = np.flatnonzero((counts == 0) & (lengths > 0))
    if len(short):
        own = [_combined(words[ends[i] : ends[i + 1]], int(lengths[i]))[0] for i in short]
        shingles = np.insert(shingles, np.cumsum(counts)[short], own)
        counts[short] = 1
    return shingles, np.concatenate([[0], np.cumsum(counts)])


def word_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash of each word of all texts end to end, uint64 (W,), and where each text's end, (N + 1,).

    A hash is a function of the word's letters in lower case alone. Eight bytes of all words are mixed in at
    a time, so that no word is ever a Python object of its own.
    """
    lowered = [text.lower() for text in texts]
    # Beyond ASCII there are white spaces of several bytes.
    encoded = [t.encode() if t.isascii() else " ".join(with_spaces(t).split()).encode() for t in lowered]
    joined = b"".join([b" ", *(part + b" " for part in encoded), bytes(8)])
    is_space = _IS_SPACE[np.frombuffer(joined, np.uint8, len(joined) - 8)]
    edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    eights = np.ndarray(len(joined) - 7, "<u8", joined, strides=(1,))
    hashes = mix(lengths.astype(np.uint64))
    rows = np.arange(len(hashes))
    for done in range(0, LONGEST_WORD, 8):
        rows = rows[lengths[rows] > done]
        masks = _MASKS[np.minimum(lengths[rows] - done, 8)]
        hashes[rows] = mix(hashes[rows] ^ (eights[starts[rows] + done] & masks))
    for i in rows[lengths[rows] > LONGEST_WORD]:
        word = joined[starts[i] : starts[i] + lengths[i]]
        hashes[i] = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
    text_ends = 1 + np.cumsum([0, *(len(part) + 1 for part in encoded)])
    return hashes, np.searchsorted(starts, text_ends)


def _combined(words: np.ndarray, width: int) -> np.ndarray:
    """Return the hash of each `width` consecutive words."""
    count = max(len(words) - width + 1, 0)
    combined = np.full(count, width, np.uint64)
    for k in range(width):
        combined ^= words[k : k + count]
        combined = mix(combined)
    return combined


def band_keys(shingles: np.ndarray, ends: np.ndarray, bands: Bands, seed: int) -> np.ndarray:
    """Return each text's key in each band, uint64 (N, bands.count): equal keys are equal rows.

    Args:
        shingles, ends: of the texts, as `shingle_hashes` returns them; each text has one at least.
        bands: how many, and how wide.
        seed: of the MinHash permutations.
    """
    from rensa import RMinHash

    if len(ends) == 1:
        return np.zeros((0, bands.count), np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles, ends.astype(np.uint64), NUM_PERMUTATIONS, seed
    )
    signatures = np.array(matrix.to_rows(), np.uint32)
    rows = signatures[:, : bands.rows * bands.count].reshape(-1, bands.count, bands.rows)
    keys = np.zeros(rows.shape[:2], np.uint64)
    for row in range(bands.rows):
        keys = mix(keys ^ rows[:, :, row])
    return keys


def sorted_set(values: np.ndarray) -> np.ndarray:
    """Return the values that occur, ascending: `np.unique`, five times as fast for a few hundred."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]


def mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers one to one (the finaliser of SplitMix64)."""
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
