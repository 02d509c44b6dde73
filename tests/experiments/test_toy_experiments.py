"""The phase diagram and the rounds of bootstrapping, at their smallest, and the measure of drift."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.toy_phase_diagram import PhaseConfig, run_grid
from experiments.toy_rounds import RoundsConfig, drift, run_rounds
from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.data import corpus_of, world_tokenizer
from sbp_bayes.base.errors import ConfigError, CorpusError
from sbp_bayes.base.stage import Workspace
from toy_worlds import make_world

TINY = ToyConfig(
    world="unigram_mixture",
    parameters={"num_concepts": 4, "vocab_size": 6, "doc_length": 8},
    documents_per_concept=4,
    budget_tokens=1_200,
    oracle_multiple=3.0,
    num_test=50,
    num_validation=20,
    width=16,
    num_layers=1,
    context_length=32,
    rows_per_batch=4,
    num_validations=2,
    arms=("baseline", "sbp", "oracle"),
    seeds=(0, 1),
)


def test_every_cell_of_the_grid_says_what_was_known_and_what_was_gained(tmp_path: Path) -> None:
    config = PhaseConfig(toy=TINY, num_concepts=(2, 4), documents_per_concept=(3,))
    cells = run_grid(config, Workspace(tmp_path), num_workers=1)
    assert [(c["num_concepts"], c["documents_per_concept"]) for c in cells] == [(2, 3), (4, 3)]
    assert [c["unique_documents"] for c in cells] == [6, 12]
    for c in cells:
        assert 0 < c["information"] < np.log(c["num_concepts"]) / 8 + 1e-9  # I(d1; d2) ≤ H(c)
        assert c["synthesizer_kl"] > 0
        assert [share < 1 for share in c["learned"]] == [True, True]
        assert c["gain_half_width"] > 0
        assert c["flops"]["sbp"] > 2 * c["flops"]["baseline"] == 2 * c["flops"]["oracle"] > 0


def test_rounds_follow_one_another(tmp_path: Path) -> None:
    config = RoundsConfig(toy=dataclasses.replace(TINY, arms=("baseline", "sbp")), num_rounds=2)
    records = run_rounds(config, Workspace(tmp_path), num_workers=1)
    assert [(r["seed"], r["round"]) for r in records] == [(s, r) for s in (0, 1) for r in (0, 1, 2)]
    flops = [r["flops"] for r in records[:3]]  # each round's trainings and samples join those before
    assert min(np.diff(flops)) > flops[0]
    for r in records[1:3]:
        assert 0 <= r["total_variation"] <= 1
        assert 0 <= r["lineage"] <= 1
        assert r["entropy"] <= np.log(4) + 1e-9
    assert run_rounds(config, Workspace(tmp_path), num_workers=1) == records


def drift_of(concepts: torch.Tensor, lineage: np.ndarray) -> dict[str, float]:
    """The drift of exact samples about `concepts` in a world that tells concepts apart."""
    world = make_world("unigram_mixture", num_concepts=4, vocab_size=32, doc_length=64, concentration=0.05)
    documents = world.sample(concepts, torch.Generator().manual_seed(0))
    return drift(world, corpus_of(documents, "exact", world_tokenizer(32)), lineage)


def test_drift_is_noise_for_exact_samples_and_whole_for_a_collapse() -> None:
    even = torch.arange(4000) % 4
    exact = drift_of(even, even.numpy())
    assert exact["total_variation"] < 2 * exact["noise"] < 0.05
    assert exact["lineage"] > 0.99
    assert exact["entropy"] == pytest.approx(np.log(4), abs=0.01)
    collapsed = drift_of(torch.zeros(400, dtype=torch.int64), even[:400].numpy())
    assert collapsed["total_variation"] == pytest.approx(0.75, abs=0.01)
    assert collapsed["lineage"] == pytest.approx(0.25, abs=0.01)
    assert collapsed["entropy"] < 0.05


def test_a_continuous_concept_has_no_drift_here(tmp_path: Path) -> None:
    toy = dataclasses.replace(TINY, world="dirichlet_unigram", parameters={"vocab_size": 4, "doc_length": 4})
    with pytest.raises(ConfigError, match="finitely many"):
        run_rounds(RoundsConfig(toy=toy), Workspace(tmp_path), num_workers=1)


def test_no_sample_that_a_concept_can_produce_is_said() -> None:
    world = make_world("fact_views", noise=0.0)
    short = torch.zeros(3, world.doc_length - 1, dtype=torch.int64)
    impossible = torch.zeros(3, world.doc_length, dtype=torch.int64)
    for documents, why in ((short, "has the world's "), (impossible, "is one that a concept can produce")):
        corpus = corpus_of(documents, "samples", world_tokenizer(world.vocab_size))
        with pytest.raises(CorpusError, match=f"none of 3 samples {why}"):
            drift(world, corpus, np.zeros(3, np.int64))
