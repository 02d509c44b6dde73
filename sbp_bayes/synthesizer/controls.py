"""Controls: synthesizers and pairs from which one thing is missing that the real ones have.

- `CopySynthesizer` writes d1 again: all of the concept, nothing new.
- `UnconditionalSynthesizer` does not read d1: something new, nothing of the concept. Its neural form is
  the baseline's own distribution p_θ(d), self-distillation (`synthesis.NoDocuments`), and not a synthesizer
  with an empty or an unrelated d1: no tuning pair has an empty d1, so the answer to one means nothing, and
  the average over unrelated d1s has a density that nobody can compute.
- `TemperedSynthesizer` takes d1 for stronger or weaker evidence than it is.
- `NoisyPairsSynthesizer` is what exact learning from `noisy_pairs` would reach, `random_pairs` being its
  limit ε = 1.

Shapes: N documents, T time, K concepts, P pairs, D documents of a corpus.
"""

import dataclasses
import functools
import hashlib

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.base.errors import PairingError
from sbp_bayes.base.records import Pairs
from sbp_bayes.concept.documents import PAD
from sbp_bayes.concept.finite import FiniteConceptModel
from sbp_bayes.concept.information import bayes_loss_curve
from sbp_bayes.concept.protocol import ExactModel
from sbp_bayes.synthesizer.posterior import MixtureSynthesizer, TokenScores, world_documents
from sbp_bayes.synthesizer.protocol import Documents

TRIES = 32
"""Random partners tried for a pair that may not stay, before all partners are looked through."""


class CopySynthesizer:
    """p(d2 | d1) = 1 where d2 is d1, or a prefix of it, and 0 elsewhere."""

    def log_prob(self, d2: Documents, given: Documents) -> Float64[Tensor, " N"]:
        """Return 0 where d2 is d1 or a prefix of it and −inf elsewhere, float64 (N,)."""
        return self.token_log_prob(d2, given).tokens.sum(dim=1)

    def token_log_prob(self, d2: Documents, given: Documents) -> TokenScores:
        """Return 0 at each token that repeats d1's, and −inf from the first on that does not."""
        d1_NT, d2_NT = world_documents(given), world_documents(d2)
        beyond = max(0, d2_NT.shape[1] - d1_NT.shape[1])
        d1_NT = torch.nn.functional.pad(d1_NT, (0, beyond), value=PAD)[:, : d2_NT.shape[1]]
        errors_NT = (d1_NT != d2_NT).cumsum(dim=1)
        scores_NT = torch.zeros(d2_NT.shape, dtype=torch.float64)
        return TokenScores(scores_NT.masked_fill_((errors_NT > 0) & (d2_NT != PAD), -torch.inf))

    def sample(self, d1: Documents, generator: torch.Generator) -> list[Tensor]:
        """Return a copy of each d1, without padding; nothing is drawn."""
        return [document[document != PAD].clone() for document in world_documents(d1)]


class UnconditionalSynthesizer:
    """p(d2 | d1) = P(d2) of a world, whatever d1 is."""

    def __init__(self, world: ExactModel) -> None:
        self.world = world

    def log_prob(self, d2: Documents, given: Documents) -> Float64[Tensor, " N"]:
        """Return log P(d2) in nats, float64 (N,); `given` is not read."""
        return self.world.log_prob(world_documents(d2))

    def token_log_prob(self, d2: Documents, given: Documents) -> TokenScores:
        """Return log P(d2_t | d2_<t) at every position."""
        return TokenScores(-bayes_loss_curve(self.world, world_documents(d2)))

    def sample(self, d1: Documents, generator: torch.Generator) -> list[Tensor]:
        """Draw one d2 ~ P(d) for each d1, int64 (doc_length,) each."""
        return list(self.world.sample(self.world.sample_concept(len(d1), generator), generator))


class TemperedSynthesizer(MixtureSynthesizer):
    """w(c | d1) = P(c | d1)^β / Σ_c' P(c' | d1)^β: β = 1 is the exact posterior.

    β > 1 is surer of its concept than d1 allows, β < 1 less sure. At β = 0 all concepts weigh alike
    (0⁰ = 1), which is the unconditional control where the prior is uniform.

    Args:
        world: with finitely many concepts.
        beta: 0 or more.

    Raises:
        ConfigError: `beta` is out of its range.
    """

    def __init__(self, world: FiniteConceptModel, beta: float) -> None:
        super().__init__(world)
        require(0 <= beta < float("inf"), "beta", beta, "0 or more, and finite")
        self.beta = beta

    def log_weights(self, d1: Int64[Tensor, "N T"]) -> Float64[Tensor, "N K"]:
        """Return β log P(c | d1), normalised, (N, K)."""
        log_posterior_NK = self.world.posterior(d1)
        if self.beta == 0:
            return torch.zeros_like(log_posterior_NK).log_softmax(dim=1)
        return (self.beta * log_posterior_NK).log_softmax(dim=1)


