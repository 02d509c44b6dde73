"""log P(d) and log P(d2 | d1) with error bars, for models that can draw concepts and score documents by them.

Any `ConceptModel` will do: neither `log_prob` nor a posterior is asked of it.
The estimates of probabilities are unbiased (a pair's is a ratio of such); their logarithms are biased by
about −variance / 2, and a standard error above 1 says that the estimate is not to be trusted.

Shapes: N documents, T time, S samples.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.distributions import Distribution

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.concept.protocol import ConceptModel

PARTICLES = 2**16
"""The most concepts that are held at once."""

KEEPS = (0.0, 0.5, 0.9, 0.98)
"""The sizes of annealed moves, in turn: from a new draw of the prior to a small step."""

Proposal = Callable[[Tensor], Distribution]
"""Maps documents (N, T) to q(c | d), a distribution of batch_shape (N,) over concepts."""


@dataclasses.dataclass(frozen=True, eq=False)
class LogEstimate(ArrayRecord):
    """Log probabilities with their Monte Carlo errors.

    Attributes:
        log_prob: nats, (N,); −inf where no sample could produce the document.
        standard_error: of `log_prob` by the delta method, nats, (N,); inf where that is −inf.
        num_samples: S, of each document.
    """

    log_prob: Tensor
    standard_error: Tensor
    num_samples: int


@contextlib.contextmanager
def global_generator(generator: torch.Generator) -> Iterator[None]:
    """Let `generator` stand in for PyTorch's global one inside the block; it goes on where the block ended.

    Pyro and torch's distributions draw from the global generator alone, which is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())


def importance_log_prob(
    model: ConceptModel,
    d: Int64[Tensor, "N T"],
    num_samples: int,
    generator: torch.Generator,
    proposal: Proposal | None = None,
) -> LogEstimate:
    """Estimate log P(d) = log E_q[P(d | c) P(c) / q(c | d)], each document by concepts of its own.

    Args:
        model: need not be exact; needs `concept_prior` if there is a proposal.
        d: documents, int64 (N, T).
        num_samples: S, at least 2.
        generator: of the draws.
        proposal: q(c | d), such as an amortised guide; None draws from P(c), whose error grows fast with
            what a document says about its concept.

    Raises:
        ConfigError: fewer than two samples.
    """
    require(num_samples >= 2, "num_samples", num_samples, "at least 2")
    blocks = [
        _log_weights(model, rows, num_samples, generator, proposal) for rows in _row_blocks(d, num_samples)
    ]
    return _log_mean_exp(torch.cat(blocks, dim=1))


def importance_log_prob_pair(
    model: ConceptModel,
    d2: Int64[Tensor, "N T2"],
    given: Int64[Tensor, "N T1"],
    num_samples: int,
    generator: torch.Generator,
) -> LogEstimate:
    """Estimate log P(d2 | d1) = log E[P(d1 | c) P(d2 | c)] − log E[P(d1 | c)] by the same draws c ~ P(c).

    Args:
        model: need not be exact.
        d2: documents, int64 (N, T).
        given: d1, one a document.
        num_samples: S, at least 2.
        generator: of the draws.

    Raises:
        ConfigError: fewer than two samples.
    """
    require(num_samples >= 2, "num_samples", num_samples, "at least 2")
    logs, errors = [], []
    for first, second in zip(_row_blocks(given, num_samples), _row_blocks(d2, num_samples), strict=True):
        c = model.sample_concept(num_samples * len(first), generator)
        log_first_SN = _score(model, first, c, num_samples)
        log_both_SN = log_first_SN + _score(model, second, c, num_samples)
        share_SN, share_both_SN = log_first_SN.softmax(dim=0), log_both_SN.softmax(dim=0)
        logs.append(log_both_SN.logsumexp(dim=0) - log_first_SN.logsumexp(dim=0))
        errors.append((share_both_SN - share_SN).square().sum(dim=0).sqrt())
    return _estimate(torch.cat(logs), torch.cat(errors), num_samples)


