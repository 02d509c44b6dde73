"""The sharded join against the single index; its merging, its parts on disk, and bad input."""

import dataclasses
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbp_bayes.base.errors import ConfigError, PairingError
from sbp_bayes.pairing import Join, Rows, find_neighbours, join_neighbours
from sbp_bayes.pairing.join.engines import LocalEngine
from sbp_bayes.pairing.join.shard import Shard, merge
from sbp_bayes.pairing.neighbours import unit_rows
from sbp_bayes.pairing.search import inverted
from sbp_bayes.pairing.search.exact import ExactKeys, exact_neighbours
from sbp_bayes.pairing.search.vocabulary import NOTHING, pack, reference_neighbours, unpack


def vectors(num_rows, width, seed=0):
    return np.random.default_rng(seed).normal(size=(num_rows, width)).astype(np.float32)


def with_copies(num_rows, width, num_distinct, seed=0):
    """Rows of which many are equal, and others nearly so."""
    generator = np.random.default_rng(seed)
    rows = vectors(num_distinct, width, seed)[generator.integers(num_distinct, size=num_rows)]
    rows[::7] += 1e-4 * generator.normal(size=rows[::7].shape).astype(np.float32)
    return rows


def same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


ROWS = {"distinct": vectors(1003, 24), "copies": with_copies(1003, 24, 40), "one vector": np.ones((300, 5))}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(("num_shards", "queries_at_once"), [(1, 100), (2, 8192), (7, 333), (60, 200)])
def test_exact_join_is_the_single_index_bit_for_bit(kind, num_shards, queries_at_once):
    """The truth is one search of all rows at once, without blocks."""
    unit = unit_rows(ROWS[kind])
    truth = exact_neighbours(unit, 12, np.arange(len(unit)))
    join = Join(num_shards=num_shards, queries_at_once=queries_at_once)
    found, report = find_neighbours(ROWS[kind], 12, "exact", join=join)
    same(found, truth)
    assert (report.backend, report.recall, report.shards) == ("exact", 1.0, num_shards)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    num_rows=st.integers(2, 60),
    width=st.integers(1, 3),
    levels=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_join_of_few_rows_full_of_ties(data, num_rows, width, levels, seed):
    """Copies, opposites and equal angles, shards of one row, k up to all others."""
    k, num_shards = data.draw(st.integers(1, num_rows - 1)), data.draw(st.integers(1, num_rows))
    rows = np.random.default_rng(seed).integers(-levels, levels + 1, size=(num_rows, width)).astype(float)
    rows[~rows.any(axis=1), 0] = 1
    join = Join(num_shards=num_shards, queries_at_once=data.draw(st.integers(1, num_rows)))
    found, _ = find_neighbours(rows, k, "exact", join=join)
    unit = unit_rows(rows)
    same(found, exact_neighbours(unit, k, np.arange(num_rows)))
    _, nearest = reference_neighbours(unit, unit, np.arange(num_rows), k)
    np.testing.assert_allclose(found[1], nearest, atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 9999), num_keys=st.integers(1, 40), num_shards=st.integers(1, 9), k=st.integers(1, 12)
)
def test_the_best_of_bests_are_the_best_in_any_order_and_grouping(seed, num_keys, num_shards, k):
    generator = np.random.default_rng(seed)
    scores = generator.integers(-3, 4, size=(5, num_keys)).astype(np.float32) / 3  # many ties
    keys = np.broadcast_to(np.arange(num_keys), scores.shape)
    order = np.lexsort((keys, -scores), axis=1)[:, :k]
    truth = pack(np.take_along_axis(scores, order, axis=1), order)
    cuts = np.sort(generator.integers(0, num_keys + 1, size=num_shards - 1))
    parts = [np.sort(part, axis=1)[:, :k] for part in np.split(pack(scores, keys), cuts, axis=1)]
    parts = [parts[number] for number in generator.permutation(num_shards)]
    np.testing.assert_array_equal(merge(parts, k), truth)
    some = generator.integers(0, num_shards + 1)
    grouped = [merge(group, k) for group in (parts[:some], parts[some:]) if group]
    np.testing.assert_array_equal(merge(grouped, k), truth)


def test_shard_answers_with_all_it_has_and_leaves_out_the_query_itself():
    unit = unit_rows(vectors(3, 4))
    shard = Shard(unit, 10)
    for method in ("exact", "hnsw", "inverted"):
        packed = shard.answer(unit[:2], np.array([11, 99]), 5, method, 64)
        ids = np.where(packed == NOTHING, -1, packed & 0xFFFFFFFF)
        assert set(ids[0].tolist()) == {10, 12, -1}
        assert ids[0, -1] == -1
        assert (set(ids[1].tolist()), ids[1, 0]) == ({10, 11, 12}, 11)


