"""A claim, its p-value, and the verdict after the correction for judging many at once.

Estimates are means over seeds, with Student's 95% intervals; where several worlds bear on a claim, a seed's
value is its mean over them. So a verdict generalises over seeds of these worlds (their parameters, documents,
weights and samples), not over worlds.

The verdicts are those of Holm's procedure (Scand. J. Stat. 6, 1979) over all claims that are judged together.
It needs no independence: chance makes a single false verdict, or several, with probability 5% at most.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from sbp_bayes.evaluation import Estimate, mean_over_seeds

Verdict = Literal["supported", "refuted", "undecided", "not refuted"]

ALPHA = 0.05
"""Probability that any of the claims is called supported or refuted by chance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim and what the runs say of it.

    Attributes:
        name: letter, and number where a letter has several.
        claim: what is claimed.
        statistic: what `value` is.
        value, low, high: the estimate and its 95% interval; low and high are None without one.
        p_value: of the hypothesis that chance made what speaks for or against the claim.
        holm_p_value: the same after Holm's correction over all claims; None until `correct` gives it.
        tends: the verdict if `holm_p_value` is small enough.
        otherwise: the verdict if it is not.
        evidence: the worlds, and the number of seeds.
    """

    name: str
    claim: str
    statistic: str
    value: float
    low: float | None = None
    high: float | None = None
    p_value: float
    holm_p_value: float | None = None
    tends: Verdict
    otherwise: Verdict = "undecided"
    evidence: str

    @property
    def verdict(self) -> Verdict:
        """What the corrected p-value decides; "undecided" before the correction."""
        if self.holm_p_value is None:
            return "undecided"
        return self.tends if self.holm_p_value < ALPHA else self.otherwise


def correct(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims with their p-values after Holm's correction, in the order given."""
    adjusted = holm([claim.p_value for claim in claims])
    return [dataclasses.replace(c, holm_p_value=p) for c, p in zip(claims, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's step-down correction, in the order given."""
    steps = np.arange(len(p_values), 0, -1)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * steps), 1.0)
    return adjusted.tolist()


def above_zero(name: str, claim: str, statistic: str, values_S: np.ndarray, *, evidence: str) -> Claim:
    """Judge the claim that the mean of `values_S`, one per seed, is above 0."""
    estimate = mean_over_seeds(values_S)
    return _claim(
        estimate,
        name=name,
        claim=claim,
        statistic=statistic,
        p_value=estimate.p_value(),
        tends="supported" if estimate.value > 0 else "refuted",
        evidence=f"{evidence}; {len(values_S)} seeds",
    )


def within_margin(
    name: str, claim: str, statistic: str, values_S: np.ndarray, *, margin: float, evidence: str
) -> Claim:
    """Judge the claim that the mean of `values_S`, one per seed, is 0 but for `margin`.

    It is supported by two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987), and refuted by
    one that the mean lies outside. The p-value is twice theirs, so that alone it decides as the 95% interval.
    """
    estimate = mean_over_seeds(values_S)
    inside = max(1 - estimate.p_above(margin), estimate.p_above(-margin))
    outside = min(estimate.p_above(margin), 1 - estimate.p_above(-margin))
    return _claim(
        estimate,
        name=name,
        claim=claim,
        statistic=f"{statistic}, margin {margin}",
        p_value=min(1.0, 2 * min(inside, outside)),
        tends="supported" if inside < outside else "refuted",
        evidence=f"{evidence}; {len(values_S)} seeds",
    )


def _claim(estimate: Estimate, **fields: object) -> Claim:
    interval = estimate.interval()
    return Claim(value=estimate.value, low=interval.low, high=interval.high, **fields)  # type: ignore[arg-type]
