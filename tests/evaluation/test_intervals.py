"""Intervals over seeds and documents: against closed forms and second roads, and honest about empty gains."""

import dataclasses

import jaxtyping
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.evaluation import (
    DocumentScores,
    difference_interval,
    loss_interval,
    mean_over_seeds,
    mean_over_seeds_and_documents,
    pair_arms,
    share_interval,
)


def noise(seed: int, *shape: int, spread: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, shape)


def scores(nats_per_token: np.ndarray, corpus: str = "c") -> DocumentScores:
    tokens = np.full(len(nats_per_token), 10)
    return DocumentScores(
        loss_nats=nats_per_token * tokens, num_tokens=tokens, num_bytes=4 * tokens, corpus_fingerprint=corpus
    )


def test_one_seed_is_students_interval_over_documents() -> None:
    nats = 3 + noise(0, 1, 40)
    interval = loss_interval(10 * nats, np.full(40, 10))
    expected = scipy.stats.ttest_1samp(nats[0], 3.0)
    assert interval.estimate == pytest.approx(nats.mean(), rel=1e-12)
    assert [interval.low, interval.high] == pytest.approx(list(expected.confidence_interval()), rel=1e-10)
    estimate = mean_over_seeds_and_documents(10 * nats, np.full(40, 10))
    assert estimate.p_value(3.0) == pytest.approx(expected.pvalue, rel=1e-9)


def test_one_number_a_seed_is_students_interval_over_seeds() -> None:
    values = noise(1, 5)
    estimate, expected = mean_over_seeds(values), scipy.stats.ttest_1samp(values, 0.1)
    interval = estimate.interval()
    assert [interval.low, interval.high] == pytest.approx(list(expected.confidence_interval()), rel=1e-10)
    assert estimate.p_value(0.1) == pytest.approx(expected.pvalue, rel=1e-9)
    one_sided = scipy.stats.ttest_1samp(values, 0.1, alternative="greater").pvalue
    assert estimate.p_above(0.1) == pytest.approx(one_sided, rel=1e-9)


def test_the_variance_is_that_of_the_two_way_table() -> None:
    """By mean squares, written as in a table of the analysis of variance; documents of equal length."""
    seeds, documents = 4, 7
    table = noise(2, seeds, 1) + noise(3, 1, documents) + noise(4, seeds, documents, spread=0.1)
    rows, columns, mean = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
    ms_seeds = documents * ((rows - mean) ** 2).sum() / (seeds - 1)
    ms_documents = seeds * ((columns - mean) ** 2).sum() / (documents - 1)
    ms_rest = ((table - rows - columns + mean) ** 2).sum() / ((seeds - 1) * (documents - 1))
    variance = (ms_seeds + ms_documents - ms_rest) / (seeds * documents)
    ms_main = ms_documents - ms_rest  # of documents, without the noise of single entries
    parts = np.array([ms_seeds, ms_main]) / (ms_seeds + ms_main)
    degrees = 1 / (parts[0] ** 1.1 / (seeds - 1) + parts[1] ** 1.1 / (documents - 1))
    estimate = mean_over_seeds_and_documents(table * 10, np.full(documents, 10))
    assert estimate.standard_error**2 == pytest.approx(variance, rel=1e-10)
    assert estimate.degrees_of_freedom == pytest.approx(degrees, rel=1e-10)


def test_noise_of_single_entries_leaves_the_seeds_their_whole_variance() -> None:
    """Entries of opposite signs: columns have less than the rest, which is cut at 0."""
    table = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]])
    estimate = mean_over_seeds_and_documents(table, np.ones(3))
    between_seeds = 2 * (1 / 3) ** 2 / (2 * 1)
    assert estimate.standard_error**2 == pytest.approx(between_seeds, rel=1e-12)
    assert estimate.degrees_of_freedom == pytest.approx(1)


