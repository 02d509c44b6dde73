"""Claims: verdicts from planted numbers, runs that are found or missing, and the table that is kept."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from experiments.claims.__main__ import main, markdown
from experiments.claims.evidence import Evidence, collect
from experiments.claims.judge import NOTHING, _no_gain, _phases, judge
from experiments.claims.predictor import (
    chance_of,
    explained,
    features,
    predict_settings,
    predict_worlds,
)
from experiments.claims.verdict import above_zero, correct, holm, within_margin
from experiments.toy_validation.worlds import toy_config
from sbp_bayes.base.config import encode

SEEDS = (0, 1, 2, 3, 4)
JITTER = np.array([-2, -1, 0, 1, 2]) * 3e-4


def results(arm: str, excess: float, synthesizer: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """One arm's results, whose excess differs by a thousandth from seed to seed."""
    return [
        {
            "arm": arm,
            "seed": seed,
            "losses": {"best_validation": 1.0 + excess + jitter, "last": 2.0},
            "bayes": 1.0,
            "synthesizer": None if synthesizer is None else {k: v + jitter for k, v in synthesizer.items()},
        }
        for seed, jitter in zip(SEEDS, JITTER * (1 if arm == "baseline" else -1), strict=True)
    ]


def measures(floor: float, loss: float, marginal: float, carried: float) -> dict[str, float]:
    kl = {"kl": loss - floor, "kl_error": 0.01}
    return {
        "floor": floor,
        "loss": loss,
        "marginal": marginal,
        **kl,
        "carried": carried,
        "exact_carried": 0.9,
    }


def record(world: str, arms: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(result["arm"] for result in arms))
    config = encode(toy_config(world, arms=tuple(names)))
    return {"config": config, "config_fingerprint": "f", "results": arms}


def evidence(**changes: Any) -> Evidence:
    rich = [
        *results("baseline", 0.5),
        *results("tuned_baseline", 0.45),
        *results("self_distillation", 0.4),
        *results("random_pairs", 0.4, measures(1.0, 1.3, 1.4, 0.1)),
        *results("sbp", changes.get("sbp", 0.3), changes.get("measures", measures(1.0, 1.1, 1.4, 0.88))),
    ]
    poor = [*results("baseline", 0.2), *results("sbp", 0.19, measures(1.0, 1.01, 1.02, 0.5))]
    other = [*results("baseline", 0.2), *results("sbp", 0.18, measures(1.0, 1.01, 1.02, 0.5))]
    uniform = [*results("baseline", 0.0), *results("sbp", changes.get("uniform", 0.0))]
    cells = [
        {
            "world": "fact_views",
            "information": 0.1 * i,
            "repetitions": 2.0**i,
            "documents_per_concept": 2**i,
            "learned": [0.1 * i + seed for seed in (-0.01, 0.0, 0.01)],
            "gain": 0.1 * i - 0.15,
            "gain_half_width": 0.01,
        }
        for i in range(6)
    ]
    rounds = [
        {
            "seed": s,
            "round": r,
            "total_variation": 0.1 * r + 0.01 * s,
            "lineage": 0.9 - 0.1 * r,
            "excess": 0.3,
        }
        for s in SEEDS
        for r in range(4)
    ]
    return Evidence(
        validations={
            "fact_views": record("fact_views", rich),
            "mess3_mixture": record("mess3_mixture", poor),
            "hmm_mixture": record("hmm_mixture", other),
            "uniform": record("uniform", uniform),
        },
        phase_diagram={"cells": cells},
        rounds={"records": rounds, "config": {"num_rounds": 3, "toy": {"world": "fact_views"}}},
        sources=[],
    )


def verdicts(**changes: Any) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in judge(evidence(**changes))}


def test_planted_truths_are_supported() -> None:
    found = verdicts()
    assert set(found) == {
        "a1", "a2", "b1", "b2", "b3", "c", "d1", "d2", "d3", "d4", "e1", "e2",
        "f1", "f2", "g1", "g2", "g3", "h",
    }  # fmt: skip
    assert {name for name, verdict in found.items() if verdict != "supported"} == {"b2", "e2", "f2", "g3"}
    assert found["b2"] == "not refuted"


def test_planted_falsehoods_are_refuted() -> None:
    found = verdicts(sbp=0.6, measures=measures(1.0, 1.35, 1.4, 0.1), uniform=-0.1)
    for name in ("a2", "b1", "c", "d1", "d2", "d3", "d4", "e1"):
        assert found[name] == "refuted", name
    assert found["a1"] == "supported"


def test_a_loss_below_the_floor_is_noticed() -> None:
    assert verdicts(measures=measures(1.0, 0.9, 1.4, 0.88))["b2"] == "refuted"


def test_what_seeds_cannot_tell_is_undecided() -> None:
    assert verdicts(sbp=0.5)["d1"] == "undecided"


