"""What a synthesizer is, exact or neural."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

Documents = Sequence[np.ndarray] | Sequence[Tensor] | Tensor
"""A batch of documents: token ids without special tokens, one row each, of one length or of several."""


class Synthesizer(Protocol):
    """P(d2 | d1) = ∫ P(d2 | c) P(c | d1) dc, exact or learnt from pairs (arXiv 2509.15248)."""

    def log_prob(self, d2: Documents, given: Documents) -> Float64[Tensor, " N"]:
        """Return log P(d2 | d1) in nats, float64 (batch,); `given` is d1."""
        ...

    def sample(self, d1: Documents, generator: torch.Generator) -> Sequence[Tensor]:
        """Draw one d2 ~ P(d2 | d1) for each d1; int64 token ids, one row each."""
        ...
