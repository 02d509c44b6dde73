"""8-bit vectors: a signed byte a component and one scale a vector, with dot products in integers.

An integer dot product has no rounding, so it's the same for any block size and any number of threads.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.threads import blocks, map_threads

STEPS = 127
"""A vector's largest component becomes ±127."""

MOST_COMPONENTS = ((1 << 31) - 1) // STEPS**2
"""Width up to which the largest dot product fits into 32 bits."""

ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Codes(ArrayRecord):
    """Vectors as bytes: row n stands for scales[n]·codes[n].

    Attributes:
        codes: int8 (N, D), within ±127.
        scales: float32 (N,), above 0.
    """

    codes: Tensor
    scales: Tensor

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of a row and its scale: D + 4, against 4·D in float32."""
        return self.codes.shape[1] * self.codes.element_size() + self.scales.element_size()

    def rows(self, index: slice | Tensor) -> "Codes":
        """Return some of the rows."""
        if isinstance(index, slice):
            return Codes(codes=self.codes[index], scales=self.scales[index])
        return Codes(codes=self.codes.index_select(0, index), scales=self.scales.index_select(0, index))

    def decode(self) -> np.ndarray:
        """Return the vectors that the rows stand for, float32 (N, D)."""
        return (self.codes * self.scales[:, None]).numpy()


def quantise(vectors: np.ndarray) -> Codes:
    """Return rows of float32 (N, D), finite and none of them zero, in 8 bits: each component rounded.

    Raises:
        PairingError: rows so wide that a dot product could overflow.
    """
    if vectors.shape[1] > MOST_COMPONENTS:
        raise PairingError(
            f"vectors of width {vectors.shape[1]:,}: neighbours are searched up to {MOST_COMPONENTS:,}, "
            "where dot products take 32 bits"
        )
    codes, scales = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)

    def quantise_block(rows: slice) -> None:
        block = vectors[rows]
        scales[rows] = np.maximum(block.max(1), -block.min(1)) / STEPS
        np.rint(block / scales[rows, None], casting="unsafe", out=codes[rows])

    map_threads(quantise_block, blocks(len(vectors), ROWS_AT_ONCE))
    return Codes(codes=torch.from_numpy(codes), scales=torch.from_numpy(scales))


def quantisation_errors(vectors: np.ndarray, quantised: Codes) -> np.ndarray:
    """Return each row's Euclidean distance from what stands for it, float32 (N,)."""
    errors = np.empty(len(vectors), np.float32)

    def measure(rows: slice) -> None:
        errors[rows] = np.linalg.norm(vectors[rows] - quantised.rows(rows).decode(), axis=1)

    map_threads(measure, blocks(len(vectors), ROWS_AT_ONCE))
    return errors
