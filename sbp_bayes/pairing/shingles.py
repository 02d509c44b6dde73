"""Near-duplicates by shared runs of 13 words."""

import re
from collections.abc import Sequence

import numpy as np

SHINGLE_WORDS = 13
PAIRS_TOGETHER = 1 << 16

_WORD = re.compile(r"\w+")
_POWERS = np.full(SHINGLE_WORDS, 0x9E3779B97F4A7C15, np.uint64).cumprod(dtype=np.uint64)


def containment(texts: Sequence[str], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    r"""Return |A ∩ B| / min(|A|, |B|) for the shingle sets A, B of each pair, float64 (P,).

    A shingle is a run of 13 consecutive words (`\w+`, lower case), hashed to 64 bits; a shorter text has
    one shingle, all of its words. A pair with a text without words has containment 0. That a 13-token
    rule drops near-duplicates is the paper's; its measure and threshold are unverified.

    Args:
        texts: all documents' texts.
        first: int64 (P,), indices into `texts`.
        second: int64 (P,), likewise.
    """
    from scipy import sparse

    used, rows = np.unique(np.concatenate([first, second]), return_inverse=True)
    sets = _shingle_sets([texts[i] for i in used])
    sizes = np.array([len(s) for s in sets], np.int64)
    shared, columns, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    # A shingle of one document alone meets no other: without those the matrix is small.
    kept = counts[columns] > 1
    owners = np.repeat(np.arange(len(sets)), sizes)[kept]
    ones = np.ones(len(owners), np.int32)
    incidence = sparse.csr_array((ones, (owners, columns[kept])), shape=(len(sets), len(shared)))
    overlap = np.zeros(len(first), np.int64)
    left, right = rows[: len(first)], rows[len(first) :]
    for start in range(0, len(first), PAIRS_TOGETHER):
        part = slice(start, start + PAIRS_TOGETHER)
        overlap[part] = incidence[left[part]].multiply(incidence[right[part]]).sum(axis=1)
    return overlap / np.maximum(1, np.minimum(sizes[left], sizes[right]))


def _shingle_sets(texts: Sequence[str]) -> list[np.ndarray]:
    """Return each text's distinct shingles as uint64 hashes: polynomials in its words' codes, mod 2⁶⁴."""
    codes: dict[str, int] = {}
    sets = []
    for text in texts:
        words = [codes.setdefault(word, len(codes) + 1) for word in _WORD.findall(text.lower())]
        width = min(SHINGLE_WORDS, len(words))
        if width == 0:
            sets.append(np.zeros(0, np.uint64))
            continue
        runs = np.lib.stride_tricks.sliding_window_view(np.array(words, np.uint64), width)
        sets.append(np.unique((runs * _POWERS[:width]).sum(axis=1, dtype=np.uint64)))
    return sets
