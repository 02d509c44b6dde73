"""How far a synthesizer is from the world's own P(d2 | d1): KL(P ‖ p_θ) in nats, beside the floor H(d2 | d1).

What is counted: d2's tokens, given d1 and each other. A neural synthesizer also says where a document ends;
a world's documents have a fixed length, so the end is certain and −log p_θ(EOS | d1, d2) is all that it
costs: `Fidelity.end`, never part of the other numbers. Mass that p_θ gives to special tokens within d2 is
lost, and counts.

Shapes: N pairs, T time, D all documents.
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sbp_bayes.base.arrays import ArrayRecord
from sbp_bayes.base.config import require
from sbp_bayes.concept.documents import PAD
from sbp_bayes.concept.information import MAX_PAIRS, bayes_loss_curve, enumerate_documents
from sbp_bayes.concept.protocol import ExactModel
from sbp_bayes.evaluation.intervals import LEVEL, Interval, mean_over_seeds_and_documents
from sbp_bayes.synthesizer import Synthesizer, TokenSynthesizer

PAIRS_TOGETHER = 1 << 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fidelity:
    """KL(P(d2 | d1) ‖ p_θ(d2 | d1)) of a synthesizer, estimated from N pairs, without bias; nats.

    An infinite estimate is no overflow: a d2 was drawn to which the synthesizer gives probability 0.

    Attributes:
        kl_per_document: mean of log P(d2 | d1) − log p_θ(d2 | d1).
        kl_per_token: the same, divided by d2's tokens.
        floor_per_token: H(d2 | d1), divided by d2's tokens: the loss that no synthesizer beats.
        loss_per_token: −log p_θ(d2 | d1) per token, floor and KL together.
        kl_by_position: the part of `kl_per_document` that falls to each position of d2, T of them.
        end: −log p_θ(EOS | d1, d2) per document; None for a synthesizer whose documents have no end.
        num_documents: N.
    """

    kl_per_document: Interval
    kl_per_token: Interval
    floor_per_token: Interval
    loss_per_token: Interval
    kl_by_position: tuple[Interval, ...]
    end: Interval | None
    num_documents: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactFidelity:
    """The quantities of `Fidelity` as expectations over all pairs of documents, nats per document.

    Attributes:
        kl: KL(P(d2 | d1) ‖ p_θ(d2 | d1)).
        floor: H(d2 | d1).
        loss: floor + KL.
    """

    kl: float
    floor: float

    @property
    def loss(self) -> float:
        """E[−log p_θ(d2 | d1)]."""
        return self.floor + self.kl


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PairScores(ArrayRecord):
    """Losses of the world and of a synthesizer on the same pairs, nats, float64.

    Attributes:
        truth: −log P(d2_t | d1, d2_<t), (N, T); 0 at padding.
        model: −log p_θ(d2_t | d1, d2_<t), (N, T); 0 at padding.
        end: −log p_θ(EOS | d1, d2), (N,), or None.
        num_tokens: d2's tokens, int64 (N,).
    """

    truth: np.ndarray
    model: np.ndarray
    end: np.ndarray | None
    num_tokens: np.ndarray

    def fidelity(self, level: float = 0.95) -> Fidelity:
        """Summarise; intervals are normal ones over pairs, `level` their coverage.

        Raises:
            ConfigError: fewer than two pairs.
        """
        gap_NT, tokens = self._gap(), self.num_tokens
        return Fidelity(
            kl_per_document=mean_interval(gap_NT.sum(axis=1), level),
            kl_per_token=ratio_interval(gap_NT.sum(axis=1), tokens, level),
            floor_per_token=ratio_interval(self.truth.sum(axis=1), tokens, level),
            loss_per_token=ratio_interval(self.model.sum(axis=1), tokens, level),
            kl_by_position=tuple(mean_interval(gap_N, level) for gap_N in gap_NT.T),
            end=None if self.end is None else mean_interval(self.end, level),
            num_documents=len(gap_NT),
        )

    def _gap(self) -> np.ndarray:
        assert np.isfinite(self.truth).all()
        return self.model - self.truth


def measure_fidelity(
    world: ExactModel,
    synthesizer: TokenSynthesizer,
    d1: Int64[Tensor, "_ T1"],
    d2: Int64[Tensor, "N T2"],
    *,
    level: float = 0.95,
) -> Fidelity:
    """Estimate KL(P(d2 | d1) ‖ p_θ(d2 | d1)) from independent pairs of the world.

    Args:
        world: says P(d2 | d1).
        synthesizer: speaks world tokens; a neural one within `WorldTokens`.
        d1: int64 (N, T), of `sbp_bayes.concept.information.sample_pairs(world, N, generator)`.
        d2: the other documents of those pairs. Equal pairs make synthesizers comparable.
        level: coverage of the intervals.

    Raises:
        ConfigError: fewer than two pairs, or a d2 that the world cannot produce given its d1.
        ConceptError: a d1 that the world cannot produce.
    """
    return score_pairs(world, synthesizer, d1, d2).fidelity(level)


def score_pairs(
    world: ExactModel, synthesizer: TokenSynthesizer, d1: Int64[Tensor, "_ T1"], d2: Int64[Tensor, "N T2"]
) -> PairScores:
    """Return the losses of world and synthesizer at every token of d2.

    Arguments and errors are those of `measure_fidelity`; one pair is enough.
    """
    require(len(d1) == len(d2), "len(d2)", len(d2), f"one d2 for each of {len(d1)} d1")
    truth, model, ends = [], [], []
    for first, second in zip(d1.split(PAIRS_TOGETHER), d2.split(PAIRS_TOGETHER), strict=True):
        truth.append(bayes_loss_curve(world, second, first))
        scores = synthesizer.token_log_prob(second, first)
        model.append(-scores.tokens)
        ends.append(scores.end)
    truth_NT = torch.cat(truth)
    impossible = truth_NT.isinf().any(dim=1).nonzero()[:, 0].tolist()
    require(not impossible, "d2", impossible[:1], "documents of probability above 0 given d1")
    known = [end for end in ends if end is not None]
    return PairScores(
        truth=truth_NT.numpy(),
        model=torch.cat(model).numpy(),
        end=-torch.cat(known).numpy() if known else None,
        num_tokens=(d2 != PAD).sum(dim=1).numpy(),
    )


def exact_fidelity(world: ExactModel, synthesizer: Synthesizer) -> ExactFidelity:
    """Return KL(P(d2 | d1) ‖ p_θ(d2 | d1)) = Σ P(d1, d2) (log P(d2 | d1) − log p_θ(d2 | d1)), exactly.

    Args:
        world: of few enough documents that all pairs of them can be enumerated.
        synthesizer: speaks world tokens.

    Raises:
        ConfigError: too many pairs of documents.
    """
    number = world.vocab_size ** (2 * world.doc_length)
    require(number <= MAX_PAIRS, "vocab_size ** (2 doc_length)", number, f"at most {MAX_PAIRS} pairs")
    d_DT = enumerate_documents(world)
    log_prob_D = world.log_prob(d_DT)
    possible_DT = d_DT[log_prob_D > -torch.inf]
    kl, floor = 0.0, 0.0
    for d1, log_prob in zip(possible_DT, log_prob_D[log_prob_D > -torch.inf], strict=True):
        given = d1.expand(len(possible_DT), -1)
        log_truth_D = world.log_prob_pair(possible_DT, given=given)
        log_model_D = synthesizer.log_prob(possible_DT, given=given)
        reached = log_truth_D > -torch.inf
        joint = (log_prob + log_truth_D[reached]).exp()
        kl += float((joint * (log_truth_D - log_model_D)[reached]).sum())
        floor -= float((joint * log_truth_D[reached]).sum())
    return ExactFidelity(kl=kl, floor=floor)


def mean_interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the mean of independent values, (N,), with its interval; infinite where a value is.

    Raises:
        ConfigError: fewer than two values, or a level that is no share.
    """
    return ratio_interval(values, np.ones(len(values)), level)


def ratio_interval(values: np.ndarray, weights: np.ndarray, level: float = LEVEL) -> Interval:
    """Return Σ values / Σ weights with its interval by the delta method; infinite where a value is.

    Args:
        values: of independent items, (N,).
        weights: of the same items, (N,), for instance their numbers of tokens.
        level: coverage of the interval.

    Raises:
        ConfigError: fewer than two values, or a level that is no share.
    """
    require(len(values) >= 2, "documents", len(values), "at least 2 for an interval")
    require(0 < level < 1, "level", level, "between 0 and 1")
    if not np.isfinite(values).all():
        total = float(values.sum())
        return Interval(estimate=total, low=total, high=total)
    return mean_over_seeds_and_documents(values[None], weights).interval(level)
