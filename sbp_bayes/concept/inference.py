"""Pyro's inference on a concept model's program: enumeration, NUTS, and SVI with an amortised guide.

These are the second road to what finite and conjugate models know exactly, and the only one elsewhere.
Randomness is an explicit generator, and Pyro's parameter store is left as it was.
"""

import dataclasses

import pyro
import torch
from pyro.distributions import Dirichlet, Independent, TorchDistribution
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.ops.stats import effective_sample_size
from torch import Tensor, nn
from torch.nn import functional

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.concept.distributions import concept_event_shape
from sbp_bayes.concept.documents import PAD
from sbp_bayes.concept.finite import FiniteConceptModel
from sbp_bayes.concept.importance import (
    LogEstimate,
    annealed_log_prob,
    global_generator,
    importance_log_prob,
    importance_log_prob_pair,
)
from sbp_bayes.concept.protocol import ConceptModel
from sbp_bayes.concept.pyro_program import concept_program

__all__ = [
    "AmortisedGuide",
    "ConceptSamples",
    "LogEstimate",
    "annealed_log_prob",
    "enumerated_log_prob",
    "enumerated_posterior",
    "fit_guide",
    "global_generator",
    "importance_log_prob",
    "importance_log_prob_pair",
    "nuts_posterior",
]


@dataclasses.dataclass(frozen=True, eq=False)
class ConceptSamples(ArrayRecord):
    """Dependent draws c ~ P(c | d) of a Markov chain.

    Attributes:
        concepts: (draws, N, *concept's shape).
    """

    concepts: Tensor

    def mean(self) -> Tensor:
        """Return the posterior mean, (N, *concept's shape)."""
        return self.concepts.mean(dim=0)

    def standard_error(self) -> Tensor:
        """Return the Monte Carlo error of `mean`: deviation / √(effective number of draws)."""
        effective = effective_sample_size(self.concepts[None], chain_dim=0, sample_dim=1)
        return self.concepts.std(dim=0) / effective.sqrt()


class AmortisedGuide(nn.Module):
    """q(c | d): Dirichlet rows whose concentrations a network reads from counts of tokens and bigrams.

    Args:
        vocab_size: V.
        concept_shape: one concept's, the last dimension V; every row is a distribution over tokens.
        hidden: units of the network's hidden layer.
    """

    def __init__(self, vocab_size: int, concept_shape: tuple[int, ...], hidden: int = 32) -> None:
        super().__init__()
        self.vocab_size, self.concept_shape = vocab_size, tuple(concept_shape)
        features, outputs = vocab_size * (vocab_size + 2), torch.Size(concept_shape).numel()
        self.direct = nn.Linear(features, outputs, dtype=torch.float64)
        self.inner = nn.Linear(features, hidden, dtype=torch.float64)
        self.outer = nn.Linear(hidden, outputs, dtype=torch.float64)

    def forward(self, d: Tensor) -> TorchDistribution:
        """Return q(c | d) of documents (N, T): batch_shape (N,), event_shape `concept_shape`."""
        counts = self._counts(d)
        raw = self.direct(counts) + self.outer(self.inner(counts).tanh())
        alpha = functional.softplus(raw).clamp(min=1e-3).unflatten(1, self.concept_shape)
        return Independent(Dirichlet(alpha), alpha.ndim - 2)

    def _counts(self, d: Tensor) -> Tensor:
        """Return the first token's indicator, counts of tokens and counts of bigrams, (N, V + V + V²)."""
        tokens = functional.one_hot(d.clamp(min=0), self.vocab_size).double() * (d != PAD)[..., None]
        bigrams = torch.einsum("ntu,ntv->nuv", tokens[:, :-1], tokens[:, 1:])
        return torch.cat([tokens[:, 0], tokens.sum(dim=1), bigrams.flatten(1)], dim=1)


def enumerated_log_prob(model: FiniteConceptModel, d: Tensor) -> Tensor:
    """Return log P(d), (N,), by `TraceEnum_ELBO` with an empty guide, a document at a time.

    Args:
        model: finite.
        d: documents (N, T), or several of each concept (N, M, T), whose joint probability it then is.
    """
    elbo = TraceEnum_ELBO(max_plate_nesting=d.ndim - 1)
    program = concept_program(model)
    return torch.tensor([-elbo.loss(program, _empty_guide, one) for one in d.split(1)], dtype=torch.float64)


