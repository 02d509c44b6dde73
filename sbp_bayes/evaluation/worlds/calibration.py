"""Whether samples d2 carry d1's concept at the posterior's rate, judged by the world's own inference.

What a synthesizer writes is read back with the exact P(c | d2), which errs itself: the exact synthesizer's
samples are read in the same way, and what they score is what can be reached (`exact_…`, `noise_floor`).

Shapes: N documents d1, M samples of each, K concepts.
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.base.seeds import torch_generator
from sbp_bayes.concept.documents import PAD
from sbp_bayes.concept.finite import FiniteConceptModel
from sbp_bayes.evaluation.intervals import Interval
from sbp_bayes.evaluation.worlds.fidelity import mean_interval
from sbp_bayes.synthesizer import PosteriorSynthesizer, Synthesizer
from sbp_bayes.synthesizer.posterior import world_documents

CELLS_TOGETHER = 1 << 21
"""Entries of a table (samples, concepts) that are held at once: 16 MiB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The documents d1 whose most probable concept ĉ has P(ĉ | d1) in one bin.

    Attributes:
        low, high: the bin's bounds.
        num_documents: d1s in it.
        confidence: mean of P(ĉ | d1).
        frequency: share of the synthesizer's samples whose most probable concept is their d1's ĉ.
        exact_frequency: the same of the exact synthesizer's samples.
    """

    low: float
    high: float
    num_documents: int
    confidence: float
    frequency: float
    exact_frequency: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConceptCalibration:
    """Concepts recovered from a synthesizer's samples, against those of exact samples and P(c | d1).

    Intervals are over d1s; total variation is ½ Σ_c |·|, a share.

    Attributes:
        total_variation: between the average of P(c | d2) over M of the synthesizer's samples and over M
            exact ones, its mean over d1s. Samples that no concept can produce count as one more concept.
        noise_floor: the same between two sets of M exact samples.
        excess: `total_variation` − `noise_floor`, paired by d1; around 0 for an exact synthesizer.
        confidence: mean of P(ĉ | d1), where ĉ = argmax P(c | d1).
        carried: share of the synthesizer's samples with argmax P(c | d2) = ĉ.
        exact_carried: the same of exact samples.
        carried_difference: `carried` − `exact_carried`, paired by d1.
        calibration_error: Σ over bins of share of d1s · |frequency − confidence|.
        exact_calibration_error: the same of exact samples: what inference from d2 alone costs, and noise.
        bins: the reliability diagram; bins without a d1 are left out.
        impossible_share: share of the synthesizer's samples that no concept can produce.
        num_documents: N.
        samples_per_document: M.
    """

    total_variation: Interval
    noise_floor: Interval
    excess: Interval
    confidence: Interval
    carried: Interval
    exact_carried: Interval
    carried_difference: Interval
    calibration_error: float
    exact_calibration_error: float
    bins: tuple[ReliabilityBin, ...]
    impossible_share: float
    num_documents: int
    samples_per_document: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Recovered(ArrayRecord):
    """What samples say of concepts: their average posterior (N, K + 1) and how often ĉ is inferred (N,)."""

    posterior_NK: Tensor
    carried_N: Tensor


def concept_calibration(
    world: FiniteConceptModel,
    synthesizer: Synthesizer,
    d1: Int64[Tensor, "N T"],
    *,
    samples_per_document: int,
    seed: int,
    num_bins: int = 10,
    level: float = 0.95,
) -> ConceptCalibration:
    """Sample d2s of every d1 and compare the concepts recovered from them with those of exact samples.

    Args:
        world: with finitely many concepts.
        synthesizer: speaks world tokens; of longer samples the first doc_length tokens are read.
        d1: int64 (N, T), documents of the world.
        samples_per_document: M.
        seed: of the samples; equal seeds compare synthesizers with the same exact samples.
        num_bins: of the reliability diagram, of equal width from 0 to 1.
        level: coverage of the intervals.

    Raises:
        ConfigError: a number out of its range, or fewer than two documents.
        ConceptError: a d1 that the world cannot produce.
    """
    require(samples_per_document >= 1, "samples_per_document", samples_per_document, "at least 1")
    require(num_bins >= 1, "num_bins", num_bins, "at least 1")
    confidence_N, inferred_N = world.posterior(d1).exp().max(dim=1)
    sources: dict[str, Synthesizer] = {"model": synthesizer}
    sources |= {name: PosteriorSynthesizer(world) for name in ("exact", "again")}
    model, exact, again = (
        _recover(
            world,
            source,
            d1,
            inferred_N,
            num_samples=samples_per_document,
            generator=torch_generator(seed, "calibration", name),
        )
        for name, source in sources.items()
    )
    variation_N = _total_variation(model.posterior_NK, exact.posterior_NK)
    floor_N = _total_variation(again.posterior_NK, exact.posterior_NK)
    exact_N = (exact.carried_N + again.carried_N) / 2
    bins = _bins(confidence_N, model.carried_N, exact_N, num_bins)
    return ConceptCalibration(
        total_variation=_interval(variation_N, level),
        noise_floor=_interval(floor_N, level),
        excess=_interval(variation_N - floor_N, level),
        confidence=_interval(confidence_N, level),
        carried=_interval(model.carried_N, level),
        exact_carried=_interval(exact_N, level),
        carried_difference=_interval(model.carried_N - exact_N, level),
        calibration_error=_calibration_error([(b, b.frequency) for b in bins]),
        exact_calibration_error=_calibration_error([(b, b.exact_frequency) for b in bins]),
        bins=bins,
        impossible_share=float(model.posterior_NK[:, -1].mean()),
        num_documents=len(d1),
        samples_per_document=samples_per_document,
    )


def _recover(
    world: FiniteConceptModel,
    synthesizer: Synthesizer,
    d1: Tensor,
    inferred_N: Tensor,
    *,
    num_samples: int,
    generator: torch.Generator,
) -> _Recovered:
    size = max(1, CELLS_TOGETHER // (num_samples * world.num_concepts))
    posteriors, carried = [], []
    for documents, inferred in zip(d1.split(size), inferred_N.split(size), strict=True):
        drawn = synthesizer.sample(documents.repeat_interleave(num_samples, dim=0), generator)
        d2 = world_documents([tokens[tokens != PAD][: world.doc_length] for tokens in drawn])
        posterior_NMK = _posterior(world, d2).unflatten(0, (len(documents), num_samples))
        posteriors.append(posterior_NMK.mean(dim=1))
        carried.append((posterior_NMK.argmax(dim=2) == inferred[:, None]).double().mean(dim=1))
    return _Recovered(torch.cat(posteriors), torch.cat(carried))


def _posterior(world: FiniteConceptModel, d_NT: Tensor) -> Tensor:
    """Return P(c | d) with one more column that is 1 where no concept can produce d, (N, K + 1)."""
    log_joint_NK = world.log_likelihood(d_NT) + world.log_prior_K
    impossible_N = log_joint_NK.logsumexp(dim=1) == -torch.inf
    posterior_NK = torch.where(impossible_N[:, None], 0.0, log_joint_NK.softmax(dim=1))
    return torch.cat([posterior_NK, impossible_N.double()[:, None]], dim=1)


def _total_variation(first_NK: Tensor, second_NK: Tensor) -> Tensor:
    return (first_NK - second_NK).abs().sum(dim=1) / 2


def _bins(
    confidence_N: Tensor, frequency_N: Tensor, exact_N: Tensor, num_bins: int
) -> tuple[ReliabilityBin, ...]:
    bin_N = (confidence_N * num_bins).long().clamp(max=num_bins - 1)
    return tuple(
        ReliabilityBin(
            low=number / num_bins,
            high=(number + 1) / num_bins,
            num_documents=int((bin_N == number).sum()),
            confidence=float(confidence_N[bin_N == number].mean()),
            frequency=float(frequency_N[bin_N == number].mean()),
            exact_frequency=float(exact_N[bin_N == number].mean()),
        )
        for number in bin_N.unique().tolist()
    )


def _calibration_error(bins: list[tuple[ReliabilityBin, float]]) -> float:
    total = sum(b.num_documents for b, _ in bins)
    return sum(b.num_documents * abs(frequency - b.confidence) for b, frequency in bins) / total


def _interval(values_N: Tensor, level: float) -> Interval:
    return mean_interval(np.asarray(values_N), level)
