"""The numbers behind the figures: read, averaged and compared as the tables say."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_figures import style
from paper_figures.numbers import count, percent, plain, scientific, signed
from paper_figures.text_results import ReportedInterval, from_report, read_committed, read_newest_run
from sbp_bayes.results import ResultError


@pytest.fixture
def report():
    return json.loads(Path(__file__).with_name("sample_report.json").read_text(encoding="utf-8"))


def test_each_arm_is_compared_at_the_baselines_kind_of_checkpoint(report):
    for row in report["arms"]:
        if (row["arm"], row["checkpoint"]) == ("sbp", "last"):
            row["delta"]["value"] = -9.0
    results = from_report(report)
    assert results.comparison("last").deltas["sbp"].value == -9.0
    assert results.comparison("best").deltas["sbp"].value == -0.12
    assert results.comparison("best").baseline == ReportedInterval(3.441, 3.41, 3.474)
    assert results.comparison("last").baseline == ReportedInterval(3.476, 3.445, 3.509)


def test_an_undefined_share_is_none(report):
    for row in report["arms"]:
        row["share"] = None
    assert from_report(report).comparison("best").shares["sbp"] is None


def test_mean_curve_averages_seeds_on_the_first_ones_points(report):
    report["dynamics"] = [
        {"arm": arm, "seed": seed, "tokens": tokens, "validation_nats_per_token": losses}
        for arm in ("baseline", "tuned_baseline", "sbp", "oracle")
        for seed, (tokens, losses) in enumerate([([10, 20, 40], [5.0, 4.0, 3.0]), ([10, 40], [6.0, 3.0])])
    ]
    curve = from_report(report).mean_curve("sbp")
    np.testing.assert_allclose(curve.tokens, [10, 20, 40])
    np.testing.assert_allclose(curve.nats_per_token, [5.5, 4.5, 3.0], rtol=1e-12)


@pytest.mark.parametrize("part", ["arms", "dynamics", "budget", "best_control", "seeds"])
def test_a_missing_part_is_named(report, part):
    del report[part]
    with pytest.raises(ResultError, match=f"here: .*{part}"):
        from_report(report, "here")


@pytest.mark.parametrize(("arm", "part"), [("baseline", "arms"), ("sbp", "dynamics"), ("oracle", "dynamics")])
def test_a_reference_or_curve_that_is_missing_is_refused(report, arm, part):
    report[part] = [row for row in report[part] if row["arm"] != arm]
    with pytest.raises(ResultError, match="not the numbers"):
        from_report(report)


def test_any_arms_can_be_there(report):
    for part in ("arms", "dynamics"):
        report[part] = [row for row in report[part] if row["arm"] != "sbp"]
    best = from_report(report).comparison("best")
    assert (best.reference, list(best.losses), list(best.deltas)) == (
        "tuned_baseline",
        ["tuned_baseline", "oracle"],
        ["oracle"],
    )


def test_the_newest_finished_run_is_read(report, tmp_path):
    for number, name in enumerate(["9", "10", "2"]):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "report.json"
        path.write_text(json.dumps(report | {"config_name": f"config {name}"}), encoding="utf-8")
        os.utime(path, ns=(number, number))
    (tmp_path / "unfinished").mkdir()
    assert read_newest_run(tmp_path).config_name == "config 2"


def test_no_run_and_damaged_tables_are_named(tmp_path):
    with pytest.raises(ResultError, match="no finished run"):
        read_newest_run(tmp_path)
    (tmp_path / "dynamics.json").write_text("{", encoding="utf-8")
    with pytest.raises(ResultError, match=r"dynamics\.json"):
        read_committed(tmp_path)


def test_from_report_leaves_the_report_alone(report):
    before = copy.deepcopy(report)
    from_report(report).comparison("best")
    assert report == before


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8), st.floats(0.01, 50))
def test_spread_labels_keep_distance_order_and_centre(positions, gap):
    moved = style.spread(positions, gap)
    order = np.argsort(positions, kind="stable")
    assert (np.diff(moved[order]) >= gap * (1 - 1e-6)).all()
    assert np.mean(moved) == pytest.approx(np.mean(positions), abs=1e-6)


def test_labels_that_are_apart_stay():
    np.testing.assert_allclose(style.spread([3.0, 1.0, 2.0], 0.9), [3.0, 1.0, 2.0], rtol=1e-12)


def test_numbers_read_well():
    assert (signed(-0.1204), signed(0.5), signed(-0.0001)) == ("−0.120", "+0.500", "0.000")
    assert (plain(-1.5, 1), percent(0.3306), percent(-0.05)) == ("−1.5", "33%", "−5%")
    assert (count(6_291_456), count(314_573), count(2_500_000_000)) == ("6.29M", "314,573", "2.5B")
    assert (scientific(1.0305e13), scientific(0)) == ("1.03 × 10¹³", "0")
