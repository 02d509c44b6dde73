"""The exact synthesizer: its density by enumeration and a second road, its samples against its density."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from sbp_bayes.base.errors import ConceptError
from sbp_bayes.concept import DirichletCategorical, pad_documents
from sbp_bayes.concept.information import enumerate_documents
from sbp_bayes.synthesizer import MixtureSynthesizer, PosteriorSynthesizer
from sbp_bayes.synthesizer import posterior as posterior_module
from toy_worlds import make_world

FINITE = {
    "unigram_mixture": {"num_concepts": 3, "vocab_size": 3, "doc_length": 2, "seed": 4},
    "markov_mixture": {"num_concepts": 3, "vocab_size": 2, "doc_length": 3, "seed": 1, "initial": "sampled"},
}
CONJUGATE = DirichletCategorical(torch.tensor([0.4, 1.0, 2.0]), doc_length=2)


class ExactMixture(MixtureSynthesizer):
    """The posterior by the mixture's road."""

    def log_weights(self, d1):
        return self.world.posterior(d1)


def worlds():
    return [make_world(name, **params) for name, params in FINITE.items()] + [CONJUGATE]


def by_hand(world, d2, d1):
    """log Σ_c P(c) P(d1 | c) P(d2 | c) / Σ_c P(c) P(d1 | c), concept by concept."""
    joint, evidence = 0.0, 0.0
    for concept in range(world.num_concepts):
        c = torch.tensor([concept])
        prior, first = float(world.log_prior_K[concept].exp()), float(world.log_prob_given(d1[None], c).exp())
        joint += prior * first * float(world.log_prob_given(d2[None], c).exp())
        evidence += prior * first
    return np.log(joint / evidence)


@pytest.mark.parametrize("world", worlds()[:2])
def test_the_density_is_bayes_rule(world):
    d = enumerate_documents(world)
    synthesizers = PosteriorSynthesizer(world), ExactMixture(world)
    for d1 in (d[1], d[-2]):
        wanted = [by_hand(world, d2, d1) for d2 in d]
        for synthesizer in synthesizers:
            log_prob = synthesizer.log_prob(d, given=d1.expand(len(d), -1))
            np.testing.assert_allclose(log_prob, wanted, rtol=1e-10)


@pytest.mark.parametrize("world", worlds())
def test_the_density_sums_to_one(world):
    d = enumerate_documents(world)
    for d1 in d:
        total = PosteriorSynthesizer(world).log_prob(d, given=d1.expand(len(d), -1)).exp().sum()
        assert float(total) == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("world", worlds())
@pytest.mark.parametrize("kind", [PosteriorSynthesizer, ExactMixture])
def test_token_scores_chain_to_every_prefix(world, kind):
    if kind is ExactMixture and world is CONJUGATE:
        return
    synthesizer = kind(world)
    d = enumerate_documents(world)
    d1 = d.flip(0)
    scores = synthesizer.token_log_prob(d, given=d1)
    assert scores.end is None
    for length in range(1, world.doc_length + 1):
        prefix = synthesizer.log_prob(d[:, :length], given=d1)
        np.testing.assert_allclose(scores.tokens[:, :length].sum(1), prefix, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", [PosteriorSynthesizer, ExactMixture])
def test_lists_of_several_lengths_and_padded_documents_are_one(kind):
    world = worlds()[0]
    d1 = [np.array([0, 1]), np.array([2]), np.array([1, 1])]
    d2 = [np.array([2]), np.array([0, 2]), np.array([1])]
    synthesizer = kind(world)
    listed = synthesizer.token_log_prob(d2, given=d1).tokens
    padded = synthesizer.token_log_prob(
        pad_documents([torch.tensor(d) for d in d2]), pad_documents([torch.tensor(d) for d in d1])
    ).tokens
    assert torch.equal(listed, padded)
    assert listed[0, 1] == listed[2, 1] == 0
    for row, (a, b) in enumerate(zip(d1, d2, strict=True)):
        alone = synthesizer.token_log_prob(torch.tensor(b)[None], torch.tensor(a)[None]).tokens[0]
        np.testing.assert_allclose(listed[row, : len(b)], alone, rtol=1e-12)
        np.testing.assert_allclose(synthesizer.log_prob(d2, given=d1)[row], alone.sum(), rtol=1e-10)


def test_chunks_do_not_change_a_mixtures_scores(monkeypatch):
    world = worlds()[1]
    d = enumerate_documents(world)
    whole = ExactMixture(world).token_log_prob(d, given=d).tokens
    monkeypatch.setattr(posterior_module, "CELLS_TOGETHER", 20)
    assert torch.equal(ExactMixture(world).token_log_prob(d, given=d).tokens, whole)


def test_after_an_impossible_token_all_is_impossible():
    world = worlds()[0]
    world.log_table_RK[2] = -torch.inf
    world.log_table_RK[:2] -= world.log_table_RK[:2].logsumexp(0)
    d1 = torch.tensor([[0, 1]] * 3)
    d2 = torch.tensor([[0, 1], [2, 0], [0, 2]])
    for kind in (PosteriorSynthesizer, ExactMixture):
        tokens = kind(world).token_log_prob(d2, given=d1).tokens
        assert tokens[0].isfinite().all()
        assert (tokens[1] == -torch.inf).all()
        assert tokens[2, 0].isfinite()
        assert tokens[2, 1] == -torch.inf
    with pytest.raises(ConceptError, match="probability 0"):
        PosteriorSynthesizer(world).log_prob(d1, given=d2)


@pytest.mark.parametrize("world", worlds())
@pytest.mark.parametrize("kind", [PosteriorSynthesizer, ExactMixture])
def test_samples_follow_the_density(world, kind):
    """n = 6,000 draws given one d1, over all documents: chi-square, rejected at p < 2e-5."""
    if kind is ExactMixture and world is CONJUGATE:
        return
    d = enumerate_documents(world)
    place_T = world.vocab_size ** torch.arange(world.doc_length - 1, -1, -1)
    for number, d1 in enumerate((d[0], d[-1])):
        generator = torch.Generator().manual_seed(number)
        samples = kind(world).sample(d1.expand(6000, -1), generator)
        assert all(s.dtype == torch.int64 and s.shape == (world.doc_length,) for s in samples[:5])
        counts = torch.bincount((torch.stack(samples) * place_T).sum(1), minlength=len(d))
        expected = kind(world).log_prob(d, given=d1.expand(len(d), -1)).exp() * 6000
        small = expected < 5
        pooled = [torch.cat([x[~small], x[small].sum()[None]]) for x in (counts.double(), expected)]
        keep = pooled[1] > 0
        assert chisquare(pooled[0][keep], pooled[1][keep], sum_check=False).pvalue > 2e-5
