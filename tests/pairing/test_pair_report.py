"""The report's numbers on six documents, counted by hand."""

import dataclasses

import numpy as np
import pytest

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.corpus import Corpus, Document, train_tokenizer
from sbp_bayes.pairing import PairSet, label_precision, pair_report, sampled_pairs
from sbp_bayes.pairing.labels import labels_of
from sbp_bayes.pairing.report import multiples

LABELS = ("x", "x", "y", "y", "y", None)
COUNTRIES = ("here", "there", "here", "there", None, None)


@pytest.fixture(scope="module")
def corpus():
    documents = [
        Document(
            id=f"d{i}",
            text=f"text {i}",
            source="one",
            label=LABELS[i],
            metadata={"title": f"title {i}", "size": 3} | ({"country": COUNTRIES[i]} if COUNTRIES[i] else {}),
        )
        for i in range(6)
    ]
    return Corpus.build(documents, train_tokenizer(["text"], 300))


@pytest.fixture
def pairs(corpus):
    """d0–d1 and d2–d3 agree by label, d1–d2 doesn't, d4–d5 lacks one."""
    ordered = {
        (0, 1): (0.96875, 1, 1),
        (1, 0): (0.96875, 1, 1),
        (1, 2): (0.62, 2, -1),
        (2, 1): (0.62, -1, 2),
        (2, 3): (0.7, 1, 1),
        (3, 2): (0.7, 1, 1),
        (4, 5): (0.55, -1, 3),
        (5, 4): (0.55, 3, -1),
    }
    first, second = np.array(list(ordered)).T
    similarity, rank_of_second, rank_of_first = np.array(list(ordered.values())).T
    return PairSet(
        first=first,
        second=second,
        similarity=similarity.astype(np.float32),
        rank_of_second=rank_of_second.astype(np.int32),
        rank_of_first=rank_of_first.astype(np.int32),
        corpus_fingerprint=corpus.fingerprint,
        counts={"documents": 7},
        neighbour_similarities=np.array([0.96875, 0.62, 0.62, 0.549], np.float32),
        random_similarities=np.array([-0.12, 0.0, 0.01, 1.0000001], np.float32),
        search={"backend": "exact"},
    )


def test_figures_by_hand(pairs, corpus):
    report = pair_report(pairs, corpus)
    np.testing.assert_allclose(report.similarity_edges, np.arange(-3, 21) / 20)
    assert np.flatnonzero(report.neighbours).tolist() == [13, 15, 22]  # from 0.5, 0.6 and 0.95
    assert report.neighbours[[13, 15, 22]].tolist() == [1, 2, 1]
    assert np.flatnonzero(report.random).tolist() == [0, 3, 22]
    assert report.random[[0, 3, 22]].tolist() == [1, 2, 1]
    assert report.documents_by_pairs.tolist() == [1, 4, 2]  # one document of the seven has no pair
    assert report.covered == pytest.approx(6 / 7)
    assert report.mutual == 0.5
    np.testing.assert_allclose(report.band_edges, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert report.band_pairs.tolist() == [2, 4, 0, 0, 2]  # 0.7 in float32 is below 0.7
    label, country = report.labels
    assert (label.name, label.values, label.pairs) == ("label", 2, 6)
    assert label.precision == pytest.approx(4 / 6)
    assert label.random == pytest.approx((1 + 3) / 10)  # of the pairs among five documents
    np.testing.assert_allclose(label.band_precision, [np.nan, 0.5, np.nan, np.nan, 1.0])
    assert label.band_pairs.tolist() == [0, 4, 0, 0, 2]
    assert (country.name, country.values, country.pairs, country.precision) == ("country", 2, 6, 0.0)
    assert country.random == pytest.approx(2 / 6)
    assert pair_report(pairs).labels == ()


def test_bands_hold_their_lower_edge_and_the_outer_ones_what_is_beyond(pairs):
    edges = np.array([0.6, 0.65, 0.96875, 0.99])
    found = label_precision("label", LABELS, pairs, edges)
    assert found.band_pairs.tolist() == [2, 2, 2]
    np.testing.assert_array_equal(found.band_precision, [0.0, 1.0, 1.0])
    found = label_precision("label", LABELS, pairs, np.array([0.65, 0.66, 0.67]))
    assert found.band_pairs.tolist() == [2, 4]


def test_labels_are_those_that_documents_share(corpus):
    assert labels_of(corpus) == {"label": list(LABELS), "country": list(COUNTRIES)}
    sources = dataclasses.replace(corpus, sources=["a", "b", "a", "b", "a", "b"])
    assert labels_of(sources)["source"] == ["a", "b", "a", "b", "a", "b"]


def test_multiples_hold_all_values():
    assert multiples(0.31, 0.59, 0.1).tolist() == [0.3, 0.4, 0.5, 0.6]
    assert multiples(-0.01, 1.0000002, 0.1)[[0, -1]].tolist() == [-0.1, 1.0]
    assert multiples(1.0, 1.0000002, 0.1).tolist() == [0.9, 1.0]
    assert multiples(0.5, 0.5, 0.1).tolist() == [0.5, 0.6]


def test_sampled_pairs_are_distinct_and_of_the_seed(pairs, corpus):
    one, same, other = (sampled_pairs(pairs, corpus, 4, seed) for seed in (0, 0, 1))
    assert one == same != other
    assert len({pair.ids for pair in one}) == 4
    assert [pair.similarity for pair in one] == sorted((pair.similarity for pair in one), reverse=True)
    whole = sampled_pairs(pairs, corpus, 99, 0)
    assert len(whole) == 8
    assert (whole[0].similarity, whole[0].rank_of_second) == (pytest.approx(0.96875), 1)
    (pair,) = (pair for pair in whole if pair.ids == ("d1", "d2"))
    assert (pair.texts, pair.rank_of_second, pair.rank_of_first) == (("text 1", "text 2"), 2, -1)
    with pytest.raises(ConfigError, match="samples"):
        sampled_pairs(pairs, corpus, -1, 0)
