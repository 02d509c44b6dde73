"""Word shingles, their MinHash signatures, and the bands in which similar documents meet."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

SHINGLE_WORDS = 5
NUM_PERMUTATIONS = 128
MISS_PROBABILITY = 1e-3
MAX_KNOWN_WORDS = 1 << 19


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


class WordHashes(dict[str, int]):
    """64-bit hash of each word, a function of the word alone; remembers half a million of them."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MAX_KNOWN_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        self[word] = value = int.from_bytes(digest, "little")
        return value


def shingle_hashes(texts: Sequence[str], hashes: WordHashes) -> tuple[np.ndarray, np.ndarray]:
    """Return all texts' word 5-grams end to end, and where each text's end.

    Words are in lower case and split at white space; a text of fewer words is one shingle, an empty one
    has none. A shingle is a 64-bit hash (two are equal by chance with 2^-64) and repeats as in the text.

    Returns:
        uint64 (S,), int64 (N + 1,): text i has shingles[ends[i]:ends[i + 1]].
    """
    split = [text.lower().split() for text in texts]
    lengths = np.array([len(text) for text in split], np.int64)
    every = itertools.chain.from_iterable(split)
    words = np.fromiter(map(hashes.__getitem__, every), np.uint64, int(lengths.sum()))
    # All places at once, those that run over a text's end too, which are then left out.
    combined = _combined(words, SHINGLE_WORDS)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
    shingles = combined[left[: len(combined)] >= SHINGLE_WORDS]
    counts = np.maximum(lengths - SHINGLE_WORDS + 1, 0)
    short = np.flatnonzero((counts == 0) & (lengths > 0))
    if len(short):
        before = np.cumsum(counts)[short]
        own = [np.fromiter(map(hashes.__getitem__, split[i]), np.uint64) for i in short]
        shingles = np.insert(shingles, before, [_combined(hashed, len(hashed))[0] for hashed in own])
        counts[short] = 1
    return shingles, np.concatenate([[0], np.cumsum(counts)])


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


def mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers one to one (the finaliser of SplitMix64)."""
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
