"""A finished stage is kept, an interrupted one goes on, another plan or writer is refused."""

import contextlib
import dataclasses
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from sbp_bayes.base import lock, stage
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.stage import Folder, Outcome, Plan, Workspace, read_manifest, run_stage
from sbp_bayes.base.store import read_json, write_json, write_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    alpha: float = 0.5
    seed: int = 0


def plan(**changes) -> Plan:
    values = {
        "stage": "pair",
        "config": Settings(),
        "inputs": {"corpus": "c0"},
        "code_version": "v0",
        "device": "cpu",
    }
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
        ({"stage": "tune"}, "stage = tune here, pair in the plan"),
        ({"config": Settings(alpha=0.6)}, "config.alpha = 0.6 here, 0.5 in the plan"),
        (
            {"config": Settings(alpha=0.6, seed=1)},
            "config.alpha = 0.6 here, 0.5 in the plan; config.seed = 1 here, 0 in the plan",
        ),
        ({"inputs": {"corpus": "c1"}}, "inputs.corpus = c1 here, c0 in the plan"),
        ({"inputs": {"corpus": "c0", "model": "m"}}, "inputs.model = m here, null in the plan"),
        ({"code_version": "v1"}, "code_version = v1 here, v0 in the plan"),
        ({"device": "cuda"}, "device = cuda here, cpu in the plan"),
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
    message = re.escape(
        f"{tmp_path} holds the output of another plan (differs in {differing}): choose another"
    )
    with pytest.raises(StoreError, match=message):
        run_stage(plan(**changes), tmp_path, no_work)
    assert (tmp_path / "output").read_text() == "precious"


