"""Intervals of losses, paired differences and the share of the gain: the one method of every experiment.

S seeds each train a model, and every model scores the same D documents: seeds and documents are crossed
random effects (Owen, Ann. Appl. Stat. 1, 2007). The loss is Σ nats / Σ tokens, a ratio, which is linearised
at its estimate into one deviation z_sd per seed and document. The variance of the mean of z is estimated by

    V = V_seeds + max(V_documents − V_rest, 0).

V_seeds is the variance of the seeds' means over S, V_documents that of the documents' means over D. Each also
holds the noise of single entries, the interaction of seed and document, whose part is V_rest. It is taken out
of the term that has more degrees of freedom (with fewer documents than seeds: V_seeds), where the difference
is rarely negative; to cut it at 0 widens the interval. Student's quantile has ν degrees of freedom, with

    1/ν = w_seeds^1.1 / (S − 1) + w_documents^1.1 / (D − 1),    w = each term's part of V.

Satterthwaite (Biometrics Bulletin 2, 1946) has the exponent 2. With few seeds that is too bold: where chance
made V_seeds small it also claims little weight for its few degrees of freedom, and nominal 95% intervals over
3 seeds cover 92% at worst. The exponent 1.1 makes the largest error smallest: from 94.0 to 96.1% over 3 seeds
and many documents, whatever their parts of the variance (95.0 to 95.9% over 5, 90.1 to 96.1% over 2; see
tests/evaluation/test_interval_coverage.py).

A share is a ratio of two paired differences; its interval is Fieller's (J. R. Stat. Soc. B 16, 1954): all
shares ρ for which the difference gain − ρ · oracle's gain cannot be told from 0.

Where there is one seed, intervals are over documents alone; where losses are one number per seed (D = 1),
they are Student's over seeds. Two of them are the least that an interval can be taken over.
"""

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import Float, Num
from scipy.special import stdtr, stdtrit

from sbp_bayes.base.config import require
from sbp_bayes.base.errors import ConfigError

LEVEL = 0.95
"""Coverage of an interval where no other is asked for."""


EXPONENT = 1.1
"""Exponent of the parts of the variance in the degrees of freedom; chosen for 3 seeds, see above."""

Over = Literal["seeds and documents", "seeds alone", "documents alone"]
"""What an interval generalises over; "documents alone" leaves out the spread between training runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its interval, in the estimate's own unit.

    Attributes:
        estimate: the value itself.
        low, high: ends of the interval.
        over: what the interval generalises over; with one seed "documents alone".
    """

    estimate: float
    low: float
    high: float
    over: Over = "documents alone"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds and documents, and how far chance moves it.

    Attributes:
        value: the estimate.
        standard_error: of `value`, in its unit.
        degrees_of_freedom: of `standard_error`.
        over: what `standard_error` generalises over.
    """

    value: float
    standard_error: float
    degrees_of_freedom: float
    over: Over

    def interval(self, level: float = LEVEL) -> Interval:
        """Return Student's interval that covers the true value with probability `level`."""
        reach = float(stdtrit(self.degrees_of_freedom, (1 + level) / 2)) * self.standard_error
        return Interval(estimate=self.value, low=self.value - reach, high=self.value + reach, over=self.over)

    def p_value(self, null: float = 0.0) -> float:
        """Return the two-sided p-value of the hypothesis that the true value is `null`."""
        if self.standard_error == 0:
            return float(self.value == null)
        above = self.p_above(null)
        return 2 * min(above, 1 - above)

    def p_above(self, null: float = 0.0) -> float:
        """Return the one-sided p-value of the hypothesis that the true value is at most `null`."""
        if self.standard_error == 0:
            return float(self.value <= null)
        return float(stdtr(self.degrees_of_freedom, (null - self.value) / self.standard_error))


