"""Pairs of documents as rows of tokens, several pairs a row, with loss on d2 alone.

A pair takes n1 + n2 + 2 positions: inputs EOS d1 SEP d2, targets d2 and its EOS (n2 + 1 of them).
"""

import dataclasses
import functools
import math

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import nn

from sbp_bayes.base.config import fingerprint, require
from sbp_bayes.base.errors import CorpusError
from sbp_bayes.base.records import EOS, IGNORE, SEP, Batch, LossTotals
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.corpus import Corpus
from sbp_bayes.synthesizer.prompt import prompt_tokens

NO_D1 = -1
"""Index of a d1 that is not there: its prompt is EOS SEP."""


def row_length_of(max_document_tokens: int) -> int:
    """Return the positions of the longest pair: EOS, d1, SEP and d2."""
    return 2 * max_document_tokens + 2


def pair_positions(
    d1: Int[np.ndarray, " T1"], d2: Int[np.ndarray, " T2"], *, ends: bool
) -> tuple[Int64[np.ndarray, " T"], Int64[np.ndarray, " T"]]:
    """Return inputs and targets, int64 (n1 + n2 + 2,), of one pair whose documents are cut already.

    Args:
        d1: int64 (n1,).
        d2: int64 (n2,).
        ends: whether EOS is the last target; False where d2 was cut.
    """
    inputs = np.concatenate([prompt_tokens(d1), d2])
    ignored = np.full(len(d1) + 1, IGNORE)
    return inputs, np.concatenate([ignored, d2, [EOS if ends else IGNORE]])


def cut_document(corpus: Corpus, index: int, max_document_tokens: int) -> tuple[np.ndarray, bool]:
    """Return a document's first `max_document_tokens` tokens, int64, and whether EOS follows them."""
    document = corpus.document(index)
    ends = bool(corpus.complete[index]) and len(document) <= max_document_tokens
    return document[:max_document_tokens], ends


