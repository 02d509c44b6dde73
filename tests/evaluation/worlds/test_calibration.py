"""Concepts recovered from samples: against expectations by enumeration, and exact samples against exact."""

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.concept.information import enumerate_documents, sample_pairs
from sbp_bayes.evaluation import concept_calibration
from sbp_bayes.evaluation.worlds import calibration as calibration_module
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

WORLD = make_world("unigram_mixture", num_concepts=4, vocab_size=3, doc_length=4, seed=4)
EVERY = enumerate_documents(WORLD)


def some_documents(n, seed=0):
    return sample_pairs(WORLD, n, torch.Generator().manual_seed(seed))[0]


def expected(synthesizer, d1):
    """E[P(c | d2)], the sum of its variances' roots, and P(argmax P(c | d2) = ĉ), by enumeration."""
    weights = synthesizer.log_prob(EVERY, given=d1.expand(len(EVERY), -1)).exp()
    posterior = WORLD.posterior(EVERY).exp()
    mean = weights @ posterior
    spread = (weights @ posterior.square() - mean.square()).sqrt().sum()
    carried = weights @ (posterior.argmax(1) == WORLD.posterior(d1[None]).argmax()).double()
    return mean, float(spread), float(carried)


@pytest.mark.parametrize(
    "synthesizer",
    [UnconditionalSynthesizer(WORLD), TemperedSynthesizer(WORLD, 4.0)],
    ids=lambda s: type(s).__name__,
)
def test_recovered_concepts_are_those_of_the_enumeration(synthesizer):
    """Two d1s, M = 5,000: total variation within the sum of 5 standard errors of every concept's mean."""
    d1 = torch.tensor([[0, 0, 0, 0], [2, 2, 2, 1]])
    found = concept_calibration(WORLD, synthesizer, d1, samples_per_document=5000, seed=0)
    variations, slack, carried, exact_carried = [], [], [], []
    for document in d1:
        model_mean, model_spread, model_carried = expected(synthesizer, document)
        mean, spread, share = expected(PosteriorSynthesizer(WORLD), document)
        variations.append(float((model_mean - mean).abs().sum() / 2))
        slack.append(5 * (model_spread + spread) / 2 / 5000**0.5)
        carried.append(model_carried)
        exact_carried.append(share)
    assert abs(found.total_variation.estimate - np.mean(variations)) < np.mean(slack)
    assert min(variations) > np.mean(slack)
    for interval, shares, draws in (
        (found.carried, carried, 5000),
        (found.exact_carried, exact_carried, 10_000),
    ):
        sd = np.sqrt(sum(p * (1 - p) / draws for p in shares)) / 2
        assert abs(interval.estimate - np.mean(shares)) < 5 * sd
    difference = found.carried.estimate - found.exact_carried.estimate
    assert found.carried_difference.estimate == pytest.approx(difference, abs=1e-12)
    assert found.impossible_share == 0


def test_the_exact_synthesizer_is_at_the_noise_floor():
    """300 d1s, M = 20: the excess is 0 within 5 standard errors, and the unconditional's is not."""
    d1 = some_documents(300)
    exact = concept_calibration(WORLD, PosteriorSynthesizer(WORLD), d1, samples_per_document=20, seed=1)
    for interval in (exact.excess, exact.carried_difference):
        reach = (interval.high - interval.low) / 2
        assert reach > 0
        assert abs(interval.estimate) < 5 / 1.96 * reach
    assert exact.noise_floor.estimate > 0.01
    gap = exact.total_variation.estimate - exact.noise_floor.estimate
    assert exact.excess.estimate == pytest.approx(gap, abs=1e-12)
    without = concept_calibration(WORLD, UnconditionalSynthesizer(WORLD), d1, samples_per_document=20, seed=1)
    assert without.noise_floor == exact.noise_floor
    assert without.excess.low > 0
    assert without.carried_difference.high < 0
    assert without.calibration_error > without.exact_calibration_error


