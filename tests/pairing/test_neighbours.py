"""Nearest neighbours: exact search against brute force, the graph against exact search, bad vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, PairingError
from sbp_bayes.pairing import hnsw, index, nearest_neighbours


def random_vectors(num_rows, width, seed=0):
    return np.random.default_rng(seed).normal(size=(num_rows, width))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), num_rows=st.integers(2, 40), width=st.integers(1, 6), seed=st.integers(0, 99))
def test_exact_search_is_brute_force(data, num_rows, width, seed):
    k = data.draw(st.integers(1, num_rows - 1))
    vectors = random_vectors(num_rows, width, seed)
    ids, similarities = nearest_neighbours(vectors, k, "exact")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.testing.assert_allclose(similarities, np.take_along_axis(cosines, ids, axis=1), atol=1e-6)
    np.fill_diagonal(cosines, -np.inf)
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :k], atol=1e-6)
    assert ids.dtype == np.int64
    assert similarities.dtype == np.float32
    assert all(len({row, *found}) == k + 1 for row, found in enumerate(ids.tolist()))


def test_blocks_do_not_show(monkeypatch):
    vectors = random_vectors(100, 8)
    whole = nearest_neighbours(vectors, 5, "exact")
    monkeypatch.setattr(index, "BLOCK_ENTRIES", 700)
    blocked = nearest_neighbours(vectors, 5, "exact")
    np.testing.assert_array_equal(whole[0], blocked[0])
    np.testing.assert_allclose(whole[1], blocked[1], atol=1e-6)


def test_auto_is_exact_for_few_rows():
    vectors = random_vectors(50, 4)
    for automatic, exact in zip(
        nearest_neighbours(vectors, 3), nearest_neighbours(vectors, 3, "exact"), strict=True
    ):
        np.testing.assert_array_equal(automatic, exact)


def test_graph_finds_what_exact_search_finds():
    vectors = random_vectors(1500, 16)
    ids, similarities = nearest_neighbours(vectors, 10, "hnsw")
    exact_ids, _ = nearest_neighbours(vectors, 10, "exact")
    found = np.mean([len(set(a) & set(b)) for a, b in zip(ids, exact_ids, strict=True)]) / 10
    assert found >= hnsw.MIN_RECALL
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


def test_graph_that_fails_its_audit_is_refused(monkeypatch):
    monkeypatch.setattr(hnsw, "MIN_RECALL", 1.01)
    with pytest.raises(PairingError, match=r"HNSW index finds .* of the 3 neighbours"):
        nearest_neighbours(random_vectors(200, 8), 3, "hnsw")


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
    with pytest.raises(PairingError, match="one row a document"):
        nearest_neighbours(np.ones(5), 1)
