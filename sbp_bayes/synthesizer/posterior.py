"""Exact synthesizers: P(d2 | d1) of a world whose concepts and documents are known.

They speak world tokens (0 … vocab_size − 1, no special ones). A shorter document is a prefix, and its
probability is that of all documents that begin with it.

Shapes: N documents, T time, K concepts.
"""

import abc
import dataclasses
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.concept.documents import document_lengths, pad_documents
from sbp_bayes.concept.finite import FiniteConceptModel
from sbp_bayes.concept.information import bayes_loss_curve
from sbp_bayes.concept.protocol import ExactModel
from sbp_bayes.synthesizer.protocol import Documents, Synthesizer

CELLS_TOGETHER = 1 << 22
"""Entries of a table (documents, time, concepts) that are held at once: 32 MiB."""


@dataclasses.dataclass(frozen=True, eq=False)
class TokenScores(ArrayRecord):
    """What a synthesizer says of each token of N documents d2, in nats, float64.

    Attributes:
        tokens: log p(d2_t | d1, d2_<t), (N, T); 0 at padding, −inf from the first impossible token on.
        end: log p(d2 ends | d1, all of d2), (N,); None where documents have a fixed length and never end.
    """

    tokens: Tensor
    end: Tensor | None = None


class TokenSynthesizer(Synthesizer, Protocol):
    """A synthesizer over world tokens that says what it expects at each position."""

    def token_log_prob(self, d2: Documents, given: Documents) -> TokenScores:
        """Return log p(d2_t | d1, d2_<t) at every position; `given` is d1."""
        ...


class PosteriorSynthesizer:
    """P(d2 | d1) = ∫ P(d2 | c) P(c | d1) dc: draws c ~ P(c | d1), then d2 ~ P(d | c).

    The synthesizer that a neural one approaches (arXiv 2509.15248, section 2): none has a lower loss.

    Args:
        world: with finitely many concepts, or conjugate.
    """

    def __init__(self, world: ExactModel) -> None:
        self.world = world

    def log_prob(self, d2: Documents, given: Documents) -> Float64[Tensor, " N"]:
        """Return log P(d2 | d1) in nats, float64 (N,); `given` is d1.

        Raises:
            ConceptError: a d1 that no concept can produce.
        """
        return self.world.log_prob_pair(world_documents(d2), given=world_documents(given))

    def token_log_prob(self, d2: Documents, given: Documents) -> TokenScores:
        """Return log P(d2_t | d1, d2_<t) at every position."""
        return TokenScores(-bayes_loss_curve(self.world, world_documents(d2), world_documents(given)))

    def sample(self, d1: Documents, generator: torch.Generator) -> list[Tensor]:
        """Draw one d2 ~ P(d2 | d1) for each d1, int64 (doc_length,) each."""
        concepts = self.world.sample_posterior(world_documents(d1), 1, generator)[:, 0]
        return list(self.world.sample(concepts, generator))


class MixtureSynthesizer(abc.ABC):
    """p(d2 | d1) = Σ_c w(c | d1) P(d2 | c), for weights w that a subclass defines.

    Args:
        world: with finitely many concepts.
    """

    def __init__(self, world: FiniteConceptModel) -> None:
        self.world = world

    @abc.abstractmethod
    def log_weights(self, d1: Int64[Tensor, "N T"]) -> Float64[Tensor, "N K"]:
        """Return log w(c | d1), normalised, (N, K); `d1` is (N, T)."""

    def log_prob(self, d2: Documents, given: Documents) -> Float64[Tensor, " N"]:
        """Return log p(d2 | d1) in nats, float64 (N,); `given` is d1.

        Raises:
            ConceptError: a d1 that no concept can produce.
        """
        log_joint_NK = self.log_weights(world_documents(given)) + self.world.log_likelihood(
            world_documents(d2)
        )
        return log_joint_NK.logsumexp(dim=1)

    def token_log_prob(self, d2: Documents, given: Documents) -> TokenScores:
        """Return log p(d2_t | d1, d2_<t) at every position."""
        log_weights_NK = self.log_weights(world_documents(given))
        return _mixture_token_scores(self.world, log_weights_NK, world_documents(d2))

    def sample(self, d1: Documents, generator: torch.Generator) -> list[Tensor]:
        """Draw c ~ w(c | d1), then d2 ~ P(d | c), for each d1; int64 (doc_length,) each."""
        weights_NK = self.log_weights(world_documents(d1)).exp()
        concepts = torch.multinomial(weights_NK, 1, generator=generator)[:, 0]
        return list(self.world.sample(concepts, generator))


def world_documents(documents: Documents) -> Int64[Tensor, "N T"]:
    """Return documents of world tokens as one padded tensor, int64 (N, T)."""
    if isinstance(documents, Tensor):
        return documents
    return pad_documents([torch.as_tensor(np.asarray(d), dtype=torch.int64) for d in documents])


def _mixture_token_scores(world: FiniteConceptModel, log_weights_NK: Tensor, d2_NT: Tensor) -> TokenScores:
    size = max(1, CELLS_TOGETHER // max(1, d2_NT.shape[1] * world.num_concepts))
    scores = []
    for log_weights, d2 in zip(log_weights_NK.split(size), d2_NT.split(size), strict=True):
        log_prefix_NTK = world.token_log_likelihood(d2).cumsum(dim=1) + log_weights[:, None]
        scores.append(_differences(log_prefix_NTK.logsumexp(dim=2)))
    padding_NT = torch.arange(d2_NT.shape[1]) >= document_lengths(d2_NT)[:, None]
    return TokenScores(torch.cat(scores).masked_fill(padding_NT, 0.0))


def _differences(log_prefix_NT: Tensor) -> Tensor:
    """Return log p(first t + 1 tokens) − log p(first t tokens); −inf wherever the former is."""
    before_NT = torch.nn.functional.pad(log_prefix_NT, (1, 0))[:, :-1]
    return torch.where(log_prefix_NT == -torch.inf, -torch.inf, log_prefix_NT - before_NT)