def test_where_documents_name_their_concept_the_diagram_is_the_diagonal():
    """Two concepts, mixed in d1 alone: P(ĉ | d1) is uneven, and d2 names its concept almost surely."""
    words = [[0.9, 0.1], [0.1, 0.9]]
    world = make_world("unigram_mixture", num_concepts=2, vocab_size=2, doc_length=60, words=words)
    d1 = torch.tensor([[0, -1], [0, 0], [1, 0], [1, -1], [1, 1]]).repeat(40, 1)
    found = concept_calibration(
        world, PosteriorSynthesizer(world), d1, samples_per_document=50, seed=0, num_bins=5
    )
    confidences = [0.5, 0.9, 0.81 / 0.82]
    assert [b.num_documents for b in found.bins] == [40, 160]
    assert found.bins[0].confidence == pytest.approx(0.5)
    assert found.bins[1].confidence == pytest.approx(np.mean(confidences[1:]))
    assert found.confidence.estimate == pytest.approx((40 * 0.5 + 160 * np.mean(confidences[1:])) / 200)
    for b, shares in zip(found.bins, ([0.5], confidences[1:]), strict=True):
        sd = np.sqrt(np.mean([p * (1 - p) for p in shares]) / (b.num_documents * 50))
        assert abs(b.frequency - b.confidence) < 5 * sd
        assert abs(b.exact_frequency - b.confidence) < 5 * sd
    error = sum(b.num_documents * abs(b.frequency - b.confidence) for b in found.bins) / 200
    assert found.calibration_error == pytest.approx(error, abs=1e-12)
    copied = concept_calibration(world, CopySynthesizer(), d1, samples_per_document=2, seed=0, num_bins=5)
    assert copied.calibration_error == pytest.approx(1 - found.confidence.estimate)  # always its own concept


def test_bins_by_hand():
    confidence = torch.tensor([0.1, 0.5, 0.49, 1.0, 0.75], dtype=torch.float64)
    model = torch.tensor([0.0, 1.0, 0.5, 0.25, 0.75], dtype=torch.float64)
    low, high = calibration_module._bins(confidence, model, 1 - model, 2)
    assert (low.low, low.high, low.num_documents) == (0, 0.5, 2)
    assert (high.low, high.high, high.num_documents) == (0.5, 1, 3)
    assert [low.confidence, low.frequency, low.exact_frequency] == pytest.approx([0.295, 0.25, 0.75])
    assert [high.confidence, high.frequency, high.exact_frequency] == pytest.approx([0.75, 2 / 3, 1 / 3])


class Fixed:
    """Writes the same document always."""

    def __init__(self, tokens):
        self.tokens = torch.tensor(tokens)

    def sample(self, d1, generator):
        return [self.tokens] * len(d1)


def test_documents_that_no_concept_writes_are_counted():
    words = [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]
    world = make_world("unigram_mixture", num_concepts=2, vocab_size=3, doc_length=2, words=words)
    d1 = torch.tensor([[0, 0], [1, 1]])
    found = concept_calibration(world, Fixed([0, 2]), d1, samples_per_document=3, seed=0)
    assert found.impossible_share == 1
    assert found.total_variation.estimate == pytest.approx(1)
    assert found.carried.estimate == 0


def test_tokens_behind_the_worlds_length_are_not_read():
    d1 = some_documents(5)
    longer, cut = Fixed([1, 0, 2, 2, 0, 0, 0, 0]), Fixed([1, 0, 2, 2])
    results = [concept_calibration(WORLD, s, d1, samples_per_document=4, seed=0) for s in (longer, cut)]
    assert results[0] == results[1]


def test_a_neural_synthesizer_is_read_through_world_tokens():
    shape = {"width": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    config = LMConfig(vocab_size=5, context_length=12, hidden_width=32, **shape)
    network = WorldTokens(NeuralSynthesizer(Transformer(config, seed=3).eval(), max_document_tokens=4))
    d1 = some_documents(20)
    found = concept_calibration(WORLD, network, d1, samples_per_document=16, seed=0)
    assert found == concept_calibration(WORLD, network, d1, samples_per_document=16, seed=0)
    assert found.excess.low > 0
    assert (found.num_documents, found.samples_per_document) == (20, 16)


def test_tables_of_any_size_hold_all_documents(monkeypatch):
    d1 = some_documents(30)
    monkeypatch.setattr(calibration_module, "CELLS_TOGETHER", 100)
    small = concept_calibration(WORLD, CopySynthesizer(), d1, samples_per_document=3, seed=0)
    monkeypatch.undo()
    whole = concept_calibration(WORLD, CopySynthesizer(), d1, samples_per_document=3, seed=0)
    assert small.carried == whole.carried
    assert small.confidence == whole.confidence


def test_what_is_out_of_range_is_named():
    d1, exact = some_documents(2), PosteriorSynthesizer(WORLD)
    with pytest.raises(ConfigError, match="samples_per_document = 0"):
        concept_calibration(WORLD, exact, d1, samples_per_document=0, seed=0)
    with pytest.raises(ConfigError, match="num_bins = 0"):
        concept_calibration(WORLD, exact, d1, samples_per_document=1, seed=0, num_bins=0)
    with pytest.raises(ConfigError, match="documents = 1"):
        concept_calibration(WORLD, exact, d1[:1], samples_per_document=1, seed=0)
