"""Past runs are read from Sacred's files: listed, shown, compared; silent ones count as killed."""

import dataclasses
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from sbp_bayes.base.errors import StoreError
from sbp_bayes.results import SCHEMA_VERSION, ResultError, ResultRow, write_results
from sbp_bayes.runs import config_differences, headline_losses, list_runs, mean_losses, read_run

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

EXPERIMENT = """
import os, sys, warnings
warnings.simplefilter("ignore")
from sacred import Experiment
from sacred.observers import FileStorageObserver
experiment = Experiment("text_sbp", save_git_info=False)
experiment.observers.append(FileStorageObserver(sys.argv[1]))
experiment.add_config(seed=0, model={"width": 64})
experiment.add_named_config("demo", seed=3)
@experiment.main
def main():
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
experiment.run(named_configs=["demo"], config_updates={"model": {"width": 32}})
"""


def row(arm: str, loss: float, **changes) -> ResultRow:
    values = {
        "experiment": "text_sbp",
        "run": "1",
        "arm": arm,
        "seed": 0,
        "split": "test",
        "checkpoint": "best_validation",
        "tokens_seen": 100,
        "unique_tokens": 10,
        "total_flops": 1e9,
        "loss_nats_per_token": loss,
        "bits_per_byte": None,
        "interval_low": None,
        "interval_high": None,
        "config_fingerprint": "f",
        "schema_version": SCHEMA_VERSION,
    }
    return ResultRow(**values | changes)


def write_run(
    directory, run_id, *, status="COMPLETED", config=None, rows=(), minutes=5.0, changes=None, code=None
):
    folder = directory / run_id
    folder.mkdir(parents=True)
    end = (START + timedelta(minutes=minutes)).replace(tzinfo=None).isoformat()
    record = {
        "experiment": {"name": "text_sbp"},
        "meta": {"named_configs": ["smoke"], "config_updates": changes or {}},
        "host": {"code": code} if code else {},
        "start_time": START.replace(tzinfo=None).isoformat(),
        "heartbeat": end,
        "status": status,
    }
    if status != "RUNNING":
        record["stop_time"] = end
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.json").write_text(json.dumps(config or {"seed": 0}))
    if rows:
        write_results(folder / "results.jsonl", rows)
    return folder


@pytest.mark.parametrize("death", ["die", "end"])
def test_a_run_that_sacred_wrote_is_read(tmp_path, death):
    script, runs = tmp_path / "experiment.py", tmp_path / "runs"
    script.write_text(EXPERIMENT)
    subprocess.run([sys.executable, script, runs, death], check=False, capture_output=True)
    now = datetime.now(UTC)
    (run,) = list_runs(runs, now=now)
    assert run.status == {"die": "running", "end": "completed"}[death]
    (later,) = list_runs(runs, now=now + timedelta(hours=1))
    assert later.status == {"die": "killed", "end": "completed"}[death]
    assert (run.id, run.experiment, run.named_configs) == ("1", "text_sbp", ("demo",))
    assert run.config == {"seed": 3, "model": {"width": 32}}
    assert run.changes == {"model.width": 32}
    assert abs(now - run.started) < timedelta(minutes=1)
    assert 0 <= run.seconds < 60


