"""Worlds whose log P(d | c) is a sum of entries of a table, one for each token.

Shapes: N documents, T time, R rows of the table, C concepts of one chunk, K all concepts.
"""

import abc

import torch
from torch import Tensor

from sbp_bayes.concept.documents import PAD, check_documents
from sbp_bayes.concept.finite import FiniteConceptModel
from toy_worlds.world import Parameters


def sum_rows(table_RC: Tensor, rows_NT: Tensor) -> Tensor:
    """Return Σ_t table[rows[:, t]], (N, C): the product of a sparse matrix of counts (N, R) and the table.

    Rows are added one behind the other, so padding changes no bit, and −∞ stays −∞.

    Args:
        table_RC: float64.
        rows_NT: row numbers, `PAD` behind a document's end.
    """
    lengths_N = (rows_NT != PAD).sum(dim=1)
    return torch.nn.functional.embedding_bag(
        rows_NT[rows_NT != PAD], table_RC, lengths_N.cumsum(dim=0) - lengths_N, mode="sum"
    )


def take_rows(table_RC: Tensor, rows_NT: Tensor) -> Tensor:
    """Return table[rows], (N, T, C), 0 where `rows` is `PAD`."""
    entries_NTC = table_RC[rows_NT.clamp(min=0)]
    return entries_NTC.masked_fill_((rows_NT == PAD)[:, :, None], 0.0)


class TableWorld(Parameters, FiniteConceptModel):
    """log P(d | c) = Σ_t table[row(d, t), c]; a subclass says which row a token has in its document.

    Args:
        log_table_RK: log-probabilities, (R, K); concepts have equal prior probabilities.
        vocab_size: number of tokens.
        doc_length: tokens of a sampled document.
    """

    def __init__(self, log_table_RK: Tensor, vocab_size: int, doc_length: int) -> None:
        super().__init__(torch.zeros(log_table_RK.shape[1]), vocab_size, doc_length)
        self.log_table_RK = log_table_RK

    @abc.abstractmethod
    def _rows(self, d_NT: Tensor) -> Tensor:
        """Return each token's row, int64 (N, T), `PAD` where d is padding."""

    def _log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        return sum_rows(self._columns(concepts_C), self._rows(d_NT))

    def _token_log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        return take_rows(self._columns(concepts_C), self._rows(d_NT))

    def _bytes_per_concept(self, d_NT: Tensor) -> int:
        return 8 * (len(d_NT) + len(self.log_table_RK))

    def log_prob_given(self, d: Tensor, c: Tensor) -> Tensor:
        """Return log P(d | c) of each document under its own concept, (N,)."""
        rows_NT = self._rows(check_documents(d, self.vocab_size))
        cells_NT = torch.where(rows_NT == PAD, PAD, rows_NT * self.num_concepts + c[:, None])
        return sum_rows(self.log_table_RK.view(-1, 1), cells_NT)[:, 0]

    def _columns(self, concepts_C: Tensor) -> Tensor:
        return self.log_table_RK.index_select(1, concepts_C)