def annealed_log_prob(
    model: ConceptModel,
    d: Int64[Tensor, "N T"],
    num_samples: int,
    generator: torch.Generator,
    num_temperatures: int = 100,
) -> LogEstimate:
    """Estimate log P(d) by annealed importance sampling from P(c) to P(c | d) (arXiv physics/9803008).

    Concepts go through P(c) P(d | c)^β for β = (i / L)², with one Metropolis move each. A model with
    `perturb_concept(c, keep, generator)`, reversible with respect to P(c), makes moves of the sizes `KEEPS`
    in turn, accepted with min(1, (P(d | c') / P(d | c))^β). Any other draws its proposals from P(c): that
    is valid too, but moves are then rarely accepted where documents say much about their concept, and the
    standard error, which is honest, is close to that of plain importance sampling.

    Args:
        model: need not be exact.
        d: documents, int64 (N, T).
        num_samples: S, independent runs for each document, at least 2.
        generator: of the draws.
        num_temperatures: L.

    Raises:
        ConfigError: fewer than two samples, or no temperature.
    """
    require(num_samples >= 2, "num_samples", num_samples, "at least 2")
    require(num_temperatures >= 1, "num_temperatures", num_temperatures, "at least 1")
    blocks = [
        _anneal(model, rows, num_samples, generator, num_temperatures) for rows in _row_blocks(d, num_samples)
    ]
    return _log_mean_exp(torch.cat(blocks, dim=1))


def _anneal(
    model: ConceptModel, d: Tensor, num_samples: int, generator: torch.Generator, num_temperatures: int
) -> Tensor:
    """Return log weights (S, N)."""
    perturb = getattr(model, "perturb_concept", None)
    c = model.sample_concept(num_samples * len(d), generator)
    log_likelihood_SN = _score(model, d, c, num_samples)
    log_weight_SN = torch.zeros_like(log_likelihood_SN)
    for step in range(num_temperatures):
        beta, colder = (step / num_temperatures) ** 2, ((step + 1) / num_temperatures) ** 2
        log_weight_SN += (colder - beta) * log_likelihood_SN
        if step == num_temperatures - 1:
            break
        keep = KEEPS[step % len(KEEPS)]
        moved = perturb(c, keep, generator) if perturb else model.sample_concept(len(c), generator)
        log_moved_SN = _score(model, d, moved, num_samples)
        log_uniform_SN = torch.rand(log_moved_SN.shape, dtype=torch.float64, generator=generator).log()
        accepted_SN = log_uniform_SN < colder * (log_moved_SN - log_likelihood_SN)
        accepted = accepted_SN.flatten().reshape(-1, *[1] * (c.ndim - 1))
        c = torch.where(accepted, moved, c)
        log_likelihood_SN = torch.where(accepted_SN, log_moved_SN, log_likelihood_SN)
    return log_weight_SN


def _log_weights(
    model: ConceptModel, d: Tensor, num_samples: int, generator: torch.Generator, proposal: Proposal | None
) -> Tensor:
    """Return log P(d | c) + log P(c) − log q(c | d) of c ~ q, (S, N)."""
    if proposal is None:
        return _score(model, d, model.sample_concept(num_samples * len(d), generator), num_samples)
    prior: Distribution = model.concept_prior  # type: ignore[attr-defined]
    with torch.no_grad(), global_generator(generator):
        law = proposal(d)
        c_SN = law.sample(torch.Size([num_samples]))
        return _score(model, d, c_SN.flatten(0, 1), num_samples) + prior.log_prob(c_SN) - law.log_prob(c_SN)


def _score(model: ConceptModel, d: Tensor, c: Tensor, num_samples: int) -> Tensor:
    return model.log_prob_given(d.repeat(num_samples, 1), c).unflatten(0, (num_samples, len(d)))


def _row_blocks(d: Tensor, num_samples: int) -> tuple[Tensor, ...]:
    return d.split(max(1, PARTICLES // num_samples))


def _log_mean_exp(log_weight_SN: Tensor) -> LogEstimate:
    num_samples = len(log_weight_SN)
    log_mean_N = log_weight_SN.logsumexp(dim=0) - math.log(num_samples)
    deviation_SN = log_weight_SN.softmax(dim=0) - 1 / num_samples
    return _estimate(log_mean_N, deviation_SN.square().sum(dim=0).sqrt(), num_samples)


def _estimate(log_prob_N: Tensor, error_N: Tensor, num_samples: int) -> LogEstimate:
    error_N = error_N * (num_samples / (num_samples - 1)) ** 0.5
    return LogEstimate(log_prob_N, error_N.nan_to_num(nan=torch.inf), num_samples)