@pytest.fixture
def _far_from_greenwich(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XST+9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_far_from_greenwich")
def test_silence_tells_a_killed_run_from_a_running_one(tmp_path):
    write_run(tmp_path, "1", status="RUNNING", minutes=30)
    heartbeat = START + timedelta(minutes=30)
    assert read_run(tmp_path, "1", now=heartbeat + timedelta(minutes=1)).status == "running"
    killed = read_run(tmp_path, "1", now=heartbeat + timedelta(minutes=3))
    assert (killed.status, killed.seconds) == ("killed", 1800)


def test_runs_are_listed_in_the_order_of_their_numbers(tmp_path):
    for run_id in ("10", "2", "x", "1"):
        write_run(tmp_path, run_id)
    (tmp_path / "_sources").mkdir()
    assert [run.id for run in list_runs(tmp_path)] == ["1", "2", "10", "x"]


def test_one_damaged_run_does_not_hide_the_others(tmp_path):
    write_run(tmp_path, "1")
    whole = (write_run(tmp_path, "2") / "run.json").read_text()
    (tmp_path / "2" / "run.json").write_text(whole[:40])
    write_run(tmp_path, "3")
    (tmp_path / "3" / "results.jsonl").write_text("{}\n")
    assert [run.status for run in list_runs(tmp_path)] == ["completed", "damaged", "damaged"]
    with pytest.raises(StoreError, match=r"2/run\.json: damaged"):
        read_run(tmp_path, "2")
    with pytest.raises(ResultError, match=r"3/results\.jsonl:1: "):
        read_run(tmp_path, "3")


def test_losses_are_means_over_seeds_of_the_last_row_of_each():
    rows = [
        row("baseline", 3.0),
        row("baseline", 9.0, tokens_seen=50),
        row("baseline", 4.0, seed=1),
        row("sbp", 2.0),
        row("sbp", 1.0, checkpoint="last"),
        row("sbp", 0.5, split="validation"),
    ]
    assert [dataclasses.astuple(loss) for loss in mean_losses(rows)] == [
        ("test", "best_validation", "baseline", 3.5, 2),
        ("test", "best_validation", "sbp", 2.0, 1),
        ("test", "last", "sbp", 1.0, 1),
        ("validation", "best_validation", "sbp", 0.5, 1),
    ]
    assert headline_losses(rows) == {"baseline": 3.5, "sbp": 2.0}
    assert headline_losses(rows[4:]) == {"sbp": 1.0}
    assert headline_losses([]) == {}


def test_differences_of_nested_settings_are_found(tmp_path):
    write_run(tmp_path, "1", config={"seed": 0, "model": {"width": 1, "layers": 2}, "old": 1})
    write_run(tmp_path, "2", config={"seed": 0, "model": {"width": 3, "layers": 2}, "new": [1]})
    runs = list_runs(tmp_path)
    assert config_differences(*runs) == [("model.width", 1, 3), ("new", None, [1]), ("old", 1, None)]
    assert config_differences(runs[0], runs[0]) == []


def test_sacreds_own_seed_is_no_setting_of_an_experiment_with_seeds(tmp_path):
    write_run(tmp_path, "1", config={"seed": 831, "toy": {"seeds": [0, 1]}}, changes={"seed": 831})
    write_run(tmp_path, "2", config={"seed": 17, "toy": {"seeds": [0, 1]}})
    first, second = list_runs(tmp_path)
    assert first.config == {"toy": {"seeds": [0, 1]}}
    assert first.changes == {}
    assert config_differences(first, second) == []


def test_the_list_says_what_a_run_changed_of_its_configuration(tmp_path, sbp):
    write_run(tmp_path, "1", changes={"corpus": {"paths": ["other.jsonl"]}, "unique_tokens": 500})
    write_run(tmp_path, "2", changes={"corpus": {"paths": ["a long name of a file.jsonl"] * 5}})
    write_run(tmp_path, "3", code={"version": "0.1.0", "commit": "3f2a", "clean": False})
    write_run(tmp_path, "4", code={"version": "0.1.0", "commit": None, "clean": None, "note": "no git"})
    _, first, second, _, _ = sbp("runs", "--runs", tmp_path).splitlines()
    assert 'smoke corpus.paths=["other.jsonl"] unique_tokens=500   ' in first
    assert 'smoke corpus.paths=["a long name of a' in second
    assert len(second) < 140
    whole = sbp("runs", "2", "--runs", tmp_path)
    assert 'smoke corpus.paths=["a long name of a file.jsonl", ' in whole
    assert "code           not recorded" in whole
    shown = sbp("runs", "3", "--runs", tmp_path)
    assert "code           0.1.0, commit 3f2a, with changes that are not committed" in shown
    assert "code           0.1.0, no git" in sbp("runs", "4", "--runs", tmp_path)


def test_the_command_lists_shows_and_compares(tmp_path, sbp):
    write_run(tmp_path, "1", rows=[row("baseline", 3.44), row("sbp", 3.32), row("oracle", 3.04)])
    write_run(tmp_path, "2", config={"seed": 7}, rows=[row("baseline", 3.5)], status="RUNNING")
    listed = sbp("runs", "--runs", tmp_path).splitlines()
    assert len(listed) == 3
    assert listed[1].split()[:8] == ["1", "text_sbp", "smoke", "0", "completed", "2026-03-01", "12:00", "5.0"]
    assert "baseline 3.440, sbp 3.320, oracle 3.040, 30% of the oracle's gain" in listed[1]
    assert listed[2].split()[3:5] == ["7", "killed"]
    shown = sbp("runs", "1", "--runs", tmp_path)
    assert "test   best_validation  sbp       3.3200          1" in shown
    assert "files          config.json, results.jsonl, run.json" in shown
    compared = sbp("runs", "1", "2", "--runs", tmp_path)
    assert "seed     0      7" in compared
    assert "test   best_validation  baseline  3.4400  3.5000  +0.0600" in compared
    assert "test   best_validation  sbp       3.3200  -       -" in compared


def test_the_commands_mistakes_are_named(tmp_path, mistake):
    write_run(tmp_path, "1")
    assert mistake("runs", "--runs", tmp_path / "gone") == f"{tmp_path / 'gone'}: no such folder of runs"
    assert mistake("runs", "5", "--runs", tmp_path) == f"{tmp_path}: no run '5'"
    assert mistake("runs", "1", "1", "1", "--runs", tmp_path) == "runs 1 1 1: expected two ids at most"


def test_no_runs_is_no_mistake(tmp_path, sbp):
    assert sbp("runs", "--runs", tmp_path) == f"no runs in {tmp_path}\n"
