"""Nearest neighbours: exact search against brute force, approximate search against exact, bad vectors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, PairingError
from sbp_bayes.pairing import find_neighbours, nearest_neighbours, neighbours
from sbp_bayes.pairing.join.join import Join, Rows, join_neighbours
from sbp_bayes.pairing.search import exact, inverted, scan, vocabulary
from sbp_bayes.pairing.search.audit import Audit, audited_rows, held_out_rows, search_with_audit
from sbp_bayes.pairing.search.lists import make_lists, nearest_centres, probes_needed
from sbp_bayes.pairing.search.quantise import MOST_COMPONENTS, quantise
from sbp_bayes.pairing.search.vocabulary import reference_neighbours


def random_vectors(num_rows, width, seed=0):
    return np.random.default_rng(seed).normal(size=(num_rows, width))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), num_rows=st.integers(2, 40), width=st.integers(1, 6), seed=st.integers(0, 99))
def test_exact_search_is_brute_force(data, num_rows, width, seed):
    k = data.draw(st.integers(1, num_rows - 1))
    vectors = random_vectors(num_rows, width, seed)
    ids, similarities = nearest_neighbours(vectors, k, "exact")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(similarities, by_reference(vectors, k)[1], atol=1e-6)
    np.testing.assert_allclose(similarities, np.take_along_axis(unit @ unit.T, ids, axis=1), atol=1e-6)
    assert ids.dtype == np.int64
    assert similarities.dtype == np.float32
    assert all(len({row, *found}) == k + 1 for row, found in enumerate(ids.tolist()))


def by_reference(vectors, k):
    """Neighbours by all products in float64."""
    unit = neighbours.unit_rows(vectors).astype(np.float64)
    return reference_neighbours(unit, unit, np.arange(len(unit)), k)


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    num_rows=st.integers(2, 120),
    width=st.integers(1, 4),
    levels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_ties_go_to_the_smaller_id(data, num_rows, width, levels, seed):
    """Rows of few signs and sizes: copies, opposites and equal angles everywhere."""
    k = data.draw(st.integers(1, num_rows - 1))
    vectors = np.random.default_rng(seed).integers(-levels, levels + 1, size=(num_rows, width)).astype(float)
    vectors[~vectors.any(axis=1), 0] = 1
    ids, similarities = nearest_neighbours(vectors, k, "exact")
    np.testing.assert_allclose(similarities, by_reference(vectors, k)[1], atol=1e-6)
    assert all(len({row, *found}) == k + 1 for row, found in enumerate(ids.tolist()))
    tied = similarities[:, :-1] == similarities[:, 1:]
    assert (ids[:, :-1] < ids[:, 1:])[tied].all()


@pytest.mark.parametrize("backend", ["exact", "inverted"])
def test_equal_vectors_have_the_first_rows_as_neighbours(backend):
    vectors = np.tile(random_vectors(1, 6), (300, 1))
    ids, similarities = nearest_neighbours(vectors, 2, backend)
    np.testing.assert_allclose(similarities, 1, atol=1e-6)
    if backend == "exact":
        np.testing.assert_array_equal(ids[:3], [[1, 2], [0, 2], [0, 1]])
        np.testing.assert_array_equal(ids[3:], np.tile([0, 1], (297, 1)))


def test_copies_beyond_the_candidates_are_found_by_id():
    """More copies of each row than 8 bits keep candidates: float32 must find the smallest ids."""
    vectors = np.tile(random_vectors(5, 16), (60, 1))
    ids, _ = nearest_neighbours(vectors, 3, "exact")
    for row, found in enumerate(ids.tolist()):
        assert found == [other for other in range(row % 5, 300, 5) if other != row][:3]


def test_exact_search_resolves_what_8_bits_cannot():
    """Rows within 1e-3 of each other: a byte a component sees them as nearly one."""
    vectors = random_vectors(1, 48) + 1e-3 * random_vectors(700, 48, seed=1)
    ids, _ = nearest_neighbours(vectors, 4, "exact")
    unit = neighbours.unit_rows(vectors).astype(np.float64)
    nearest = by_reference(vectors, 4)[1]
    np.testing.assert_allclose(np.take_along_axis(unit @ unit.T, ids, axis=1), nearest, atol=2e-7)


@pytest.mark.parametrize("backend", ["exact", "inverted"])
def test_threads_and_blocks_do_not_show(backend, monkeypatch):
    vectors = clustered_vectors(1500, 24, 30)
    whole = nearest_neighbours(vectors, 5, backend)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        threaded = nearest_neighbours(vectors, 5, backend)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for module in (exact, inverted):
        monkeypatch.setattr(module, "QUERIES_AT_ONCE", 33)
    if backend == "exact":
        monkeypatch.setattr(scan, "KEYS_AT_ONCE", 200)
    blocked = nearest_neighbours(vectors, 5, backend)
    for first, second, third in zip(whole, threaded, blocked, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)


def clustered_vectors(num_rows, width, num_clusters, noise=0.5, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(num_clusters, width))
    return centres[generator.integers(num_clusters, size=num_rows)] + noise * generator.normal(
        size=(num_rows, width)
    )


@pytest.mark.parametrize("num_clusters", [1, 7, 300, 2500])
@pytest.mark.parametrize("width", [8, 64])
def test_inverted_file_finds_what_exact_search_finds(num_clusters, width):
    vectors = clustered_vectors(2500, width, num_clusters)
    (ids, similarities), report = find_neighbours(vectors, 10, "inverted", min_recall=0.95)
    exact_ids, _ = nearest_neighbours(vectors, 10, "exact")
    found = np.mean([len(set(a) & set(b)) for a, b in zip(ids, exact_ids, strict=True)]) / 10
    assert report.recall >= 0.95
    assert found >= 0.93  # the audit saw 500 rows of 2,500
    assert not (ids == np.arange(2500)[:, None]).any()
    assert all(len(set(row)) == 10 for row in ids.tolist())
    unit = neighbours.unit_rows(vectors)
    np.testing.assert_allclose(similarities, np.einsum("nd,nkd->nk", unit, unit[ids]), atol=1e-6)
    assert (np.diff(similarities, axis=1) <= 0).all()


@pytest.mark.parametrize("num_rows", [2, 3, 5, 17, 40])
def test_inverted_file_of_few_rows_is_exact(num_rows):
    vectors = random_vectors(num_rows, 4)
    found = nearest_neighbours(vectors, num_rows - 1, "inverted")
    truth = nearest_neighbours(vectors, num_rows - 1, "exact")
    np.testing.assert_array_equal(found[0], truth[0])
    np.testing.assert_array_equal(found[1], truth[1])


def test_inverted_file_with_lists_of_one():
    """Far-away rows make lists of their own; their neighbours are in other lists."""
    vectors = np.concatenate([np.tile(random_vectors(1, 64), (200, 1)), 10 * np.eye(64)])
    vectors[:200] += 0.01 * random_vectors(200, 64)
    ids, _ = nearest_neighbours(vectors, 6, "inverted")
    assert ids.min() >= 0
    assert all(len({row, *found}) == 7 for row, found in enumerate(ids.tolist()))


def test_inverted_file_is_the_same_each_time():
    vectors = clustered_vectors(800, 8, 20)
    for first, second in zip(
        nearest_neighbours(vectors, 4, "inverted"), nearest_neighbours(vectors, 4, "inverted"), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_inverted_file_probes_more_until_its_audit_passes(monkeypatch):
    monkeypatch.setattr(inverted, "probes_needed", lambda *_: 1)
    vectors = random_vectors(1500, 32)
    _, report = find_neighbours(vectors, 10, "inverted", min_recall=0.95)
    assert report.effort > 1
    assert report.recall > 0.93  # of other rows than those that met 0.95: here 0.947


def test_lists_offer_a_few_k_at_a_time_where_none_is_near(monkeypatch):
    """Noise: most lists are asked, and a good part of their keys beat the k-th neighbour at home."""
    vectors, most, offers = random_vectors(3000, 48), [], inverted._offers

    def noted(lists, queries, *arguments):
        found = offers(lists, queries, *arguments)
        most.append((len(queries), len(found[0])))
        return found

    monkeypatch.setattr(inverted, "_offers", noted)
    whole, report = find_neighbours(vectors, 5, "inverted", min_recall=0.95)
    assert report.effort > 50
    assert max(offered / asking for asking, offered in most) < 6 * 5
    assert max(asking for asking, _ in most) == 3000
    most.clear()
    monkeypatch.setattr(inverted, "FEWEST_AT_ONCE", 700)
    monkeypatch.setattr(inverted, "OFFERS_AT_ONCE", 1)
    parts, _ = find_neighbours(vectors, 5, "inverted", min_recall=0.95)
    assert max(asking for asking, _ in most) == 700
    for first, second in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(first, second)


def test_probes_needed_is_what_a_search_needs():
    unit = neighbours.unit_rows(clustered_vectors(2000, 16, 40))
    codes = quantise(unit)
    lists, audit = make_lists(unit, codes, 64), Audit.of(exact.ExactKeys(unit), 10, audited_rows(2000))
    probes = probes_needed(lists, codes, audit, 0.9)
    nearest = nearest_centres(codes.codes, lists.centres, len(lists))
    list_of = np.empty(2000, np.int64)
    for number in range(len(lists)):
        list_of[lists.order[lists.part(number)]] = number
    np.testing.assert_array_equal(nearest[:, 0], list_of)
    rank = np.array(
        [
            nearest[row].tolist().index(list_of[other])
            for row, found in zip(audit.rows, audit.ids, strict=True)
            for other in found
        ]
    )
    assert np.mean(rank < probes) >= 0.9 > np.mean(rank < probes - 1)


@pytest.mark.parametrize("backend", ["exact", "inverted", "hnsw"])
def test_report_says_how_neighbours_were_found(backend):
    _, report = find_neighbours(random_vectors(400, 384), 5, backend)
    assert report.backend == backend
    assert report.recall >= 0.98
    assert (report.bytes_per_vector <= 0.3 * 4 * 384) == (backend != "hnsw")


def test_auto_is_exact_for_few_rows():
    vectors = random_vectors(50, 4)
    for automatic, compared in zip(
        nearest_neighbours(vectors, 3), nearest_neighbours(vectors, 3, "exact"), strict=True
    ):
        np.testing.assert_array_equal(automatic, compared)


def test_graph_finds_what_exact_search_finds():
    vectors = random_vectors(1500, 16)
    ids, similarities = nearest_neighbours(vectors, 10, "hnsw")
    exact_ids, _ = nearest_neighbours(vectors, 10, "exact")
    found = np.mean([len(set(a) & set(b)) for a, b in zip(ids, exact_ids, strict=True)]) / 10
    assert found >= neighbours.MIN_RECALL
    assert not (ids == np.arange(1500)[:, None]).any()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(similarities, np.einsum("nd,nkd->nk", unit, unit[ids]), atol=1e-5)
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_graph_is_the_same_each_time():
    vectors = random_vectors(800, 8)
    for first, second in zip(
        nearest_neighbours(vectors, 4, "hnsw"), nearest_neighbours(vectors, 4, "hnsw"), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_graph_survives_equal_rows():
    vectors = np.repeat(random_vectors(40, 8), 10, axis=0)
    ids, similarities = nearest_neighbours(vectors, 5, "hnsw")
    assert not (ids == np.arange(400)[:, None]).any()
    np.testing.assert_allclose(similarities, 1.0, atol=1e-5)


@pytest.mark.parametrize(("backend", "name"), [("hnsw", "HNSW index"), ("inverted", "inverted file")])
def test_search_that_fails_its_audit_is_refused(backend, name, monkeypatch):
    monkeypatch.setattr(Audit, "recall", lambda *_: 0.5)
    with pytest.raises(PairingError, match=f"{name} finds 50.0% of the 3 neighbours, below 98.0%"):
        nearest_neighbours(random_vectors(200, 8), 3, backend)


@pytest.mark.parametrize("num_rows", [1, 20, 500, 501, 1000, 1001, 1300, 5000])
def test_recall_is_reported_on_rows_that_did_not_choose_the_effort(num_rows):
    chosen, others = audited_rows(num_rows), held_out_rows(num_rows)
    assert (np.diff(others) > 0).all()
    if num_rows > 1000:
        assert len(others) == 500
        assert len(np.intersect1d(chosen, others)) == 0
    else:  # the recall of all rows is known
        assert np.array_equal(others, np.arange(num_rows))


@pytest.mark.parametrize(("backend", "shards"), [("hnsw", 1), ("inverted", 1), ("inverted", 2)])
def test_the_reported_recall_is_that_of_the_other_rows(backend, shards, monkeypatch):
    """Found as they are on the rows that choose, spoilt on all others: chosen as before, and reported."""
    vectors = clustered_vectors(1500, 16, 30)
    monkeypatch.setattr(
        Audit, "recall", lambda audit, _: 1.0 if np.array_equal(audit.rows, audited_rows(1500)) else 0.25
    )
    _, report = neighbours.find_neighbours(vectors, 5, backend, join=Join(num_shards=shards))
    assert report.recall == 0.25


def test_each_row_that_is_held_out_is_compared_with_its_own_neighbours():
    """All of the rows that choose are found, and every other one of those held out."""

    def truth(rows):
        return Audit(rows=rows, ids=rows[:, None], similarities=np.ones((len(rows), 1), np.float32))

    def search(_, rows):
        is_found = (rows < 10) | (rows % 2 == 0)
        return rows[:, None], is_found[:, None].astype(np.float32)

    _, effort, recall = search_with_audit(
        "index",
        search,
        efforts=[3],
        audit=truth(np.arange(10)),
        held_out=truth(np.arange(10, 20)),
        num_rows=20,
        min_recall=0.9,
    )
    assert (effort, recall) == (3, 0.5)


def test_more_rows_than_numbers_fit_are_named(monkeypatch):
    with pytest.raises(PairingError, match=r"4,294,967,297 documents: .* 4,294,967,296 at most"):
        vocabulary.refuse_too_many((1 << 32) + 1)
    vocabulary.refuse_too_many(1 << 32)
    monkeypatch.setattr(vocabulary, "MOST_KEYS", 30)
    with pytest.raises(PairingError, match="31 documents"):
        nearest_neighbours(random_vectors(31, 8), 3)
    keys = Rows.numbered(neighbours.unit_rows(random_vectors(31, 8)))
    with pytest.raises(PairingError, match="31 documents"):
        join_neighbours(keys, keys, 3)


def test_vectors_whose_products_could_overflow_are_named():
    """At the limit a product of the largest components is right, beyond it would be negative."""
    codes = quantise(np.ones((2, MOST_COMPONENTS), np.float32))
    assert scan.best_keys(codes.codes[:1], codes, 2)[1].min() > 0
    for backend in ("exact", "inverted", "hnsw"):
        with pytest.raises(PairingError, match=r"width 133,145: .* up to 133,144"):
            nearest_neighbours(np.ones((3, MOST_COMPONENTS + 1), np.float32), 1, backend)


def test_the_last_number_that_fits_is_packed_and_unpacked():
    ids = np.array([0, (1 << 32) - 1, 1 << 31])
    found, scores = vocabulary.unpack(vocabulary.pack(np.array([0.5, -0.25, 0.0], np.float32), ids))
    assert found.tolist() == ids.tolist()
    assert scores.tolist() == [0.5, -0.25, 0.0]


@pytest.mark.parametrize(("value", "kind"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_bad_vector_is_named(value, kind):
    vectors = random_vectors(10, 3)
    vectors[7] = value
    with pytest.raises(PairingError, match=f"row 7 is {kind}"):
        nearest_neighbours(vectors, 2)


def test_more_neighbours_than_documents():
    with pytest.raises(PairingError, match="k = 5 neighbours asked of 5 documents"):
        nearest_neighbours(random_vectors(5, 3), 5)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="k = 0"):
        nearest_neighbours(random_vectors(5, 3), 0)
    with pytest.raises(ConfigError, match="backend = 'tree'"):
        nearest_neighbours(random_vectors(5, 3), 1, "tree")
    with pytest.raises(ConfigError, match=r"min_recall = 1.5"):
        nearest_neighbours(random_vectors(5, 3), 1, min_recall=1.5)
    with pytest.raises(PairingError, match="one row a document"):
        nearest_neighbours(np.ones(5), 1)
