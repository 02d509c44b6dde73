"""The sharded join beside the single index, and the load of reducers with planted hubs, on 2 threads.

SBP_BENCH=small tries the file on little work.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from side_by_side import IS_SMALL, Report, SideBySide, torch_threads

from sbp_bayes.pairing import Join, LocalEngine, find_neighbours
from sbp_bayes.pairing.join.salted import Balance, best_by_document
from sbp_bayes.pairing.records import Edges

ROWS, WIDTH, K = 1000 if IS_SMALL else 20_000, 384, 10
SHARDS = (2, 4, 8)
HUBS, REDUCERS = 3, (4, 16, 64)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


def clustered() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(200, WIDTH))
    return centres[generator.integers(200, size=ROWS)] + 0.6 * generator.normal(size=(ROWS, WIDTH))


def around_hubs() -> np.ndarray:
    """Rows with a cosine of about 0.7 to each of three hubs and of 0.5 to each other."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(ROWS, WIDTH))
    rows[:, 0] += WIDTH**0.5
    rows[:HUBS] = 0.01 * generator.normal(size=(HUBS, WIDTH))
    rows[:HUBS, 0] = 1
    return rows


@pytest.mark.benchmark(group=f"join of {ROWS:,} × {WIDTH} in one process, k = {K}")
def test_shards_beside_the_single_index(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture) -> None:
    rows, results = clustered(), {}

    def road(method: str, num_shards: int) -> Callable[[], float]:
        def run() -> float:
            found, _ = find_neighbours(rows, K, method, join=Join(num_shards=num_shards))
            results[method, num_shards] = found
            return float(ROWS)

        return run

    roads = SideBySide({f"{number} shards": road("exact", number) for number in (1, *SHARDS)})
    roads.run(benchmark, rounds=1 if IS_SMALL else 3)
    report = Report(benchmark, capsys)
    report.speeds(roads, "queries/s")
    for number in SHARDS:
        report.value(f"{number} shards' time", roads.ratio("1 shards", f"{number} shards"), "of one's")
        for one, other in zip(results["exact", 1], results["exact", number], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.benchmark(group=f"reducers' load, {ROWS:,} documents and {HUBS} hubs, k = {K}")
def test_balance_with_planted_hubs(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture) -> None:
    ids, similarities = find_neighbours(around_hubs(), K, "exact")[0]
    rows, others = np.repeat(np.arange(ROWS), K), ids.reshape(-1)
    pairs = np.minimum(rows, others) * ROWS + np.maximum(rows, others)
    once = np.unique(pairs, return_index=True)[1]
    half = Edges(first=rows[once], second=others[once], similarity=similarities.reshape(-1)[once])
    edges = Edges.joined([half, Edges(first=half.second, second=half.first, similarity=half.similarity)])
    degrees = np.sort(np.bincount(edges.first))[::-1]

    def group(num_reducers: int) -> tuple[Edges, Balance]:
        with LocalEngine().start() as session:
            return best_by_document(edges, K, session=session, num_reducers=num_reducers)

    plain, _ = group(1)
    report = Report(benchmark, capsys)
    report.say(f"  {len(edges):,} ordered pairs; most of one document: {degrees[: HUBS + 1].tolist()}")
    for number in REDUCERS:
        kept, balance = group(number)
        benchmark.extra_info[f"{number} reducers"] = [balance.largest_share, balance.largest_share_unsalted]
        report.say(
            f"  {number} reducers, fair share {1 / number:.4f}: largest {balance.largest_share:.4f}, "
            f"{balance.largest_share_unsalted:.4f} without salts"
        )
        np.testing.assert_array_equal(kept.second, plain.second)
    benchmark.pedantic(group, args=(REDUCERS[-1],), rounds=3)
