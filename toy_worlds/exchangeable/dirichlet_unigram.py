"""A continuous concept: any word distribution, with a Dirichlet prior."""

import torch

from sbp_bayes.concept.conjugate import DirichletCategorical
from toy_worlds.world import Parameters, require_count, require_number, require_seed


class DirichletUnigram(Parameters, DirichletCategorical):
    """A concept is a distribution of words, c ~ Dirichlet(α, …, α); words are independent given it.

    With n_v the count of v in d, T its length and V = vocab_size,

        P(d) = Γ(Vα) / Γ(Vα + T) · Π_v Γ(α + n_v) / Γ(α),

    and P(d2 | d1) is the same with α + n_v(d1) in place of α: the Pólya urn, P(next = v | d) = (α + n_v) /
    (Vα + T). Mathematics in `sbp_bayes.concept.conjugate`.

    Args:
        vocab_size: at least 1.
        doc_length: tokens of a document, at least 1.
        seed: any integer; the world draws nothing.
        concentration: α, above 0.

    Example: V = 2, α = 1. P("00") = ½ · ⅔ = 0.3333 and P("00" | "00") = ¾ · ⅘ = 0.6.

        >>> world = DirichletUnigram(vocab_size=2, concentration=1.0)
        >>> d = torch.tensor([[0, 0]])
        >>> round(world.log_prob(d).exp().item(), 4), round(world.log_prob_pair(d, given=d).exp().item(), 4)
        (0.3333, 0.6)
    """

    def __init__(
        self, *, vocab_size: int = 16, doc_length: int = 32, seed: int = 0, concentration: float = 0.5
    ) -> None:
        require_count("vocab_size", vocab_size)
        self.concentration = require_number("concentration", concentration, 0.0, low_open=True)
        self.seed = require_seed(seed)
        alpha_V = torch.full((vocab_size,), self.concentration, dtype=torch.float64)
        super().__init__(alpha_V, require_count("doc_length", doc_length))
