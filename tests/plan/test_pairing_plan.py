"""Each formula of a plan with numbers that were worked out by hand."""

import dataclasses

import numpy as np
import pytest

from sbp_bayes.base.errors import ConfigError
from sbp_bayes.pairing.neighbours import unit_rows
from sbp_bayes.pairing.search.audit import Audit, audited_rows
from sbp_bayes.pairing.search.exact import exact_neighbours
from sbp_bayes.pairing.search.lists import make_lists, number_of_lists, probes_needed
from sbp_bayes.pairing.search.quantise import quantise
from sbp_bayes.plan.calibrate import MEASURED, measure_constants, measure_lists
from sbp_bayes.plan.pairing import GIB, Constants, PairingPlan, Workload

CONSTANTS = Constants(
    selected=3.0,
    compared=2.0,
    multiplied=0.5,
    reranked=0.25,
    merged=7.0,
    reduced=11.0,
    probes=5,
)
FEW = Workload(documents=100_000, dimension=4, k=10, cores=25)
"""25 shards of 4,000 keys, in 128 lists of 31.25 keys each."""


def plan(**changes):
    return PairingPlan(work=dataclasses.replace(FEW, **changes), constants=CONSTANTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bytes_per_code", 8),
        ("bytes_per_key", 24),
        ("block_bytes", 2 * 32_768 * 104),  # 16 of a query, 8 of its number, 80 of the answer
        ("shards", 25),
        ("keys_per_shard", 4_000),
        ("code_bytes", 800_000),
        ("key_bytes", 2_400_000),
        ("driver_bytes", 9_600_000),
        ("lists", 128),
        ("probes", 5),
        ("offer_bytes", 2 * 32_768 * 12 * 30),
        ("exact_scoring", 5e10),  # 10¹⁰ · (3 + 4 · ½)
        ("exact_reranking", 1.6e8),  # 2.5·10⁶ · 64 · 1
        ("making_lists", 25 * (4_000 * 128 + 200 * 128**2) * 5.0),
        ("choosing_lists", 1.6e9),  # 2.5·10⁶ · 128 · 5
        ("scoring_lists", 1.5625e9),  # 2.5·10⁶ · 156.25 · (2 + 2)
        ("inverted_reranking", 2.5e6 * 19),
        ("merging", 1.75e8),  # 2.5·10⁶ · 10 · 7
        ("pairs", 2_000_000),
        ("reducing", 2.2e7),
        ("key_traffic", 1_600_000),
        ("query_traffic", 60_000_000),  # 2.5·10⁶ · 24
        ("list_traffic", 200_000_000),
        ("pair_traffic", 40_000_000),
        ("traffic", 301_600_000),
        ("exact", 5e10 + 1.6e8 + 1.75e8 + 2.2e7),
        ("inverted", 18_944_000 * 25 + 1.6e9 + 1.5625e9 + 47_500_000.0 + 1.75e8 + 2.2e7),
    ],
)
def test_formula(name, value):
    assert getattr(plan(), name) == pytest.approx(value, rel=1e-12)


def test_shards_are_as_many_as_memory_asks_for_or_cores():
    memory = (2 * 32_768 * 104 + 100 * 24) / GIB
    assert (plan(memory_per_worker=memory).shards, plan(memory_per_worker=memory).keys_per_shard) == (
        1000,
        100,
    )
    assert plan(memory_per_worker=memory, cores=1001).shards == 1001
    assert plan(cores=1, memory_per_worker=64.0).shards == 1
    assert plan(documents=30, cores=1000).shards == 30
    with pytest.raises(
        ConfigError, match=r"memory_per_worker = 0.001 is out of range: expected at least 0.006"
    ):
        plan(memory_per_worker=0.001)


def test_few_keys_are_all_candidates():
    small = plan(documents=20, cores=10)  # 10 shards of 2 keys, in as many lists
    assert (small.lists, small.probes) == (2, 2)
    assert small.exact_reranking == 20 * 10 * 2
    assert small.inverted_reranking == 20 * 10 * 2
    assert small.list_traffic == 20 * 10 * 2 * 8


@pytest.mark.parametrize(
    "changes",
    [
        {"documents": 1},
        {"dimension": 0},
        {"k": 0},
        {"k": 100_000},
        {"cores": 0},
        {"memory_per_worker": 0.0},
        {"memory_per_worker": float("inf")},
        {"memory_per_worker": float("nan")},
    ],
)
def test_workloads_out_of_range_are_named(changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} = "):
        dataclasses.replace(FEW, **changes)


def test_the_machine_is_measured():
    measured = measure_constants(3, keys=1024)
    seconds = [getattr(measured, name) for name in ("reranked", "merged", "reduced")]
    assert all(1e-12 < second < 1e-4 for second in seconds)
    assert 0 <= measured.multiplied < 1e-6
    assert 0 < measured.selected + 1024 * measured.multiplied < 1e-4
    assert measured.probes == MEASURED.probes


def test_lists_asked_of_tight_groups():
    """64 tight groups far from each other: the nearest list has all neighbours."""
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(64, 32)), 64, axis=0)
    groups = unit_rows(centres + 0.01 * generator.normal(size=centres.shape))
    found = measure_lists(groups, 5)
    assert found.probes == 1
    assert dataclasses.replace(found, probes=MEASURED.probes) == MEASURED
    assert 30 < measure_lists(groups, 3000).probes < 64


def test_lists_asked_are_those_of_the_search_itself():
    noise = unit_rows(np.random.default_rng(1).normal(size=(4096, 32)))
    codes = quantise(noise)
    lists, rows = make_lists(noise, codes, number_of_lists(len(noise))), audited_rows(len(noise))
    ids, similarities = exact_neighbours(noise, 5, rows)
    audit = Audit(rows=rows, ids=ids, similarities=similarities)
    found = measure_lists(noise, 5)
    assert abs(found.probes - probes_needed(lists, codes, audit, 0.95)) <= 1
