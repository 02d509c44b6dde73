"""`sbp plan pairing`: what it prints, and what it refuses."""

from functools import partial

import pytest

from sbp_bayes.cli.plan import _bytes, _hours
from sbp_bayes.plan.calibrate import MEASURED, measure_constants
from sbp_bayes.plan.pairing import PairingPlan, Workload


def test_plan_at_the_paper_s_scale(sbp):
    printed = sbp("plan", "pairing", "--documents", "582e6")
    plan = PairingPlan(work=Workload(documents=582_000_000), constants=MEASURED)
    lines = [line.split("  ") for line in printed.splitlines()]
    lines = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["codes, which are searched", "598 GB", "N · (D + 4)"] in lines
    assert ["scoring in 8 bits", _hours(plan.exact_scoring), "N² · (a + b·D)"] in lines
    assert ["queries to every shard", "2.39 PB", "N · S · (4·D + 8)"] in lines
    assert ["all", _bytes(plan.traffic)] in lines
    assert ["pairing", "155M CPU hours; what is counted in them isn't said", "talk"] in lines
    assert max(map(len, printed.splitlines())) <= 100


def test_plan_by_what_is_measured_now(sbp, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("sbp_bayes.cli.plan.measure_constants", partial(measure_constants, keys=1024))
    sbp("corpus", texts, "--vocab-size", 300, "--out", tmp_path / "corpus")
    work = ("--documents", 1e6, "--dimension", 64, "-k", 3, "--cores", 8, "--memory-per-worker", 2)
    printed = sbp("plan", "pairing", *work, "--measure", "--corpus", tmp_path / "corpus")
    assert "N = 1,000,000 documents of D = 64 dimensions, k = 3, on 8 cores" in printed
    assert "measured now, on one core of this machine" in printed
    assert f"measured on passages of {tmp_path / 'corpus'}" in printed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--documents", "582.5"], "argument --documents: invalid whole number value: '582.5'"),
        (["--documents", "inf"], "argument --documents: invalid whole number value: 'inf'"),
        (["--documents", "1"], "documents = 1 is out of range: expected at least 2"),
        (["--documents", "1000", "--memory-per-worker", "-1"], "memory_per_worker = -1.0 is out of range"),
        (["--documents", "100", "-k", "5", "--corpus", "absent"], "absent: no such file or folder"),
        ([], "the following arguments are required: --documents"),
    ],
)
def test_mistakes_are_one_line(arguments, line, mistake):
    assert mistake("plan", "pairing", *arguments).startswith(line)


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (598.4e9, "598 GB"), (2e18, "2,000 PB")],
)
def test_bytes(number, written):
    assert _bytes(number) == written


@pytest.mark.parametrize(
    ("hours", "written"), [(0.1234, "0.123 h"), (46_432, "46,400 h"), (18.1, "18.1 h"), (1.554e8, "155M h")]
)
def test_hours(hours, written):
    assert _hours(3600 * hours) == written
