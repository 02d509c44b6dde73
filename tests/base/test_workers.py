"""Work in other processes: its order, its threads, its errors, its progress and its end."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sbp_bayes.base.errors import ConfigError, CorpusError, WorkerError
from sbp_bayes.base.progress import current_display, progress, use_display
from sbp_bayes.base.workers import Task, in_order_of_need, side_by_side, usable_cores, worker_pool

ROOT = Path(__file__).parents[2]


def describe(index: int, seconds: float) -> tuple[int, int, int]:
    """What a worker sees; the first ones take longest, so they end last."""
    with progress(f"work {index}", 3, "units") as advance:
        for _ in range(3):
            time.sleep(seconds / 3)
            advance(1)
    return index, os.getpid(), torch.get_num_threads()


def fail() -> None:
    raise CorpusError("no such text")


def test_results_keep_the_calls_order_in_processes_of_one_thread(capfd: pytest.CaptureFixture) -> None:
    use_display(None)
    results = side_by_side([functools.partial(describe, i, 0.3 - 0.1 * i) for i in range(3)], 2)
    assert [index for index, _, _ in results] == [0, 1, 2]
    pids = {pid for _, pid, _ in results}
    assert len(pids) <= 2
    assert os.getpid() not in pids
    assert {threads for _, _, threads in results} == {1}
    told = capfd.readouterr().err.splitlines()
    assert sorted(line.split(" in ")[0] for line in told) == [f"work {i}: 3 units" for i in range(3)]


def test_one_worker_is_this_process_with_one_thread() -> None:
    before = torch.get_num_threads()
    results = side_by_side([functools.partial(describe, i, 0.0) for i in range(2)], 1)
    assert results == [(0, os.getpid(), 1), (1, os.getpid(), 1)]
    assert torch.get_num_threads() == before
    assert side_by_side([]) == []


def note(path: Path, name: str, seconds: float = 0.0) -> str:
    """Write down when a task ends."""
    time.sleep(seconds)
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    return name.upper()


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_tasks_begin_when_what_they_need_is_done(tmp_path: Path, num_workers: int) -> None:
    log = tmp_path / "log"
    needs = {"d": ("b", "c", "not asked for"), "c": ("a",), "b": ("a",), "e": (), "a": ()}
    tasks = {
        name: Task(functools.partial(note, log, name, 0.05 * (name in "ae")), need)
        for name, need in needs.items()
    }
    results = in_order_of_need(tasks, num_workers)
    assert results == {name: name.upper() for name in needs}
    assert list(results) == list(needs)
    ended = log.read_text().split()
    assert sorted(ended) == sorted(needs)
    for name, need in needs.items():
        assert all(ended.index(before) < ended.index(name) for before in need if before in needs)
    if num_workers == 1:
        assert ended == ["e", "a", "c", "b", "d"]  # of those that could begin, the one named first


def test_a_task_that_fails_stops_the_others(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tasks = {"a": Task(fail), "b": Task(functools.partial(note, log, "b"), ("a",))}
    with pytest.raises(CorpusError, match="no such text"):
        in_order_of_need(tasks, 2)
    assert not log.exists()
    assert in_order_of_need({}) == {}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_each_result_is_told_as_it_comes(num_workers: int) -> None:
    told: list[int] = []
    calls = [functools.partial(describe, i, 0.0) for i in range(3)]
    side_by_side(calls, num_workers, lambda result: told.append(result[0]))
    assert sorted(told) == [0, 1, 2]


def test_what_is_told_can_stop_the_work() -> None:
    begun = []

    def refuse(result: None) -> None:
        raise CorpusError("enough")

    with pytest.raises(CorpusError, match="enough"):
        side_by_side([lambda: begun.append(1)] * 3, 1, refuse)
    assert begun == [1]


def test_the_first_error_stops_the_others() -> None:
    started = time.monotonic()
    with pytest.raises(CorpusError, match="no such text"):
        side_by_side([functools.partial(describe, 0, 600.0), fail], 2)
    assert time.monotonic() - started < 300


def test_workers_are_counted_from_one() -> None:
    with pytest.raises(ConfigError, match="num_workers"), worker_pool(0):
        pass
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


class Broken:
    """A display whose terminal has gone."""

    def __init__(self) -> None:
        self.calls = 0

    def open(self, *_: object) -> None:
        self.calls += 1
        raise UnicodeEncodeError("ascii", "ü", 0, 1, "no such character")

    advance = close = open


class Unreadable:
    """Raises where it is unpickled."""

    def __reduce__(self) -> tuple:
        return int, ("no number",)


def chatter(first: Callable[[], object] | None) -> int:
    """Send far more than a pipe holds (64 KiB)."""
    if first is not None:
        current_display().send(first())
    with progress("chatter", 20_000, "words") as advance:
        for _ in range(20_000):
            advance(1)
    return 1


@pytest.mark.parametrize("first", [None, Unreadable, int])
def test_a_display_that_fails_does_not_hold_up_the_workers(
    first: Callable[[], object] | None, capfd: pytest.CaptureFixture
) -> None:
    display = Broken()
    use_display(None if first else display)
    try:
        assert side_by_side([functools.partial(chatter, first)] * 2, 2) == [1, 1]
    finally:
        use_display(None)
    assert display.calls == (0 if first else 1)
    told = capfd.readouterr().err.splitlines()
    assert sum("progress is shown no longer" in line for line in told) == 1


def test_work_goes_on_without_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the line that says so can be written."""
    monkeypatch.setattr(sys, "stderr", open(os.devnull, "w"))  # noqa: SIM115
    sys.stderr.close()
    use_display(None)
    try:
        monkeypatch.setattr("sbp_bayes.base.progress.SECONDS_BETWEEN_LINES", 0.0)
        assert describe(3, 0.0)[0] == 3
    finally:
        monkeypatch.undo()
        use_display(None)


def die(number: int) -> None:
    with progress("a long work", 2, "steps") as advance:
        advance(1)
        time.sleep(0.3)  # until that has been told
        os.kill(os.getpid(), number)
        time.sleep(60)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGABRT, "SIGABRT")])
def test_a_killed_worker_is_one_error_that_says_what_was_lost(number: int, name: str) -> None:
    with pytest.raises(WorkerError) as raised:
        side_by_side([functools.partial(die, number), functools.partial(describe, 1, 600.0)], 2)
    message = str(raised.value)
    assert name in message
    assert "a long work" in message
    assert "the same command goes on" in message


def test_a_containers_quota_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker --cpus=1` on many cores."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("loky.backend.context._cpu_count_affinity_set", lambda: set(range(64)))
    monkeypatch.setattr("loky.backend.context._cpu_count_cgroup", lambda cores: 2)
    assert usable_cores() == 2
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert usable_cores() == 1


PROGRAM = """
import functools, os, sys, time
from pathlib import Path
from sbp_bayes.base.workers import side_by_side

def work(index):
    Path(sys.argv[1], str(index)).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    side_by_side([functools.partial(work, i) for i in range(2)], 2)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("sys.argv[1]", repr(str(tmp_path))))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, program], env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "01"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    workers = [int((tmp_path / name).read_text()) for name in "01"]
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers outlived the process that started them"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
