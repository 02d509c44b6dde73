"""Biographies: English sentences, every document of a small world, and what documents tell of the tables."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from sbp_bayes.base.errors import ConceptError
from sbp_bayes.concept import PAD, prefixes
from sbp_bayes.concept.inference import enumerated_log_prob
from toy_worlds import make_world
from toy_worlds.knowledge import BiographiesGivenDocuments
from toy_worlds.knowledge.biography_words import ATTRIBUTES, NAMES

EXACT = {"rtol": 1e-10, "atol": 1e-14}
SMALL = {"num_concepts": 3, "num_attributes": 3, "num_values": 2, "num_stated": 2, "num_templates": 3}
"""Three attributes, two of which have a phrase that begins with "is"."""


def small(**changes):
    return make_world("biographies", **SMALL | {"noise": 0.2} | changes)


def every_document(world):
    """All documents that the world can write, by its derivations: who, which attributes, phrases, values."""
    attributes = itertools.permutations(range(world.num_attributes), world.num_stated)
    templates = itertools.product(range(world.num_templates), repeat=world.num_stated)
    values = itertools.product(range(world.num_values), repeat=world.num_stated)
    names = range(len(world.grammar.names))
    rows = itertools.product(names, list(attributes), list(templates), list(values))
    name, attribute, template, value = (torch.tensor(column) for column in zip(*rows, strict=True))
    return world.grammar.spell(name, attribute, template, value)


def test_words_have_one_use_each():
    """A name, a phrase's word or a value; phrases are of one attribute; behind "a" stands a consonant."""
    phrases = [phrase for attribute in ATTRIBUTES for phrase in attribute.phrases]
    of_phrases = {word for phrase in phrases for word in phrase.split()}
    values = [value for attribute in ATTRIBUTES for value in attribute.values]
    assert len({*NAMES, *of_phrases, *values}) == len(NAMES) + len(of_phrases) + len(values)
    assert len(set(phrases)) == len(phrases)
    assert all(len(phrase.split()) == 2 for phrase in phrases)
    for attribute in ATTRIBUTES:
        if any(phrase.endswith(" a") for phrase in attribute.phrases):
            assert all(value[0] not in "aeiou" for value in attribute.values)


@pytest.mark.parametrize("num_names", [None, 2, 1])
def test_all_derivations_have_probability_one(num_names):
    """Σ_d P(d), Σ_d P(d | c), Σ_d2 P(d2 | d1); and no document comes by two derivations."""
    world = small(num_names=num_names)
    d = every_document(world)
    assert len(d.unique(dim=0)) == len(d) == len(world.grammar.names) * 6 * 9 * 4
    assert_close(world.log_prob(d).exp().sum(), torch.tensor(1.0).double(), **EXACT)
    assert_close(world.log_likelihood(d).exp().sum(dim=0), torch.ones(3).double(), **EXACT)
    for given in d[::101]:
        total = world.log_prob_pair(d, given.expand(len(d), -1)).exp().sum()
        assert_close(total, torch.tensor(1.0).double(), **EXACT)


def test_prefixes_have_the_sum_of_their_documents():
    """Of every length, in the middle of phrases too, under every concept."""
    world = small()
    d, likelihood = every_document(world), world.log_likelihood(every_document(world)).exp()
    for length in range(1, world.doc_length):
        short, place = d[:, :length].unique(dim=0, return_inverse=True)
        expected = torch.zeros(len(short), 3, dtype=torch.float64).index_add_(0, place, likelihood)
        assert_close(world.log_likelihood(short).exp(), expected, **EXACT)


def test_next_words_are_those_of_the_derivations():
    """By hand: behind "is", with the birthplace told, "from" is over, and three phrases of the occupation."""
    world = small()
    told = world.from_text("Ada hails from Boston. Ada")
    after = world.next_token_log_probs(told[None]).exp()[0]
    expected = {
        "is": 1 / 6,
        "became": 1 / 6,
        "remains": 1 / 6,
        "lives": 1 / 6,
        "resides": 1 / 6,
        "dwells": 1 / 6,
    }
    assert {word for word, p in zip(world.words, after, strict=True) if p > 0} == set(expected)
    for word, prob in expected.items():
        assert after[world.from_text(word)].item() == pytest.approx(prob, rel=1e-12)
    after = world.next_token_log_probs(world.from_text("Ada hails from Boston. Ada is")[None]).exp()[0]
    assert after[world.from_text("a")].item() == pytest.approx(1, rel=1e-12)
    after = world.next_token_log_probs(world.from_text("Ada is")[None]).exp()[0]
    assert after[world.from_text("a from")].tolist() == pytest.approx([0.5, 0.5], rel=1e-12)


