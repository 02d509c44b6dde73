"""The reference that searches are compared with, by a loop over all pairs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.pairing.search.exact import ExactKeys
from sbp_bayes.pairing.search.vocabulary import NOTHING, pack, reference_neighbours, unpack


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), num_keys=st.integers(2, 30), num_queries=st.integers(1, 9), data=st.data())
def test_the_reference_is_a_loop_over_all_pairs(seed, num_keys, num_queries, data):
    """Vectors of few signs, so that many are equally near."""
    k = data.draw(st.integers(1, num_keys - 1))
    generator = np.random.default_rng(seed)
    keys, queries = (generator.choice([-1.0, 1.0], (n, 4)) / 2 for n in (num_keys, num_queries))
    own = generator.integers(-1, num_keys, num_queries)
    ids, similarities = reference_neighbours(keys, queries, own, k)
    for query, found, similarity, itself in zip(queries, ids.tolist(), similarities, own, strict=True):
        near = sorted((-float(query @ key), number) for number, key in enumerate(keys) if number != itself)
        assert found == [number for _, number in near[:k]]
        assert similarity.tolist() == [-negated for negated, _ in near[:k]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), num_keys=st.integers(2, 60), data=st.data())
def test_exact_keys_give_the_reference_packed(seed, num_keys, data):
    """Products of signs are exact in float32, so ids and order must be the reference's own."""
    k = data.draw(st.integers(1, num_keys - 1))
    generator = np.random.default_rng(seed)
    keys = (generator.choice([-1.0, 1.0], (num_keys, 4)) / 2).astype(np.float32)
    own = generator.integers(-1, num_keys, num_keys)
    packed = ExactKeys(keys).search(keys, own, k)
    ids, similarities = reference_neighbours(keys, keys, own, k)
    np.testing.assert_array_equal(packed, pack(similarities, ids))
    np.testing.assert_array_equal(unpack(packed)[0], ids)
    assert NOTHING not in packed
