"""Pyro's enumeration, NUTS and SVI against what finite and conjugate models know exactly."""

import pyro
import pytest
import torch
from concept_models import all_documents, categorical, generator, markov, unigrams
from torch.distributions import kl_divergence

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.concept import PAD, DirichletCategorical
from sbp_bayes.concept.inference import (
    enumerated_log_prob,
    enumerated_posterior,
    fit_guide,
    importance_log_prob,
    nuts_posterior,
)
from sbp_bayes.concept.information import entropy

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def test_enumeration_agrees_on_documents():
    model = unigrams()
    d = torch.cat([all_documents(3, 3)[:9], torch.tensor([[1, 2, PAD]])])
    torch.testing.assert_close(enumerated_log_prob(model, d), model.log_prob(d), **CLOSE)
    torch.testing.assert_close(enumerated_posterior(model, d).exp(), model.posterior(d).exp(), **CLOSE)


def test_enumeration_agrees_on_pairs():
    model = unigrams()
    d1, d2 = all_documents(3, 3)[:9], all_documents(3, 3)[-9:]
    pairs = torch.stack([d1, d2], dim=1)
    joint = model.log_prob(d1) + model.log_prob_pair(d2, d1)
    torch.testing.assert_close(enumerated_log_prob(model, pairs), joint, **CLOSE)
    both = model.log_prior_K + model.log_likelihood(d1) + model.log_likelihood(d2)
    torch.testing.assert_close(enumerated_posterior(model, pairs).exp(), both.softmax(dim=1), **CLOSE)


@pytest.mark.parametrize("pair", [False, True])
def test_nuts_finds_the_posterior_s_mean(pair):
    """z < 5 by the effective number of 200 draws, of one document or of two of one concept."""
    model = DirichletCategorical(torch.tensor([1.5, 2.0, 2.5], dtype=torch.float64), 4)
    d = torch.tensor([[0, 0, 1, 0]])
    samples = nuts_posterior(
        model, torch.stack([d, d], dim=1) if pair else d, 200, generator(1), warmup_steps=100
    )
    assert samples.concepts.shape == (200, 1, 3)
    alpha = model.posterior_alpha(d, *([d] if pair else []))[:, 0]
    mean = alpha / alpha.sum(dim=1, keepdim=True)
    z = (samples.mean() - mean) / samples.standard_error()
    assert (z.abs() < 5).all()
    exact_deviation = (mean * (1 - mean) / (alpha.sum() + 1)).sqrt()
    assert (samples.standard_error() < exact_deviation / 3).all()


@pytest.mark.parametrize("build", [categorical, markov])
def test_an_amortised_guide_comes_close_to_every_posterior(build):
    """SVI of 300 steps: KL(q(c | d) ‖ P(c | d)) of new documents, in nats; as a proposal, z < 5."""
    model = build(4)
    guide, losses = fit_guide(model, 300, generator(2))
    d = model.sample(model.sample_concept(200, generator(3)), generator(4))
    alpha = guide(d).base_dist.concentration
    exact = torch.distributions.Dirichlet(model.posterior_alpha(d).reshape(alpha.shape))
    gap = kl_divergence(torch.distributions.Dirichlet(alpha), exact).reshape(200, -1).sum(dim=1)
    assert gap.mean() < 0.2
    loss, error = losses[-50:].mean(), losses[-50:].std() / 50**0.5
    h = entropy(model).value
    assert h - 5 * error < loss < h + 0.2 + 5 * error
    estimate = importance_log_prob(model, d[:20], 500, generator(5), proposal=guide)
    assert ((estimate.log_prob - model.log_prob(d[:20])).abs() < 5 * estimate.standard_error).all()
    prior = importance_log_prob(model, d[:20], 500, generator(6))
    assert estimate.standard_error.mean() < prior.standard_error.mean()


def test_fits_leave_no_trace():
    """Pyro's parameter store and the global generator are as they were, whatever names a fit uses."""
    store = pyro.get_param_store()
    with store.scope():
        pyro.param("guide$$$direct.weight", torch.zeros(1))
        state = torch.get_rng_state()
        first, losses = fit_guide(categorical(), 3, generator(7), batch_size=4)
        again, same = fit_guide(categorical(), 3, generator(7), batch_size=4)
        assert list(store.keys()) == ["guide$$$direct.weight"]
        assert torch.equal(store["guide$$$direct.weight"], torch.zeros(1))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(losses, same)
    assert all(torch.equal(x, y) for x, y in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(x.requires_grad for x in first.parameters())


def test_a_guide_reads_padded_documents_as_their_prefixes():
    guide, _ = fit_guide(markov(), 1, generator(8), batch_size=4)
    padded = guide(torch.tensor([[2, 1, PAD]])).base_dist.concentration
    torch.testing.assert_close(padded, guide(torch.tensor([[2, 1]])).base_dist.concentration, **CLOSE)


def test_what_cannot_be_inferred_is_named():
    with pytest.raises(ConfigError, match="concept shape = "):
        fit_guide(unigrams(), 10, generator())
    with pytest.raises(ConfigError, match="num_steps = 0"):
        fit_guide(categorical(), 0, generator())
    with pytest.raises(ConfigError, match="num_samples = 3"):
        nuts_posterior(categorical(), all_documents(3, 3)[:1], 3, generator())
