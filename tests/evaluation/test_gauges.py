"""Gauges: exact in worlds, honest about pairs that share a d1, and equal to the tuning's own loss."""

import dataclasses

import numpy as np
import pytest
import torch

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.concept.information import mutual_information, sample_pairs
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.evaluation import GAUGE_SCORES, GaugeScores, gauge, gauge_line, gauge_scores, gauges
from sbp_bayes.evaluation.gauges import SELF_DISTILLATION
from sbp_bayes.lm import LMConfig, Transformer, load_model, log_prob_documents, save_model
from sbp_bayes.synthesizer import (
    IndexPairs,
    NeuralSynthesizer,
    NoisyPairsSynthesizer,
    PosteriorSynthesizer,
    TuneConfig,
    UnconditionalSynthesizer,
)
from toy_worlds import make_world

WORLD = make_world("markov_mixture", num_concepts=40, vocab_size=3, doc_length=6, seed=1, initial="sampled")
NUM_PAIRS = 4000
INFORMATION = mutual_information(WORLD, num_samples=200_000, generator=torch.Generator().manual_seed(1))


def world_scores(synthesizer):
    """Scores of pairs (d1, d2) of one concept, documents 0 … P − 1 and P … 2P − 1."""
    d1, d2 = sample_pairs(WORLD, NUM_PAIRS, torch.Generator().manual_seed(0))
    numbers = np.arange(NUM_PAIRS)
    return gauge_scores(
        lambda first: -synthesizer.log_prob(d2, given=d1[torch.from_numpy(first)]).numpy(),
        -WORLD.log_prob(d2).numpy(),
        np.full(NUM_PAIRS, WORLD.doc_length),
        IndexPairs(numbers, numbers + NUM_PAIRS, "world"),
        seed=0,
    )


def standard_errors(interval, truth):
    return abs(interval.estimate - truth) / ((interval.high - interval.low) / (2 * 1.96))


def test_the_exact_posterior_has_the_mutual_information():
    """n = 4000 pairs; within 4 standard errors."""
    found = gauges(world_scores(PosteriorSynthesizer(WORLD)))
    truth = INFORMATION.value / WORLD.doc_length
    assert standard_errors(found.net_information, truth) < 4
    assert found.net_information.low > 0
    assert found.use_of_d1.estimate > found.net_information.estimate
    assert found.loss_without_d1 - found.loss == pytest.approx(found.net_information.estimate)


