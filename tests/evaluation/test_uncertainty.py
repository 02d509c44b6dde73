"""Bootstrap intervals: against closed forms, for coverage, for pairing, and honest about empty gains."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.evaluation import Bootstrap, DocumentScores
from sbp_bayes.evaluation.uncertainty import _resample


def scores(nats_per_token: np.ndarray, tokens: np.ndarray | None = None, corpus: str = "c") -> DocumentScores:
    tokens = np.full(len(nats_per_token), 10) if tokens is None else tokens
    return DocumentScores(
        loss_nats=nats_per_token * tokens, num_tokens=tokens, num_bytes=4 * tokens, corpus_fingerprint=corpus
    )


def noisy(mean: float, seed: int, size: int = 400, spread: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, size)


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    """Equal lengths: the loss is a plain mean, whose percentile interval is ±1.96 s/√N up to O(1/√R)."""
    nats = noisy(3.0, 0)
    interval = Bootstrap(num_resamples=4000).loss({0: scores(nats)})
    error = 1.959964 * nats.std() / np.sqrt(len(nats))
    assert interval.estimate == pytest.approx(nats.mean(), rel=1e-12)
    # a 2.5% quantile of R draws has standard error √(0.025·0.975/R)/φ(1.96) = 0.042 s/√N at R = 4000; z < 5
    slack = 5 * 0.0423 * nats.std() / np.sqrt(len(nats))
    assert interval.low == pytest.approx(nats.mean() - error, abs=slack)
    assert interval.high == pytest.approx(nats.mean() + error, abs=slack)


def test_coverage_of_the_interval() -> None:
    """400 worlds of 60 documents of unequal lengths: 95% intervals hold the truth in 95%, z < 5."""
    generator, truth, covered = np.random.default_rng(1), 2.0, 0
    for world in range(400):
        tokens = generator.integers(5, 200, 60)
        nats = truth + generator.normal(0, 1, 60) / np.sqrt(tokens)
        interval = Bootstrap(num_resamples=300, seed=world).loss({0: scores(nats, tokens)})
        covered += interval.low <= truth <= interval.high
    # the percentile bootstrap of 60 documents covers a little less than it says: 93% at the least here
    assert 400 * 0.93 - 5 * np.sqrt(400 * 0.07 * 0.93) < covered < 400 * 0.95 + 5 * np.sqrt(400 * 0.05 * 0.95)


def test_tokens_weigh_alike() -> None:
    arm = {0: scores(np.array([1.0, 4.0]), np.array([30, 10]))}
    assert Bootstrap().loss(arm).estimate == pytest.approx(70 / 40)


def test_one_resample_by_hand() -> None:
    """The resamples' losses are Σ c·loss / Σ c·tokens of the very counts that are drawn."""
    tokens, first, second = np.array([3, 5, 9]), np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 0.5])
    bootstrap = Bootstrap(num_resamples=5, seed=3)
    _, (resamples, *_) = bootstrap._losses({0: scores(first, tokens)}, {0: scores(second, tokens)})
    from sbp_bayes.base.seeds import numpy_generator

    counts = _resample(numpy_generator(3, "documents"), 3, 5)
    for row, resample in zip(counts, resamples, strict=True):
        chosen = np.repeat(np.arange(3), row.astype(int))
        assert len(chosen) == 3
        assert resample == pytest.approx((first * tokens)[chosen].sum() / tokens[chosen].sum(), rel=1e-12)


@settings(deadline=None)
@given(shift=st.floats(-2, 2), seed=st.integers(0, 5))
def test_a_constant_difference_has_no_width(shift: float, seed: int) -> None:
    """Pairing: what makes a document hard for both arms cancels."""
    nats = noisy(3.0, seed, size=20, spread=2.0)
    difference = Bootstrap(num_resamples=50).difference({0: scores(nats + shift)}, {0: scores(nats)})
    assert [difference.low, difference.high] == pytest.approx([shift, shift], abs=1e-10)


@settings(deadline=None)
@given(share=st.floats(-0.5, 1.5))
def test_a_share_that_is_constant(share: float) -> None:
    """The arm recovers the same share on every document, so every resample agrees."""
    base, gain = noisy(3.0, 1, 30), np.abs(noisy(0.5, 2, 30)) + 0.1
    arms = {"baseline": base, "arm": base - share * gain, "oracle": base - gain}
    result = Bootstrap(num_resamples=50).share_of_gain(**{k: {0: scores(v)} for k, v in arms.items()})
    assert result.share is not None
    assert [result.share.estimate, result.share.low, result.share.high] == pytest.approx(
        [share] * 3, abs=1e-9
    )
    assert result.gain.estimate == pytest.approx(share * gain.mean(), abs=1e-12)
    assert result.oracle_gain.estimate == pytest.approx(gain.mean())


@pytest.mark.parametrize("oracle_gain", [0.0, -0.3, 0.005])
def test_no_share_without_an_oracles_gain(oracle_gain: float) -> None:
    base, noise = noisy(3.0, 1), noisy(0.0, 2, spread=0.2)  # a gain of 0.005 has a standard error of 0.01
    arms = {"baseline": base, "arm": base - 0.1, "oracle": base - oracle_gain - (noise - noise.mean())}
    result = Bootstrap(num_resamples=500).share_of_gain(**{k: {0: scores(v)} for k, v in arms.items()})
    assert result.share is None
    assert result.oracle_gain.low <= 0
    assert result.gain.estimate == pytest.approx(0.1)


def test_seeds_are_resampled_too() -> None:
    """Seeds that differ a lot widen the interval, to the spread of means of three draws from them."""
    nats = noisy(3.0, 0, spread=0.01)
    one = Bootstrap().loss({7: scores(nats)})
    three = Bootstrap().loss({s: scores(nats + d) for s, d in ((1, -1.0), (2, 0.0), (3, 1.0))})
    assert three.estimate == pytest.approx(one.estimate)
    assert three.high - three.low > 50 * (one.high - one.low)
    # the mean of 3 draws from −1, 0, 1 is at most 1, which it reaches in 1 of 27 resamples
    assert three.high == pytest.approx(one.estimate + 1, abs=0.01)


def test_seeds_are_paired_between_arms() -> None:
    nats = noisy(3.0, 0)
    first = {s: scores(nats + s) for s in (1, 2, 3)}
    second = {s: scores(nats + s - 0.25) for s in (3, 2, 1)}
    difference = Bootstrap(num_resamples=50).difference(first, second)
    assert [difference.low, difference.high] == pytest.approx([0.25, 0.25], abs=1e-10)


def test_the_same_seed_gives_the_same_interval() -> None:
    arm = {0: scores(noisy(3.0, 0))}
    assert Bootstrap(seed=1).loss(arm) == Bootstrap(seed=1).loss(arm)
    assert Bootstrap(seed=1).loss(arm) != Bootstrap(seed=2).loss(arm)


def test_what_cannot_be_paired_is_refused() -> None:
    arm = {0: scores(np.ones(3))}
    other = {0: dataclasses.replace(arm[0], corpus_fingerprint="d")}
    with pytest.raises(ConfigError, match="different documents"):
        Bootstrap().difference(arm, other)
    with pytest.raises(ConfigError, match=r"seeds \[0\] and \[1\]"):
        Bootstrap().difference(arm, {1: arm[0]})
    with pytest.raises(ConfigError, match="no scores"):
        Bootstrap().loss({})
    with pytest.raises(ConfigError, match="level"):
        Bootstrap(level=1.0)
    with pytest.raises(ConfigError, match="num_resamples"):
        Bootstrap(num_resamples=0)
