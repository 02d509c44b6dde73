"""Documents of a concept model: int64 token ids (batch, time), shorter ones padded behind their end.

A shorter document stands for all documents that begin with it: its probability is that of the prefix.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from sbp_bayes.base.errors import ConceptError

PAD = -1
"""Fills the positions behind a shorter document's end."""


def check_documents(documents: Tensor, vocab_size: int) -> Tensor:
    """Return `documents` unless a token is outside the vocabulary, or padding stands before a token.

    Raises:
        ConceptError: names the document, the position and the token.
    """
    if documents.ndim != 2 or documents.dtype != torch.int64:
        raise ConceptError(
            f"documents of shape {tuple(documents.shape)} and type {documents.dtype}: "
            "expected int64 token ids (batch, time)"
        )
    bad = (documents < PAD) | (documents >= vocab_size)
    bad[:, 1:] |= (documents[:, 1:] != PAD) & (documents[:, :-1] == PAD)
    if bad.any():
        row, position = (int(i) for i in bad.nonzero()[0])
        raise ConceptError(
            f"document {row} has token {int(documents[row, position])} at position {position}: expected "
            f"0 to {vocab_size - 1}, and padding ({PAD}) behind the document's end alone"
        )
    return documents


def document_lengths(documents: Int64[Tensor, "N T"]) -> Int64[Tensor, " N"]:
    """Return each document's number of tokens, int64 (batch,)."""
    return (documents != PAD).sum(dim=1)


def pad_documents(documents: list[Tensor]) -> Int64[Tensor, "N T"]:
    """Stack documents of several lengths, int64 (time,) each, into one padded tensor (batch, time)."""
    return torch.nn.utils.rnn.pad_sequence(documents, batch_first=True, padding_value=PAD)


def prefixes(documents: Int64[Tensor, "N T"]) -> Int64[Tensor, "N T+1 T"]:
    """Return every prefix of every document, shortest first, the empty one included.

    Args:
        documents: (batch, time).

    Returns:
        (batch, time + 1, time): [:, t] has the first t tokens, padded.
    """
    time = documents.shape[1]
    kept = torch.arange(time) < torch.arange(time + 1)[:, None]
    return torch.where(kept, documents[:, None], PAD)


def extensions(prefix: Int64[Tensor, "N T"], vocab_size: int) -> Int64[Tensor, "N vocab_size T+1"]:
    """Return every prefix with every token behind it.

    Args:
        prefix: (batch, time), padded behind each one's end.
        vocab_size: number of tokens.

    Returns:
        (batch, vocab_size, time + 1).
    """
    batch, time = prefix.shape
    longer = torch.full((batch, vocab_size, time + 1), PAD, dtype=torch.int64)
    longer[:, :, :time] = prefix[:, None]
    longer[torch.arange(batch), :, document_lengths(prefix)] = torch.arange(vocab_size)
    return longer
