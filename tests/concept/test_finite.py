"""Models of finitely many concepts: Bayes' rule by plain loops, in pieces, and what is refused."""

import math

import pytest
import torch
from concept_models import (
    FALSE_ALARM,
    Unigrams,
    all_documents,
    all_pairs,
    document_index,
    generator,
    goodness_of_fit,
    unigrams,
)

from sbp_bayes.base.errors import ConceptError, ConfigError
from sbp_bayes.concept import PAD, pad_documents, prefixes

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def likelihoods(model, document):
    """P(d | c) of every concept, by products of Python's floats."""
    return [math.prod(p[x] for x in document if x != PAD) for p in model.probs_KV.tolist()]


def joint(model, *documents):
    """P(c, documents) of every concept."""
    factors = [model.log_prior_K.exp().tolist(), *(likelihoods(model, d) for d in documents)]
    return [math.prod(terms) for terms in zip(*factors, strict=True)]


def test_bayes_rule_by_loops():
    model = unigrams()
    d = all_documents(3, 3)
    evidence = torch.tensor([sum(joint(model, x)) for x in d.tolist()], dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(d).exp(), evidence, **CLOSE)
    table = torch.tensor([joint(model, x) for x in d.tolist()], dtype=torch.float64)
    torch.testing.assert_close(model.posterior(d).exp(), table / evidence[:, None], **CLOSE)
    d1, d2 = all_pairs(d)
    pairs = zip(d1.tolist(), d2.tolist(), strict=True)
    expected = [sum(joint(model, x, y)) / sum(joint(model, x)) for x, y in pairs]
    measured = model.log_prob_pair(d2, d1).exp()
    torch.testing.assert_close(measured, torch.tensor(expected, dtype=torch.float64), **CLOSE)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_probabilities_sum_to_one(length):
    model, d = unigrams(), all_documents(3, length)
    given = torch.tensor([[2, 2, 0]]).expand(len(d), -1)
    assert model.log_prob(d).exp().sum().item() == pytest.approx(1, rel=1e-10)
    assert model.log_prob_pair(d, given).exp().sum().item() == pytest.approx(1, rel=1e-10)


def test_likelihoods_of_own_and_of_every_concept_agree():
    model, d = unigrams(), all_documents(3, 3)
    c = torch.arange(len(d)) % 3
    assert torch.equal(model.log_prob_given(d, c), model.log_likelihood(d)[torch.arange(len(d)), c])
    torch.testing.assert_close(model.token_log_likelihood(d).sum(dim=1), model.log_likelihood(d), **CLOSE)


def test_next_tokens_chain_to_the_density():
    model, d = unigrams(), all_documents(3, 3)
    given = d.roll(1, dims=0)
    given[:, 2] = PAD
    for condition, expected in ((None, model.log_prob(d)), (given, model.log_prob_pair(d, given))):
        total = torch.zeros(len(d), dtype=torch.float64)
        for t, prefix in enumerate(prefixes(d).unbind(1)[:-1]):
            log_probs = model.next_token_log_probs(prefix, condition)
            torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(len(d)).double(), **CLOSE)
            total += log_probs.gather(1, d[:, t : t + 1])[:, 0]
        torch.testing.assert_close(total, expected, **CLOSE)


def test_padded_documents_are_their_prefixes():
    model = unigrams()
    short = [torch.tensor(x).long() for x in ([2, 1, 0], [1], [0, 0], [])]
    padded = pad_documents(short)
    for i, document in enumerate(short):
        for method in (model.log_prob, model.posterior, model.next_token_log_probs):
            assert torch.equal(method(padded)[i], method(document[None])[0])


def test_pieces_score_alike(monkeypatch):
    model, d = unigrams(), all_documents(3, 3)
    quantities = (
        model.log_likelihood,
        model.token_log_likelihood,
        model.posterior,
        model.next_token_log_probs,
        lambda d: model.log_prob_pair(d, d),
    )
    whole = [quantity(d) for quantity in quantities]
    monkeypatch.setattr("sbp_bayes.concept.finite.CHUNK_BYTES", 1)
    for quantity, expected in zip(quantities, whole, strict=True):
        torch.testing.assert_close(quantity(d), expected, rtol=1e-12, atol=1e-14)


def test_draws_fit_their_densities():
    """Pearson, 20,000 draws each: concepts, documents, posterior concepts, and the documents of these."""
    model, d, n = unigrams(), all_documents(3, 3), 20_000
    c = model.sample_concept(n, generator(0))
    assert goodness_of_fit(c, model.log_prior_K.exp()) > FALSE_ALARM
    marginal = model.sample(c, generator(1))
    assert goodness_of_fit(document_index(marginal, 3), model.log_prob(d).exp()) > FALSE_ALARM
    d1 = torch.tensor([[2, 0, 1], [0, 0, 1]])
    posterior = model.sample_posterior(d1, n, generator(2))
    assert posterior.shape == (2, n)
    for i in range(2):
        assert goodness_of_fit(posterior[i], model.posterior(d1)[i].exp()) > FALSE_ALARM
        d2 = model.sample(posterior[i], generator(3 + i))
        expected = model.log_prob_pair(d, d1[i].expand(len(d), -1)).exp()
        assert goodness_of_fit(document_index(d2, 3), expected) > FALSE_ALARM


def test_what_no_concept_can_write_conditions_nothing():
    model = Unigrams(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), 2)
    d = torch.tensor([[0, 0], [2, 0]])
    assert model.log_prob(d)[1].item() == -math.inf
    assert model.log_prob_pair(d, d[:1].expand(2, -1))[1].item() == -math.inf
    for method in (model.posterior, model.next_token_log_probs, lambda d: model.log_prob_pair(d, d)):
        with pytest.raises(ConceptError, match="document 1 has probability 0 under every concept"):
            method(d)


def test_priors_are_normalised_and_bad_ones_named():
    probs_KV = torch.ones(2, 2)
    model = Unigrams(probs_KV, 1, torch.tensor([3.0, 1.0]))
    assert model.log_prior_K.exp().tolist() == pytest.approx([0.75, 0.25], rel=1e-6)
    with pytest.raises(ConfigError, match="log_prior"):
        Unigrams(probs_KV, 1, torch.zeros(2))
    with pytest.raises(ConfigError, match="log_prior"):
        Unigrams(probs_KV, 1, torch.ones(0))
    with pytest.raises(ConfigError, match="doc_length = 0"):
        Unigrams(probs_KV, 0)
    with pytest.raises(ConfigError, match="vocab_size = 0"):
        Unigrams(torch.ones(2, 0), 1)
