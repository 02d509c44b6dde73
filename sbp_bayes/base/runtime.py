"""Process-wide settings, applied once at a program's entry, before torch is imported."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def configure_runtime() -> None:
    """Let idle OpenMP threads sleep (small operations are up to 20 times faster on a busy machine)
    and turn SIGTERM into `KeyboardInterrupt`, so that a stopped run leaves in order.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _interrupt)


@contextmanager
def deferred_sigterm() -> Iterator[Callable[[], bool]]:
    """Hold SIGTERM back within the block; yields a function that tells whether one has come.

    One that came and that the block did not answer with an exception is delivered when the block ends.
    Outside the main thread, which alone may handle signals, nothing is held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: received.append(signum))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    if received:
        signal.raise_signal(signal.SIGTERM)


def launched_by_torchrun() -> bool:
    """Tell whether torchrun started this process, as one of several or alone."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_rank() -> int:
    """Return this process's number among those that torchrun started; 0, which alone writes, without it."""
    return int(os.environ["RANK"]) if launched_by_torchrun() else 0


def torchrun_job() -> str:
    """Return a name that the processes of one start of torchrun share, and no other; "" without it."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    return " ".join(os.environ.get(name, "") for name in names) if launched_by_torchrun() else ""


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
