"""The formulas of a search's cost against the products that the searches really make."""

import dataclasses

import numpy as np
import pytest
import torch

from sbp_bayes.pairing.join.join import Join
from sbp_bayes.pairing.neighbours import find_neighbours
from sbp_bayes.pairing.search.cost import search_flops


def unit_vectors(number: int, dimension: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(20, dimension))
    return (centres[generator.integers(20, size=number)] + generator.normal(size=(number, dimension))).astype(
        np.float32
    )


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of products of two vectors in 8 bits that each matrix product makes."""
    made: list[int] = []
    multiply = torch._int_mm

    def counted(queries: torch.Tensor, keys: torch.Tensor, **out: torch.Tensor) -> torch.Tensor:
        made.append(len(queries) * keys.shape[1])
        return multiply(queries, keys, **out)

    monkeypatch.setattr(torch, "_int_mm", counted)
    return made


@pytest.mark.parametrize("shards", [1, 3])
def test_exact_search(products: list[int], shards: int) -> None:
    _, report = find_neighbours(unit_vectors(600, 16), 5, "exact", join=Join(num_shards=shards))
    ranked = 600 * shards * (4 * 5 + 24)
    assert search_flops(report, 600, 16, 5) == 2 * 16 * (600 * 600 + ranked)
    assert sum(products) == pytest.approx(600 * 600, rel=0.1)


@pytest.mark.parametrize("shards", [1, 2])
def test_search_by_lists(products: list[int], shards: int) -> None:
    _, report = find_neighbours(unit_vectors(6000, 16), 5, "inverted", join=Join(num_shards=shards))
    flops = search_flops(report, 6000, 16, 5)
    ranked = 6000 * shards * (5 + 2 + 4)
    assert flops / (2 * 16) - ranked == pytest.approx(sum(products), rel=0.15)
    assert flops < search_flops(dataclasses.replace(report, backend="exact"), 6000, 16, 5)


def test_search_by_a_graph_grows_with_effort_and_hardly_with_rows() -> None:
    _, report = find_neighbours(unit_vectors(600, 16), 5, "hnsw")
    bound = search_flops(report, 600, 16, 5)
    assert search_flops(dataclasses.replace(report, effort=2 * report.effort), 600, 16, 5) > bound
    assert search_flops(report, 600_000, 16, 5) < 1001 * bound