def test_what_is_no_biography_is_impossible():
    world = small()
    for text in (
        "Ada Ada Ada Ada",
        "from",
        "Ada hails in Boston",
        "Ada hails from baker",
        "Ada hails from Boston Alan lives in Athens",
        "Ada hails from Boston Ada comes from Boston",
        "Ada hails from Boston Ada is from Boston",
        "Ada hails from Boston Ada lives in Athens Ada is a baker Ada",
    ):
        assert world.log_prob(world.from_text(text)[None]).item() == -math.inf
    whole = world.from_text("Ada hails from Boston Ada lives in Athens Ada is a baker")[None]
    assert world.log_prob(whole).item() > -math.inf


def test_pyro_enumerates_documents_of_several_sentences():
    world = small(num_names=2)
    d = every_document(world)[::97]
    assert_close(enumerated_log_prob(world, d), world.log_prob(d), **EXACT)


@pytest.mark.parametrize("num_names", [None, 2])
def test_draws_are_documents_at_their_rates(num_names):
    """n = 60,000 of one concept by a chi-square test over its 216 documents, p > 2e-5."""
    from scipy.stats import chisquare

    world = small(num_names=num_names)
    d = every_document(world)
    log_prob = world.log_likelihood(d)[:, 2]
    d, log_prob = d[log_prob > -torch.inf], log_prob[log_prob > -torch.inf]
    place = {tuple(row): number for number, row in enumerate(d.tolist())}
    drawn = world.sample(torch.full((60_000,), 2), torch.Generator().manual_seed(0))
    counts = torch.tensor([place[tuple(row)] for row in drawn.tolist()]).bincount(minlength=len(d))
    assert len(d) == 216
    assert chisquare(counts, log_prob.exp() * 60_000).pvalue > 2e-5


def test_every_document_is_read_as_it_is_written():
    """Text and back, and statements of text and of tokens, whose words are those of the text."""
    world = small()
    for d in every_document(world):
        text = world.to_text(d)
        assert torch.equal(world.from_text(text), d)
        said = world.parse(text)
        assert said == world.parse(d) == world.parse(d.tolist())
        assert [s.subject for s in said] == text.replace(".", "").split()[::4]
        assert [s.value for s in said] == text.replace(".", "").split()[3::4]
        values = {a.name: a.values[:2] for a in ATTRIBUTES[:3]}
        assert all(s.value in values[s.attribute] for s in said)


def test_documents_read_as_english():
    """The text of a document by hand, and one that states all that is known of a person."""
    world = make_world("biographies", num_concepts=2, num_stated=8, noise=0.0, seed=1)
    attributes, zeros = torch.tensor([[0, 2, 7]]), torch.zeros(1, 3, dtype=torch.int64)
    d = world.grammar.spell(torch.tensor([1]), attributes, zeros, zeros)[0]
    assert world.to_text(d) == "Alan hails from Boston. Alan is a baker. Alan owns a canary."
    assert world.to_text(d[:7]) == "Alan hails from Boston. Alan is a"
    d = world.sample(torch.tensor([1]), torch.Generator().manual_seed(0))[0]
    said = {s.attribute: s.value for s in world.parse(world.to_text(d))}
    assert said == {a.name: world.fact(1, a.name) for a in ATTRIBUTES}


@pytest.mark.parametrize(
    "text",
    [
        "Ada hails from",
        "Ada hails from Boston baker",
        "boston hails from Boston",
        "Ada hails in Boston",
        "Ada hails from baker",
        "Boston hails from Boston",
        "Ada hails from Rome",
        "Ada works for Oakwood",
    ],
)
def test_what_is_no_sentence_states_nothing(text):
    """Also words of attributes and values that the world does not use."""
    assert small().parse(f"{text}. Ada hails from Boston") == [None, ("Ada", "birthplace", "Boston")]
    assert small().parse(f"Ada hails from Boston. {text}.") == [("Ada", "birthplace", "Boston"), None]


