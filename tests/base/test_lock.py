"""One writer to a folder, by the kernel's locks or by exclusive files; kills and lost locks end no work."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sbp_bayes.base import lock
from sbp_bayes.base.errors import StoreError
from sbp_bayes.base.lock import holder, locked

WITHOUT_LOCKS = """
import errno, fcntl
def flock(file, operation):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = flock
"""
HOLDING = """
import sys
from pathlib import Path
from sbp_bayes.base.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
COUNTING = """
import sys, time
from pathlib import Path
from sbp_bayes.base.lock import locked
count = Path(sys.argv[1]) / "count"
for _ in range(40):
    with locked(count.parent):
        number = int(count.read_text())
        time.sleep(0.001)
        count.write_text(str(number + 1))
"""


@pytest.fixture(params=["kernel", "files"])
def prelude(request, monkeypatch):
    """Code that a process runs first, so that it has file locks or has none; this process has done so."""
    monkeypatch.setattr(lock, "SECONDS_BEFORE_LINE", 0.1)
    monkeypatch.setattr(lock, "_without_locks", set())
    if request.param == "kernel":
        return ""

    def flock(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    return WITHOUT_LOCKS


def start(script, folder):
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_who_is_second_waits_is_told_for_whom_and_goes_on(tmp_path, prelude, capsys):
    with start(prelude + HOLDING, tmp_path) as other:
        assert other.stdout.readline() == "held\n"
        assert holder(tmp_path).pid == other.pid
        threading.Timer(0.5, other.stdin.close).start()
        begun = time.monotonic()
        with locked(tmp_path):
            assert time.monotonic() - begun > 0.4
            assert holder(tmp_path).pid == os.getpid()
    assert f"{tmp_path}: waiting for process {other.pid} on " in capsys.readouterr().err
    assert holder(tmp_path) is None


def test_a_killed_holder_holds_nothing(tmp_path, prelude):
    with start(prelude + HOLDING, tmp_path) as other:
        assert other.stdout.readline() == "held\n"
        threading.Timer(0.3, lambda: other.send_signal(signal.SIGKILL)).start()
        with locked(tmp_path):
            pass
        with locked(tmp_path):
            pass


def test_of_many_processes_one_holds_at_a_time(tmp_path, prelude):
    (tmp_path / "count").write_text("0")
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(start(prelude + COUNTING, tmp_path)) for _ in range(4)]
        assert [other.wait() for other in others] == [0] * 4
    assert (tmp_path / "count").read_text() == "160"
    assert len(list(tmp_path.glob(".lock*"))) <= 2


def test_threads_of_one_process_wait_for_each_other_and_a_thread_never_for_itself(tmp_path, prelude):
    inside = []

    def enter():
        with locked(tmp_path):
            inside.append(1)
            time.sleep(0.02)
            assert len(inside) == 1
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not inside
    with (
        locked(tmp_path),
        pytest.raises(AssertionError, match="is held by what now waits for it"),
        locked(tmp_path),
    ):
        pass


def test_what_is_asked_before_a_line_may_end_the_waiting(tmp_path, prelude):
    def refuse():
        raise StoreError("another plan")

    with start(prelude + HOLDING, tmp_path) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="another plan"), locked(tmp_path, on_wait=refuse):
            pass
        other.stdin.close()


@pytest.mark.parametrize("missing", [errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_named_once_and_works(tmp_path, monkeypatch, caplog, missing):
    def flock(file, operation):
        raise OSError(missing, os.strerror(missing))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(lock, "_without_locks", set())
    for name in ("one", "two"):
        with caplog.at_level(logging.WARNING), locked(tmp_path / name):
            assert (tmp_path / name / ".lock.1").exists()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/one: this file system has no locks ({os.strerror(missing)}): "
        "exclusive files take their place"
    ]


def test_another_fault_of_the_file_system_is_no_missing_lock(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path):
        pass


def left(folder, **changes):
    """Leave an exclusive file as this process would have signed it, but for `changes`."""
    signature = json.loads(lock._signature()) | changes
    (folder / ".lock.7").write_text(json.dumps(signature))


@pytest.mark.parametrize(
    "changes",
    [{"host": "elsewhere", "pid": 2**22 + 1}, {"machine": "another boot", "pid": 2**22 + 1}, {}],
    ids=["another host", "another boot or container", "alive"],
)
def test_a_holder_of_which_nothing_is_known_is_waited_for(tmp_path, changes):
    left(tmp_path, **changes)
    assert not lock._FileLock(tmp_path).take()
    assert (tmp_path / ".lock.7").exists()


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"began": "12"}], ids=["ended", "number given anew"])
def test_a_holder_of_this_machine_that_has_ended_is_succeeded(tmp_path, changes):
    left(tmp_path, **changes)
    assert lock._FileLock(tmp_path).take()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock.8"]


def test_machines_that_find_flock_and_those_that_do_not_exclude_each_other(tmp_path):
    exclusive = lock._FileLock(tmp_path)
    with locked(tmp_path):
        assert not exclusive.take()
    assert exclusive.take()
    kernel = lock._KernelLock(tmp_path)
    assert not kernel.take()
    exclusive.release()
    assert kernel.take()
    kernel.release()
    kernel.close()


def test_who_waits_for_a_file_is_told_how_to_end_it(tmp_path, monkeypatch, capsys):
    left(tmp_path, host="elsewhere")
    monkeypatch.setattr(lock, "SECONDS_BEFORE_LINE", 0.1)
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_LINES", 0.1)
    threading.Timer(0.3, (tmp_path / ".lock.7").unlink).start()
    with locked(tmp_path):
        told = f"on elsewhere, which works on it (if it runs no more, remove {tmp_path}/.lock.7)"
        assert told in capsys.readouterr().err


def test_a_file_that_its_maker_never_signed_is_free_after_a_while(tmp_path, monkeypatch):
    (tmp_path / ".lock.3").touch()
    waiting = lock._FileLock(tmp_path)
    assert not waiting.take()
    monkeypatch.setattr(lock, "SECONDS_TO_SIGN", 0.0)
    assert waiting.take()


def test_of_two_that_find_the_lock_free_one_makes_the_next_file(tmp_path, monkeypatch):
    left(tmp_path)
    content = (tmp_path / ".lock.7").read_text()
    monkeypatch.setattr(lock, "_last_file", lambda folder: (6, tmp_path / ".lock.6"))
    monkeypatch.setattr(lock._FileLock, "is_free", lambda self, path: True)
    assert not lock._FileLock(tmp_path).take()
    assert (tmp_path / ".lock.7").read_text() == content


def test_who_finds_a_later_file_than_its_own_gives_way(tmp_path, monkeypatch):
    late = lock._FileLock(tmp_path)
    listed = iter([None])  # a listing from before the others came
    real = lock._last_file
    monkeypatch.setattr(lock, "_last_file", lambda folder: next(listed, real(folder)))
    left(tmp_path)
    assert not late.take()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock.7"]
