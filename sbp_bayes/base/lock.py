"""One writer to a folder: a lock that waits as long as another process holds it, and ends with its holder.

The lock is the kernel's (flock) on the folder's file `.lock`, whose content names the holder. Where a file
system has no such locks, exclusive files take its place: `.lock.1`, `.lock.2` and so on, the last of which
is the lock. It is free once its holder has said so, or where its holder, a process of this machine, has
ended. A process that finds it free makes the next file, which the system lets one process do alone. No file
that may be held is ever removed, so that no two processes hold a folder, whenever either is killed.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from sbp_bayes.base.progress import say
from sbp_bayes.base.runtime import torchrun_job
from sbp_bayes.base.store import writing_to

LOCK = ".lock"
SECONDS_BEFORE_LINE, SECONDS_BETWEEN_LINES = 2.0, 60.0
SECONDS_BETWEEN_TRIES = 0.02, 0.5
SECONDS_TO_SIGN = 10.0
"""Time after which an exclusive file without a holder's name is that of a process killed before it signed."""

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
FREE = "free"

_held: dict[tuple[int, int], int] = {}
"""Folders that this process holds, by device and inode, and the threads that do."""

_without_locks: set[int] = set()
"""Devices of which the user was told that they have no locks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds a folder.

    Attributes:
        host: name of its machine.
        pid: its number there.
        machine: what tells its machine, boot and space of process numbers from others.
        began: when it began, in the system's units, which tells it from later processes of its number.
        job: torchrun's job that it belongs to, or "".
    """

    host: str
    pid: int
    machine: str
    began: str
    job: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def has_ended(self) -> bool:
        """Whether it certainly runs no more, which can be known of this machine's processes alone."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's process
        return self.began != _beginning(self.pid)


@contextlib.contextmanager
def locked(folder: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold `folder`, which is made if it is missing; wait as long as another process or thread holds it.

    While it waits, a line of progress names the holder, after two seconds and then every minute.

    Args:
        folder: what to hold.
        on_wait: called before each of these lines; what it raises ends the waiting.

    Raises:
        StoreError: the folder cannot be written.
    """
    folder = Path(folder)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        status = folder.stat()
        key, thread = (status.st_dev, status.st_ino), threading.get_ident()
        assert _held.get(key) != thread, f"{folder} is held by what now waits for it"
        lock, is_taken = _begin(folder, status.st_dev)
    try:
        if not is_taken:
            _wait(folder, lock, on_wait)
        _held[key] = thread
        try:
            yield
        finally:
            del _held[key]
            lock.release()
    finally:
        lock.close()


def holder(folder: Path) -> Holder | None:
    """Return the process that holds `folder` as far as its files say; None where no process has signed."""
    last = _last_file(folder)
    exclusive = None if last is None else _signed(last[1])
    return exclusive or _signed(folder / LOCK)


class _KernelLock:
    """flock on `.lock`; raises OSError where the file system has none."""

    def __init__(self, folder: Path) -> None:
        self._exclusive = _FileLock(folder)
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)

    def take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        last = _last_file(self._exclusive.folder)
        if last is not None and not self._exclusive.is_free(last[1]):  # of a machine that found no flock here
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, _signature(), 0)
        return True

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        os.close(self._descriptor)


class _FileLock:
    """Exclusive files; see the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: Path | None = None
        self._unsigned: tuple[Path, float] | None = None

    def take(self) -> bool:
        other = _signed(self.folder / LOCK)  # of a machine that found flock here
        last = _last_file(self.folder)
        number, former = (0, None) if last is None else last
        if (other is not None and not other.has_ended) or not (former is None or self.is_free(former)):
            return False
        own = self.folder / f"{LOCK}.{number + 1}"
        try:
            descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with open(descriptor, "wb") as file:
            file.write(_signature())
            file.flush()
            os.fsync(descriptor)
        # Another process may have taken this file for unsigned, or the former one may have been signed late.
        if _last_file(self.folder) != (number + 1, own) or not (former is None or self.is_free(former)):
            own.unlink()
            return False
        self._own = own
        for earlier in range(number, 0, -1):
            (self.folder / f"{LOCK}.{earlier}").unlink(missing_ok=True)
        return True

    def release(self) -> None:
        assert self._own is not None
        with contextlib.suppress(OSError):  # an empty file is free too, after a while
            self._own.write_text(FREE, encoding="utf-8")

    def close(self) -> None:
        """Nothing is open."""

    def is_free(self, path: Path) -> bool:
        """Whether an exclusive file is held no more."""
        try:
            content = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False  # a later file is there, or was
        if content == FREE:
            return True
        found = _signed(path)
        if found is not None:
            return found.has_ended
        if self._unsigned is None or self._unsigned[0] != path:
            self._unsigned = path, time.monotonic()
        return time.monotonic() - self._unsigned[1] > SECONDS_TO_SIGN


def _begin(folder: Path, device: int) -> tuple[_KernelLock | _FileLock, bool]:
    """Return the lock that the file system of `folder` has, and whether it could be taken at once."""
    lock = _KernelLock(folder)
    try:
        return lock, lock.take()
    except OSError as error:
        lock.close()
        if error.errno not in NO_LOCKS:
            raise
        if device not in _without_locks:
            _without_locks.add(device)
            message = "%s: this file system has no locks (%s): exclusive files take their place"
            logging.getLogger(__name__).warning(message, folder, os.strerror(error.errno))
    exclusive = _FileLock(folder)
    return exclusive, exclusive.take()


def _wait(folder: Path, lock: _KernelLock | _FileLock, on_wait: Callable[[], None]) -> None:
    pause, most = SECONDS_BETWEEN_TRIES
    line = time.monotonic() + SECONDS_BEFORE_LINE
    while not lock.take():
        if time.monotonic() >= line:
            on_wait()
            say(f"{folder}: waiting for {_holder_and_way_out(folder)}")
            line = time.monotonic() + SECONDS_BETWEEN_LINES
        time.sleep(pause)
        pause = min(2 * pause, most)


def _holder_and_way_out(folder: Path) -> str:
    found, last = holder(folder), _last_file(folder)
    name = f"{found or 'another process'}, which works on it"
    return name if last is None else f"{name} (if it runs no more, remove {last[1]})"


def _last_file(folder: Path) -> tuple[int, Path] | None:
    numbered = ((path.suffix.removeprefix("."), path) for path in folder.glob(f"{LOCK}.*"))
    return max(((int(number), path) for number, path in numbered if number.isdecimal()), default=None)


def _signature() -> bytes:
    own = Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_machine(),
        began=_beginning(os.getpid()),
        job=torchrun_job(),
    )
    return json.dumps(dataclasses.asdict(own)).encode()


def _signed(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{uuid.getnode():012x}"


def _beginning(pid: int) -> str:
    """Return when a process began, by the kernel's clock; "" where that cannot be told or it is a zombie."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