def test_a_setting_is_predicted_by_the_others_alone() -> None:
    given = evidence()
    generator = np.random.default_rng(0)
    cells = [
        cell | {"information": generator.uniform(0, 1), "gain": generator.normal()}
        for cell in given.phase_diagram["cells"]
    ]
    given = dataclasses.replace(given, phase_diagram={"cells": cells})
    for index, prediction in enumerate(predict_settings(given)):
        rest = [cell for cell in cells if cell is not cells[index]]
        design = [features(cell["information"], cell["repetitions"]) for cell in rest]
        fitted = np.linalg.lstsq(np.array(design), [cell["gain"] for cell in rest], rcond=None)[0]
        own = features(cells[index]["information"], cells[index]["repetitions"])
        assert prediction.predicted == pytest.approx(own @ fitted, rel=1e-8)


def test_a_formula_that_holds_is_found_here_and_elsewhere() -> None:
    def gain(information: float, repetitions: float) -> float:
        return float(features(information, repetitions) @ [0.1, 0.2, -0.3, 0.4])

    given, generator = evidence(), np.random.default_rng(0)
    cells = [cell | {"information": generator.uniform(0, 1)} for cell in given.phase_diagram["cells"]]
    cells = [cell | {"gain": gain(cell["information"], cell["repetitions"])} for cell in cells]
    given = dataclasses.replace(given, phase_diagram={"cells": cells})
    assert explained(predict_settings(given)) == pytest.approx(1.0)
    worlds = predict_worlds(given)
    assert {p.world for p in worlds} == {"mess3_mixture", "hmm_mixture"}
    for p in worlds:
        assert p.predicted == pytest.approx(gain(p.information, p.repetitions))
        assert p.gain == pytest.approx(given.gain(p.world).mean())
    assert worlds[0].repetitions == pytest.approx(400_000 / (10 * 40 * 25))
    assert explained([dataclasses.replace(p, predicted=-p.gain) for p in worlds]) < 0


def test_bars_in_a_claim_do_not_end_a_cell() -> None:
    header, rule, *rows, _, scope, note = markdown(judge(evidence()), ["fact_views"]).splitlines()
    assert note.endswith(" in fact_views.")
    assert "all 18 claims together" in scope
    assert any(r"H(d2\|d1)" in row for row in rows)
    for row in (header, rule, *rows):
        assert len(re.findall(r"(?<!\\)\|", row)) == 9


def write_run(runs: Path, run_id: str, status: str, excess: float) -> None:
    folder = runs / run_id
    folder.mkdir(parents=True)
    arms = [*results("baseline", 0.0), *results("sbp", excess, measures(1.0, 1.1, 1.4, 0.9))]
    (folder / "toy_validation.json").write_text(json.dumps(record("uniform", arms)))
    start = "2026-11-24T00:00:00"
    run = {
        "experiment": {"name": "toy_validation"},
        "status": status,
        "start_time": start,
        "stop_time": start,
    }
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "config.json").write_text("{}")


def test_the_newest_finished_run_of_a_world_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "1", "COMPLETED", 0.3)
    write_run(tmp_path / "runs", "2", "COMPLETED", 0.1)
    write_run(tmp_path / "runs", "3", "FAILED", 0.0)
    found = collect(tmp_path / "runs")
    assert found.excess("uniform", "sbp").mean() == pytest.approx(0.1)
    assert [source["run"] for source in found.sources] == ["2"]


def test_the_table_is_printed_and_kept_with_its_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_run(tmp_path / "runs", "1", "COMPLETED", 0.0)
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "claims.md").read_text() in printed
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sources"][0]["experiment"] == "toy_validation"
    assert {claim["name"] for claim in json.loads((tmp_path / "out" / "claims.json").read_text())} >= {
        "a1",
        "a2",
    }


def test_no_runs_is_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--runs", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "none" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 2
    assert "toy_validation" in capsys.readouterr().err


def test_holm_by_hand() -> None:
    """The smallest of four p-values times 4, the next times 3, never below one before it."""
    assert holm([0.03, 0.01, 0.5, 0.015]) == pytest.approx([0.06, 0.04, 0.5, 0.045])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_a_verdict_that_stands_alone_can_fall_among_many() -> None:
    values = np.array([0.9, 1.0, 1.1, 2.6, 3.0])
    claim = above_zero("x", "", "", values, evidence="w")
    assert claim.p_value == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue)
    assert correct([claim])[0].verdict == "supported"
    assert correct([claim] * 10)[0].verdict == "undecided"
    assert correct([above_zero("x", "", "", -values, evidence="w")])[0].verdict == "refuted"


@pytest.mark.parametrize(("mean", "tends"), [(0.0, "supported"), (0.07, "supported"), (0.13, "refuted")])
@pytest.mark.parametrize("sign", [-1, 1])
def test_alone_a_margin_decides_as_the_interval_does(mean: float, tends: str, sign: int) -> None:
    """p < 0.05 where the 95% interval lies inside the margin of 0.1, or outside, for any spread."""
    decided = set()
    for spread in np.linspace(0.001, 0.06, 40):
        values = sign * mean + spread * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
        claim = within_margin("x", "", "", values, margin=0.1, evidence="w")
        inside = claim.low > -0.1 and claim.high < 0.1
        outside = claim.low > 0.1 or claim.high < -0.1
        assert (claim.p_value < 0.05) == (inside or outside)
        decided.add(correct([claim])[0].verdict)
    assert decided == ({tends} if mean == 0 else {tends, "undecided"})