def mean_over_seeds_and_documents(
    nats_SD: Float[np.ndarray, "S D"], tokens_D: Num[np.ndarray, " D"]
) -> Estimate:
    """Estimate Σ nats / Σ tokens, in nats per token.

    Args:
        nats_SD: summed over each document's tokens, by seed and document: a loss, or a paired difference.
        tokens_D: of each document.

    Raises:
        ConfigError: shapes that do not fit, or neither two seeds nor two documents.
    """
    return _Crossed.of(np.asarray(nats_SD)[None], tokens_D).along(np.ones(1))


def mean_over_seeds(values_S: Float[np.ndarray, " S"]) -> Estimate:
    """Estimate the mean of one value per seed.

    Raises:
        ConfigError: fewer than two seeds.
    """
    return mean_over_seeds_and_documents(np.asarray(values_S)[:, None], np.ones(1))


def loss_interval(
    loss_SD: Float[np.ndarray, "S D"], tokens_D: Num[np.ndarray, " D"], *, level: float = LEVEL
) -> Interval:
    """Return the interval of a loss in nats per token.

    Args:
        loss_SD: −log P(d) of each document under each seed's model, nats.
        tokens_D: of each document.
        level: coverage.

    Raises:
        ConfigError: shapes that do not fit, neither two seeds nor two documents, or a level that is no share.
    """
    require(0 < level < 1, "level", level, "between 0 and 1")
    return mean_over_seeds_and_documents(loss_SD, tokens_D).interval(level)


def difference_interval(
    first_SD: np.ndarray, second_SD: np.ndarray, tokens_D: np.ndarray, *, level: float = LEVEL
) -> Interval:
    """Return the interval of L_first − L_second in nats per token, paired over seeds and documents.

    Args:
        first_SD, second_SD: −log P(d) of each document under each seed's model of two arms, nats.
        tokens_D: of each document.
        level: coverage.

    Raises:
        ConfigError: shapes that do not fit, neither two seeds nor two documents, or a level that is no share.
    """
    first_SD, second_SD = _same_shape(first_SD, second_SD)
    return loss_interval(first_SD - second_SD, tokens_D, level=level)


def share_interval(
    baseline_SD: np.ndarray,
    arm_SD: np.ndarray,
    oracle_SD: np.ndarray,
    tokens_D: np.ndarray,
    *,
    level: float = LEVEL,
) -> Interval | None:
    """Return the interval of (L_baseline − L_arm) / (L_baseline − L_oracle), the paper's figure of merit.

    Args:
        baseline_SD, arm_SD, oracle_SD: −log P(d) of each document under each seed's model, nats.
        tokens_D: of each document.
        level: coverage.

    Returns:
        None where the interval of the oracle's gain reaches 0 or below: without a gain of the oracle's there
        is nothing to recover, and the shares that cannot be told from the truth have no bound.

    Raises:
        ConfigError: shapes that do not fit, neither two seeds nor two documents, or a level that is no share.
    """
    baseline_SD, arm_SD, oracle_SD = _same_shape(baseline_SD, arm_SD, oracle_SD)
    gains = _Crossed.of(np.stack([baseline_SD - arm_SD, baseline_SD - oracle_SD]), tokens_D)
    require(0 < level < 1, "level", level, "between 0 and 1")
    if gains.along(np.array([0.0, 1.0])).interval(level).low <= 0:
        return None
    share = float(gains.means_K[0] / gains.means_K[1])
    ends = (_fieller_end(gains, share, way, level) for way in (-1, 1))
    over = gains.along(np.ones(2)).over
    return Interval(estimate=share, low=next(ends), high=next(ends), over=over)


