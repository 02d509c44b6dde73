"""Speed of the worlds' densities beside others' on the same work, float64, 2 threads: `make bench`.

Each group's table has the ratios; results of all roads are compared before they are timed. `peak_share` is
the share of what one product of 1024 × 1024 matrices reaches in the same run.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.testing import assert_close

from toy_worlds import make_world

NUM_DOCUMENTS = 1000
HMM = {
    "num_concepts": 64,
    "num_entities": 4,
    "num_properties": 4,
    "vocab_size": 64,
    "doc_length": 64,
    "noise": 0.1,
}
MARKOV = {"num_concepts": 10_000, "vocab_size": 32, "doc_length": 64}
EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def hmm() -> tuple[Any, Tensor]:
    return world_and_documents("hmm_mixture", HMM, NUM_DOCUMENTS)


@pytest.fixture(scope="module")
def markov() -> tuple[Any, Tensor]:
    return world_and_documents("markov_mixture", MARKOV, 256)


def world_and_documents(name: str, params: dict[str, Any], number: int) -> tuple[Any, Tensor]:
    world, source = make_world(name, **params), torch.Generator().manual_seed(0)
    return world, world.sample(world.sample_concept(number, source), source)


def seconds(work: Callable[[], Any], rounds: int = 5) -> float:
    """The best of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def matmul_peak() -> float:
    """Floating-point operations a second of a large float64 product."""
    a = torch.randn(1024, 1024, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return 2 * 1024**3 / seconds(lambda: a @ a)


def copy_peak() -> float:
    """Bytes a second that a copy of 256 MiB reads."""
    a = torch.zeros(2**25, dtype=torch.float64)
    return 8 * len(a) / seconds(a.clone)


@pytest.mark.benchmark(group="log P(d | c): 64 HMMs, 16 states, 64 symbols, 1,000 documents of 64 tokens")
class TestHiddenMarkov:
    def test_hmm_here(self, benchmark: BenchmarkFixture, hmm: tuple[Any, Tensor]) -> None:
        world, d = hmm
        benchmark.pedantic(world.log_likelihood, args=(d,), rounds=5, warmup_rounds=1)
        operations = 2 * 64 * NUM_DOCUMENTS * 63 * 16**2
        speed = operations / benchmark.stats.stats.min
        benchmark.extra_info.update(gflops=speed / 1e9, peak_share=speed / matmul_peak())

    def test_hmm_hmmlearn(self, benchmark: BenchmarkFixture, hmm: tuple[Any, Tensor]) -> None:
        """hmmlearn's `score` for every model and document, in a loop."""
        categorical = pytest.importorskip("hmmlearn.hmm").CategoricalHMM
        world, d = hmm
        models = []
        for transition_HH in world.models.transition_CHH:
            model = categorical(n_components=16, implementation="scaling")
            model.n_features = 64
            model.startprob_ = world.models.initial_CH[0].numpy()
            model.transmat_ = transition_HH.numpy()
            model.emissionprob_ = world.models.emission_CVH[0].T.numpy()
            models.append(model)
        documents = [row[:, None] for row in d.numpy()]

        def score() -> np.ndarray:
            return np.array([[model.score(row) for model in models] for row in documents])

        log_likelihood = benchmark.pedantic(score, rounds=1)
        assert_close(torch.from_numpy(log_likelihood), world.log_likelihood(d), **EXACT)

    def test_hmm_pyro(self, benchmark: BenchmarkFixture, hmm: tuple[Any, Tensor]) -> None:
        """Pyro's DiscreteHMM, a model at a time: all at once would take 8 GB and more.

        It moves before it emits; the world's uniform first state is stationary, so nothing changes.
        """
        from pyro.distributions import Categorical, DiscreteHMM

        world, d = hmm
        observation = Categorical(probs=world.models.emission_CVH[0].T)
        initial = world.models.initial_CH[0].log()
        models = [DiscreteHMM(initial, a.log(), observation) for a in world.models.transition_CHH]

        def score() -> Tensor:
            return torch.stack([model.log_prob(d) for model in models], dim=1)

        log_likelihood = benchmark.pedantic(score, rounds=1)
        assert_close(log_likelihood, world.log_likelihood(d), **EXACT)


@pytest.mark.benchmark(group="Markov mixture of 10,000 concepts, 32 tokens, 256 documents of 64 tokens")
class TestMarkov:
    def test_markov_pair(self, benchmark: BenchmarkFixture, markov: tuple[Any, Tensor]) -> None:
        world, d = markov
        benchmark.pedantic(world.log_prob_pair, args=(d, d.flip(0)), rounds=3, warmup_rounds=1)

    def test_markov_posterior(self, benchmark: BenchmarkFixture, markov: tuple[Any, Tensor]) -> None:
        world, d = markov
        benchmark.pedantic(world.posterior, args=(d,), rounds=3, warmup_rounds=1)
        speed = 8 * d.numel() * world.num_concepts / benchmark.stats.stats.min
        benchmark.extra_info.update(gb_per_second=speed / 1e9, copy_share=speed / copy_peak())

    def test_markov_posterior_by_dense_counts(
        self, benchmark: BenchmarkFixture, markov: tuple[Any, Tensor]
    ) -> None:
        """The same by a dense product of counts (documents, transitions) and the table."""
        world, d = markov
        rows_NT = world._rows(d)

        def posterior() -> Tensor:
            counts_NR = torch.zeros(len(d), len(world.log_table_RK), dtype=torch.float64)
            counts_NR.scatter_add_(1, rows_NT, torch.ones(d.shape, dtype=torch.float64))
            return (counts_NR @ world.log_table_RK).log_softmax(dim=1)

        assert_close(benchmark.pedantic(posterior, rounds=3, warmup_rounds=1), world.posterior(d), **EXACT)
