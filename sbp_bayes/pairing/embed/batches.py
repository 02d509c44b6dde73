"""Batches of documents for a model that reads token ids.

A document's vector depends, by rounding, on the documents that share its batch. Batches are therefore made
within windows of `WINDOW` consecutive documents: a corpus embedded window by window has the same vectors, to
the bit, as one embedded at once.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

POSITIONS_TOGETHER = 2048
WINDOW = 256
"""Documents among which batches are made."""


def windows(num_documents: int) -> list[range]:
    """Return the document numbers of one window after another."""
    starts = range(0, num_documents, WINDOW)
    return [range(start, min(start + WINDOW, num_documents)) for start in starts]


def batches_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Return all row numbers in groups of like length, each of one window.

    A group has at most 2,048 padded positions, or one row.

    Args:
        lengths: positions of each row, int64 (N,).
    """
    groups = []
    for window in windows(len(lengths)):
        order = window.start + np.argsort(-lengths[window.start : window.stop], kind="stable")
        start = 0
        while start < len(order):
            stop = start + max(1, POSITIONS_TOGETHER // max(1, int(lengths[order[start]])))
            groups.append(order[start:stop])
            start = stop
    return groups


def embed_in_batches(
    ids: Sequence[Sequence[int]], width: int, forward: Callable[[Tensor, Tensor], Tensor]
) -> np.ndarray:
    """Return the rows that `forward` makes of token ids, float32 (N, width).

    Args:
        ids: token ids of each document.
        width: of a vector.
        forward: takes ids (B, T), id 0 where a row has ended, and the rows' lengths (B,); returns (B, width).
    """
    lengths = np.array([len(row) for row in ids], np.int64)
    vectors_ND = np.zeros((len(ids), width), np.float32)
    for rows in batches_by_length(lengths):
        ids_BT = torch.zeros((len(rows), int(lengths[rows].max())), dtype=torch.int64)
        for row, index in enumerate(rows):
            ids_BT[row, : lengths[index]] = torch.tensor(ids[index], dtype=torch.int64)
        vectors_ND[rows] = forward(ids_BT, torch.from_numpy(lengths[rows])).float().cpu().numpy()
    return vectors_ND