@pytest.mark.parametrize("num_shards", [1, 4])
def test_queries_that_are_no_keys(num_shards):
    """Some queries are keys under their id, others aren't; a copy under another id is a neighbour."""
    keys, foreign = unit_rows(vectors(400, 16)), unit_rows(vectors(50, 16, seed=1))
    ids = np.random.default_rng(0).permutation(400) * 3 + 5
    queries = Rows(unit=np.concatenate([foreign, keys[:30], keys[:30]]), ids=np.arange(-110, 0))
    queries.ids[50:80] = ids[:30]
    join = Join(num_shards=num_shards, queries_at_once=47)
    (found, similarities), _ = join_neighbours(queries, Rows(unit=keys, ids=ids), 6, join=join)
    own = np.concatenate([np.full(50, -1), np.arange(30), np.full(30, -1)])
    rows, nearest = reference_neighbours(keys, queries.unit, own, 6)
    np.testing.assert_array_equal(found, ids[rows])
    np.testing.assert_allclose(similarities, nearest, atol=1e-6)
    np.testing.assert_array_equal(found[80:, 0], ids[:30])


def test_equal_queries_that_exact_search_compares_once_may_have_reached_different_similarities():
    """One of them is a key, which it mustn't find, and needs one further away than the other does."""
    unit = unit_rows(vectors(60, 8))
    queries, own = unit[[0, 0]], np.array([0, -1])
    cosines = np.sort(unit @ unit[0])[::-1]
    least = np.array([cosines[2] - 0.1, cosines[1] + 0.01], np.float32)
    found = ExactKeys(unit)._search_again(queries, own, least, 2)
    np.testing.assert_allclose(unpack(found)[1], [cosines[1:3], cosines[:2]], atol=1e-6)


@pytest.mark.parametrize("method", ["hnsw", "inverted"])
@pytest.mark.parametrize("clusters", [0, 30])
def test_indexes_of_shards_find_as_much_as_one_index(method, clusters):
    rows = vectors(2400, 32)
    if clusters:
        rows = 0.5 * rows + vectors(clusters, 32, seed=1)[np.arange(2400) % clusters]
    truth, _ = find_neighbours(rows, 10, "exact")

    def recall(num_shards):
        join = Join(num_shards=num_shards, queries_at_once=1000)
        (ids, similarities), report = find_neighbours(rows, 10, method, join=join)
        assert not (ids == np.arange(2400)[:, None]).any()
        assert all(len(set(row)) == 10 for row in ids.tolist())
        assert (np.diff(similarities, axis=1) <= 0).all()
        assert report.recall >= 0.98
        return np.mean([len(set(a) & set(b)) for a, b in zip(ids, truth[0], strict=True)]) / 10

    assert recall(5) >= recall(1) - 0.005


@pytest.mark.parametrize("is_join", [False, True])
def test_rows_in_lists_with_too_few_are_asked_exactly(is_join, monkeypatch):
    """Five rows of 1,000 lie apart, each in its own list, the rest are ten vectors; one list is asked."""
    rows = vectors(10, 64)[np.arange(1000) % 10]
    rows[::200] = vectors(5, 64, seed=1)
    monkeypatch.setattr(inverted, "probes_needed", lambda *_: 1)
    monkeypatch.setattr(inverted, "efforts", lambda _: [1])
    monkeypatch.setattr(inverted, "number_of_lists", lambda num_rows: num_rows)
    monkeypatch.setattr("sbp_bayes.pairing.search.lists.FEWEST_ROWS", 1)
    numbered = Rows.numbered(unit_rows(rows))
    if is_join:
        found, report = join_neighbours(numbered, numbered, 4, "inverted", min_recall=0.5)
    else:
        found, report = find_neighbours(rows, 4, "inverted", min_recall=0.5)
    assert report.effort == 1
    assert np.isfinite(found[1]).all()
    truth, _ = find_neighbours(rows, 4, "exact")
    same((found[0][::200], found[1][::200]), (truth[0][::200], truth[1][::200]))


@pytest.mark.parametrize(("method", "name"), [("hnsw", "HNSW index"), ("inverted", "inverted file")])
def test_a_join_that_fails_its_audit_is_refused(method, name, monkeypatch):
    monkeypatch.setattr("sbp_bayes.pairing.search.audit.Audit.recall", lambda *_: 0.5)
    with pytest.raises(PairingError, match=rf"{name} finds 50\.0% of the 3 neighbours"):
        find_neighbours(vectors(200, 8), 3, method, join=Join(num_shards=3))


class Counting:
    """The engine in this process; notes who is asked what, and stops before question number `last`."""

    def __init__(self, last=None):
        self.asked, self.last = [], last

    def start(self):
        return nullcontext(self)

    def hold(self, unit, starts):
        with LocalEngine().start() as session, session.hold(unit, starts) as self.shards:
            return nullcontext(self)

    def answers(self, *arguments):
        for block, shard, packed in self.shards.answers(*arguments):
            if len(self.asked) == self.last:
                raise KeyboardInterrupt
            self.asked.append((block, shard))
            yield block, shard, packed


