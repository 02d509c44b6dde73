"""Entropies and mutual information: identities, a plain second road, and Monte Carlo against enumeration."""

import math

import pytest
import torch
from concept_models import MODELS, Opaque, Unigrams, all_documents, categorical, generator, markov, unigrams

from sbp_bayes.base.errors import ConceptError, ConfigError
from sbp_bayes.concept import PAD, DirichletCategorical, pad_documents
from sbp_bayes.concept.information import (
    MonteCarloEstimate,
    bayes_loss,
    bayes_loss_curve,
    concept_information,
    conditional_entropy,
    entropy,
    enumerate_documents,
    mutual_information,
    sample_pairs,
    synthesizer_floor,
)

QUANTITIES = [entropy, conditional_entropy, mutual_information, concept_information]
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def within(estimate: MonteCarloEstimate, exact: float, bound: float = 5.0) -> bool:
    return abs(estimate.value - exact) < bound * estimate.standard_error


def by_loops(model: Unigrams) -> dict[str, float]:
    """H(d), H(d2 | d1), I(d1; d2) and I(c; d), term by term with Python's floats."""
    d = all_documents(model.vocab_size, model.doc_length).tolist()
    prior = model.log_prior_K.exp().tolist()
    given = [[math.prod(p[x] for x in document) for p in model.probs_KV.tolist()] for document in d]
    marginal = [sum(p * q for p, q in zip(prior, row, strict=True)) for row in given]
    joint = [
        [sum(p * q * r for p, q, r in zip(prior, row, other, strict=True)) for other in given]
        for row in given
    ]
    h = -sum(p * math.log(p) for p in marginal if p)
    h2 = -sum(p * math.log(p / marginal[i]) for i, row in enumerate(joint) for p in row if p)
    terms = [
        p * q * math.log(q / marginal[i])
        for i, row in enumerate(given)
        for p, q in zip(prior, row, strict=True)
        if q
    ]
    return {"h": h, "h2": h2, "pairs": h - h2, "concept": sum(terms)}


def test_all_documents_are_enumerated_in_order():
    assert torch.equal(enumerate_documents(categorical(4)), all_documents(3, 4))


def test_a_finite_model_by_loops():
    model = unigrams()
    expected = by_loops(model)
    measured = [quantity(model).value for quantity in QUANTITIES]
    assert measured == pytest.approx(
        [expected["h"], expected["h2"], expected["pairs"], expected["concept"]], rel=1e-10
    )
    assert entropy(model).standard_error == entropy(model).num_samples == 0


@every_model
def test_the_opaque_road_agrees(build, monkeypatch):
    """Pairs by `log_prob_pair` in small pieces, against the table of a finite model or whole batches."""
    model = build()
    expected = [quantity(model).value for quantity in QUANTITIES[:3]]
    monkeypatch.setattr("sbp_bayes.concept.information.CHUNK_BYTES", 16 * 27 * 3 * 4)
    measured = [quantity(Opaque(model)).value for quantity in QUANTITIES[:3]]
    assert measured == pytest.approx(expected, rel=1e-10)
    assert concept_information(model).value == pytest.approx(concept_information(build()).value, rel=1e-12)


@every_model
def test_identities(build):
    """I = H(d) − H(d2 | d1) ≥ 0, data processing I(d1; d2) ≤ I(c; d) ≤ H(d), and more of d tells more."""
    model, longer = build(2), build(4)
    h, h2, pairs, concept = (quantity(model).value for quantity in QUANTITIES)
    assert pairs == pytest.approx(h - h2, rel=1e-10)
    assert 0 < pairs < concept < h
    assert h <= 2 * math.log(3)
    assert concept_information(longer).value > concept
    assert mutual_information(longer).value > pairs


@every_model
def test_the_chain_rule_over_positions(build):
    """H(d) is the sum over positions of E[−log P(d_t | d_<t)], and H(d2 | d1) that of the paired curve."""
    model = build()
    d = all_documents(3, 3)
    weight = model.log_prob(d).exp()
    chain = (weight[:, None] * bayes_loss_curve(model, d).nan_to_num(posinf=0.0)).sum()
    assert entropy(model).value == pytest.approx(chain.item(), rel=1e-10)
    d1, d2 = d.repeat_interleave(27, 0), d.repeat(27, 1)
    joint = (model.log_prob(d1) + model.log_prob_pair(d2, d1)).exp()
    paired = (joint[:, None] * bayes_loss_curve(model, d2, d1).nan_to_num(posinf=0.0)).sum()
    assert conditional_entropy(model).value == pytest.approx(paired.item(), rel=1e-10)


def test_concept_information_has_the_entropy_of_the_concept_as_its_limit():
    model = Unigrams(torch.eye(3), 3, torch.tensor([0.5, 0.3, 0.2]))
    own = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert concept_information(model).value == pytest.approx(own, rel=1e-6)
    assert mutual_information(model).value == pytest.approx(own, rel=1e-6)
    assert conditional_entropy(model).value == pytest.approx(0, abs=1e-7)


