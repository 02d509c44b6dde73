"""Controls: densities by enumeration, samples against them, and pairs that are wrong in the right share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sbp_bayes.base.errors import ConfigError, PairingError
from sbp_bayes.concept import DirichletCategorical, FiniteConceptModel
from sbp_bayes.concept.information import enumerate_documents
from sbp_bayes.synthesizer import (
    CopySynthesizer,
    IndexPairs,
    NoisyPairsSynthesizer,
    PosteriorSynthesizer,
    TemperedSynthesizer,
    UnconditionalSynthesizer,
    controls,
    noisy_pairs,
    random_pairs,
)
from toy_worlds import make_world

WORLD = make_world("unigram_mixture", num_concepts=4, vocab_size=3, doc_length=2, seed=4)
CONJUGATE = DirichletCategorical(torch.tensor([0.4, 1.0, 2.0]), doc_length=2)
EVERY = enumerate_documents(WORLD)


class Uneven(FiniteConceptModel):
    """Three concepts of unequal prior; tokens are independent given the concept."""

    def __init__(self):
        super().__init__(torch.tensor([0.6, 0.3, 0.1]).log(), vocab_size=2, doc_length=2)
        self.words_KV = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)

    def _sample(self, c_N, generator):
        return torch.multinomial(self.words_KV[c_N], self.doc_length, replacement=True, generator=generator)

    def _token_log_likelihood(self, d_NT, concepts_C):
        log_words = self.words_KV[concepts_C].log().T[d_NT.clamp(min=0)]
        return log_words.masked_fill(d_NT[..., None] < 0, 0.0)


def against_all(synthesizer, d1, documents=EVERY):
    return synthesizer.log_prob(documents, given=d1.expand(len(documents), -1))


def test_a_copy_is_certain_of_d1_and_its_prefixes():
    d1 = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, -1]])
    d2 = torch.tensor([[0, 1, 2], [0, 1, -1], [0, 2, 2], [0, 1, 2]])
    copy = CopySynthesizer()
    inf = torch.inf
    assert copy.log_prob(d2, given=d1).tolist() == [0, 0, -inf, -inf]
    tokens = [[0, 0, 0], [0, 0, 0], [0, -inf, -inf], [0, 0, -inf]]
    assert copy.token_log_prob(d2, given=d1).tokens.tolist() == tokens
    assert copy.log_prob(d2, given=d1[:, :2]).tolist() == [-inf, 0, -inf, -inf]
    assert copy.log_prob(torch.tensor([[0, 1, 0]]), given=d1[:1, :2]).tolist() == [-inf]
    assert copy.log_prob(d2[:, :2], given=d1).tolist() == [0, 0, -inf, 0]
    samples = copy.sample(d1, torch.Generator())
    assert [s.tolist() for s in samples] == [[0, 1, 2]] * 3 + [[0, 1]]
    assert torch.equal(copy.log_prob(samples, given=d1), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("world", [WORLD, CONJUGATE])
def test_the_unconditional_control_is_the_marginal_whatever_d1(world):
    unconditional = UnconditionalSynthesizer(world)
    marginal = sum(
        world.log_prob(d1[None]).exp() * against_all(PosteriorSynthesizer(world), d1).exp() for d1 in EVERY
    ).log()
    for d1 in (EVERY[0], EVERY[5]):
        np.testing.assert_allclose(against_all(unconditional, d1), marginal, rtol=1e-10)
    tokens = unconditional.token_log_prob(EVERY, given=EVERY).tokens
    np.testing.assert_allclose(tokens.sum(1), marginal, rtol=1e-10)
    np.testing.assert_allclose(tokens[:, 0], unconditional.log_prob(EVERY[:, :1], EVERY), rtol=1e-10)


def test_tempering_raises_the_posterior_to_a_power():
    posterior = WORLD.posterior(EVERY).exp()
    for beta in (0.5, 3.0):
        powers = posterior**beta
        weights = TemperedSynthesizer(WORLD, beta).log_weights(EVERY).exp()
        np.testing.assert_allclose(weights, powers / powers.sum(1, keepdim=True), rtol=1e-10)


def test_tempering_runs_from_the_marginal_to_the_posterior_and_beyond():
    d1 = EVERY[1]
    exact, marginal = against_all(PosteriorSynthesizer(WORLD), d1), WORLD.log_prob(EVERY)
    np.testing.assert_allclose(against_all(TemperedSynthesizer(WORLD, 1.0), d1), exact, rtol=1e-10)
    np.testing.assert_allclose(against_all(TemperedSynthesizer(WORLD, 0.0), d1), marginal, rtol=1e-10)
    best = WORLD.posterior(d1[None]).argmax()
    sure = WORLD.log_likelihood(EVERY)[:, best]
    np.testing.assert_allclose(against_all(TemperedSynthesizer(WORLD, 1e4), d1), sure, rtol=1e-10)


def test_at_beta_0_concepts_that_d1_excludes_count_too():
    words = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    world = make_world("unigram_mixture", num_concepts=3, vocab_size=2, doc_length=1, words=words)
    weights = TemperedSynthesizer(world, 0.0).log_weights(torch.tensor([[0]])).exp()
    np.testing.assert_allclose(weights, [[1 / 3] * 3], rtol=1e-12)
    weights = TemperedSynthesizer(world, 2.0).log_weights(torch.tensor([[0]])).exp()
    np.testing.assert_allclose(weights, [[0.8, 0.2, 0.0]], rtol=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_noise_of_pairs_by_summing_over_both_concepts(epsilon):
    world, d1 = Uneven(), torch.tensor([[0, 0], [0, 1], [1, 1]])
    posterior, prior = world.posterior(d1).exp(), world.log_prior_K.exp()
    wanted = (1 - epsilon) * posterior
    for own in range(3):
        for other in set(range(3)) - {own}:
            wanted[:, other] += epsilon * posterior[:, own] * prior[other] / (1 - prior[own])
    weights = NoisyPairsSynthesizer(world, epsilon).log_weights(d1).exp()
    np.testing.assert_allclose(weights, wanted, rtol=1e-10)
    np.testing.assert_allclose(weights.sum(1), np.ones(3), rtol=1e-12)


@pytest.mark.parametrize(
    "synthesizer",
    [
        UnconditionalSynthesizer(Uneven()),
        TemperedSynthesizer(Uneven(), 0.4),
        NoisyPairsSynthesizer(Uneven(), 0.6),
    ],
    ids=lambda s: type(s).__name__,
)
def test_samples_follow_their_density(synthesizer):
    """n = 8,000 draws given one d1, over the 4 documents: chi-square, rejected at p < 2e-5."""
    documents, d1 = enumerate_documents(Uneven()), torch.tensor([0, 0])
    samples = torch.stack(synthesizer.sample(d1.expand(8000, -1), torch.Generator().manual_seed(0)))
    counts = torch.bincount(samples @ torch.tensor([2, 1]), minlength=4)
    expected = against_all(synthesizer, d1, documents).exp() * 8000
    assert chisquare(counts, expected).pvalue > 2e-5


def index_pairs(first, second):
    return IndexPairs(np.array(first), np.array(second), "corpus")


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=7),
    st.sampled_from([0, 32]),
)
def test_random_pairs_keep_concepts_apart_wherever_that_is_possible(labels, tries):
    """One arrangement is free of forbidden pairs if and only if no label has more than P of the 2 P sides."""
    concepts = np.array(labels).T.ravel()
    pairs = index_pairs(np.arange(len(labels)), np.arange(len(labels), 2 * len(labels)))
    possible = np.bincount(concepts).max() <= len(labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "TRIES", tries)
        if not possible:
            with pytest.raises(PairingError, match="cannot be paired"):
                random_pairs(pairs, torch.Generator().manual_seed(0), concepts)
            return
        shuffled = random_pairs(pairs, torch.Generator().manual_seed(0), concepts)
    assert (concepts[shuffled.first] != concepts[shuffled.second]).all()
    np.testing.assert_array_equal(shuffled.first, pairs.first)
    assert sorted(shuffled.second) == sorted(pairs.second)


def test_random_pairs_without_labels_are_never_a_document_with_itself():
    generator = torch.Generator().manual_seed(1)
    first, second = np.repeat(np.arange(10), 3), np.repeat(np.roll(np.arange(10), 1), 3)
    for _ in range(50):
        shuffled = random_pairs(index_pairs(first, second), generator)
        assert (shuffled.first != shuffled.second).all()
        assert sorted(shuffled.second) == sorted(second)
    assert shuffled.corpus_fingerprint == "corpus"
    assert shuffled.fingerprint != index_pairs(first, second).fingerprint
    assert shuffled.fingerprint == index_pairs(shuffled.first, shuffled.second).fingerprint


def test_random_pairs_are_random():
    """1,000 arrangements of 8 pairs: document 0 meets each of the other 7 alike, p > 2e-5."""
    generator, met = torch.Generator().manual_seed(2), np.zeros(8)
    pairs = index_pairs(range(8), np.roll(range(8), 1))
    for _ in range(1000):
        met[random_pairs(pairs, generator).second[0]] += 1
    assert met[0] == 0
    assert chisquare(met[1:]).pvalue > 2e-5


def test_noisy_pairs_replace_the_right_share_by_other_concepts():
    generator, num_pairs, epsilon = torch.Generator().manual_seed(0), 20_000, 0.3
    concepts = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [4, 8, 12, 16]))
    members = [np.flatnonzero(concepts == c) for c in range(4)]
    first = np.random.default_rng(1).integers(40, size=num_pairs)
    second = np.array([members[concepts[i]][1] for i in first])
    noisy = noisy_pairs(index_pairs(first, second), epsilon, generator, concepts)
    np.testing.assert_array_equal(noisy.first, first)
    replaced = concepts[noisy.second] != concepts[first]
    np.testing.assert_array_equal(noisy.second[~replaced], second[~replaced])
    sd = (num_pairs * epsilon * (1 - epsilon)) ** 0.5
    assert abs(replaced.sum() - num_pairs * epsilon) < 4.5 * sd
    for concept in range(4):  # every document of another concept alike, the first and the last included
        drawn = np.bincount(noisy.second[replaced & (concepts[first] == concept)], minlength=40)
        assert drawn[members[concept]].sum() == 0
        others = np.delete(drawn, members[concept])
        assert chisquare(others).pvalue > 2e-5
    assert noisy.corpus_fingerprint == "corpus"


def test_noisy_pairs_have_the_density_of_their_synthesizer():
    """4,000 pairs, half of them noisy, from a corpus of 60,000: joint table of (d1, d2), p > 2e-5."""
    world, epsilon, num_pairs, generator = Uneven(), 0.5, 4000, torch.Generator().manual_seed(3)
    concepts = world.sample_concept(30_000, generator).repeat(2)
    corpus = world.sample(concepts, generator)
    pairs = index_pairs(np.arange(num_pairs), np.arange(num_pairs) + 30_000)
    noisy = noisy_pairs(pairs, epsilon, generator, concepts.numpy())
    number = (corpus @ torch.tensor([2, 1])).numpy()
    counts = np.bincount(4 * number[noisy.first] + number[noisy.second], minlength=16)
    d = enumerate_documents(world)
    expected = [
        world.log_prob(d1[None]).exp() * against_all(NoisyPairsSynthesizer(world, epsilon), d1, d).exp()
        for d1 in d
    ]
    assert chisquare(counts, torch.cat(expected) * num_pairs).pvalue > 2e-5


def test_what_is_out_of_range_is_named():
    with pytest.raises(ConfigError, match="beta = -1"):
        TemperedSynthesizer(WORLD, -1)
    with pytest.raises(ConfigError, match="epsilon = 2"):
        NoisyPairsSynthesizer(WORLD, 2)
    with pytest.raises(ConfigError, match="num_concepts = 1"):
        NoisyPairsSynthesizer(make_world("unigram_mixture", num_concepts=1), 0.5)
    with pytest.raises(ConfigError, match=r"epsilon = -0\.1"):
        noisy_pairs(index_pairs([0], [1]), -0.1, torch.Generator(), np.array([0, 1]))
    with pytest.raises(PairingError, match="one concept"):
        noisy_pairs(index_pairs([0], [1]), 0.1, torch.Generator(), np.array([3, 3]))