def test_an_interrupted_join_goes_on_from_its_parts(tmp_path):
    rows, k = ROWS["copies"], 5
    join = Join(num_shards=3, queries_at_once=200, scratch=tmp_path)
    whole, _ = find_neighbours(rows, k, "exact")
    everything = [(block, shard) for block in range(6) for shard in range(3)]
    first = Counting(last=8)
    with pytest.raises(KeyboardInterrupt):
        find_neighbours(rows, k, "exact", join=dataclasses.replace(join, engine=first))
    assert first.asked == everything[:8]
    names = ["000000.part", "000001.part", "000002-000000.part", "000002-000001.part"]
    assert sorted(path.name for path in tmp_path.glob("*.part")) == names
    second = Counting()
    same(find_neighbours(rows, k, "exact", join=dataclasses.replace(join, engine=second))[0], whole)
    assert second.asked == everything[8:]
    third = Counting()
    same(find_neighbours(rows, k, "exact", join=dataclasses.replace(join, engine=third))[0], whole)
    assert third.asked == []


def test_damaged_parts_are_asked_for_again_and_those_of_another_join_are_removed(tmp_path, caplog):
    rows = ROWS["distinct"]
    join = Join(num_shards=2, queries_at_once=300, scratch=tmp_path)
    whole, _ = find_neighbours(rows, 4, "exact", join=join)
    short, altered, empty = (tmp_path / f"00000{block}.part" for block in (0, 2, 3))
    short.write_bytes(short.read_bytes()[:-9])
    content = bytearray(altered.read_bytes())
    content[-1] ^= 1
    altered.write_bytes(content)
    empty.write_bytes(b"")
    again = Counting()
    same(find_neighbours(rows, 4, "exact", join=dataclasses.replace(join, engine=again))[0], whole)
    assert again.asked == [(block, shard) for block in (0, 2, 3) for shard in (0, 1)]
    assert "000000.part is damaged" in caplog.text
    changed = rows.copy()
    changed[5] *= -1
    for other in (
        join,
        dataclasses.replace(join, num_shards=3),
        dataclasses.replace(join, queries_at_once=99),
    ):
        found, _ = find_neighbours(changed, 4, "exact", join=other)
        same(found, find_neighbours(changed, 4, "exact")[0])
        same(find_neighbours(rows, 4, "exact", join=other)[0], whole)
    (tmp_path / "join.json").write_text("{")
    same(find_neighbours(rows, 4, "exact", join=join)[0], whole)


def test_a_part_that_outlived_its_merged_block_is_removed(tmp_path):
    join = Join(num_shards=2, queries_at_once=600, scratch=tmp_path)
    whole, _ = find_neighbours(ROWS["distinct"], 4, "exact", join=join)
    (tmp_path / "000000-000001.part").write_bytes((tmp_path / "000000.part").read_bytes())
    same(find_neighbours(ROWS["distinct"], 4, "exact", join=join)[0], whole)
    assert not (tmp_path / "000000-000001.part").exists()


DRIVER = """
import sys
import numpy as np
from pathlib import Path
from sbp_bayes.pairing import Join, find_neighbours
rows = np.random.default_rng(0).normal(size=(9000, 64))
join = Join(num_shards=3, queries_at_once=300, scratch=Path(sys.argv[1]))
find_neighbours(rows, 5, "exact", join=join)
"""


def test_a_driver_that_is_killed_goes_on_and_ends_with_the_same_bits(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("*.part"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = {path.name for path in tmp_path.glob("*.part")}
    assert 3 <= len(kept) < 30
    rows = np.random.default_rng(0).normal(size=(9000, 64))
    again = Counting()
    join = Join(num_shards=3, queries_at_once=300, scratch=tmp_path, engine=again)
    found, _ = find_neighbours(rows, 5, "exact", join=join)
    blocks = {name for name in kept if "-" not in name}
    parts = {name for name in kept - blocks if f"{name[:6]}.part" not in blocks}
    assert len(again.asked) == 90 - 3 * len(blocks) - len(parts)
    same(found, exact_neighbours(unit_rows(rows), 5, np.arange(9000)))


def test_bad_input_is_named():
    rows = Rows.numbered(unit_rows(vectors(5, 3)))
    with pytest.raises(PairingError, match=r"id 4 occurs more than once \(1 such ids\)"):
        Rows(unit=rows.unit, ids=np.array([4, 1, 2, 4, 5]))
    with pytest.raises(PairingError, match="4 ids for 5 vectors"):
        Rows(unit=rows.unit, ids=np.arange(4))
    with pytest.raises(PairingError, match="queries of width 4 asked of keys of width 3"):
        join_neighbours(Rows.numbered(unit_rows(vectors(2, 4))), rows, 1)
    with pytest.raises(PairingError, match="k = 5 neighbours asked of 5 documents: k must be below"):
        join_neighbours(rows, rows, 5)
    strangers = Rows(unit=rows.unit, ids=np.arange(10, 15))
    assert join_neighbours(strangers, rows, 5)[0][0].shape == (5, 5)
    with pytest.raises(PairingError, match="k = 6 neighbours asked of 5 documents: there are no more"):
        join_neighbours(strangers, rows, 6)
    with pytest.raises(PairingError, match="6 shards of 5 documents: at most one shard a document"):
        find_neighbours(rows.unit, 2, join=Join(num_shards=6))
    for key in ("num_shards", "queries_at_once"):
        with pytest.raises(ConfigError, match=f"{key} = 0"):
            Join(**{key: 0})
