"""Estimates of log P(d) and log P(d2 | d1): against the exact values, and honest about their errors."""

import math

import pytest
import scipy.stats
import torch
from concept_models import MODELS, Opaque, Unigrams, categorical, generator, markov, unigrams
from pyro.distributions import Dirichlet

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.concept import PAD, DirichletCategorical
from sbp_bayes.concept.importance import (
    KEEPS,
    annealed_log_prob,
    importance_log_prob,
    importance_log_prob_pair,
)

every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
DOCUMENTS = torch.tensor([[0, 1, 0, 0], [1, 1, PAD, PAD], [2, 0, 1, 1], [PAD, PAD, PAD, PAD]])


def z_values(estimate, exact):
    """(estimate − exact) / error, 0 where both are exact."""
    difference = estimate.log_prob - exact
    exactly = (difference.abs() < 1e-12) & (estimate.standard_error < 1e-12)
    return torch.where(exactly, 0.0, difference / estimate.standard_error)


@every_model
def test_importance_finds_the_density(build):
    """z < 5 of 4,000 prior draws each; the empty document is certain."""
    model = build(4)
    estimate = importance_log_prob(Opaque(model), DOCUMENTS, 4000, generator(0))
    assert (z_values(estimate, model.log_prob(DOCUMENTS)).abs() < 5).all()
    assert estimate.log_prob[3].item() == pytest.approx(0, abs=1e-12)
    assert estimate.num_samples == 4000


@every_model
def test_annealing_finds_the_density(build):
    """z < 5 of 500 runs of 20 temperatures, by the model's own moves where it has them, and without."""
    model = build(4)
    for hidden in (model, Opaque(model)):
        estimate = annealed_log_prob(hidden, DOCUMENTS, 500, generator(1), num_temperatures=20)
        assert (z_values(estimate, model.log_prob(DOCUMENTS)).abs() < 5).all()


@every_model
def test_importance_finds_the_density_of_pairs(build):
    model = build(4)
    given = DOCUMENTS[[1, 0, 0, 2]]
    estimate = importance_log_prob_pair(Opaque(model), DOCUMENTS, given, 4000, generator(2))
    assert (z_values(estimate, model.log_prob_pair(DOCUMENTS, given)).abs() < 5).all()


@pytest.mark.parametrize(
    ("estimate", "is_pair"),
    [
        (lambda model, d, g: importance_log_prob(model, d, 200, g), False),
        (lambda model, d, g: importance_log_prob_pair(model, d, d, 200, g), True),
        (lambda model, d, g: annealed_log_prob(model, d, 200, g, num_temperatures=6), False),
    ],
)
def test_standard_errors_are_the_spread_of_estimates(estimate, is_pair):
    """400 copies of one document: z has unit variance, so Σ z² is chi-squared, z < 5."""
    model = categorical(4)
    d = DOCUMENTS[2:3].expand(400, -1)
    z = z_values(
        estimate(model, d, generator(3)), model.log_prob_pair(d, d) if is_pair else model.log_prob(d)
    )
    assert abs(z.square().mean().item() - 1) < 5 * math.sqrt(2 / 400)


def test_a_perfect_proposal_has_no_error():
    """q = P(c | d): every weight is P(d)."""
    model = categorical(4)
    d = DOCUMENTS[:3]
    estimate = importance_log_prob(
        model, d, 10, generator(4), proposal=lambda d: Dirichlet(model.posterior_alpha(d)[:, 0])
    )
    torch.testing.assert_close(estimate.log_prob, model.log_prob(d), rtol=1e-10, atol=1e-12)
    assert (estimate.standard_error < 1e-10).all()


def test_a_proposal_that_is_not_the_prior_is_weighed():
    """z < 5 of 4,000 draws of a wider law than the posterior."""
    model = markov(4)
    estimate = importance_log_prob(
        model,
        DOCUMENTS,
        4000,
        generator(5),
        proposal=lambda d: Dirichlet(0.7 * model.posterior_alpha(d) + 0.1).to_event(1),
    )
    assert (z_values(estimate, model.log_prob(DOCUMENTS)).abs() < 5).all()


def test_moves_pay_where_documents_say_much():
    """60 tokens of one concept: prior draws miss the posterior, annealed moves find it (200 runs of 100)."""
    model = DirichletCategorical(torch.full((4,), 0.5, dtype=torch.float64), 60)
    d = model.sample(model.sample_concept(3, generator(6)), generator(7))
    own = annealed_log_prob(model, d, 200, generator(8))
    assert (z_values(own, model.log_prob(d)).abs() < 5).all()
    prior = importance_log_prob(model, d, 200, generator(9))
    assert (own.standard_error < prior.standard_error).all()


@pytest.mark.parametrize("keep", KEEPS)
def test_moves_leave_the_prior_as_it_is_and_are_reversible(keep):
    """20,000 moves: Beta margins after the move (Kolmogorov–Smirnov), E[c f(c')] = E[c' f(c)] (z < 5)."""
    model, n = DirichletCategorical(torch.tensor([0.3, 1.2], dtype=torch.float64), 3), 20_000
    before = model.sample_concept(n, generator(10))
    after = model.perturb_concept(before, keep, generator(11))
    p, q = before[:, 0], after[:, 0]
    assert scipy.stats.kstest(q.numpy(), scipy.stats.beta(0.3, 1.2).cdf).pvalue > 2e-5
    asymmetry = p * q.square() - q * p.square()
    assert abs(asymmetry.mean()) < 5 * asymmetry.std() / n**0.5
    correlation = torch.corrcoef(torch.stack([p, q]))[0, 1].item()
    assert keep * 0.5 - 0.05 < correlation < keep + 0.05


def test_moves_stay_where_the_model_s_concepts_are():
    model = markov()
    moved = model.perturb_concept(model.sample_concept(50, generator(12)), 0.9, generator(13))
    torch.testing.assert_close(moved.sum(dim=2), torch.ones(50, 4).double())
    with pytest.raises(ConfigError, match=r"keep = 1\.0"):
        model.perturb_concept(moved, 1.0, generator())


def test_small_batches_of_documents_draw_what_they_need(monkeypatch):
    monkeypatch.setattr("sbp_bayes.concept.importance.PARTICLES", 1000)
    model = markov(4)
    estimate = importance_log_prob(model, DOCUMENTS, 600, generator(14))
    assert estimate.log_prob.shape == (4,)
    assert (z_values(estimate, model.log_prob(DOCUMENTS)).abs() < 5).all()


def test_impossible_documents_are_told():
    model = Unigrams(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), 2)
    d = torch.tensor([[2, 0], [1, 0]])
    for estimate in (
        importance_log_prob(model, d, 100, generator(15)),
        annealed_log_prob(model, d, 100, generator(16), num_temperatures=5),
    ):
        assert estimate.log_prob[0].item() == -math.inf
        assert estimate.standard_error[0].item() == math.inf
        assert abs(z_values(estimate, model.log_prob(d))[1]) < 5


def test_bad_numbers_are_named():
    model = unigrams(4)
    with pytest.raises(ConfigError, match="num_samples = 1"):
        importance_log_prob(model, DOCUMENTS, 1, generator())
    with pytest.raises(ConfigError, match="num_samples = 1"):
        importance_log_prob_pair(model, DOCUMENTS, DOCUMENTS, 1, generator())
    with pytest.raises(ConfigError, match="num_samples = 1"):
        annealed_log_prob(model, DOCUMENTS, 1, generator())
    with pytest.raises(ConfigError, match="num_temperatures = 0"):
        annealed_log_prob(model, DOCUMENTS, 2, generator(), num_temperatures=0)
