"""Concepts as word distributions."""

import torch
from torch import Tensor

from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept.conjugate import log_dirichlet
from toy_worlds.tables import TableWorld
from toy_worlds.world import Table, require_count, require_number, require_probabilities, require_seed


class UnigramMixture(TableWorld):
    """A concept is a distribution of words; a document's words are independent draws from it.

    P(d | c) = Π_t p_c(d_t), p_c ~ Dirichlet(concentration, …, concentration) once, from the seed, and
    P(c) = 1 / num_concepts: the mixture of unigrams (Nigam et al. 2000, "Text classification from
    labeled and unlabeled documents using EM").

    Args:
        num_concepts: at least 1.
        vocab_size: at least 1.
        doc_length: tokens of a document, at least 1.
        seed: draws the word distributions.
        concentration: above 0; the smaller, the more concepts differ.
        words: p_c of every concept in place of drawn ones, (num_concepts, vocab_size).

    Example: p_0 = (0.9, 0.1) and p_1 = (0.2, 0.8). Then P("00") = (0.81 + 0.04) / 2 = 0.425,
    P(c=0 | "0") = 0.45 / 0.55, and P("0" | "0") = 0.425 / 0.55 = 0.7727.

        >>> world = UnigramMixture(num_concepts=2, vocab_size=2, words=[[0.9, 0.1], [0.2, 0.8]])
        >>> round(world.log_prob(torch.tensor([[0, 0]])).exp().item(), 4)
        0.425
        >>> word = torch.tensor([[0]])
        >>> round(world.log_prob_pair(word, given=word).exp().item(), 4)
        0.7727
    """

    def __init__(
        self,
        *,
        num_concepts: int = 16,
        vocab_size: int = 16,
        doc_length: int = 32,
        seed: int = 0,
        concentration: float = 0.5,
        words: Table | None = None,
    ) -> None:
        require_count("num_concepts", num_concepts)
        require_count("vocab_size", vocab_size)
        self.concentration = require_number("concentration", concentration, 0.0, low_open=True)
        self.seed, self.words = require_seed(seed), words
        shape = (num_concepts, vocab_size)
        if words is None:
            alpha_KV = torch.full(shape, self.concentration, dtype=torch.float64)
            log_words_KV = log_dirichlet(alpha_KV, torch_generator(seed, "unigram_mixture"))
        else:
            log_words_KV = require_probabilities("words", words, shape).log()
        super().__init__(log_words_KV.T.contiguous(), vocab_size, require_count("doc_length", doc_length))

    def _rows(self, d_NT: Tensor) -> Tensor:
        return d_NT

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        words_NV = self.log_table_RK[:, c_N].T.exp()
        return torch.multinomial(words_NV, self.doc_length, replacement=True, generator=generator)
