"""The marginal of d2: uniform over the documents, whatever the graph of pairs, in tuning and in synthesis."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from sbp_bayes.base.records import EOS, SEP
from sbp_bayes.corpus import Corpus, Document
from sbp_bayes.synthesis import SeedDocuments
from sbp_bayes.synthesizer import IndexPairs, PackedPairs, balanced_pairs, load_alone
from sbp_bayes.synthesizer.marginal import doubly_stochastic
from sbp_bayes.synthesizer.rows import NO_D1


def graph_of(edges):
    """Both orders of each edge."""
    ends = np.array(sorted({(a, b) for a, b in edges if a != b}), np.int64).reshape(-1, 2)
    both = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)
    return both[:, 0], both[:, 1]


def corpus_of(num_documents):
    documents = [Document(id=str(i), text="text", source="test") for i in range(num_documents)]
    return Corpus.from_tokens(documents, [np.array([2 + i]) for i in range(num_documents)], vocab_size=64)


STAR = graph_of([(0, leaf) for leaf in range(1, 8)])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_rows_and_columns_sum_to_one_for_every_graph(edges):
    first, second = graph_of(edges)
    weights, alone = doubly_stochastic(first, second, 10)
    for ends in (first, second):
        np.testing.assert_allclose(np.bincount(ends, weights, 10) + alone, 1, atol=1e-5)
    without = np.setdiff1d(np.arange(10), first)
    np.testing.assert_allclose(alone[without], 1, atol=1e-6)


def test_the_documents_marginal_by_enumeration():
    """P(d2 = j) from P(d2 | d1) and the share of turns without d1, over all d1, is 1 / N."""
    (first, second), number = STAR, 9  # document 8 is in no pair
    weights, alone = doubly_stochastic(first, second, number)
    answers = np.zeros((number, number))
    answers[first, second] = weights
    without_d1 = alone / alone.sum()
    marginal = answers.sum(axis=0) / number + alone.sum() / number * without_d1
    np.testing.assert_allclose(marginal, 1 / number, atol=1e-6)
    as_they_are = np.bincount(second, minlength=number) / len(second)
    assert as_they_are.max() == 0.5


def test_drawn_pairs_have_every_document_equally_often_as_d2():
    first, second = STAR
    pairs = IndexPairs(first, second, "corpus")
    drawn = [balanced_pairs(pairs, 9, seed) for seed in range(400)]
    for one in drawn:
        counts = np.bincount(one.second, minlength=9)
        assert counts.max() - counts.min() <= 1
    own = set(zip(first.tolist(), second.tolist(), strict=True)) | {(NO_D1, i) for i in range(9)}
    assert {
        pair for one in drawn for pair in zip(one.first.tolist(), one.second.tolist(), strict=True)
    } <= own
    # In the mean over seeds a pair stands as often as its weight says.
    weights, _ = doubly_stochastic(first, second, 9)
    found = [
        sum(((one.first == a) & (one.second == b)).sum() for one in drawn)
        for a, b in zip(first, second, strict=True)
    ]
    expected = weights * len(first) / 9 * len(drawn)
    assert np.abs(np.array(found) - expected).max() < 5 * np.sqrt(expected.max())
    assert drawn[0] == balanced_pairs(pairs, 9, 0)
    assert drawn[0] != drawn[1]


def test_a_d1_that_is_not_there_is_an_empty_prompt():
    packed = PackedPairs(corpus_of(4), np.array([NO_D1, 2]), np.array([1, 3]), 4)
    rows = packed.batch(np.arange(len(packed)))
    inputs = [row.inputs[row.segments == s].tolist() for row in [rows] for s in (0, 1)]
    assert sorted(inputs) == sorted([[EOS, SEP, 3], [EOS, 4, SEP, 5]])


def test_seed_documents_are_left_out_as_often_as_in_tuning(tmp_path):
    corpus = corpus_of(9)
    balanced = balanced_pairs(IndexPairs(*STAR, corpus.fingerprint), 9, 0)
    balanced.save_alone(tmp_path)
    alone = load_alone(tmp_path, corpus)
    np.testing.assert_array_equal(alone, balanced.alone)
    assert load_alone(tmp_path, corpus_of(8)) is None
    assert load_alone(tmp_path / "elsewhere", corpus) is None
    source = SeedDocuments(corpus, alone)
    prompts = source.prompts(0, range(9000), 4)
    seeds = np.array([prompt.metadata["seed_index"] for prompt in prompts])
    left_out = np.array([len(prompt.tokens) == 2 for prompt in prompts])
    assert [prompt.metadata.get("seed_is_left_out", False) for prompt in prompts] == left_out.tolist()
    turns = np.bincount(seeds, minlength=9)
    found, expected = np.bincount(seeds, left_out, 9), turns * alone
    certain = alone > 1 - 1e-5
    np.testing.assert_array_equal(found[certain], turns[certain])
    both = np.concatenate([found[~certain], (turns - found)[~certain]])
    theory = np.concatenate([expected[~certain], (turns - expected)[~certain]])
    assert chisquare(both, theory * both.sum() / theory.sum()).pvalue > 1e-3
    assert source.inputs != SeedDocuments(corpus).inputs


def test_the_corpus_is_named_and_the_fingerprint_is_of_the_pairs():
    pairs = IndexPairs(*STAR, "corpus")
    one = balanced_pairs(pairs, 9, 0)
    assert one.corpus_fingerprint == "corpus"
    assert dataclasses.replace(one, first=one.first[::-1]).fingerprint != one.fingerprint


@pytest.mark.parametrize("number", [1, 5])
def test_no_pairs_leave_every_document_alone(number):
    none = np.zeros(0, np.int64)
    balanced = balanced_pairs(IndexPairs(none, none, "corpus"), number, 0)
    assert balanced.first.tolist() == [NO_D1] * number
    assert sorted(balanced.second.tolist()) == list(range(number))
