"""Rows of tokens for a language model: an endless reshuffled stream, and windows for evaluation.

A document x1 … xn takes n + 1 positions: inputs EOS x1 … xn, targets x1 … xn EOS. Where a document
was cut (`complete` is False) its last target is IGNORE.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import fingerprint, require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.records import EOS, IGNORE
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.corpus.records import Corpus

Row = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Inputs, targets and segments, each int64 (context_length,)."""


class EpochStream:
    """The endless stream of a corpus's tokens, each epoch in an order of its own, cut into rows.

    Row r is positions r·T … (r + 1)·T − 1 of the stream for T = `context_length`: a function of
    (corpus, seed, T, r) alone, in constant memory, without padding. A document that does not end
    within its row goes on in the next one as a new segment, without its earlier tokens.
    """

    def __init__(self, corpus: Corpus, seed: int, context_length: int) -> None:
        """Prepare the stream.

        Raises:
            CorpusError: the corpus holds no documents.
            ConfigError: `context_length` is below 1.
        """
        require(context_length >= 1, "context_length", context_length, "at least 1")
        if len(corpus) == 0:
            raise CorpusError("the corpus holds no documents, so it has no rows of tokens")
        self.corpus = corpus
        self.seed = seed
        self.context_length = context_length
        self.num_tokens = corpus.num_tokens
        # Most rows lie within one epoch; neighbours in time share it.
        self._epoch = functools.lru_cache(maxsize=4)(self._shuffle)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the stream."""
        return fingerprint("EpochStream", self.corpus.fingerprint, self.seed, self.context_length)

    @property
    def rows_per_epoch(self) -> int:
        """Rows that lie wholly within the first epoch: rows below this number repeat no token."""
        return self.num_tokens // self.context_length

    def epoch_of(self, row: int) -> float:
        """Return how many epochs of the corpus have passed when row `row` starts."""
        return row * self.context_length / self.num_tokens

    def row(self, row: int) -> Row:
        """Return inputs, targets and segments (0, 1, … by document) of row `row`, each int64 (T,)."""
        inputs, targets, segments = (np.empty(self.context_length, np.int64) for _ in range(3))
        filled = segment = 0
        while filled < self.context_length:
            index, skip = self._locate(row * self.context_length + filled)
            document_inputs, document_targets = _positions(self.corpus, index)
            stop = min(self.context_length, filled + len(document_inputs) - skip)
            taken = slice(skip, skip + stop - filled)
            inputs[filled:stop] = document_inputs[taken]
            targets[filled:stop] = document_targets[taken]
            segments[filled:stop] = segment
            filled, segment = stop, segment + 1
        return inputs, targets, segments

    def _locate(self, position: int) -> tuple[int, int]:
        """Return the document at a position of the stream, and the position within the document."""
        epoch, within = divmod(position, self.num_tokens)
        order, ends = self._epoch(epoch)
        place = int(np.searchsorted(ends, within, side="right"))
        index = int(order[place])
        length = int(self.corpus.offsets[index + 1] - self.corpus.offsets[index]) + 1
        return index, within - (int(ends[place]) - length)

    def _shuffle(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = numpy_generator(self.seed, "epoch", epoch).permutation(len(self.corpus))
        return order, np.cumsum(self.corpus.lengths[order] + 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Window(ArrayRecord):
    """Consecutive positions of one document; inputs and targets are int64 (≤ context_length,)."""

    document: int
    inputs: np.ndarray
    targets: np.ndarray


def rows_of(corpus: Corpus, context_length: int) -> Iterator[Window]:
    """Yield each document's windows of at most `context_length` positions, in order, for evaluation.

    Every token and every EOS is the target of exactly one position; windows do not overlap, so the
    tokens of a long document's later windows are predicted from their own window alone.
    """
    require(context_length >= 1, "context_length", context_length, "at least 1")
    for index in range(len(corpus)):
        inputs, targets = _positions(corpus, index)
        for start in range(0, len(inputs), context_length):
            window = slice(start, start + context_length)
            yield Window(index, inputs[window], targets[window])


def _positions(corpus: Corpus, index: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = corpus.document(index)
    last = EOS if corpus.complete[index] else IGNORE
    return np.concatenate([[EOS], tokens]), np.concatenate([tokens, [last]])
