"""Sets found by their sketches: what tables miss is as rare as they promise, and few others are looked at."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from sbp_bayes.corpus import deduplicate, sketches
from sbp_bayes.corpus.minhash import mix
from sbp_bayes.corpus.sketches import BEGINNING, BEGINNING_MISSES, SKETCH_BITS, SketchIndex, sketch

TEMPLATE = 136
SHINGLES_OF_A_SLOT = 5


def slot_sets(count, num_slots, num_choices, seed=0):
    """Sets of documents of one template, of which each slot's value stands in five shingles."""
    values = np.random.default_rng(seed).integers(num_choices, size=(count, num_slots))
    names = (np.arange(num_slots) * num_choices + values)[:, :, None] * SHINGLES_OF_A_SLOT
    own = (names + np.arange(SHINGLES_OF_A_SLOT) + TEMPLATE).reshape(count, -1)
    members = np.concatenate([np.broadcast_to(np.arange(TEMPLATE), (count, TEMPLATE)), own], axis=1)
    return values, np.sort(mix(members.astype(np.uint64)), axis=1)


def index_of(members, threshold=0.8):
    sizes = np.array([len(one) for one in members])
    return SketchIndex(np.stack([sketch(one) for one in members]), sizes, sizes > 0, threshold)


@pytest.fixture
def small(monkeypatch):
    """Tables from 64 sets on, always looked into."""
    monkeypatch.setattr(sketches, "FEW", 64)
    monkeypatch.setattr(sketches, "BATCH", 32)
    monkeypatch.setattr(sketches, "SCANS_PER_HIT", 0)


def found_by(index, count):
    found = []
    for row in range(count):
        found.append(index.candidates(row).tolist())
        index.add(row)
    return found


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("replaced", [False, True])
def test_tables_find_what_is_just_similar(small, threshold, replaced):
    """Each of 300 sets has one that lacks members, or has others instead: 0.3 are expected to be missed."""
    random, members = np.random.default_rng(6), list(slot_sets(300, 20, 10, seed=1)[1])
    share = (1 - threshold) / (1 + threshold) if replaced else 1 - threshold
    for row in range(300):
        number = math.floor(share * len(members[row]) + 1e-9)
        others = mix(np.arange(number * replaced, dtype=np.uint64) + np.uint64(row + 1 << 20))
        rest = random.permutation(members[row])[number:]
        members.append(np.sort(np.concatenate([rest, others])))
    found = found_by(index_of(members, threshold), 600)
    assert sum(row not in found[300 + row] for row in range(300)) <= 3


def test_the_chance_to_agree_in_no_table_is_as_promised(monkeypatch):
    """Of pairs of sketches that differ in as many bits as similar sets may."""
    monkeypatch.setattr(sketches, "TABLE_MISSES", 0.05)
    random, size, count = np.random.default_rng(2), 196, 5_000
    tables = sketches._Tables(64, size, size, size, 0.8)
    bits = random.random((count, SKETCH_BITS)) < 0.1
    others = bits.copy()
    for row in others:
        row[random.choice(SKETCH_BITS, math.floor(0.2 / 1.8 * 2 * size), replace=False)] ^= True
    keys = [tables._keys(np.packbits(rows, axis=1).view(np.uint64), 64) for rows in (bits, others)]
    agree = np.any([one == other for one, other in zip(*keys, strict=True)], axis=0)
    deviation = (count * 0.05 * 0.95) ** 0.5
    assert abs(count - agree.sum() - count * 0.05) < 4 * deviation


def test_limits_of_beginnings_are_quantiles_of_binomials():
    numbers = np.arange(SKETCH_BITS + 1)
    quantiles = binom.ppf(1 - BEGINNING_MISSES, numbers, BEGINNING * 64 / SKETCH_BITS)
    assert np.array_equal(sketches._beginning_limits(), quantiles)


def test_where_a_search_begins_again_does_not_show(small):
    _, members = slot_sets(300, 12, 4, seed=3)
    whole, again = index_of(members), index_of(members)
    found = found_by(whole, 300)
    for row in range(205):  # in the middle of a batch
        again.add(row)
    assert again.candidates(205).tolist() == found[205]
    for row in range(205, 300):
        assert again.candidates(row).tolist() == found[row]
        again.add(row)


@pytest.mark.parametrize(("num_slots", "num_choices"), [(12, 3), (12, 10), (20, 3)])
def test_tables_remove_what_comparing_all_removes(small, num_slots, num_choices):
    random = np.random.default_rng(4)
    texts = []
    for row in slot_sets(400, num_slots, num_choices, seed=5)[0]:
        words = [f"t{k}" for k in range(200)]
        for slot, value in enumerate(row):
            words[slot * 200 // num_slots] = f"s{slot}x{value}"
        texts.append(" ".join(words))
        if random.random() < 0.3:  # one slot of an earlier one otherwise
            texts.append(texts[random.integers(len(texts))].replace(f"s{random.integers(8)}x", "other"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sbp_bayes.corpus.crowds.LISTED", 0)
        by_tables = deduplicate(texts)
        patch.setattr(sketches, "FEW", len(texts))
        assert by_tables == deduplicate(texts)
    assert 10 < len(by_tables[0]) < len(texts)


def test_looking_grows_slower_than_the_square(monkeypatch):
    """Twice the sets, none of them similar: fewer than three times the sketches are looked at."""
    looked_at = []
    near, ranges = SketchIndex._scan, sketches._Tables.ranges

    def counted_ranges(*arguments):
        found = ranges(*arguments)
        looked_at.append(int((found[:, 1] - found[:, 0]).sum()))
        return found

    def counted_scan(self, row, start):
        looked_at.append(len(self) - start)
        return near(self, row, start)

    monkeypatch.setattr(sketches._Tables, "ranges", counted_ranges)
    monkeypatch.setattr(SketchIndex, "_scan", counted_scan)
    counts = []
    for count in (8_000, 16_000):
        looked_at.clear()
        index = index_of(slot_sets(count, 20, 10)[1])
        for row in range(count):
            if row % 16 == 0:
                index.candidates(row)
            index.add(row)
        counts.append(sum(looked_at))
    assert counts[1] < 3 * counts[0]