WORKING = """
import sys, time
from pathlib import Path
from sbp_bayes.base.stage import Outcome, Plan, run_stage
def work(folder):
    print("working", flush=True)
    sys.stdin.readline()
    return Outcome(counts={"by": "the other"})
plan = Plan(stage="s", config=None, inputs={}, code_version="v")
run_stage(plan, Path(sys.argv[1]), work)
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which works on a stage in `tmp_path` until it reads a line."""
    command = [sys.executable, "-c", WORKING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "working\n"
        yield process
        process.kill()


SAME = Plan(stage="s", config=None, inputs={}, code_version="v")


def test_who_wants_a_stage_that_another_works_on_waits_and_takes_its_output(
    tmp_path, other, capsys, monkeypatch
):
    monkeypatch.setattr(lock, "SECONDS_BEFORE_LINE", 0.2)
    threading.Timer(0.6, other.stdin.close).start()
    assert run_stage(SAME, tmp_path, no_work).counts == {"by": "the other"}
    waiting = f"{tmp_path}: waiting for process {other.pid} on {socket.gethostname()}, which works on it"
    assert capsys.readouterr().err.splitlines() == [waiting]


def test_who_waits_goes_on_when_the_other_is_killed(tmp_path, other):
    threading.Timer(0.3, other.kill).start()
    assert run_stage(SAME, tmp_path, lambda _: Outcome(counts={"by": "me"})).counts == {"by": "me"}


def test_nobody_waits_to_be_refused_at_last(tmp_path, other, monkeypatch):
    monkeypatch.delattr(stage, "locked")
    with pytest.raises(StoreError, match="differs in code_version = w here, v in the plan"):
        run_stage(dataclasses.replace(SAME, code_version="w"), tmp_path, no_work)


def test_a_finished_stage_is_read_without_a_lock(tmp_path, monkeypatch):
    run_stage(plan(), tmp_path, lambda _: Outcome(counts={"n": 1}))
    with lock.locked(tmp_path):
        assert run_stage(plan(), tmp_path, no_work).counts == {"n": 1}


def begun(place, **changes):
    """Leave a stage of other code unfinished."""

    def stop(folder):
        write_text(folder.path / "half", "of the work")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(plan(**changes), place, stop)


def goes_on(folder):
    assert (folder.path / "half").exists()
    return Outcome(counts={})


def test_other_code_goes_on_where_it_is_accepted_and_the_manifest_names_both(tmp_path, capsys):
    begun(tmp_path)
    mended = plan(code_version="v1")
    with pytest.raises(StoreError, match="or accept that with --accept-code"):
        run_stage(mended, tmp_path, no_work)
    manifest = run_stage(mended, Folder(tmp_path, accept_code=True), goes_on)
    assert f"{tmp_path} goes on, with code_version = v1 here, v0 in the plan\n" in capsys.readouterr().err
    assert (manifest.code_version, manifest.fingerprint) == ("v0", plan().fingerprint)
    assert [attempt["code_version"] for attempt in manifest.attempts] == ["v0", "v1"]
    assert run_stage(plan(), tmp_path, no_work) == run_stage(mended, tmp_path, no_work) == manifest
    with pytest.raises(StoreError, match="code_version = v2 here, v0 in the plan"):
        run_stage(plan(code_version="v2"), tmp_path, no_work)
    assert run_stage(plan(code_version="v2"), Folder(tmp_path, accept_code=True), no_work) == manifest
    with pytest.raises(StoreError, match=r"config\.seed = 1 here, 0 in the plan"):
        run_stage(
            plan(config=Settings(seed=1), code_version="v2"), Folder(tmp_path, accept_code=True), no_work
        )


def test_a_workspace_begins_anew_with_other_code_and_says_so_or_goes_on_where_it_is_accepted(
    tmp_path, capsys
):
    begun(Workspace(tmp_path))
    begun(Workspace(tmp_path), config=Settings(seed=1))
    mended, accepting = plan(code_version="v1"), Workspace(tmp_path, accept_code=True)
    manifest = run_stage(mended, accepting, goes_on)
    assert manifest.fingerprint == plan().fingerprint
    assert run_stage(plan(code_version="v2"), accepting, no_work) == manifest
    begun(Workspace(tmp_path), code_version="v3", stage="tune")
    capsys.readouterr()
    anew = run_stage(plan(code_version="v4", stage="tune"), Workspace(tmp_path), lambda _: Outcome(counts={}))
    assert (
        "is unfinished and differs in code_version = v4 here, v3 in the plan: tune begins anew"
        in capsys.readouterr().err
    )
    assert anew.code_version == "v4"
    assert run_stage(plan(code_version="v5", stage="tune"), accepting, no_work) == anew, (
        "the finished one first"
    )


def test_of_several_stages_of_other_code_the_finished_one_is_taken_or_else_the_last(tmp_path):
    for number in range(6):
        begun(Workspace(tmp_path), code_version=f"v{number}")
    (last,) = [
        folder
        for folder, _ in Workspace(tmp_path).siblings(plan(code_version="new"))
        if read_json(folder / "plan.json")["code_version"] == "v5"
    ]
    accepting = Workspace(tmp_path, accept_code=True)
    assert accepting.folder(plan(code_version="new")) == last
    finished = run_stage(plan(code_version="v2"), Workspace(tmp_path), goes_on)
    assert accepting.folder(plan(code_version="new")) == finished.directory
    assert accepting.folder(plan(code_version="v3")) != finished.directory, "one's own comes first"


def test_the_manifest_names_the_software_of_every_attempt(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stage, "software", lambda: {"torch": "2.13.0"})
    begun(tmp_path)
    monkeypatch.setattr(stage, "software", lambda: {"torch": "2.14.0"})
    manifest = run_stage(plan(), tmp_path, goes_on)
    assert "with software.torch = 2.14.0 here, 2.13.0 in the plan" in capsys.readouterr().err
    assert [attempt["software"]["torch"] for attempt in manifest.attempts] == ["2.13.0", "2.14.0"]


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


def test_a_follower_takes_part_in_collective_work_once_its_leader_has_begun(tmp_path, monkeypatch, follower):
    held, worked = contextlib.ExitStack(), []
    leader = threading.Event()

    def sleep(seconds):
        if worked:
            held.close()
            write_manifest()
        elif not leader.is_set():
            assert not worked
            leader.set()
            held.enter_context(lock.locked(tmp_path / "out"))

    def write_manifest():
        with monkeypatch.context() as as_leader:
            as_leader.setenv("RANK", "0")
            run_stage(plan(), tmp_path / "out", lambda _: Outcome(counts={"pairs": 7}))

    def share(folder):
        assert leader.is_set()
        worked.append(folder.path)
        return Outcome(counts={"pairs": 0})

    monkeypatch.setattr(stage.time, "sleep", sleep)
    assert run_stage(plan(), tmp_path / "out", share, collective=True).counts == {"pairs": 7}
    assert worked == [tmp_path / "out"]


def test_a_follower_does_not_join_a_leader_of_another_job(tmp_path, monkeypatch, follower):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(stage.time, "sleep", sleep)
    with monkeypatch.context() as other_job:
        other_job.setenv("TORCHELASTIC_RUN_ID", "2")
        held = contextlib.ExitStack()
        held.enter_context(lock.locked(tmp_path))
    with held, pytest.raises(KeyboardInterrupt):
        run_stage(plan(), tmp_path, no_work, collective=True)