def test_a_concept_that_carries_nothing_informs_of_nothing():
    model = Unigrams(torch.tensor([[0.2, 0.8]] * 3), 4)
    assert [mutual_information(model).value, concept_information(model).value] == pytest.approx(
        [0, 0], abs=1e-10
    )
    nearly = DirichletCategorical(torch.full((2,), 1e7), 4)
    assert [mutual_information(nearly).value, concept_information(nearly).value] == pytest.approx(
        [0, 0], abs=1e-6
    )
    assert entropy(nearly).value == pytest.approx(4 * math.log(2), rel=1e-6)


@every_model
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_monte_carlo_finds_the_exact_value(build, quantity):
    """z < 5 of 4,000 draws, through the model's own road and through the protocol alone."""
    model = build()
    exact = quantity(model).value
    for hidden in (model, Opaque(model)):
        estimate = quantity(hidden, 4000, generator(1))
        assert within(estimate, exact)
        assert estimate.num_samples == 4000


def test_standard_errors_are_the_spread_of_estimates():
    """Over 200 estimates of 100 draws, z has unit variance: 200 · var is chi-squared, z < 5."""
    model = unigrams()
    exact, g = entropy(model).value, generator(2)
    estimates = [entropy(model, 100, g) for _ in range(200)]
    z = torch.tensor([(e.value - exact) / e.standard_error for e in estimates])
    assert abs((z**2).mean().item() - 1) < 5 * math.sqrt(2 / 200)


@every_model
def test_floors_are_entropies_per_token(build):
    model = build()
    assert within(bayes_loss(model, 4000, generator(3)), entropy(model).value / 3)
    assert within(synthesizer_floor(model, 4000, generator(4)), conditional_entropy(model).value / 3)
    document, token = entropy(model, 100, generator(5)), bayes_loss(model, 100, generator(5))
    assert token.standard_error == pytest.approx(document.standard_error / 3, rel=1e-12)


@every_model
def test_curves_sum_to_the_density_by_every_road(build, monkeypatch):
    model = build()
    d = pad_documents([torch.tensor(x) for x in ([0, 1, 2], [1, 1], [0], [1, 0, 0], [2, 2, 0])])
    given = torch.tensor([[0, 1, PAD]] * 5)
    for condition, total in ((None, model.log_prob(d)), (given, model.log_prob_pair(d, given))):
        curve = bayes_loss_curve(model, d, condition)
        torch.testing.assert_close(curve.sum(dim=1), -total, rtol=1e-10, atol=1e-12)
        assert (curve[d == PAD] == 0).all()
        hidden = bayes_loss_curve(Opaque(model), d, condition)
        torch.testing.assert_close(curve, hidden, rtol=1e-10, atol=1e-12)
        with monkeypatch.context() as patch:
            patch.setattr("sbp_bayes.concept.information.CHUNK_BYTES", 400)
            torch.testing.assert_close(bayes_loss_curve(model, d, condition), curve, rtol=1e-12, atol=1e-14)


def test_curves_by_hand():
    """Two fair coins of two tokens, one always 0: after a 0 the first is half as likely as the second."""
    model = Unigrams(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), 2)
    curve = bayes_loss_curve(model, torch.tensor([[0, 0], [1, 0]]))
    expected = torch.tensor([[3 / 4, (1 / 4 + 1) / 2 / (3 / 4)], [1 / 4, 1 / 2]]).double()
    torch.testing.assert_close(curve, -expected.log(), rtol=1e-6, atol=0)


def test_impossible_tokens_cost_infinitely_much_from_there_on():
    model = Unigrams(torch.tensor([[0.5, 0.5, 0.0]]), 3)
    curve = bayes_loss_curve(model, torch.tensor([[0, 2, 0]]))
    assert torch.equal(curve.isinf(), torch.tensor([[False, True, True]]))
    with pytest.raises(ConceptError, match="probability 0"):
        bayes_loss_curve(model, torch.tensor([[0, 0, 0]]), torch.tensor([[2, 0, 0]]))


def test_pairs_share_their_concept():
    """Concepts that write one token only: both documents repeat it, in the prior's shares."""
    d1, d2 = sample_pairs(Unigrams(torch.eye(3), 2), 300, generator(5))
    assert torch.equal(d1, d2)
    assert set(d1[:, 0].tolist()) == {0, 1, 2}
    d1, d2 = sample_pairs(markov(), 300, generator(6))
    assert not torch.equal(d1, d2)


def test_what_cannot_be_enumerated_is_refused():
    with pytest.raises(ConfigError, match=r"vocab_size \*\* doc_length = 3486784401 .* give num_samples"):
        entropy(unigrams(20))
    with pytest.raises(ConfigError, match="at most 4096 documents"):
        conditional_entropy(unigrams(8))
    with pytest.raises(ConfigError, match="num_samples = None"):
        concept_information(Opaque(markov()))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_draws_need_a_generator_and_two_samples(quantity):
    with pytest.raises(ConfigError, match="generator"):
        quantity(unigrams(), 10)
    with pytest.raises(ConfigError, match="num_samples = 1"):
        quantity(unigrams(), 1, generator())
