"""Every world with a closed form, small enough to enumerate: the laws of probability, and Pyro's road."""

import functools
import itertools

import pytest
import scipy.stats
import torch

from sbp_bayes.concept import PAD, ExactModel, FiniteConceptModel, prefixes
from sbp_bayes.concept.distributions import concept_event_shape
from sbp_bayes.concept.importance import annealed_log_prob, importance_log_prob
from sbp_bayes.concept.inference import enumerated_log_prob, enumerated_posterior
from sbp_bayes.concept.information import (
    bayes_loss_curve,
    concept_information,
    conditional_entropy,
    entropy,
    mutual_information,
)
from toy_worlds import WORLDS, make_world

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
FALSE_ALARM = 2e-5

SMALL = {
    "uniform": {"num_concepts": 2, "vocab_size": 5, "doc_length": 3},
    "dirichlet_unigram": {"vocab_size": 3, "doc_length": 4},
    "dirichlet_markov": {"vocab_size": 3, "doc_length": 4},
    "unigram_mixture": {"num_concepts": 4, "vocab_size": 3, "doc_length": 4},
    "markov_mixture": {"num_concepts": 4, "vocab_size": 3, "doc_length": 4},
    "hmm_mixture": {
        "num_concepts": 3,
        "vocab_size": 3,
        "doc_length": 4,
        "num_entities": 2,
        "num_properties": 2,
        "noise": 0.1,
    },
    "mess3_mixture": {"num_concepts": 3, "doc_length": 4},
    "fact_views": {"num_concepts": 4, "num_slots": 3, "num_values": 2, "num_stated": 2, "noise": 0.1},
    "biographies": {
        "num_concepts": 4,
        "num_attributes": 1,
        "num_values": 3,
        "num_stated": 1,
        "num_templates": 2,
        "noise": 0.1,
        "num_names": 1,
    },
    "style_and_topic": {"num_concepts": 3, "vocab_size": 3, "doc_length": 4, "num_styles": 2},
}
every_world = pytest.mark.parametrize("name", SMALL)


@functools.cache
def small(name):
    return make_world(name, seed=3, **SMALL[name])


@functools.cache
def documents(name):
    """All documents, and those that the world can write."""
    world = small(name)
    d = torch.tensor(list(itertools.product(range(world.vocab_size), repeat=world.doc_length)))
    return d, d[world.log_prob(d) > -torch.inf]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def pearson(sampled, d, log_prob):
    """The p-value that documents come from these probabilities; rare ones together, 0 for impossible ones."""
    index = {tuple(x): i for i, x in enumerate(d.tolist())}
    counts = torch.bincount(
        torch.tensor([index[tuple(x)] for x in sampled.tolist()]), minlength=len(d)
    ).double()
    expected = log_prob.exp() * len(sampled)
    if counts[expected == 0].any():
        return 0.0
    rare = expected < 5
    counts, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, expected))
    kept = expected > 0
    return float(scipy.stats.chisquare(counts[kept], expected[kept], sum_check=False).pvalue)


def test_every_exact_world_is_here():
    """`isinstance` tells exact worlds from others, which have none of the methods that need closed forms."""
    exact = {name for name in WORLDS if isinstance(make_world(name), ExactModel)}
    assert exact == set(SMALL) == set(WORLDS) - {"topic_tree"}
    tree = make_world("topic_tree")
    needed = ("log_prob", "log_prob_pair", "next_token_log_probs", "sample_posterior", "posterior")
    assert not any(hasattr(tree, method) for method in needed)