def _same_shape(*arms_SD: np.ndarray) -> list[np.ndarray]:
    """Return the arms as arrays; refuse those that would be paired by repeating a seed or a document."""
    arrays = [np.asarray(arm_SD, np.float64) for arm_SD in arms_SD]
    if any(array.shape != arrays[0].shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ConfigError(f"arms of other seeds or documents cannot be paired: shapes {shapes}")
    return arrays


def _fieller_end(gains: "_Crossed", share: float, way: int, level: float) -> float:
    """Return the end of the interval below (−1) or above (+1) the estimate."""
    from scipy.optimize import brentq

    def held(distance: float) -> float:
        rest = gains.along(np.array([1.0, -(share + way * distance)]))
        interval = rest.interval(level)
        return interval.high if way > 0 else -interval.low

    reach = gains.along(np.array([1.0, -share])).standard_error / float(gains.means_K[1])
    if reach == 0 or held(0.0) <= 0:
        return share  # nothing varies
    while held(reach) > 0:  # ends, since the oracle's gain is told from 0
        reach *= 2
    return share + way * float(brentq(held, 0.0, reach, xtol=1e-10 * reach))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Crossed:
    """Means of K quantities over S seeds and D documents, and the parts of their covariances.

    `parts_3KK` are those that seeds' means, documents' means and the rest estimate: V_seeds, V_documents and
    V_rest along any combination of the K quantities.
    """

    means_K: np.ndarray
    parts_3KK: np.ndarray
    num_seeds: int
    num_documents: int

    @classmethod
    def of(cls, nats_KSD: np.ndarray, tokens_D: np.ndarray) -> "_Crossed":
        nats_KSD, tokens_D = np.asarray(nats_KSD, np.float64), np.asarray(tokens_D, np.float64)
        if nats_KSD.ndim != 3 or tokens_D.shape != nats_KSD.shape[2:]:
            raise ConfigError(
                f"losses of shape {nats_KSD.shape[1:]} and tokens of shape {tokens_D.shape}: "
                "expected (seeds, documents) and (documents,)"
            )
        _, S, D = nats_KSD.shape
        if S * D < 2 or tokens_D.sum() <= 0:
            raise ConfigError(f"no interval over {S} seed(s) and {D} document(s): two of either are needed")
        if not np.isfinite(nats_KSD).all():
            raise ConfigError("no interval over losses that are infinite or not numbers")
        means_K = nats_KSD.mean(1).sum(-1) / tokens_D.sum()
        # Linearised: the mean of these over documents is each seed's loss less the loss.
        z_KSD = (nats_KSD - means_K[:, None, None] * tokens_D) / tokens_D.mean()
        seed_KS, document_KD = z_KSD.mean(2), z_KSD.mean(1)
        rest_KN = (z_KSD - seed_KS[:, :, None] - document_KD[:, None]).reshape(len(z_KSD), S * D)
        degrees = (S - 1, D - 1, (S - 1) * (D - 1))
        deviations = (seed_KS, document_KD, rest_KN)
        parts = [
            z_KN @ z_KN.T / (z_KN.shape[1] * max(n, 1)) for z_KN, n in zip(deviations, degrees, strict=True)
        ]
        return cls(means_K=means_K, parts_3KK=np.array(parts), num_seeds=S, num_documents=D)

    def along(self, direction_K: np.ndarray) -> Estimate:
        """Estimate the combination of the K quantities with these weights."""
        parts = self.parts_3KK @ direction_K @ direction_K
        seeds, documents, rest = (max(0.0, part) for part in parts.tolist())  # rounding may leave less
        S, D = self.num_seeds, self.num_documents
        if S <= D:
            documents = max(documents - rest, 0.0)
        else:
            seeds = max(seeds - rest, 0.0)
        variance = seeds + documents
        inverse = sum(
            (part / variance) ** EXPONENT / (n - 1)
            for part, n in ((seeds, S), (documents, D))
            if n > 1 and variance > 0
        )
        return Estimate(
            value=float(direction_K @ self.means_K),
            standard_error=math.sqrt(variance),
            degrees_of_freedom=1 / inverse if inverse > 0 else math.inf,
            over="documents alone" if S == 1 else "seeds alone" if D == 1 else "seeds and documents",
        )