def test_seeds_and_documents_play_the_same_part() -> None:
    table = noise(2, 4, 1) + noise(3, 1, 9) + noise(4, 4, 9, spread=0.3)
    one, other = (mean_over_seeds_and_documents(t, np.ones(t.shape[1])) for t in (table, table.T))
    assert other.standard_error == pytest.approx(one.standard_error, rel=1e-12)
    assert other.degrees_of_freedom == pytest.approx(one.degrees_of_freedom, rel=1e-12)


def test_documents_of_other_lengths_are_a_ratio() -> None:
    """The linearised variance against the jackknife's, which knows no linearisation; 300 documents."""
    tokens = np.random.default_rng(5).integers(5, 200, 300)
    nats = (3 + noise(6, 300)) * tokens
    estimate = mean_over_seeds_and_documents(nats[None], tokens)
    left_out = (nats.sum() - nats) / (tokens.sum() - tokens)
    jackknife = np.sqrt((299 / 300) * ((left_out - left_out.mean()) ** 2).sum())
    assert estimate.value == pytest.approx(nats.sum() / tokens.sum(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(jackknife, rel=0.02)


@settings(deadline=None)
@given(shift=st.floats(-2, 2), seed=st.integers(0, 5))
def test_a_constant_difference_has_no_width(shift: float, seed: int) -> None:
    """Pairing: what makes a document or a seed hard for both arms cancels."""
    nats = 3 + noise(seed, 3, 20)
    difference = difference_interval(10 * (nats + shift), 10 * nats, np.full(20, 10))
    assert [difference.low, difference.high] == pytest.approx([shift, shift], abs=1e-10)


@settings(deadline=None)
@given(share=st.floats(-0.5, 1.5))
def test_a_share_that_is_constant(share: float) -> None:
    base, gain = 3 + noise(1, 2, 30), np.abs(noise(2, 2, 30)) + 0.1
    found = share_interval(base, base - share * gain, base - gain, np.ones(30))
    assert found is not None
    assert [found.estimate, found.low, found.high] == pytest.approx([share] * 3, abs=1e-6)


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_ends_of_a_share_are_where_the_rest_of_the_gain_can_just_be_told_from_zero(seeds: int) -> None:
    base, gain = 3 + noise(1, seeds, 50), 0.5 + noise(2, seeds, 50, spread=0.3)
    arm, oracle = base - 0.4 * gain + noise(3, seeds, 50, spread=0.1), base - gain
    found = share_interval(base, arm, oracle, np.ones(50))
    assert found is not None
    assert found.low < found.estimate < found.high
    for share, p_value in ((found.low, 0.05), (found.high, 0.05), (found.estimate, 1.0)):
        rest = mean_over_seeds_and_documents(base - arm - share * (base - oracle), np.ones(50))
        assert rest.p_value() == pytest.approx(p_value, abs=1e-6)


def test_a_share_of_documents_alone_is_fiellers_closed_form() -> None:
    """One seed has fixed degrees of freedom, so that the ends are the roots of Fieller's quadratic."""
    base, gain = 3 + noise(1, 1, 50), 0.5 + noise(2, 1, 50)
    arm = base - 0.4 * gain + noise(3, 1, 50)
    found = share_interval(base, arm, base - gain, np.ones(50))
    numerator, denominator = (base - arm)[0], gain[0]
    (v_nn, v_nd), (_, v_dd) = np.cov(numerator, denominator) / 50
    t2 = scipy.stats.t.ppf(0.975, 49) ** 2
    n, d = numerator.mean(), denominator.mean()
    roots = np.roots([d * d - t2 * v_dd, -2 * (n * d - t2 * v_nd), n * n - t2 * v_nn])
    assert found is not None
    assert [found.low, found.high] == pytest.approx(sorted(roots.real), rel=1e-8)


@pytest.mark.parametrize("oracle_gain", [0.0, -0.3, 0.005])
def test_no_share_without_an_oracles_gain(oracle_gain: float) -> None:
    base, spread = 3 + noise(1, 2, 400), noise(2, 2, 400, spread=0.2)
    oracle = base - oracle_gain - (spread - spread.mean())
    assert share_interval(base, base - 0.1, oracle, np.ones(400)) is None


def test_seeds_that_differ_widen_the_interval_and_few_of_them_more() -> None:
    nats = 3 + noise(0, 1, 400, spread=0.01)
    one = loss_interval(nats, np.ones(400))
    three = loss_interval(nats + np.array([[-1.0], [0.0], [1.0]]), np.ones(400))
    assert three.estimate == pytest.approx(one.estimate)
    reach = scipy.stats.t.ppf(0.975, 2) / np.sqrt(3)  # seeds of standard deviation 1
    assert three.high - three.estimate == pytest.approx(reach, rel=1e-3)


def test_what_cannot_be_paired_is_refused() -> None:
    arm = {0: scores(np.ones(3))}
    other = {0: dataclasses.replace(arm[0], corpus_fingerprint="d")}
    with pytest.raises(ConfigError, match="different documents"):
        pair_arms(arm, other)
    with pytest.raises(ConfigError, match=r"seeds \[0\] and \[1\]"):
        pair_arms(arm, {1: arm[0]})
    with pytest.raises(ConfigError, match="no scores"):
        pair_arms({})
    loss_ASD, tokens_D = pair_arms({1: scores(np.arange(3.0)), 0: scores(np.ones(3))})
    assert loss_ASD.tolist() == [[[10, 10, 10], [0, 10, 20]]]
    assert tokens_D.tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("shape", "tokens", "named"),
    [((1, 1), 1, "two of either"), ((2, 3), 4, "(2, 3)"), ((3,), 3, "(seeds, documents)")],
)
def test_too_little_and_other_shapes_are_refused(
    shape: tuple[int, ...], tokens: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What users see, who run without the tests' own check of shapes."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ConfigError) as raised:
        loss_interval(np.ones(shape), np.ones(tokens))
    assert named in str(raised.value)


@pytest.mark.parametrize(("seeds", "documents"), [(1, 6), (3, 1), (2, 6)])
def test_an_interval_says_what_it_is_over(seeds: int, documents: int) -> None:
    base, tokens = 3 + noise(1, seeds, documents), np.ones(documents)
    oracle = base - 1 + noise(2, seeds, documents, spread=0.01)
    share = share_interval(base, base - 0.5, oracle, tokens)
    expected = {1: "documents alone", 2: "seeds and documents", 3: "seeds alone"}[seeds]
    assert share is not None
    assert [
        i.over for i in (loss_interval(base, tokens), difference_interval(base, oracle, tokens), share)
    ] == [expected] * 3


def test_arms_are_not_paired_by_repeating_a_seed_or_a_document() -> None:
    base, tokens = np.ones((3, 4)), np.ones(4)
    for other in (np.ones((1, 4)), np.ones((3, 1)), np.ones(4)):
        with pytest.raises(ConfigError, match="cannot be paired"):
            difference_interval(base, other, tokens)
        with pytest.raises(ConfigError, match="cannot be paired"):
            share_interval(base, base, other, tokens)


@pytest.mark.parametrize(
    ("value", "p_above", "p_value"), [(1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (-1.0, 1.0, 0.0)]
)
def test_p_values_where_nothing_varies(value: float, p_above: float, p_value: float) -> None:
    estimate = mean_over_seeds(np.full(3, value))
    assert (estimate.p_above(), estimate.p_value()) == (p_above, p_value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_refused(value: float) -> None:
    losses = np.ones((2, 3))
    losses[1, 2] = value
    with pytest.raises(ConfigError, match="not numbers"):
        difference_interval(losses, np.ones((2, 3)), np.ones(3))


def test_a_level_is_a_share() -> None:
    with pytest.raises(ConfigError, match="level"):
        loss_interval(np.ones((2, 2)), np.ones(2), level=1.0)