def test_settings_that_share_seeds_count_once() -> None:
    """Twenty copies of one setting say no more than the correction for twenty lets one say."""
    cell = evidence().phase_diagram["cells"][3]
    alone = dataclasses.replace(evidence(), phase_diagram={"cells": [cell]})
    copies = dataclasses.replace(evidence(), phase_diagram={"cells": [cell] * 20})
    p_values = [_phases(given)[0].p_value for given in (alone, copies)]
    assert p_values[1] == pytest.approx(20 * p_values[0])


def test_chance_of_a_prediction() -> None:
    """Gains that the formula makes are beyond chance; of gains at random p is uniform (z < 4 at 0.1)."""
    generator = np.random.default_rng(0)
    told = [
        {"information": i, "repetitions": r, "gain": float(features(i, r) @ [0.1, 0.2, -0.3, 0.4])}
        for i, r in zip(generator.uniform(0, 1, 12), generator.uniform(1, 50, 12), strict=True)
    ]
    assert chance_of(told) == 1 / 10000
    chances = [
        chance_of(
            [c | {"gain": g} for c, g in zip(told, generator.standard_exponential(12), strict=True)], 99
        )
        for _ in range(400)
    ]
    assert np.mean(np.array(chances) <= 0.1) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 400))


def test_a_prediction_elsewhere_has_an_r2_for_each_seed() -> None:
    given = evidence()
    found = next(claim for claim in judge(given) if claim.name == "f2")
    worlds = predict_worlds(given)
    gains_SW = np.array([[given.gain(p.world)[seed] for p in worlds] for seed in range(len(SEEDS))])
    r2_S = [
        explained([dataclasses.replace(p, gain=g) for p, g in zip(worlds, gains_W, strict=True)])
        for gains_W in gains_SW
    ]
    assert found.value == pytest.approx(np.mean(r2_S) - 0.5)
    assert found.p_value == pytest.approx(scipy.stats.ttest_1samp(r2_S, 0.5).pvalue)


def test_a_setting_is_tested_by_students_t_of_its_seeds() -> None:
    gains = np.array([0.1, 0.2, 0.25])
    test = scipy.stats.ttest_1samp(gains, 0, alternative="greater")
    half = gains.mean() - scipy.stats.ttest_1samp(gains, 0).confidence_interval().low
    cell = evidence().phase_diagram["cells"][3] | {"gain": gains.mean(), "gain_half_width": half}
    alone = _phases(dataclasses.replace(evidence(), phase_diagram={"cells": [cell]}))[0]
    assert alone.p_value == pytest.approx(test.pvalue)


def test_that_no_arm_gains_is_judged_by_the_arm_that_speaks_most_against_it() -> None:
    """All within: the largest p-value. One outside: its own, times the number of arms."""
    spread = 1e-3 * np.array([-1.0, 0.0, 1.0])
    gains = {"one": 0.001 + spread, "two": 0.003 + spread, "three": spread}
    claim = _no_gain(gains)
    assert "(two)" in claim.statistic
    assert claim.p_value == within_margin("", "", "", gains["two"], margin=NOTHING, evidence="").p_value
    claim = _no_gain(gains | {"two": 0.02 + spread})
    outside = within_margin("", "", "", 0.02 + spread, margin=NOTHING, evidence="").p_value
    assert (claim.tends, claim.p_value) == ("refuted", pytest.approx(3 * outside))


def test_the_lowest_of_many_synthesizers_is_corrected_for_their_number() -> None:
    """3 standard errors below the floor: by chance once in 741, and of 20 synthesizers once in 37."""
    claim = next(c for c in judge(evidence(measures=measures(1.0, 0.97, 1.4, 0.88))) if c.name == "b2")
    number = int(claim.evidence.split()[0])
    assert number > 1
    assert claim.p_value == pytest.approx(number * scipy.stats.norm.cdf(claim.value))


def test_a_prediction_that_explains_no_half_is_not_supported() -> None:
    given = evidence()
    cells = [c | {"gain": g} for c, g in zip(given.phase_diagram["cells"], (0, 1, 0, 1, 0, 1), strict=True)]
    found = {c.name: c for c in judge(dataclasses.replace(given, phase_diagram={"cells": cells}))}
    assert found["f1"].value < 0.5
    assert (found["f1"].p_value, found["f1"].verdict) == (1.0, "undecided")


def test_what_is_kept_is_judged_anew_to_the_same_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_run(tmp_path / "runs", "1", "COMPLETED", 0.0)
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert main(["--kept", "--out", str(tmp_path / "out")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first
    assert main(["--kept", "--out", str(tmp_path / "none")]) == 2
    assert "no numbers of toy_validation" in capsys.readouterr().err
