"""8-bit vectors and the tile scan, against plain arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.pairing.neighbours import unit_rows
from sbp_bayes.pairing.search import scan
from sbp_bayes.pairing.search.quantise import quantisation_errors, quantise
from sbp_bayes.pairing.search.scan import best_keys, keys_above
from sbp_bayes.pairing.search.vocabulary import pack, reference_neighbours, unpack


def unit_vectors(num_rows, width, seed=0):
    return unit_rows(np.random.default_rng(seed).normal(size=(num_rows, width)))


def test_components_are_rounded_to_the_nearest_step():
    unit = unit_vectors(50, 384)
    codes = quantise(unit)
    assert codes.codes.dtype == torch.int8
    assert (codes.codes.abs().amax(1) == 127).all()
    assert np.all(np.abs(unit - codes.decode()) <= codes.scales.numpy()[:, None] * 0.5001)
    assert codes.bytes_per_vector == 388 <= 0.3 * unit[0].nbytes
    np.testing.assert_allclose(
        quantisation_errors(unit, codes), np.linalg.norm(unit - codes.decode(), axis=1)
    )


def test_recall_that_8_bits_lose_is_small_and_ranking_again_wins_it_back():
    unit = unit_vectors(2000, 64)
    codes, own = quantise(unit), np.arange(256)
    truth, _ = reference_neighbours(unit, unit[:256], own, 10)
    columns, _ = best_keys(codes.codes[:256], codes, 10, own)
    wider, _ = best_keys(codes.codes[:256], codes, 20, own)
    found = np.mean([len(set(a) & set(b)) for a, b in zip(columns, truth, strict=True)]) / 10
    kept = np.mean([len(set(a) & set(b)) for a, b in zip(wider, truth, strict=True)]) / 10
    assert 0.9 < found < 1
    assert kept > 0.999


@settings(max_examples=60)
@given(
    num_queries=st.integers(1, 40),
    num_keys=st.integers(1, 900),
    width=st.integers(1, 20),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_scan_keeps_the_best(num_queries, num_keys, width, seed, data):
    count = data.draw(st.integers(1, num_keys))
    queries, keys = (
        quantise(unit_vectors(num_queries, width, seed)),
        quantise(unit_vectors(num_keys, width, 7)),
    )
    own = np.random.default_rng(seed).integers(-1, num_keys, size=num_queries)
    scores = (queries.codes.long() @ keys.codes.long().T).float().mul(keys.scales).numpy()
    masked = scores.copy()
    masked[own >= 0, own[own >= 0]] = -np.inf
    columns, found = best_keys(queries.codes, keys, count, own)
    np.testing.assert_array_equal(-np.sort(-found, axis=1), -np.sort(-masked, axis=1)[:, :count])
    np.testing.assert_array_equal(np.take_along_axis(masked, columns, axis=1), found)
    assert all(len(set(row)) == count for row in columns.tolist())
    least = np.quantile(scores, 0.7, axis=1).astype(np.float32)
    asking, near, reached = keys_above(queries.codes, keys, least)
    np.testing.assert_array_equal(np.stack([asking, near]), np.nonzero(scores >= least[:, None]))
    np.testing.assert_array_equal(reached, scores[asking, near])


@settings(max_examples=60)
@given(seed=st.integers(0, 999), tile=st.sampled_from([5, 64, 4096]))
def test_scan_in_parts_is_a_scan_of_each_part(seed, tile):
    generator = np.random.default_rng(seed)
    lengths, asked = generator.integers(1, 200, size=4), generator.integers(0, 9, size=4)
    ends, last = np.cumsum(lengths).tolist(), np.cumsum(asked).tolist()
    keys, queries = quantise(unit_vectors(ends[-1], 6, seed)), quantise(unit_vectors(last[-1] + 1, 6, 1))
    order = generator.permutation(4)
    parts = [
        (slice(last[i] - int(asked[i]), last[i]), slice(ends[i] - int(lengths[i]), ends[i])) for i in order
    ]
    own = generator.integers(-1, ends[-1], size=len(queries))
    count = int(generator.integers(1, lengths.max() + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "KEYS_AT_ONCE", tile)
        columns, found = best_keys(queries.codes, keys, count, own, parts)
    row = 0
    for asking, held in parts:
        for query in range(asking.start, asking.stop):
            scores = (keys.codes[held].long() @ queries.codes[query].long()).float().mul(keys.scales[held])
            masked = np.where(np.arange(held.start, held.stop) == own[query], -np.inf, scores.numpy())
            expected = -np.sort(-masked)[:count]
            np.testing.assert_array_equal(-np.sort(-found[row])[: len(expected)], expected)
            assert np.isneginf(-np.sort(-found[row])[len(expected) :]).all()
            assert ((columns[row] >= held.start) & (columns[row] < held.stop)).all()
            is_found = np.isfinite(found[row])
            np.testing.assert_array_equal(masked[columns[row] - held.start][is_found], found[row][is_found])
            assert len(set(columns[row][is_found].tolist())) == is_found.sum()
            row += 1
    assert row == len(found)


def test_scan_over_several_tiles():
    unit = unit_vectors(9000, 8)
    codes = quantise(unit)
    scores = (codes.codes[:100].long() @ codes.codes.long().T).float().mul(codes.scales).numpy()
    columns, found = best_keys(codes.codes[:100], codes, 12, np.full(100, -1))
    np.testing.assert_array_equal(-np.sort(-found, axis=1), -np.sort(-scores, axis=1)[:, :12])
    assert columns.max() > 4096


@given(
    scores=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30),
    first=st.integers(0, 2**32 - 40),
)
def test_packed_numbers_sort_as_scores_and_ids(scores, first):
    values = np.array(scores, np.float32) + np.float32(0)  # one zero
    ids = np.arange(first, first + len(values))
    order = np.argsort(pack(values, ids))
    np.testing.assert_array_equal(order, np.lexsort((ids, -values)))
    unpacked = unpack(pack(values, ids))
    np.testing.assert_array_equal(unpacked[0], ids)
    np.testing.assert_array_equal(unpacked[1], values)


@pytest.mark.parametrize("width", [1, 3, 384, 1100])
def test_integer_products_are_exact(width):
    """The widest products, all components ±127."""
    codes = quantise(np.ones((3, width), np.float32))
    _, scores = best_keys(codes.codes, codes, 1, np.full(3, -1))
    np.testing.assert_allclose(scores[:, 0] / codes.scales.numpy(), 127 * 127 * width, rtol=1e-7)
