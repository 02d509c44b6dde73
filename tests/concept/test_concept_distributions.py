"""Laws of documents as Pyro distributions: shapes, support, enumeration, draws, and use in programs."""

import pyro
import pytest
import torch
from concept_models import (
    FALSE_ALARM,
    MODELS,
    Opaque,
    all_documents,
    document_index,
    generator,
    goodness_of_fit,
    markov,
    unigrams,
)
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch.distributions import constraints

from sbp_bayes.base.errors import ConceptError, ConfigError
from sbp_bayes.concept import PAD
from sbp_bayes.concept.distributions import (
    Concept,
    DocumentConstraint,
    Documents,
    DocumentsGivenConcept,
    concept_distribution,
    concept_event_shape,
)
from sbp_bayes.concept.importance import global_generator
from sbp_bayes.concept.pyro_program import concept_program

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def concepts(model, *batch):
    c = model.sample_concept(torch.Size(batch).numel(), generator())
    return c.reshape(*batch, *c.shape[1:])


@every_model
def test_shapes(build):
    model = build()
    law = DocumentsGivenConcept(model, concepts(model, 4, 1))
    assert (law.batch_shape, law.event_shape) == ((4, 1), (3,))
    wide = law.expand([5, 4, 2])
    assert (wide.batch_shape, wide.event_shape) == ((5, 4, 2), (3,))
    assert wide.sample().shape == (5, 4, 2, 3)
    assert wide.sample([7]).shape == (7, 5, 4, 2, 3)
    assert wide.log_prob(law.sample([6, 5])[:, :, :, :]).shape == (6, 5, 4, 2)
    predictive = Documents(model, law.sample()[:, 0])
    assert (predictive.batch_shape, predictive.event_shape) == ((4,), (3,))
    assert predictive.expand([2, 4]).sample([5]).shape == (5, 2, 4, 3)
    marginal = Documents(model).expand([2])
    assert (marginal.batch_shape, marginal.sample([5]).shape) == ((2,), (5, 2, 3))
    assert marginal.log_prob(torch.zeros(3, dtype=torch.int64)).shape == (2,)
    prior = Concept(model).expand([2, 3])
    assert prior.sample([4]).shape == (4, 2, 3, *concept_event_shape(model))


@every_model
def test_densities_are_the_model_s(build):
    model, d = build(), all_documents(3, 3)
    c = concepts(model, 4, 1)
    log_prob = DocumentsGivenConcept(model, c).log_prob(d)
    assert log_prob.shape == (4, len(d))
    for i in range(4):
        assert torch.equal(log_prob[i], model.log_prob_given(d, c[i].expand(len(d), *c.shape[2:])))
    assert torch.equal(Documents(model).log_prob(d), model.log_prob(d))
    given = d[3:5]
    predictive = Documents(model, given).log_prob(d[:, None])
    for i in range(2):
        assert torch.equal(predictive[:, i], model.log_prob_pair(d, given[i].expand(len(d), -1)))


@every_model
def test_draws_fit_the_densities(build):
    """Pearson, 20,000 draws each."""
    model, d = build(), all_documents(3, 3)
    laws = [
        DocumentsGivenConcept(model, concepts(model, 1)[0]),
        Documents(model),
        Documents(model, torch.tensor([2, 0, PAD])),
    ]
    with global_generator(generator(1)):
        for law in laws:
            drawn = document_index(law.sample([20_000]), 3)
            assert goodness_of_fit(drawn, law.log_prob(d).exp()) > FALSE_ALARM


def test_the_global_generator_decides_and_is_left_alone():
    law = Documents(unigrams()).expand([50])
    before = torch.get_rng_state()
    draws = []
    g = generator(3)
    for draw in (generator(3), g):
        with global_generator(draw):
            draws.append(law.sample())
    assert torch.equal(*draws)
    assert torch.equal(torch.get_rng_state(), before)
    with global_generator(g):
        assert not torch.equal(law.sample(), draws[0])


