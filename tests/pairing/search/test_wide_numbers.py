"""Numbers that share 64 bits: exact up to the limit, an error that names the limit beyond it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbp_bayes.base.errors import PairingError
from sbp_bayes.pairing import Join, Rows, join_neighbours, neighbours
from sbp_bayes.pairing.join.shard import Shard
from sbp_bayes.pairing.rules.pair_rules import pair_keys
from sbp_bayes.pairing.search.hnsw import HnswIndex
from sbp_bayes.pairing.search.vocabulary import MOST_KEYS, NOTHING, pack, shifted, unpack

SCORES = np.array([0.75, -0.25], np.float32)


@pytest.mark.parametrize("first", [-1, MOST_KEYS - 1, MOST_KEYS, 1 << 40])
def test_an_id_that_would_change_its_score_is_refused(first):
    ids = np.array([first, first + 1])
    wide = first if first < 0 else first + 1
    with pytest.raises(PairingError, match=f"id {wide:,} has no room .* ids from 0 to 4,294,967,295"):
        pack(SCORES, ids)
    with pytest.raises(PairingError, match="has no room"):
        shifted(pack(SCORES, np.array([0, 1])), first)


@given(ids=st.lists(st.integers(0, MOST_KEYS - 1), min_size=2, max_size=2))
def test_the_largest_ids_keep_their_scores(ids):
    start = MOST_KEYS - 1 - max(ids)
    found = unpack(shifted(pack(SCORES, np.array(ids)), start))
    np.testing.assert_array_equal(found[0], np.array(ids) + start)
    np.testing.assert_array_equal(found[1], SCORES)
    assert (shifted(np.full(3, NOTHING), start) == NOTHING).all()


def test_a_shard_beyond_the_limit_refuses_to_answer():
    """Its start alone is large: a join of 2³² documents isn't held by this test."""
    unit = neighbours.unit_rows(np.random.default_rng(0).normal(size=(9, 4)))
    none = np.full(9, -1)
    found = unpack(Shard(unit, MOST_KEYS - 9).answer(unit, none, 1, "exact", 0))
    np.testing.assert_array_equal(found[0][:, 0], MOST_KEYS - 9 + np.arange(9))
    np.testing.assert_allclose(found[1][:, 0], 1, rtol=1e-6)
    with pytest.raises(PairingError, match="id 4,294,967,296 has no room"):
        Shard(unit, MOST_KEYS - 8).answer(unit, none, 1, "exact", 0)


def test_a_graph_with_wide_ids_is_not_packed():
    unit = neighbours.unit_rows(np.random.default_rng(0).normal(size=(9, 4)))
    graph = HnswIndex.build(unit, MOST_KEYS + np.arange(9))
    assert graph.search(unit, 1)[0][:, 0].tolist() == (MOST_KEYS + np.arange(9)).tolist()
    with pytest.raises(PairingError, match="has no room"):
        graph.search_packed(unit, np.full(9, -1), 1)


def test_callers_own_ids_may_be_wide():
    """A join numbers its rows anew."""
    unit = neighbours.unit_rows(np.random.default_rng(0).normal(size=(9, 4)))
    wide, numbered = Rows(unit=unit, ids=np.arange(9) << 40), Rows.numbered(unit)
    ids = join_neighbours(wide, wide, 2, join=Join(num_shards=2))[0][0]
    np.testing.assert_array_equal(ids, join_neighbours(numbered, numbered, 2)[0][0] << 40)


def test_pairs_of_the_most_rows_have_numbers_in_their_order():
    rows = np.array([0, 1, (1 << 31) + 5, MOST_KEYS - 2, MOST_KEYS - 1])
    first, second = np.repeat(rows, 5), np.tile(rows, 5)
    expected = [a * MOST_KEYS + b for a in rows.tolist() for b in rows.tolist()]
    assert pair_keys(first, second, MOST_KEYS).tolist() == expected == sorted(expected)
