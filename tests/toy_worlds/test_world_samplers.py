"""Samplers against the densities: G-tests over all documents, a false alarm at p < 2e-5."""

from typing import Any

import pytest
import scipy.stats
import torch
from small_worlds import CLOSED_FORM, FINITE, every_document, fit, fit_counts, possible, small_world

from toy_worlds import WORLDS, make_world

FALSE_ALARM = 2e-5
NUM_DRAWS = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("case", CLOSED_FORM)
def test_documents_follow_their_marginal(case: str) -> None:
    """n = 20,000 draws of c ~ P(c), d ~ P(d | c), against P(d)."""
    world, source = small_world(case), generator()
    d = world.sample(world.sample_concept(NUM_DRAWS, source), source)
    assert d.shape == (NUM_DRAWS, world.doc_length)
    assert fit(d, world.vocab_size, world.log_prob(every_document(world))) > FALSE_ALARM


@pytest.mark.parametrize("case", FINITE)
def test_documents_follow_their_concept(case: str) -> None:
    """n = 20,000 documents of each concept, drawn in one batch, against P(d | c)."""
    world = small_world(case)
    c = torch.arange(world.num_concepts).repeat(NUM_DRAWS)
    d, log_likelihood = world.sample(c, generator(1)), world.log_likelihood(every_document(world))
    for concept in range(world.num_concepts):
        p = fit(d[c == concept], world.vocab_size, log_likelihood[:, concept])
        assert p > FALSE_ALARM / world.num_concepts


@pytest.mark.parametrize("case", CLOSED_FORM)
def test_pairs_follow_the_posterior_predictive(case: str) -> None:
    """n = 20,000 draws of c ~ P(c | d1), d2 ~ P(d2 | c), against P(d2 | d1)."""
    world, source = small_world(case), generator(2)
    d1 = possible(world, every_document(world))[1:2]
    c = world.sample_posterior(d1, NUM_DRAWS, source)[0]
    d2 = every_document(world)
    log_prob = world.log_prob_pair(d2, given=d1.expand(len(d2), -1))
    assert fit(world.sample(c, source), world.vocab_size, log_prob) > FALSE_ALARM


@pytest.mark.parametrize("name", WORLDS)
def test_the_generator_decides_what_is_drawn(name: str) -> None:
    world = make_world(name)

    def draw(seed: int) -> torch.Tensor:
        source = generator(seed)
        return world.sample(world.sample_concept(8, source), source)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    assert draw(3).dtype == torch.int64
    assert draw(3).shape == (8, world.doc_length)


def test_the_goodness_of_fit_sees_a_wrong_density() -> None:
    """The same draws against another seed's world: what a sampler of the wrong density looks like."""
    world, other = (
        small_world("unigrams"),
        make_world("unigram_mixture", num_concepts=3, vocab_size=3, seed=1),
    )
    d = every_document(world)
    drawn = world.sample(world.sample_concept(NUM_DRAWS, generator()), generator())
    assert fit(drawn, world.vocab_size, other.log_prob(d)) < FALSE_ALARM


def test_the_goodness_of_fit_sees_the_impossible() -> None:
    log_prob = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    assert fit_counts(torch.tensor([5000, 5000, 1]), log_prob) == 0.0
    assert fit_counts(torch.tensor([5000, 5000, 0]), log_prob) > FALSE_ALARM


def words_of_pairs(world: Any, num_pairs: int) -> torch.Tensor:
    """Return the counts of (first word, second word) of d1, and of (d1's first, d2's first), (2, V, V)."""
    source = generator(5)
    c = world.sample_concept(num_pairs, source)
    d1, d2 = world.sample(c, source), world.sample(c, source)
    size = world.vocab_size
    within, between = d1[:, 0] * size + d1[:, 1], d1[:, 0] * size + d2[:, 0]
    return torch.stack([torch.bincount(both, minlength=size**2) for both in (within, between)])


@pytest.mark.parametrize("branching", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_words_of_the_tree_follow_its_second_moments(depth: int, branching: int) -> None:
    """n = 20,000 pairs of documents, one of each concept.

    E[xxᵀ] of a node x ~ Dirichlet(κ parent) is (κ E[parent parentᵀ] + diag r) / (κ + 1), for leaves as for
    their common ancestors at each level; two documents' leaves first part below a level with a
    probability that the branching gives.
    """
    kappa = 2.0
    world = make_world(
        "topic_tree", vocab_size=3, doc_length=2, depth=depth, branching=branching, concentration=kappa
    )
    moment_VV, moments = torch.outer(world.root_V, world.root_V), []
    for _ in range(depth):
        moment_VV = (kappa * moment_VV + world.root_V.diag()) / (kappa + 1)
        moments.append(moment_VV)
    last_common = [branching ** -float(level) for level in range(depth)]
    last_common = [p - q for p, q in zip(last_common, [*last_common[1:], 0.0], strict=True)]
    between_VV = sum(p * moment for p, moment in zip(last_common, moments, strict=True))
    counts = words_of_pairs(world, NUM_DRAWS)
    assert fit_counts(counts[0], moments[-1].flatten().log()) > FALSE_ALARM
    assert fit_counts(counts[1], between_VV.flatten().log()) > FALSE_ALARM


def test_documents_of_the_tree_follow_their_concept() -> None:
    """n = 20,000 documents of one concept."""
    world = make_world("topic_tree", vocab_size=3, doc_length=3)
    c = world.sample_concept(1, generator(6))
    drawn = world.sample(c.expand(NUM_DRAWS, -1, -1), generator(7))
    d = every_document(world)
    log_prob = world.log_prob_given(d, c.expand(len(d), -1, -1))
    assert fit(drawn, 3, log_prob) > FALSE_ALARM


def test_parameters_are_drawn_from_their_priors() -> None:
    """Transition rows, initial and word distributions of 5,000 concepts, and settings of Mess3."""
    markov = make_world(
        "markov_mixture", num_concepts=5000, vocab_size=3, initial="sampled", concentration=0.7
    )
    table_RK = markov.log_table_RK.exp().unflatten(0, (4, 3))
    torch.testing.assert_close(table_RK.sum(dim=1), torch.ones(4, 5000, dtype=torch.float64))
    words = make_world("unigram_mixture", num_concepts=5000, vocab_size=3, concentration=0.7)
    style = make_world("style_and_topic", num_concepts=5000, vocab_size=3, style_share=0, concentration=0.7)
    drawn = [*table_RK[:, 0], words.log_table_RK[0].exp(), style.log_table_VKJ[0, :, 0].exp()]
    for entry in drawn:
        assert scipy.stats.kstest(entry.numpy(), scipy.stats.beta(0.7, 1.4).cdf).pvalue > FALSE_ALARM
    x, a = make_world("mess3_mixture", num_concepts=5000).settings_K2.T.numpy()
    assert scipy.stats.kstest(x, scipy.stats.uniform(0, 1 / 2).cdf).pvalue > FALSE_ALARM
    assert scipy.stats.kstest(a, scipy.stats.uniform(1 / 3, 2 / 3).cdf).pvalue > FALSE_ALARM
    facts = make_world("fact_views", num_concepts=5000, num_values=4).tables_KF
    assert (
        fit_counts(facts.flatten().bincount(minlength=4), torch.full((4,), 0.25).double().log()) > FALSE_ALARM
    )
