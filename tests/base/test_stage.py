"""A finished stage is kept, an interrupted one goes on, another plan or writer is refused."""

import dataclasses
import signal
import subprocess
import sys

import pytest

import sbp_bayes
from sbp_bayes.base import stage
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.stage import Outcome, Plan, Workspace, plan_stage, read_manifest, run_stage
from sbp_bayes.base.store import read_json, write_json, write_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    alpha: float = 0.5
    seed: int = 0


def plan(**changes) -> Plan:
    values = {"stage": "pair", "config": Settings(), "inputs": {"corpus": "c0"}, "code_version": "v0"}
    return Plan(**values | changes)


def no_work(folder):
    raise AssertionError("the stage ran again")


def test_a_finished_stage_is_not_run_again(tmp_path):
    first = run_stage(plan(), tmp_path / "out", lambda _: Outcome(counts={"pairs": 7}, flops=3))
    again = run_stage(plan(), tmp_path / "out", no_work)
    assert again == first == read_manifest(tmp_path / "out")
    assert first.counts == {"pairs": 7}
    assert (first.flops, first.config, first.directory) == (3.0, {"alpha": 0.5, "seed": 0}, tmp_path / "out")


def test_an_interrupted_stage_goes_on_and_reports_all_its_seconds(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(stage.time, "monotonic", lambda: clock[0])

    def interrupted(folder):
        write_text(folder.path / "shard", "half of the work")
        clock[0] += 5
        raise KeyboardInterrupt

    def rest(folder):
        assert (folder.path / "shard").read_text() == "half of the work"
        clock[0] += 2
        return Outcome(counts={})

    with pytest.raises(KeyboardInterrupt):
        run_stage(plan(), tmp_path, interrupted)
    with pytest.raises(StoreError, match="is unfinished"):
        read_manifest(tmp_path)
    clock[0] += 1000  # nobody worked in between
    assert run_stage(plan(), tmp_path, rest).seconds == 7


def test_a_tick_keeps_the_seconds_of_a_killed_attempt(tmp_path):
    script = """
import os, sys, time
from pathlib import Path
from sbp_bayes.base.stage import Plan, run_stage
def work(folder):
    time.sleep(0.2)
    folder.tick()
    os.kill(os.getpid(), 9)
run_stage(Plan(stage="s", config=None, inputs={}, code_version="v"), Path(sys.argv[1]), work)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    killed = Plan(stage="s", config=None, inputs={}, code_version="v")
    assert 0.2 <= run_stage(killed, tmp_path, lambda _: Outcome(counts={})).seconds < 10


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"stage": "tune"}, "stage"),
        ({"config": Settings(alpha=0.6)}, r"config\.alpha"),
        ({"config": Settings(alpha=0.6, seed=1)}, r"config\.alpha, config\.seed"),
        ({"inputs": {"corpus": "c1"}}, r"inputs\.corpus"),
        ({"inputs": {"corpus": "c0", "model": "m"}}, r"inputs\.model"),
        ({"code_version": "v1"}, "code_version"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_plan_is_refused_and_what_is_there_stays(tmp_path, changes, differing, finished):
    def work(folder):
        write_text(folder.path / "output", "precious")
        if not finished:
            raise KeyboardInterrupt
        return Outcome(counts={})

    try:
        run_stage(plan(), tmp_path, work)
    except KeyboardInterrupt:
        assert not finished
    with pytest.raises(StoreError, match=rf"holds the output of another plan \(differs in {differing}\)"):
        run_stage(plan(**changes), tmp_path, no_work)
    assert (tmp_path / "output").read_text() == "precious"


def test_two_writers_exclude_each_other_until_one_is_killed(tmp_path):
    script = """
import sys, time
from pathlib import Path
from sbp_bayes.base.stage import Plan, run_stage
def work(folder):
    print("working", flush=True)
    time.sleep(60)
run_stage(Plan(stage="s", config=None, inputs={}, code_version="v"), Path(sys.argv[1]), work)
"""
    same = Plan(stage="s", config=None, inputs={}, code_version="v")
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "working\n"
        with pytest.raises(StoreError, match="is being written by another process"):
            run_stage(same, tmp_path, no_work)
        other.kill()
    assert run_stage(same, tmp_path, lambda _: Outcome(counts={"n": 1})).counts == {"n": 1}


def test_a_full_disk_stops_the_stage_and_a_later_call_goes_on(tmp_path, monkeypatch):
    def full(path, value):
        raise StoreError(f"cannot write {path}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_json", full)
        with pytest.raises(StoreError, match="No space left"):
            run_stage(plan(), tmp_path, no_work)
    assert run_stage(plan(), tmp_path, lambda _: Outcome(counts={})).stage == "pair"


def test_a_workspace_names_folders_by_plan(tmp_path):
    work = Workspace(tmp_path)
    manifests = [run_stage(p, work, lambda _: Outcome(counts={})) for p in (plan(), plan(stage="tune"))]
    again = run_stage(plan(), work, no_work)
    assert again == manifests[0]
    assert [m.directory.name for m in manifests] == [f"{m.stage}-{m.fingerprint}" for m in manifests]


def test_a_missing_or_damaged_manifest_is_named(tmp_path):
    with pytest.raises(StoreError, match="is not a stage's output"):
        read_manifest(tmp_path)
    run_stage(plan(), tmp_path, lambda _: Outcome(counts={}))
    manifest = read_json(tmp_path / "manifest.json")
    del manifest["counts"]
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(StoreError, match=r"manifest\.json: damaged or of another version"):
        read_manifest(tmp_path)


def test_the_code_version_changes_with_the_code_of_the_packages_named_alone(tmp_path, monkeypatch):
    for name in ("base", "corpus", "lm"):
        write_text(tmp_path / name / "module.py", "x = 1\n")
    monkeypatch.setattr(sbp_bayes, "__file__", str(tmp_path / "__init__.py"))

    def version(*packages: str) -> str:
        stage.code_version.cache_clear()
        return stage.code_version(*packages)

    before = version("corpus")
    write_text(tmp_path / "lm" / "module.py", "x = 2\n")
    assert version("corpus") == before
    write_text(tmp_path / "base" / "module.py", "x = 2\n")
    changed = version("corpus")
    assert changed != before
    write_text(tmp_path / "corpus" / "sub" / "new.py", "")
    assert version("corpus") not in (before, changed)
    assert plan_stage("s", None, {}, ("corpus",)).code_version == version("corpus")
    stage.code_version.cache_clear()


def test_scratch_goes_when_the_stage_is_finished(tmp_path):
    def work(folder):
        write_json(folder.path / "checkpoints" / "one.json", 1)
        write_json(folder.path / "kept.json", 2)
        return Outcome(counts={}, scratch=("checkpoints",))

    run_stage(plan(), tmp_path, work)
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "kept.json").exists()


@pytest.fixture
def follower(monkeypatch):
    """Make this process number 1 of torchrun's."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "1")


def _finish(tmp_path, monkeypatch, pace):
    """Let rank 0 finish the stage at the follower's `pace`-th look."""
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == pace:
            with monkeypatch.context() as as_leader:
                as_leader.setenv("RANK", "0")
                run_stage(plan(), tmp_path, lambda _: Outcome(counts={"pairs": 7}))

    monkeypatch.setattr(stage.time, "sleep", sleep)
    return looks


def test_a_follower_waits_for_rank_0_and_writes_nothing(tmp_path, monkeypatch, follower):
    looks = _finish(tmp_path / "out", monkeypatch, 3)
    assert run_stage(plan(), tmp_path / "out", no_work).counts == {"pairs": 7}
    assert len(looks) == 3
    assert run_stage(plan(), tmp_path / "out", no_work, collective=True).counts == {"pairs": 7}


def test_a_follower_takes_part_in_collective_work(tmp_path, monkeypatch, follower):
    _finish(tmp_path / "out", monkeypatch, 1)
    worked = []

    def share(folder):
        worked.append(folder.path)
        assert not folder.path.exists()
        return Outcome(counts={"pairs": 0})

    assert run_stage(plan(), tmp_path / "out", share, collective=True).counts == {"pairs": 7}
    assert worked == [tmp_path / "out"]
