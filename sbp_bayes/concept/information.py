"""What documents tell about each other and about their concept, in nats: entropies and mutual information.

Two documents of one concept are a noisy channel, c → d1 and c → d2, so I(d1; d2) ≤ I(c; d). H(d) per token
is the loss no language model can beat, H(d2 | d1) per token the loss no synthesizer can beat.

Each quantity is exact by enumeration of all documents, or, where `num_samples` says so, a Monte Carlo mean
with its standard error. Shapes: N documents, T time, D all documents, K concepts, V vocabulary.
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sbp_bayes.base.config import require
from sbp_bayes.concept.documents import PAD
from sbp_bayes.concept.finite import CHUNK_BYTES, FiniteConceptModel
from sbp_bayes.concept.protocol import ConceptModel, ExactModel

MAX_DOCUMENTS = 2**20
"""The most documents that are enumerated."""

MAX_PAIRS = 2**24
"""The most pairs of documents that are enumerated."""


@dataclasses.dataclass(frozen=True)
class MonteCarloEstimate:
    """A number with its Monte Carlo error.

    Attributes:
        value: in the quantity's own unit.
        standard_error: of `value`; 0 where it is exact.
        num_samples: draws behind it; 0 where it is exact.
    """

    value: float
    standard_error: float
    num_samples: int


@runtime_checkable
class _ScoresTokens(Protocol):
    """A model that scores every position of a document at once, as the conjugate ones do."""

    def token_log_probs(self, d: Tensor, given: Tensor | None = None) -> Tensor:
        """Return log P(d_t | d_<t[, d1]), (N, T)."""
        ...


@runtime_checkable
class _AveragesOverConcepts(Protocol):
    """A continuous model that knows E[log P(d | c) | d]."""

    def posterior_mean_log_likelihood(self, d: Tensor) -> Tensor:
        """Return E[log P(d | c) | d], (N,)."""
        ...


def enumerate_documents(model: ConceptModel) -> Int64[Tensor, "D T"]:
    """Return all documents of `doc_length` tokens, int64 (vocab_size ** doc_length, doc_length).

    Raises:
        ConfigError: more than `MAX_DOCUMENTS`.
    """
    return _enumerate(model, MAX_DOCUMENTS)


def sample_pairs(
    model: ConceptModel, num_samples: int, generator: torch.Generator
) -> tuple[Int64[Tensor, "num_samples T"], Int64[Tensor, "num_samples T"]]:
    """Draw pairs (d1, d2), independent given their concept; int64 (num_samples, doc_length) twice."""
    c = model.sample_concept(num_samples, generator)
    return model.sample(c, generator), model.sample(c, generator)


def entropy(
    model: ExactModel, num_samples: int | None = None, generator: torch.Generator | None = None
) -> MonteCarloEstimate:
    """Return H(d) = −Σ_d P(d) log P(d), nats per document.

    Args:
        model: says P(d).
        num_samples: documents drawn; None enumerates all.
        generator: of the draws, needed with `num_samples`.

    Raises:
        ConfigError: too many documents to enumerate, fewer than two draws, or draws without generator.
    """
    if num_samples is None:
        return _exact(_expected_surprise(model.log_prob(enumerate_documents(model))))
    generator = _checked(num_samples, generator)
    d = model.sample(model.sample_concept(num_samples, generator), generator)
    return _mean(-model.log_prob(d))


def conditional_entropy(
    model: ExactModel, num_samples: int | None = None, generator: torch.Generator | None = None
) -> MonteCarloEstimate:
    """Return H(d2 | d1) = −Σ P(d1, d2) log P(d2 | d1), nats per document: what d1 leaves open in d2.

    Arguments and errors are those of `entropy`; pairs of documents are enumerated or drawn.
    """
    if num_samples is None:
        d = _enumerate(model, int(MAX_PAIRS**0.5))
        surprises = (_expected_surprise(joint) for joint in _log_joint_blocks(model, d))
        return _exact(sum(surprises) - _expected_surprise(model.log_prob(d)))
    d1, d2 = sample_pairs(model, num_samples, _checked(num_samples, generator))
    return _mean(-model.log_prob_pair(d2, d1))


def mutual_information(
    model: ExactModel, num_samples: int | None = None, generator: torch.Generator | None = None
) -> MonteCarloEstimate:
    """Return I(d1; d2) = H(d) − H(d2 | d1), nats: what a document says about another of its concept.

    The Monte Carlo mean is of log P(d2 | d1) − log P(d2), whose noise largely cancels.
    Arguments and errors are those of `entropy`; pairs of documents are enumerated or drawn.
    """
    if num_samples is None:
        return _exact(entropy(model).value - conditional_entropy(model).value)
    d1, d2 = sample_pairs(model, num_samples, _checked(num_samples, generator))
    return _mean(model.log_prob_pair(d2, d1) - model.log_prob(d2))


def concept_information(
    model: ExactModel, num_samples: int | None = None, generator: torch.Generator | None = None
) -> MonteCarloEstimate:
    """Return I(c; d) = E[log P(d | c) − log P(d)], nats: what a document says about its concept.

    The Monte Carlo mean is of KL(P(c | d) ‖ P(c)) over documents where the model has finitely many
    concepts or is conjugate, and of log P(d | c) − log P(d) over concepts and documents elsewhere.
    Arguments are those of `entropy`.

    Raises:
        ConfigError: as `entropy`, or an exact value asked of a model that cannot average over concepts.
    """
    if num_samples is None:
        d = enumerate_documents(model)
        gain_D = _posterior_gain(model, d)
        require(gain_D is not None, "num_samples", None, "a number for a model without posterior averages")
        assert gain_D is not None
        return _exact(float((model.log_prob(d).exp() * gain_D).sum()))
    generator = _checked(num_samples, generator)
    c = model.sample_concept(num_samples, generator)
    d = model.sample(c, generator)
    gain_N = _posterior_gain(model, d)
    return _mean(model.log_prob_given(d, c) - model.log_prob(d) if gain_N is None else gain_N)


def bayes_loss(model: ExactModel, num_samples: int, generator: torch.Generator) -> MonteCarloEstimate:
    """Return H(d) / doc_length, nats per token: the floor of every language model, by Monte Carlo.

    Raises:
        ConfigError: fewer than two documents.
    """
    return _per_token(model, entropy(model, num_samples, generator))


def synthesizer_floor(model: ExactModel, num_samples: int, generator: torch.Generator) -> MonteCarloEstimate:
    """Return H(d2 | d1) / doc_length, nats per token: the floor of every synthesizer, by Monte Carlo.

    Raises:
        ConfigError: fewer than two pairs.
    """
    return _per_token(model, conditional_entropy(model, num_samples, generator))


def bayes_loss_curve(
    model: ExactModel, d: Int64[Tensor, "N T2"], given: Int64[Tensor, "N T1"] | None = None
) -> Float64[Tensor, "N T2"]:
    """Return −log P(d_t | d_<t), or −log P(d_t | d_<t, d1) where d1 is `given`, (N, T) in nats.

    The loss at every position of the predictor that knows the model; a row sums to −log P(d), or to
    −log P(d | d1). It is 0 at padding, and infinite from the first token on that has probability 0.

    Args:
        model: finite and conjugate models are scored at once, others a position at a time.
        d: documents, int64 (N, T).
        given: d1, one a document.

    Raises:
        ConceptError: a d1 of probability 0; in models scored by position also such a prefix.
    """
    if isinstance(model, FiniteConceptModel):
        blocks = _row_blocks(len(d), 16 * d.shape[1] * model.num_concepts)
        curves = [_finite_curve(model, d[rows], None if given is None else given[rows]) for rows in blocks]
        return torch.cat(curves)
    if isinstance(model, _ScoresTokens):
        return -model.token_log_probs(d, given)
    loss_NT = torch.zeros(d.shape, dtype=torch.float64)
    for t in range(d.shape[1]):
        goes_on = d[:, t] != PAD
        log_probs_NV = model.next_token_log_probs(d[goes_on, :t], None if given is None else given[goes_on])
        loss_NT[goes_on, t] = -log_probs_NV.gather(1, d[goes_on, t : t + 1])[:, 0]
    return loss_NT


def _finite_curve(model: FiniteConceptModel, d: Tensor, given: Tensor | None) -> Tensor:
    log_weight_NK = model.log_prior_K.expand(len(d), -1) if given is None else model.posterior(given)
    log_joint_NTK = model.token_log_likelihood(d).cumsum_(dim=1) + log_weight_NK[:, None]
    evidence_NT = log_joint_NTK.logsumexp(dim=2)
    before_NT = torch.cat([log_weight_NK.logsumexp(dim=1, keepdim=True), evidence_NT[:, :-1]], dim=1)
    return torch.where(evidence_NT == -torch.inf, torch.inf, before_NT - evidence_NT)


def _posterior_gain(model: ExactModel, d: Tensor) -> Tensor | None:
    """Return KL(P(c | d) ‖ P(c)), (N,), 0 where d is impossible; None where the model cannot say."""
    if isinstance(model, FiniteConceptModel):
        blocks = _row_blocks(len(d), 24 * model.num_concepts)
        return torch.cat([_finite_gain(model, d[rows]) for rows in blocks])
    if isinstance(model, _AveragesOverConcepts):
        return model.posterior_mean_log_likelihood(d) - model.log_prob(d)
    return None


def _finite_gain(model: FiniteConceptModel, d: Tensor) -> Tensor:
    log_likelihood_NK = model.log_likelihood(d)
    log_joint_NK = log_likelihood_NK + model.log_prior_K
    log_ratio_NK = log_likelihood_NK - log_joint_NK.logsumexp(dim=1, keepdim=True)
    posterior_NK = (log_ratio_NK + model.log_prior_K).exp()
    return torch.where(posterior_NK > 0, posterior_NK * log_ratio_NK, 0.0).sum(dim=1)


def _log_joint_blocks(model: ExactModel, d: Tensor) -> Iterator[Tensor]:
    """Yield log P(d1, d2) of some d1 with every d2, (rows, D), until every d1 was there."""
    if isinstance(model, FiniteConceptModel):
        likelihood_DK = model.log_likelihood(d).exp()
        joint_DK = likelihood_DK * model.log_prior_K.exp()
        for rows in _row_blocks(len(d), 8 * len(d)):
            yield (joint_DK[rows] @ likelihood_DK.T).log()
        return
    log_prob_D = model.log_prob(d)
    d, log_prob_D = d[log_prob_D > -torch.inf], log_prob_D[log_prob_D > -torch.inf]
    for rows in _row_blocks(len(d), 16 * d.numel()):
        given = d[rows].repeat_interleave(len(d), dim=0)
        second = d.repeat(len(d[rows]), 1)
        yield log_prob_D[rows, None] + model.log_prob_pair(second, given).unflatten(0, (-1, len(d)))


def _enumerate(model: ConceptModel, limit: int) -> Tensor:
    number = model.vocab_size**model.doc_length
    require(
        number <= limit,
        "vocab_size ** doc_length",
        number,
        f"at most {limit} documents to enumerate; give num_samples for a Monte Carlo estimate",
    )
    place_T = model.vocab_size ** torch.arange(model.doc_length - 1, -1, -1)
    return torch.arange(number)[:, None] // place_T % model.vocab_size


def _row_blocks(num_rows: int, bytes_per_row: int) -> Iterator[slice]:
    size = max(1, CHUNK_BYTES // max(1, bytes_per_row))
    return (slice(start, start + size) for start in range(0, max(1, num_rows), size))


def _expected_surprise(log_prob: Tensor) -> float:
    return float(torch.where(log_prob > -torch.inf, -log_prob.exp() * log_prob, 0.0).sum())


def _checked(num_samples: int, generator: torch.Generator | None) -> torch.Generator:
    require(num_samples >= 2, "num_samples", num_samples, "at least 2")
    require(generator is not None, "generator", None, "a torch.Generator where num_samples is given")
    assert generator is not None
    return generator


def _exact(value: float) -> MonteCarloEstimate:
    return MonteCarloEstimate(value, standard_error=0.0, num_samples=0)


def _mean(sample_N: Tensor) -> MonteCarloEstimate:
    return MonteCarloEstimate(
        float(sample_N.mean()), float(sample_N.std() / len(sample_N) ** 0.5), len(sample_N)
    )


def _per_token(model: ConceptModel, total: MonteCarloEstimate) -> MonteCarloEstimate:
    length = model.doc_length
    return MonteCarloEstimate(total.value / length, total.standard_error / length, total.num_samples)
