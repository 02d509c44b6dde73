"""The graph as an index of its own: ids, files, and what's wrong with them."""

import numpy as np
import pytest

from sbp_bayes.base.errors import PairingError, StoreError
from sbp_bayes.base.store import read_json, write_json
from sbp_bayes.pairing.neighbours import unit_rows
from sbp_bayes.pairing.search.hnsw import GRAPH, META, HnswIndex


@pytest.fixture(scope="module")
def unit():
    return unit_rows(np.random.default_rng(0).normal(size=(300, 12)))


@pytest.fixture
def saved(unit, tmp_path):
    HnswIndex.build(unit, np.arange(1000, 1300), ef=77).save(tmp_path)
    return tmp_path


def test_loaded_index_answers_alike(unit, saved):
    index, loaded = HnswIndex.build(unit, np.arange(1000, 1300), ef=77), HnswIndex.load(saved)
    assert (len(loaded), loaded.dimension, loaded.ef) == (300, 12, 77)
    for first, second in zip(index.search(unit, 3), loaded.search(unit, 3), strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(loaded.search(unit, 1)[0][:, 0], np.arange(1000, 1300))


def test_files_are_the_same_each_time(unit, saved, tmp_path):
    HnswIndex.build(unit, np.arange(1000, 1300), ef=77).save(tmp_path / "again")
    assert (saved / GRAPH).read_bytes() == (tmp_path / "again" / GRAPH).read_bytes()


def test_file_cut_short_is_refused(saved):
    content = (saved / GRAPH).read_bytes()
    (saved / GRAPH).write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"graph.bin: damaged, \d+ bytes instead of \d+"):
        HnswIndex.load(saved)
    write_json(saved / META, read_json(saved / META) | {"bytes": len(content) // 2})
    with pytest.raises(StoreError, match=r"graph.bin: damaged"):
        HnswIndex.load(saved)


def test_missing_file_is_refused(saved):
    (saved / GRAPH).unlink()
    with pytest.raises(StoreError, match=r"graph.bin: no such file"):
        HnswIndex.load(saved)


def test_wrong_count_and_foreign_vectors_are_refused(saved):
    meta = read_json(saved / META)
    write_json(saved / META, meta | {"rows": 301})
    with pytest.raises(StoreError, match="300 rows instead of 301"):
        HnswIndex.load(saved)
    write_json(saved / META, meta)
    content = bytearray((saved / GRAPH).read_bytes())
    content[2000:-4000] = bytes(len(content) - 6000)
    (saved / GRAPH).write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        HnswIndex.load(saved)


def test_bad_arguments(unit):
    index = HnswIndex.build(unit, np.arange(300))
    with pytest.raises(PairingError, match=r"shape \(300, 5\) asked of an index of width 12"):
        index.search(unit[:, :5], 1)
    with pytest.raises(PairingError, match="k = 301 neighbours asked of an index of 300 rows"):
        index.search(unit, 301)
    with pytest.raises(PairingError, match=r"id 4 occurs more than once \(1 such ids\)"):
        HnswIndex.build(unit[:3], np.array([4, 5, 4]))
    with pytest.raises(PairingError, match="2 ids for 3 vectors"):
        HnswIndex.build(unit[:3], np.array([4, 5]))