def test_an_unknown_subject_is_a_subject():
    (said,) = small().parse("Zoe hails from Boston.")
    assert said.subject == "Zoe"
    assert small().persons("Zoe") == []
    assert small(num_names=2).persons("Ada") == [0, 2]


def test_tokens_outside_the_vocabulary_are_read_as_no_sentence():
    world = small()
    d = every_document(world)[0].tolist()
    assert world.parse([*d[:4], -2, *d[5:]]) == [world.parse(d)[0], None]
    assert world.parse([*d[:4], PAD, *d[5:]]) == [world.parse(d)[0], None]
    assert world.parse([*d[:3], PAD, *d[3:]]) == [None, None, None]
    assert world.parse([*d[:4], len(world.words), *d[5:]]) == [world.parse(d)[0], None]
    assert world.parse([*d[:4], PAD, PAD]) == [world.parse(d)[0]]
    assert world.parse([]) == world.parse("") == []
    with pytest.raises(ConceptError, match="unknown word 'Zoe'"):
        world.from_text("Zoe hails from Boston")
    with pytest.raises(ConceptError, match="token 99 at position 0"):
        world.to_text([99])


def test_tables_may_be_given():
    tables = [[1, 0, 1], [0, 0, 1]]
    world = small(num_concepts=2, tables=tables)
    assert world.tables_KF.tolist() == tables
    assert [world.fact(0, a.name) for a in ATTRIBUTES[:3]] == ["Cairo", "Athens", "banker"]


def bayes_over_tables(documents, d, **params):
    """P(d | D) by a sum over all tables, each with its own world."""
    joint, evidence = 0.0, 0.0
    cells = params["num_concepts"] * params["num_attributes"]
    for flat in itertools.product(range(params["num_values"]), repeat=cells):
        tables = torch.tensor(flat).view(params["num_concepts"], -1).tolist()
        world = make_world("biographies", tables=tables, **params)
        weight = world.log_prob(documents).sum().exp()
        evidence += weight
        joint += weight * world.log_prob(d).exp()
    return joint / evidence


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_documents_tell_is_a_sum_over_all_tables(noise):
    """P(d | D) of every d, for 64 tables of two persons with three facts of two values."""
    params = {**SMALL, "num_concepts": 2, "num_templates": 1, "noise": noise}
    world, source = make_world("biographies", **params), torch.Generator().manual_seed(3)
    documents = world.sample(torch.tensor([0, 0, 0, 1]), source)
    d = every_document(world)
    known = BiographiesGivenDocuments(world, documents)
    assert_close(known.log_prob(d).exp(), bayes_over_tables(documents, d, **params), **EXACT)
    assert_close(known.log_prob(d).exp().sum(), torch.tensor(1.0).double(), **EXACT)
    short = prefixes(d[:1])[0, 3:4]
    expected = bayes_over_tables(documents, short, **params)
    assert_close(known.log_prob(short).exp(), expected, **EXACT)


def test_much_text_tells_the_tables_and_none_tells_nothing():
    world, source = small(num_concepts=3), torch.Generator().manual_seed(4)
    d = world.sample(world.sample_concept(500, source), source)
    much = BiographiesGivenDocuments(world, d)
    none = BiographiesGivenDocuments(world, d[:0])
    assert_close(much.log_prob(d), world.log_prob(d), rtol=1e-9, atol=1e-9)
    assert_close(none.value_KFV, torch.full_like(none.value_KFV, 1 / 2), **EXACT)


def test_documents_that_tell_nobody_or_nothing_are_refused():
    world = small(num_names=2)
    with pytest.raises(ConceptError, match="of namesakes"):
        BiographiesGivenDocuments(world, every_document(world))
    world = small()
    for text in ("Ada hails from Boston. Ada lives", "Ada hails in Boston."):
        with pytest.raises(ConceptError, match="whole sentences"):
            BiographiesGivenDocuments(world, world.from_text(text)[None])
