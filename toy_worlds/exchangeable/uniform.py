"""The world without structure."""

import math

import torch
from torch import Tensor

from toy_worlds.tables import TableWorld
from toy_worlds.world import require_count, require_seed


class Uniform(TableWorld):
    """Tokens are uniform and independent whatever the concept: there is nothing to learn.

    P(d | c) = vocab_size^(−T) for every concept c, so P(d2 | d1) = P(d2), I(d1; d2) = 0, and no model's
    expected loss is below log(vocab_size) a token: the thought experiment on the limits of
    bootstrapping (arXiv 2509.15248, with 5 tokens).

    Args:
        num_concepts: at least 1; all are alike.
        vocab_size: at least 1.
        doc_length: tokens of a document, at least 1.
        seed: any integer; the world draws nothing.

    Example: three tokens out of 5 have probability 5⁻³ = 0.008, log 0.008 = −4.8283, with or without d1.

        >>> import torch
        >>> world = Uniform(vocab_size=5)
        >>> d1, d2 = torch.tensor([[0, 0, 0]]), torch.tensor([[0, 3, 4]])
        >>> round(world.log_prob(d2).item(), 4), round(world.log_prob_pair(d2, given=d1).item(), 4)
        (-4.8283, -4.8283)
    """

    def __init__(
        self, *, num_concepts: int = 1, vocab_size: int = 5, doc_length: int = 16, seed: int = 0
    ) -> None:
        require_count("num_concepts", num_concepts)
        require_count("vocab_size", vocab_size)
        table_VK = torch.full((vocab_size, num_concepts), -math.log(vocab_size), dtype=torch.float64)
        super().__init__(table_VK, vocab_size, require_count("doc_length", doc_length))
        self.seed = require_seed(seed)

    def _rows(self, d_NT: Tensor) -> Tensor:
        return d_NT

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(self.vocab_size, (len(c_N), self.doc_length), generator=generator)
