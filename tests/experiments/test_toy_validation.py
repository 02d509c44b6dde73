"""The toy validation: its data, the equality of its arms, and a world in which nothing can be gained."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from experiments import runner
from experiments.toy_validation.config import ToyConfig
from experiments.toy_validation.data import (
    concept_pairs,
    consecutive_pairs,
    make_data,
    world_tokens,
)
from experiments.toy_validation.run import ArmResult, run
from experiments.toy_validation.table import print_arms, summary
from experiments.toy_validation.worlds import WORLDS as SETTINGS
from experiments.toy_validation.worlds import decode_toy, open_settings, toy_config
from sbp_bayes.arms import ARMS
from sbp_bayes.base import stage
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.stage import Workspace
from toy_worlds import WORLDS

TINY = ToyConfig(
    world="fact_views",
    parameters={"num_concepts": 6, "num_slots": 4, "num_values": 3, "num_stated": 2, "noise": 0.1},
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
    weight_decays=(1.0,),
    dropouts=(0.1,),
    seeds=(0,),
)


def test_every_world_has_settings_that_make_it() -> None:
    assert set(SETTINGS) == set(WORLDS)
    for world in SETTINGS:
        config = toy_config(world, oracle_multiple=3.0, drawn_concepts=4, num_test=5, num_validation=3)
        data = make_data(config, seed=1)
        assert len(data.unique) == config.documents_per_concept * len(np.unique(data.unique_concepts))
        assert len(data.oracle) == 3 * len(data.unique)
        assert world_tokens(data.test).shape == (5, data.world.doc_length)


def test_data_are_a_function_of_the_seed() -> None:
    first, again, other = make_data(TINY, 0), make_data(TINY, 0), make_data(TINY, 1)
    for name in ("unique", "oracle", "validation", "test", "paired", "paired_test"):
        assert getattr(first, name).fingerprint == getattr(again, name).fingerprint
        assert getattr(first, name).fingerprint != getattr(other, name).fingerprint
    assert first.oracle.tokens[: len(first.unique.tokens)].tolist() == first.unique.tokens.tolist()


def test_text_and_tokens_say_the_same() -> None:
    data = make_data(TINY, 0)
    for index in range(3):
        tokens = data.unique.document(index)
        assert data.tokenizer.decode(tokens) == data.unique.texts[index]
        assert data.tokenizer.encode([data.unique.texts[index]])[0].tolist() == tokens.tolist()
        assert data.unique.texts[index].split() == [str(t) for t in world_tokens(data.unique)[index].tolist()]


def test_settings_are_those_of_the_world_that_is_named() -> None:
    settings = open_settings(toy_config("fact_views"))
    assert decode_toy(settings) == toy_config("fact_views")
    assert decode_toy(settings | {"world": "uniform", "width": 32}) == toy_config("uniform", width=32)
    settings["worlds"]["uniform"]["documents_per_concept"] = 3
    assert decode_toy(settings | {"world": "uniform"}).documents_per_concept == 3
    assert toy_config("uniform").documents_per_concept == 12
    with pytest.raises(ConfigError, match=r"world = 'nowhere': expected one of biographies, "):
        decode_toy(settings | {"world": "nowhere"})


def test_pairs_share_a_concept() -> None:
    data = make_data(TINY, 0)
    pairs = concept_pairs(data.unique, data.unique_concepts, 2, seed=0)
    assert len(pairs.first) == 2 * len(data.unique)
    assert (data.unique_concepts[pairs.first] == data.unique_concepts[pairs.second]).all()
    assert (pairs.first != pairs.second).all()
    held_out = consecutive_pairs(data.paired)
    assert held_out.first.tolist() == list(range(0, 40, 2))
    assert held_out.second.tolist() == list(range(1, 40, 2))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """All arms of a world of uniform tokens, on the floor of log 3 that nothing can go below."""
    config = dataclasses.replace(
        TINY, world="uniform", parameters={"num_concepts": 6, "vocab_size": 3, "doc_length": 4}
    )
    return summary(config, run(config, Workspace(tmp_path_factory.mktemp("work")), num_workers=1))


def test_arms_see_equal_tokens(record: dict) -> None:
    assert [arm["arm"] for arm in record["arms"]] == list(TINY.arms)
    assert len({arm["tokens_seen"] for arm in record["arms"] if arm["arm"] != "ensemble"}) == 1


def test_nothing_is_below_bayes_in_a_world_without_structure(record: dict) -> None:
    for result in record["results"]:
        assert result["bayes"] == pytest.approx(math.log(3), rel=1e-12)
        assert result["losses"]["best_validation"] >= result["bayes"] - 1e-9


def test_a_synthesizer_is_measured_where_there_is_one(record: dict) -> None:
    measured = {result["arm"] for result in record["results"] if result["synthesizer"]}
    assert measured == {name for name, arm in ARMS.items() if arm.has_synthesizer and arm.embedder is None}
    for result in record["results"]:
        if result["synthesizer"]:
            assert result["synthesizer"]["kl"] >= 0
            assert result["synthesizer"]["floor"] == pytest.approx(math.log(3), rel=1e-12)


def test_a_synthesizer_is_gauged_beside_the_information(record: dict, capsys: pytest.CaptureFixture) -> None:
    """In a world without structure d1 says nothing: what is below 0 was lost in tuning."""
    gauged = {r["arm"]: r["net_information"] for r in record["results"] if r["net_information"] is not None}
    assert set(gauged) == {r["arm"] for r in record["results"] if r["synthesizer"]}
    assert max(gauged.values()) < 0.05
    print_arms(record)
    printed = capsys.readouterr().out
    assert "I(d1; d2)" in printed
    assert f"{gauged['sbp']:.4f}" in printed


def test_an_arm_that_needs_the_baseline_pays_for_it(record: dict) -> None:
    flops = {arm["arm"]: arm["flops"] for arm in record["arms"]}
    assert flops["oracle"] == flops["baseline"] == flops["exact_posterior"]
    assert flops["sbp"] > 2 * flops["baseline"]
    assert flops["baseline"] < flops["from_scratch"] < flops["sbp"]
    assert flops["tuned_baseline"] == (1 + len(TINY.weight_decays)) * flops["baseline"]
    assert flops["self_distillation"] > 2 * flops["baseline"]
    assert flops["ensemble"] == pytest.approx(flops["sbp"], rel=0.2)  # to whole steps of few


def test_a_finished_run_is_taken_as_it_is(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, arms=("baseline", "sbp"))
    first = run(config, Workspace(tmp_path), num_workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")}
    assert run(config, Workspace(tmp_path), num_workers=1) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")} == before


def planted(losses: dict[str, list[float]]) -> dict:
    """The record of arms with these losses, one per seed, in a world whose Bayes-optimal loss is 1."""
    results = [
        ArmResult(
            arm=arm,
            seed=seed,
            losses={"best_validation": loss, "last": loss},
            bayes=1.0,
            flops=1.0,
            tokens_seen=1,
            synthesizer=None,
        )
        for arm, own in losses.items()
        for seed, loss in enumerate(own)
    ]
    seeds = tuple(range(len(losses["baseline"])))
    return summary(dataclasses.replace(TINY, arms=tuple(losses), seeds=seeds), results)


def test_intervals_are_students_over_seeds(capsys: pytest.CaptureFixture) -> None:
    baseline, sbp = np.array([2.0, 2.1, 2.3]), np.array([1.8, 1.95, 2.0])
    record = planted({"baseline": [*baseline], "sbp": [*sbp], "oracle": [1.2, 1.3, 1.4]})
    best = {arm["arm"]: arm["best_validation"] for arm in record["arms"]}
    expected = scipy.stats.ttest_1samp(baseline - sbp, 0).confidence_interval()
    assert [best["sbp"]["gain"][end] for end in ("low", "high")] == pytest.approx(list(expected))
    share = best["sbp"]["share"]
    assert share["low"] < share["mean"] < share["high"]
    assert share["mean"] == pytest.approx(0.65 / 2.5)
    print_arms(record)
    printed = capsys.readouterr().out
    assert "95% intervals over 3 seeds" in printed
    assert f"26% [{share['low']:.0%}, {share['high']:.0%}]" in printed


def test_a_share_of_no_certain_gain_is_undefined() -> None:
    record = planted({"baseline": [2.0, 2.1], "sbp": [1.8, 1.9], "oracle": [1.9, 2.2]})
    assert record["arms"][1]["best_validation"]["share"] is None


def test_one_seed_has_no_interval_and_says_so(capsys: pytest.CaptureFixture) -> None:
    record = planted({"baseline": [2.0], "sbp": [1.8], "oracle": [1.2]})
    best = record["arms"][1]["best_validation"]
    assert best["gain"] == {"mean": pytest.approx(0.2), "low": None, "high": None}
    assert best["share"] == {"mean": pytest.approx(0.25), "low": None, "high": None}
    print_arms(record)
    assert "one seed: no intervals" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"world": "nowhere"}, "nowhere"),
        ({"parameters": {"num_conceptz": 3}}, "num_conceptz"),
        ({"parameters": {"seed": 3}}, "seed"),
        ({"documents_per_concept": 1}, "documents_per_concept"),
        ({"synthetic_share": 1.0}, "synthetic_share"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        run(dataclasses.replace(TINY, **change), Workspace(tmp_path), num_workers=1)


def test_stages_of_other_code_are_run_anew_unless_they_are_accepted(tmp_path: Path, monkeypatch) -> None:
    config = dataclasses.replace(TINY, arms=("baseline",))

    def trainings() -> int:
        return len(list(tmp_path.glob("pretrain-*")))

    (first,) = run(config, Workspace(tmp_path), num_workers=1)
    monkeypatch.setattr(stage, "code_version", lambda *modules: "mended")
    (accepted,) = run(config, Workspace(tmp_path, accept_code=True), num_workers=1)
    assert (accepted, trainings()) == (first, 1)
    (anew,) = run(config, Workspace(tmp_path), num_workers=1)
    assert (anew, trainings()) == (first, 2)


def test_accepting_code_is_no_part_of_the_settings() -> None:
    recorded = {"world": "fact_views", "seed": 12, runner.ACCEPT_CODE: True}
    assert runner.settings_of(recorded) == {"world": "fact_views"}
    assert runner.workspace(recorded) == Workspace(Path("work"), accept_code=True)
