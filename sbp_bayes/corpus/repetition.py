"""Text that repeats itself: how much of a document has been said before in the same document."""

import dataclasses

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.corpus.minhash import mix


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepetitionRule:
    """A document is repetitive where more than `max_share` of its tokens lie in repeated n-grams.

    The n-gram rules of MassiveText (Rae et al. 2021, table A1) reduced to one: tokens for words, one
    length for six. The paper's own definition of repetition could not be read. With the defaults the
    rule flags 1.2% of the real documents of the packaged corpora (0% of Wikipedia, 7% of the
    Factbook), cut at 256 tokens of a vocabulary of 2,048.

    Attributes:
        ngram: tokens of an n-gram.
        max_share: largest share that passes.
    """

    ngram: int = 10
    max_share: float = 0.3

    def __post_init__(self) -> None:
        require(self.ngram >= 1, "ngram", self.ngram, "at least 1")
        require(0 <= self.max_share <= 1, "max_share", self.max_share, "a share, 0 to 1")

    def flags(self, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return which documents are repetitive, bool (N,); arguments as of `repeated_share`."""
        return repeated_share(tokens, offsets, self.ngram) > self.max_share


def repeated_share(tokens: np.ndarray, offsets: np.ndarray, ngram: int) -> np.ndarray:
    """Return the share of each document's tokens within an n-gram that occurred in it before, float64 (N,).

    The two occurrences may overlap, so that a loop of one token counts. n-grams are compared by
    64-bit hashes. A document shorter than `ngram` has share 0.

    Args:
        tokens: all documents' tokens end to end, unsigned or signed integers.
        offsets: int64 (N + 1,); document i is tokens[offsets[i]:offsets[i + 1]].
        ngram: tokens of an n-gram.
    """
    lengths = np.diff(offsets)
    document = np.repeat(np.arange(len(lengths)), lengths)
    whole = np.flatnonzero(np.arange(len(document)) + ngram <= offsets[1:][document])
    keys = _ngram_hashes(tokens, ngram)[whole] + mix(document[whole].astype(np.uint64))
    order = np.argsort(keys, kind="stable")
    repeats = whole[order[1:][keys[order[1:]] == keys[order[:-1]]]]
    # +1 where a repeated n-gram starts, −1 where it ends: covered where the running sum is positive
    edges = np.bincount(repeats, minlength=len(document) + 1)
    edges -= np.bincount(repeats + ngram, minlength=len(document) + 1)
    covered = np.cumsum(edges)[:-1] > 0
    return np.bincount(document, covered, minlength=len(lengths)) / np.maximum(lengths, 1)


def _ngram_hashes(tokens: np.ndarray, ngram: int) -> np.ndarray:
    """Return a 64-bit hash of the n-gram that starts at each token, uint64 (tokens − ngram + 1,)."""
    largest = int(tokens.max(initial=0))
    codes = numpy_generator(0, "n-gram hash").integers(1 << 64, size=largest + 1, dtype=np.uint64)[tokens]
    count = max(len(tokens) - ngram + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for offset in range(ngram):
        hashes = mix(hashes) + codes[offset : offset + count]
    return hashes
