"""KL to the exact synthesizer: by enumeration against information, and by sampling against enumeration."""

import itertools

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.concept import DirichletCategorical
from sbp_bayes.concept.information import (
    bayes_loss_curve,
    conditional_entropy,
    enumerate_documents,
    mutual_information,
    sample_pairs,
)
from sbp_bayes.evaluation import exact_fidelity, measure_fidelity, score_pairs
from sbp_bayes.evaluation.worlds import fidelity as fidelity_module
from sbp_bayes.evaluation.worlds.fidelity import mean_interval, ratio_interval
from sbp_bayes.lm import LMConfig, Transformer
from sbp_bayes.synthesizer import (
    CopySynthesizer,
    NeuralSynthesizer,
    PosteriorSynthesizer,
    TemperedSynthesizer,
    UnconditionalSynthesizer,
    WorldTokens,
)
from toy_worlds import make_world

MARKOV = make_world("markov_mixture", num_concepts=4, vocab_size=3, doc_length=3, seed=1, initial="sampled")
CONJUGATE = DirichletCategorical(torch.tensor([0.4, 1.0, 2.0]), doc_length=3)


def neural(vocab_size=3):
    shape = {"width": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    config = LMConfig(vocab_size=vocab_size + 2, context_length=12, hidden_width=32, **shape)
    return WorldTokens(NeuralSynthesizer(Transformer(config, seed=3).eval()))


def z(interval, truth, level=0.95):
    """Distance of an estimate from the truth in standard errors, taken back from a 95% interval."""
    return (interval.estimate - truth) / ((interval.high - interval.low) / (2 * 1.959963985))


@pytest.mark.parametrize("world", [MARKOV, CONJUGATE])
def test_exactly_the_posterior_is_at_the_floor_and_the_marginal_above_by_the_information(world):
    exact = exact_fidelity(world, PosteriorSynthesizer(world))
    assert exact.kl == pytest.approx(0.0, abs=1e-12)
    assert exact.floor == pytest.approx(conditional_entropy(world).value, rel=1e-10)
    without = exact_fidelity(world, UnconditionalSynthesizer(world))
    assert without.kl == pytest.approx(mutual_information(world).value, rel=1e-10)
    assert without.floor == exact.floor
    assert without.loss == pytest.approx(exact.floor + mutual_information(world).value, rel=1e-10)
    assert exact_fidelity(world, CopySynthesizer()).kl == np.inf


def test_exactly_any_synthesizer_by_a_double_sum():
    synthesizer, kl = TemperedSynthesizer(MARKOV, 2.0), 0.0
    for d1, d2 in itertools.product(enumerate_documents(MARKOV), repeat=2):
        pair = d2[None], d1[None]
        log_joint = float(MARKOV.log_prob(d1[None]) + MARKOV.log_prob_pair(*pair))
        kl += np.exp(log_joint) * float(MARKOV.log_prob_pair(*pair) - synthesizer.log_prob(*pair))
    assert exact_fidelity(MARKOV, synthesizer).kl == pytest.approx(kl, rel=1e-10)
    assert kl > 0.01


def test_impossible_pairs_weigh_nothing():
    words = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    world = make_world("unigram_mixture", num_concepts=2, vocab_size=3, doc_length=2, words=words)
    assert exact_fidelity(world, PosteriorSynthesizer(world)).kl == pytest.approx(0.0, abs=1e-12)
    information = exact_fidelity(world, UnconditionalSynthesizer(world)).kl
    assert information == pytest.approx(mutual_information(world).value, rel=1e-10)


@pytest.mark.parametrize("world", [MARKOV, CONJUGATE])
@pytest.mark.parametrize("kind", ["unconditional", "neural"])
def test_sampling_finds_what_enumeration_says(world, kind):
    """n = 20,000 pairs; every quantity within 5 standard errors."""
    synthesizer = neural() if kind == "neural" else UnconditionalSynthesizer(world)
    exact = exact_fidelity(world, synthesizer)
    d1, d2 = sample_pairs(world, 20_000, torch.Generator().manual_seed(0))
    found = measure_fidelity(world, synthesizer, d1, d2)
    assert found.num_documents == 20_000
    assert abs(z(found.kl_per_document, exact.kl)) < 5
    assert abs(z(found.kl_per_token, exact.kl / 3)) < 5
    assert abs(z(found.floor_per_token, exact.floor / 3)) < 5
    assert abs(z(found.loss_per_token, exact.loss / 3)) < 5
    assert found.kl_per_document.high - found.kl_per_document.low < 0.05 * max(exact.kl, 1)


def test_each_position_has_its_part():
    """The first token's part is the KL of documents of one token; all parts together are the document's."""
    d1, d2 = sample_pairs(MARKOV, 20_000, torch.Generator().manual_seed(1))
    synthesizer = TemperedSynthesizer(MARKOV, 3.0)
    found = measure_fidelity(MARKOV, synthesizer, d1, d2)
    parts = [
        float((synthesizer.token_log_prob(d2, d1).tokens + bayes_loss_curve(MARKOV, d2, d1))[:, t].mean())
        for t in range(3)
    ]
    assert [p.estimate for p in found.kl_by_position] == pytest.approx([-p for p in parts], rel=1e-10)
    assert sum(p.estimate for p in found.kl_by_position) == pytest.approx(found.kl_per_document.estimate)
    every = enumerate_documents(MARKOV)
    truth = 0.0
    for token in range(3):
        first = torch.full((len(every), 1), token)
        log_truth = MARKOV.log_prob_pair(first, given=every)
        gap = log_truth - synthesizer.log_prob(first, given=every)
        truth += float(((MARKOV.log_prob(every) + log_truth).exp() * gap).sum())
    assert abs(z(found.kl_by_position[0], truth)) < 5


def test_the_posterior_is_its_own_equal_and_the_end_stands_apart():
    d1, d2 = sample_pairs(MARKOV, 3000, torch.Generator().manual_seed(2))
    own = measure_fidelity(MARKOV, PosteriorSynthesizer(MARKOV), d1, d2)
    assert [own.kl_per_document.low, own.kl_per_document.high] == pytest.approx([0, 0], abs=1e-12)
    assert own.end is None
    network = neural()
    found = measure_fidelity(MARKOV, network, d1, d2)
    ids = [[d.numpy() + 2 for d in documents] for documents in (d2, d1)]
    with_end = -network.synthesizer.log_prob(*ids).mean()
    assert found.end is not None
    assert 3 * found.loss_per_token.estimate + found.end.estimate == pytest.approx(float(with_end), rel=1e-5)
    assert found.end.estimate > 1


def test_a_copy_is_infinitely_far():
    d1, d2 = sample_pairs(MARKOV, 50, torch.Generator().manual_seed(2))
    found = measure_fidelity(MARKOV, CopySynthesizer(), d1, d2)
    assert found.kl_per_document.estimate == found.kl_per_token.low == np.inf
    assert np.isfinite(found.floor_per_token.high)


def test_tokens_weigh_alike_where_lengths_differ(monkeypatch):
    d1, d2 = sample_pairs(MARKOV, 200, torch.Generator().manual_seed(3))
    d2[::2, 2:] = -1
    d2[::4, 1:] = -1
    synthesizer = UnconditionalSynthesizer(MARKOV)
    scores = score_pairs(MARKOV, synthesizer, d1, d2)
    found = scores.fidelity()
    gap = MARKOV.log_prob_pair(d2, given=d1) - synthesizer.log_prob(d2, given=d1)
    assert found.kl_per_document.estimate == pytest.approx(float(gap.mean()), rel=1e-10)
    assert found.kl_per_token.estimate == pytest.approx(float(gap.sum()) / (100 * 3 + 50 * 2 + 50), rel=1e-10)
    assert scores.truth[0, 1:].tolist() == scores.model[0, 1:].tolist() == [0, 0]
    monkeypatch.setattr(fidelity_module, "PAIRS_TOGETHER", 7)
    again = score_pairs(MARKOV, synthesizer, d1, d2)
    np.testing.assert_allclose(again.model, scores.model, rtol=1e-12)
    np.testing.assert_allclose(again.truth, scores.truth, rtol=1e-12)


def test_intervals_cover_as_often_as_they_say():
    """2,000 sets of 100 items of unequal weight: 90% intervals of a ratio hold it in 90%, z < 5."""
    generator, covered = np.random.default_rng(0), np.zeros(2)
    for _ in range(2000):
        weights = generator.integers(1, 20, 100)
        values = weights * 0.7 + generator.normal(0, 1, 100) * np.sqrt(weights)
        for index, interval in enumerate(
            (
                ratio_interval(values, weights, 0.9),
                mean_interval(values - 0.7 * weights, 0.9),
            )
        ):
            covered[index] += interval.low <= (0.7, 0.0)[index] <= interval.high
    # a normal interval of 100 items covers 89.7% by Student's t
    assert (np.abs(covered - 2000 * 0.897) < 5 * np.sqrt(2000 * 0.09)).all()


def test_the_interval_of_a_mean_by_hand():
    interval = mean_interval(np.array([1.0, 2.0, 6.0]))
    reach = 4.302652730 * np.sqrt(7.0 / 3)  # Student's, 2 degrees of freedom
    assert [interval.estimate, interval.low, interval.high] == pytest.approx([3, 3 - reach, 3 + reach])


def test_what_cannot_be_measured_is_named():
    d1, d2 = sample_pairs(MARKOV, 4, torch.Generator().manual_seed(2))
    exact = PosteriorSynthesizer(MARKOV)
    with pytest.raises(ConfigError, match="documents = 1"):
        measure_fidelity(MARKOV, exact, d1[:1], d2[:1])
    with pytest.raises(ConfigError, match=r"level = 1\.5"):
        measure_fidelity(MARKOV, exact, d1, d2, level=1.5)
    with pytest.raises(ConfigError, match="one d2 for each of 4 d1"):
        measure_fidelity(MARKOV, exact, d1, d2[:3])
    with pytest.raises(ConfigError, match="pairs"):
        exact_fidelity(make_world("uniform"), PosteriorSynthesizer(make_world("uniform")))
    always = [[1.0, 0.0], [1.0, 0.0]]
    world = make_world("unigram_mixture", num_concepts=2, vocab_size=2, doc_length=1, words=always)
    zeros = torch.zeros(3, 1, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"d2 = \[1\] .* probability above 0"):
        measure_fidelity(world, PosteriorSynthesizer(world), zeros, torch.tensor([[0], [1], [1]]))
