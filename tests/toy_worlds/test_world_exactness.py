"""Every world with a closed form, against enumeration of all its documents and against Bayes' rule."""

import math
from typing import Any

import pytest
import torch
from small_worlds import CLOSED_FORM, FINITE, every_document, padded, possible, small_world
from torch.testing import assert_close

from sbp_bayes.base.errors import ConceptError
from sbp_bayes.concept import PAD, finite, prefixes
from toy_worlds import make_world
from toy_worlds.hidden_markov import forward

EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(params=CLOSED_FORM)
def world(request: pytest.FixtureRequest) -> Any:
    return small_world(request.param)


@pytest.fixture(params=FINITE)
def finite_world(request: pytest.FixtureRequest) -> Any:
    return small_world(request.param)


def one() -> torch.Tensor:
    return torch.tensor(1.0, dtype=torch.float64)


def test_documents_of_each_length_have_probability_one(world: Any) -> None:
    for length in range(world.doc_length + 1):
        assert_close(world.log_prob(every_document(world, length)).exp().sum(), one(), **EXACT)


def test_documents_given_another_have_probability_one(world: Any) -> None:
    d2 = every_document(world)
    for length in range(world.doc_length + 1):
        for d1 in possible(world, every_document(world, length))[:7]:
            log_prob = world.log_prob_pair(d2, given=d1.expand(len(d2), -1))
            assert_close(log_prob.exp().sum(), one(), **EXACT)


def test_a_prefix_stands_for_all_that_begin_with_it(world: Any) -> None:
    d = every_document(world)
    prob_of_first = world.log_prob(d).exp().unflatten(0, (world.vocab_size, -1)).sum(dim=1)
    first = padded(torch.arange(world.vocab_size)[:, None], world.doc_length - 1)
    assert_close(world.log_prob(first).exp(), prob_of_first, **EXACT)


def test_pairs_are_symmetric(world: Any) -> None:
    d = possible(world, every_document(world))
    rows, columns = (torch.cartesian_prod(torch.arange(len(d)), torch.arange(len(d)))).T
    log_joint = world.log_prob(d[rows]) + world.log_prob_pair(d[columns], given=d[rows])
    joint = log_joint.exp().unflatten(0, (len(d), len(d)))
    assert_close(joint, joint.T, **EXACT)


@pytest.mark.parametrize("conditional", [False, True])
def test_next_tokens_chain_to_the_document(world: Any, conditional: bool) -> None:
    d = possible(world, every_document(world))[:30]
    d1 = d.roll(1, dims=0)
    together = world.log_prob_pair(d, given=d1) > -torch.inf
    d, d1 = d[together], d1[together]
    assert len(d) > 1
    total = torch.zeros(len(d), dtype=torch.float64)
    for t in range(d.shape[1]):
        next_token = world.next_token_log_probs(d[:, :t], given=d1 if conditional else None)
        assert_close(next_token.exp().sum(dim=1), torch.ones(len(d), dtype=torch.float64), **EXACT)
        total += next_token.gather(1, d[:, t : t + 1])[:, 0]
    expected = world.log_prob_pair(d, given=d1) if conditional else world.log_prob(d)
    assert_close(total, expected, **EXACT)


def test_padding_changes_no_bit(world: Any) -> None:
    d = every_document(world)
    d1 = possible(world, d)[:1].expand(len(d), -1)
    longer, longer1 = padded(d, 5), padded(d1, 2)
    assert torch.equal(world.log_prob(longer), world.log_prob(d))
    assert torch.equal(world.log_prob_pair(longer, given=longer1), world.log_prob_pair(d, given=d1))
    if hasattr(world, "token_log_likelihood"):
        tokens = world.token_log_likelihood(longer)
        assert torch.equal(tokens[:, : d.shape[1]], world.token_log_likelihood(d))
        assert not tokens[:, d.shape[1] :].any()


