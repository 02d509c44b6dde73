"""Concepts as transition matrices.

Shapes: N documents, T time, V vocabulary, C concepts of one chunk, K all concepts.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept.conjugate import log_dirichlet
from sbp_bayes.concept.documents import PAD
from toy_worlds.tables import TableWorld
from toy_worlds.world import Table, require_count, require_number, require_probabilities, require_seed

DRAWN_BYTES = 16 * 2**20
"""Of the transition matrices that are drawn at once: bounds the memory of building a world."""


class MarkovMixture(TableWorld):
    """A concept is a transition matrix; a document is a Markov chain under it.

    P(d | c) = π_c(d_1) Π_{t>1} A_c[d_{t−1}, d_t]. Every row of A_c ~ Dirichlet(concentration, …,
    concentration) once, from the seed; π_c is uniform, or drawn likewise. P(c) = 1 / num_concepts. A
    finite version of the Markov chains with Dirichlet rows of arXiv 2402.11004.

    Args:
        num_concepts: at least 1.
        vocab_size: at least 1.
        doc_length: tokens of a document, at least 1.
        seed: draws the transition matrices.
        concentration: above 0; the smaller, the nearer to deterministic the transitions.
        initial: "uniform", or "sampled" for π_c ~ Dirichlet(concentration, …).
        transitions: A_c of every concept in place of drawn ones, (num_concepts, vocab_size, vocab_size).

    Example: A_0 = [[0.9, 0.1], [0.5, 0.5]] and A_1 = [[0.2, 0.8], [0.5, 0.5]].
    P("00") = 0.5 (0.9 + 0.2) / 2 = 0.275 and P("00" | "00") = 0.25 (0.81 + 0.04) / 2 / 0.275 = 0.3864.

        >>> even = [0.5, 0.5]
        >>> transitions = [[[0.9, 0.1], even], [[0.2, 0.8], even]]
        >>> world = MarkovMixture(num_concepts=2, vocab_size=2, transitions=transitions)
        >>> d = torch.tensor([[0, 0]])
        >>> round(world.log_prob(d).exp().item(), 4), round(world.log_prob_pair(d, given=d).exp().item(), 4)
        (0.275, 0.3864)
    """

    def __init__(
        self,
        *,
        num_concepts: int = 16,
        vocab_size: int = 8,
        doc_length: int = 32,
        seed: int = 0,
        concentration: float = 0.5,
        initial: Literal["uniform", "sampled"] = "uniform",
        transitions: Table | None = None,
    ) -> None:
        require_count("num_concepts", num_concepts)
        require_count("vocab_size", vocab_size)
        require(initial in ("uniform", "sampled"), "initial", initial, "uniform or sampled")
        self.concentration = require_number("concentration", concentration, 0.0, low_open=True)
        self.initial, self.seed, self.transitions = initial, require_seed(seed), transitions
        table_RK = self._draw(num_concepts, vocab_size)
        if transitions is not None:
            shape = (num_concepts, vocab_size, vocab_size)
            rows_KVV = require_probabilities("transitions", transitions, shape)
            table_RK[: vocab_size**2] = rows_KVV.log().flatten(1).T
        super().__init__(table_RK, vocab_size, require_count("doc_length", doc_length))

    def _draw(self, num_concepts: int, vocab_size: int) -> Tensor:
        """Return log A_c[i, j] in row i·V + j, and log π_c(i) in row V² + i."""
        generator, square = torch_generator(self.seed, "markov_mixture"), vocab_size**2
        log_table_RK = torch.full(
            (square + vocab_size, num_concepts), -math.log(vocab_size), dtype=torch.float64
        )
        num_drawn = len(log_table_RK) if self.initial == "sampled" else square
        size = max(1, DRAWN_BYTES // (8 * num_drawn))
        for columns_RC in log_table_RK[:num_drawn].split(size, dim=1):
            shape = (columns_RC.shape[1], num_drawn // vocab_size, vocab_size)
            alpha_CRV = torch.full(shape, self.concentration, dtype=torch.float64)
            columns_RC.copy_(log_dirichlet(alpha_CRV, generator).flatten(1).T)
        return log_table_RK

    def _rows(self, d_NT: Tensor) -> Tensor:
        rows_NT = d_NT[:, :-1] * self.vocab_size + d_NT[:, 1:]
        rows_NT = torch.cat([d_NT[:, :1] + self.vocab_size**2, rows_NT], dim=1)
        return torch.where(d_NT == PAD, PAD, rows_NT)

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        square, tokens = self.vocab_size**2, []
        rows_NV = torch.arange(square, square + self.vocab_size).expand(len(c_N), -1)
        for _ in range(self.doc_length):
            next_NV = self.log_table_RK[rows_NV, c_N[:, None]].exp()
            tokens.append(torch.multinomial(next_NV, 1, generator=generator))
            rows_NV = tokens[-1] * self.vocab_size + torch.arange(self.vocab_size)
        return torch.cat(tokens, dim=1)