def enumerated_posterior(model: FiniteConceptModel, d: Tensor) -> Tensor:
    """Return log P(c | d), (N, K), by `TraceEnum_ELBO.compute_marginals`; a single concept is certain.

    Args:
        model: finite.
        d: documents (N, T), or several of each concept (N, M, T).
    """
    if model.num_concepts == 1:  # Pyro's contraction refuses dimensions of size 1
        return torch.zeros(len(d), 1, dtype=torch.float64)
    elbo = TraceEnum_ELBO(max_plate_nesting=d.ndim - 1)
    marginals = elbo.compute_marginals(concept_program(model), _empty_guide, d)
    return marginals["concept"].logits.reshape(len(d), model.num_concepts).log_softmax(dim=1)


def nuts_posterior(
    model: ConceptModel, d: Tensor, num_samples: int, generator: torch.Generator, warmup_steps: int = 200
) -> ConceptSamples:
    """Draw concepts from P(c | d) by the No-U-Turn sampler, all documents in one chain.

    Args:
        model: a continuous concept, `concept_prior` a density on a space that Pyro can unconstrain, and
            `log_prob_given` differentiable in c.
        d: documents (N, T), or several of each concept (N, M, T).
        num_samples: draws kept.
        generator: of the chain.
        warmup_steps: draws spent on the step size and mass matrix.

    Raises:
        ConfigError: fewer than four draws, of which no effective number can be told.
    """
    require(num_samples >= 4, "num_samples", num_samples, "at least 4")
    with global_generator(generator):
        chain = MCMC(NUTS(concept_program(model)), num_samples, warmup_steps, disable_progbar=True)
        chain.run(d)
    concepts = chain.get_samples()["concept"]
    return ConceptSamples(concepts.reshape(num_samples, len(d), *concept_event_shape(model)))


def fit_guide(
    model: ConceptModel,
    num_steps: int,
    generator: torch.Generator,
    batch_size: int = 64,
    learning_rate: float = 0.02,
) -> tuple[AmortisedGuide, Tensor]:
    """Fit q(c | d) by SVI, on new documents of the model at every step, so that it serves for any document.

    The learning rate falls exponentially to a thousandth. The fit has a parameter store of its own.

    Args:
        model: a concept of rows of token probabilities, with `concept_prior`.
        num_steps: of Adam.
        generator: of documents, of the network's initial weights and of the draws c ~ q.
        batch_size: documents a step.
        learning_rate: at the start.

    Returns:
        The guide, and the loss of every step, E_q[log q(c | d) − log P(c, d)] a document in nats
        (num_steps,), at least H(d) in expectation.

    Raises:
        ConfigError: no steps, or a concept that is not rows of token probabilities.
    """
    shape = tuple(concept_event_shape(model))
    require(num_steps >= 1, "num_steps", num_steps, "at least 1")
    require(shape[-1:] == (model.vocab_size,), "concept shape", shape, "rows of token probabilities (…, V)")
    with pyro.get_param_store().scope(), global_generator(generator):
        network = AmortisedGuide(model.vocab_size, shape)

        def guide(d: Tensor) -> None:
            pyro.module("guide", network)
            with pyro.plate("concepts", len(d), dim=-1):
                pyro.sample("concept", network(d))

        decay = (1e-3) ** (1 / num_steps)
        svi = SVI(
            concept_program(model),
            guide,
            pyro.optim.ClippedAdam({"lr": learning_rate, "lrd": decay}),
            Trace_ELBO(),
        )
        losses = []
        for _ in range(num_steps):
            c = model.sample_concept(batch_size, torch.default_generator)
            losses.append(svi.step(model.sample(c, torch.default_generator)) / batch_size)
    return network.requires_grad_(False), torch.tensor(losses, dtype=torch.float64)


def _empty_guide(documents: Tensor) -> None:
    """Leave every site to enumeration."""
