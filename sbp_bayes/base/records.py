"""Records that cross module borders."""

import dataclasses
from typing import TYPE_CHECKING, Protocol

from sbp_bayes.base.arrays import ArrayRecord

if TYPE_CHECKING:
    import numpy as np
    import torch

EOS = 0
"""Id of `<|endoftext|>`, which starts and ends every document."""

SEP = 1
"""Id of `<|sep|>`, which stands between d1 and d2 in a pair."""

IGNORE = -100
"""Target of a position that carries no loss (PyTorch's default `ignore_index`)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Batch(ArrayRecord):
    """One step's rows of tokens, each of shape (rows, time), int64.

    Attributes:
        inputs: token ids that the model reads.
        targets: the token that follows each input, or `IGNORE` where no loss is taken.
        segments: number of the document (or pair) within its row; a position attends only to
            earlier positions of its own segment. Padding has segment −1 and targets `IGNORE`.
    """

    inputs: "torch.Tensor"
    targets: "torch.Tensor"
    segments: "torch.Tensor"

    @property
    def num_tokens(self) -> int:
        """Positions in the batch, padding included: what the step costs."""
        return self.inputs.numel()

    def rows(self, start: int, stop: int) -> "Batch":
        """Return rows `start` … `stop` − 1."""
        rows = slice(start, stop)
        return Batch(self.inputs[rows], self.targets[rows], self.segments[rows])

    def to(self, device: "torch.device") -> "Batch":
        """Return the batch on `device`."""
        return Batch(self.inputs.to(device), self.targets.to(device), self.segments.to(device))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTotals:
    """Loss summed over documents or batches, kept as totals so that averages weigh every token alike."""

    loss_nats: float
    num_tokens: int

    @property
    def nats_per_token(self) -> float:
        """Mean loss in nats per token with a target."""
        return self.loss_nats / self.num_tokens


class Pairs(Protocol):
    """Ordered pairs of one corpus's documents, as `sbp_bayes.pairing.PairSet` has them."""

    @property
    def first(self) -> "np.ndarray":
        """Index of each d1 in the corpus, int64 (P,)."""
        ...

    @property
    def second(self) -> "np.ndarray":
        """Index of each d2 in the corpus, int64 (P,)."""
        ...

    @property
    def corpus_fingerprint(self) -> str:
        """Fingerprint of the corpus that the indices mean."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the corpus and the pairs."""
        ...