@every_model
def test_enumeration_of_documents(build):
    model = build()
    law = DocumentsGivenConcept(model, concepts(model, 2))
    assert law.has_enumerate_support
    d = law.enumerate_support()
    assert d.shape == (27, 2, 3)
    torch.testing.assert_close(law.log_prob(d).exp().sum(dim=0), torch.ones(2).double(), **CLOSE)
    assert torch.equal(law.enumerate_support(expand=False)[:, 0], all_documents(3, 3))
    large = Documents(build(40))
    assert not large.has_enumerate_support
    with pytest.raises(ConfigError, match="documents to enumerate"):
        large.enumerate_support()


def test_the_support():
    check = DocumentConstraint(3).check(torch.tensor([[0, 2], [0, PAD], [PAD, 0], [3, 0], [0, -2]]))
    assert check.tolist() == [True, True, False, False, False]
    law = Documents(unigrams(), validate_args=True)
    assert law.support.is_discrete
    assert law.support.event_dim == 1
    with pytest.raises(ValueError, match="support"):
        law.log_prob(torch.tensor([0, 3, 0]))
    padded = torch.tensor([1, PAD, PAD])
    assert law.log_prob(padded).item() == unigrams().log_prob(padded[None, :1]).item()


def test_concepts_are_checked():
    with pytest.raises(ValueError, match="parameter c"):
        DocumentsGivenConcept(unigrams(), torch.tensor([3]), validate_args=True)
    with pytest.raises(ValueError, match="parameter c"):
        DocumentsGivenConcept(markov(), torch.ones(1, 4, 3), validate_args=True)
    assert DocumentsGivenConcept(Opaque(markov()), torch.ones(2, 4, 3)).batch_shape == (2,)


@pytest.mark.parametrize("build", [MODELS["categorical"], MODELS["markov"]])
def test_the_law_of_a_continuous_concept(build):
    model = build()
    law = concept_distribution(model)
    c = law.sample([4])
    assert torch.equal(law.log_prob(c), model.concept_prior.log_prob(c))
    assert law.expand([4]).log_prob(c[0]).shape == (4,)
    assert law.support.event_dim == len(model.concept_shape)
    with pytest.raises(NotImplementedError, match="Opaque has no concept_prior"):
        Concept(Opaque(model)).log_prob(c)
    assert constraints.is_dependent(DocumentsGivenConcept(Opaque(model), c).arg_constraints["c"])


@every_model
@pytest.mark.parametrize("per_concept", [None, 2])
def test_programs_run_and_score(build, per_concept):
    """The trace's log density is log P(c) + Σ log P(d | c) of what was drawn, in its plates."""
    model = build()
    with global_generator(generator(4)):
        trace = pyro.poutine.trace(concept_program(model)).get_trace(
            num_documents=5, documents_per_concept=per_concept
        )
    trace.compute_log_prob()
    c, d = trace.nodes["concept"]["value"], trace.nodes["documents"]["value"]
    assert d.shape == ((5, 3) if per_concept is None else (5, 2, 3))
    assert trace.nodes["documents"]["log_prob"].shape == d.shape[:-1]
    prior = concept_distribution(model).log_prob(c).sum()
    shared = c.expand(*d.shape[:-1], *concept_event_shape(model)).reshape(-1, *concept_event_shape(model))
    given = model.log_prob_given(d.reshape(-1, 3), shared).sum()
    torch.testing.assert_close(trace.log_prob_sum(), prior + given, **CLOSE)


def test_programs_refuse_what_is_no_batch():
    with pytest.raises(ConceptError, match=r"shape \(3,\)"):
        concept_program(unigrams())(torch.tensor([0, 1, 2]))


def test_a_latent_document_is_enumerated():
    """Documents hidden in a program of one's own: Σ_d P(d) P(x | d) with x a noisy first token."""
    model = unigrams()
    noise = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]], dtype=torch.float64)
    x = torch.tensor([0, 2, 1, 1])

    @config_enumerate
    def program():
        with pyro.plate("observed", len(x)):
            d = pyro.sample("document", Documents(model))
            pyro.sample("x", pyro.distributions.Categorical(noise[d[..., 0]]), obs=x)

    d = all_documents(3, 3)
    expected = (model.log_prob(d).exp() @ noise[d[:, 0]])[x].log().sum().item()
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    assert -elbo.loss(program, lambda: None) == pytest.approx(expected, rel=1e-10)
