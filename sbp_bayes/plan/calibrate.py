"""The constants of a plan: those that were measured, and how to measure them anew."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from sbp_bayes.base.seeds import numpy_generator
from sbp_bayes.base.workers import one_thread
from sbp_bayes.pairing.join.salted import most_similar
from sbp_bayes.pairing.join.shard import merge
from sbp_bayes.pairing.neighbours import unit_rows
from sbp_bayes.pairing.records import Edges
from sbp_bayes.pairing.search.audit import Audit, audited_rows
from sbp_bayes.pairing.search.exact import ExactKeys, num_candidates
from sbp_bayes.pairing.search.lists import make_lists, number_of_lists, probes_needed
from sbp_bayes.pairing.search.quantise import quantise
from sbp_bayes.pairing.search.scan import QUERIES_AT_ONCE, best_keys, keys_above, pack_products
from sbp_bayes.plan.pairing import Constants

KEYS, NARROW, WIDE = 1 << 16, 128, 1024
REPEATS = 5
SHARDS_MERGED, PAIRS_REDUCED = 64, 1 << 20
RECALL = 0.95

MEASURED = Constants(
    selected=3.13e-9,
    compared=3.68e-10,
    multiplied=2.43e-12,
    reranked=3.17e-10,
    merged=4.14e-9,
    reduced=2.63e-7,
    probes=30,
)
SECONDS_MEASURED = "on one core of an AMD EPYC (AVX-512), k = 200; --measure does it here"
LISTS_MEASURED = "on 112,474 passages of the packaged corpora, k = 200; --corpus does it"
"""Where `MEASURED` comes from. For 20,000 of the passages p was 72: it didn't grow with the number of
keys, and is high for shards of millions.
"""


def measure_constants(k: int, base: Constants = MEASURED, *, keys: int = KEYS) -> Constants:
    """Return `base` with the seconds of this machine, measured on one core within seconds.

    Args:
        k: neighbours of the plan: more candidates take longer to select.
        base: has p, which `measure_lists` measures.
        keys: random vectors that are scored.
    """
    with one_thread():
        narrow, wide = (_comparing(width, keys) for width in (NARROW, WIDE))
        multiplied = max(0.0, (wide - narrow) / (WIDE - NARROW))
        return dataclasses.replace(
            base,
            selected=max(0.0, _selecting(k, keys) - WIDE * multiplied),
            compared=max(0.0, narrow - NARROW * multiplied),
            multiplied=multiplied,
            reranked=_reranking(k, keys) / WIDE,
            merged=_merging(k),
            reduced=_reducing(k),
        )


def measure_lists(unit: np.ndarray, k: int, base: Constants = MEASURED) -> Constants:
    """Return `base` with p of an inverted file, by up to 500 of its rows.

    Args:
        unit: unit rows, float32 (N, D).
        k: below N.
        base: has the seconds.
    """
    codes = quantise(unit)
    lists = make_lists(unit, codes, number_of_lists(len(unit)))
    audit = Audit.of(ExactKeys(unit, codes), k, audited_rows(len(unit)))
    return dataclasses.replace(base, probes=probes_needed(lists, codes, audit, RECALL))


def _selecting(k: int, keys: int) -> float:
    """Seconds a key and query at the wide width, the candidates of exact search kept."""
    codes = quantise(_random_rows(keys, WIDE))
    queries_QD = codes.codes[:QUERIES_AT_ONCE]
    count = min(num_candidates(k), keys)
    return _seconds(lambda: best_keys(queries_QD, codes, count)) / (len(queries_QD) * keys)


def _comparing(width: int, keys: int) -> float:
    """Seconds a key and query whose score is below a threshold, as nearly all are."""
    codes = quantise(_random_rows(keys, width))
    queries_QD = codes.codes[:QUERIES_AT_ONCE]
    beyond = np.full(len(queries_QD), np.inf, np.float32)
    return _seconds(lambda: keys_above(queries_QD, codes, beyond)) / (len(queries_QD) * keys)


def _reranking(k: int, keys: int) -> float:
    """Seconds a product of wide vectors, candidates anywhere."""
    unit, rows = torch.from_numpy(_random_rows(keys, WIDE)), np.arange(min(QUERIES_AT_ONCE, keys))
    count = min(num_candidates(k), keys)
    candidates = numpy_generator(0, "calibration").integers(keys, size=(len(rows), count))
    return _seconds(lambda: np.sort(pack_products(unit, rows, candidates), axis=1)) / candidates.size


def _merging(k: int) -> float:
    """Seconds an entry of lists that are merged."""
    generator = numpy_generator(0, "calibration")
    size = (SHARDS_MERGED, QUERIES_AT_ONCE, k)
    parts = list(np.sort(generator.integers(1 << 62, size=size), axis=2))
    return _seconds(lambda: merge(parts, k)) / (SHARDS_MERGED * QUERIES_AT_ONCE * k)


def _reducing(k: int) -> float:
    """Seconds a pair that is grouped by document and ordered."""
    generator = numpy_generator(0, "calibration")
    documents = max(1, PAIRS_REDUCED // (2 * k))
    first, second = generator.integers(documents, size=(2, PAIRS_REDUCED))
    edges = Edges(first=first, second=second, similarity=generator.random(PAIRS_REDUCED, np.float32))
    return _seconds(lambda: most_similar(edges, k)) / PAIRS_REDUCED


def _random_rows(number: int, width: int) -> np.ndarray:
    return unit_rows(numpy_generator(0, "calibration").normal(size=(number, width)))


def _seconds(work: Callable[[], object]) -> float:
    """Return the least time of several: what other programs take is none of the work's."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