def test_lengths_may_be_mixed(world: Any) -> None:
    """All prefixes of some documents in one batch, shuffled, score as each does alone."""
    d = prefixes(every_document(world)[::5]).flatten(0, 1)
    d = d[torch.randperm(len(d), generator=torch.Generator().manual_seed(0))]
    alone = torch.cat([world.log_prob(row[None, row != PAD]) for row in d])
    assert_close(world.log_prob(d), alone, **EXACT)


def test_concepts_likelihoods_agree(finite_world: Any) -> None:
    """Summed token by token, at once for all concepts, or each document under its own concept."""
    d = prefixes(every_document(finite_world)).flatten(0, 1)
    log_likelihood = finite_world.log_likelihood(d)
    assert_close(finite_world.token_log_likelihood(d).sum(dim=1), log_likelihood, **EXACT)
    for concept in range(finite_world.num_concepts):
        own = finite_world.log_prob_given(d, torch.full((len(d),), concept))
        assert_close(own, log_likelihood[:, concept], **EXACT)


def test_own_concepts_may_differ_in_a_batch(finite_world: Any) -> None:
    d = every_document(finite_world)
    c = torch.arange(len(d)) % finite_world.num_concepts
    expected = finite_world.log_likelihood(d)[torch.arange(len(d)), c]
    assert_close(finite_world.log_prob_given(d, c), expected, **EXACT)


def test_token_likelihoods_are_ratios_of_prefixes(finite_world: Any) -> None:
    """−∞ at the very token that makes a document impossible; nothing is said of those behind it."""
    d = every_document(finite_world)
    of_prefixes = finite_world.log_likelihood(prefixes(d).flatten(0, 1)).unflatten(0, (len(d), -1))
    tokens, begun = finite_world.token_log_likelihood(d), of_prefixes[:, :-1] > -torch.inf
    assert_close(tokens[begun], of_prefixes.diff(dim=1)[begun], **EXACT)


def test_the_posterior_is_bayes_rule(finite_world: Any) -> None:
    d = possible(finite_world, every_document(finite_world))
    joint = finite_world.log_likelihood(d).exp() / finite_world.num_concepts
    evidence = joint.sum(dim=1, keepdim=True)
    assert_close(finite_world.log_prob(d).exp(), evidence[:, 0], **EXACT)
    assert_close(finite_world.posterior(d).exp(), joint / evidence, **EXACT)
    d1, d2 = d, d.flip(0)
    predictive = (finite_world.log_likelihood(d2).exp() * joint / evidence).sum(dim=1)
    assert_close(finite_world.log_prob_pair(d2, given=d1).exp(), predictive, **EXACT)


def test_chunks_of_concepts_change_nothing(finite_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    d = possible(finite_world, every_document(finite_world))
    whole = finite_world.log_prob(d), finite_world.posterior(d), finite_world.token_log_likelihood(d)
    monkeypatch.setattr(finite, "CHUNK_BYTES", 1)
    monkeypatch.setattr(forward, "BLOCK_BYTES", 1)
    chunked = finite_world.log_prob(d), finite_world.posterior(d), finite_world.token_log_likelihood(d)
    assert_close(chunked, whole, **EXACT)


@pytest.mark.parametrize("case", ["facts, no noise", "hmm, no noise"])
def test_nothing_is_defined_given_an_impossible_document(case: str) -> None:
    world = small_world(case)
    d = every_document(world)
    impossible = d[world.log_prob(d) == -torch.inf][:1]
    with pytest.raises(ConceptError, match="probability 0"):
        world.log_prob_pair(d[:1], given=impossible)


def test_uniform_tokens_tell_nothing() -> None:
    world = make_world("uniform", num_concepts=3, vocab_size=5)
    d = every_document(world, 4)
    expected = torch.full((len(d),), -4 * math.log(5), dtype=torch.float64)
    assert_close(world.log_prob(d), expected, **EXACT)
    assert_close(world.log_prob_pair(d, given=d), expected, **EXACT)