class PackedPairs:
    """Pairs packed into rows of one length, each pair a segment of its own, so that little is padding.

    Args:
        corpus: the documents.
        first: int64 (P,), d1's indices in the corpus, or `NO_D1`.
        second: int64 (P,), d2's.
        max_document_tokens: d1 and d2 are cut to this many tokens each.

    Raises:
        CorpusError: there are no pairs.
        ConfigError: `max_document_tokens` is below 1.
    """

    def __init__(
        self, corpus: Corpus, first: np.ndarray, second: np.ndarray, max_document_tokens: int
    ) -> None:
        require(max_document_tokens >= 1, "max_document_tokens", max_document_tokens, "at least 1")
        if len(first) == 0:
            raise CorpusError("there are no pairs to tune on")
        self.corpus, self.first, self.second = corpus, first, second
        self.max_document_tokens = max_document_tokens
        self.row_length = row_length_of(max_document_tokens)
        # The last entry is that of NO_D1.
        lengths = np.append(np.minimum(corpus.lengths, max_document_tokens), 0)
        self.num_positions = int((lengths[first] + lengths[second] + 2).sum())
        self._rows = best_fit_decreasing(lengths[first] + lengths[second] + 2, self.row_length)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def padding_share(self) -> float:
        """Share of all rows' positions that is padding."""
        return 1.0 - self.num_positions / (len(self) * self.row_length)

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the rows of the given numbers, each int64 (row_length,)."""
        shape = (len(rows), self.row_length)
        inputs, targets, segments = np.full(shape, EOS), np.full(shape, IGNORE), np.full(shape, -1)
        for place, row in enumerate(rows):
            filled = 0
            for segment, pair in enumerate(self._rows[row]):
                pair_inputs, pair_targets = self._positions(pair)
                taken = slice(filled, filled + len(pair_inputs))
                inputs[place, taken], targets[place, taken] = pair_inputs, pair_targets
                segments[place, taken] = segment
                filled = taken.stop
        return Batch(*(torch.from_numpy(array.astype(np.int64)) for array in (inputs, targets, segments)))

    def _positions(self, pair: int) -> tuple[np.ndarray, np.ndarray]:
        d2, ends = cut_document(self.corpus, self.second[pair], self.max_document_tokens)
        index = self.first[pair]
        d1 = d2[:0] if index == NO_D1 else self.corpus.document(index)[: self.max_document_tokens]
        return pair_positions(d1, d2, ends=ends)


class PairRows:
    """The batches of a tuning: rows of packed pairs, in a new order each epoch.

    Which pairs share a row is fixed; the order of rows in epoch e is a function of (seed, e).

    Few documents are d2 of many pairs, so a model soon knows d2's tokens from those before them and has no
    need of d1. Word dropout (Bowman et al. 2016, arXiv 1511.06349) replaces a share of the tokens that it
    reads, not those that it predicts, by EOS: then d1 is worth reading.

    Args:
        packed: the pairs.
        num_epochs: times each pair is seen; need not be whole.
        rows_per_batch: rows of a step.
        seed: of the orders.
        pairs_fingerprint: names the pairs.
        word_dropout: share of the tokens read, those of a step being a function of (seed, step); EOS and SEP
            are always read.
    """

    def __init__(
        self,
        packed: PackedPairs,
        *,
        num_epochs: float,
        rows_per_batch: int,
        seed: int,
        pairs_fingerprint: str,
        word_dropout: float = 0.0,
    ) -> None:
        self.packed, self.rows_per_batch, self.seed = packed, rows_per_batch, seed
        self.word_dropout = word_dropout
        self.num_steps = math.ceil(num_epochs * len(packed) / rows_per_batch)
        settings = [packed.max_document_tokens, rows_per_batch, seed, word_dropout]
        self.fingerprint = fingerprint("PairRows", packed.corpus.fingerprint, pairs_fingerprint, settings)
        self._order = functools.lru_cache(maxsize=2)(self._shuffle)

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`: rows step·B … (step + 1)·B − 1 of the epochs end to end."""
        positions = range(step * self.rows_per_batch, (step + 1) * self.rows_per_batch)
        located = (divmod(position, len(self.packed)) for position in positions)
        batch = self.packed.batch(np.array([self._order(epoch)[within] for epoch, within in located]))
        if self.word_dropout:
            draws = numpy_generator(self.seed, "word dropout", step).random(batch.inputs.shape)
            dropped = torch.from_numpy(draws < self.word_dropout) & (batch.inputs > SEP)
            batch = dataclasses.replace(batch, inputs=batch.inputs.masked_fill(dropped, EOS))
        return batch

    def tokens_by_source(self, step: int) -> dict[str, int]:
        """Return the positions that the first `step` steps read, padding included."""
        return {"pairs": step * self.rows_per_batch * self.packed.row_length}

    def epochs_by_source(self, step: int) -> dict[str, float]:
        """Return how often the first `step` steps went through the pairs."""
        return {"pairs": step * self.rows_per_batch / len(self.packed)}

    def _shuffle(self, epoch: int) -> np.ndarray:
        return numpy_generator(self.seed, "pairs", epoch).permutation(len(self.packed))


@torch.no_grad()
def pair_loss(model: nn.Module, packed: PackedPairs, rows_per_batch: int) -> LossTotals:
    """Return −Σ log P(d2 | d1) in nats over all pairs, and the number of d2's tokens and EOS.

    Args:
        model: has `loss_sum(batch)`.
        packed: the pairs.
        rows_per_batch: rows computed at once; the sum does not depend on it but for rounding.
    """
    loss_nats, num_tokens = 0.0, 0
    for start in range(0, len(packed), rows_per_batch):
        batch = packed.batch(np.arange(start, min(start + rows_per_batch, len(packed))))
        batch = batch.to(next(model.parameters()).device)
        loss, targets = model.loss_sum(batch)  # type: ignore[operator]
        loss_nats, num_tokens = loss_nats + float(loss), num_tokens + targets
    return LossTotals(loss_nats=loss_nats, num_tokens=num_tokens)


def best_fit_decreasing(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Pack items into bins: from the longest on, each into the fullest bin that still has room for it.

    Args:
        lengths: int64 (P,), each from 1 to `capacity`.
        capacity: of a bin.

    Returns:
        the items of each bin.
    """
    bins: list[list[int]] = []
    bins_by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set where a bin has room r: the least sufficient one is found in one step
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        sufficient = rooms >> length
        if sufficient:
            room = length + (sufficient & -sufficient).bit_length() - 1
            number = bins_by_room[room].pop()
            if not bins_by_room[room]:
                rooms &= ~(1 << room)
        else:
            room, number = capacity, len(bins)
            bins.append([])
        bins[number].append(item)
        bins_by_room[room - length].append(number)
        rooms |= 1 << (room - length)
    return bins
