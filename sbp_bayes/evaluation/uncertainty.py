"""Intervals by the bootstrap over documents, paired between arms, and over seeds where there are several.

Every arm scores the same documents, so one resample of documents serves all arms: what makes a
document hard for one arm makes it hard for the others, and cancels in their difference. Tokens of
one document are dependent; documents are what is resampled.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.evaluation.scores import DocumentScores

Arm = Mapping[int, DocumentScores]
"""Scores of one arm on one split, by the seed of its run."""

RESAMPLES_TOGETHER = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its percentile interval, in the estimate's own unit."""

    estimate: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShareOfGain:
    """How much of the oracle's gain over the baseline another arm recovers.

    Attributes:
        gain: L_baseline − L_arm, nats per token.
        oracle_gain: L_baseline − L_oracle, nats per token.
        share: gain / oracle_gain; None where the interval of `oracle_gain` reaches 0 or below:
            without a gain of the oracle's there is nothing to recover, and a ratio means nothing.
    """

    gain: Interval
    oracle_gain: Interval
    share: Interval | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are taken.

    Attributes:
        num_resamples: resamples of documents (and seeds).
        level: share of resamples inside the interval.
        seed: of the resampling; equal seeds resample equally, whatever the arms.
    """

    num_resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.num_resamples >= 1, "num_resamples", self.num_resamples, "at least 1")
        require(0 < self.level < 1, "level", self.level, "between 0 and 1")

    def loss(self, arm: Arm) -> Interval:
        """Interval of one arm's loss in nats per token."""
        (estimate,), (resamples,) = self._losses(arm)
        return self._interval(estimate, resamples)

    def difference(self, first: Arm, second: Arm) -> Interval:
        """Interval of L_first − L_second in nats per token, paired over documents and seeds.

        Raises:
            ConfigError: the arms scored other documents, or have other seeds.
        """
        estimates, resamples = self._losses(first, second)
        return self._interval(estimates[0] - estimates[1], resamples[0] - resamples[1])

    def share_of_gain(self, *, baseline: Arm, arm: Arm, oracle: Arm) -> ShareOfGain:
        """Interval of (L_baseline − L_arm) / (L_baseline − L_oracle), the paper's figure of merit.

        Raises:
            ConfigError: the arms scored other documents, or have other seeds.
        """
        estimates, resamples = self._losses(baseline, arm, oracle)
        gains, gains_R = estimates[0] - estimates[1:], resamples[0] - resamples[1:]
        gain, oracle_gain = (self._interval(e, r) for e, r in zip(gains, gains_R, strict=True))
        share = None
        if oracle_gain.low > 0:
            share = self._interval(gains[0] / gains[1], gains_R[0] / gains_R[1])
        return ShareOfGain(gain=gain, oracle_gain=oracle_gain, share=share)

    def _losses(self, *arms: Arm) -> tuple[np.ndarray, np.ndarray]:
        """Return each arm's nats per token, (arms,), and their resamples, (arms, resamples)."""
        loss_ASD, tokens_D = _stack(arms)
        num_arms, num_seeds, num_documents = loss_ASD.shape
        counts_RS = _resample(numpy_generator(self.seed, "seeds"), num_seeds, self.num_resamples)
        documents = numpy_generator(self.seed, "documents")
        resamples = np.empty((num_arms, self.num_resamples))
        for start in range(0, self.num_resamples, RESAMPLES_TOGETHER):
            rows = slice(start, min(start + RESAMPLES_TOGETHER, self.num_resamples))
            counts_RD = _resample(documents, num_documents, rows.stop - rows.start)
            nats_ASR = loss_ASD @ counts_RD.T
            resamples[:, rows] = (nats_ASR * counts_RS[rows].T).sum(1) / (counts_RD @ tokens_D)
        return loss_ASD.mean(1).sum(-1) / tokens_D.sum(), resamples / num_seeds

    def _interval(self, estimate: float, resamples: np.ndarray) -> Interval:
        tail = (1 - self.level) / 2
        low, high = np.quantile(resamples, [tail, 1 - tail])
        return Interval(estimate=float(estimate), low=float(low), high=float(high))


def _resample(generator: np.random.Generator, num_items: int, num_resamples: int) -> np.ndarray:
    """Return how often each item is drawn in each resample, float64 (num_resamples, num_items)."""
    drawn = generator.integers(num_items, size=(num_resamples, num_items))
    drawn += np.arange(num_resamples)[:, None] * num_items
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_items)
    return counts.reshape(num_resamples, num_items).astype(np.float64)


def _stack(arms: tuple[Arm, ...]) -> tuple[np.ndarray, np.ndarray]:
    seeds = sorted(arms[0])
    if not seeds:
        raise ConfigError("an arm has no scores")
    documents = arms[0][seeds[0]].corpus_fingerprint
    for arm in arms:
        if sorted(arm) != seeds:
            raise ConfigError(f"arms of seeds {seeds} and {sorted(arm)} cannot be paired")
        if any(scores.corpus_fingerprint != documents for scores in arm.values()):
            raise ConfigError("arms that scored different documents cannot be paired")
    loss_ASD = np.array([[arm[seed].loss_nats for seed in seeds] for arm in arms])
    return loss_ASD, arms[0][seeds[0]].num_tokens.astype(np.float64)
