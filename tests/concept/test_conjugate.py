"""Dirichlet models: closed forms against gamma functions, quadrature and enumeration; samplers too."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from concept_models import (
    FALSE_ALARM,
    all_documents,
    all_pairs,
    categorical,
    document_index,
    generator,
    goodness_of_fit,
    markov,
)

from sbp_bayes.base.errors import ConceptError, ConfigError
from sbp_bayes.concept import PAD, DirichletCategorical, DirichletMarkov, pad_documents, prefixes
from sbp_bayes.concept.conjugate import log_dirichlet

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
both = pytest.mark.parametrize("build", [categorical, markov])


def row_counts(model, *documents):
    """Counts (row, token) of documents given as lists, by a plain loop."""
    is_markov = isinstance(model, DirichletMarkov)
    counts = torch.zeros_like(model.alpha_RV)
    for document in documents:
        row = 0
        for token in document:
            counts[row, token] += 1
            row = token + 1 if is_markov else 0
    return counts


def by_gamma_functions(model, *documents):
    """log B(alpha + n) − log B(alpha), summed over rows."""
    alpha, after = model.alpha_RV, model.alpha_RV + row_counts(model, *documents)
    beta = [x.lgamma().sum(dim=1) - x.sum(dim=1).lgamma() for x in (after, alpha)]
    return float((beta[0] - beta[1]).sum())


def quadrature(alpha_R2, nodes=8):
    """Concepts of two tokens and weights that integrate polynomials against Beta rows exactly."""
    rows, weights = [], []
    for a, b in alpha_R2.tolist():
        x, w = scipy.special.roots_jacobi(nodes, b - 1, a - 1)
        p = torch.tensor((1 + x) / 2)
        rows.append(torch.stack([p, 1 - p], dim=1))
        weights.append(torch.tensor(w / w.sum()))
    index = torch.cartesian_prod(*[torch.arange(nodes)] * len(rows)).reshape(-1, len(rows))
    c = torch.stack([row[i] for row, i in zip(rows, index.T, strict=True)], dim=1)
    weight = torch.stack([w[i] for w, i in zip(weights, index.T, strict=True)]).prod(dim=0)
    return c, weight


def two_tokens(build):
    if build is categorical:
        return DirichletCategorical(torch.tensor([0.6, 1.7]), doc_length=4)
    alpha_VV = torch.tensor([[0.4, 2.0], [1.3, 0.8]])
    return DirichletMarkov(torch.tensor([0.6, 1.7]), alpha_VV, doc_length=4)


def test_worked_examples():
    flat = DirichletCategorical(torch.ones(2), 3)
    zero, zeros = torch.tensor([[0]]), torch.tensor([[0, 0]])
    assert flat.log_prob(zero).exp().item() == pytest.approx(1 / 2)
    assert flat.log_prob(zeros).exp().item() == pytest.approx(1 / 3)
    assert flat.log_prob_pair(zero, zero).exp().item() == pytest.approx(2 / 3)
    chain = DirichletMarkov(torch.ones(2), torch.ones(2, 2), 3)
    assert chain.log_prob(zeros).exp().item() == pytest.approx(1 / 4)
    assert chain.log_prob(torch.tensor([[0, 0, 0]])).exp().item() == pytest.approx(1 / 2 * 1 / 2 * 2 / 3)


@both
@pytest.mark.parametrize("length", [0, 1, 3])
def test_probabilities_of_documents_and_of_pairs_sum_to_one(build, length):
    model, d = build(), all_documents(3, length)
    assert model.log_prob(d).exp().sum().item() == pytest.approx(1, rel=1e-10)
    for given in ([2, 2, 0], [1, PAD, PAD]):
        conditional = model.log_prob_pair(d, torch.tensor([given]).expand(len(d), -1))
        assert conditional.exp().sum().item() == pytest.approx(1, rel=1e-10)


@both
def test_densities_are_ratios_of_beta_functions(build):
    model, d = build(), all_documents(3, 3)
    expected = torch.tensor([by_gamma_functions(model, x) for x in d.tolist()], dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(d), expected, **CLOSE)
    d1, d2 = all_pairs(d)
    joint = [by_gamma_functions(model, x, y) for x, y in zip(d1.tolist(), d2.tolist(), strict=True)]
    pair = model.log_prob(d1) + model.log_prob_pair(d2, d1)
    torch.testing.assert_close(pair, torch.tensor(joint, dtype=torch.float64), **CLOSE)


@both
def test_a_pair_is_symmetric(build):
    model = build()
    d1, d2 = all_pairs(all_documents(3, 3))
    forth = model.log_prob(d1) + model.log_prob_pair(d2, d1)
    torch.testing.assert_close(forth, model.log_prob(d2) + model.log_prob_pair(d1, d2), **CLOSE)


@both
def test_densities_are_integrals_over_concepts(build):
    """Gauss–Jacobi quadrature is exact for these polynomials: a second road to P(d) and P(d2 | d1)."""
    model = two_tokens(build)
    d = all_documents(2, 4)
    c_QRV, weight_Q = quadrature(model.alpha_RV)
    c_Q = c_QRV.reshape(-1, *model.concept_shape)
    likelihood_QD = torch.stack([model.log_prob_given(x.expand(len(c_Q), -1), c_Q) for x in d], dim=1).exp()
    torch.testing.assert_close((weight_Q @ likelihood_QD).log(), model.log_prob(d), **CLOSE)
    joint_DD = (likelihood_QD * weight_Q[:, None]).T @ likelihood_QD
    d1, d2 = all_pairs(d)
    pair_DD = (model.log_prob(d1) + model.log_prob_pair(d2, d1)).unflatten(0, (len(d), len(d)))
    torch.testing.assert_close(pair_DD, joint_DD.log(), **CLOSE)


@both
def test_the_posterior_mean_of_a_log_likelihood(build):
    """E[log P(d | c) | d] is the slope of log E[P(d | c)^s] at s = 1: a difference quotient of log B."""
    model, d, h = build(), all_documents(3, 3), 1e-5

    def log_power_mean(counts, s):
        alpha = model.alpha_RV.numpy()
        after = alpha + s * counts.numpy()
        beta = [
            scipy.special.gammaln(x).sum() - scipy.special.gammaln(x.sum(1)).sum() for x in (after, alpha)
        ]
        return beta[0] - beta[1]

    for document, mean in zip(d.tolist(), model.posterior_mean_log_likelihood(d), strict=True):
        counts = row_counts(model, document)
        slope = (log_power_mean(counts, 1 + h) - log_power_mean(counts, 1 - h)) / (2 * h)
        assert mean.item() == pytest.approx(slope, rel=1e-7)


@both
def test_next_tokens_chain_to_the_density(build):
    model = build()
    d = all_documents(3, 3)
    given = d.flip(0)
    for conditions, expected in ((None, model.log_prob(d)), (given, model.log_prob_pair(d, given))):
        total = torch.zeros(len(d), dtype=torch.float64)
        for t, prefix in enumerate(prefixes(d).unbind(1)[:-1]):
            log_probs = model.next_token_log_probs(prefix, conditions)
            torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(len(d)).double(), **CLOSE)
            total += log_probs.gather(1, d[:, t : t + 1])[:, 0]
        torch.testing.assert_close(total, expected, **CLOSE)


@both
def test_padded_documents_are_their_prefixes(build):
    model = build()
    short = [torch.tensor(x) for x in ([2, 1, 0], [1], [0, 0], [])]
    padded = pad_documents([x.long() for x in short])
    given = torch.tensor([[2, 0, PAD]])
    concepts = model.sample_concept(4, generator())
    c_of = {i: concepts[i : i + 1] for i in range(4)}
    for i, document in enumerate(short):
        alone = document.long()[None]
        assert torch.equal(model.log_prob(padded)[i], model.log_prob(alone)[0])
        assert torch.equal(model.log_prob_given(padded, concepts)[i], model.log_prob_given(alone, c_of[i])[0])
        pair = model.log_prob_pair(padded, given.expand(4, -1))[i]
        assert torch.equal(pair, model.log_prob_pair(alone, given[:, :2])[0])
        following = model.next_token_log_probs(padded, given.expand(4, -1))[i]
        assert torch.equal(following, model.next_token_log_probs(alone, given[:, :2])[0])


@both
def test_pieces_of_a_batch_score_alike(build, monkeypatch):
    model, d = build(), all_documents(3, 3)
    whole = model.token_log_probs(d, d.flip(0))
    monkeypatch.setattr("sbp_bayes.concept.conjugate.CHUNK_BYTES", 8 * model.alpha_RV.numel() * 5)
    assert torch.equal(model.token_log_probs(d, d.flip(0)), whole)


def test_large_concentrations_keep_their_precision():
    """With 10^9 of each token, the urn hardly changes: P(0, 0) = 1/2 · (10^9 + 1) / (2 · 10^9 + 1)."""
    model = DirichletCategorical(torch.full((2,), 1e9, dtype=torch.float64), 2)
    exact = -math.log(2) + math.log1p(1e9) - math.log1p(2e9)
    assert model.log_prob(torch.tensor([[0, 0]])).item() == pytest.approx(exact, rel=1e-14)


@both
def test_documents_are_drawn_from_their_densities(build):
    """Pearson, 20,000 documents each: of one concept, and of the marginal."""
    model, d = build(), all_documents(3, 3)
    c = model.sample_concept(1, generator(1))
    one = model.sample(c.expand(20_000, *c.shape[1:]), generator(2))
    given = model.log_prob_given(d, c.expand(len(d), *c.shape[1:])).exp()
    assert goodness_of_fit(document_index(one, 3), given) > FALSE_ALARM
    marginal = model.sample(model.sample_concept(20_000, generator(3)), generator(4))
    assert goodness_of_fit(document_index(marginal, 3), model.log_prob(d).exp()) > FALSE_ALARM


@both
def test_posterior_concepts_predict_the_next_document(build):
    """Pearson, 20,000 documents d2 of concepts drawn from P(c | d1), against P(d2 | d1)."""
    model, d = build(), all_documents(3, 3)
    d1 = torch.tensor([[2, 2, 0], [1, 1, 1]])
    c = model.sample_posterior(d1, 20_000, generator(5))
    assert c.shape == (2, 20_000, *model.concept_shape)
    for i in range(2):
        d2 = model.sample(c[i], generator(6 + i))
        expected = model.log_prob_pair(d, d1[i].expand(len(d), -1)).exp()
        assert goodness_of_fit(document_index(d2, 3), expected) > FALSE_ALARM


@both
def test_posterior_concepts_have_the_dirichlet_moments(build):
    """Means of 20,000 draws, z < 5, and the counts of a plain loop behind the concentrations."""
    model, n = build(), 20_000
    d1 = torch.tensor([[2, 2, 0]])
    alpha = model.alpha_RV + row_counts(model, [2, 2, 0])
    assert torch.equal(model.posterior_alpha(d1)[0], alpha)
    mean = alpha / alpha.sum(1, keepdim=True)
    error = (mean * (1 - mean) / (alpha.sum(1, keepdim=True) + 1) / n).sqrt()
    drawn = model.sample_posterior(d1, n, generator(8))[0].reshape(n, *alpha.shape)
    assert ((drawn.mean(0) - mean).abs() < 5 * error).all()


@pytest.mark.parametrize("alpha", [0.01, 0.5, 3.0, 30.0])
def test_dirichlet_draws_have_beta_marginals(alpha: float) -> None:
    """n = 5,000 draws of three components: p of one is of Beta(α, 2α), Kolmogorov–Smirnov.

    Above ½ by the other two's share, of Beta(2α, α), which float64 still tells from 0.
    """
    log_p = log_dirichlet(torch.full((5000, 3), alpha, dtype=torch.float64), generator(8))
    assert log_p.isfinite().all()
    torch.testing.assert_close(log_p.exp().sum(dim=1), torch.ones(5000, dtype=torch.float64))
    p, rest = log_p[:, 1].exp().numpy(), log_p[:, [0, 2]].exp().sum(dim=1).numpy()
    low, high = scipy.stats.beta(alpha, 2 * alpha).cdf(p), scipy.stats.beta(2 * alpha, alpha).sf(rest)
    assert scipy.stats.kstest(np.where(p < 0.5, low, high), "uniform").pvalue > FALSE_ALARM


def test_tiny_concentrations_choose_one_token():
    """At 10^-4 nearly all mass is on one token, each of the three in its share: Pearson, n = 5,000."""
    drawn = log_dirichlet(torch.tensor([1e-4, 2e-4, 1e-4]).expand(5000, 3), generator(10)).exp()
    assert torch.isfinite(drawn).all()
    assert goodness_of_fit(drawn.argmax(dim=1), torch.tensor([0.25, 0.5, 0.25])) > FALSE_ALARM


def test_equal_generators_draw_equally():
    model = markov()
    draws = [model.sample(model.sample_concept(4, g), g) for g in (generator(3), generator(3))]
    assert torch.equal(*draws)
    assert draws[0].dtype == torch.int64


@both
def test_the_prior_as_a_distribution(build):
    model = build()
    prior = model.concept_prior
    assert (prior.batch_shape, prior.event_shape) == (torch.Size(), torch.Size(model.concept_shape))
    c = model.sample_concept(3, generator())
    rows = c[0].reshape(model.alpha_RV.shape).numpy()
    expected = sum(
        scipy.stats.dirichlet(a).logpdf(r) for a, r in zip(model.alpha_RV.numpy(), rows, strict=True)
    )
    assert prior.log_prob(c)[0].item() == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((torch.tensor([1.0, 0.0]), 3), "alpha_V"),
        ((torch.tensor([1.0, torch.nan]), 3), "alpha_V"),
        ((torch.tensor([1.0, torch.inf]), 3), "alpha_V"),
        ((torch.ones(2, 2), 3), "alpha_V.shape"),
        ((torch.ones(0), 3), "alpha_V.shape"),
        ((torch.tensor(1.0), 3), "alpha_V.shape"),
        ((torch.ones(2), 0), "doc_length"),
    ],
)
def test_bad_parameters_are_named(arguments, key):
    with pytest.raises(ConfigError, match=key):
        DirichletCategorical(*arguments)


def test_bad_rows_are_named():
    with pytest.raises(ConfigError, match=r"alpha_VV.shape = \(2, 3\)"):
        DirichletMarkov(torch.ones(2), torch.ones(2, 3), 3)
    with pytest.raises(ConfigError, match="alpha_VV = "):
        DirichletMarkov(torch.ones(2), -torch.ones(2, 2), 3)
    with pytest.raises(ConfigError, match="initial_alpha_V = "):
        DirichletMarkov(-torch.ones(2), torch.ones(2, 2), 3)


def test_bad_documents_and_concepts_are_named():
    model = markov()
    d = all_documents(3, 3)[:4]
    with pytest.raises(ConceptError, match="token 3"):
        model.log_prob(torch.tensor([[0, 3, 0]]))
    with pytest.raises(ConceptError, match=r"concepts of shape \(4, 3\)"):
        model.log_prob_given(d, torch.ones(4, 3) / 3)
    with pytest.raises(ConceptError, match="4 documents and 3"):
        model.log_prob_pair(d, d[:3])
    with pytest.raises(ConceptError, match="4 documents and 3"):
        model.next_token_log_probs(d, d[:3])
    with pytest.raises(ConceptError, match="4 documents and 3"):
        model.log_prob_given(d, model.sample_concept(3, generator()))
