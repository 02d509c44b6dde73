"""A seed is a function of its path, the same on every machine, whatever else has been drawn."""

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbp_bayes.base.seeds import derive_seed, numpy_generator, torch_generator

paths = st.lists(
    st.integers() | st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x1f")), max_size=4
)


def test_the_seed_of_a_path_never_changes():
    assert derive_seed(0, "synthesis", "shard_0.jsonl:12", 3) == 8127172808829533254
    assert numpy_generator(0, "order", 1).integers(1 << 32) == 536882682


@given(st.integers(), paths, st.integers(), paths)
def test_seeds_differ_unless_root_and_path_are_equal(root, path, other_root, other_path):
    seed = derive_seed(root, *path)
    assert 0 <= seed < 1 << 63
    equal = (root, path) == (other_root, other_path)
    assert (seed == derive_seed(other_root, *other_path)) == equal


def test_numbers_and_text_and_splits_of_text_are_told_apart():
    seeds = {
        derive_seed(0, 1),
        derive_seed(0, "1"),
        derive_seed(0, "a", "bc"),
        derive_seed(0, "ab", "c"),
        derive_seed(1),
    }
    assert len(seeds) == 5


def test_generators_ignore_and_leave_the_global_ones():
    states = [str(random.getstate()), str(np.random.get_state()), torch.get_rng_state().tolist()]
    draws = [
        (numpy_generator(5, "x").random(), torch.rand(1, generator=torch_generator(5, "x")).item())
        for _ in range(2)
    ]
    assert draws[0] == draws[1]
    assert states == [str(random.getstate()), str(np.random.get_state()), torch.get_rng_state().tolist()]


def test_streams_of_neighbouring_paths_are_independent():
    draws = np.stack([numpy_generator(0, "sample", i).standard_normal(1000) for i in range(20)])
    correlation = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(1000)  # z-bound of 5 for 190 pairs
