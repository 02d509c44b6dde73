"""The claims: statistic, interval and verdict.

Intervals are Student's at 95% over seeds; where several worlds bear on a claim, a seed's value is its mean
over them. A claim that some x is above 0 is supported if its interval is above 0, refuted if below, else
undecided; a claim that x is nothing is supported if the interval lies within a stated margin.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy.stats

from experiments.claims.evidence import Evidence
from experiments.claims.predictor import explained, predict_settings, predict_worlds
from experiments.toy_validation.run import mean_and_half_width

Verdict = Literal["supported", "refuted", "undecided"]

INFORMATIVE = 0.05
"""I(d1; d2) in nats a token from which on a world counts as one with much to learn from pairs."""

NOTHING = 0.005
"""Nats a token within which a gain counts as none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim and what the runs say of it.

    Attributes:
        name: letter, and number where a letter has several.
        claim: what is claimed.
        statistic: what `value` is.
        value, low, high: the estimate and its interval; low and high are None without one.
        verdict: what the interval decides.
        evidence: the worlds, and the number of seeds.
    """

    name: str
    claim: str
    statistic: str
    value: float
    low: float | None
    high: float | None
    verdict: Verdict
    evidence: str


def judge(evidence: Evidence) -> list[Claim]:
    """Return every claim that the runs bear on."""
    made = [question(evidence) for question in QUESTIONS]
    return [claim for claims in made for claim in claims]


def _above(name: str, claim: str, statistic: str, values: np.ndarray, source: str) -> Claim:
    """Judge the claim that the mean of `values` is above 0."""
    mean, low, high = _interval(values)
    verdict: Verdict = "undecided"
    if low is not None and low > 0:
        verdict = "supported"
    if high is not None and high < 0:
        verdict = "refuted"
    return Claim(
        name=name,
        claim=claim,
        statistic=statistic,
        value=mean,
        low=low,
        high=high,
        verdict=verdict,
        evidence=f"{source}; {len(values)} seeds",
    )


def _within(  # noqa: PLR0917 - a row of the table
    name: str, claim: str, statistic: str, values: np.ndarray, margin: float, source: str
) -> Claim:
    """Judge the claim that the mean of `values` is 0, but for `margin`."""
    mean, low, high = _interval(values)
    verdict: Verdict = "undecided"
    if low is not None and high is not None:
        if -margin < low and high < margin:
            verdict = "supported"
        elif low > margin or high < -margin:
            verdict = "refuted"
    return Claim(
        name=name,
        claim=claim,
        statistic=f"{statistic}, margin {margin}",
        value=mean,
        low=low,
        high=high,
        verdict=verdict,
        evidence=f"{source}; {len(values)} seeds",
    )


def _interval(values: np.ndarray) -> tuple[float, float | None, float | None]:
    mean, half = mean_and_half_width(values)
    return (mean, mean - half, mean + half) if np.isfinite(half) else (mean, None, None)


def _uniform(evidence: Evidence) -> list[Claim]:
    if "uniform" not in evidence.validations:
        return []
    arms = [arm for arm in evidence.validations["uniform"]["config"]["arms"] if arm != "baseline"]
    baseline = evidence.excess("uniform", "baseline")
    gains = np.array([baseline - evidence.excess("uniform", arm) for arm in arms])
    largest = int(np.abs(gains.mean(axis=1)).argmax())
    return [
        _within(
            "a1",
            "Where tokens are uniform no arm learns: the loss is log 5",
            "baseline's loss − log 5, nats a token",
            baseline,
            NOTHING,
            "uniform",
        ),
        _within(
            "a2",
            "Where tokens are uniform no arm gains on the baseline",
            f"largest gain of any arm ({arms[largest]}), nats a token",
            gains[largest],
            NOTHING,
            "uniform",
        ),
    ]


def _synthesizer(evidence: Evidence) -> list[Claim]:
    worlds = informative_worlds(evidence)
    if not worlds:
        return []
    recovered = _mean_over(worlds, lambda w: evidence.measure(w, "marginal") - evidence.measure(w, "loss"))
    known = _mean_over(worlds, lambda w: evidence.measure(w, "marginal") - evidence.measure(w, "floor"))
    everywhere = [w for w in evidence.validations if evidence.is_measured(w)]
    errors = np.concatenate(
        [evidence.measure(w, "kl") / np.maximum(evidence.measure(w, "kl_error"), 1e-12) for w in everywhere]
    )
    bound = -float(np.sqrt(2 * np.log(2 * max(len(errors), 1) / 0.05)))
    return [
        _above(
            "b1",
            "The synthesizer's loss comes nearer to H(d2|d1) than to H(d2)",
            "share of I(d1;d2) that it learns, less one half",
            recovered / known - 0.5,
            _listed(worlds),
        ),
        Claim(
            name="b2",
            claim="The synthesizer never beats H(d2|d1) beyond noise",
            statistic=f"lowest (loss − H(d2|d1)) in standard errors; chance ends at {bound:.1f}",
            value=float(errors.min()),
            low=None,
            high=None,
            verdict="supported" if errors.min() > bound else "refuted",
            evidence=f"{len(errors)} synthesizers in {len(everywhere)} worlds",
        ),
    ]


def _approach(evidence: Evidence) -> list[Claim]:
    if evidence.phase_diagram is None:
        return []
    cells = evidence.phase_diagram["cells"]
    documents = sorted({cell["documents_per_concept"] for cell in cells})

    def learned(number: int) -> np.ndarray:
        own = [cell["learned"] for cell in cells if cell["documents_per_concept"] == number]
        return np.mean(own, axis=0)

    return [
        _above(
            "b3",
            "With more documents the synthesizer's loss approaches H(d2|d1)",
            f"share of I(d1;d2) that it learns with {documents[-1]} documents a concept, less that with "
            f"{documents[0]} ({learned(documents[-1]).mean():.2f} and {learned(documents[0]).mean():.2f})",
            learned(documents[-1]) - learned(documents[0]),
            f"{len(cells)} settings of {cells[0]['world']}",
        )
    ]


def _carried(evidence: Evidence) -> list[Claim]:
    worlds = [
        w
        for w in informative_worlds(evidence)
        if "carried" in (evidence.results(w, "sbp")[0]["synthesizer"] or {})
    ]
    if not worlds:
        return []
    return [
        _within(
            "c",
            "Sampled documents carry d1's concept at the exact posterior's rate",
            "share of samples that carry it, less the share of exact samples",
            _mean_over(
                worlds, lambda w: evidence.measure(w, "carried") - evidence.measure(w, "exact_carried")
            ),
            0.1,
            _listed(worlds),
        )
    ]


def _gains(evidence: Evidence) -> list[Claim]:
    rich = informative_worlds(evidence)
    poor = [w for w in evidence.validations if evidence.information(w) < INFORMATIVE]
    rivals = {
        "baseline": "repetition at its best checkpoint",
        "tuned_baseline": "repetition with tuned weight decay",
        "unconditional": "self-distillation",
    }
    claims: list[Claim] = []
    for number, (arm, rival) in enumerate(rivals.items(), start=1):
        worlds = [w for w in rich if evidence.results(w, arm)]
        if worlds:
            gains = _mean_over(worlds, functools.partial(evidence.gain, over=arm))
            claim = f"SBP beats {rival} where I(d1;d2) is large"
            claims.append(_above(f"d{number}", claim, "gain, nats a token", gains, _listed(worlds)))
    if rich and poor:
        gain = {w: evidence.gain(w) for w in (*rich, *poor)}
        claims.append(
            _above(
                "d4",
                "SBP gains more where I(d1;d2) is large than where it is small",
                "gain there less gain elsewhere, nats a token",
                _mean_over(rich, gain.__getitem__) - _mean_over(poor, gain.__getitem__),
                f"{_listed(rich)} against {_listed(poor)}",
            )
        )
    return claims


def _random_pairs(evidence: Evidence) -> list[Claim]:
    worlds = [w for w in informative_worlds(evidence) if evidence.results(w, "random_pairs")]
    if not worlds:
        return []
    lost = _mean_over(worlds, functools.partial(evidence.gain, over="random_pairs"))
    left = _mean_over(worlds, evidence.gain) - lost
    return [
        _above(
            "e1",
            "Random pairs gain less than pairs of one concept",
            "SBP's gain over SBP on random pairs, nats a token",
            lost,
            _listed(worlds),
        ),
        _within(
            "e2",
            "Random pairs lose the whole gain",
            "their gain over repetition, nats a token",
            left,
            NOTHING,
            _listed(worlds),
        ),
    ]


def _prediction(evidence: Evidence) -> list[Claim]:
    settings, worlds = predict_settings(evidence), predict_worlds(evidence)
    claims = []
    if len(settings) > 1:
        claims.append(
            _explained(
                "f1",
                "The gain's size is predicted before training by what is known of the world",
                "leave-one-out R² of a linear fit of I(d1;d2), log repetitions and their product",
                explained(settings),
                f"{len(settings)} settings of {settings[0].world}",
            )
        )
    if len(worlds) > 1:
        claims.append(
            _explained(
                "f2",
                "The same formula predicts the gain in other worlds",
                "R² there of the fit to the settings above",
                explained(worlds),
                _listed([prediction.world for prediction in worlds]),
            )
        )
    return claims


def _explained(name: str, claim: str, statistic: str, r2: float, source: str) -> Claim:
    """Judge the claim that a prediction explains more than half of the variance."""
    return Claim(
        name=name,
        claim=claim,
        statistic=f"{statistic}; above 0.5",
        value=r2,
        low=None,
        high=None,
        verdict="supported" if r2 > 0.5 else "refuted",
        evidence=source,
    )


def _phases(evidence: Evidence) -> list[Claim]:
    if evidence.phase_diagram is None:
        return []
    cells = evidence.phase_diagram["cells"]
    seen = [cell for cell in cells if cell["gain_half_width"] is not None]
    positive = sum(cell["gain"] - cell["gain_half_width"] > 0 for cell in seen)
    negative = sum(cell["gain"] + cell["gain_half_width"] < 0 for cell in seen)
    return [
        Claim(
            name="h",
            claim="There is a region of concepts × documents a concept in which SBP gains",
            statistic=f"share of settings whose interval is above 0, 0.025 by chance ({negative} are below)",
            value=positive / max(len(seen), 1),
            low=None,
            high=None,
            verdict="supported" if scipy.stats.binom.sf(positive - 1, len(seen), 0.025) < 0.05 else "refuted",
            evidence=f"{len(cells)} settings of {cells[0]['world']}",
        )
    ]


def _drift(evidence: Evidence) -> list[Claim]:
    if evidence.rounds is None:
        return []
    records, config = evidence.rounds["records"], evidence.rounds["config"]
    last = config["num_rounds"]
    source = f"{config['toy']['world']}, {last} rounds"

    def by_seed(number: int, key: str) -> np.ndarray:
        own = sorted((r for r in records if r["round"] == number), key=lambda r: r["seed"])
        return np.array([r[key] for r in own])

    return [
        _above(
            "g1",
            "The distribution of concepts drifts from round to round",
            "total variation to P(c), last round less first",
            by_seed(last, "total_variation") - by_seed(1, "total_variation"),
            source,
        ),
        _above(
            "g2",
            "Chains forget the concept of the document they began with",
            "P(c|d) at that concept, first round less last",
            by_seed(1, "lineage") - by_seed(last, "lineage"),
            source,
        ),
        _above(
            "g3",
            "Further rounds go on to lower the loss",
            "loss, first round less last, nats a token",
            by_seed(1, "excess") - by_seed(last, "excess"),
            source,
        ),
    ]


def _listed(worlds: Sequence[str]) -> str:
    return ", ".join(worlds) if len(worlds) <= 2 else f"{len(worlds)} worlds"


def informative_worlds(evidence: Evidence) -> list[str]:
    """Return the worlds in which I(d1; d2) counts as large."""
    return [w for w in evidence.validations if evidence.information(w) >= INFORMATIVE]


def _mean_over(worlds: Sequence[str], values: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return each seed's mean over worlds that were run with equal seeds."""
    return np.mean([values(world) for world in worlds], axis=0)


QUESTIONS: tuple[Callable[[Evidence], list[Claim]], ...] = (
    _uniform,
    _synthesizer,
    _approach,
    _carried,
    _gains,
    _random_pairs,
    _prediction,
    _phases,
    _drift,
)
