"""A continuous concept: any transition matrix, with Dirichlet rows."""

import torch

from sbp_bayes.concept.conjugate import DirichletMarkov
from toy_worlds.world import Parameters, require_count, require_number, require_seed


class DirichletMarkovChain(Parameters, DirichletMarkov):
    """A concept is a Markov chain whose rows, and first token's distribution, are ~ Dirichlet(α, …, α).

    With n_r the counts of what follows r (r = start for the first token), V = vocab_size and Σ over
    tokens behind r,

        P(d) = Π_r Γ(Vα) / Γ(Vα + Σ_v n_rv) · Π_v Γ(α + n_rv) / Γ(α),

    and P(d2 | d1) is the same with α + n_rv(d1) in place of α. Source: arXiv 2402.11004 (α = 1 there),
    whose in-context bigram statistics are this posterior predictive. Mathematics in
    `sbp_bayes.concept.conjugate`.

    Args:
        vocab_size: at least 1.
        doc_length: tokens of a document, at least 1.
        seed: any integer; the world draws nothing.
        concentration: α, above 0.

    Example: V = 2, α = 1. P("000") = ½ · ½ · ⅔ = 0.1667 and P("000" | "000") = ⅔ · ¾ · ⅘ = 0.4.

        >>> world = DirichletMarkovChain(vocab_size=2, concentration=1.0)
        >>> d = torch.tensor([[0, 0, 0]])
        >>> round(world.log_prob(d).exp().item(), 4), round(world.log_prob_pair(d, given=d).exp().item(), 4)
        (0.1667, 0.4)
    """

    def __init__(
        self, *, vocab_size: int = 8, doc_length: int = 32, seed: int = 0, concentration: float = 0.5
    ) -> None:
        require_count("vocab_size", vocab_size)
        self.concentration = require_number("concentration", concentration, 0.0, low_open=True)
        self.seed = require_seed(seed)
        alpha_VV = torch.full((vocab_size, vocab_size), self.concentration, dtype=torch.float64)
        super().__init__(alpha_VV[0], alpha_VV, require_count("doc_length", doc_length))
