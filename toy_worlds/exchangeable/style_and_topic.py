"""A concept that documents share, under a style that they do not.

Shapes: N documents, T time, V vocabulary, J styles, C concepts of one chunk, K all concepts (topics).
"""

import math

import torch
from torch import Tensor

from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept.conjugate import log_dirichlet
from sbp_bayes.concept.finite import FiniteConceptModel
from toy_worlds.tables import sum_rows, take_rows
from toy_worlds.world import (
    Parameters,
    Table,
    require_count,
    require_number,
    require_probabilities,
    require_seed,
)


class StyleAndTopic(Parameters, FiniteConceptModel):
    """A concept is a topic; every document draws a style of its own, whatever its topic.

    P(d | topic) = (1 / J) Σ_style Π_t [(1 − λ) topic(d_t) + λ style(d_t)], J = num_styles, λ =
    style_share. Topics' and styles' word distributions are ~ Dirichlet(concentration, …,
    concentration), from the seed; P(topic) = 1 / num_concepts. The style is nuisance: it makes a
    document's own words predict each other, and is independent between the documents of a pair, so a
    synthesizer that copies it loses. Made for this library; the background is a mixture of unigrams.

    Args:
        num_concepts: topics, at least 1.
        vocab_size: at least 1.
        doc_length: tokens of a document, at least 1.
        seed: draws the word distributions.
        num_styles: J, at least 1.
        style_share: λ, in [0, 1].
        concentration: above 0; the smaller, the more topics and styles differ.
        topics: word distributions in place of drawn ones, (num_concepts, vocab_size).
        styles: the same of styles, (num_styles, vocab_size).

    Example: one word each for topics (0) and (1), and for the styles (0) and (1), λ = ½. Topic 0 gives "0"
    certainly in style 0 and with ½ in style 1. P("0" | topic 0) = ¾, P("00" | topic 0) = (1 + ¼) / 2 =
    0.625, more than ¾²; P("0" | d1 = "0") = ¾ · ¾ + ¼ · ¼ = 0.625.

        >>> certain = [[1, 0], [0, 1]]
        >>> world = StyleAndTopic(num_concepts=2, num_styles=2, vocab_size=2, topics=certain, styles=certain)
        >>> d, word = torch.tensor([[0, 0]]), torch.tensor([[0]])
        >>> round(world.log_likelihood(d)[0, 0].exp().item(), 4)
        0.625
        >>> round(world.log_prob_pair(word, given=word).exp().item(), 4)
        0.625
    """

    def __init__(
        self,
        *,
        num_concepts: int = 16,
        vocab_size: int = 16,
        doc_length: int = 32,
        seed: int = 0,
        num_styles: int = 8,
        style_share: float = 0.5,
        concentration: float = 0.5,
        topics: Table | None = None,
        styles: Table | None = None,
    ) -> None:
        require_count("num_concepts", num_concepts)
        require_count("vocab_size", vocab_size)
        self.num_styles, self.seed = require_count("num_styles", num_styles), require_seed(seed)
        self.style_share = require_number("style_share", style_share, 0.0, 1.0)
        self.concentration = require_number("concentration", concentration, 0.0, low_open=True)
        super().__init__(torch.zeros(num_concepts), vocab_size, require_count("doc_length", doc_length))
        self.topics, self.styles = topics, styles
        log_topic_KV = self._log_words("topics", topics, num_concepts)
        log_style_JV = self._log_words("styles", styles, num_styles)
        log_share = torch.tensor(self.style_share, dtype=torch.float64).log()
        log_rest = torch.tensor(1.0 - self.style_share, dtype=torch.float64).log()
        self.log_table_VKJ = torch.logaddexp(
            (log_rest + log_topic_KV).T[:, :, None], (log_share + log_style_JV).T[:, None, :]
        )
        """log P(word | topic, style)."""

    def _log_words(self, what: str, given: Table | None, number: int) -> Tensor:
        """Return log word distributions (number, V): those that are given, or drawn ones."""
        if given is not None:
            return require_probabilities(what, given, (number, self.vocab_size)).log()
        alpha = torch.full((number, self.vocab_size), self.concentration, dtype=torch.float64)
        return log_dirichlet(alpha, torch_generator(self.seed, "style_and_topic", what))

    def _log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        log_joint_NX = sum_rows(self.log_table_VKJ[:, concepts_C].flatten(1), d_NT)
        return self._over_styles(log_joint_NX.unflatten(1, (-1, self.num_styles)))

    def _token_log_likelihood(self, d_NT: Tensor, concepts_C: Tensor) -> Tensor:
        log_token_NTX = take_rows(self.log_table_VKJ[:, concepts_C].flatten(1), d_NT)
        log_prefix_NTCJ = log_token_NTX.cumsum(dim=1).unflatten(2, (-1, self.num_styles))
        log_prefix_NTC = self._over_styles(log_prefix_NTCJ)
        before_NTC = torch.nn.functional.pad(log_prefix_NTC, (0, 0, 1, 0))[:, :-1]
        return log_prefix_NTC - before_NTC.where(before_NTC > -torch.inf, 0.0)

    def _over_styles(self, log_joint: Tensor) -> Tensor:
        """Return log (1/J) Σ_style exp of the last dimension."""
        return log_joint.logsumexp(dim=-1) - math.log(self.num_styles)

    def _bytes_per_concept(self, d_NT: Tensor) -> int:
        return 8 * (len(d_NT) + self.vocab_size) * self.num_styles

    def _sample(self, c_N: Tensor, generator: torch.Generator) -> Tensor:
        style_N = torch.randint(self.num_styles, c_N.shape, generator=generator)
        words_NV = self.log_table_VKJ[:, c_N, style_N].T.exp()
        return torch.multinomial(words_NV, self.doc_length, replacement=True, generator=generator)