def test_a_synthesizer_that_does_not_read_d1_has_no_net_information_and_no_use():
    found = gauges(world_scores(UnconditionalSynthesizer(WORLD)))
    for interval in (found.net_information, found.use_of_d1):
        assert (interval.estimate, interval.low, interval.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_what_is_learnt_from_random_pairs_is_not_above_0():
    """A little below: random pairs avoid d1's own concept, of 40 here."""
    found = gauges(world_scores(NoisyPairsSynthesizer(WORLD, 1.0)))
    assert found.net_information.low <= 0
    assert 0 >= found.net_information.estimate > -0.15 * INFORMATION.value / WORLD.doc_length


def test_the_better_of_the_two_marginals_counts():
    exact, random = world_scores(PosteriorSynthesizer(WORLD)), world_scores(UnconditionalSynthesizer(WORLD))
    poor = dataclasses.replace(exact, given_none=exact.given_none + 1.0)
    assert gauges(poor).without_d1 == "the starting model"
    found = gauges(poor, random)
    assert found.without_d1 == "random pairs"
    assert found.net_information == gauges(exact).net_information
    assert gauges(exact, dataclasses.replace(random, given_own=random.given_own + 1)) == gauges(exact)
    other = dataclasses.replace(random, first=random.first[::-1])
    with pytest.raises(ConfigError, match="different held-out pairs"):
        gauges(exact, other)


def test_pairs_of_one_d1_count_as_one():
    scores = world_scores(PosteriorSynthesizer(WORLD))
    arrays = {f.name: getattr(scores, f.name) for f in dataclasses.fields(scores)}
    repeated = {name: np.repeat(a, 4) if isinstance(a, np.ndarray) else a for name, a in arrays.items()}
    one, four = gauges(scores), gauges(GaugeScores(**repeated))
    assert four.num_pairs == 4 * one.num_pairs
    assert dataclasses.replace(four, num_pairs=one.num_pairs) == one


@pytest.mark.parametrize("num_first", [3, 4, 50])
def test_another_d1_is_neither_the_own_nor_d2(num_first):
    generator = np.random.default_rng(num_first)
    first = np.append(np.arange(num_first), generator.integers(num_first, size=200))
    second = (first + generator.integers(1, num_first, size=len(first))) % num_first
    asked = []
    gauge_scores(
        lambda d1: asked.append(d1) or np.zeros(len(d1)),
        np.zeros(len(first)),
        np.ones(len(first)),
        IndexPairs(first, second, "corpus"),
        seed=0,
    )
    own, other = asked
    assert (own == first).all()
    assert not ((other == first) | (other == second)).any()
    with pytest.raises(ConfigError, match="pairs of 2 documents d1: gauges need 3"):
        gauge_scores(np.zeros_like, first, first, IndexPairs(first[:2], second[:2], "corpus"), seed=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two models: one of a context too short for a pair, and one for pairs."""
    shape = {"width": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_width": 8}
    folder = tmp_path_factory.mktemp("weights")
    for name, context in (("start", 7), ("tuned", 14)):
        config = LMConfig(vocab_size=24, context_length=context, hidden_width=32, **shape)
        save_model(Transformer(config, seed=context), folder / name)
    return folder


def documents(number, length):
    generator = np.random.default_rng(0)
    tokens = [generator.integers(2, 24, generator.integers(1, length + 1)) for _ in range(number)]
    return Corpus.from_tokens(
        [Document(id=str(i), text="", source="") for i in range(number)], tokens, vocab_size=24
    )


def test_the_stage_scores_what_the_models_say(weights, tmp_path):
    corpus = documents(20, 6)
    numbers = np.arange(20)
    pairs = IndexPairs(numbers, (numbers + 3) % 20, corpus.fingerprint)
    manifest = gauge(
        TuneConfig(max_document_tokens=6),
        weights / "tuned",
        weights / "start",
        *(corpus, pairs) * 2,
        tmp_path / "gauge",
    )
    scores = GaugeScores.load(manifest.directory / GAUGE_SCORES)
    texts = [corpus.document(i) for i in scores.second]
    given = [corpus.document(i) for i in scores.first]
    expected = -NeuralSynthesizer(load_model(weights / "tuned"), 6).log_prob(texts, given).numpy()
    np.testing.assert_allclose(scores.given_own, expected, rtol=1e-5)
    alone = -log_prob_documents(load_model(weights / "start"), texts)
    np.testing.assert_allclose(scores.given_none, alone, rtol=1e-5)
    assert scores.num_tokens.tolist() == [len(text) + 1 for text in texts]
    assert manifest.counts["net_information"]["estimate"] == gauges(scores).net_information.estimate
    per_token = load_model(weights / "tuned").config.forward_flops_per_token
    own = sum(len(d1) + 2 * len(d2) + 3 for d1, d2 in zip(given, texts, strict=True))
    assert own < manifest.flops / per_token < own + 20 * 14


def test_a_cut_d2_has_no_end(weights, tmp_path):
    corpus = documents(20, 12)
    numbers = np.arange(20)
    pairs = IndexPairs(numbers, (numbers + 1) % 20, corpus.fingerprint)
    config = TuneConfig(max_document_tokens=6)
    manifest = gauge(config, weights / "tuned", weights / "start", *(corpus, pairs) * 2, tmp_path)
    scores = GaugeScores.load(manifest.directory / GAUGE_SCORES)
    lengths = corpus.lengths[scores.second]
    assert scores.num_tokens.tolist() == np.where(lengths <= 6, lengths + 1, 6).tolist()


def test_words_for_what_was_found(weights, tmp_path):
    interval = {"estimate": -0.0254, "low": -0.0314, "high": 0.0004}
    use = {"estimate": 0.3101, "low": 0.28, "high": 0.34}
    line = gauge_line({"net_information": interval, "use_of_d1": use})
    assert line == (
        "net information: −0.025 nats per token of d2 [−0.031, +0.000]; use of d1: +0.310 [+0.280, +0.340]\n"
        + SELF_DISTILLATION
    )
    assert SELF_DISTILLATION not in gauge_line({"net_information": use, "use_of_d1": use})
    corpus = documents(4, 6)
    pairs = IndexPairs(np.array([0, 1, 1]), np.array([1, 0, 2]), corpus.fingerprint)
    config = TuneConfig(max_document_tokens=6)
    few = gauge(config, weights / "tuned", weights / "start", *(corpus, pairs) * 2, tmp_path)
    assert gauge_line(few.counts).startswith("net information: not known, since the held-out pairs have 2")