@every_world
def test_probabilities_sum_to_one(name):
    """Σ_d P(d), of all lengths, and Σ_d2 P(d2 | d1) of several d1, a shorter one and an empty one too."""
    world, (d, possible) = small(name), documents(name)
    for length in range(world.doc_length):
        short = torch.tensor(list(itertools.product(range(world.vocab_size), repeat=length))).long()
        assert world.log_prob(short).exp().sum().item() == pytest.approx(1, rel=1e-10)
    assert world.log_prob(d).exp().sum().item() == pytest.approx(1, rel=1e-10)
    for given in [*possible[:: max(1, len(possible) // 5)], *prefixes(possible[-1:])[0, :2]]:
        total = world.log_prob_pair(d, given.expand(len(d), -1)).exp().sum()
        assert total.item() == pytest.approx(1, rel=1e-10)


@every_world
def test_pairs_are_symmetric(name):
    world, (_, d) = small(name), documents(name)
    d1 = d[:: max(1, len(d) // 40)]
    d2 = d1.flip(0)
    forth = world.log_prob(d1) + world.log_prob_pair(d2, d1)
    torch.testing.assert_close(forth, world.log_prob(d2) + world.log_prob_pair(d1, d2), **CLOSE)


@every_world
def test_next_tokens_chain_to_the_density(name):
    world, (_, d) = small(name), documents(name)
    given = d.roll(1, dims=0)
    possible_pair = world.log_prob_pair(d, given) > -torch.inf
    cases = [(d, None, world.log_prob(d))]
    d, given = d[possible_pair], given[possible_pair]
    cases.append((d, given, world.log_prob_pair(d, given)))
    for written, condition, expected in cases:
        total = torch.zeros(len(written), dtype=torch.float64)
        for t, prefix in enumerate(prefixes(written).unbind(1)[:-1]):
            log_probs = world.next_token_log_probs(prefix, condition)
            torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(len(written)).double(), **CLOSE)
            total += log_probs.gather(1, written[:, t : t + 1])[:, 0]
        torch.testing.assert_close(total, expected, **CLOSE)
        curve = bayes_loss_curve(world, written, condition)
        torch.testing.assert_close(curve.sum(dim=1), -expected, **CLOSE)


@every_world
def test_curves_of_all_documents_sum_to_their_densities(name):
    """Impossible documents too: infinite, never undefined."""
    world, (d, possible) = small(name), documents(name)
    torch.testing.assert_close(bayes_loss_curve(world, d).sum(dim=1), -world.log_prob(d), **CLOSE)
    given = possible[-1].expand(len(d), -1)
    paired = bayes_loss_curve(world, d, given).sum(dim=1)
    torch.testing.assert_close(paired, -world.log_prob_pair(d, given), **CLOSE)


@every_world
def test_padded_documents_are_their_prefixes_exactly(name):
    world, (_, d) = small(name), documents(name)
    for length in range(world.doc_length + 1):
        short, padded = d[:, :length], d.clone()
        padded[:, length:] = PAD
        assert torch.equal(world.log_prob(padded), world.log_prob(short))
        assert torch.equal(world.log_prob_pair(padded, short), world.log_prob_pair(short, padded))
        assert torch.equal(world.next_token_log_probs(padded), world.next_token_log_probs(short))


@every_world
def test_draws_fit_their_densities(name):
    """Pearson, 20,000 draws each: of one concept, of the marginal, and of a posterior."""
    world, (d, possible), n = small(name), documents(name), 20_000
    c = world.sample_concept(n, generator(1))
    assert pearson(world.sample(c, generator(2)), d, world.log_prob(d)) > FALSE_ALARM
    event = concept_event_shape(world)
    one = world.sample(c[:1].expand(n, *event), generator(3))
    assert pearson(one, d, world.log_prob_given(d, c[:1].expand(len(d), *event))) > FALSE_ALARM
    d1 = possible[len(possible) // 2][None]
    d2 = world.sample(world.sample_posterior(d1, n, generator(4))[0], generator(5))
    assert pearson(d2, d, world.log_prob_pair(d, d1.expand(len(d), -1))) > FALSE_ALARM


@every_world
def test_information_obeys_its_laws(name):
    """I(d1; d2) = H(d) − H(d2 | d1), 0 ≤ I(d1; d2) ≤ I(c; d) ≤ H(d), 0 in a world without structure."""
    world = small(name)
    h, h2 = entropy(world).value, conditional_entropy(world).value
    pairs, concept = mutual_information(world).value, concept_information(world).value
    assert pairs == pytest.approx(h - h2, rel=1e-9, abs=1e-10)
    if name == "uniform":
        assert [pairs, concept] == pytest.approx([0, 0], abs=1e-10)
    else:
        assert 1e-7 < pairs < concept < h


@pytest.mark.parametrize("name", [name for name in SMALL if issubclass(WORLDS[name], FiniteConceptModel)])
def test_pyro_enumerates_to_the_same(name):
    """TraceEnum on the world's program: log P(d), log P(d1, d2), P(c | d)."""
    world, (_, d) = small(name), documents(name)
    d1 = d[:: max(1, len(d) // 6)]
    d2 = d1.flip(0)
    torch.testing.assert_close(enumerated_log_prob(world, d1), world.log_prob(d1), **CLOSE)
    torch.testing.assert_close(enumerated_posterior(world, d1).exp(), world.posterior(d1).exp(), **CLOSE)
    joint = world.log_prob(d1) + world.log_prob_pair(d2, d1)
    torch.testing.assert_close(enumerated_log_prob(world, torch.stack([d1, d2], dim=1)), joint, **CLOSE)


def test_the_world_without_a_closed_form_is_estimated():
    """topic_tree of depth 1 is an urn, whose draws multiply to P(d): z < 5 of 2,000 concepts."""
    tree = make_world("topic_tree", vocab_size=3, doc_length=4, depth=1, concentration=2.0)
    d = tree.sample(tree.sample_concept(5, generator(6)), generator(7))
    urn = (tree.concentration * tree.root_V).expand(len(d), -1).clone()
    exact = torch.zeros(len(d), dtype=torch.float64)
    for token in d.T[:, :, None]:
        exact += (urn.gather(1, token) / urn.sum(dim=1, keepdim=True)).log()[:, 0]
        urn.scatter_add_(1, token, torch.ones(len(d), 1).double())
    for estimate in (
        importance_log_prob(tree, d, 2000, generator(8)),
        annealed_log_prob(tree, d, 500, generator(9), num_temperatures=20),
    ):
        assert ((estimate.log_prob - exact).abs() < 5 * estimate.standard_error).all()


def test_the_world_without_a_closed_form_is_estimated_consistently():
    """Σ_d P(d) = 1 by estimates of every document of a deep tree, within the errors' sum of squares."""
    tree = make_world("topic_tree", vocab_size=2, doc_length=3, depth=3, branching=2, concentration=3.0)
    d = torch.tensor(list(itertools.product(range(2), repeat=3)))
    estimate = annealed_log_prob(tree, d, 500, generator(10), num_temperatures=10)
    error = (estimate.log_prob.exp() * estimate.standard_error).square().sum().sqrt()
    assert abs(estimate.log_prob.exp().sum() - 1) < 5 * error
