"""The table of arms, and the one function that runs any row of it."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.toy_validation.bench import ToyBench, open_bench
from experiments.toy_validation.config import IN_WORLDS, ToyConfig
from sbp_bayes.arms import ARMS, MUTED, in_order, reference_of
from sbp_bayes.base.errors import ConfigError
from sbp_bayes.base.stage import Workspace
from sbp_bayes.comparison import ArmRun, ArmStages, run_arms
from sbp_bayes.corpus import Corpus
from sbp_bayes.evaluation import SCORES, DocumentScores
from sbp_bayes.lm import load_model, model_fingerprint, score_rows
from sbp_bayes.pretraining import pretrain
from sbp_bayes.synthesis import CORPUS, SeedDocuments, synthesize
from sbp_bayes.synthesizer import tune

TINY = ToyConfig(
    world="fact_views",
    parameters={"num_concepts": 6, "num_slots": 4, "num_values": 3, "num_stated": 2, "noise": 0.1},
    documents_per_concept=4,
    budget_tokens=2_400,
    oracle_multiple=3.0,
    num_test=30,
    num_validation=20,
    width=16,
    num_layers=1,
    context_length=32,
    rows_per_batch=4,
    num_validations=2,
    weight_decays=(1.0,),
    dropouts=(0.2,),
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def runs(work: Workspace) -> dict[tuple[str, int], ArmRun]:
    """Every arm that a world can have, two seeds each."""
    done = run_arms(functools.partial(open_bench, TINY), TINY.seeds, IN_WORLDS, work, num_workers=1)
    return {(run.arm, run.seed): run for run in done}


def test_names_are_the_keys_and_colours_are_of_one_arm_each() -> None:
    assert [arm.name for arm in ARMS.values()] == list(ARMS)
    own = [arm.colour for arm in ARMS.values() if arm.colour != MUTED]
    assert len(set(own)) == len(own)
    assert len({arm.label for arm in ARMS.values()}) == len(ARMS)
    assert in_order(["oracle", "sbp", "baseline", "sbp"]) == ("baseline", "sbp", "oracle")


def test_the_reference_is_tuned_where_it_was_and_where_arms_are_at_their_best() -> None:
    assert reference_of(["baseline", "tuned_baseline"], "best_validation") == "tuned_baseline"
    assert reference_of(["baseline", "tuned_baseline"], "last") == "baseline"
    assert reference_of(["baseline"], "best_validation") == "baseline"


def test_every_arm_runs_for_every_seed(runs: dict[tuple[str, int], ArmRun]) -> None:
    assert set(runs) == {(arm, seed) for arm in IN_WORLDS for seed in TINY.seeds}
    for run in runs.values():
        assert run.evaluations.keys() == {"best_validation", "last"}
        assert np.isfinite(run.scores["last"].nats_per_token)


def test_all_but_an_ensembles_members_see_equal_tokens(runs: dict[tuple[str, int], ArmRun]) -> None:
    seen = {arm: runs[arm, 0].tokens_seen("last") for arm in IN_WORLDS}
    assert len(set(seen.values()) - {seen["ensemble"]}) == 1
    sbp, ensemble = (runs[arm, 0].total_flops("last") for arm in ("sbp", "ensemble"))
    step = runs["ensemble", 0].trained.flops / runs["ensemble", 0].trained.counts["num_steps"]
    assert abs(sbp - ensemble) < 4 * step  # each of three members rounds its budget down to whole steps


def test_rows_change_what_they_say_and_nothing_else(runs: dict[tuple[str, int], ArmRun]) -> None:
    plain = runs["baseline", 0].trained.config
    share = {"synthetic_share": TINY.synthetic_share}
    changes = {
        "oracle": {},
        "packed_neighbours": {},
        "sbp": share,
        "random_pairs": share,
        "self_distillation": share,
        "from_scratch": share,
        "exact_posterior": share,
        "synthetic_first": share | {"order": "synthetic_first"},
    }
    for arm, change in changes.items():
        assert runs[arm, 0].trained.config == plain | change, arm
    inputs = {arm: runs[arm, 0].trained.inputs for arm in IN_WORLDS}
    for arm in ("sbp", "random_pairs", "from_scratch", "exact_posterior", "self_distillation"):
        assert inputs[arm]["real"] == inputs["baseline"]["real"] != inputs["oracle"]["real"]
    assert len({inputs[arm]["synthetic"] for arm in changes}) == len(changes) - 2  # two have none, two SBP's
    assert inputs["synthetic_first"]["synthetic"] == inputs["sbp"]["synthetic"]


def test_a_tuned_arm_takes_the_best_on_validation_of_its_tries(runs: dict[tuple[str, int], ArmRun]) -> None:
    for arm, tries in (("tuned_baseline", 2), ("dropout_baseline", 2), ("baseline", 1)):
        run = runs[arm, 1]
        losses = [one[0].counts["best_validation_nats_per_token"] for one in run.tries]
        assert len(losses) == tries
        assert run.validation_nats_per_token == min(losses)
        assert run.tries[0] == runs["baseline", 1].tries[0]
    rates = [one[0].config["dropout"] for one in runs["dropout_baseline", 0].tries]
    assert rates == [0.0, 0.2]
    flops = sum(one[0].flops for one in runs["tuned_baseline", 0].tries)
    assert runs["tuned_baseline", 0].total_flops("last") == flops


def test_every_arm_may_tune_with_the_same_tries(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, tune_every_arm=True, seeds=(0,))
    arms = ("baseline", "self_distillation", "oracle")
    done = run_arms(functools.partial(open_bench, config), (0,), arms, Workspace(tmp_path), num_workers=1)
    for run in done:
        tries = [one[0].config for one in run.tries]
        assert [one["optimiser"]["weight_decay"] for one in tries] == [
            TINY.weight_decay,
            1.0,
            TINY.weight_decay,
        ]
        assert [one["dropout"] for one in tries] == [0.0, 0.0, 0.2]


def test_synthesis_may_start_from_the_best_repetition(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, tuned_start=True, word_dropouts=(0.5,), seeds=(0,))
    arms = ("baseline", "tuned_baseline", "dropout_baseline", "self_distillation", "random_pairs")
    done = run_arms(functools.partial(open_bench, config), (0,), arms, Workspace(tmp_path), num_workers=2)
    runs = {run.arm: run for run in done}
    tries = [one[0] for arm in arms[:3] for one in runs[arm].tries]
    best = min(tries, key=lambda one: one.counts["best_validation_nats_per_token"])
    weights = model_fingerprint(best.directory / "best")
    assert runs["self_distillation"].needed[-1].inputs["model"] == weights
    tuned = runs["random_pairs"].companion
    assert tuned is not None
    assert tuned.tuned is not None
    assert tuned.gauge is not None
    assert tuned.tuned.inputs["model"] == tuned.gauge.inputs["start"] == weights
    tunings = [stage for stage in tuned.stages if "validation_pairs" in stage.counts]
    assert [one.config["word_dropout"] for one in tunings] == [0.0, 0.5]
    assert tuned.tuned == min(tunings, key=lambda one: one.counts["validation_nats_per_token"])
    # The tries that were not chosen are paid for as well.
    fingerprints = {stage.fingerprint for stage in runs["random_pairs"].needed}
    assert {one.fingerprint for one in tries} <= fingerprints
    assert len({one.fingerprint for one in tries}) == 3


def test_an_ensemble_averages_probabilities(runs: dict[tuple[str, int], ArmRun]) -> None:
    run, test = runs["ensemble", 0], ToyBench(TINY, 0).test
    assert len({m.config["seed"] for m in run.chosen}) == len(run.chosen) == 3
    models = [load_model(member.directory / "last") for member in run.chosen]
    document = torch.from_numpy(test.document(0))
    inputs = torch.cat([torch.zeros(1, dtype=torch.int64), document])
    targets = torch.cat([document, torch.zeros(1, dtype=torch.int64)])
    with torch.no_grad():
        probs_MTV = torch.stack([model(inputs[None])[0].double().softmax(dim=-1) for model in models])
    expected = -probs_MTV.mean(dim=0)[torch.arange(len(targets)), targets].log().sum().item()
    assert run.scores["last"].loss_nats[0] == pytest.approx(expected, rel=1e-6)
    row = (inputs.numpy(), targets.numpy(), np.zeros(len(inputs), np.int64))
    assert score_rows(models, [row])[0][0] == pytest.approx(expected, rel=1e-6)
    alone = [score_rows(model, [row])[0][0] for model in models]
    assert expected < np.mean(alone)  # Jensen


def test_a_second_call_finds_all_finished(runs: dict[tuple[str, int], ArmRun], work: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in work.root.glob("*/manifest.json")}
    again = run_arms(functools.partial(open_bench, TINY), TINY.seeds, IN_WORLDS, work, num_workers=1)
    assert again == list(runs.values())
    assert {path: path.stat().st_mtime_ns for path in work.root.glob("*/manifest.json")} == before


def test_workers_change_nothing(runs: dict[tuple[str, int], ArmRun], tmp_path: Path) -> None:
    opened = functools.partial(open_bench, TINY)
    done = run_arms(opened, (0,), ("sbp", "synthetic_first"), Workspace(tmp_path), num_workers=2)
    for run in done:
        for checkpoint, scores in run.scores.items():
            np.testing.assert_array_equal(scores.loss_nats, runs[run.arm, 0].scores[checkpoint].loss_nats)
    assert len(list(tmp_path.glob("tune-*"))) == 1


def test_the_row_sbp_is_algorithm_1(runs: dict[tuple[str, int], ArmRun], work: Workspace) -> None:
    """The stages in the order of the paper, written out as in `sbp_bayes.pipeline`, are those of the row."""
    bench = ToyBench(TINY, 0)
    settings, tokenizer = bench.settings, bench.tokenizer
    baseline = pretrain(settings.pretrain, bench.unique, None, bench.validation, work, tokenizer=tokenizer)
    pairs = bench.pairs(None, lambda: baseline, work)
    best = baseline.directory / "best"
    held_out = pairs.validation_corpus, pairs.validation
    tuned = tune(settings.tune, best, bench.unique, pairs.train, *held_out, work, tokenizer=tokenizer)
    source = SeedDocuments(bench.unique)
    samples = synthesize(settings.synthesis, tuned.directory / "best", source, work, tokenizer=tokenizer)
    joint = dataclasses.replace(settings.pretrain, synthetic_share=settings.synthetic_share)
    synthetic = Corpus.load(samples.directory / CORPUS)
    joined = pretrain(joint, bench.unique, synthetic, bench.validation, work, tokenizer=tokenizer)
    row = runs["sbp", 0]
    assert row.needed == (baseline, tuned, samples)
    assert row.trained == joined


def test_what_a_bench_cannot_have_is_refused(work: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"arms = 'spb'.*did you mean 'sbp'"):
        run_arms(functools.partial(open_bench, TINY), (0,), ("spb",), work)
    with pytest.raises(ConfigError, match="pairs are of one concept"):
        ArmStages(ToyBench(TINY, 0), work).run(ARMS["sbp_minilm"])
    with pytest.raises(ConfigError, match="arms = 'sbp_minilm'"):
        dataclasses.replace(TINY, arms=("sbp_minilm",))


def test_scores_are_of_the_test_documents(runs: dict[tuple[str, int], ArmRun]) -> None:
    run = runs["oracle", 1]
    stage = run.evaluations["last"]
    read = DocumentScores.load(stage.directory / SCORES)
    assert read.corpus_fingerprint == ToyBench(TINY, 1).test.fingerprint
    assert run.unique_tokens == ToyBench(TINY, 1).oracle.num_tokens