class NoisyPairsSynthesizer(MixtureSynthesizer):
    """P(d2 | d1) where a share ε of pairs has a d2 of another concept than d1's.

    w(c | d1) = (1 − ε) P(c | d1) + ε Σ_{b ≠ c} P(b | d1) P(c) / (1 − P(b)): what `noisy_pairs` makes of
    exact pairs of a corpus whose concepts are distributed as the prior.

    Args:
        world: with finitely many concepts, two of them or more possible.
        epsilon: from 0, the exact posterior, to 1, random pairs that avoid their own concept.

    Raises:
        ConfigError: `epsilon` is out of its range, or there is no other concept.
    """

    def __init__(self, world: FiniteConceptModel, epsilon: float) -> None:
        super().__init__(world)
        require(0 <= epsilon <= 1, "epsilon", epsilon, "a share from 0 to 1")
        possible = int((world.log_prior_K > -torch.inf).sum())
        require(possible >= 2, "num_concepts", possible, "at least 2 of positive probability")
        self.epsilon = epsilon

    def log_weights(self, d1: Int64[Tensor, "N T"]) -> Float64[Tensor, "N K"]:
        """Return log w(c | d1), (N, K)."""
        posterior_NK, prior_K = self.world.posterior(d1).exp(), self.world.log_prior_K.exp()
        odds_NK = posterior_NK / (1 - prior_K)
        others_NK = (odds_NK.sum(dim=1, keepdim=True) - odds_NK).clamp(min=0)
        return ((1 - self.epsilon) * posterior_NK + self.epsilon * prior_K * others_NK).log()


@dataclasses.dataclass(frozen=True, eq=False)
class IndexPairs(ArrayRecord):
    """P ordered pairs of one corpus's documents, with all that tuning asks of pairs.

    Attributes:
        first, second: int64 (P,), indices of d1 and d2 in the corpus.
        corpus_fingerprint: of the corpus that the indices mean.
    """

    first: np.ndarray
    second: np.ndarray
    corpus_fingerprint: str

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits (SHA-256) of the corpus and the pairs."""
        digest = hashlib.sha256(self.corpus_fingerprint.encode())
        for array in (self.first, self.second):
            digest.update(np.ascontiguousarray(array, np.int64).data)
        return digest.hexdigest()[:16]


def random_pairs(
    pairs: Pairs, generator: torch.Generator, concepts: Int[np.ndarray, " D"] | None = None
) -> IndexPairs:
    """Give the d2s of `pairs` to other d1s at random: every document is as often d1, and d2, as before.

    No d1 is paired with itself, nor with a document of its own concept where `concepts` are given. The
    arrangement is a random permutation whose forbidden pairs each change places with a random other.

    Args:
        pairs: P pairs.
        generator: source of randomness.
        concepts: each document's concept, int64 (D,).

    Raises:
        PairingError: no arrangement is free of forbidden pairs.
    """
    first = np.asarray(pairs.first)
    second = np.asarray(pairs.second)[torch.randperm(len(first), generator=generator).numpy()]
    labels = np.arange(int(max(first.max(), second.max())) + 1) if concepts is None else concepts
    d1, d2 = labels[first], labels[second]
    for at in (d1 == d2).nonzero()[0]:
        partner = _partner(at, d1, d2, generator)
        for array in (second, d2):
            array[at], array[partner] = array[partner], array[at]
    return IndexPairs(first, second, pairs.corpus_fingerprint)


def _partner(at: int, d1: np.ndarray, d2: np.ndarray, generator: torch.Generator) -> int:
    """Return a pair that can exchange d2s with pair `at` so that both are free; there is one if any way is.

    Were there none, every pair would have the label of pair `at` on one side or the other, and pair `at` on
    both: more than P sides of one label, which no arrangement keeps apart. A pair that an earlier exchange
    has freed may be its own partner.
    """
    candidates = torch.randint(len(d1), (TRIES,), generator=generator).numpy()
    fit = candidates[(d2[candidates] != d1[at]) & (d1[candidates] != d2[at])]
    if len(fit):
        return int(fit[0])
    fit = ((d2 != d1[at]) & (d1 != d2[at])).nonzero()[0]
    if not len(fit):
        raise PairingError(
            f"pairs of which {int((d1 == d1[at]).sum())} of {len(d1)} have one concept or document as d1 and "
            f"{int((d2 == d1[at]).sum())} as d2 cannot be paired without pairing it with itself"
        )
    return int(fit[int(torch.randint(len(fit), (), generator=generator))])


def noisy_pairs(
    pairs: Pairs, epsilon: float, generator: torch.Generator, concepts: Int[np.ndarray, " D"]
) -> IndexPairs:
    """Replace the d2 of each pair, with probability ε, by a random document of another concept than d1's.

    Args:
        pairs: P pairs.
        epsilon: from 0 to 1.
        generator: source of randomness.
        concepts: each document's concept, int64 (D,).

    Raises:
        ConfigError: `epsilon` is out of its range.
        PairingError: all documents have one concept.
    """
    require(0 <= epsilon <= 1, "epsilon", epsilon, "a share from 0 to 1")
    first, concepts = np.asarray(pairs.first), np.asarray(concepts)
    if (concepts == concepts[0]).all():
        raise PairingError("all documents have one concept: no pair can be given a document of another")
    by_concept = np.argsort(concepts, kind="stable")
    begin = np.searchsorted(concepts[by_concept], concepts[first], side="left")
    end = np.searchsorted(concepts[by_concept], concepts[first], side="right")
    uniform, coin = torch.rand(2, len(first), dtype=torch.float64, generator=generator).numpy()
    place = (uniform * (len(concepts) - (end - begin))).astype(np.int64)
    place += np.where(place < begin, 0, end - begin)
    second = np.where(coin < epsilon, by_concept[place], np.asarray(pairs.second))
    return IndexPairs(first, second, pairs.corpus_fingerprint)
